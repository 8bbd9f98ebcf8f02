"""What kube-proxy has left is found and removed, in nftables and in both iptables, and nobody else's rule (W5)."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from lab.cluster import Cluster
from nodeport_nft.config import Config
from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.takeover import Takeover
from nodeport_nft.kernel.host.kube_proxy.ipvs import find_ipvs, remove_ipvs
from nodeport_nft.kernel.host.kube_proxy.legacy import find_legacy, remove_legacy
from nodeport_nft.kernel.host.kube_proxy.nftables import find_nft
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import PortRange

if TYPE_CHECKING:
    from nodeport_nft.daemon.node import ThisNode
    from nodeport_nft.daemon.telling import Report

NAT = """*nat
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-MARK-DROP - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SVL-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-EXT-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SVCX - [0:0]
:CNI-OTHER - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m comment --comment "no -j KUBE-SERVICES here" -j CNI-OTHER
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A CNI-OTHER -p tcp -m tcp --dport 1 -j RETURN
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination {endpoint}
-A KUBE-SERVICES -d {vip} -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m tcp --dport 30010 -j KUBE-EXT-AAAAAAAAAAAAAAAA
-A KUBE-EXT-AAAAAAAAAAAAAAAA -j KUBE-MARK-MASQ
-A KUBE-EXT-AAAAAAAAAAAAAAAA -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -m statistic --mode random --probability 0.5 -j KUBE-SEP-AAAAAAAAAAAAAAAA
COMMIT
"""
FILTER = """*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-FIREWALL
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -d {node} -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
"""
ADDRESSES = {
    "ip": {"vip": "10.96.0.10/32", "endpoint": "10.244.1.2:8080", "node": "192.0.2.1/32"},
    "ip6": {"vip": "fd00::a/128", "endpoint": "[fd00:244:1::2]:8080", "node": "2001:db8::1/128"},
}
KEPT = ("KUBE-KUBELET-CANARY", "KUBE-MARK-DROP", "KUBE-FIREWALL", "KUBE-IPTABLES-HINT", "KUBE-SVCX", "CNI-OTHER")


def program(family: str, backend: str) -> str:
    return f"{'ip6' if family == 'ip6' else 'ip'}tables-{backend}"


def load(cluster: Cluster, family: str, backend: str, more: str = "") -> None:
    text = (NAT + FILTER).format(**ADDRESSES[family]) + more
    cluster.run("worker-1", [f"{program(family, backend)}-restore"], text=text)


def saved(cluster: Cluster, family: str, backend: str) -> list[str]:
    """The chains and rules, without counters and what is empty."""
    text = cluster.run("worker-1", [f"{program(family, backend)}-save"]).stdout
    return [line.split(" [")[0] for line in text.splitlines() if line[:1] in ":-"]


def left(lines: list[str]) -> list[str]:
    """What of these has to stay."""
    return [line for line in lines if "KUBE-" not in line or any(name in line for name in KEPT)]


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Cluster]:
    """worker-1, from which the rules of the old iptables are taken as well in the end."""
    yield cluster
    for family in ADDRESSES:
        for table in ("nat", "filter", "mangle") if has_legacy(cluster) else ():
            for words in (["-F"], ["-X"]):
                cluster.run("worker-1", [program(family, "legacy"), "-t", table, *words])


def has_legacy(cluster: Cluster) -> bool:
    """Whether this system has the old iptables, and its kernel the tables for it."""
    return bool(shutil.which("iptables-legacy")) and not any(
        cluster.run("worker-1", [program(family, "legacy"), "-S"], check=False).returncode for family in ADDRESSES
    )


@pytest.mark.proves("W5")
def test_what_todays_iptables_has_goes_in_one_transaction(node: Cluster) -> None:
    for family in ADDRESSES:
        load(node, family, "nft")
    node.nft("worker-1", "table ip kube-proxy { chain c { } ; }; table ip6 kube-proxy-of-others { }")
    before = {family: saved(node, family, "nft") for family in ADDRESSES}

    def remove() -> tuple[list[str], list[str], bool]:
        found = find_nft()
        Nft().remove_others(found.messages())
        return list(found), list(found.others()), bool(find_nft())

    told, others, again = node.call("worker-1", remove)
    assert told == ["table ip kube-proxy", "32 chains of iptables"]
    assert (others, again) == ([], False)
    for family, lines in before.items():
        assert saved(node, family, "nft") == left(lines)
    assert "kube-proxy-of-others" in node.ruleset("worker-1")


@pytest.mark.proves("W5")
def test_what_the_old_iptables_has_goes_by_its_own_programs(node: Cluster) -> None:
    if not has_legacy(node):
        pytest.skip("there is no iptables-legacy here")
    for family in ADDRESSES:
        load(node, family, "legacy")
    before = {family: saved(node, family, "legacy") for family in ADDRESSES}

    def remove() -> tuple[list[str], bool]:
        found = find_legacy()
        for each in found:
            remove_legacy(each)
        return [word for each in found for word in each], any(find_legacy())

    told, again = node.call("worker-1", remove)
    assert told == ["16 chains of iptables-legacy", "16 chains of ip6tables-legacy"]
    assert not again
    for family, lines in before.items():
        assert saved(node, family, "legacy") == left(lines)


@pytest.mark.proves("W5")
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_a_chain_that_somebody_elses_leads_to_stays_with_all_that_it_needs(node: Cluster, backend: str) -> None:
    if backend == "legacy" and not has_legacy(node):
        pytest.skip("there is no iptables-legacy here")
    load(node, "ip", backend)
    rule = "-A CNI-OTHER -j KUBE-EXT-AAAAAAAAAAAAAAAA"
    node.run("worker-1", [program("ip", backend), "-t", "nat", *rule.split()])

    def remove() -> list[str]:
        if backend == "nft":
            nft = find_nft()
            Nft().remove_others(nft.messages())
            return list(nft.others())
        (found,) = (each for each in find_legacy() if each.family == "ip")
        remove_legacy(found)
        return list(found.others())

    (told,) = node.call("worker-1", remove)
    assert "KUBE-EXT-AAAAAAAAAAAAAAAA" in told
    assert told.endswith("CNI-OTHER leads to it; remove that rule, or ask whoever made it")
    after = "\n".join(saved(node, "ip", backend))
    for chain in ("EXT-A", "SVC-A", "SEP-A", "MARK-MASQ"):
        assert f":KUBE-{chain}" in after
    assert rule in after
    for chain in ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING"):
        assert f":{chain} " not in after


def test_a_node_without_any_of_it_is_told_so(node: Cluster) -> None:
    def found() -> bool:
        return bool(find_nft() or any(find_legacy()) or find_ipvs(PortRange(30000, 32767)))

    assert not node.call("worker-1", found)


class Told:
    """A report that keeps what is told of kube-proxy."""

    def __init__(self) -> None:
        self.now: list[str] = []
        self.removed: list[str] = []

    def problems(self, where: str, problems: Iterable[str], failed: Iterable[str] = ()) -> None:
        assert where == "kube-proxy"
        self.now = [*problems, *failed]

    def kube_proxy_removed(self, what: tuple[str, ...]) -> None:
        self.removed += what


def looked(node: Cluster, config: Config, refused: Collection[str] = ()) -> tuple[list[str], list[str], list[str]]:
    """What one look tells, what it removes, and what a second one tells."""

    def work() -> tuple[list[str], list[str], list[str]]:
        told, tables = Told(), KernelTables("/run/nodeport-nft")
        with closing(tables):
            takeover = Takeover(tables, cast("ThisNode", SimpleNamespace(config=config)), cast("Report", told))
            takeover.look(refused)
            first = told.now
            takeover.look(refused)
        return first, told.removed, told.now

    return node.call("worker-1", work)


@pytest.mark.proves("W5")
def test_in_kube_proxys_place_what_it_has_left_is_told_without_the_flag(node: Cluster) -> None:
    load(node, "ip", "nft")
    config = Config(store="kubernetes:")
    first, removed, then = looked(node, config)
    assert first == then
    assert first == [
        "kube-proxy has left 16 chains of iptables, which comes first for new connections where it was written after "
        "ours; add --replace-kube-proxy, or run kube-proxy --cleanup, once none runs here any more"
    ]
    assert removed == []
    assert looked(node, replace(config, store="/var/lib/nodeport-nft/store.db")) == ([], [], [])
    assert looked(node, replace(config, replace_kube_proxy=True)) == ([], ["16 chains of iptables"], [])


@pytest.mark.proves("W5")
def test_rules_that_stay_are_read_once_and_their_end_is_seen(node: Cluster) -> None:
    """Which are a hundred thousand for 10,000 Services, and the daemon does nothing else meanwhile."""
    load(node, "ip", "nft")
    config = Config(store="kubernetes:")

    def work() -> list[tuple[int, bool]]:
        told, tables, found = Told(), KernelTables("/run/nodeport-nft"), []
        dumps = 0

        def called(frame: FrameType, event: str, _argument: object) -> None:
            nonlocal dumps
            dumps += event == "call" and frame.f_code.co_name == "_going"

        with closing(tables):
            takeover = Takeover(tables, cast("ThisNode", SimpleNamespace(config=config)), cast("Report", told))
            for is_end in (False, False, True, False):
                dumps = 0
                if is_end:
                    Nft().remove_others(find_nft().messages())  # somebody else
                sys.setprofile(called)
                takeover.look()
                sys.setprofile(None)
                found.append((dumps, bool(told.now)))
        return found

    first, *others = node.call("worker-1", work)
    assert first[0] > 0
    assert first[1]
    assert others == [(0, True), (0, False), (0, False)]


@pytest.mark.proves("W5")
def test_what_may_serve_a_service_that_the_kernel_refuses_from_us_stays(node: Cluster) -> None:
    load(node, "ip", "nft")
    first, removed, then = looked(node, Config(store="kubernetes:", replace_kube_proxy=True), ["default/web"])
    assert first == then
    assert first == [
        "kube-proxy has left 16 chains of iptables, which stays as long as the kernel refuses 1 Service of ours: see "
        "what is told of them"
    ]
    assert removed == []


@pytest.mark.proves("W5")
def test_a_chain_that_has_to_stay_is_told_from_then_on(node: Cluster) -> None:
    load(node, "ip", "nft")
    node.run("worker-1", ["iptables-nft", "-t", "nat", "-A", "CNI-OTHER", "-j", "KUBE-MARK-MASQ"])
    first, removed, then = looked(node, Config(replace_kube_proxy=True))
    assert removed == ["15 chains of iptables"]
    assert first == then
    assert first == [
        "chain KUBE-MARK-MASQ of table ip nat is kube-proxy's and stays: CNI-OTHER leads to it; remove that rule, or "
        "ask whoever made it"
    ]


@pytest.mark.proves("W5")
def test_ipsets_and_the_link_of_ipvs_go_and_nobody_elses(node: Cluster) -> None:
    """Its virtual servers need a kernel with ipvs; the link may be of any kind here."""
    node.run("worker-1", ["ip", "link", "add", "kube-ipvs0", "type", "bridge"])
    node.run("worker-1", ["ip", "address", "add", "10.96.0.1/32", "dev", "kube-ipvs0"])

    def work() -> tuple[list[str], list[str], bool]:
        from pyroute2 import IPSet

        with IPSet() as sets:
            for name in ("KUBE-CLUSTER-IP", "KUBE-6-LOAD-BALANCER-SOURCE-CID", "KUBE-OTHER", "mine"):
                sets.create(name, stype="hash:ip")
            found = find_ipvs(PortRange(30000, 32767))
            told = list(found)
            remove_ipvs(found)
            kept = sorted(each.get_attr("IPSET_ATTR_SETNAME") for each in sets.list())
            for name in kept:
                sets.destroy(name)
        return told, kept, bool(find_ipvs(PortRange(30000, 32767)))

    assert node.call("worker-1", work) == (["link kube-ipvs0", "2 ipsets"], ["KUBE-OTHER", "mine"], False)
