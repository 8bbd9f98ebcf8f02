"""The table of settings: what is said of a key, and where it comes from, is one row everywhere.

The table of docs/configuration.md is made of it; ``UPDATE_GOLDENS=1`` writes it anew.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from nodeport_nft.cli import app
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.config import Config, ConfigError, load_config
from nodeport_nft.config.keys import PARSERS
from nodeport_nft.settings import KEYS, SETTINGS, Group, Plain, Setting

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"
TABLE = re.compile(r"(?<=<!-- settings: begin -->\n\n).*?(?=\n\n<!-- settings: end -->)", re.DOTALL)
MOST_COMMANDS = 2  # that the table names; what more of them have, they have in common
NO_SETTING = {"places", "warnings"}  # what is told of a configuration, and not by it

OTHER = {
    "store": "/s",
    "etcdCAFile": "/etc/etcd/ca.pem",
    "etcdCertFile": "/etc/etcd/node.pem",
    "etcdKeyFile": "/etc/etcd/node.key",
    "etcdUser": "nodeport-nft",
    "etcdPasswordFile": "/etc/etcd/password",
    "kubeconfig": "/etc/nodeport-nft/kubeconfig",
    "context": "production",
    "stateDir": "/state",
    "runDir": "/locks",
    "serviceCIDRs": "10.0.0.0/16",
    "nodePortRange": "31000-31999",
    "nodePortAddresses": "10.0.0.0/8",
    "clusterCIDRs": "10.244.0.0/16",
    "detectLocalMode": "BridgeInterface",
    "podInterface": "cni0",
    "masqueradeAll": "true",
    "externalIPs": "deny",
    "loadBalancerIPs": "203.0.113.0/24",
    "masqueradeBit": "3",
    "flowtable": "true",
    "trustedChains": "[ip filter FORWARD]",
    "ownRoutes": "10.96.0.0/12",
    "clusterDomain": "example.org",
    "dnsHostsDir": "/names",
    "clusterDNS": "10.96.0.10",
    "nodeDNS": "172.16.0.1",
    "maxDocumentBytes": "1000",
    "validate": "warn",
    "healthzBindAddress": "none",
    "metricsBindAddress": "none",
    "statusPage": "true",
    "minSyncPeriod": "1s",
    "syncPeriod": "1m",
    "fullCheckPeriod": "2h",
    "nodeMonitorGracePeriod": "1m",
    "nodeName": "worker-1",
    "nodeIPs": "[172.30.1.2]",
    "replaceKubeProxy": "true",
    "conntrackMaxPerCore": "1000",
    "conntrackMin": "1000",
    "conntrackTCPEstablishedTimeout": "1h",
    "conntrackTCPCloseWaitTimeout": "1m",
    "conntrackUDPTimeout": "1m",
    "conntrackUDPStreamTimeout": "5m",
}
"""For each key a value that is not the default, as in the file."""


def flags_by_command() -> dict[str, tuple[str, ...]]:
    """All flags of each command, "create service nodeport" one of them, in the order of its help."""
    found: dict[str, tuple[str, ...]] = {}

    def walk(name: str, group: Any) -> None:
        for word, each in group.commands.items():
            if each.hidden:  # svc, which is another name of service
                continue
            if hasattr(each, "commands"):
                walk(f"{name}{word} ", each)
            else:
                found[f"{name}{word}"] = tuple(option for made in each.params for option in made.opts)

    walk("", typer.main.get_command(app))
    return found


def page_table() -> str:
    """The table of docs/configuration.md, as Markdown."""
    lines = ["| key | flag | default | meaning |", "| --- | --- | --- | --- |"]
    for setting in SETTINGS:
        default = ", ".join(f"`{part}`" for part in setting.default.split(", ")) if setting.default else "none"
        cells = (f"`{setting.key}`", _flag_cell(setting), default, setting.meaning)
        lines.append("|" + "".join(f" {cell} |" if cell else " |" for cell in cells))
    return "\n".join(lines)


def _flag_cell(setting: Setting) -> str:
    if not setting.flag:
        return ""
    commands = [f"`{name}`" for name, flags in flags_by_command().items() if setting.flag in flags]
    named = f" ({', '.join(commands)})" if len(commands) <= MOST_COMMANDS else ""
    return f"`{setting.flag}`{named}"


def test_the_page_has_the_table() -> None:
    if os.environ.get("UPDATE_GOLDENS"):
        PAGE.write_text(TABLE.sub(lambda _: page_table(), PAGE.read_text()))
    assert TABLE.findall(PAGE.read_text()) == [page_table()], "UPDATE_GOLDENS=1 pytest tests/unit/test_settings.py"


# --- the rows, and the fields of the configuration ------------------------------


def test_each_field_is_one_rows() -> None:
    fields = [field for setting in SETTINGS for field in setting.fields]
    assert len(set(fields)) == len(fields)
    assert len(KEYS) == len(SETTINGS)
    own = {field.name for field in dataclasses.fields(Config)} - NO_SETTING
    of_ranges = {f"ranges.{field.name}" for field in msgspec.structs.fields(Config().ranges)}
    assert set(fields) == own - {"ranges"} | of_ranges


@pytest.mark.parametrize("setting", SETTINGS, ids=KEYS)
def test_the_default_that_is_told_is_the_one_in_force(setting: Setting, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    if setting.default:
        file.write_text(f"{setting.key}: {setting.default}\n")
        assert load_config(str(file), {}) == Config()
    else:
        for field in setting.fields:
            assert not _values(Config())[field]


@pytest.mark.parametrize("setting", SETTINGS, ids=KEYS)
def test_a_row_fills_its_own_fields_alone(setting: Setting, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"{setting.key}: {OTHER[setting.key]}\n")
    if setting.key == "detectLocalMode":
        file.write_text(file.read_text() + "podInterface: cni0\n")
    found, plain = load_config(str(file), {}), Config()
    differing = {name for name in _values(plain) if _values(plain)[name] != _values(found)[name]}
    expected = set(setting.fields) | ({"pod_interface"} if setting.key == "detectLocalMode" else set())
    assert differing == expected


def _values(config: Config) -> dict[str, object]:
    """The values by the names that rows have for the fields."""
    names = [field for setting in SETTINGS for field in setting.fields]
    ranges = {
        f"ranges.{each.name}": getattr(config.ranges, each.name) for each in msgspec.structs.fields(config.ranges)
    }
    return {name: ranges[name] if name in ranges else getattr(config, name) for name in names}


@pytest.mark.parametrize("setting", SETTINGS, ids=KEYS)
def test_fields_and_flag_are_called_as_the_key_is(setting: Setting) -> None:
    """By their first word at least: two rows of one kind cannot have each other's."""
    names = [field.rpartition(".")[2] for field in setting.fields] + [setting.flag.removeprefix("--")]
    assert all(setting.key.lower().startswith(re.split("[_-]", name)[0]) for name in names), setting


def test_there_is_a_parser_for_each_kind() -> None:
    assert set(PARSERS) == set(Plain)


# --- flags ----------------------------------------------------------------------


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each.flag], ids=lambda each: each.key)
def test_a_problem_names_the_flag(setting: Setting) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("/dev/null", {setting.key: {"a": "b"}})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{setting.flag}: ")


WORDS = {
    "create service nodeport": ["web", "--tcp", "80"],
    "create service clusterip": ["web", "--tcp", "80"],
    "create service loadbalancer": ["web", "--tcp", "80"],
    "create service externalname": ["web", "--external-name", "web.example"],
    "apply": ["-f", "-"],
    "replace": ["-f", "-"],
    "edit": ["service", "web"],
    "expose": ["service", "web"],
    "label": ["service", "web", "a=b"],
    "annotate": ["service", "web", "a=b"],
    "delete": ["service", "web"],
    "get": ["services"],
    "describe": ["services"],
    "drain": ["worker-1"],
    "uncordon": ["worker-1"],
    "wait": ["--for", "synced"],
    "trace": ["192.0.2.7", "192.0.2.1", "--port", "80"],
}
"""What commands need beside flags of the configuration."""

BAD = {"store": "", "stateDir": "", "dnsHostsDir": "", "masqueradeBit": "99"}
"""What is wrong by itself; for other keys a question mark is."""

_NEVER_WRONG = ("kubeconfig", "context")
"""Any file may have such a name, and any context; a switch cannot be wrong either."""


WITH_FLAGS = [name for name, own in flags_by_command().items() if any(each.flag in own for each in SETTINGS)]
"""`store copy` names both of its stores as arguments, and has none."""


@pytest.mark.parametrize("name", WITH_FLAGS)
def test_each_flag_of_a_command_reaches_the_configuration(name: str) -> None:
    """All of them are wrong, and all of them are told, before anything else is done."""
    own = flags_by_command()[name]
    asked = [
        each
        for each in SETTINGS
        if each.flag in own and each.kind is not Plain.SWITCH and each.key not in _NEVER_WRONG
    ]
    words = [word for each in asked for word in (each.flag, BAD.get(each.key, "?"))]
    done = CliRunner().invoke(app, [*name.split(), *WORDS.get(name, []), *words, "--config", "/dev/null"])
    assert [line.split(": ")[:2] for line in done.stderr.splitlines()] == [["error", each.flag] for each in asked]
    assert (done.exit_code, done.stdout) == (2, "")


def _toy(*words: str, order: bool = False) -> Any:
    """What a command gets that is called with these words; or the order of its options."""
    got: list[Flags] = []
    asked = Annotated[Flags, "store", Group.NUMBERS, "validate", "flowtable", "masqueradeBit"]

    def toy(*, filename: str = "", flags: asked, last: bool = False) -> None:
        """Take what is given."""
        assert (filename, last) == ("", False)
        got.append(flags)

    toy.__annotations__["flags"] = asked
    made = typer.Typer(add_completion=False)
    made.command()(command(toy))
    if order:
        return [param.name for param in typer.main.get_command(made).params]
    done = CliRunner().invoke(made, [*words])
    assert done.exit_code == 0, done.output
    (flags,) = got
    return flags


def test_flags_stand_where_the_command_asks_for_them_but_those_of_files() -> None:
    shown = ["filename", "validate", "service_cidr", "node_port_range", "cluster_dns", "flowtable", "masquerade_bit"]
    assert _toy(order=True) == [*shown, "last", "store", "kubeconfig", "context", "config"]


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], {}),
        (["--store", ""], {"store": ""}),
        (["--service-cidr", "a", "--service-cidr", "b,c"], {"serviceCIDRs": ["a", "b,c"]}),
        (["--masquerade-bit", "3"], {"masqueradeBit": 3}),
        (["--masquerade-bit", "0"], {"masqueradeBit": 0}),
        (["--flowtable"], {"flowtable": True}),
        (["--no-flowtable"], {"flowtable": False}),
        (["--validate", "warn", "--node-port-range", "1-2"], {"nodePortRange": "1-2", "validate": "warn"}),
    ],
)
def test_a_command_gets_what_was_given_and_nothing_else(words: list[str], given: dict[str, object]) -> None:
    flags = _toy(*words)
    assert (flags.file, dict(flags.values)) == (None, given)
    assert [key for key in KEYS if flags.has(key)] == list(given)
    assert _toy(*words, "--config", "/c").file == "/c"


@pytest.mark.parametrize("name", ["clusterDomian", "runDir"])
def test_a_command_that_asks_for_what_is_no_flag_cannot_be_made(name: str) -> None:
    def toy(*, flags: Flags) -> None:
        assert flags

    toy.__annotations__["flags"] = Annotated[Flags, name]
    with pytest.raises((KeyError, AssertionError), match=name):
        command(toy)
