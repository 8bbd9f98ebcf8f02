"""What cannot be read keeps what the kernel has of it: for every kind of Service that there is a case for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nodeport_nft.config import load_config
from nodeport_nft.facts import Host, gather
from nodeport_nft.manifest import read_manifests
from nodeport_nft.model import Family, NodeFacts, Ref, Service, Snapshot
from nodeport_nft.reconcile import NodeState, NodeTables, compile_snapshot
from nodeport_nft.render import ListedTable
from nodeport_nft.store import Store
from tests.builders import FACTS, make_port, make_service, make_slice

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "cases").glob("*/packets.yaml"))
NOW = "2026-01-31T12:00:00Z"


def state_of(case: Path, directory: Path) -> tuple[Snapshot, NodeFacts]:
    """What a case asks for, and the facts of worker-1 there."""
    node = yaml.safe_load((case / "node.yaml").read_text())
    (directory / "config.yaml").write_text(yaml.safe_dump(node.get("config", {})))
    words = iter(map(str, node.get("args", [])))
    keys = {"--cluster-cidr": "clusterCIDRs", "--nodeport-addresses": "nodePortAddresses"}
    given = {keys[word]: next(words).split(",") for word in words if word in keys}
    config = load_config(str(directory / "config.yaml"), {**given})
    with Store(ranges=config.ranges) as store:
        with store.write() as transaction:
            transaction.apply(read_manifests([str(case / "manifests.yaml")], ranges=config.ranges).objects, now=NOW)
        snapshot = store.snapshot()
    own = next((found for found in snapshot.nodes if found.name == "worker-1"), None)
    return snapshot, gather(config, name="worker-1", node=own, node_ips=(), host=Host())[0]


def listed(tables: NodeTables) -> dict[Family, ListedTable | None]:
    return {family: ListedTable.of(tables.table(family)) for family in Family}


def without(snapshot: Snapshot, service: Service) -> Snapshot:
    return replace(snapshot, services=tuple(each for each in snapshot.services if each is not service))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_service_that_cannot_be_read_stays_as_it_is(case: Path, tmp_path: Path) -> None:
    snapshot, facts = state_of(case, tmp_path)
    held = listed(compile_snapshot(snapshot, facts).tables)
    for service in snapshot.services:
        unreadable = {Ref("Service", *service.key)}
        after = compile_snapshot(without(snapshot, service), facts, held, unreadable).tables
        assert after.first_transaction() == (), service.name
        unknown = {Ref("Sexvice", "default", "who")}
        after = compile_snapshot(without(snapshot, service), facts, held, unknown).tables
        if service.proxy_name is None:
            assert after.first_transaction() == (), service.name
        gone = compile_snapshot(without(snapshot, service), facts, held).tables.first_transaction()
        assert gone or not any(name for name in owners(held) if name == str(service.key)), "or it proves nothing"


def owners(held: Mapping[Family, ListedTable | None]) -> set[str]:
    return {
        element.comment.partition(":")[0]
        for table in held.values()
        if table
        for elements in table.elements.values()
        for element in elements.values()
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_endpoints_of_an_object_that_cannot_be_read_stay(case: Path, tmp_path: Path) -> None:
    snapshot, facts = state_of(case, tmp_path)
    tables = compile_snapshot(snapshot, facts).tables
    held, before = listed(tables), endpoints(tables)
    for piece in snapshot.slices:
        rest = replace(snapshot, slices=tuple(each for each in snapshot.slices if each.name != piece.name))
        refs = {Ref("EndpointSlice", piece.namespace, piece.name), Ref("Endpoints", piece.namespace, piece.name)}
        # What a slice that can be read says of an endpoint counts, even if the other knew better (E3).
        said = {str(endpoint.address) for each in rest.slices for endpoint in each.endpoints}
        lost = before - endpoints(compile_snapshot(rest, facts, held, refs).tables)
        assert addresses(lost) <= said
    for pod in snapshot.pods:
        rest = replace(snapshot, pods=tuple(each for each in snapshot.pods if each is not pod))
        refs = {Ref("Pod", pod.namespace, pod.name)}
        assert endpoints(compile_snapshot(rest, facts, held, refs).tables) >= before


def endpoints(tables: NodeTables) -> set[object]:
    """Which endpoints each frontend has, whatever their slots; those of affinity by their chains."""
    found: set[object] = set()
    for family in Family:
        table = tables.table(family)
        for name, elements in table.elements.items():
            if name.endswith("-endpoints"):
                found |= {(family, name, key[:-1], element.value) for key, element in elements.items()}
        found |= {(family, chain) for chain in table.chains}
    return found


# --- the life of what is kept -------------------------------------------------

WEB = make_service("web", make_port(node_port=30080), created="2026-01-02T00:00:00Z")
WEB_REF, SLICE_REF = Ref("Service", *WEB.key), Ref("EndpointSlice", "default", "web-1")
WEB_SLICE = make_slice("10.244.1.2", "10.244.1.3")


def restarted(
    unreadable: set[Ref], *readable: tuple[Ref, object]
) -> tuple[NodeState, dict[Family, ListedTable | None]]:
    """A process that comes to a kernel which has WEB, and cannot read everything."""
    held = listed(compile_snapshot(Snapshot((WEB,), (WEB_SLICE,)), FACTS).tables)
    state = NodeState(FACTS, held)
    for ref, value in readable:
        state.put(ref, (value,))  # type: ignore[arg-type]
    state.keep(unreadable, held)
    sync(state)
    return state, held


def sync(state: NodeState) -> set[object]:
    keys, state.touched = state.touched, set()
    state.compile(sorted(keys))
    return endpoints(state.tables)


def test_a_kept_service_can_be_mended_changed_and_deleted() -> None:
    state, held = restarted({WEB_REF}, (SLICE_REF, WEB_SLICE))
    before = endpoints(state.tables)
    assert state.tables.transaction_over(held) == ()
    state.put(SLICE_REF, (make_slice("10.244.1.2"),))
    assert sync(state) == before, "what it selects is not known"
    state.put(WEB_REF, (WEB,))
    assert sync(state) < before
    assert not state.kept.services
    state, _ = restarted({WEB_REF})
    state.put(WEB_REF, ())
    assert sync(state) == set()


def test_what_is_kept_stays_over_other_facts_of_the_node() -> None:
    state, _ = restarted({WEB_REF})
    before = endpoints(state.tables)
    assert before
    state.refit(replace(FACTS, masquerade_bit=15), {})
    assert sync(state) == before


def test_kept_endpoints_leave_when_their_object_can_be_read_or_another_speaks_of_them() -> None:
    state, held = restarted({SLICE_REF}, (WEB_REF, WEB))
    assert state.tables.transaction_over(held) == ()
    state.put(Ref("EndpointSlice", "default", "web-2"), (make_slice("10.244.1.9", name="web-2"),))
    more = sync(state)
    assert {"10.244.1.2", "10.244.1.3", "10.244.1.9"} == addresses(more)
    state.put(SLICE_REF, (make_slice("10.244.1.2"),))
    assert addresses(sync(state)) == {"10.244.1.2", "10.244.1.9"}


def test_what_a_readable_object_says_of_an_endpoint_goes_before_what_is_kept() -> None:
    other = Ref("EndpointSlice", "default", "web-2")
    state, _ = restarted({SLICE_REF}, (WEB_REF, WEB), (other, make_slice("10.244.1.3", name="web-2")))
    assert addresses(endpoints(state.tables)) == {"10.244.1.2", "10.244.1.3"}
    state.put(other, ())
    assert addresses(sync(state)) == {"10.244.1.2"}


def addresses(found: set[object]) -> set[str]:
    return {each[3][0] for each in found if isinstance(each, tuple) and len(each) == 4}
