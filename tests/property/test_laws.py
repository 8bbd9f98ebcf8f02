"""Laws of the planner and the compiler, for any sequence of changes."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.compile import LOCAL_SLOTS
from nodeport_nft.model import EndpointSlice, Family, LoadBalancing, Service, ServiceType, Snapshot
from nodeport_nft.plan import Add, ListedTable, Transaction, diff, plan_edits
from nodeport_nft.reconcile import NodeTables, compile_snapshot
from nodeport_nft.render import write_transaction
from nodeport_nft.resolve import Resolver
from nodeport_nft.ruleset import Element, Elements, Key
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice
from tests.listings.read import read_table, schema_differences
from tests.property.fake import Kernel

MOST_OPERATIONS = 11
"""Element operations of one endpoint more or less, for a service with a clusterIP and a nodePort: in each of the two
maps 2 for the verdict and 3 for the slots (the last one moves into the hole), and 1 for the hairpin connection."""


def filled(elements: Elements) -> dict[str, dict[Key, Element]]:
    """Without the maps that hold nothing."""
    return {name: dict(held) for name, held in elements.items() if held}


def normal(elements: Elements) -> dict[str, object]:
    """Elements without the order of endpoints among their slots, which depends on the past."""
    found: dict[str, object] = {}
    for name, held in filled(elements).items():
        if name.endswith("-endpoints"):
            found[name] = sorted((key[:-1], e.value, e.comment) for key, e in held.items())
            keys = sorted(held)
            assert all(key[-1] in (0, LOCAL_SLOTS) or (*key[:-1], int(key[-1]) - 1) in held for key in keys), (
                "slots are dense"
            )
        else:
            found[name] = sorted(held.values())
    return found


@dataclass(frozen=True)
class Change:
    """Service ``number`` becomes so; no endpoints and no address: it is deleted."""

    number: int
    address: int | None
    node_port: bool
    endpoints: frozenset[int]
    created: str
    policy: str = "Cluster"
    affinity: int = 0
    sources: frozenset[str] = frozenset()
    balancing: LoadBalancing = LoadBalancing.RANDOM
    weight: int = 1

    @property
    def service(self) -> Service:
        port = make_port(80, node_port=30000 + self.number if self.node_port else 0)
        ips = () if self.address is None else (f"10.96.0.{self.address}", f"fd00:10:96::{self.address}")
        service = make_service(f"s{self.number}", port, ips=ips, created=self.created)
        shared = (ip_address("192.0.2.1"),)
        return replace(
            service,
            type=ServiceType.LOAD_BALANCER,
            external_traffic_policy=self.policy,
            internal_traffic_policy=self.policy,
            external_ips=shared if self.number % 2 else (),
            load_balancer_ips=shared if self.number == 2 else (),
            session_affinity_seconds=self.affinity,
            load_balancer_source_ranges=tuple(map(ip_network, sorted(self.sources))),
            node_port_source_ranges=tuple(map(ip_network, sorted(self.sources))),
            load_balancing=self.balancing,
        )

    @property
    def slices(self) -> tuple[EndpointSlice, ...]:
        four = [make_endpoint(f"10.244.0.{i}", node=f"worker-{i % 2 + 1}") for i in self.endpoints]
        six = [make_endpoint(f"fd00:244::{i}", node=f"worker-{i % 2 + 1}") for i in self.endpoints]
        name = f"s{self.number}"
        slices = make_slice(*four, service=name, name=f"{name}-4"), make_slice(*six, service=name, name=f"{name}-6")
        return tuple(replace(piece, weight=self.weight) for piece in slices)


changes = st.builds(
    Change,
    number=st.integers(0, 3),
    address=st.none() | st.integers(1, 3),  # fewer addresses than services: some are contested
    node_port=st.booleans(),
    endpoints=st.frozensets(st.integers(1, 9)),
    policy=st.sampled_from(["Cluster", "Local", "PreferLocal"]),
    affinity=st.sampled_from([0, 0, 60, 10800]),
    sources=st.frozensets(st.sampled_from(["192.0.2.0/24", "10.0.0.0/8", "11.0.0.0/9", "fd00::/16"]), max_size=2),
    balancing=st.sampled_from(LoadBalancing),
    weight=st.integers(0, 3),
    created=st.sampled_from(["", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]),
)


def snapshot(state: dict[int, Change]) -> Snapshot:
    present = [change for change in state.values() if change.address is not None]
    return Snapshot(tuple(c.service for c in present), tuple(s for c in present for s in c.slices))


@given(st.lists(changes, max_size=12))
def test_a_sequence_of_changes_ends_where_compiling_from_scratch_does(sequence: list[Change]) -> None:
    tables = NodeTables(FACTS)
    tables.first_transaction()
    kernels = [Kernel.of(table) for table in tables.tables()]
    state: dict[int, Change] = {}
    for change in sequence:
        state[change.number] = change
        if change.address is None:
            tables.remove(change.service.key)
        else:
            resolver = Resolver(snapshot(state), FACTS.name)
            tables.put(change.service, resolver.resolved(change.service).frontends)
        for transaction in tables.transaction(tables.take_edits()):
            kernels[transaction.family == "ip6"].commit(transaction)
        scratch = compile_snapshot(snapshot(state), FACTS).tables
        for kernel, table, fresh in zip(kernels, tables.tables(), scratch.tables(), strict=True):
            held = kernel.table(table)
            assert not diff(held, table)
            assert normal(held.elements) == normal(fresh.elements)
            assert (held.maps, held.chains) == (fresh.maps, fresh.chains)


@given(st.lists(changes, max_size=6), st.lists(changes, max_size=6))
def test_the_difference_applied_to_one_state_gives_the_other(one: list[Change], other: list[Change]) -> None:
    before = compile_snapshot(snapshot({c.number: c for c in one}), FACTS).tables
    after = compile_snapshot(snapshot({c.number: c for c in other}), FACTS).tables
    for have, want in zip(before.tables(), after.tables(), strict=True):
        kernel = Kernel.of(have)
        for transaction in plan_edits(want.schema, diff(have, want)):
            kernel.commit(transaction)
        assert not diff(kernel.table(want), want)


@given(st.lists(changes, max_size=6))
def test_what_is_written_reads_back_and_needs_nothing_more(state: list[Change]) -> None:
    """Two laws about one text, which is long: it is made and read once for both."""
    wanted = snapshot({c.number: c for c in state})
    once = compile_snapshot(wanted, FACTS).tables
    listed = {f: read_listing(once, f) for f in Family}
    for family, table in zip(Family, once.tables(), strict=True):
        assert not diff(listed[family].table(table.schema), table)
        assert listed[family].unreadable == ()
    assert compile_snapshot(wanted, FACTS, {**listed}).tables.first_transaction() == ()


def read_listing(tables: NodeTables, family: Family) -> ListedTable:
    """Read our own text, which has the form of a listing."""
    schema = tables.schemas[family]
    whole = next(t for t in tables.first_transaction() if t.family == schema.family)
    _, _, listing = write_transaction(whole).split("\n", 2)  # behind "add table" and "delete table"
    listed = read_table(listing, schema)
    assert schema_differences(listed, schema) == ()
    return listed


@pytest.mark.proves("X1")
@given(st.frozensets(st.integers(1, 200), max_size=60), st.integers(1, 200), st.booleans())
@settings(max_examples=50)
def test_one_endpoint_more_or_less_is_a_bounded_number_of_operations(
    endpoints: frozenset[int], one: int, local: bool
) -> None:
    service = make_service("web", make_port(80, node_port=30080))
    if local:
        service = replace(service, external_traffic_policy="Local")
    most = MOST_OPERATIONS + local * (2 + 3)  # the nodePort has a verdict and a pool for each side then
    tables = NodeTables(FACTS)

    def put(numbers: frozenset[int]) -> int:
        pods = [make_endpoint(str(ip_address("10.244.0.0") + i), node="worker-1") for i in numbers]
        resolver = Resolver(Snapshot((service,), (make_slice(*pods),)), FACTS.name)
        tables.put(service, resolver.resolved(service).frontends)
        return sum(transaction.size for transaction in tables.transaction(tables.take_edits()))

    put(endpoints - {one})
    assert 0 < put(endpoints | {one}) <= most
    assert 0 < put(endpoints - {one}) <= most


@pytest.mark.proves("K7")
@given(st.text(max_size=200))
def test_no_comment_becomes_syntax(text: str) -> None:
    element = Element(("10.96.0.1",), None, text)
    transaction = Transaction("ip", "t", (Add("cluster-ips", (element,)),))
    try:
        written = write_transaction(transaction)
    except ValueError:
        assert '"' in text or "\n" in text
    else:
        shown = f' comment "{text}"' if text else ""
        assert written == f"add element ip t cluster-ips {{\n\t10.96.0.1{shown}\n}}\n"
