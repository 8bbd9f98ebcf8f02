"""What the kernel makes of our transactions: atomic, read back as written, blind to the number of services."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from ipaddress import ip_address
from threading import Thread

import pytest

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect, connect_many
from nodeport_nft.compile import compile_schema
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import EndpointSlice, Family, Service, Snapshot
from nodeport_nft.plan import Add, Delete, Replace, Transaction
from nodeport_nft.reconcile import compile_snapshot, read_tables, removal
from nodeport_nft.resolve import Resolver
from nodeport_nft.ruleset import Element, Goto
from tests.builders import FACTS, make_port, make_service, make_slice
from tests.netns.kernel import facts, slices_of, sync, written

NODE_IP = "172.30.1.2"
WEB = make_service("web", make_port(80, node_port=30080), ips=("10.96.0.10", "fd00:10:96::a"))
WEB_SLICES = (
    make_slice("10.244.1.1", "10.244.1.2", "10.244.2.1"),
    make_slice("fd00:244:1::1", "fd00:244:2::1", name="web-6"),
)


def normal(listing: str) -> list[str]:
    """A listing without counters and without the kernel's order of elements."""
    return sorted(re.sub(r" counter packets \d+ bytes \d+", "", line).strip(" \t,}") for line in listing.splitlines())


@pytest.mark.proves("K4")
def test_a_second_sync_writes_nothing(cluster: Cluster) -> None:
    assert written(sync(cluster, (WEB,), WEB_SLICES)) > 0
    before = cluster.ruleset("worker-1")
    assert sync(cluster, (WEB,), WEB_SLICES) == ()
    assert cluster.ruleset("worker-1") == before


@pytest.mark.proves("K7")
def test_names_of_any_length_load_and_read_back(cluster: Cluster) -> None:
    service = make_service("s" * 63, make_port(80, name="p" * 63))
    piece = make_slice("10.244.1.1", service="s" * 63, port_name="p" * 63)
    sync(cluster, (service,), (piece,))
    assert sync(cluster, (service,), (piece,)) == ()


TABLE = "ip nodeport-nft"
ELEMENTS = (
    f"delete element {TABLE} service-endpoints {{ 10.96.0.10 . tcp . 80 . 1 }}",
    f"delete element {TABLE} service-ips {{ 10.96.0.10 . tcp . 80 }}",
    f"add element {TABLE} service-ips {{ 10.96.0.11 . tcp . 80 : drop }}",
    f"add element {TABLE} service-endpoints {{ 10.96.0.10 . tcp . 80 . 3 : 192.0.2.1 . 80 }}",
    f"add element {TABLE} node-ports {{ icmp . 0 : accept }}",
    f"flush map {TABLE} node-ports",
    f"flush set {TABLE} node-port-ips",
    f"delete element {TABLE} service-cidrs {{ 10.96.0.0/12 }}",
    f"add element {TABLE} pod-cidrs {{ 192.0.2.0/24 }}",
    f"delete element {TABLE} node-ports {{ tcp . 30080 }}; "
    f'add element {TABLE} node-ports {{ tcp . 30080 comment "default/web" : goto refuse }}',
)
RULES = (
    f"add rule {TABLE} services counter",
    f"insert rule {TABLE} service/4 drop",
    f"flush chain {TABLE} nat-postrouting",
    f"add chain {TABLE} stranger",
    f"add set {TABLE} stranger {{ type ipv4_addr; }}",
    f"add counter {TABLE} stranger",
    f"delete table {TABLE}",
    f"delete table {TABLE}; add table {TABLE}",
    f"delete table {TABLE}; add table {TABLE}; "
    f"add map {TABLE} service-ips {{ type ipv4_addr : verdict; }}; add chain {TABLE} c; "
    f"add element {TABLE} service-ips {{ 10.0.0.1 : goto c }}",
)


@pytest.mark.proves("K8")
@pytest.mark.parametrize("damage", [*ELEMENTS, *RULES])
def test_damage_is_repaired_in_one_transaction(cluster: Cluster, damage: str) -> None:
    sync(cluster, (WEB,), WEB_SLICES)
    whole = normal(cluster.ruleset("worker-1"))
    cluster.nft("worker-1", damage.replace("; add", "\nadd"))
    assert normal(cluster.ruleset("worker-1")) != whole
    repair = sync(cluster, (WEB,), WEB_SLICES)
    assert normal(cluster.ruleset("worker-1")) == whole
    assert len(repair) == 1, "the other family's table is left alone"
    kinds = {type(operation) for operation in repair[0].operations}
    assert kinds <= {Add, Delete} if damage in ELEMENTS else kinds == {Replace}


@pytest.mark.proves("K3")
def test_k3_tables_of_others_stay_byte_for_byte(cluster: Cluster) -> None:
    others = (
        "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n"
        "\t\tcounter packets 7 bytes 8\n\t}\n}\n"
        "table ip kube-proxy {\n\tset x {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1 }\n\t}\n}\n"
        "table ip6 nodeport-nft-2 {\n}\n"
    )

    def foreign() -> list[str]:
        tables = ("inet filter", "ip kube-proxy", "ip6 nodeport-nft-2")
        return [cluster.run("worker-1", ["nft", "-a", "list", "table", *table.split()]).stdout for table in tables]

    cluster.nft("worker-1", others)
    before = foreign()
    sync(cluster, (WEB,), WEB_SLICES)
    sync(cluster, (), ())

    def remove() -> None:
        nft = Nft()
        nft.apply(removal(nft))

    cluster.call("worker-1", remove)
    assert foreign() == before
    assert "table ip nodeport-nft {" not in cluster.ruleset("worker-1")


@pytest.mark.proves("K1")
def test_k1_a_transaction_is_taken_whole_or_not_at_all(cluster: Cluster) -> None:
    sync(cluster, (WEB,), WEB_SLICES)
    before = cluster.ruleset("worker-1")
    good = Add("cluster-ips", (Element(("10.96.0.99",)),))
    bad = Add("service-ips", (Element(("10.96.0.99", "tcp", 80), Goto("no-such-chain")),))

    def attempt() -> str:
        try:
            Nft().apply((Transaction("ip", "nodeport-nft", (good, bad)),))
        except KernelError as error:
            return str(error)
        return ""

    error = cluster.call("worker-1", attempt)
    assert error.startswith("nftables refused the transaction; nothing was changed:\n")
    assert cluster.ruleset("worker-1") == before


@pytest.mark.proves("K1")
def test_a_bulk_transaction_is_loaded_and_refused_alike(cluster: Cluster) -> None:
    keys = [("10.97.0.1", "tcp", port) for port in range(1, 30001)]
    good = Add("service-ips", tuple(Element(key, Goto("refuse"), "default/web") for key in keys))
    bad = Add("service-ips", (*good.elements, Element(("10.97.0.2", "tcp", 1), Goto("no-such-chain"))))
    sync(cluster, (), ())

    def attempt(add: Add) -> str:
        transaction = Transaction("ip", "nodeport-nft", (add,))
        try:
            Nft().apply((transaction,))
        except KernelError as error:
            return str(error)
        return ""

    before = cluster.ruleset("worker-1")
    assert cluster.call("worker-1", lambda: attempt(bad)).startswith("nftables refused the transaction")
    assert cluster.ruleset("worker-1") == before
    assert cluster.call("worker-1", lambda: attempt(good)) == ""
    assert cluster.ruleset("worker-1").count("default/web") == len(keys)


def many(count: int) -> tuple[tuple[Service, ...], tuple[EndpointSlice, ...]]:
    """Services with 0 to 9 endpoints, and one in 200 with 300: the same mix for any count."""
    services, slices = [], []
    first, pods = ip_address("10.96.1.0"), ip_address("10.244.0.0")
    for i in range(count):
        endpoints = 300 if i % 200 == 0 else i % 10
        services.append(make_service(f"s{i}", make_port(80, node_port=20000 + i), ips=(str(first + i),)))
        slices.append(make_slice(*(str(pods + j) for j in range(endpoints)), service=f"s{i}", name=f"s{i}"))
    return tuple(services), tuple(slices)


@pytest.mark.proves("X1")
def test_chains_and_rules_do_not_grow_with_services(cluster: Cluster) -> None:
    shapes = []
    for count in (1_000, 10_000):
        services, slices = many(count)
        sync(cluster, services, slices)
        listing = cluster.run("worker-1", ["nft", "-t", "list", "table", "ip", "nodeport-nft"]).stdout
        chains = listing.count("\tchain ")
        rules = listing[listing.index("\tchain ") :].count("\n\t\t")
        shapes.append((chains, rules))
        frontends = cluster.run("worker-1", ["nft", "list", "map", "ip", "nodeport-nft", "service-ips"]).stdout
        assert frontends.count(" : goto ") == count
    assert shapes[0] == shapes[1]
    assert shapes[0][0] == len(compile_schema(Family.IPV4, FACTS).chains)


@pytest.mark.proves("X1")
@pytest.mark.parametrize("before", [0, 1, 2, 3, 4, 5, 8, 16, 31, 64, 100, 255, 256, 299, 300])
def test_one_endpoint_more_is_a_bounded_number_of_operations(cluster: Cluster, before: int) -> None:
    """Also for a number of endpoints that no service had: then, too, it is elements only, in one transaction."""
    pods = [str(ip_address("10.244.0.0") + j) for j in range(301)]
    sync(cluster, (WEB,), (make_slice(*pods[:before]),))
    (more,) = sync(cluster, (WEB,), (make_slice(*pods[: before + 1]),))
    (less,) = sync(cluster, (WEB,), (make_slice(*pods[1 : before + 1]),))
    for transaction in (more, less):
        assert {type(operation) for operation in transaction.operations} <= {Add, Delete}
        assert transaction.size <= 10


@pytest.mark.proves("F1")
def test_connections_are_spread_evenly(cluster: Cluster) -> None:
    """Chi-square with a bound that chance exceeds less than once in a million runs (4 and 2 degrees of freedom)."""
    ports = (8080, 9090)
    for pods, bound in ((("web-1", "web-2", "web-3"), 27.6), (("web-1", "web-2", "web-3", "tester"), 40.0)):
        slices = [slices_of(cluster, pods, port=port) for port in ports][: 1 if len(pods) == 3 else 2]
        chosen = (*slices, slices_of(cluster, ("web-1",), port=9090))[: len(slices)]
        sync(cluster, (WEB,), chosen)
        outcomes = connect_many(cluster, "client", (NODE_IP, 30080), count=3000)
        found = Counter((o.name, o.to_port) for o in outcomes if o.kind is Kind.REACHED)
        expected = 3000 / (len(pods) * len(slices))
        assert len(found) == len(pods) * len(slices)
        assert sum((n - expected) ** 2 / expected for n in found.values()) < bound


def test_no_connection_goes_astray_while_a_service_shrinks_and_grows(cluster: Cluster) -> None:
    """Every commit lands between some packets' look-ups; a lost SYN is sent again after a second."""
    pods = ("web-1", "web-2", "web-3", "tester")
    known = facts(cluster)

    def slices(count: int) -> tuple[EndpointSlice, ...]:
        first, second = pods[:count], pods[: max(0, count - len(pods))]
        return slices_of(cluster, first), slices_of(cluster, second, port=9090)

    def churn() -> int:
        nft = Nft()
        programme = compile_snapshot(Snapshot((WEB,), slices(8)), known, read_tables(nft, known))
        nft.apply(programme.tables.first_transaction())
        commits = 0
        for _ in range(150):
            for count in (3, 2, 1, 2, 4, 5, 4, 8, 7, 3, 5, 1, 8):
                resolver = Resolver(Snapshot((WEB,), slices(count)), known.name)
                programme.tables.put(WEB, resolver.resolved(WEB).frontends)
                nft.apply(programme.tables.transaction(programme.tables.take_edits()))
                commits += 1
        return commits

    sync(cluster, (WEB,), slices(8))
    done: list[int] = []
    churning = Thread(target=lambda: done.append(cluster.call("worker-1", churn, timeout=600)))
    churning.start()
    kinds: Counter[Kind] = Counter()
    while churning.is_alive():
        for source, destination in (("client", (NODE_IP, 30080)), ("web-1", ("10.96.0.10", 80))):
            outcomes = connect_many(cluster, source, destination, count=1000)
            kinds.update(outcome.kind for outcome in outcomes)
    churning.join()
    assert done == [150 * 13]
    assert kinds[Kind.REACHED] > 2000
    assert set(kinds) == {Kind.REACHED}


@pytest.mark.proves("K2")
def test_an_established_connection_outlives_its_endpoint(cluster: Cluster) -> None:
    """Rules see first packets only: what is established goes on, whatever becomes of the service."""
    sync(cluster, (WEB,), (slices_of(cluster, ("web-1",)),))
    with cluster.socket("client", socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect((NODE_IP, 30080))
        stream = connection.makefile("rwb", buffering=0)
        assert json.loads(stream.readline())["name"] == "web-1"
        sync(cluster, (), ())
        assert connect(cluster, "client", (NODE_IP, 30080)).kind is Kind.REFUSED
        stream.write(b"still there?\n")
        assert b"still there?" in stream.readline()


@pytest.mark.proves("F10")
def test_f10_a_contested_frontend_passes_to_the_next_claimant(cluster: Cluster) -> None:
    old = make_service("old", created="2025-01-01T00:00:00Z")
    young = make_service("young", created="2026-01-01T00:00:00Z")
    slices = (
        slices_of(cluster, ("web-2",), service="old"),
        slices_of(cluster, ("web-3", "tester"), service="young"),
    )
    for services, reached in (
        ((young,), {"web-3", "tester"}),
        ((young, old), {"web-2"}),
        ((young,), {"web-3", "tester"}),
    ):
        sync(cluster, services, slices)
        outcomes = connect_many(cluster, "web-1", ("10.96.0.10", 80), count=40)
        assert {outcome.name for outcome in outcomes} == reached


@pytest.mark.proves("P6")
def test_p6_the_mark_is_off_the_packet_before_it_leaves(cluster: Cluster) -> None:
    """Others' bits stay, ours is set on the way in and cleared in postrouting."""
    cluster.nft(
        "worker-1",
        "table ip test {\n"
        "  chain before { type filter hook prerouting priority -300; meta mark set 0x10002; }\n"
        "  chain marked { type filter hook postrouting priority 0; ct state new meta mark 0x14002 counter; }\n"
        "  chain after { type filter hook postrouting priority 300; ct state new meta mark 0x10002 counter; }\n}\n",
    )
    sync(cluster, (WEB,), (slices_of(cluster, ("web-3",)),))
    assert connect(cluster, "client", (NODE_IP, 30080)).kind is Kind.REACHED
    counted = re.findall(
        r"counter packets (\d+)", cluster.run("worker-1", ["nft", "list", "table", "ip", "test"]).stdout
    )
    assert counted == counted[:1] * 2
    assert int(counted[0]) > 0, "one, but where it was answered so late that it was sent again"


@pytest.mark.proves("X3")
def test_x3_counters_count_connections(cluster: Cluster) -> None:
    sync(cluster, (WEB,), (slices_of(cluster, ("web-1", "web-3")),))
    connect_many(cluster, "client", (NODE_IP, 30080), count=50)
    connect_many(cluster, "web-2", ("10.96.0.10", 80), count=20)

    def counted(name: str) -> list[int]:
        listing = cluster.run("worker-1", ["nft", "list", "map", "ip", "nodeport-nft", name]).stdout
        return [int(number) for number in re.findall(r"counter packets (\d+)", listing)]

    assert counted("node-ports") == [50]
    assert counted("service-ips") == [20]
    assert sum(counted("service-endpoints")) == 20
    assert len(counted("node-port-endpoints")) == 2
    assert sum(counted("node-port-endpoints")) == 50


def test_the_schema_is_the_same_for_both_families() -> None:
    four, six = (compile_schema(family, FACTS) for family in Family)
    assert [chain.name for chain in four.chains] == [chain.name for chain in six.chains]
    assert four.maps == six.maps
