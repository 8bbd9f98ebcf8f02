"""Endpoints that are drained, on lost nodes, or fail readiness probes: who gets connections (C5, C7, E2)."""

from __future__ import annotations

from ipaddress import ip_address
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from nodeport_nft.daemon.following import Following
from nodeport_nft.daemon.probes import Probes
from nodeport_nft.model import (
    ZONE_LABEL,
    Family,
    Member,
    Node,
    ObjectName,
    Pod,
    ProbeFailure,
    Ref,
    Service,
    Snapshot,
    Value,
)
from nodeport_nft.reconcile import NodeState, compile_snapshot
from nodeport_nft.resolve import Index, Resolver
from nodeport_nft.resolve.absence import Around, why_none
from nodeport_nft.resolve.trouble import LAST_GOOD_SECONDS, Failing, failing_at
from nodeport_nft.store.api import Changes
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice, ref_of

pytestmark = pytest.mark.proves("C5", "C7")

A, B, C, D = "10.244.1.1", "10.244.2.1", "10.244.3.1", "10.244.4.1"
WEB = make_service()
ON = {A: "worker-1", B: "worker-2", C: "worker-3", D: "worker-4"}
PIECE = make_slice(*(make_endpoint(ip, node=node) for ip, node in ON.items() if ip != D))
PODS = tuple(Pod("default", ip, {"app": "web"}, (ip_address(ip),), node) for ip, node in ON.items() if ip != D)
OLD, NOW = 1000.0, 2000.0


def lost(node: str, at: float = NOW) -> Member:
    return Member(node, at)


def failing(ip: str, since: float = NOW, namespace: str = "default") -> ProbeFailure:
    return ProbeFailure(namespace, ip_address(ip), since)


def drained(node: str) -> Node:
    return Node(node, drained=True)


def index_of(*values: Value) -> Index:
    index = Index()
    for value in values:
        index.put(ref_of(value), (value,))
    return index


def used(*values: Value, service: Service = WEB, node: str = "worker-1") -> list[str]:
    ((_, backends),) = Resolver(index_of(service, *values), node).endpoints_by_port(service)
    return [str(backend.address) for backend in backends]


# --- the node itself ---


def test_a_node_does_not_count_itself_as_lost() -> None:
    """A daemon that is started after a long pause has yet to register; its own endpoints were there all the time."""
    here = FACTS.name
    piece = make_slice(make_endpoint(A, node=here), make_endpoint(B, node="worker-9"))
    local = replace(WEB, external_traffic_policy="Local")

    def state(*values: Value) -> NodeState:
        return NodeState.of(FACTS, {}, [(ref_of(value), (value,)) for value in (local, piece, *values)])

    one = state(lost(here))
    assert not one.index.lost
    assert one.put(ref_of(lost(here, 1.0)), (lost(here, 1.0),)) == set()
    assert set(state(lost("worker-9"), lost(here)).index.lost) == {"worker-9"}


def test_a_listing_ends_what_the_cluster_said_whatever_else_cannot_be_read() -> None:
    """An object of a kind that cannot be read may be any object; a failed probe, or a lost node, it is not."""
    state = NodeState(FACTS)
    for value in (WEB, PIECE, failing(A), lost("worker-9")):
        state.put(ref_of(value), (value,))
    following = Following(
        Ref("Node", "", "x"),
        Mock(),
        Mock(),
        Mock(),
        Mock(state=state, hosts_changed=False),
        Mock(spec=Probes, reported=frozenset()),
    )
    following._put(Changes(whole=True, unreadable=frozenset({Ref("Strange", "default", "x")})))
    assert (state.index.failing, state.index.lost) == ({}, {})
    assert {WEB.key} == state.index.services.keys()
    assert list(state.index.slices(WEB)) == [PIECE]


# --- one endpoint of several ---------------------------------------------------

OUT: dict[str, list[Value]] = {
    "its node is lost": [lost("worker-2")],
    "its node was lost long ago": [lost("worker-2", 0.5)],
    "its probe fails": [failing(B)],
    "its probe fails since the beginning of time": [failing(B, 0.0)],
    "its node is drained": [drained("worker-2")],
    "both of it": [lost("worker-2"), failing(B), drained("worker-2")],
}


@pytest.mark.parametrize("why", OUT)
@pytest.mark.parametrize("source", ["slice", "pods"])
def test_an_endpoint_gets_no_new_connections_while_there_are_others(source: str, why: str) -> None:
    service = WEB if source == "slice" else replace(WEB, selector={"app": "web"})
    from_where: tuple[Value, ...] = (PIECE,) if source == "slice" else PODS
    assert used(*from_where, service=service) == [A, B, C]
    assert used(*from_where, *OUT[why], service=service) == [A, C]


@pytest.mark.parametrize(
    "said",
    [Member("worker-2"), Node("worker-2"), lost("worker"), failing(B, namespace="other"), failing("10.244.2.2")],
    ids=["it is registered", "it is not drained", "another node", "of another namespace", "of another address"],
)
def test_what_is_said_of_others_changes_nothing(said: Value) -> None:
    assert used(PIECE, said) == [A, B, C]


def test_an_address_is_drained_on_the_object_that_says_so() -> None:
    assert used(replace(PIECE, drained=(ip_address(B), ip_address(D)))) == [A, C]
    selecting = replace(WEB, selector={"app": "web"})
    pods = [replace(pod, drained=pod.ips if pod.name == B else ()) for pod in PODS]
    assert used(*pods, service=selecting) == [A, C]
    both = replace(PODS[1], ips=(ip_address(B), ip_address("fd00::1")), drained=(ip_address("fd00::1"),))
    assert used(PODS[0], both, service=selecting) == [A, B], "the pod's other address is not drained"


@pytest.mark.parametrize(
    ("copies", "is_used"),
    [
        (
            [
                make_slice(
                    make_endpoint(A, ready=False, serving=False), make_endpoint(A, ready=False, terminating=True)
                )
            ],
            False,
        ),
        ([make_slice(A), replace(make_slice(A, name="other"), weight=0)], True),
        ([make_slice(A), replace(make_slice(A, name="other"), drained=(ip_address(A),))], True),
        ([make_slice(make_endpoint(A, ready=False, terminating=True))], True),
    ],
    ids=[
        "the copy that counts is of no use",
        "the other copy is of weight 0",
        "the other copy is drained by itself",
        "it terminates already",
    ],
)
def test_draining_does_not_decide_which_copy_of_an_address_counts(copies: list[Value], is_used: bool) -> None:
    """Else what was of no use would begin to serve, or the only one would be gone (E3)."""
    expected = [A] if is_used else []
    assert used(*copies) == expected
    assert used(*copies, drained("worker-2")) == expected


def test_an_endpoint_without_a_node_is_on_no_lost_one() -> None:
    piece = make_slice(make_endpoint(A, node=""), make_endpoint(B))
    assert used(piece, lost(""), lost("worker-2")) == [A]


# --- all of them ----------------------------------------------------------------


def test_the_last_endpoint_is_used_while_it_is_drained() -> None:
    assert used(make_slice(make_endpoint(A, node="worker-1")), drained("worker-1")) == [A]
    everything = [drained(node) for node in ON.values()]
    assert used(PIECE, *everything) == [A, B, C]
    unready = make_slice(make_endpoint(A, ready=False, serving=True, node="worker-1"))
    assert used(unready, drained("worker-1")) == [], "draining makes nothing usable"


FAILED: dict[str, tuple[list[Value], list[str]]] = {
    "all nodes at once": ([lost("worker-1"), lost("worker-2"), lost("worker-3")], [A, B, C]),
    "all probes at once": ([failing(A), failing(B), failing(C)], [A, B, C]),
    "some of each": ([failing(A), lost("worker-2"), failing(C, NOW - LAST_GOOD_SECONDS)], [A, B, C]),
    "one after the others": ([failing(A, OLD), lost("worker-2", OLD), failing(C)], [C]),
    "a node that was lost after its probe failed": (
        [failing(A, OLD), lost("worker-1"), failing(B), failing(C)],
        [B, C],
    ),
    "just outside of the window": ([failing(A, NOW - LAST_GOOD_SECONDS - 1), failing(B), failing(C)], [B, C]),
    "failed, and one of them drained": ([failing(A), failing(B), failing(C), drained("worker-2")], [A, C]),
    "one that is drained is better": ([failing(A), failing(B), drained("worker-3")], [C]),
}


@pytest.mark.parametrize("case", FAILED)
def test_where_all_have_failed_those_that_failed_last_stay(case: str) -> None:
    trouble, kept = FAILED[case]
    for order in (trouble, trouble[::-1]):
        assert used(PIECE, *order) == kept
        assert used(*order, PIECE) == kept


def test_only_what_could_be_used_counts_among_those_that_failed_last() -> None:
    piece = make_slice(
        make_endpoint(A, node="worker-1"),
        make_endpoint(B, ready=False, serving=False),
        make_endpoint(C, ready=False, serving=True, terminating=True, node="worker-3"),
    )
    assert used(piece, failing(A, OLD), failing(B)) == [C], "C serves till its end"
    assert used(piece, failing(A, OLD), failing(B), failing(C, OLD)) == [A], "and A was ready"
    weightless = replace(make_slice(make_endpoint(D), name="z"), weight=0)
    one = make_slice(make_endpoint(A, node="worker-1"))
    assert used(one, weightless, failing(A, OLD), failing(D)) == [A], "D takes no new connection"


def test_each_family_and_port_keeps_its_own() -> None:
    service = make_service(
        "web", make_port(80, name="a"), make_port(81, name="b"), ips=("10.96.0.10", "fd00:10:96::a")
    )
    pieces = (
        make_slice(A, B, port_name="a", name="a"),
        make_slice(A, port_name="b", name="b"),
        make_slice("fd00:244::1", port_name="a", name="a6"),
    )
    index = index_of(service, *pieces, failing(A), failing("fd00:244::1"))
    found = Resolver(index, "worker-1").endpoints_by_port(service)
    assert {port.name: [str(b.address) for b in backends] for port, backends in found} == {
        "a": [B, "fd00:244::1"],
        "b": [A],
    }


def test_who_publishes_what_is_not_ready_loses_nothing_but_what_is_drained() -> None:
    service = make_service(publish_not_ready=True)
    assert used(PIECE, lost("worker-1"), failing(B), service=service) == [A, B, C]
    assert used(PIECE, drained("worker-1"), failing(B), service=service) == [B, C]


# --- who else asks ----------------------------------------------------------------


def test_policies_hints_and_health_checks_see_the_same() -> None:
    local = replace(
        make_service("web", make_port(node_port=30080)), external_traffic_policy="Local", health_check_node_port=30001
    )

    def here(*trouble: Value) -> tuple[list[str], int]:
        resolver = Resolver(index_of(local, PIECE, *trouble), "worker-1")
        (outside,) = (f for f in resolver.resolved(local).frontends if f.address is None)
        assert outside.local_backends is not None
        return [str(b.address) for b in outside.local_backends], resolver.local_ready(local)[Family.IPV4]

    assert here() == ([A], 1)
    assert here(failing(A)) == ([], 0)
    assert here(lost("worker-1")) == ([], 0)
    assert here(drained("worker-1")) == ([A], 0), "it serves till its end, and the balancer turns away"
    assert here(failing(A), failing(B), failing(C)) == ([A], 1), "the last good ones are as good as before"
    zones = [Node(name, {ZONE_LABEL: "z" if name in ("worker-1", "worker-2") else "y"}) for name in ON.values()]
    near = replace(WEB, selector={"app": "web"}, traffic_distribution="PreferClose")
    for trouble, wanted in (((), [A, B]), ((failing(A),), [B]), ((lost("worker-1"), failing(B)), [C])):
        resolver = Resolver(index_of(near, *PODS, *zones, *trouble), "worker-1", "z")
        assert [str(b.address) for b in resolver.resolved(near).frontends[0].backends] == wanted


def test_a_service_that_lives_on_what_has_failed_is_told_until_that_is_over() -> None:
    state = NodeState(FACTS)
    values = (WEB, make_service("other", ips=("10.96.0.11",)), PIECE, make_slice(D, service="other", name="other-1"))
    for value in (*values, failing(A, OLD), failing(B), lost("worker-3")):
        state.put(ref_of(value), (value,))
    state.compile(sorted(state.touched))
    assert state.problems() == (
        "Service/default/web: all 3 endpoints have failed (lost node worker-3; readiness probes of 2 fail), and the "
        "2 that failed last stay in use, as there is no other; bring the node back, or delete its endpoints; mend "
        "the endpoints, or what cuts the probing node off from them",
    )
    state.touched.clear()
    assert state.put(ref_of(failing(B)), ()) == {WEB.key}
    state.compile([WEB.key])
    assert state.problems() == ()


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (
            [lost("worker-1")],
            "its only endpoint has failed (lost node worker-1), and it stays in use",
        ),
        ([failing(A)], "its only endpoint has failed (its readiness probe fails), and it stays in use"),
    ],
)
def test_a_single_endpoint_is_told_as_such(trouble: list[Value], told: str) -> None:
    index = index_of(WEB, make_slice(make_endpoint(A, node="worker-1")), *trouble)
    (problem,) = Resolver(index, "").resolved(WEB).problems
    assert problem.startswith(f"Service/default/web: {told}")


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (
            [failing(A), failing(B, 0.0)],
            "both endpoints have failed (readiness probes of 2 fail, 1 of which has never passed), and the one that "
            "failed last stays",
        ),
        (
            [lost("worker-1"), failing(B, 0.0)],
            "both endpoints have failed (lost node worker-1; the readiness probe of 1 has never passed), and "
            "the one that failed last stays",
        ),
        ([failing(A), failing(B)], "both endpoints have failed (readiness probes of 2 fail), and they stay"),
    ],
)
def test_what_never_passed_is_counted_with_what_has_failed(trouble: list[Value], told: str) -> None:
    """As many as are listed as failing."""
    index = index_of(WEB, make_slice(*(make_endpoint(ip, node=ON[ip]) for ip in (A, B))), *trouble)
    resolver = Resolver(index, "")
    (problem,) = resolver.resolved(WEB).problems
    assert problem.startswith(f"Service/default/web: {told}")
    (endpoints,) = resolver.endpoints(WEB)
    assert len(endpoints.failing) == 2


@pytest.mark.parametrize(
    ("count", "told"),
    [(1, "node n-0"), (2, "nodes n-0, n-1"), (3, "nodes n-0, n-1, n-2"), (4, "nodes n-0, n-1, n-2 and 1 more")],
)
def test_three_lost_nodes_are_named_and_the_others_counted(count: int, told: str) -> None:
    piece = make_slice(*(make_endpoint(f"10.244.{n}.1", node=f"n-{n}") for n in range(count)))
    index = index_of(WEB, piece, *(lost(f"n-{n}") for n in range(count)))
    (problem,) = Resolver(index, "").resolved(WEB).problems
    assert f"(lost {told})" in problem


def test_what_has_never_passed_its_probe_is_not_used_even_where_there_is_nothing_else() -> None:
    piece = make_slice(make_endpoint(A), make_endpoint(B))
    assert used(piece, failing(A, 0.0), failing(B, 0.0)) == []
    assert used(piece, failing(A, 0.0), failing(B, 1.0)) == [B]


def test_what_has_failed_in_either_family_is_told_together() -> None:
    both = make_service(ips=("10.96.0.10", "fd00:10:96::10"))
    six = make_slice("fd00:244::1", name="web-6")
    index = index_of(both, make_slice(A), six, failing(A), failing("fd00:244::1"))
    (problem,) = Resolver(index, "").resolved(both).problems
    assert problem.startswith("Service/default/web: both endpoints have failed (readiness probes of 2 fail)")


def test_it_is_known_of_an_endpoint_what_has_failed_and_what_has_not() -> None:
    index = index_of(lost("worker-1"), failing(B))
    assert failing_at(index, "default", "worker-1", ip_address(A)) == Failing(ip_address(A), 0, "worker-1", NOW)
    assert failing_at(index, "default", "worker-2", ip_address(B), 80) == Failing(ip_address(B), 80, "", 0.0, NOW)
    assert failing_at(index, "default", "worker-2", ip_address(A)) is None


def test_of_two_copies_alike_the_one_that_is_not_drained_counts() -> None:
    copies = (make_slice(A), replace(make_slice(A, name="other"), drained=(ip_address(A),)))
    beside = make_slice(B, name="beside")
    assert used(*copies, beside) == used(*copies[::-1], beside) == [A, B]


def why(*values: Value, service: Service = WEB, node: str = "") -> list[tuple[str, str]]:
    snapshot = Snapshot((service,), slices=(PIECE,))
    around = Around(snapshot, lambda _, __: (), index_of(service, PIECE, *values))
    return [(cause.reason, str(cause)) for cause in why_none(service, around, node)]


def test_describe_tells_what_is_used_though_it_has_failed_and_what_a_policy_leaves_out_for_it() -> None:
    assert why() == why(failing(A)) == why(drained("worker-1"), drained("worker-2"), drained("worker-3")) == []
    ((reason, text),) = why(failing(A), failing(B), lost("worker-3"))
    assert (reason, text.partition(";")[0]) == ("EndpointsFailed", "all 3 endpoints have failed (lost node worker-3")
    local = replace(WEB, internal_traffic_policy="Local")
    assert why(service=local, node="worker-1") == []
    for trouble in (failing(A), lost("worker-1")):
        ((reason, text),) = why(trouble, service=local, node="worker-1")
        assert reason == "LocalEndpointsFailed"
        assert f"none is on worker-1: endpoint {A} has failed, as the node is lost or the readiness" in text
    ((reason, _),) = why(failing(B), service=local, node="worker-4")
    assert reason == "NoLocalEndpoint"
    leaving = make_slice(make_endpoint(D, ready=False, serving=False, terminating=True, node="worker-4"), name="d")
    ((reason, _),) = why(leaving, service=local, node="worker-4")
    assert reason == "NoLocalEndpoint", "what ended by itself has not failed"


def test_what_drains_and_what_fails_is_listed_beside_what_is_used() -> None:
    def listed(*trouble: Value) -> tuple[list[str], list[str], list[str]]:
        (found,) = Resolver(index_of(WEB, PIECE, *trouble), "").endpoints(WEB)
        used, draining, failed = (
            [str(backend.address) for backend in each] for each in (found.used, found.draining, found.failing)
        )
        return used, draining, failed

    assert listed() == ([A, B, C], [], [])
    assert listed(drained("worker-1"), failing(B)) == ([C], [A], [B])
    assert listed(drained("worker-1"), failing(A)) == ([B, C], [], [A])
    everything = [drained(node) for node in ON.values()]
    assert listed(*everything) == ([A, B, C], [A, B, C], []), "used for want of others, and draining all the same"
    assert listed(failing(A), failing(B), lost("worker-3", OLD)) == ([A, B], [], [A, B, C])


def test_the_last_one_that_fails_and_drains_is_listed_as_failing() -> None:
    alone = make_slice(make_endpoint(A, node="worker-1"))
    (found,) = Resolver(index_of(WEB, alone, drained("worker-1"), failing(A)), "").endpoints(WEB)
    assert ([str(backend.address) for backend in found.used], found.draining) == ([A], ())
    assert [str(failing.address) for failing in found.failing] == [A]


def test_what_has_ended_does_not_drain_and_where_all_is_published_nothing_fails() -> None:
    ended = make_slice(make_endpoint(A, ready=False, serving=False, terminating=True), make_endpoint(B))
    (found,) = Resolver(index_of(WEB, ended), "").endpoints(WEB)
    assert ([str(backend.address) for backend in found.used], found.draining) == ([B], ())
    published = replace(WEB, publish_not_ready_addresses=True)
    (found,) = Resolver(index_of(published, PIECE, failing(A), lost("worker-2")), "").endpoints(published)
    assert (len(found.used), found.failing) == (3, ())


# --- whom it touches --------------------------------------------------------------


def test_what_fails_touches_the_services_that_have_it_and_no_others() -> None:
    services = [make_service(name, ips=(f"10.96.1.{i}",)) for i, name in enumerate("abc")]
    selecting = make_service("d", ips=("10.96.1.9",), selector={"app": "web"})
    pieces = [
        make_slice(make_endpoint(f"10.244.{i}.1", node=f"worker-{i}"), service=name, name=f"{name}-1")
        for i, name in enumerate("abc")
    ]
    index = index_of(*services, selecting, *pieces, PODS[0])

    def touched(*values: Value, gone: bool = False) -> set[str]:
        return {key.name for value in values for key in index.put(ref_of(value), () if gone else (value,))}

    assert touched(Member("worker-1"), Node("worker-1")) == set()
    assert touched(lost("worker-1")) == {"b", "d"}
    assert touched(lost("worker-1", OLD)) == {"b", "d"}
    assert touched(lost("worker-1"), gone=True) == {"b", "d"}
    assert touched(failing(A)) == {"b", "d"}
    assert touched(failing(A, OLD)) == {"b", "d"}
    assert touched(failing(A), gone=True) == {"b", "d"}
    assert touched(failing(A, namespace="other")) == set()
    assert touched(drained("worker-2")) == {"c"}
    assert touched(Node("worker-2")) == {"c"}
    # What comes later is known, too, and what has gone is not.
    more = make_slice(make_endpoint("10.244.9.9", node="worker-2"), service="a", name="a-2")
    index.put(ref_of(more), (more,))
    assert touched(lost("worker-2")) == {"a", "c"}
    assert touched(failing("10.244.9.9")) == {"a"}
    moved = make_slice(make_endpoint("10.244.9.8", node="worker-3"), service="b", name="a-2")
    index.put(ref_of(moved), (moved,))
    assert touched(lost("worker-2", OLD)) == {"c"}
    assert (touched(failing("10.244.9.9", OLD)), touched(failing("10.244.9.8"))) == (set(), {"b"})


# --- flows of UDP -----------------------------------------------------------------


@pytest.mark.parametrize("source", ["slice", "pods"])
@pytest.mark.parametrize(
    ("trouble", "keeps"),
    [
        ([], {A, B, C}),
        ([drained("worker-2")], {A, B, C}),
        ([lost("worker-2")], {A, C}),
        ([failing(B)], {A, C}),
        ([drained("worker-2"), lost("worker-2")], {A, C}),
        ([drained("worker-2"), failing(B)], {A, C}),
        ([failing(A), failing(B), failing(C)], {A, B, C}),
    ],
    ids=["none", "drained", "lost", "failing", "drained and lost", "drained and failing", "all"],
)
def test_flows_stay_with_an_endpoint_that_is_drained_and_leave_one_that_has_failed(
    source: str, trouble: list[Value], keeps: set[str]
) -> None:
    from nodeport_nft.flows import UDP
    from nodeport_nft.reconcile.stale import changed_frontends, stale_frontends

    service = make_service("dns", make_port(53, protocol="UDP"), selector={"app": "web"} if source == "pods" else {})
    from_where = PODS if source == "pods" else (make_slice(*PIECE.endpoints, service="dns", protocol="UDP"),)
    state = NodeState(FACTS)
    for value in (service, *from_where, *trouble):
        state.put(ref_of(value), (value,))
    state.compile(sorted(state.touched))
    edits = state.tables.take_edits()
    for found in (
        stale_frontends(state.snapshot(), state.tables, {}, ()),
        changed_frontends(state.snapshot([service.key]), state.tables, edits, ()),
    ):
        known = found[Family.IPV4]
        destination = UDP, ip_address("10.96.0.10").packed, 53
        kept = {ip for ip in (A, B, C) if not known.is_stale(destination, (ip_address(ip).packed, 8080))}
        assert kept == keeps


def test_a_snapshot_of_a_state_gives_the_same_state() -> None:
    state = NodeState(FACTS)
    for value in (WEB, PIECE, failing(A), lost("worker-2"), drained("worker-3"), Member("worker-1")):
        state.put(ref_of(value), (value,))
    state.compile([WEB.key])
    again = compile_snapshot(state.snapshot(), FACTS)
    assert again.problems() == state.problems()
    assert [t.elements for t in again.tables.tables()] == [t.elements for t in state.tables.tables()]
    assert state.snapshot([ObjectName("default", "none")]) == replace(
        Snapshot(), nodes=(drained("worker-3"),), members=(lost("worker-2"),), probe_failures=(failing(A),)
    )
