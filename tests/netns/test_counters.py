"""Connections per Service, counted by the kernel and told over netlink (X3)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from threading import Thread

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect_many
from nodeport_nft.compile import TABLE
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.counters import ChangingError, read_counters
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import EndpointSlice, Family, Service, Snapshot
from nodeport_nft.observe.connections import Connections, Wanted
from nodeport_nft.plan import Add, Delete, Replace, Transaction, plan_edits, plan_replacement
from nodeport_nft.reconcile import NodeTables
from nodeport_nft.resolve import Resolver
from nodeport_nft.ruleset import Element, Goto, Key
from tests.builders import make_endpoint, make_port, make_service, make_slice
from tests.by_text import run_text
from tests.netns.kernel import facts

NODE = "worker-1"
PODS = ("web-1", "web-3")
PROTOCOLS = ("TCP", "UDP")
WEB = make_service(
    "web",
    make_port(80, name="tcp", node_port=30080),
    make_port(80, name="udp", node_port=30080, protocol="UDP"),
    ips=("10.96.0.10", "fd00:10:96::a"),
)
CLUSTER_IPS, EXTERNAL_IPS = ("10.96.0.10", "fd00:10:96::a"), ("192.0.2.7", "2001:db8::7")
NODE_IPS = ("172.30.1.2", "fd00:30:1::2")


class Node:
    """worker-1 with what the daemon keeps for it: its tables, and the sums over every change of them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.tables = NodeTables(facts(cluster))
        self.connections = Connections(
            self.read, lambda family, name, key: self.tables.desired[family].holder(name, key)
        )
        self.replace()

    def read(self, family: Family, wanted: Wanted) -> dict[str, dict[Key, int]]:
        with self.cluster.host(NODE).namespace.entered():
            return read_counters(family, wanted)

    def put(self, service: Service, *slices: EndpointSlice) -> tuple[Transaction, ...]:
        resolver = Resolver(Snapshot((service,), slices), NODE)
        self.tables.put(service, resolver.resolved(service).frontends)
        schemas = self.tables.schemas
        return self.apply(
            tuple(t for f in Family for t in plan_edits(schemas[f], self.tables.desired[f].take_edits()))
        )

    def replace(self) -> tuple[Transaction, ...]:
        for desired in self.tables.desired.values():
            desired.take_edits()
        return self.apply(tuple(plan_replacement(self.tables.table(family)) for family in Family))

    def apply(self, transactions: tuple[Transaction, ...]) -> tuple[Transaction, ...]:
        self.connections.before(transactions)
        try:
            self.cluster.call(NODE, lambda: Nft().apply(transactions), timeout=60)
        except KernelError:
            self.connections.refused()
            raise
        self.connections.committed()
        return transactions

    def count(self, service: str = "web") -> int:
        """What a scrape says."""
        (metric,) = self.connections.collect()
        assert self.connections.error == ""
        (value,) = [int(sample.value) for sample in metric.samples if sample.labels["service"] == service]
        return value


def pieces(cluster: Cluster, pods: tuple[str, ...] = PODS) -> tuple[EndpointSlice, ...]:
    """Slices of these pods for both families and both protocols."""
    found = []
    for family in (4, 6):
        endpoints = [make_endpoint(str(cluster.address(pod, family)), node=cluster.host(pod).node) for pod in pods]
        for protocol in PROTOCOLS:
            name = f"web-{family}-{protocol.lower()}"
            ports = {"port": 8080, "port_name": protocol.lower(), "protocol": protocol}
            found.append(make_slice(*endpoints, name=name, **ports))  # type: ignore[arg-type]
    return tuple(found)


def connect_everywhere(cluster: Cluster, source: str, targets: tuple[tuple[str, ...], int], count: int) -> int:
    """Connections of both protocols to an address of each family; how many reached a pod."""
    reached = 0
    cluster.run(NODE, ["conntrack", "-F"])  # a UDP flow from a port that one had before it would be none to count
    for protocol in PROTOCOLS:
        for address in targets[0]:
            outcomes = connect_many(cluster, source, (address, targets[1]), protocol, count)
            reached += sum(outcome.kind is Kind.REACHED for outcome in outcomes)
    return reached


CASES: dict[str, tuple[Service, tuple[tuple[str, tuple[str, ...], int], ...]]] = {
    "plain": (
        WEB,
        (
            ("web-2", CLUSTER_IPS, 80),
            (NODE, CLUSTER_IPS, 80),
            ("client", NODE_IPS, 30080),
            ("web-1", NODE_IPS, 30080),
        ),
    ),
    "policy Local": (
        replace(WEB, external_traffic_policy="Local", external_ips=tuple(map(ip_address, EXTERNAL_IPS))),
        (
            ("client", NODE_IPS, 30080),  # from outside
            ("web-2", NODE_IPS, 30080),  # from inside, which goes the short way
            (NODE, NODE_IPS, 30080),
            ("web-2", EXTERNAL_IPS, 80),
            (NODE, EXTERNAL_IPS, 80),
            ("web-2", CLUSTER_IPS, 80),
        ),
    ),
    "affinity": (
        replace(WEB, session_affinity_seconds=600),
        (("web-2", CLUSTER_IPS, 80), ("client", NODE_IPS, 30080), (NODE, NODE_IPS, 30080)),
    ),
    "affinity and policy Local": (
        replace(WEB, session_affinity_seconds=600, external_traffic_policy="Local"),
        (("client", NODE_IPS, 30080), ("web-2", NODE_IPS, 30080), (NODE, NODE_IPS, 30080)),
    ),
    "source ranges": (
        replace(
            WEB,
            load_balancer_ips=tuple(map(ip_address, EXTERNAL_IPS)),
            load_balancer_source_ranges=(ip_network("10.244.1.0/24"), ip_network("fd00:244:1::/64")),
            node_port_source_ranges=(ip_network("172.30.0.0/24"), ip_network("fd00:30::/64")),
        ),
        (("client", NODE_IPS, 30080), ("web-2", EXTERNAL_IPS, 80), ("web-2", CLUSTER_IPS, 80)),
    ),
}


@pytest.mark.proves("X3")
@pytest.mark.parametrize("case", CASES)
def test_each_connection_is_counted_once_by_whatever_way(cluster: Cluster, case: str) -> None:
    service, ways = CASES[case]
    node = Node(cluster)
    node.put(service, *pieces(cluster))
    total = 0
    for source, addresses, port in ways:
        reached = connect_everywhere(cluster, source, (addresses, port), 5)
        assert reached == 5 * len(PROTOCOLS) * len(addresses)
        total += reached
        assert node.count() == total, f"from {source} to {addresses}"


@pytest.mark.proves("X3")
def test_who_may_not_connect_is_not_counted(cluster: Cluster) -> None:
    node = Node(cluster)
    node.put(CASES["source ranges"][0], *pieces(cluster))
    outcomes = connect_many(cluster, "web-3", (NODE_IPS[0], 30080), "UDP", 3, timeout=0.5)
    assert {outcome.kind for outcome in outcomes} == {Kind.SILENT}
    assert node.count() == 0
    firewall = node.read(Family.IPV4, {"firewall-node-ports": None})["firewall-node-ports"]
    assert firewall["udp", 30080] == 3


@pytest.mark.proves("X3")
def test_sums_outlive_every_replacement(cluster: Cluster) -> None:
    node = Node(cluster)
    total = 0

    def connect(source: str = "client", addresses: tuple[str, ...] = NODE_IPS, port: int = 30080) -> None:
        nonlocal total
        total += connect_everywhere(cluster, source, (addresses, port), 3)
        assert node.count() == total

    def change(pods: tuple[str, ...]) -> set[str]:
        changed = node.put(WEB, *pieces(cluster, pods))
        assert node.count() == total
        operations = [operation for transaction in changed for operation in transaction.operations]
        assert not any(isinstance(operation, Replace) for operation in operations)
        return {operation.map for operation in operations if isinstance(operation, Delete)}

    change(("web-1", "web-2"))
    connect()
    connect("web-2", CLUSTER_IPS, 80)
    assert total == 24
    # Another chain: the verdict elements are others.
    assert change(("web-1", "web-2", "web-3")) >= {"service-ips", "node-ports"}
    connect()
    assert change(()) >= {"service-ips", "node-ports"}
    assert connect_everywhere(cluster, "client", (NODE_IPS, 30080), 1) == 0
    total = node.count()  # an attempt that is refused is counted as well
    assert total == 40
    change(("web-1", "web-3"))
    connect()
    node.replace()
    assert sum(sum(counts.values()) for counts in node.read(Family.IPV4, {"node-ports": None}).values()) == 0
    assert node.count() == total
    connect()
    cluster.nft(NODE, "flush ruleset")
    assert node.count() == total
    node.replace()
    connect()


@pytest.mark.proves("X3")
def test_a_transaction_that_the_kernel_refuses_is_not_counted_twice(cluster: Cluster) -> None:
    node = Node(cluster)
    node.put(WEB, *pieces(cluster))
    connect_everywhere(cluster, "client", (NODE_IPS, 30080), 2)
    key: Key = ("tcp", 30080)
    bad = Add("node-ports", (Element(key, Goto("no-such-chain")),))
    with pytest.raises(KernelError, match="nftables refused the transaction"):
        node.apply((Transaction("ip", TABLE, (Delete("node-ports", (key,)), bad)),))
    assert node.count() == 8


KEYS: dict[Family, list[Key]] = {
    Family.IPV4: [(str(ip_address("10.97.0.0") + i), "udp" if i % 3 else "sctp", i + 1) for i in range(6000)],
    Family.IPV6: [(str(ip_address("fd00:10:97:0:1::") + i**5), "tcp", 65535 - i) for i in range(6000)],
}


@pytest.mark.proves("X3")
@pytest.mark.parametrize("family", Family)
def test_a_large_map_is_read_as_a_whole_and_key_by_key(cluster: Cluster, family: Family) -> None:
    node = Node(cluster)
    keys = KEYS[family]
    wanted = {"service-ips": None, "node-ports": None}
    elements = tuple(Element(key, Goto("refuse"), "default/web") for key in keys)
    node.apply((Transaction(f"ip{6 if family is Family.IPV6 else ''}", TABLE, (Add("service-ips", elements),)),))
    assert node.read(family, wanted) == {"service-ips": dict.fromkeys(keys, 0), "node-ports": {}}
    other = keys[0][0], "udp", 9999
    mixed = [key for index in range(0, 300, 3) for key in (keys[index], (*other[:2], 10000 + index))]
    found = node.read(family, {"service-ips": mixed})["service-ips"]
    assert found == dict.fromkeys(keys[0:300:3], 0)


@pytest.mark.proves("X3")
def test_the_keys_of_every_form_of_address_are_those_of_the_ruleset(cluster: Cluster) -> None:
    addresses = ("::", "::1", "::ffff:1.2.3.4", "::1.2.3.4", "64:ff9b::1.2.3.4", "2001:db8:0:1:1:1:1:1", "1:0:0:2::3")
    keys: list[Key] = [(str(ip_address(address)), "tcp", 443) for address in addresses]
    node = Node(cluster)
    elements = tuple(Element(key, Goto("refuse")) for key in keys)
    node.apply((Transaction("ip6", TABLE, (Add("short-circuit-ips", elements),)),))
    assert node.read(Family.IPV6, {"short-circuit-ips": None})["short-circuit-ips"].keys() == set(keys)
    assert node.read(Family.IPV6, {"short-circuit-ips": keys})["short-circuit-ips"].keys() == set(keys)


@pytest.mark.proves("X3")
def test_what_is_not_there_is_left_out(cluster: Cluster) -> None:
    key: Key = ("tcp", 30080)

    def read(wanted: dict[str, list[Key] | None]) -> dict[str, dict[Key, int]]:
        with cluster.host(NODE).namespace.entered():
            return read_counters(Family.IPV4, wanted)

    assert read({"node-ports": None, "service-ips": [("10.0.0.1", "tcp", 1)]}) == {
        "node-ports": {},
        "service-ips": {},
    }
    cluster.nft(NODE, f"add table ip {TABLE}")
    assert read({"node-ports": None}) == read({"node-ports": [key]}) == {"node-ports": {}}


@pytest.mark.proves("X3")
def test_without_the_capability_it_says_what_is_missing(cluster: Cluster) -> None:
    Node(cluster)
    script = (
        "from nodeport_nft.kernel.netlink.counters import read_counters\n"
        "from nodeport_nft.errors import KernelError\n"
        "from nodeport_nft.model import Family\n"
        "try:\n    read_counters(Family.IPV4, {'node-ports': None})\n"
        "except KernelError as error:\n    print(error)\n"
    )
    argv = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", script]
    said = cluster.run(NODE, argv).stdout
    assert said.startswith(f"the counters of ip {TABLE} cannot be read: nftables needs CAP_NET_ADMIN")


@pytest.mark.proves("X3")
def test_a_dump_between_commits_is_whole_or_none(cluster: Cluster) -> None:
    """While commits add and delete one element, the others are all there in each reading, or none is given."""
    node = Node(cluster)
    keys = KEYS[Family.IPV4][:3000]
    node.apply((Transaction("ip", TABLE, (Add("service-ips", tuple(Element(k, Goto("refuse")) for k in keys)),)),))
    given = interrupted = 0
    for _ in range(12):  # a slow machine reads little in one of them
        churning = Thread(target=lambda: cluster.call(NODE, churn(5.0), timeout=60))
        churning.start()
        while churning.is_alive():
            try:
                found = node.read(Family.IPV4, {"service-ips": None})["service-ips"]
            except ChangingError:
                interrupted += 1
            else:
                assert found.keys() >= set(keys)
                given += 1
            assert node.read(Family.IPV4, {"service-ips": keys})["service-ips"].keys() == set(keys)
        churning.join()
        if given + interrupted > 10:
            break
    assert given + interrupted > 10


def churn(seconds: float) -> Callable[[], int]:
    def run() -> int:
        nft, commits, deadline = Nft(), 0, time.monotonic() + seconds
        while time.monotonic() < deadline:
            keys = [f"10.98.{commits % 7}.{n} . tcp . 80" for n in range(50)]
            run_text(
                nft,
                f"add element ip {TABLE} service-ips {{ {', '.join(f'{key} : goto refuse' for key in keys)} }}",
            )
            run_text(nft, f"delete element ip {TABLE} service-ips {{ {', '.join(keys)} }}")
            commits += 2
            time.sleep(0.002)
        return commits

    return run
