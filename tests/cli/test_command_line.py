"""The frame of all commands: words that are none, help, completion by a real shell, and what is in force."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from nodeport_nft import leading_flags
from nodeport_nft.cli import app
from nodeport_nft.cli.elsewhere import CONTEXTS, VERBS
from nodeport_nft.cli.flags_elsewhere import FLAGS
from nodeport_nft.cli.verbs import summary
from nodeport_nft.config import load_config
from nodeport_nft.config.writing import as_written
from nodeport_nft.settings import KEYS, SETTINGS, Setting
from tests.cli.program import SCRIPT, Program
from tests.unit.test_settings import OTHER

ROOT: Any = typer.main.get_command(app)


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command and group that help lists, with the words that lead to it."""
    for name, each in group.commands.items():
        if not each.hidden:
            yield (*path, name), each
            if hasattr(each, "commands"):
                yield from commands(each, (*path, name))


ALL = dict(commands())


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


# --- words ----------------------------------------------------------------------


def test_a_word_of_others_is_answered_in_one_line_and_is_no_command() -> None:
    """What has become one is none of others any more."""
    assert set(VERBS) & set(ROOT.commands) == set()
    assert set(CONTEXTS) & set(ROOT.commands["config"].commands) == set()
    for words in (*([word] for word in VERBS), *(["config", word] for word in CONTEXTS)):
        done = CliRunner().invoke(app, [*words, "-x", "--flag=1", "more"])
        assert (done.exit_code, done.stdout) == (2, ""), words
        assert done.stderr.startswith(f"error: {words[-1]} is not a command: "), words
        assert done.stderr.count("\n") == 1, words


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_of_others_is_answered_in_one_line(program: Program, flag: str) -> None:
    command, _, name = flag.rpartition(" ")
    command = command or "get"
    answer = program.run(*command.split(), name, "x")
    assert (answer.code, answer.out) == (2, "")
    told = FLAGS[flag].replace("{command}", command)
    assert answer.err == f"error: {name} is not a flag of nodeport-nft {command}: {told}\n"


def test_what_is_told_to_do_instead_is_there() -> None:
    """Of our own commands, which the hints name by the whole line; "nodeport-nft;" is the daemon's unit."""
    for hint in (*VERBS.values(), *FLAGS.values(), *CONTEXTS.values()):
        for word in re.findall(r"(?<!-u )nodeport-nft ([a-z]+)", hint):
            assert word in ROOT.commands or "systemctl" in hint, hint


def test_each_switch_is_known_before_any_command_is_imported() -> None:
    """A flag that takes no value, before the verb, would take the verb for its value."""
    switches, valued = set(), set()
    for each in ALL.values():
        for param in each.params:
            if getattr(param, "is_flag", False):
                switches |= set(param.opts) - {"--help", "-h"}
            elif param.param_type_name == "option":
                valued |= set(param.opts)
    assert switches - valued - leading_flags.SWITCHES == set()
    assert leading_flags.SWITCHES & valued - {"--dry-run"} == set()


@pytest.mark.parametrize(
    ("words", "flags", "rest"),
    [
        ("get svc", [], "get svc"),
        ("-n web get svc", [["-n", "web"]], "get svc"),
        ("-nweb -A get svc", [["-nweb"], ["-A"]], "get svc"),
        ("--store=x --no-flowtable sync", [["--store=x"], ["--no-flowtable"]], "sync"),
        ("--store sync get", [["--store", "sync"]], "get"),
        ("-n web", [["-n", "web"]], ""),
        ("-n", [["-n"]], ""),
        ("-n web --help get", [["-n", "web"]], ""),
        ("", [], ""),
    ],
)
def test_flags_before_the_verb(words: str, flags: list[list[str]], rest: str) -> None:
    assert leading_flags.split(words.split()) == (flags, rest.split())


# --- help -----------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), *ALL], ids=" ".join)
def test_help_fits_a_terminal_and_nothing_of_it_is_cut(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*words, "--help"], prog_name="nodeport-nft", env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert [line for line in done.stdout.splitlines() if len(line) > 80 and "Example: " not in line] == []
    group = ROOT
    for word in words:
        group = group.commands[word]
    for name, each in getattr(group, "commands", {}).items():
        if not each.hidden:
            (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == [name]]
            assert line.split(maxsplit=1) == [name, summary(each)]


# --- completion -----------------------------------------------------------------

_ASK = """
PATH={path}:$PATH
. <(nodeport-nft completion bash)
ask() {{ COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=(); _nodeport_nft_completion nodeport-nft
echo "${{COMPREPLY[@]}}"; }}
ask nodeport-nft --config {config} get svc we
ask nodeport-nft --config = {config} get svc we
ask nodeport-nft comp
complete -p nodeport-nft
"""


def test_bash_completes_by_the_script(program: Program) -> None:
    config = program.directory / "config.yaml"
    config.write_text(f"store: {program.store}\n")
    program.ok("create", "service", "clusterip", "web", "--tcp=80")
    script = _ASK.format(path=SCRIPT.parent, config=config)
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=120, check=True)
    *offers, registered = done.stdout.splitlines()
    assert (offers, done.stderr) == (["web", "web", "completion"], "")
    assert registered == "complete -o default -F _nodeport_nft_completion nodeport-nft"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(program: Program, shell: str) -> None:
    script = program.run("completion", shell).out
    assert "_NODEPORT_NFT_COMPLETE=complete_" + shell in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)


# --- what is in force -----------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=KEYS)
def test_a_value_is_written_as_it_can_be_read(setting: Setting, tmp_path: Path) -> None:
    first, second = tmp_path / "config.yaml", tmp_path / "again.yaml"
    interface = "podInterface: cni0\n" if setting.key == "detectLocalMode" else ""
    first.write_text(f"{setting.key}: {OTHER[setting.key]}\n{interface}")
    wanted = load_config(str(first), {})
    second.write_text(yaml.dump({setting.key: as_written(wanted, setting)}) + interface)
    assert load_config(str(second), {}) == wanted


def test_what_is_in_force_is_a_configuration(program: Program) -> None:
    (program.directory / "config.yaml").write_text("syncPeriod: 90\nnodePortAddresses: [10.0.0.0/8]\n")
    text = program.ok("config", "view", "--config", "config.yaml", "-o", "yaml")
    (program.directory / "again.yaml").write_text(text)
    again = program.run("config", "view", "--config", "again.yaml", "-o", "yaml")
    assert (again.code, again.out, again.err) == (0, text, "")
    assert yaml.safe_load(text) | {"syncPeriod": "90s", "store": str(program.store)} == yaml.safe_load(text)
    rows = [line.split() for line in program.ok("config", "view", "--config", "config.yaml").splitlines()]
    assert ["syncPeriod", "90s", "config.yaml:1"] in rows
    assert ["store", str(program.store), "--store"] in rows
    assert "conntrackMin" not in text, "given, it would count as asked for"


def test_versions_are_those_of_what_is_there(program: Program) -> None:
    told = yaml.safe_load(program.run("version", "-o", "yaml", "--metrics-bind-address", "127.0.0.1:9").out)
    assert told["daemon"] is None
    assert told["kernel"] == os.uname().release
    assert told["nft"] in subprocess.run(["nft", "--version"], capture_output=True, text=True, check=True).stdout
