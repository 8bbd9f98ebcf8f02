"""The configuration: defaults, file, flags, and every problem at once."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest

from nodeport_nft.config import Config, ConfigError, load_config
from nodeport_nft.config.keys import KEYS
from nodeport_nft.model import NodePortMode, PortRange
from nodeport_nft.problems import MOST_TOLD
from tests.unit.test_settings import flags_by_command


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
        ("nodePortRange: 32767-30000", 'nodePortRange: "32767-30000" is not a range of ports; '),
        ("nodePortRange: 0-70000", 'nodePortRange: "0-70000" is not a range of ports; '),
        ("nodePortRange: many", 'nodePortRange: "many" is not a range; write FIRST-LAST'),
        ("nodePortRange: 80", "nodePortRange: 80 is a number, not a range; write FIRST-LAST, such as 30000-32767"),
        (f"nodePortRange: {'9' * 5000}-1", "is not a range; write FIRST-LAST"),
        ("serviceCIDRs: 10.96.0.1/12", '"10.96.0.1/12" has bits set behind its prefix; write 10.96.0.0/12'),
        ("serviceCIDRs: [10.0.0.0/16, 10.1.0.0/16]", "give one network, or one of each family"),
        ("serviceCIDRs: []", "serviceCIDRs: nothing is given; give one network"),
        ("serviceCIDRs: 10.0.0.0/31", "serviceCIDRs: 10.0.0.0/31 has no room for clusterIPs; "),
        ("serviceCIDRs: 2024-99-99", 'serviceCIDRs: "2024-99-99" is not a network; write '),
        ("serviceCIDRs: !!timestamp foo", "config.yaml:1: tag tag:yaml.org,2002:timestamp is not supported"),
        ("clusterCIDRs: 10.244.0.0", 'clusterCIDRs: "10.244.0.0" has no prefix length; write 10.244.0.0/16 (or '),
        ("ownRoutes: [10.0.0.0/8, 192.0.2.7]", 'ownRoutes[1]: "192.0.2.7" has no prefix length; write 192.0.2.7/32'),
        (
            "nodePortAddresses: ['fd00:244::']",
            '"fd00:244::" has no prefix length; write fd00:244::/32 (or fd00:244::/128 ',
        ),
        ("serviceCIDRs: 0.0.0.0", 'serviceCIDRs: "0.0.0.0" has no prefix length; write 0.0.0.0/0 (or 0.0.0.0/32 '),
        ("externalIPs: 203.0.113.0", 'externalIPs: "203.0.113.0" has no prefix length; write 203.0.113.0/24 (or '),
        ("externalIPs: none", 'externalIPs: "none" is not a network; write '),
        ("externalIPs: [any, 203.0.113.0/24]", 'externalIPs[0]: "any" stands beside others; write it alone, or '),
        ("externalIPs: []", "externalIPs: nothing is given; write any, deny, or networks such as 203.0.113.0/24"),
        (
            "loadBalancerIPs: false",
            "loadBalancerIPs: false is a boolean, not a network; write any, deny, or networks ",
        ),
        ("loadBalancerIPs: 010.0.0.0/8", 'loadBalancerIPs: "010.0.0.0/8" is not a network; write '),
        ("masqueradeBit: 32", "masqueradeBit: 32 is not a bit of the packet mark; choose a number from 0 to 31"),
        ("masqueradeBit: yes", "masqueradeBit: yes is not a bit of the packet mark; "),
        ("masqueradeBit: 0x_", 'masqueradeBit: "0x_" is not a bit of the packet mark; '),
        ("masqueradeBit: !!int abc", "config.yaml:1: tag tag:yaml.org,2002:int is not supported for this value"),
        ("masqueradeBit: !!float abc", "config.yaml:1: tag tag:yaml.org,2002:float is not supported for this value"),
        (f"masqueradeBit: {'9' * 5000}", "is not a bit of the packet mark; "),
        (f"masqueradeBit: {'9' * 4000}", "… is not a bit of the packet mark; "),
        (
            "nodePortAddresses: [primary, all]",
            'nodePortAddresses[0]: "primary" stands beside others; write it alone, ',
        ),
        ('store: ""', "store: is empty; name a file"),
        ('stateDir: ""', "stateDir: is empty; name a directory"),
        ("runDir: 7", 'runDir: 7 is a number, not a path; write "7", with quotes'),
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
        (f"detectLocalMode: {'m' * 5000}", "is not a mode; choose one of "),
        (f"podInterface: {'p' * 5000}", "is not an interface name; "),
        (
            f"clusterCIDRs: {'c' * 5000}",
            "is not a network; write an address and a prefix length, such as 10.96.0.0/12",
        ),
        (f"masqueradeAll: {'m' * 5000}", "is neither true nor false"),
        (
            "healthzBindAddress: 10256",
            "healthzBindAddress: 10256 is a number, not an address with a port; write ADDRESS:",
        ),
        (
            "healthzBindAddress: localhost:10256",
            'healthzBindAddress: "localhost:10256" is not an address with a port; ',
        ),
        ("healthzBindAddress: ':10256'", 'healthzBindAddress: ":10256" is not an address with a port; '),
        ("healthzBindAddress: 127.0.0.1", 'write ADDRESS:PORT such as 127.0.0.1:10256 or "[::1]:10256", or none to '),
        ("healthzBindAddress: ::1:10256", 'healthzBindAddress: "::1:10256" is not an address with a port; '),
        (
            "healthzBindAddress: '[127.0.0.1]:1'",
            'healthzBindAddress: "[127.0.0.1]:1" is not an address with a port; ',
        ),
        ("healthzBindAddress: '[fe80::1%eth0]:1'", "is not an address with a port; "),
        ("healthzBindAddress: 127.0.0.256:1", "is not an address with a port; "),
        ("healthzBindAddress: 127.0.0.01:1", "is not an address with a port; "),
        ("metricsBindAddress: 127.0.0.1:0", 'metricsBindAddress: "127.0.0.1:0" is not an address with a port; '),
        ("metricsBindAddress: 127.0.0.1:65536", "is not an address with a port; "),
        (
            "metricsBindAddress: 127.0.0.1:10256",
            "metricsBindAddress: 127.0.0.1:10256 is healthzBindAddress as well (the default); choose another port ",
        ),
        (f"metricsBindAddress: {'1' * 5000}:1", "is not an address with a port; "),
        (
            "syncPeriod: soon",
            'syncPeriod: "soon" is not a duration; write seconds, or a text such as 30s, 1m or 1h30m',
        ),
        ("syncPeriod: 1 m", 'syncPeriod: "1 m" is not a duration; '),
        ("syncPeriod: 1h30", 'syncPeriod: "1h30" is not a duration; '),
        ("syncPeriod: 1d", 'syncPeriod: "1d" is not a duration; '),
        ("syncPeriod: -30s", 'syncPeriod: "-30s" is not a duration; '),
        ("syncPeriod: .s", 'syncPeriod: ".s" is not a duration; '),
        ("syncPeriod: ''", 'syncPeriod: "" is not a duration; '),
        ("syncPeriod: true", "syncPeriod: true is not a duration; "),
        ("syncPeriod: [30]", "syncPeriod: a list is not a duration; "),
        ("syncPeriod: 0.99", "syncPeriod: 0.99 is out of range; choose from 1 to 31536000 seconds"),
        ("syncPeriod: 999ms", 'syncPeriod: "999ms" is out of range; '),
        ("syncPeriod: .inf", 'syncPeriod: ".inf" is not a duration; '),
        ("syncPeriod: .nan", 'syncPeriod: ".nan" is not a duration; '),
        ("syncPeriod: 8761h", 'syncPeriod: "8761h" is out of range; '),
        (f"syncPeriod: {'9' * 4000}", "… is out of range; "),
        (f"syncPeriod: {'9' * 90}h", "is out of range; "),
        (f"syncPeriod: {'9' * 5000}h", "is not a duration; "),
        ("minSyncPeriod: -0.1", "minSyncPeriod: -0.1 is out of range; choose from 0 to 60 seconds"),
        ("minSyncPeriod: 61s", 'minSyncPeriod: "61s" is out of range; '),
        (
            "minSyncPeriod: 31",
            "minSyncPeriod: 31 s is longer than syncPeriod, 30 s (the default); choose a shorter one",
        ),
        ("fullCheckPeriod: 0", "fullCheckPeriod: 0 is out of range; choose from 1 to 31536000 seconds"),
    ],
)
def test_problems(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, line), {})
    assert message in str(caught.value)
    assert all(re.match(rf"{tmp_path}/config.yaml:[1-9][0-9]*: ", told) for told in str(caught.value).splitlines())
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
    assert f"{tmp_path}/config.yaml:11: … and 4,990 more of this kind" in lines
    warnings = load_config(write(tmp_path, "store: /s\n" * 5000), {}).warnings
    assert len(warnings) == MOST_TOLD + 1
    assert warnings[-1] == f"{tmp_path}/config.yaml:12: … and 4,989 more of this kind"


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
        ("/dev/zero", "/dev/zero: is not a regular file; name another"),
        (str(tmp_path / "pipe"), "pipe: is a pipe, which may never end; name a file"),
        (str(tmp_path), "is not a regular file; name another"),
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
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["--store", "--cluster-domain"]


# --- where, what, and the remedy for that very value -------------------------------------------------------------


def told(tmp_path: Path, text: str, **flags: object) -> list[str]:
    """The problems, the file's name left out: "LINE: KEY: …"."""
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), flags)
    return str(caught.value).replace(f"{tmp_path}/config.yaml:", "").splitlines()


NETWORK = "write an address and a prefix length, such as 10.96.0.0/12"
WORDS = "write any, deny, or networks such as 203.0.113.0/24"
ADDRESSES = "write primary, all, or networks such as 203.0.113.0/24"
SOCKET = 'write ADDRESS:PORT such as 127.0.0.1:10256 or "[::1]:10256", or none to switch it off'
MODES = "choose one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix, None"
DURATION = "write seconds, or a text such as 30s, 1m or 1h30m"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Words, numbers and nothing where a text is wanted: quoting is the advice only where it helps.
        ("store: no", 'no is a boolean, not a path; write "no", with quotes'),
        ("store: 0o17", '0o17 is a number, not a path; write "0o17", with quotes'),
        ("stateDir: 1_000", '1_000 is a number, not a path; write "1_000", with quotes'),
        ("runDir: ~", "nothing is given; name a directory, or leave it out"),
        ("runDir: {path: /run/x}", "a mapping stands where a path belongs; name a directory"),
        ("runDir: [/run/x]", "a list stands where a path belongs; write /run/x alone"),
        ("runDir: ['no']", 'a list stands where a path belongs; write "no" alone, with quotes'),
        ("runDir: ['# x']", 'a list stands where a path belongs; write "# x" alone, with quotes'),
        ("runDir: [/run/x, /run/y]", "a list stands where a path belongs; name a directory"),
        ("runDir: []", "an empty list stands where a path belongs; name a directory"),
        ("clusterDomain: on", 'on is a boolean, not a domain; write "on", with quotes'),
        ("clusterDomain: 1.50", '1.50 is a number, not a domain; write "1.50", with quotes'),
        ("clusterDomain: -1", "-1 is a number, not a domain; write one, such as cluster.local"),
        ("clusterDomain:", "nothing is given; write one, such as cluster.local, or leave it out"),
        ("podInterface: 0x1F", '0x1F is a number, not an interface name; write "0x1F", with quotes'),
        ("podInterface: {name: x}", "a mapping stands where an interface name belongs; write one name, such as cni0"),
        ("healthzBindAddress: off", f"off is a boolean, not an address with a port; {SOCKET}"),
        ("healthzBindAddress: 10256", f"10256 is a number, not an address with a port; {SOCKET}"),
        (
            "metricsBindAddress: ['[::]:1']",
            'a list stands where an address with a port belongs; write "[::]:1" alone, with quotes',
        ),
        ("metricsBindAddress: {port: 1}", f"a mapping stands where an address with a port belongs; {SOCKET}"),
        ("externalIPs: no", f"no is a boolean, not a network; {WORDS}"),
        ("externalIPs: {any: true}", f"a mapping stands where a network belongs; {WORDS}"),
        ("nodePortAddresses: true", f"true is a boolean, not a network; {ADDRESSES}"),
        ("nodePortAddresses: []", f"nothing is given; {ADDRESSES}"),
        ("nodePortAddresses: ''", f"nothing is given; {ADDRESSES}"),
        ("clusterCIDRs: 10", f"10 is a number, not a network; {NETWORK}"),
        ("clusterCIDRs:", f"nothing is given; {NETWORK}, or leave it out"),
        ("clusterCIDRs: {10.0.0.0/8: x}", f"a mapping stands where a network belongs; {NETWORK}"),
        ("trustedChains: 1", "1 is a number, not a chain; write FAMILY TABLE CHAIN, such as ip filter FORWARD"),
        # Addresses that are not text without quotes.
        ("clusterCIDRs: ::1", '"::1" has no prefix length; write ::1/128'),
        ("nodePortRange: 12:30", '"12:30" is not a range; write 12-30'),
        # Fixed words.
        ("detectLocalMode: clustercidr", f'"clustercidr" is not a mode; {MODES}; did you mean ClusterCIDR?'),
        ("detectLocalMode: bridge", f'"bridge" is not a mode; {MODES}'),
        ("detectLocalMode: iptables", f'"iptables" is not a mode; {MODES}'),
        ("detectLocalMode: null", f"nothing is given; {MODES}, or leave it out"),
        ("detectLocalMode: off", f"off is a boolean, not a mode; {MODES}"),
        ("detectLocalMode: [ClusterCIDR]", "a list stands where a mode belongs; write ClusterCIDR alone"),
        ("validate: Strict", '"Strict" is not a level; choose one of strict, warn, ignore; did you mean strict?'),
        ("validate: true", "true is a boolean, not a level; choose one of strict, warn, ignore"),
        ("nodePortAddresses: Primary", '"Primary" is not a network; did you mean primary?'),
        ("externalIPs: denny", '"denny" is not a network; did you mean deny?'),
        # Numbers.
        ("masqueradeBit: '14'", '"14" is text; write 14'),
        ("masqueradeBit: 14.0", "14.0 is a fraction; write 14"),
        ("masqueradeBit: 14.5", "14.5 is not a bit of the packet mark; choose a number from 0 to 31"),
        ("masqueradeBit: 1e1", '"1e1" is text; write 10'),
        ("masqueradeBit: 010", "010 reads as octal, which is 8; write 10 or 8"),
        ("masqueradeBit: 033", "033 reads as octal, which is 27; write 27"),
        ("masqueradeBit: 0_10", "010 reads as octal, which is 8; write 10 or 8"),
        ("masqueradeBit: 044", "044 is not a bit of the packet mark; choose a number from 0 to 31"),
        (
            f"masqueradeBit: 0{'7' * 5000}",
            f"0{'7' * 78}… is not a bit of the packet mark; choose a number from 0 to 31",
        ),
        ("masqueradeBit:", "nothing is given; choose a number from 0 to 31, or leave it out"),
        ("masqueradeBit: [14]", "a list is not a bit of the packet mark; choose a number from 0 to 31"),
        ("masqueradeBit: {bit: 14}", "a mapping is not a bit of the packet mark; choose a number from 0 to 31"),
        ("maxDocumentBytes: 64Mi", '"64Mi" is text; write 67108864'),
        ("maxDocumentBytes: 64 MB", '"64 MB" is text; write 64000000'),
        ("maxDocumentBytes: 1e99", '"1e99" is not a size in bytes; choose a number from 1 to 4294967296'),
        # Booleans.
        ("masqueradeAll: 'true'", '"true" is neither true nor false; write true, without quotes'),
        ("masqueradeAll: 0", "0 is neither true nor false; write false"),
        ("masqueradeAll: 1.0", "1.0 is neither true nor false; write one of them"),
        ("masqueradeAll:", "nothing is given; write true or false, or leave it out"),
        ("flowtable: [true]", "a list is neither true nor false; write one of them"),
        # Durations.
        ("syncPeriod: 1e3", '"1e3" is not a duration; write 1000'),
        ("syncPeriod: 12:30", f'"12:30" is not a duration; {DURATION}'),
        ("syncPeriod: 2 minutes", '"2 minutes" is not a duration; write 2m'),
        ("syncPeriod: 30 sec", '"30 sec" is not a duration; write 30s'),
        ("syncPeriod: 1d", '"1d" is not a duration; write 24h'),
        ("syncPeriod: 400d", f'"400d" is not a duration; {DURATION}'),
        ("syncPeriod: 030", "030 reads as octal, which is 24; write 30 or 24"),
        ("syncPeriod: on", f"on is not a duration; {DURATION}"),
        ("syncPeriod:", f"nothing is given; {DURATION}, or leave it out"),
        ("syncPeriod: {seconds: 30}", f"a mapping is not a duration; {DURATION}"),
        # Ranges.
        ("nodePortRange: [30000, 32767]", "a list stands where a range belongs; write 30000-32767"),
        ("nodePortRange: [1, 2, 3]", "a list stands where a range belongs; write FIRST-LAST, such as 30000-32767"),
        ("nodePortRange: 30000..32767", '"30000..32767" is not a range; write 30000-32767'),
        ("nodePortRange: 30000:32767", '"30000:32767" is not a range; write 30000-32767'),
        ("nodePortRange: 30000–32767", '"30000–32767" is not a range; write 30000-32767'),
        ("nodePortRange: 30000_32767", "30000_32767 is a number, not a range; write FIRST-LAST, such as 30000-32767"),
    ],
)  # fmt: skip
def test_the_remedy_is_right_for_the_value_that_was_written(tmp_path: Path, text: str, message: str) -> None:
    key = text.partition(":")[0]
    assert told(tmp_path, f"# a comment\n\n{text}\n") == [f"3: {key}: {message}"]


@pytest.mark.parametrize(
    "text", ["masqueradeBit: 0o17", "masqueradeBit: 0xF", "masqueradeBit: 15", "masqueradeBit: +15"]
)
def test_numbers_that_nobody_reads_otherwise_are_taken(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, text), {}).masquerade_bit == 15


def test_each_wrong_item_of_a_list_is_told_with_its_line_and_index(tmp_path: Path) -> None:
    text = (
        "store: /s\nclusterCIDRs:\n- 10.0.0.0/8\n- fd00::\n- 7\n-\n- {a: b}\n- [10.0.0.0/8]\n- x, y\nownRoutes: [z]\n"
    )
    assert told(tmp_path, text) == [
        "4: clusterCIDRs[1]: a mapping stands where a network belongs; to YAML fd00:: is one without quotes, and "
        '"fd00::" has no prefix length; write fd00::/16 (or fd00::/128 for this one address)',
        f"5: clusterCIDRs[2]: 7 is a number, not a network; {NETWORK}",
        f"6: clusterCIDRs[3]: nothing is given; {NETWORK}, or leave it out",
        f"7: clusterCIDRs[4]: a mapping stands where a network belongs; {NETWORK}",
        "8: clusterCIDRs[5]: a list stands where a network belongs; write 10.0.0.0/8 alone",
        f'9: clusterCIDRs[6]: "x" is not a network; {NETWORK}',
        f'9: clusterCIDRs[6]: "y" is not a network; {NETWORK}',
        f'10: ownRoutes[0]: "z" is not a network; {NETWORK}',
    ]


def test_wrong_items_are_counted_from_some_number_on(tmp_path: Path) -> None:
    lines = told(tmp_path, "trustedChains:\n" + "- x\n" * 5000 + "clusterCIDRs: [" + "a," * 5000 + "]\n")
    assert len(lines) == 2 * (MOST_TOLD + 1)
    assert lines[MOST_TOLD] == "12: … and 4,990 more of this kind"
    assert lines[-1] == "5002: … and 4,990 more of this kind"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nodePortAddress", "nodePortAddresses"),
        ("NodePortRange", "nodePortRange"),
        ("clusterCIDR", "clusterCIDRs"),
        ("cluster-cidr", "clusterCIDRs"),
        ("service_cidrs", "serviceCIDRs"),
        ("masqueradebit", "masqueradeBit"),
        ("externalIps", "externalIPs"),
        ("healthzBindAdress", "healthzBindAddress"),
        ("sync-period", "syncPeriod"),
        ("Store", "store"),
    ],
)
def test_a_slip_in_a_key_names_the_one_that_was_meant(tmp_path: Path, name: str, meant: str) -> None:
    assert told(tmp_path, f"store: /s\n{name}: x\n") == [f"2: {name}: unknown key; did you mean {meant}?"]


def test_where_no_key_is_near_all_are_named(tmp_path: Path) -> None:
    (line,) = told(tmp_path, "apiVersion: v1\n")
    assert line == f"1: apiVersion: unknown key; known are {', '.join(sorted(KEYS))}"


def test_json_has_lines_as_well(tmp_path: Path) -> None:
    assert told(tmp_path, '{"masqueradeBit": "14",\n "clusterCIDRs": [\n  "10.0.0.0/8",\n  7]}') == [
        '1: masqueradeBit: "14" is text; write 14',
        f"4: clusterCIDRs[1]: 7 is a number, not a network; {NETWORK}",
    ]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("healthzBindAddress: [::1]:10256", "put what has colons, as fd00::, in quotes"),
        ("clusterCIDRs: fd00::", "put IPv6 addresses in quotes"),
        ("clusterCIDRs: [::1/128]", "put what has colons, as fd00::, in quotes"),
        ("clusterCIDRs: [10.0.0.0/8, fd00:1::]", "put what has colons, as fd00::, in quotes"),
        ("podInterface: @cni", "put a text that begins like this in quotes"),
        ("podInterface: `cni`", "put a text that begins like this in quotes"),
        ("externalIPs: *", "put a text that begins like this in quotes"),
    ],
)
def test_what_is_no_yaml_for_want_of_quotes(tmp_path: Path, text: str, advice: str) -> None:
    (line,) = told(tmp_path, f"store: /s\n{text}\n")
    assert re.fullmatch(f"2: .*; {re.escape(advice)}", line)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", 'healthzBindAddress: "[::1]:1', "t: 12:30:\n  - x\n :"])
def test_other_faults_get_no_wrong_advice(tmp_path: Path, text: str) -> None:
    assert not any("in quotes" in line for line in told(tmp_path, text))


# --- flags, and keys that do not go together ---------------------------------------------------------------------


def test_a_problem_of_a_flag_names_the_flag_after_those_of_the_file(tmp_path: Path) -> None:
    lines = told(
        tmp_path,
        "masqueradeAll: 1\nmasqueradeBit: 99\n",
        clusterCIDRs=["10.244.1.0", "10.0.0.0/8,x"],
        masqueradeBit=32,
        validate="stict",
    )
    assert lines == [
        "1: masqueradeAll: 1 is neither true nor false; write true",
        '--cluster-cidr: "10.244.1.0" has no prefix length; write 10.244.1.0/24 (or 10.244.1.0/32 for this one '
        "address)",
        f'--cluster-cidr: "x" is not a network; {NETWORK}',
        "--masquerade-bit: 32 is not a bit of the packet mark; choose a number from 0 to 31",
        '--validate: "stict" is not a level; choose one of strict, warn, ignore; did you mean strict?',
    ]


def test_the_flags_are_those_of_the_command_line_and_of_the_documentation() -> None:
    declared = {option for options in flags_by_command().values() for option in options}
    assert {key.flag for key in KEYS.values()} - declared == {""}
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Za-z]+)` \| (?:`(--[a-z-]+)`)?", page, re.MULTILINE))
    assert {name: rows.get(name) for name in KEYS} == {name: key.flag for name, key in KEYS.items()}


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        (
            "store: /s\ndetectLocalMode: BridgeInterface\n",
            {},
            "2: detectLocalMode: BridgeInterface looks for podInterface, which is missing; add it, such as cni0",
        ),
        (
            "syncPeriod: 5\n\nminSyncPeriod: 10s\n",
            {},
            "3: minSyncPeriod: 10 s is longer than syncPeriod, 5 s (FILE:1); choose a shorter one",
        ),
        (
            "syncPeriod: 5\nminSyncPeriod: 1\n",
            {"minSyncPeriod": "10s"},
            "--min-sync-period: 10 s is longer than syncPeriod, 5 s (FILE:1); choose a shorter one",
        ),
        (
            "minSyncPeriod: 10\n",
            {"syncPeriod": "5s"},
            "1: minSyncPeriod: 10 s is longer than syncPeriod, 5 s (--sync-period); choose a shorter one",
        ),
        (
            "metricsBindAddress: '[::1]:1'\nhealthzBindAddress: '[::1]:1'\n",
            {},
            "1: metricsBindAddress: [::1]:1 is healthzBindAddress as well (FILE:2); "
            "choose another port for one of them",
        ),
        (
            "healthzBindAddress: 127.0.0.1:10249\n",
            {},
            "1: healthzBindAddress: 127.0.0.1:10249 is metricsBindAddress as well (the default); "
            "choose another port for one of them",
        ),
        (
            "healthzBindAddress: 127.0.0.1:1\n",
            {"metricsBindAddress": "127.0.0.1:1"},
            "--metrics-bind-address: 127.0.0.1:1 is healthzBindAddress as well (FILE:1); "
            "choose another port for one of them",
        ),
    ],
)
def test_keys_that_do_not_go_together(tmp_path: Path, text: str, flags: dict[str, object], message: str) -> None:
    assert [line.replace(f"({tmp_path}/config.yaml:", "(FILE:") for line in _raw(tmp_path, text, flags)] == [
        message if message.startswith("--") else f"{tmp_path}/config.yaml:{message}"
    ]


def _raw(tmp_path: Path, text: str, flags: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), flags)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "text",
    ["detectLocalMode: NodeCIDR\npodInterface: 'a b'\n", "detectLocalMode: BridgeInterface\npodInterface: [x, y]\n"],
)
def test_a_key_that_is_wrong_by_itself_is_told_once(tmp_path: Path, text: str) -> None:
    (line,) = told(tmp_path, text)
    assert line.startswith("2: podInterface: ")


def test_where_a_value_is_from(tmp_path: Path) -> None:
    """For what is found out later; it makes no configuration another one."""
    path = write(tmp_path, "store: /s\nmasqueradeBit: 3\n")
    config = load_config(path, {"masqueradeBit": 5})
    assert config.places == {"store": f"{path}:1", "masqueradeBit": "--masquerade-bit"}
    assert config == load_config(write(tmp_path, "\n\nmasqueradeBit: 5\nstore: /s\n"), {})


def test_of_a_key_that_is_given_twice_the_last_counts_and_that_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "masqueradeBit: 1\nmasqueradeBit: 3\n")
    config = load_config(path, {})
    assert config.masquerade_bit == 3
    assert config.warnings == (
        f'{path}:2: key "masqueradeBit" is given twice in one mapping (also on line 1); the last one counts',
    )
