"""Whatever happens, and in whatever order: in the end the tables are as if made at once."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec.structs import replace

from nodeport_nft.errors import KernelError
from nodeport_nft.model import MEMBER, PROBE_FAILURE, Family, Member, NodeFacts, ProbeFailure, Ref
from nodeport_nft.model import Node as NodeObject
from nodeport_nft.plan import Add, Transaction
from nodeport_nft.reconcile import NodeState, compile_snapshot
from tests.builders import FACTS
from tests.property.expected import expected, prove_endpoints
from tests.property.reconciling import (
    MOVED,
    REMARKED,
    Node,
    Object,
    endpoint_slice,
    endpoints,
    gone,
    name_of,
    out_of_memory,
    service,
    too_long,
)
from tests.property.test_laws import Change, changes, normal

pytestmark = pytest.mark.proves("K1", "K8")


# --- any sequence -------------------------------------------------------------


def objects_of(change: Change) -> list[Object]:
    """A service that becomes so; without an address it is gone with its endpoints."""
    there = change.address is not None
    found: list[Object] = [(Ref("Service", *change.service.key), (change.service,) if there else ())]
    for piece in change.slices:
        found.append((Ref("EndpointSlice", "default", piece.name), (piece,) if there else ()))
    return found


@pytest.mark.proves("X1")
@given(st.lists(st.lists(changes, max_size=4), max_size=6))
@settings(max_examples=60)
def test_a_state_kept_up_object_by_object_is_as_one_made_at_once(batches: list[list[Change]]) -> None:
    state = NodeState(FACTS)
    last: dict[int, Change] = {}
    for batch in batches:
        for change in batch:
            last[change.number] = change
            for ref, values in objects_of(change):
                state.put(ref, values)
        keys, state.touched = state.touched, set()
        state.compile(sorted(keys))
        fresh = NodeState(FACTS)
        for change in last.values():
            for ref, values in objects_of(change):
                fresh.put(ref, values)
        fresh.compile(sorted(fresh.touched))
        for one, other in zip(state.tables.tables(), fresh.tables.tables(), strict=True):
            assert normal(one.elements) == normal(other.elements)
            assert (one.maps, one.chains) == (other.maps, other.chains)
        assert state.problems() == fresh.problems()
        assert state.starving == fresh.starving
        assert state.idle == fresh.idle
        assert compile_snapshot(state.snapshot(), FACTS).problems() == state.problems(), "one sync tells the same"
        wanted = expected(last.values())
        assert sorted(state.problems()) == sorted(wanted.problems)
        assert +state.starving == +wanted.starving
        assert +state.idle == +wanted.idle
        count, names = state.idle_services(10_000)
        assert (count, set(names)) == (len(wanted.idling), set(map(name_of, wanted.idling)))
        assert state.idle_services(1) == (count, names[:1])
        prove_endpoints(wanted, {family: state.tables.table(family).elements for family in Family})


def test_too_many_endpoints_are_a_problem_until_they_are_fewer() -> None:
    state = NodeState(FACTS)
    for ref, values in (service(0), endpoints(0, 1)):
        state.put(ref, values)
    heavy = replace(endpoint_slice(0, 1, 2), weight=20000)
    for piece, count in ((heavy, 1), (endpoint_slice(0, 1, 2), 0), (heavy, 1)):
        state.put(Ref("EndpointSlice", "default", piece.name), (piece,))
        state.compile(state.touched)
        assert len(state.problems()) == count
    state.put(gone(service(0))[0], ())
    state.compile(state.touched)
    assert state.problems() == ()


TIMES = st.sampled_from([0.0, 100.0, 200.0])
ADDRESSES = st.sampled_from(["10.244.0.1", "10.244.0.2", "10.244.0.3", "fd00:244::1", "fd00:244::2"])


class AnythingMayHappen(RuleBasedStateMachine):
    """Objects change, nodes are lost or drained, probes fail, the kernel refuses, others are at the tables; in the
    end all is as it should be.
    """

    def __init__(self) -> None:
        super().__init__()
        self.node = Node()
        self.damaged = False

    @rule(change=changes)
    def change(self, change: Change) -> None:
        self.node.put(*objects_of(change))

    @rule(name=st.sampled_from(["worker-1", "worker-2"]), lost_at=TIMES)
    def lose(self, name: str, lost_at: float) -> None:
        self.node.put((Ref(MEMBER, "", name), (Member(name, lost_at),)))

    @rule(address=ADDRESSES, since=st.none() | TIMES)
    def probe(self, address: str, since: float | None) -> None:
        values = () if since is None else (ProbeFailure("default", ip_address(address), since),)
        self.node.put((Ref(PROBE_FAILURE, "default", address), values))

    @rule(name=st.sampled_from(["worker-1", "worker-2"]), drained=st.booleans())
    def drain(self, name: str, drained: bool) -> None:
        self.node.put((Ref("Node", "", name), (NodeObject(name, drained=drained),)))

    @rule()
    def sync(self) -> None:
        backend = self.node.backend
        faulty = bool(backend.faults or backend.late_faults)
        kernels, commits = dict(backend.kernels), len(backend.commits)
        try:
            self.node.sync()
        except KernelError:
            assert faulty
            assert len(backend.commits) > commits or backend.kernels == kernels
            return
        if not faulty:
            assert self.damaged or self.node.reconciler.refused or self.node.is_right()
        for table in self.node.state.tables.tables():
            held = backend.kernels[table.schema.family].table(table) if not self.damaged else table
            assert normal(held.elements) == normal(table.elements)

    @rule(number=st.integers(0, 3))
    def refuse(self, number: int) -> None:
        name = f"default/s{number}"

        def why(transaction: Transaction) -> str | None:
            added = (e for o in transaction.operations if isinstance(o, Add) for e in o.elements)
            return f"EINVAL: {name}" if any(element.comment == name for element in added) else None

        self.node.backend.faults.append(why)

    @rule(limit=st.integers(2, 30))
    def limit(self, limit: int) -> None:
        self.node.backend.faults.append(too_long(limit))

    @rule()
    def run_out_of_memory(self) -> None:
        self.node.backend.faults.append(out_of_memory)

    @rule()
    def fail_late(self) -> None:
        self.node.backend.late_faults.append(out_of_memory)

    @rule()
    def recover(self) -> None:
        self.node.backend.faults.clear()
        self.node.backend.late_faults.clear()

    @rule()
    def retry(self) -> None:
        self.node.reconciler.retry()

    @rule(facts=st.sampled_from([FACTS, MOVED, REMARKED]))
    def refit(self, facts: NodeFacts) -> None:
        self.node.reconciler.refit(facts)

    @precondition(lambda self: self.node.backend.kernels)
    @rule(data=st.data(), told=st.booleans())
    def damage(self, data: st.DataObject, told: bool) -> None:
        backend = self.node.backend
        family = data.draw(st.sampled_from(sorted(backend.kernels)))
        kernel = backend.kernels[family]
        present = sorted((name, str(key)) for name, held in kernel.elements.items() for key in held)
        what = data.draw(st.sampled_from(["element", "table", "foreign"]))
        if what == "element" and present:
            name, text = data.draw(st.sampled_from(present))
            key = next(key for key in kernel.elements[name] if str(key) == text)
            del kernel.elements[name][key]
        elif what == "foreign":
            backend.put_foreign(family)
        else:
            backend.lose(family)
        self.damaged = True
        if told:
            self.tell()

    @rule()
    def tell(self) -> None:
        self.node.reconciler.distrust()
        self.damaged = False

    def teardown(self) -> None:
        self.recover()
        self.tell()
        self.node.repair()
        assert self.node.is_right()
        state = self.node.state
        assert state.problems() == compile_snapshot(state.snapshot(), state.facts).problems()
        assert not self.node.reconciler.refused
        assert self.node.sync().transactions == ()


AnythingMayHappen.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestAnythingMayHappen = AnythingMayHappen.TestCase
