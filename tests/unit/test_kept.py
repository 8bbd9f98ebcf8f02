"""What cannot be read keeps what the kernel has of it: for every kind of Service that there is a case for."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from nodeport_nft.compile import COMMENT_LIMIT
from nodeport_nft.compile.service import comment
from nodeport_nft.config import load_config
from nodeport_nft.facts import Host, gather
from nodeport_nft.manifest import read_manifests
from nodeport_nft.model import Family, LoadBalancing, NodeFacts, ObjectName, Pod, Ref, Service, Snapshot
from nodeport_nft.plan import ListedTable
from nodeport_nft.reconcile import NodeState, NodeTables, compile_snapshot
from nodeport_nft.reconcile.kept import _comment_of as comment_of
from nodeport_nft.resolve import Place
from nodeport_nft.ruleset import Element, Goto, Key
from nodeport_nft.store import Store
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice

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
        with store.transaction() as transaction:
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


@pytest.mark.parametrize("unreadable", [WEB_REF, SLICE_REF, Ref("Sexvice", "default", "who")])
def test_where_one_family_has_no_table_yet_the_other_keeps_its_own(unreadable: Ref) -> None:
    before = compile_snapshot(Snapshot((WEB,), (WEB_SLICE,)), FACTS).tables
    held = {**listed(before), Family.IPV6: None}
    services = () if unreadable == WEB_REF else (WEB,)
    slices = () if unreadable == SLICE_REF else (WEB_SLICE,)
    after = compile_snapshot(Snapshot(services, slices), FACTS, held, {unreadable}).tables
    assert endpoints(after) == endpoints(before)


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


# --- whose it is --------------------------------------------------------------

LONG = ["a" * 61 + "-b", "a" * 61 + "-c"]
NAMES = ["web", "web-2", "we", "web.x"]


@pytest.mark.parametrize("affinity", [0, 60])
@pytest.mark.parametrize("port_name", ["", "http", "p" * 63])
@pytest.mark.parametrize("names", [NAMES, LONG], ids=["alike", "long"])
def test_of_services_with_names_alike_each_keeps_its_own(names: list[str], port_name: str, affinity: int) -> None:
    """One that cannot be read, beside those that can, and one more that is gone in truth."""
    services = [
        replace(
            make_service(name, make_port(80, name=port_name, node_port=30080 + i), ips=(f"10.96.0.{i + 1}",)),
            namespace="n" * 63 if names is LONG else "default",
            session_affinity_seconds=affinity,
            load_balancer_source_ranges=(ip_network("198.51.100.0/24"),),
            node_port_source_ranges=(ip_network("203.0.113.0/24"),),
            load_balancer_ips=(ip_address(f"192.0.2.{i + 1}"),),
        )
        for i, name in enumerate(names)
    ]
    pieces = [
        replace(
            make_slice(f"10.244.1.{i + 2}", service=name, name=f"s{i}", port_name=port_name), namespace=s.namespace
        )
        for i, (name, s) in enumerate(zip(names, services, strict=True))
    ]
    whole = Snapshot(tuple(services), tuple(pieces))
    held = listed(compile_snapshot(whole, FACTS).tables)
    for service in services:
        after = compile_snapshot(without(whole, service), FACTS, held, {Ref("Service", *service.key)}).tables
        assert after.first_transaction() == (), service.name
        if names is LONG and port_name:
            continue  # their comments are cut before they differ: rather one too many is kept than one too few
        others = [each for each in services if each is not service]
        gone = replace(whole, services=tuple(others[1:]))
        after = compile_snapshot(gone, FACTS, held, {Ref("Service", *service.key)}).tables
        wanted = compile_snapshot(without(whole, others[0]), FACTS).tables
        assert endpoints(after) == endpoints(wanted), "of the one that is gone nothing is left"


@pytest.mark.parametrize(
    ("unreadable", "kept"),
    [
        ({WEB_REF}, {"web"}),
        ({Ref("Service", "default", "other")}, set()),
        ({Ref("Service", "other", "web")}, set()),
        ({SLICE_REF}, set()),
        ({Ref("Pod", "default", "web")}, set()),
        ({Ref("Sexvice", "default", "web")}, {"web"}),
        ({Ref("Sexvice", "other", "who")}, {"web"}),
        (set(), set()),
    ],
)
def test_only_a_service_that_may_be_meant_is_kept(unreadable: set[Ref], kept: set[str]) -> None:
    state, _ = restarted(unreadable)
    assert {key.name for key in state.kept.services} == kept
    assert bool(endpoints(state.tables)) == bool(kept)


def test_what_was_kept_for_an_unknown_object_goes_with_the_last_of_these_but_for_what_is_known_to_be_damaged() -> (
    None
):
    one, other = Ref("Sexvice", "default", "who"), Ref("Qod", "default", "what")
    state, _ = restarted({one, other})
    for ref in (one, Ref("Service", "default", "x"), Ref("Sexvice", "default", "x")):
        assert state.put(ref, ()) == set()
        assert state.kept.services
    assert state.put(other, ()) == {WEB.key}
    assert sync(state) == set()
    state, _ = restarted({one, WEB_REF})
    assert state.put(one, ()) == set(), "it is not known to be gone"
    assert state.put(WEB_REF, ()) == {WEB.key}
    assert sync(state) == set()


@pytest.mark.parametrize(
    ("unreadable", "stay"),
    [
        (SLICE_REF, True),
        (Ref("EndpointSlice", "default", "any"), True),
        (Ref("EndpointSlice", "other", "web-1"), False),
        (Ref("Pod", "default", "any"), True),
        (Ref("Pod", "other", "any"), False),
        (Ref("Endpoints", "default", "web"), True),
        (Ref("Endpoints", "default", "other"), False),
        (Ref("Endpoints", "other", "web"), False),
        (Ref("Service", "default", "other"), False),
        (Ref("Node", "", "worker-1"), False),
        (Ref("Qod", "other", "who"), True),
    ],
    ids=str,
)
def test_endpoints_stay_while_an_object_that_may_name_them_cannot_be_read(unreadable: Ref, stay: bool) -> None:
    state, held = restarted({unreadable}, (WEB_REF, WEB))
    assert addresses(endpoints(state.tables)) == ({"10.244.1.2", "10.244.1.3"} if stay else set())
    assert (state.tables.transaction_over(held) == ()) is stay
    assert state.put(unreadable, ()) == ({WEB.key} if stay else set())
    assert addresses(sync(state)) == set()
    assert state.put(unreadable, ()) == set()


def test_a_claim_from_outside_on_a_cluster_ip_that_is_kept_is_refused_until_it_is_free() -> None:
    thief = replace(make_service("thief", ips=("10.96.0.66",)), external_ips=WEB.cluster_ips)
    ref = Ref("Service", *thief.key)
    state, _ = restarted({WEB_REF}, (ref, thief))
    assert len(state.problems()) == 1
    assert WEB_REF.name in state.problems()[0]
    assert state.put(WEB_REF, ()) == {WEB.key, thief.key}
    sync(state)
    assert state.problems() == ()


def test_chains_that_somebody_has_changed_are_not_kept() -> None:
    """Into what we never write: the frontend that leads there is left out, and the others stay."""
    sticky = replace(WEB, session_affinity_seconds=60)
    held = listed(compile_snapshot(Snapshot((sticky,), (WEB_SLICE,)), FACTS).tables)
    four = held[Family.IPV4]
    assert four is not None
    led = {
        element.value.chain for element in four.elements["service-ips"].values() if isinstance(element.value, Goto)
    }
    strange = {**held, Family.IPV4: replace(four, unreadable=tuple(led))}
    after = compile_snapshot(Snapshot((), (WEB_SLICE,)), FACTS, strange, {WEB_REF}).tables.table(Family.IPV4)
    assert set(after.elements["service-ips"]) == set()
    assert set(after.elements["node-ports"]) == set(four.elements["node-ports"])


def test_a_service_that_was_kept_for_a_kind_that_is_not_known_is_kept_no_longer_once_it_is_there() -> None:
    unknown = Ref("Sexvice", "default", "who")
    state, _ = restarted({unknown}, (SLICE_REF, WEB_SLICE))
    assert state.kept.services
    assert state.put(Ref("Pod", *WEB.key), ()) == set(), "an object of another kind has its name"
    assert state.kept.services
    assert WEB.key in state.put(WEB_REF, (replace(WEB, cluster_ips=(ip_address("10.96.0.77"),)),))
    assert not state.kept.services


def test_what_was_kept_for_an_unknown_object_goes_though_another_kind_of_its_name_cannot_be_read() -> None:
    unknown = Ref("Sexvice", "default", "who")
    state, _ = restarted({unknown, Ref("Pod", *WEB.key)})
    assert state.kept.services
    assert state.put(unknown, ()) == {WEB.key}


@pytest.mark.parametrize("here", [True, False])
def test_with_policy_local_what_is_kept_serves_here_only_if_it_runs_here(here: bool) -> None:
    local = replace(WEB, external_traffic_policy="Local", internal_traffic_policy="Local")
    piece = make_slice(make_endpoint("10.244.1.2", node="worker-1" if here else "worker-2"))
    beside = make_slice(make_endpoint("10.244.1.9", node="worker-1"), name="web-2")
    held = listed(compile_snapshot(Snapshot((local,), (piece, beside)), FACTS).tables)
    after = compile_snapshot(Snapshot((local,), (beside,)), FACTS, held, {SLICE_REF}).tables
    assert after.first_transaction() == (), "as it was before"


def test_an_owner_is_told_by_whole_names_and_by_those_alone_that_were_cut() -> None:
    name, port = "n" * 62, "p" * 15
    owner = ObjectName("a" * 60, name)
    is_own = comment_of(owner)
    assert is_own(str(owner))
    assert is_own(comment(owner, port))
    assert is_own(f"{owner}:{port}")
    for other in ("a/b", "default/web", str(owner)[:-1], f"{owner}x"):
        assert not is_own(other), other
        assert not comment_of(ObjectName("default", "web2"))(other)
    assert not is_own(comment(ObjectName("b" * 60, name), port)), "another's that was cut"
    whole = str(owner)[: COMMENT_LIMIT - 9] + "q" * 9
    assert len(whole) == COMMENT_LIMIT
    assert not is_own(whole), "one that fills the room and was not cut"


def test_services_that_can_be_read_are_not_kept_for_an_unknown_one_however_long_their_names() -> None:
    long = replace(make_service("a" * 63, make_port(80, name="p" * 63)), namespace="n" * 63)
    held = listed(compile_snapshot(Snapshot((WEB, long)), FACTS).tables)
    state = compile_snapshot(Snapshot((WEB, long)), FACTS, held, {Ref("Sexvice", "default", "who")})
    assert state.kept.services == {}


def test_kept_endpoints_of_another_service_stay() -> None:
    api = make_service("api", ips=("10.96.0.99",))
    pieces = (
        make_slice("10.244.1.2", name="web", mirrored=True),
        make_slice("10.244.1.9", service="api", name="api"),
    )
    held = listed(compile_snapshot(Snapshot((WEB, api), pieces), FACTS).tables)
    refs = {Ref("Endpoints", *WEB.key), Ref("Endpoints", *api.key)}
    state = compile_snapshot(Snapshot((WEB, api)), FACTS, held, refs)
    assert addresses(endpoints(state.tables)) == {"10.244.1.2", "10.244.1.9"}
    assert state.put(Ref("Endpoints", *WEB.key), ()) == {WEB.key}
    assert addresses(sync(state)) == {"10.244.1.9"}


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_an_endpoint_that_is_kept_and_named_by_another_as_well_is_there_once(policy: str) -> None:
    local = replace(WEB, internal_traffic_policy=policy, external_traffic_policy=policy)
    here = make_slice(make_endpoint("10.244.1.2", node="worker-1"), make_endpoint("10.244.1.3", node="worker-1"))
    held = listed(compile_snapshot(Snapshot((local,), (here,)), FACTS).tables)
    state = compile_snapshot(Snapshot((local,)), FACTS, held, {SLICE_REF})
    assert state.tables.transaction_over(held) == ()
    other = replace(here, name="web-2", endpoints=here.endpoints[:1])
    state.put(Ref("EndpointSlice", "default", "web-2"), (other,))
    sync(state)
    assert state.tables.transaction_over(held) == ()


def test_what_a_pod_that_can_be_read_says_goes_before_what_is_kept() -> None:
    chosen = replace(WEB, selector={"app": "web"})
    pods = tuple(Pod("default", f"p{n}", {"app": "web"}, (ip_address(f"10.244.1.{n}"),)) for n in (2, 3))
    held = listed(compile_snapshot(Snapshot((chosen,), pods=pods), FACTS).tables)
    unready = replace(pods[0], ready=False)
    after = compile_snapshot(Snapshot((chosen,), pods=(unready,)), FACTS, held, {Ref("Pod", "default", "p3")}).tables
    assert addresses(endpoints(after)) == {"10.244.1.3"}


@pytest.mark.parametrize("policy", ["Cluster", "Local", "PreferLocal"])
@pytest.mark.parametrize("balancing", LoadBalancing)
@pytest.mark.parametrize("affinity", [0, 60])
def test_endpoints_are_kept_with_their_weights_and_places(
    policy: str, balancing: LoadBalancing, affinity: int
) -> None:
    service = replace(
        WEB,
        internal_traffic_policy=policy,
        external_traffic_policy=policy,
        load_balancing=LoadBalancing.RANDOM if affinity else balancing,
        session_affinity_seconds=affinity,
    )
    here, away = make_endpoint("10.244.1.2", node="worker-1"), make_endpoint("10.244.2.2", node="worker-2")
    pieces = [replace(make_slice(end, name=f"web-{n}"), weight=n) for n, end in enumerate((here, away), 1)]
    held = listed(compile_snapshot(Snapshot((service,), tuple(pieces)), FACTS).tables)
    for lost, rest in (pieces, pieces[::-1]):
        ref = Ref("EndpointSlice", "default", lost.name)
        after = compile_snapshot(Snapshot((service,), (rest,)), FACTS, held, {ref})
        after.tables.forget()
        if policy == "PreferLocal" and lost is pieces[1]:
            continue  # the kernel has none of those elsewhere
        kept = after.kept.endpoints[service.key]
        assert {b.place for backends in kept.values() for b in backends} == {
            Place.HERE if lost is pieces[0] else Place.ELSEWHERE
        }
        hashed = balancing is LoadBalancing.MAGLEV and not affinity
        assert {b.weight for backends in kept.values() for b in backends} == {
            1 if hashed or affinity else pieces.index(lost) + 1
        }


def test_of_sets_of_their_own_each_service_keeps_its_own_with_what_is_in_them() -> None:
    guarded = [
        replace(
            make_service(name, make_port(80, node_port=30080 + n), ips=(f"10.96.0.{n + 1}",)),
            node_port_source_ranges=(ip_network(f"198.51.10{n}.0/24"),),
            session_affinity_seconds=60,
        )
        for n, name in enumerate(("web", "api"))
    ]
    pieces = tuple(make_slice(f"10.244.1.{n + 2}", service=s.name, name=s.name) for n, s in enumerate(guarded))
    held = listed(compile_snapshot(Snapshot(tuple(guarded), pieces), FACTS).tables)
    four = held[Family.IPV4]
    assert four is not None
    learned = {name: m for name, m in four.own_maps.items() if m.learned}
    assert learned
    client: Key = ("203.0.113.9",)
    remembered = {name: {client: Element(client)} for name in learned}
    with_clients = {**held, Family.IPV4: replace(four, elements={**four.elements, **remembered})}
    kept = compile_snapshot(Snapshot((guarded[1],), pieces), FACTS, with_clients, {Ref("Service", *guarded[0].key)})
    wants = kept.kept.services[guarded[0].key][Family.IPV4]
    assert wants is not None
    assert {declared.name.split("/")[2] for declared in wants.maps} == {"web"}
    elements = list(wants.shared)
    assert ("firewall-node-ports/default/web", ("198.51.100.0/24",)) in elements
    assert not any(key == client for _, key in elements), "what packets have put in is the kernel's alone"


def test_endpoints_behind_a_chain_that_somebody_has_changed_are_not_kept() -> None:
    sticky = replace(WEB, session_affinity_seconds=60)
    held = listed(compile_snapshot(Snapshot((sticky,), (WEB_SLICE,)), FACTS).tables)
    strange = {
        family: replace(table, unreadable=tuple(table.own_chains))
        for family, table in held.items()
        if table is not None
    }
    assert not endpoints(compile_snapshot(Snapshot((sticky,)), FACTS, strange, {SLICE_REF}).tables)
