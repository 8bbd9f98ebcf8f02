"""The node's state: what a sync is given of the objects, and what is counted of the Services."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

import pytest
from msgspec.structs import replace

from nodeport_nft.compile import MAGLEV_SLOTS, MAX_ENDPOINTS
from nodeport_nft.model import (
    EndpointSlice,
    Family,
    LoadBalancing,
    Node,
    ObjectName,
    Pod,
    Ref,
    Service,
    Snapshot,
    Value,
)
from nodeport_nft.plan import ListedTable
from nodeport_nft.reconcile import NodeState, NodeTables, compile_snapshot
from nodeport_nft.reconcile.node_tables import service_problems
from nodeport_nft.resolve import Backend, Frontend, FrontendKind, Place, Resolved
from nodeport_nft.ruleset import Element, Key
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice, ref_of


def pod(name: str, app: str, address: str, node: str = "worker-2") -> Pod:
    return Pod("default", name, {"app": app}, (ip_address(address),), node)


WEB = make_service("web", selector={"app": "web"})
DNS = make_service("dns", ips=("10.96.0.11",), selector={"app": "dns"})
BARE = make_service("bare", ips=("10.96.0.12",))
PODS = (pod("web-1", "web", "10.244.1.1"), pod("dns-1", "dns", "10.244.1.2"), pod("idle", "none", "10.244.1.3"))
PIECES = tuple(make_slice("10.244.2.1", service=name, name=f"{name}-x") for name in ("bare", "dns", "gone"))
NODES = (Node("worker-1"), Node("worker-2"))


def state_of(*values: Value) -> NodeState:
    state = NodeState(FACTS)
    for value in values:
        state.put(ref_of(value), (value,))
    sync(state)
    return state


def sync(state: NodeState) -> set[ObjectName]:
    """Compile what is touched, and nothing else."""
    keys, state.touched = state.touched, set()
    state.compile(sorted(keys))
    return keys


def names(snapshot: Snapshot) -> tuple[set[str], set[str], set[str], set[str]]:
    return (
        {service.name for service in snapshot.services},
        {piece.name for piece in snapshot.slices},
        {found.name for found in snapshot.pods},
        {node.name for node in snapshot.nodes},
    )


@pytest.mark.parametrize(
    ("keys", "services", "slices", "pods"),
    [
        (None, {"web", "dns", "bare"}, {"bare-x", "dns-x"}, {"web-1", "dns-1"}),
        ([], set(), set(), set()),
        (["web"], {"web"}, set(), {"web-1"}),
        (["dns"], {"dns"}, {"dns-x"}, {"dns-1"}),
        (["bare"], {"bare"}, {"bare-x"}, set()),
        (["bare", "gone", "web"], {"bare", "web"}, {"bare-x"}, {"web-1"}),
    ],
    ids=["all", "none", "of pods", "of both", "without a selector", "one of them is gone"],
)
def test_a_snapshot_is_of_the_services_that_are_asked_for_and_what_may_be_theirs(
    keys: list[str] | None, services: set[str], slices: set[str], pods: set[str]
) -> None:
    """A change costs what it touches: nothing of other Services, which there may be 100,000 of."""
    state = state_of(WEB, DNS, BARE, *PODS, *PIECES, *NODES)
    asked = None if keys is None else [ObjectName("default", key) for key in keys]
    assert names(state.snapshot(asked)) == (services, slices, pods, {"worker-1", "worker-2"})


def test_a_pod_of_two_services_is_in_a_snapshot_once() -> None:
    state = state_of(WEB, replace(WEB, name="web-too"), PODS[0])
    assert state.snapshot().pods == (PODS[0],)


# --- what is counted ----------------------------------------------------------

HERE, AWAY = make_endpoint("10.244.1.1", node=FACTS.name), make_endpoint("10.244.2.1", node="worker-2")
OPEN = replace(make_service("web", make_port(node_port=30080)), external_ips=(ip_address("192.0.2.1"),))


@pytest.mark.parametrize(
    ("internal", "external", "piece", "starving"),
    [
        ("Cluster", "Cluster", (AWAY,), set()),
        ("Local", "Cluster", (AWAY,), {"internal"}),
        ("Cluster", "Local", (AWAY,), {"external"}),
        ("Local", "Local", (AWAY,), {"internal", "external"}),
        ("Local", "Local", (AWAY, HERE), set()),
        ("Local", "Local", (), set()),  # that is another matter: there is none anywhere
        ("PreferLocal", "PreferLocal", (AWAY,), set()),
        ("Local", "PreferLocal", (AWAY,), {"internal"}),
    ],
)
def test_services_that_a_policy_leaves_without_an_endpoint_here_are_counted(
    internal: str, external: str, piece: tuple[object, ...], starving: set[str]
) -> None:
    service = replace(OPEN, internal_traffic_policy=internal, external_traffic_policy=external)
    made: EndpointSlice = make_slice(*piece)  # type: ignore[arg-type]  # endpoints
    other = make_service("other", make_port(81), ips=("10.96.0.20",))
    state = state_of(service, made, other)
    wanted = {(Family.IPV4, which): 1 for which in starving}
    assert +state.starving == wanted, "once each, however many frontends it is true of"
    assert +state.idle == {Family.IPV4: 1 + (not piece)}
    for changed in (replace(service, session_affinity_seconds=9), service):
        state.put(ref_of(service), (changed,))
        sync(state)
        assert +state.starving == wanted, "and once, however often it is compiled"
    state.put(ref_of(service), ())
    sync(state)
    assert (+state.starving, +state.idle) == ({}, {Family.IPV4: 1})
    assert state.idle_services(9) == (1, (other.key,))


def test_services_without_an_endpoint_are_named_those_of_longest_standing_first() -> None:
    both = ("10.96.0.10", "fd00:10:96::a")
    services = [replace(make_service(name, ips=both), ports=(make_port(),)) for name in ("c", "a", "b")]
    state = NodeState(FACTS)
    for service in services:
        state.put(ref_of(service), (service,))
        sync(state)
    keys = tuple(service.key for service in services)
    assert state.idle_services(2) == (3, keys[:2])
    assert +state.idle == {Family.IPV4: 3, Family.IPV6: 3}
    piece = make_slice("10.244.1.1", service="c", name="c-1")
    state.put(ref_of(piece), (piece,))
    assert sync(state) == {keys[0]}
    assert state.idle_services(9) == (3, keys), "in the other family there is none yet, and it keeps its place"
    assert +state.idle == {Family.IPV4: 2, Family.IPV6: 3}
    six = make_slice("fd00:244::1", service="c", name="c-2")
    state.put(ref_of(six), (six,))
    sync(state)
    assert state.idle_services(9) == (2, keys[1:])
    state.put(ref_of(six), ())
    sync(state)
    assert state.idle_services(9) == (3, (*keys[1:], keys[0])), "the latest comes last"


# --- what is touched ----------------------------------------------------------


def test_a_change_touches_its_services_until_they_are_compiled() -> None:
    state = NodeState(FACTS)
    touched = [state.put(ref_of(value), (value,)) for value in (WEB, DNS, PODS[0], PODS[2])]
    assert touched == [{WEB.key}, {DNS.key}, {WEB.key}, set()]
    assert state.touched == {WEB.key, DNS.key}
    sync(state)
    assert state.put(ref_of(PODS[0]), (PODS[0],)) == set(), "it is as it was"
    assert state.touched == set()
    state.refit(replace(FACTS, masquerade_bit=3), {})
    assert state.touched == {WEB.key, DNS.key}, "of other facts, all of them are"


def test_compiling_tells_what_each_service_wanted_until_then() -> None:
    piece = make_slice("10.244.2.1")
    bare: Service = replace(WEB, selector={})
    state = state_of(bare, piece)
    now = state.tables.wants(bare.key)
    state.put(ref_of(piece), ())
    assert state.compile([bare.key]) == {bare.key: now}
    assert state.tables.wants(bare.key) != now
    state.tables.restore(bare.key, now)
    assert state.tables.wants(bare.key) == now
    headless = replace(bare, headless=True, cluster_ips=())
    state.put(ref_of(bare), (headless,))
    sync(state)
    assert not any(state.tables.wants(bare.key).values()), "it has no frontends any more"


def test_the_cluster_ips_of_another_proxys_services_are_known_for_as_long_as_they_are_its() -> None:
    """What is sent there is not ours to drop, for a daemon no less than for one sync."""
    theirs = make_service("web", ips=("10.96.0.10", "fd00:10:96::a"), proxy_name="another-proxy")
    for service, count in ((theirs, 1), (replace(theirs, proxy_name=None), 0), (theirs, 1), (None, 0)):
        state = state_of(make_service("other", ips=("10.96.0.11",)))
        for value in (replace(theirs, proxy_name=None), theirs, service):
            state.put(Ref("Service", *theirs.key), (value,) if value else ())
            sync(state)
        for family, ip in zip(Family, ("10.96.0.10", "fd00:10:96::a"), strict=True):
            held = state.tables.table(family).elements.get("foreign-cluster-ips", {})
            assert set(held) == ({(ip,)} if count else set())
        once = compile_snapshot(state.snapshot(), FACTS).tables
        for one, other in zip(state.tables.tables(), once.tables(), strict=True):
            assert {n: dict(e) for n, e in one.elements.items() if e} == {
                n: dict(e) for n, e in other.elements.items() if e
            }


def test_it_is_known_who_is_served_and_whose_names_may_have_changed() -> None:
    state = state_of(WEB, DNS)
    assert (state.served, state.renamed) == ({WEB.key, DNS.key}, {WEB.key, DNS.key})
    state.renamed.clear()
    state.put(ref_of(WEB), (replace(WEB, proxy_name="another"),))
    sync(state)
    assert (state.served, state.renamed) == ({DNS.key}, {WEB.key})
    state.put(ref_of(DNS), ())
    sync(state)
    assert (state.served, state.renamed) == (set(), {WEB.key, DNS.key})


@pytest.mark.parametrize("allowed", [None, (), (ip_network("198.51.100.0/24"),), (ip_network("192.0.2.0/24"),)])
def test_addresses_from_outside_are_served_as_far_as_the_facts_allow(allowed: tuple[IPv4Network, ...] | None) -> None:
    is_served = allowed is None or any(ip in cidr for cidr in allowed for ip in OPEN.external_ips)
    found = compile_snapshot(Snapshot((OPEN,)), replace(FACTS, external_ips=allowed))
    addresses = {key[0] for key in found.tables.table(Family.IPV4).elements["service-ips"]}
    assert ("192.0.2.1" in addresses) is is_served
    assert len(found.problems()) == (not is_served)


def test_who_has_endpoints_that_are_kept_is_touched() -> None:
    piece = make_slice("10.244.2.1", service="bare", name="lost")
    before = state_of(BARE, piece)
    listed = {family: ListedTable.of(before.tables.table(family)) for family in Family}
    state = state_of(BARE)
    assert state.touched == set()
    state.keep({ref_of(piece)}, listed)
    assert state.touched == {BARE.key}


@pytest.mark.parametrize(
    ("count", "weight", "balancing", "told"),
    [
        (MAX_ENDPOINTS, 1, "random", ""),
        (
            MAX_ENDPOINTS + 1,
            1,
            "random",
            f"{MAX_ENDPOINTS + 1} endpoints, of which the first {MAX_ENDPOINTS} are used",
        ),
        (MAX_ENDPOINTS // 2, 2, "random", ""),
        (
            MAX_ENDPOINTS,
            2,
            "random",
            f"{2 * MAX_ENDPOINTS} endpoints, counted by weight, of which the first {MAX_ENDPOINTS} are used",
        ),
        (
            MAX_ENDPOINTS // 2 + 1,
            2,
            "random",
            f"{MAX_ENDPOINTS + 2} endpoints, counted by weight, of which the first {MAX_ENDPOINTS} are used",
        ),
        (MAGLEV_SLOTS, 100, "maglev", ""),
        (MAGLEV_SLOTS + 1, 1, "maglev", f"{MAGLEV_SLOTS + 1} endpoints, of which the first {MAGLEV_SLOTS} are used"),
    ],
)
def test_more_endpoints_than_a_frontend_has_room_for_are_told(
    count: int, weight: int, balancing: str, told: str
) -> None:
    service = make_service()
    if balancing == "maglev":
        service = replace(service, load_balancing=LoadBalancing.MAGLEV)
    backend = Backend(ip_address("10.244.1.1"), 8080, Place.ELSEWHERE, weight)
    port = service.ports[0]
    frontend = Frontend(
        FrontendKind.CLUSTER_IP, Family.IPV4, service.cluster_ips[0], port.protocol, port.port, "", (backend,) * count
    )
    problems = service_problems(service, (frontend,), Resolved((frontend,), 1))
    assert problems == ((f"Service/default/web: {told}; split the Service",) if told else ())


@pytest.mark.parametrize("how", ["at the start", "later"])
def test_endpoints_have_the_slots_of_a_table_of_ours_until_they_have_their_own(how: str) -> None:
    piece = make_slice("10.244.2.1", "10.244.2.2", "10.244.2.3", service="bare", name="bare-x")
    frontends = state_of(BARE, piece).resolver.resolved(BARE).frontends

    def slots(tables: NodeTables) -> dict[Key, Element]:
        """The Service's slots, as it gets them now."""
        tables.remove(BARE.key)
        tables.put(BARE, frontends)
        return dict(tables.table(Family.IPV4).elements["service-endpoints"])

    in_order = slots(NodeTables(FACTS))
    values = [element.value for element in reversed(in_order.values())]
    turned = {key: Element(key, value) for key, value in zip(in_order, values, strict=True)}
    for differences in ((), ("another chain",)):
        listed = {Family.IPV4: ListedTable(elements={"service-endpoints": turned}, differences=differences)}
        tables = NodeTables(FACTS, {**listed, Family.IPV6: None} if how == "at the start" else {})
        assert tables.differences == ({Family.IPV4: differences} if how == "at the start" else {})
        if how == "later":
            tables.adopt(listed)
        expected = in_order.values() if differences else turned.values()
        assert [element.value for element in slots(tables).values()] == [element.value for element in expected]
        if how == "later":
            tables.forget()
        else:
            tables.first_transaction()
        assert tables.differences == {}
        assert slots(tables) == in_order, "they are given anew"


def test_what_was_prepared_is_compiled_in_one_order_with_what_has_changed_since() -> None:
    first, second = (make_service(name, make_port(node_port=30080), selector={"app": name}) for name in "ab")
    endpoints = [f"10.244.1.{number}" for number in (1, 2, 3)]
    objects: list[Value] = [first, second, make_slice(*endpoints, service="a", name="a-1")]
    objects.append(make_slice("10.244.2.1", "10.244.2.2", service="b", name="b-1"))
    slots: dict[Key, tuple[str, int]] = {
        ("tcp", 30080, slot): (ip, 8080) for slot, ip in enumerate(reversed(endpoints))
    }
    held = {key: Element(key, value) for key, value in slots.items()}
    state = NodeState.of(FACTS, {}, [(ref_of(value), (value,)) for value in objects])
    state.prepare()
    state.tables.adopt({Family.IPV4: ListedTable({"node-port-endpoints": held})})
    state.put(ref_of(first), (replace(first, publish_not_ready_addresses=True),))
    sync(state)
    now = state.tables.table(Family.IPV4).elements["node-port-endpoints"]
    assert {key: element.value for key, element in now.items()} == slots, "whoever has the frontend keeps its slots"


@pytest.mark.parametrize("created", [("2", "1"), ("1", "2")])
def test_whoever_has_a_contended_frontend_keeps_its_slots_at_a_start(created: tuple[str, str]) -> None:
    pair = [
        make_service(name, make_port(node_port=30080), selector={"app": name}, created=at)
        for name, at in zip("ab", created, strict=True)
    ]
    endpoints = {name: [f"10.244.{number}.{last}" for last in (1, 2, 3)] for number, name in enumerate("ab")}
    pieces = [make_slice(*own, service=name, name=f"{name}-1") for name, own in endpoints.items()]
    holder = min(pair, key=lambda service: service.created).name
    slots: dict[Key, tuple[str, int]] = {
        ("tcp", 30080, slot): (ip, 8080) for slot, ip in enumerate(reversed(endpoints[holder]))
    }
    held = {key: Element(key, value) for key, value in slots.items()}
    listed = {Family.IPV4: ListedTable({"node-port-endpoints": held})}
    values: list[Value] = [*pair, *pieces]
    state = NodeState.of(FACTS, listed, [(ref_of(value), (value,)) for value in values])
    sync(state)
    now = state.tables.table(Family.IPV4).elements["node-port-endpoints"]
    assert {key: element.value for key, element in now.items()} == slots
