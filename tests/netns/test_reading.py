"""What is read over netlink is what nft lists, whoever wrote the table and whatever has become of it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from lab.namespaces import Namespace
from nodeport_nft.compile import TABLE, compile_schema
from nodeport_nft.kernel.netlink import tables
from nodeport_nft.kernel.netlink.layouts import GETSETELEM, LIST_SET, LIST_TABLE, Layout
from nodeport_nft.kernel.netlink.messages import ACK, DUMP, attribute, message
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, NodeFacts, Snapshot
from nodeport_nft.plan import ListedTable, Transaction, diff, plan_replacement
from nodeport_nft.reconcile import compile_snapshot, stale_frontends
from nodeport_nft.render import write_transaction
from nodeport_nft.ruleset import Element, Key, Schema, Table
from tests.builders import FACTS, make_port, make_service, make_slice
from tests.listings.read import read_table
from tests.property.test_netlink_messages import nodes
from tests.unit.test_kept import CASES, state_of

SCHEMA = compile_schema(Family.IPV4, FACTS)
STICKY = replace(
    make_service("web", make_port(80, node_port=30080)),
    session_affinity_seconds=600,
    external_traffic_policy="Local",
)


@dataclass(frozen=True)
class Node:
    """A network namespace with no table in it, and what programs it."""

    namespace: Namespace
    nft: Nft

    def run(self, *commands: str, text: str | None = None) -> str:
        with self.namespace.entered():
            done = subprocess.run(["nft", *commands], input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load(self, text: str) -> None:
        self.run("-f", "-", text=text)

    def apply(self, transactions: tuple[Transaction, ...]) -> None:
        with self.namespace.entered():
            self.nft.apply(transactions)

    def read(self, schema: Schema) -> ListedTable:
        """Over netlink; the text says the same, as far as it says it."""
        read = self.nft.list_table(schema)
        text = read_table(self.run("list", "table", schema.family, schema.name), schema)
        assert read is not None
        assert bool(read.differences) == bool(text.differences), (read.differences, text.differences)
        if not any("unknown element" in difference for difference in (*read.differences, *text.differences)):
            assert {name: dict(held) for name, held in read.elements.items()} == {
                name: {_numbered(key): element._replace(key=_numbered(key)) for key, element in held.items()}
                for name, held in text.elements.items()
            }
        assert (read.own_maps, read.own_chains) == (text.own_maps, text.own_chains)
        assert read.unreadable == text.unreadable
        remembered = {
            name: [(memory.key, memory.timeout) for memory in sorted(held)] for name, held in read.memories.items()
        }
        assert remembered == {n: [(m.key, m.timeout) for m in sorted(held)] for n, held in text.memories.items()}
        return read


def _numbered(key: Key) -> Key:
    """Protocols that are none of ours have no names here."""
    return tuple("1" if part == "icmp" else part for part in key)


@pytest.fixture
def node() -> Iterator[Node]:
    namespace = Namespace()
    try:
        with namespace.entered():
            nft = Nft()
        yield Node(namespace, nft)
        nft.close()
    finally:
        namespace.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_is_read_as_listed_whoever_wrote_it(node: Node, case: Path, tmp_path: Path) -> None:
    snapshot, facts = state_of(case, tmp_path)
    for as_text in (False, True):
        made = compile_snapshot(snapshot, facts).tables
        written = made.first_transaction()
        if as_text:
            node.load("".join(map(write_transaction, written)))
        else:
            node.apply(written)
        read = {family: node.read(made.schemas[family]) for family in Family}
        assert [held.differences for held in read.values()] == [(), ()]
        for family, table in zip(Family, made.tables(), strict=True):
            assert not diff(read[family].table(table.schema), table)
        assert compile_snapshot(snapshot, facts, read).tables.first_transaction() == ()


def test_the_tables_of_every_kind_of_node_are_read_whoever_wrote_them(node: Node) -> None:
    kinds = [facts for facts in nodes() if not facts.flowtable]  # which not every kernel has
    assert len(kinds) == 16
    for number, facts in enumerate(kinds):
        family = (Family.IPV4, Family.IPV6)[number % 2]
        schema = compile_schema(family, facts)
        replacement = plan_replacement(Table(schema))
        node.load(write_transaction(replacement))
        assert node.read(schema).differences == ()
        node.apply((replacement,))
        assert node.read(schema).differences == ()
        other = compile_schema(family, kinds[number - 1])
        assert node.read(other).differences != ()


def loaded(node: Node) -> tuple[Transaction, ...]:
    """A node with a Service that has chains and sets of its own, and a client that is remembered."""
    made = compile_snapshot(Snapshot((STICKY,), (make_slice("10.244.1.1", "10.244.1.2"),)), FACTS).tables
    written = made.first_transaction()
    node.apply(written)
    return written


def learned(node: Node) -> str:
    return next(name for name in node.read(SCHEMA).own_maps if name.startswith("affinity"))


OWN = f"ip {TABLE}"
DAMAGE = {
    "a table that is off": f"add table {OWN} {{ flags dormant; }}",
    "a rule more": f"add rule {OWN} services drop",
    "a rule with a comment": f'add rule {OWN} services drop comment "x"',
    "a rule of another kind": f"add rule {OWN} services limit rate 1/second log counter drop",
    "a rule with a set": f"add rule {OWN} services ip saddr {{ 1.2.3.4, 1.2.3.6 }} drop",
    "a rule less": f"flush chain {OWN} refuse",
    "a chain more": f"add chain {OWN} strange",
    "a base chain more": f"add chain {OWN} strange {{ type filter hook input priority 0; }}",
    "another policy": f"add chain {OWN} nat-output {{ policy drop; }}",
    "a set more": f"add set {OWN} strange {{ type ipv4_addr; }}",
    "a map more": f"add map {OWN} strange {{ type ipv4_addr : verdict; }}",
    "a counter": f"add counter {OWN} strange",
    "a quota": f"add quota {OWN} strange {{ over 1 mbytes; }}",
    "a set of ours of another type": f"add set {OWN} firewall/default/x {{ type inet_service; flags interval; }}",
    "a chain of a service's": f"add chain {OWN} firewall/default/x; add rule {OWN} firewall/default/x accept",
    "a base chain of a service's": f"add chain {OWN} firewall/x {{ type filter hook input priority 0; }}",
    "an empty set of a service's": f"add set {OWN} firewall/default/x {{ typeof ip saddr; flags interval; "
    'comment "sources that may connect"; }',
    "an element more": f"add element {OWN} cluster-ips {{ 10.96.9.9 }}",
    "another verdict": f"add element {OWN} service-ips {{ 10.96.9.9 . tcp . 80 : drop }}",
    "a verdict that returns": f"add element {OWN} service-ips {{ 10.96.9.9 . sctp . 80 : jump refuse }}",
    "a protocol of others": f"add element {OWN} service-ips {{ 10.96.9.9 . icmp . 80 : goto refuse }}",
    "a long comment": f'add element {OWN} service-ips {{ 10.96.9.9 . udp . 1 comment "{"x" * 120}" : goto refuse }}',
    "a prefix": f"add element {OWN} service-cidrs {{ 192.0.2.0/24, 192.0.3.0/24, 198.51.100.7, 240.0.0.0/4 }}",
    "a prefix up to the last address": f"flush set {OWN} pod-cidrs; add element {OWN} pod-cidrs {{ 240.0.0.0/4 }}",
    "no prefix": f"add element {OWN} service-cidrs {{ 192.0.2.1-192.0.2.2 }}",
    "nothing": "list tables",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_somebody_has_changed_is_read_as_listed_and_mended(node: Node, damage: str) -> None:
    loaded(node)
    before = node.read(SCHEMA)
    node.load(DAMAGE[damage])
    after = node.read(SCHEMA)
    snapshot = Snapshot((STICKY,), (make_slice("10.244.1.1", "10.244.1.2"),))
    listed: dict[Family, ListedTable | None] = {Family.IPV4: after, Family.IPV6: None}
    repair = compile_snapshot(snapshot, FACTS, listed).tables
    node.apply(repair.first_transaction())
    assert stale_frontends(snapshot, repair, listed, ())
    mended = node.read(SCHEMA)
    assert mended.differences == mended.unreadable == ()
    assert not diff(mended.table(SCHEMA), before.table(SCHEMA))
    changed = after.differences or after.unreadable or diff(after.table(SCHEMA), before.table(SCHEMA))
    assert bool(changed) == (damage != "nothing")


@pytest.mark.parametrize(
    ("replaced", "by", "told"),
    [
        ("\t\tflags interval\n\t\tcomment", "\t\tflags interval\n\t\tauto-merge\n\t\tcomment", "map or set"),
        ("\t\tcomment \"the pod network\"\n", "", "map or set pod-cidrs"),
        ("\t\tcounter\n", "", "map or set"),
        ("\t\tcomment \"no endpoint, or no such port\"\n", "", "chain refuse"),
        ("priority -100;", "priority -99;", "chain nat-"),
        ("schema ", "schema 0", "the table's comment"),
        ("mod 8 ", "mod 9 ", "chain"),
        ("jump firewall\n", "goto firewall\n", "chain nat-"),
    ],
)  # fmt: skip
def test_another_declaration_is_named(node: Node, replaced: str, by: str, told: str) -> None:
    text = write_transaction(plan_replacement(Table(SCHEMA)))
    assert replaced in text
    node.load(text.replace(replaced, by))
    assert any(difference.startswith(told) for difference in node.read(SCHEMA).differences)


def test_how_large_a_map_may_grow_is_no_difference(node: Node) -> None:
    text = write_transaction(plan_replacement(Table(SCHEMA)))
    node.load(text.replace('\t\tcomment "slot to endpoint"\n', '\t\tsize 100000\n\t\tcomment "slot to endpoint"\n'))
    read = node.nft.list_table(SCHEMA)
    assert read is not None
    assert read.differences == ()


@pytest.fixture
def all_maps_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGE", 1)


def many_kinds(directory: Path) -> Iterator[tuple[Snapshot, NodeFacts]]:
    """Pools of each kind; one is asked for in several portions."""
    for case in CASES:
        if case.name.startswith(("X7", "P2", "P7", "F4", "F9")):
            yield state_of(case, directory)
    ends = [f"10.244.{number >> 8}.{number & 255}" for number in range(200)]
    yield Snapshot((make_service("web", make_port(80, node_port=30080)),), (make_slice(*ends),)), FACTS


@pytest.mark.usefixtures("all_maps_are_large")
def test_a_large_map_is_read_by_its_keys_and_whole(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []
    by_keys = tables._Reading._slots

    def noted(reading: tables._Reading, layout: Layout) -> Mapping[Key, Element] | None:
        held = by_keys(reading, layout)
        if layout.has_slots and reading._counts[layout.name]:
            found.append(held is not None)
        return held

    monkeypatch.setattr(tables._Reading, "_slots", noted)
    for snapshot, facts in many_kinds(tmp_path):
        made = compile_snapshot(snapshot, facts).tables
        node.apply(made.first_transaction())
        read = {family: node.read(made.schemas[family]) for family in Family}
        assert compile_snapshot(snapshot, facts, read).tables.first_transaction() == ()
    assert all(found)  # none where the kernel does not say how many elements there are
    if not found:
        return
    strays = "{ 10.96.9.9 . tcp . 80 . 0 : 10.0.0.1 . 80, 10.96.0.10 . tcp . 80 . 999 : 10.0.0.1 . 80 }"
    node.load(f"add element {OWN} service-endpoints {strays}")
    held = node.read(SCHEMA).elements["service-endpoints"]
    assert found[-2:] == [False, True]  # the other map has all that it should have
    assert {("10.96.9.9", "tcp", 80, 0), ("10.96.0.10", "tcp", 80, 999)} <= held.keys()


@pytest.mark.usefixtures("all_maps_are_large")
def test_a_kernel_that_does_not_count_is_asked_for_everything(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SET_COUNT", 0x3FFF)  # which no kernel tells; older ones do not count
    loaded(node)
    name = learned(node)
    node.load(f"add element {OWN} {name} {{ 192.0.2.1 timeout 1h }}")
    read = node.read(SCHEMA)
    assert read.differences == ()
    assert len(read.elements["service-ips"]) > 0
    assert [memory.key for memory in read.memories[name]] == [("192.0.2.1",)]


@pytest.mark.usefixtures("all_maps_are_large")
def test_where_sockets_hold_little_a_large_map_is_read_all_the_same(node: Node) -> None:
    """As where net.core.rmem_default is small."""
    ends = [f"10.244.0.{number}" for number in range(200)]
    snapshot = Snapshot((make_service("web", make_port(80)),), (make_slice(*ends),))
    node.apply(compile_snapshot(snapshot, FACTS).tables.first_transaction())
    node.nft._reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel's least is some 2 KiB
    assert len(node.read(SCHEMA).elements["service-endpoints"]) == 200


def test_what_is_left_of_an_answer_is_not_taken_for_the_next(node: Node) -> None:
    """Whoever asked has run out of memory, say, before it was read."""
    loaded(node)
    before = node.read(SCHEMA)
    naming = attribute(LIST_TABLE, TABLE.encode() + b"\0") + attribute(LIST_SET, b"service-ips\0")
    for flags in (ACK, DUMP):
        node.nft._reader.send(message(GETSETELEM, flags, socket.AF_INET, naming))
        assert not diff(node.read(SCHEMA).table(SCHEMA), before.table(SCHEMA))


@pytest.mark.usefixtures("all_maps_are_large")
@pytest.mark.parametrize(
    "damage",
    [
        f"delete element {OWN} service-endpoints {{ 10.96.0.10 . tcp . 80 . 0 }}",
        f"flush map {OWN} service-endpoints",
        f"delete element {OWN} service-ips {{ 10.96.0.10 . tcp . 80 }}",
        f"flush map {OWN} service-ips",
    ],
)
def test_a_large_map_that_somebody_has_changed(node: Node, damage: str) -> None:
    snapshot = Snapshot((make_service("web", make_port(80)),), (make_slice("10.244.1.1", "10.244.1.2"),))
    node.apply(compile_snapshot(snapshot, FACTS).tables.first_transaction())
    node.load(damage)
    read = {Family.IPV4: node.read(SCHEMA), Family.IPV6: node.nft.list_table(compile_schema(Family.IPV6, FACTS))}
    node.apply(compile_snapshot(snapshot, FACTS, read).tables.first_transaction())
    read = {Family.IPV4: node.read(SCHEMA), Family.IPV6: node.nft.list_table(compile_schema(Family.IPV6, FACTS))}
    assert compile_snapshot(snapshot, FACTS, read).tables.first_transaction() == ()


def test_what_a_set_has_learned_is_read(node: Node) -> None:
    loaded(node)
    name = learned(node)
    node.load(f"add element {OWN} {name} {{ 192.0.2.1 timeout 1h expires 30m, 192.0.2.2 timeout 90s500ms }}")
    one, two = sorted(node.read(SCHEMA).memories[name])
    assert (one.key, one.timeout) == (("192.0.2.1",), 3_600_000)
    assert 1_700_000 < one.expires <= 1_800_000
    assert (two.key, two.timeout) == (("192.0.2.2",), 90_500)


def test_no_table_and_one_of_another_family(node: Node) -> None:
    assert node.nft.list_table(SCHEMA) is None
    node.load(f"add table inet {TABLE}; add table ip {TABLE}-2; add chain ip {TABLE}-2 services")
    assert node.nft.list_table(SCHEMA) is None
    node.apply((plan_replacement(Table(SCHEMA)),))
    assert node.read(SCHEMA).differences == ()
