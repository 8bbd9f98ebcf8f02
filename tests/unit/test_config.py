"""The configuration: defaults, file, flags, and every problem at once."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from nodeport_nft.config import Config, ConfigError, load_config
from nodeport_nft.manifest.problems import MOST_TOLD
from nodeport_nft.model import NodePortMode, PortRange


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return str(path)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "# nothing\n"), {})
    assert config == Config()
    assert config.ranges.node_ports == PortRange(30000, 32767)
    assert [str(cidr) for cidr in config.ranges.service_cidrs] == ["10.96.0.0/12", "fd00:10:96::/112"]


def test_file_and_flags(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "nodePortRange: 31000-31999\nserviceCIDRs: [10.0.0.0/16, 'fd00::/112']\nclusterCIDRs: 10.244.0.0/16\n"
        "nodePortAddresses: all\nmasqueradeBit: 3\nclusterDomain: example.org.\nstore: /tmp/s.db\n"
        "stateDir: /srv/state\nrunDir: /srv/run\nmaxDocumentBytes: 1000\nownRoutes: [10.0.1.0/24]\n",
    )
    config = load_config(path, {"masqueradeBit": 5, "clusterCIDRs": None, "nodePortAddresses": []})
    assert config.masquerade_bit == 5
    assert config.node_port_mode is NodePortMode.ALL
    assert [str(c) for c in config.cluster_cidrs] == ["10.244.0.0/16"]
    assert config.cluster_domain == "example.org"
    assert config.max_document_bytes == 1000
    assert (config.state_dir, config.run_dir) == ("/srv/state", "/srv/run")
    assert config.ranges.node_ports == PortRange(31000, 31999)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("colour: blue", "colour: unknown key; known are "),
        ("nodePortRange: 32767-30000", 'nodePortRange: "32767-30000" is no range of ports; '),
        ("nodePortRange: 0-70000", 'nodePortRange: "0-70000" is no range of ports; '),
        ("nodePortRange: many", 'nodePortRange: "many" is no range; write FIRST-LAST'),
        ("nodePortRange: 80", "nodePortRange: 80 is no text; put it in quotes"),
        (f"nodePortRange: {'9' * 5000}-1", "is no range; write FIRST-LAST"),
        ("serviceCIDRs: 10.96.0.1/12", '"10.96.0.1/12" has bits set behind its prefix; write 10.96.0.0/12'),
        ("serviceCIDRs: [10.0.0.0/16, 10.1.0.0/16]", "give one network, or one of each family"),
        ("serviceCIDRs: []", "serviceCIDRs: nothing is given; give one network"),
        ("serviceCIDRs: 10.0.0.0/31", "serviceCIDRs: 10.0.0.0/31 has no room for clusterIPs; "),
        ("serviceCIDRs: 2024-99-99", 'serviceCIDRs: "2024-99-99" is no network; write '),
        ("serviceCIDRs: !!timestamp foo", "config.yaml:1: tag tag:yaml.org,2002:timestamp is not supported"),
        ("clusterCIDRs: 10.244.0.0", 'clusterCIDRs: "10.244.0.0" has no prefix length; write 10.244.0.0/16 (or '),
        ("ownRoutes: [10.0.0.0/8, 192.0.2.7]", 'ownRoutes: "192.0.2.7" has no prefix length; write 192.0.2.7/32'),
        (
            "nodePortAddresses: ['fd00:244::']",
            '"fd00:244::" has no prefix length; write fd00:244::/32 (or fd00:244::/128 ',
        ),
        ("serviceCIDRs: 0.0.0.0", 'serviceCIDRs: "0.0.0.0" has no prefix length; write 0.0.0.0/8 (or 0.0.0.0/32 '),
        ("externalIPs: 203.0.113.0", 'externalIPs: "203.0.113.0" has no prefix length; write 203.0.113.0/24 (or '),
        ("externalIPs: none", 'externalIPs: "none" is no network; write '),
        ("externalIPs: [any, 203.0.113.0/24]", 'externalIPs: "any" is no network; write '),
        ("externalIPs: []", "externalIPs: nothing is given; write any, deny, or networks such as 203.0.113.0/24"),
        ("loadBalancerIPs: false", "loadBalancerIPs: false is no text; put it in quotes"),
        ("loadBalancerIPs: 010.0.0.0/8", 'loadBalancerIPs: "010.0.0.0/8" is no network; write '),
        ("masqueradeBit: 32", "masqueradeBit: 32 is no bit of the packet mark; choose a number from 0 to 31"),
        ("masqueradeBit: yes", "masqueradeBit: true is no bit of the packet mark; "),
        ("masqueradeBit: 0x_", 'masqueradeBit: "0x_" is no bit of the packet mark; '),
        ("masqueradeBit: !!int abc", "config.yaml:1: tag tag:yaml.org,2002:int is not supported for this value"),
        ("masqueradeBit: !!float abc", "config.yaml:1: tag tag:yaml.org,2002:float is not supported for this value"),
        (f"masqueradeBit: {'9' * 5000}", "is no bit of the packet mark; "),
        (f"masqueradeBit: {'9' * 4000}", "masqueradeBit: a huge number is no bit of the packet mark; "),
        ("masqueradeBit: 1\nmasqueradeBit: 2", 'config.yaml:2: key "masqueradeBit" is given twice'),
        ("nodePortAddresses: [primary, all]", 'nodePortAddresses: "primary" is no network; write '),
        ('store: ""', "store: is empty; name a file"),
        ('stateDir: ""', "stateDir: is empty; name a directory"),
        ("runDir: 7", "runDir: 7 is no text; put it in quotes"),
        (r'runDir: "/run/a\0b"', "holds a NUL character; leave it out"),
        ('clusterDomain: ""', 'clusterDomain: "" is not an RFC 1123 subdomain; '),
        ("clusterDomain: X Y", 'clusterDomain: "X Y" is not an RFC 1123 subdomain; '),
        (r'clusterDomain: "a b\n6.6.6.6 c"', 'clusterDomain: "a b\ufffd6.6.6.6 c" is not an RFC 1123 subdomain; '),
        ("- a\n- b", "holds a list; write 'key: value' lines"),
        ("store: a\n---\nstore: b", "config.yaml:3: a second document begins; write one"),
        ("a: [", "not YAML: "),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ('{"a":' * 100_000, "nested more than 100 levels deep"),
        (
            "a: &a [1]\n" + "".join(f"{new}: &{new} [{f'*{old},' * 10}]\n" for old, new in pairwise("abcdefghij")),
            "aliases stand for more than 500000 values",
        ),
        (f"{'k' * 1000}: 1\n", "unknown key; known are "),
        (f"detectLocalMode: {'m' * 5000}", "is no mode; choose one of "),
        (f"podInterface: {'p' * 5000}", "is no interface name; "),
        (f"clusterCIDRs: {'c' * 5000}", "is no network; write an address and a prefix length, such as 10.96.0.0/12"),
        (f"masqueradeAll: {'m' * 5000}", "is neither true nor false"),
        ("healthzBindAddress: 10256", "healthzBindAddress: 10256 is no text; put it in quotes"),
        ("healthzBindAddress: localhost:10256", 'healthzBindAddress: "localhost:10256" is no address with a port; '),
        ("healthzBindAddress: ':10256'", 'healthzBindAddress: ":10256" is no address with a port; '),
        ("healthzBindAddress: 127.0.0.1", "write ADDRESS:PORT such as 127.0.0.1:10256 or [::1]:10256, or none to "),
        ("healthzBindAddress: ::1:10256", 'healthzBindAddress: "::1:10256" is no address with a port; '),
        ("healthzBindAddress: '[127.0.0.1]:1'", 'healthzBindAddress: "[127.0.0.1]:1" is no address with a port; '),
        ("healthzBindAddress: '[fe80::1%eth0]:1'", "is no address with a port; "),
        ("healthzBindAddress: 127.0.0.256:1", "is no address with a port; "),
        ("healthzBindAddress: 127.0.0.01:1", "is no address with a port; "),
        ("metricsBindAddress: 127.0.0.1:0", 'metricsBindAddress: "127.0.0.1:0" is no address with a port; '),
        ("metricsBindAddress: 127.0.0.1:65536", "is no address with a port; "),
        (
            "metricsBindAddress: 127.0.0.1:10256",
            "metricsBindAddress: is the same as healthzBindAddress; choose another",
        ),
        (f"metricsBindAddress: {'1' * 5000}:1", "is no address with a port; "),
        ("syncPeriod: soon", 'syncPeriod: "soon" is no duration; write seconds, or a text such as 30s, 1m or 1h30m'),
        ("syncPeriod: 1 m", 'syncPeriod: "1 m" is no duration; '),
        ("syncPeriod: 1h30", 'syncPeriod: "1h30" is no duration; '),
        ("syncPeriod: 1d", 'syncPeriod: "1d" is no duration; '),
        ("syncPeriod: -30s", 'syncPeriod: "-30s" is no duration; '),
        ("syncPeriod: .s", 'syncPeriod: ".s" is no duration; '),
        ("syncPeriod: ''", 'syncPeriod: "" is no duration; '),
        ("syncPeriod: true", "syncPeriod: true is no duration; "),
        ("syncPeriod: [30]", "syncPeriod: a list is no duration; "),
        ("syncPeriod: 0.99", "syncPeriod: 0.99 is out of range; choose from 1 to 31536000 seconds"),
        ("syncPeriod: 999ms", 'syncPeriod: "999ms" is out of range; '),
        ("syncPeriod: .inf", 'syncPeriod: ".inf" is no duration; '),
        ("syncPeriod: .nan", 'syncPeriod: ".nan" is no duration; '),
        ("syncPeriod: 8761h", 'syncPeriod: "8761h" is out of range; '),
        (f"syncPeriod: {'9' * 4000}", "syncPeriod: a huge number is out of range; "),
        (f"syncPeriod: {'9' * 90}h", "is out of range; "),
        (f"syncPeriod: {'9' * 5000}h", "is no duration; "),
        ("minSyncPeriod: -0.1", "minSyncPeriod: -0.1 is out of range; choose from 0 to 60 seconds"),
        ("minSyncPeriod: 61s", 'minSyncPeriod: "61s" is out of range; '),
        ("minSyncPeriod: 31", "minSyncPeriod: 31 s is longer than syncPeriod, 30 s; choose a shorter one"),
        ("fullCheckPeriod: 0", "fullCheckPeriod: 0 is out of range; choose from 1 to 31536000 seconds"),
    ],
)
def test_problems(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, line), {})
    assert message in str(caught.value)
    assert all(len(told) < 1001 for told in str(caught.value).splitlines())  # no value is printed without bound


@pytest.mark.parametrize("key", ["externalIPs", "loadBalancerIPs"])
@pytest.mark.parametrize(
    ("given", "networks"),
    [
        ("any", None),
        (["any"], None),
        ("deny", []),
        (["deny"], []),
        ("203.0.113.0/24", ["203.0.113.0/24"]),
        (["203.0.113.0/24,192.0.2.7/32", "fd00:5::/64"], ["203.0.113.0/24", "192.0.2.7/32", "fd00:5::/64"]),
    ],
)
def test_which_addresses_services_may_claim(key: str, given: object, networks: list[str] | None) -> None:
    """The two keys do not touch each other; each is any by default, as kube-proxy has it."""
    config = load_config("/dev/null", {key: given})
    found = {"externalIPs": config.external_ips, "loadBalancerIPs": config.load_balancer_ips}
    told = found.pop(key)
    assert (None if told is None else [str(network) for network in told]) == networks
    assert set(found.values()) == {None}


def test_many_mistakes_of_a_kind_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "".join(f"k{n}: 1\n" for n in range(5000)) + "masqueradeBit: 99\n"), {})
    lines = str(caught.value).splitlines()
    assert len(lines) == MOST_TOLD + 2
    assert sum(": unknown key; " in line for line in lines) == MOST_TOLD
    assert f"… and 4,990 more of this kind in {tmp_path}/config.yaml" in lines
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "store: /s\n" * 5000), {})
    assert str(caught.value).splitlines()[-1] == f"{tmp_path}/config.yaml:12: … and 4,989 more of this kind"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:10256", ("127.0.0.1", 10256)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[::]:10256", ("::", 10256)),
        ("none", None),
        ("", None),
    ],
)
def test_where_the_daemon_answers(text: str, address: tuple[str, int] | None) -> None:
    """An empty text switches off as well, from a flag as from the file."""
    config = load_config("/dev/null", {"healthzBindAddress": text})
    found = config.healthz_address
    assert (found and (str(found[0]), found[1])) == address
    assert config.metrics_address == Config().metrics_address
    swapped = load_config("/dev/null", {"metricsBindAddress": text, "healthzBindAddress": "127.0.0.1:9"})
    assert swapped.metrics_address == found


def test_both_addresses_may_be_none() -> None:
    config = load_config("/dev/null", {"metricsBindAddress": "none", "healthzBindAddress": "none"})
    assert (config.metrics_address, config.healthz_address) == (None, None)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("45", 45.0),
        ("1.5", 1.5),
        ("'45'", 45.0),
        ("45s", 45.0),
        ("1m", 60.0),
        ("1h30m", 5400.0),
        ("1m1.5s", 61.5),
        ("1.h", 3600.0),
        (".5h", 1800.0),
        ("1s500ms", 1.5),
        ("2000000us", 2.0),
        ("2000000µs", 2.0),
        ("3000000000ns", 3.0),
        ("1s1s", 2.0),
        ("8760h", 31536000.0),
    ],
)
def test_durations_are_seconds_or_gos(tmp_path: Path, line: str, seconds: float) -> None:
    config = load_config(write(tmp_path, f"syncPeriod: {line}\nfullCheckPeriod: {line}\nminSyncPeriod: 0\n"), {})
    assert (config.sync_period, config.full_check_period) == pytest.approx((seconds, seconds))
    assert config.min_sync_period == 0.0


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "masqueradeBit: 99\ncolour: blue\n"), {"nodePortRange": "x"})
    assert len(str(caught.value).splitlines()) == 3


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(str(tmp_path / "nope.yaml"), {})


def test_a_file_of_any_size_and_kind_gives_an_answer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    for path, message in [
        ("/dev/zero", "/dev/zero: is no regular file; name another"),
        (str(tmp_path / "pipe"), "pipe: is a pipe, which may never end; name a file"),
        (str(tmp_path), "is no regular file; name another"),
        (str(tmp_path / "binary"), "byte 0xff is not UTF-8"),
        ("a\0b", "cannot be read: "),
        (write(tmp_path, "#" * (1 << 20) + "\n"), "config.yaml: is larger than 1048576 bytes; "),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_config(path, {})
        assert message in str(caught.value)
    assert load_config("/dev/null", {}) == Config()


def test_flags_are_checked_as_the_file_is() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("/dev/null", {"store": "", "clusterDomain": ""})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["store", "clusterDomain"]
