"""Elements written over netlink are those that libnftables would have written, and are refused where it refuses."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from nodeport_nft.compile import COMMENT_LIMIT, TABLE, compile_schema
from nodeport_nft.compile.schema import collapsed
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.batch import BatchWriter
from nodeport_nft.kernel.netlink.transactions import encode
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, IPNetwork, Protocol, Service, Snapshot
from nodeport_nft.plan import Add, AddMap, Delete, Operation, Remember, Transaction, diff, plan_replacement
from nodeport_nft.reconcile import compile_snapshot, read_tables
from nodeport_nft.render import write_transaction
from nodeport_nft.ruleset import Element, Goto, Key, Memory, Table, Value
from tests.builders import FACTS
from tests.by_text import run_text
from tests.netns.kernel import generation
from tests.netns.test_differential import random_snapshot

RAW, TEXT = "worker-1", "worker-2"
FAMILIES = ("ip", "ip6")
ADDRESS = {"ip": "10.96.0.1", "ip6": "fd00:10:96::1"}
OTHER = {"ip": "10.244.1.1", "ip6": "fd00:244:1::1"}
REFUSE = Goto("refuse")
MANY = 50_000


@dataclass(frozen=True)
class Node:
    """A node of the lab and a context in it, for this process to use."""

    cluster: Cluster
    name: str
    nft: Nft

    def listing(self) -> str:
        """Both tables as nft lists them, without counters, which packets of the lab may have moved."""
        return "".join(
            self.cluster.run(self.name, ["nft", "-s", "list", "table", family, TABLE]).stdout for family in FAMILIES
        )

    def apply(self, transactions: Iterable[Transaction]) -> int:
        with self.cluster.host(self.name).namespace.entered():  # what is large and no element goes through a child
            return self.nft.apply(transactions)

    def write_text(self, transactions: Iterable[Transaction]) -> None:
        for late in (False, True):
            if text := "".join(write_transaction(t) for t in transactions if t.late is late):
                run_text(self.nft, text)

    def state(self) -> tuple[int, str]:
        return generation(self.cluster, self.name), self.listing()


def make_node(cluster: Cluster, name: str) -> Node:
    with cluster.host(name).namespace.entered():
        return Node(cluster, name, Nft())


@pytest.fixture
def nodes(cluster: Cluster) -> tuple[Node, Node]:
    """Both with empty tables of ours."""
    found = make_node(cluster, RAW), make_node(cluster, TEXT)
    for node in found:
        node.write_text(plan_replacement(Table(compile_schema(family, FACTS))) for family in Family)
    return found


@pytest.fixture
def raw(nodes: tuple[Node, Node]) -> Node:
    return nodes[0]


def transaction(family: str, *operations: Operation, late: bool = False) -> Transaction:
    return Transaction(family, TABLE, operations, late)


def plain(service: Service, chance: random.Random) -> Service:
    """The same without what takes chains and sets of its own, and at times with other protocols and long names."""
    ports = tuple(
        replace(
            port,
            name=chance.choice((port.name, "p" * 63)) if len(service.ports) == 1 else port.name,
            protocol=chance.choice((port.protocol, Protocol.SCTP)) if len(service.ports) == 1 else port.protocol,
        )
        for port in service.ports
    )
    return replace(
        service,
        namespace="default",
        ports=ports,
        session_affinity_seconds=0,
        load_balancer_source_ranges=(),
        node_port_source_ranges=(),
    )


@pytest.mark.parametrize("seed", range(8))
def test_random_changes_list_as_those_of_libnftables(cluster: Cluster, nodes: tuple[Node, Node], seed: int) -> None:
    chance = random.Random(seed)
    raw, text = nodes
    encoded = 0
    for _ in range(5):
        snapshot = random_snapshot(chance, cluster)
        services = tuple(plain(service, chance) for service in snapshot.services)
        tables = compile_snapshot(Snapshot(services, snapshot.slices), FACTS, read_tables(raw.nft, FACTS)).tables
        # What lingers is deleted by the transaction after that.
        for transactions in (tables.first_transaction(), tables.transaction(tables.take_edits())):
            phases = [[t for t in transactions if t.late is late] for late in (False, True)]
            encoded += sum(encode(phase) is not None for phase in phases)
            assert raw.apply(transactions) == sum(any(phase) for phase in phases)
            text.write_text(transactions)
            assert raw.listing() == text.listing()
        for family, table in zip(Family, tables.tables(), strict=True):
            held = raw.nft.list_table(tables.schemas[family])
            assert held is not None
            assert held.unreadable == ()
            assert not diff(held.table(tables.schemas[family]), table)
    assert encoded >= 5


def values(family: str, chance: random.Random) -> dict[str, Value]:
    """A value for each map that has single keys."""
    endpoint = (OTHER[family], chance.randrange(1, 65536))
    maps = [m for m in compile_schema(Family.IPV4, FACTS).maps if not m.interval]
    verdict = Goto(chance.choice(("refuse", "service/1", "node-port-external/4096", "no-local-endpoint")))
    return {m.name: verdict if m.data == "verdict" else endpoint if m.data else None for m in maps}


def random_key(family: str, name: str, chance: random.Random) -> Key:
    """A key of a map, with the least and the largest of each kind now and then."""
    declared = next(m for m in compile_schema(Family.IPV4, FACTS).maps if m.name == name)
    kind = IPv4Address if family == "ip" else IPv6Address
    bits = 32 if family == "ip" else 128

    def part(field: str) -> str | int:
        match field:
            case "SADDR" | "DADDR":
                number = chance.choice((0, 1, (1 << bits) - 1, chance.getrandbits(bits), chance.getrandbits(bits)))
                return str(kind(number))
            case "L4PROTO":
                return chance.choice(("tcp", "udp", "sctp"))
            case "DPORT":
                return chance.choice((1, 255, 256, 65535, chance.randrange(1, 65536)))
            case _:
                return chance.choice((0, 1, 255, 256, 32768, 65535, chance.randrange(65536)))

    return tuple(part(field.name) for field in declared.key)


PRINTABLE = "".join(chr(number) for number in range(32, 127) if chr(number) != '"')
COMMENTS = ("", "default/web:http", "x" * COMMENT_LIMIT, "a", PRINTABLE, "ä→" * 20, "\\", "$x @y # z { } ;")


@pytest.mark.parametrize("family", FAMILIES)
def test_any_key_value_and_comment_is_listed_as_from_libnftables(nodes: tuple[Node, Node], family: str) -> None:
    chance = random.Random(family)
    raw, text = nodes
    for name in values(family, chance):
        keys = sorted({random_key(family, name, chance) for _ in range(60)})
        elements = tuple(
            Element(key, values(family, chance)[name], COMMENTS[i % len(COMMENTS)]) for i, key in enumerate(keys)
        )
        gone = transaction(family, Delete(name, tuple(keys[::3])))
        again = transaction(family, Add(name, elements[:1]))
        for change in (transaction(family, Add(name, elements)), gone, again):
            assert encode([change]) is not None
            assert raw.apply([change]) == 1
            text.write_text([change])
        assert raw.listing() == text.listing()
        held = raw.nft.list_table(compile_schema(Family.IPV4 if family == "ip" else Family.IPV6, FACTS))
        assert held is not None
        assert set(held.elements[name].values()) == set(elements) - set(elements[3::3])


def test_both_families_go_in_one_commit_and_the_late_ones_in_another(raw: Node) -> None:
    before = generation(raw.cluster, raw.name)
    adding = [transaction(f, Add("cluster-ips", (Element((ADDRESS[f],)),))) for f in FAMILIES]
    deleting = [transaction(f, Delete("cluster-ips", ((ADDRESS[f],),)), late=True) for f in FAMILIES]
    assert raw.apply(adding + deleting) == 2
    assert generation(raw.cluster, raw.name) == before + 2
    assert ADDRESS["ip"] not in raw.listing()
    assert raw.apply(adding) == 1
    assert all(address in raw.listing() for address in ADDRESS.values())


def test_an_element_of_the_same_key_and_value_may_be_added_again(nodes: tuple[Node, Node]) -> None:
    again = transaction("ip", Add("cluster-ips", (Element(("10.96.0.1",), None, "one"),)))
    for _ in range(2):
        nodes[0].apply([again])
        nodes[1].write_text([again])
    assert nodes[0].listing() == nodes[1].listing()


def vip(host: int, value: Goto = REFUSE) -> Element:
    return Element((f"10.96.0.{host}", "tcp", 80), value)


SLOT = Element(("10.96.0.1", "tcp", 80, 0), ("10.244.1.1", 8080))
THERE = transaction("ip", Add("service-ips", (vip(1),)), Add("service-endpoints", (SLOT,)))
FILLING = tuple(vip(host) for host in range(2, 250))
REFUSED: dict[str, tuple[Operation, str]] = {
    "another verdict": (
        Add("service-ips", (*FILLING, vip(1, Goto("service/1")))),
        "add 10.96.0.1 . tcp . 80 to ip nodeport-nft service-ips: File exists",
    ),
    "another endpoint": (
        Add("service-endpoints", (SLOT._replace(value=("10.244.1.2", 8080)),)),
        "add 10.96.0.1 . tcp . 80 . 0 to ip nodeport-nft service-endpoints: File exists",
    ),
    "no such element": (
        Delete("service-ips", (vip(1).key, vip(250).key)),
        "delete 10.96.0.250 . tcp . 80 from ip nodeport-nft service-ips: No such file or directory",
    ),
    "no such chain": (
        Add("service-ips", (*FILLING, vip(250, Goto("service/3")))),
        "add 10.96.0.250 . tcp . 80 to ip nodeport-nft service-ips: No such file or directory",
    ),
    "a loop of chains": (
        Add("service-ips", (vip(250, Goto("services")),)),
        "add 10.96.0.250 . tcp . 80 to ip nodeport-nft service-ips: Too many l",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_libnftables_refuses_is_refused_and_nothing_is_changed(nodes: tuple[Node, Node], case: str) -> None:
    operation, words = REFUSED[case]
    raw, text = nodes
    # Other operations around it, in both families: all of them or none.
    beside = Add("cluster-ips", (Element(("10.96.0.9",)),))
    beside6 = Add("cluster-ips", (Element(("fd00:10:96::9",)),))
    refused = [transaction("ip6", beside6), transaction("ip", beside, operation, Add("service-ips", (vip(251),)))]
    assert encode(refused) is not None
    for node in nodes:
        node.apply([THERE])
    before = raw.state()
    with pytest.raises(KernelError) as raised:
        raw.apply(refused)
    assert words in str(raised.value)
    assert "nothing was changed" in str(raised.value)
    with pytest.raises(KernelError):
        text.write_text(refused)
    assert raw.state() == before
    assert raw.apply([transaction("ip", beside)]) == 1
    text.write_text([transaction("ip", beside)])
    assert raw.listing() == text.listing() != before[1]


def test_a_table_that_is_gone(raw: Node) -> None:
    raw.cluster.nft(RAW, f"delete table ip {TABLE}")
    before = generation(raw.cluster, RAW)
    with pytest.raises(KernelError, match=r"ip nodeport-nft service-ips: No such file or directory"):
        raw.apply([THERE])
    assert generation(raw.cluster, RAW) == before
    raw.apply([transaction("ip6", Add("cluster-ips", (Element(("fd00:10:96::9",)),)))])
    assert generation(raw.cluster, RAW) == before + 1


@pytest.fixture
def writer(raw: Node) -> Iterator[BatchWriter]:
    with raw.cluster.host(RAW).namespace.entered():
        yield BatchWriter()


def test_more_errors_than_the_socket_can_hold(raw: Node, writer: BatchWriter) -> None:
    """Answers are lost then, but that a transaction was refused is told, and the socket goes on."""
    writer._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least, 2,304 bytes
    absent = tuple(Delete("cluster-ips", ((f"10.97.{i >> 8}.{i & 255}",),)) for i in range(1000))
    good = encode([THERE])
    batch = encode([THERE, transaction("ip", *absent)])
    assert batch is not None
    assert good is not None
    before = raw.state()
    for _ in range(2):
        with pytest.raises(KernelError, match=r"delete 10\.97\.0\.0 from ip nodeport-nft cluster-ips: No such file"):
            writer.commit(batch)
    assert raw.state() == before
    writer.commit(good)
    assert raw.state() != before


def many() -> list[Transaction]:
    """Elements with comments, in one map and in one set of both families."""
    slots = tuple(
        Element((f"10.96.{i >> 8}.{i & 255}", "tcp", 80, slot), ("10.244.1.1", 8080), f"default/service-{i}:http")
        for i in range(MANY // 10)
        for slot in range(8)
    )
    ips = tuple(Element((str(IPv6Address("fd00:10:96::") + i),), None, f"default/{i}") for i in range(MANY // 5))
    return [transaction("ip", Add("service-endpoints", slots)), transaction("ip6", Add("cluster-ips", ips))]


def test_a_large_batch(raw: Node) -> None:
    transactions = many()
    assert sum(t.size for t in transactions) == MANY
    before = generation(raw.cluster, RAW)
    assert raw.apply(transactions) == 1
    assert generation(raw.cluster, RAW) == before + 1
    # A listing can lack elements while the kernel grows the map's hash table, which it does in the background.
    for _ in range(30):
        read = raw.cluster.call(RAW, lambda: read_tables(Nft(), FACTS), timeout=120)
        if sum(len(held) for listed in read.values() if listed for held in listed.elements.values()) >= MANY:
            break
        time.sleep(1)
    for family, change in zip(Family, transactions, strict=True):
        listed = read[family]
        [operation] = change.operations
        assert listed is not None
        assert isinstance(operation, Add)
        held = set(listed.elements[operation.map].values())
        assert (held - set(operation.elements), set(operation.elements) - held) == (set(), set())
        deleting = transaction(change.family, Delete(operation.map, tuple(e.key for e in operation.elements)))
        raw.apply([deleting])
    assert ADDRESS["ip"] not in raw.listing()


IN_A_USER_NAMESPACE = """
from pathlib import Path
from nodeport_nft.compile import compile_schema
from nodeport_nft.kernel.netlink.transactions import encode
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.errors import KernelError
from nodeport_nft.model import Family
from nodeport_nft.plan import Add, plan_replacement
from nodeport_nft.render import write_transaction
from nodeport_nft.ruleset import Table
from tests.builders import FACTS
from tests.by_text import run_text
from tests.netns.test_elements import many, transaction
nft = Nft()
for family in Family:
    run_text(nft, write_transaction(plan_replacement(Table(compile_schema(family, FACTS)))))
transactions = many()
limit = 2 * int(Path("/proc/sys/net/core/wmem_max").read_text())
transactions *= limit // len(encode(transactions)) + 1
before = run_text(nft, "list ruleset")
try:
    nft.apply(transactions)
except KernelError as error:
    print(error)
assert run_text(nft, "list ruleset") == before
first = transactions[0].operations[0]
few = transaction("ip", Add(first.map, first.elements[:1000]))
assert nft.apply([few]) == 1
assert run_text(nft, "list ruleset") != before
print(limit)
"""


def test_a_batch_that_no_socket_takes() -> None:
    """In a user namespace the limit of the host holds, whoever asks."""
    inside = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", IN_A_USER_NAMESPACE]
    done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    told, limit, _ = done.stdout.rsplit("\n", 2)
    assert "nothing was changed" in told
    assert f"more than the {limit} bytes that may be sent at once in a user namespace" in told
    assert "sysctl net.core.wmem_max=" in told


OWN = "firewall/default/web"


def random_prefix(family: str, chance: random.Random) -> IPNetwork:
    """Of any length, and often at one end of the address space or beside another."""
    bits = 32 if family == "ip" else 128
    length = chance.choice((1, 2, 8, bits - 1, bits, chance.randint(1, bits)))
    number = chance.choice((0, (1 << length) - 1, chance.getrandbits(length), chance.getrandbits(2) % (1 << length)))
    return ip_network((number << bits - length, length))


@pytest.mark.parametrize("family", FAMILIES)
def test_any_interval_is_listed_as_from_libnftables(nodes: tuple[Node, Node], family: str) -> None:
    chance, of = random.Random(family), Family.IPV4 if family == "ip" else Family.IPV6
    raw, text = nodes
    schema = compile_schema(of, FACTS)
    for node in nodes:
        node.apply([transaction(family, AddMap(schema.new_map(OWN)))])
    for name in ("service-cidrs", "pod-cidrs", OWN):
        there: dict[Key, Element] = {}
        for _ in range(6):
            prefixes = collapsed([random_prefix(family, chance) for _ in range(chance.randint(0, 6))], of)
            wanted: dict[Key, Element] = {(prefix,): Element((prefix,)) for prefix in prefixes}
            leaving = tuple(sorted(there.keys() - wanted.keys()))
            coming = tuple(sorted(element for key, element in wanted.items() if key not in there))
            operations: list[Operation] = [Delete(name, leaving)] if leaving else []
            operations += [Add(name, coming)] if coming else []
            if operations:
                change = transaction(family, *operations)
                assert encode([change]) is not None
                raw.apply([change])
                text.write_text([change])
            assert raw.listing() == text.listing()
            held = raw.nft.list_table(schema)
            assert held is not None
            assert held.elements.get(name, {}) == wanted
            there = wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_learned_is_written_as_from_libnftables(nodes: tuple[Node, Node], family: str) -> None:
    own = compile_schema(Family.IPV4 if family == "ip" else Family.IPV6, FACTS).new_map("affinity/default/web/http/1")
    times = ((1_000_000, 999_999), (10_800_000, 10_798_132), (86_400_000 * 30, 86_400_000 * 29), (600_000, 600_000))
    keys = {random_key(family, "cluster-ips", random.Random(seed)) for seed in range(20)}
    memories = tuple(Memory(key, *each) for key, each in zip(sorted(keys), times, strict=False))
    change = transaction(family, Remember(own.name, memories))
    assert encode([change]) is not None
    listings = []
    for node, write in zip(nodes, (Node.apply, Node.write_text), strict=True):
        node.apply([transaction(family, AddMap(own))])
        write(node, [change])
        listings.append(re.sub(r" expires \w+", "", node.listing()))
        held = node.nft.list_table(compile_schema(Family.IPV4 if family == "ip" else Family.IPV6, FACTS))
        assert held is not None
        found = {key: (timeout, left) for key, timeout, left in held.memories[own.name]}
        for key, timeout, left in memories:
            assert found[key][0] == timeout
            assert left - 60_000 < found[key][1] <= left
    assert listings[0] == listings[1]
    assert all(str(memory.key[0]) in listings[0] for memory in memories)


def test_an_element_of_a_protocol_that_is_not_ours_is_deleted(raw: Node) -> None:
    raw.cluster.nft(RAW, f"add element ip {TABLE} node-ports {{ icmp . 0 : accept }}")
    raw.cluster.nft(RAW, f"add element ip {TABLE} node-ports {{ 253 . 7 : accept }}")
    foreign = transaction("ip", Delete("node-ports", (("icmp", 0), ("253", 7))))
    assert raw.apply([THERE, foreign]) == 1
    assert "icmp" not in raw.listing()
    assert "253" not in raw.listing()
    assert "10.96.0.1 . tcp . 80" in raw.listing()
