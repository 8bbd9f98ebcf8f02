"""Which flows are stale: decided from the tables as they are to be and as they were."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from msgspec.structs import replace

from nodeport_nft.daemon.flow_cleaner import merged
from nodeport_nft.flows import (
    SCTP,
    TCP,
    UDP,
    Destination,
    Frontends,
    Place,
    Sources,
    guarding_set,
    led_to,
    only_draining,
)
from nodeport_nft.model import (
    Endpoint,
    EndpointSlice,
    Family,
    LoadBalancing,
    Member,
    Node,
    NodeFacts,
    NodePortMode,
    Pod,
    ProbeFailure,
    Service,
    Snapshot,
)
from nodeport_nft.plan import ListedTable
from nodeport_nft.reconcile import compile_snapshot, stale_frontends
from nodeport_nft.ruleset import Chain, Dnat, Drop, Field, Goto, GotoChance, InSet
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice

pytestmark = pytest.mark.proves("K2")

DNS = make_service("dns", make_port(53, node_port=30053, protocol="UDP"), ips=("10.96.0.10", "fd00:10:96::a"))
WEB = make_service("web", make_port(80, node_port=30080), ips=("10.96.0.20",))
DNS_SLICES = (
    make_slice("10.244.1.1", "10.244.2.1", service="dns", protocol="UDP"),
    make_slice("fd00:244:1::1", service="dns", name="dns-6", protocol="UDP"),
)


def frontends(
    services: tuple[Service, ...],
    slices: tuple[EndpointSlice, ...] = DNS_SLICES,
    *,
    before: Snapshot | None = None,
    facts: NodeFacts = FACTS,
    family: Family = Family.IPV4,
    local: tuple[str, ...] = (),
) -> Frontends:
    """The frontends once these objects are in force, after those of ``before``."""
    snapshot = Snapshot(services, slices)
    listed: dict[Family, ListedTable | None] = {}
    if before is not None:
        held = compile_snapshot(before, facts).tables.desired[family].elements
        listed[family] = ListedTable(elements=dict(held))
    return stale_frontends(snapshot, compile_snapshot(snapshot, facts).tables, listed, map(ip_address, local))[family]


def at(text: str) -> Place:
    """``address port`` as the kernel's side says it."""
    address, port = text.split()
    return ip_address(address).packed, int(port)


def to(text: str, protocol: int = UDP) -> Destination:
    """The same where a client sends to."""
    return (protocol, *at(text))


CASES = {
    "clusterIP, an endpoint of it": ("10.96.0.10 53", "10.244.1.1 8080", False),
    "clusterIP, another endpoint of it": ("10.96.0.10 53", "10.244.2.1 8080", False),
    "clusterIP, an endpoint that left": ("10.96.0.10 53", "10.244.1.9 8080", True),
    "clusterIP, the endpoint's other port": ("10.96.0.10 53", "10.244.1.1 9090", True),
    "clusterIP, never translated": ("10.96.0.10 53", "10.96.0.10 53", True),
    "nodePort, an endpoint of it": ("172.30.1.2 30053", "10.244.1.1 8080", False),
    "nodePort, an endpoint that left": ("172.30.1.2 30053", "10.244.1.9 8080", True),
    "nodePort, never translated": ("172.30.1.2 30053", "172.30.1.2 30053", True),
    "nodePort, on an address that serves none": ("172.30.1.3 30053", "172.30.1.3 30053", False),
    "a port of the node": ("172.30.1.2 30054", "172.30.1.2 30054", False),
    "the nodePort of a TCP service": ("172.30.1.2 30080", "172.30.1.2 30080", False),
    "an address of the service CIDR without a service": ("10.96.9.9 53", "10.244.1.1 8080", True),
    "a port of a clusterIP without a service": ("10.96.0.10 54", "10.244.1.1 8080", True),
    "the service CIDR's last address": ("10.111.255.255 53", "10.244.1.1 8080", True),
    "just outside the service CIDR": ("10.112.0.0 53", "10.244.1.1 8080", False),
    "a pod itself": ("10.244.1.9 8080", "10.244.1.9 8080", False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_flow_is_stale_unless_its_answers_come_from_an_endpoint(case: str) -> None:
    destination, reply, stale = CASES[case]
    assert frontends((DNS, WEB)).is_stale(to(destination), at(reply)) is stale


@pytest.mark.parametrize(
    ("destination", "reply", "stale"),
    [
        ("fd00:10:96::a 53", "fd00:244:1::1 8080", False),
        ("fd00:10:96::a 53", "fd00:244:1::2 8080", True),
        ("fd00:30:1::2 30053", "fd00:30:1::2 30053", True),
        ("fd00:10:96::b 53", "fd00:244:1::1 8080", True),
        ("fd00:10:97::a 53", "fd00:10:97::a 53", False),
    ],
)
def test_ipv6(destination: str, reply: str, stale: bool) -> None:
    assert frontends((DNS,), family=Family.IPV6).is_stale(to(destination), at(reply)) is stale


def test_without_endpoints_every_flow_is_stale() -> None:
    known = frontends((DNS,), ())
    assert known
    assert known.is_stale(to("10.96.0.10 53"), at("10.244.1.1 8080"))
    assert known.is_stale(to("172.30.1.2 30053"), at("10.244.1.1 8080"))


def test_what_was_a_frontend_until_now_has_no_endpoints() -> None:
    moved = replace(DNS, ports=(make_port(53, node_port=30099, protocol="UDP"),))
    known = frontends((moved,), before=Snapshot((DNS,), DNS_SLICES))
    assert known.is_stale(to("172.30.1.2 30053"), at("10.244.1.1 8080"))
    assert not known.is_stale(to("172.30.1.2 30099"), at("10.244.1.1 8080"))
    assert not known.is_stale(to("10.96.0.10 53"), at("10.244.1.1 8080"))

    gone = frontends((WEB,), (), before=Snapshot((DNS,), DNS_SLICES))
    assert gone.is_stale(to("172.30.1.2 30053"), at("10.244.1.1 8080"))
    assert gone.is_stale(to("10.96.0.10 53"), at("10.244.1.1 8080"))


def test_what_has_no_frontend_now_or_before_is_not_looked_for() -> None:
    assert not frontends((WEB,), ()).has(UDP)
    assert not frontends((WEB,), (), before=Snapshot((WEB,))).has(UDP)
    assert frontends((WEB,), (), before=Snapshot((DNS,))).has(UDP)
    assert frontends((WEB,), ()).has(TCP)
    assert frontends((), (), before=Snapshot((WEB,))).has(TCP)
    assert not frontends((DNS,)).has(TCP)
    assert not frontends((DNS, WEB)).has(SCTP)
    assert not frontends((), ())
    ipv4_only = replace(DNS, cluster_ips=DNS.cluster_ips[:1], ip_families=(Family.IPV4,))
    assert not frontends((ipv4_only,), family=Family.IPV6)


@pytest.mark.parametrize(("protocol", "number"), [("TCP", TCP), ("SCTP", SCTP), ("UDP", UDP)])
def test_each_protocol_has_frontends_of_its_own(protocol: str, number: int) -> None:
    """Of all a Service's addresses, and each protocol's endpoints for itself though they share a number."""
    both = make_service(
        "both",
        make_port(53, node_port=30053, protocol=protocol, name="one"),
        make_port(54, node_port=30054, protocol="UDP" if protocol == "TCP" else "TCP", name="two"),
        ips=("10.96.0.10",),
    )
    vip = (ip_address("192.0.2.53"),)
    both = replace(both, external_ips=(ip_address("198.51.100.7"),), load_balancer_ips=vip)
    pieces = (make_slice("10.244.1.1", service="both", protocol=protocol, port_name="one"),)
    known = frontends((both,), pieces)
    other = UDP if protocol == "TCP" else TCP
    for where in ("10.96.0.10 53", "172.30.1.2 30053", "192.0.2.53 53", "198.51.100.7 53"):
        assert not known.is_stale(to(where, number), at("10.244.1.1 8080")), where
        assert known.is_stale(to(where, number), at("10.244.1.2 8080")), "its endpoint has gone"
        assert known.is_stale(to(where, number), at(where)), "begun before there was a Service"
        if not where.startswith("10.96."):  # all of the service CIDR is ours
            assert not known.concerns(to(where, other)), "nobody serves this number in the other protocol"


def test_an_attempt_is_better_made_elsewhere_than_where_an_endpoint_drains() -> None:
    """A flow of UDP that an endpoint has it keeps; a connection that was not even answered it never had."""
    for protocol, number in (("UDP", UDP), ("TCP", TCP)):
        service = make_service("dns", make_port(53, protocol=protocol), ips=("10.96.0.10",))
        leaving = make_endpoint("10.244.1.1", ready=False, serving=True, terminating=True)
        piece = make_slice(leaving, make_endpoint("10.244.2.1"), service="dns", protocol=protocol)
        stale = frontends((service,), (piece,)).is_stale(to("10.96.0.10 53", number), at("10.244.1.1 8080"))
        assert stale is (protocol == "TCP")
    both = make_service("dns", make_port(53, protocol="UDP"), make_port(53), ips=("10.96.0.10",))
    pieces = [make_slice(leaving, service="dns", protocol=protocol, name=protocol) for protocol in ("UDP", "TCP")]
    known = frontends((both,), (*pieces, make_slice("10.244.2.1", service="dns", name="tcp")))
    answers = [known.is_stale(to("10.96.0.10 53", number), at("10.244.1.1 8080")) for number in (UDP, TCP)]
    assert answers == [False, True], "of one Service, each protocol for itself"


def test_every_local_address_serves_node_ports_where_the_node_is_told_so() -> None:
    everywhere = replace(FACTS, node_port_mode=NodePortMode.ALL, node_port_ips=())
    known = frontends((DNS,), facts=everywhere, local=("192.0.2.7", "127.0.0.1", "fd00::7"))
    assert known.is_stale(to("192.0.2.7 30053"), at("192.0.2.7 30053"))
    assert not known.is_stale(to("192.0.2.7 30053"), at("10.244.1.1 8080"))
    assert not known.is_stale(to("127.0.0.1 30053"), at("127.0.0.1 30053"))
    gone = frontends((), (), before=Snapshot((DNS,), DNS_SLICES), facts=everywhere, local=("192.0.2.7",))
    assert gone.is_stale(to("192.0.2.7 30053"), at("10.244.1.1 8080"))


@pytest.mark.proves("F4", "X5")
def test_who_may_no_longer_connect_is_forgotten() -> None:
    """Each frontend by its own ranges, and each family by its own prefixes; without ranges, nobody."""
    vip = (ip_address("192.0.2.53"), ip_address("fd00:5::53"))
    ranges = tuple(map(ip_network, ("198.51.100.0/25", "198.51.100.128/26", "203.0.113.7/32", "fd00:9::/64")))
    service = replace(DNS, load_balancer_ips=vip, load_balancer_source_ranges=ranges[:2])
    service = replace(service, node_port_source_ranges=ranges[2:])

    def admitted(known: Frontends, destination: str, *sources: str) -> list[bool]:
        return [known.admits(to(destination), ip_address(source).packed) for source in sources]

    four = frontends((service,))
    outer = "198.51.99.255", "198.51.100.192"
    assert admitted(four, "192.0.2.53 53", "198.51.100.0", "198.51.100.191", *outer) == [True, True, False, False]
    assert admitted(four, "172.30.1.2 30053", "203.0.113.7", "203.0.113.6", "203.0.113.8") == [True, False, False]
    assert admitted(four, "10.96.0.10 53", *outer) == [True, True], "a clusterIP is guarded by neither"
    six = frontends((service,), family=Family.IPV6)
    assert admitted(six, "fd00:30:1::2 30053", "fd00:9::1", "fd00:8::1") == [True, False]
    assert admitted(six, "fd00:5::53 53", "fd00:9::1") == [False], "prefixes of the other family alone"
    assert admitted(frontends((DNS,)), "172.30.1.2 30053", *outer) == [True, True]


def test_a_search_that_waits_knows_the_latest_ranges() -> None:
    place, other = to("172.30.1.2 30053"), to("172.30.1.2 30054")
    none, some = Sources.of(()), Sources.of(["203.0.113.0/24"])
    guarded = Frontends({place: frozenset()}, sources={place: none})
    assert dict(merged(guarded, Frontends({place: frozenset()})).sources) == {}
    assert dict(merged(guarded, Frontends({other: frozenset()}, sources={other: some})).sources) == {
        place: none,
        other: some,
    }


def test_another_proxys_service_is_not_ours_to_judge() -> None:
    other = replace(DNS, name="other", cluster_ips=(ip_address("10.96.7.7"),), proxy_name="theirs")
    known = frontends((DNS, other))
    assert not known.is_stale(to("10.96.7.7 53"), at("10.244.1.9 8080"))
    assert known.is_stale(to("10.96.7.8 53"), at("10.244.1.9 8080"))


def draining(address: str, *, serving: bool = True) -> EndpointSlice:
    leaving = make_endpoint(address, ready=False, serving=serving, terminating=True)
    return make_slice(leaving, make_endpoint("10.244.2.1"), service="dns", protocol="UDP")


def test_an_endpoint_keeps_its_flows_while_it_terminates_and_serves() -> None:
    for destination in ("10.96.0.10 53", "172.30.1.2 30053"):
        assert not frontends((DNS,), (draining("10.244.1.1"),)).is_stale(to(destination), at("10.244.1.1 8080"))
        silent = frontends((DNS,), (draining("10.244.1.1", serving=False),))
        assert silent.is_stale(to(destination), at("10.244.1.1 8080"))
        assert not silent.is_stale(to(destination), at("10.244.2.1 8080"))


@pytest.mark.parametrize(
    ("said", "stale"),
    [
        (Member("worker-2"), False),
        (Member("worker-2", 100.0), True),
        (Member("worker-9", 100.0), False),
        (ProbeFailure("default", ip_address("10.244.1.1"), 100.0), True),
        (ProbeFailure("other", ip_address("10.244.1.1"), 100.0), False),
    ],
    ids=["registered", "lost", "another is lost", "its probe fails", "that of another namespace fails"],
)
@pytest.mark.parametrize("how", ["terminating", "drained"])
def test_an_endpoint_that_drains_keeps_its_flows_until_it_has_failed(
    how: str, said: Member | ProbeFailure, stale: bool
) -> None:
    piece = draining("10.244.1.1")
    if how == "drained":
        piece = make_slice("10.244.1.1", "10.244.2.1", service="dns", protocol="UDP")
        piece = replace(piece, drained=(ip_address("10.244.1.1"),))
    beside = make_slice(make_endpoint("10.244.3.1", node="worker-3"), service="dns", name="beside", protocol="UDP")
    told = {"members": (said,)} if isinstance(said, Member) else {"probe_failures": (said,)}
    snapshot = Snapshot((DNS,), (piece, beside), **told)
    known = stale_frontends(snapshot, compile_snapshot(snapshot, FACTS).tables, {}, ())[Family.IPV4]
    assert known.is_stale(to("10.96.0.10 53"), at("10.244.1.1 8080")) is stale


def test_a_terminating_endpoint_counts_for_its_own_frontends_alone() -> None:
    other = make_service("other", make_port(53, protocol="UDP"), ips=("10.96.0.30",))
    known = frontends((DNS, other), (draining("10.244.1.1"),))
    assert known.is_stale(to("10.96.0.30 53"), at("10.244.1.1 8080"))


def test_a_pod_that_terminates_keeps_its_flows_while_it_is_ready() -> None:
    service = replace(DNS, selector={"app": "dns"})
    pods = (
        Pod("default", "stays", {"app": "dns"}, (ip_address("10.244.1.1"),)),
        Pod("default", "leaves", {"app": "dns"}, (ip_address("10.244.1.2"),), terminating=True),
        Pod("default", "left", {"app": "dns"}, (ip_address("10.244.1.3"),), terminating=True, ready=False),
    )
    snapshot = Snapshot((service,), (), pods)
    known = stale_frontends(snapshot, compile_snapshot(snapshot, FACTS).tables, {}, ())[Family.IPV4]
    answers = {n: known.is_stale(to("10.96.0.10 53"), at(f"10.244.1.{n} 8080")) for n in (1, 2, 3)}
    assert answers == {1: False, 2: False, 3: True}


def test_an_endpoint_of_weight_0_keeps_its_flows_while_it_is_ready() -> None:
    pieces = (
        make_slice("10.244.1.1", service="dns", protocol="UDP"),
        replace(
            make_slice(
                "10.244.1.2",
                make_endpoint("10.244.1.3", ready=False, serving=False),
                service="dns",
                name="idle",
                protocol="UDP",
            ),
            weight=0,
        ),
    )
    known = frontends((DNS,), pieces)
    answers = {n: known.is_stale(to("10.96.0.10 53"), at(f"10.244.1.{n} 8080")) for n in (1, 2, 3)}
    assert answers == {1: False, 2: False, 3: True}
    by_service = replace(DNS, weights={"10.244.1.1": 0})
    assert not frontends((by_service,)).is_stale(to("10.96.0.10 53"), at("10.244.1.1 8080"))
    beside_one_that_leaves = frontends((by_service,), (*DNS_SLICES, draining("10.244.1.4")))
    assert not beside_one_that_leaves.is_stale(to("10.96.0.10 53"), at("10.244.1.1 8080"))
    assert not beside_one_that_leaves.is_stale(to("10.96.0.10 53"), at("10.244.1.4 8080"))


@pytest.mark.parametrize("policy", ["Cluster", "Local", "PreferLocal"])
def test_with_affinity_the_endpoints_are_those_of_the_services_chains(policy: str) -> None:
    sticky = replace(DNS, session_affinity_seconds=60, external_traffic_policy=policy, internal_traffic_policy=policy)
    here = make_slice(make_endpoint("10.244.1.1", node="worker-1"), service="dns", protocol="UDP")
    known = frontends((sticky,), (here,))
    for destination in ("10.96.0.10 53", "172.30.1.2 30053"):
        assert not known.is_stale(to(destination), at("10.244.1.1 8080"))
        assert known.is_stale(to(destination), at("10.244.1.9 8080"))


def test_where_nothing_terminates_nothing_is_compiled_again() -> None:
    assert only_draining(Snapshot((DNS,), DNS_SLICES)) is None
    rest = only_draining(Snapshot((DNS, WEB), (*DNS_SLICES, draining("10.244.1.1"))))
    assert rest is not None
    assert [service.name for service in rest.services] == ["dns"]
    assert [str(e.address) for piece in rest.slices for e in piece.endpoints] == ["10.244.1.1"]


def pod(name: str, last: int, **more: object) -> Pod:
    made = Pod("default", name, {"app": "dns"}, (ip_address(f"10.244.1.{last}"),))
    return replace(made, **more)  # spelled out by each test


@pytest.mark.parametrize(
    ("more", "weights", "drains"),
    [
        ({}, {}, False),
        ({"terminating": True}, {}, True),
        ({"terminating": True, "ready": False}, {}, False),
        ({"weight": 0}, {}, True),
        ({"weight": 0, "ready": False}, {}, False),
        ({}, {"10.244.1.1": 0}, True),
        ({}, {"10.244.1.1": 3}, False),
        ({}, {"10.244.1.2": 0}, False),
        ({"ready": False}, {"10.244.1.1": 0}, False),
    ],
)
def test_a_pod_drains_while_it_is_ready_and_gets_nothing_new(
    more: dict[str, object], weights: dict[str, int], drains: bool
) -> None:
    """It is told by itself or by the Service's weights, of its own namespace alone."""
    service = replace(DNS, selector={"app": "dns"}, weights=weights)
    rest = only_draining(Snapshot((service,), (), (pod("one", 1, **more),)))
    assert ([] if rest is None else [found.name for found in rest.pods]) == ["one"] * drains
    if rest is not None:
        assert [(found.weight, found.terminating) for found in rest.pods] == [(1, True)]
        assert [dict(found.weights) for found in rest.services] == [{}]
    elsewhere = only_draining(Snapshot((service,), (), (replace(pod("one", 1, **more), namespace="other"),)))
    assert (elsewhere is not None) == (drains and not weights)


@pytest.mark.parametrize(
    ("endpoint", "weight", "weights", "drains"),
    [
        (make_endpoint("10.244.1.1"), 1, {}, False),
        (make_endpoint("10.244.1.1"), 0, {}, True),
        (make_endpoint("10.244.1.1"), 1, {"10.244.1.1": 0}, True),
        (make_endpoint("10.244.1.1"), 1, {"10.244.1.2": 0}, False),
        (make_endpoint("10.244.1.1", ready=False, serving=False), 0, {}, False),
        (make_endpoint("10.244.1.1", ready=False, serving=False), 1, {"10.244.1.1": 0}, False),
        (make_endpoint("10.244.1.1", ready=False, terminating=True), 1, {}, True),
        (make_endpoint("10.244.1.1", ready=False, serving=False, terminating=True), 1, {}, False),
        (make_endpoint("10.244.1.1", ready=False, serving=True), 1, {}, False),
    ],
)
def test_an_endpoint_of_a_slice_drains_alike(
    endpoint: Endpoint, weight: int, weights: dict[str, int], drains: bool
) -> None:
    piece = replace(make_slice(endpoint, service="dns", protocol="UDP"), weight=weight)
    rest = only_draining(Snapshot((replace(DNS, weights=weights),), (piece,)))
    assert (rest is not None) == drains
    if rest is not None:
        [left] = rest.slices
        assert left.weight == 1
        assert left.endpoints == (replace(endpoint, ready=False, serving=True, terminating=True),)
    if drains:
        beside = make_slice("10.244.1.9", service="dns", name="beside", protocol="UDP")
        rest = only_draining(Snapshot((replace(DNS, weights=weights),), (piece, beside)))
        assert rest is not None
        assert [len(left.endpoints) for left in rest.slices] == [1, 0], (
            "a slice without any says that there are slices"
        )


# --- small parts --------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefixes", "inside", "outside"),
    [
        ([], [], ["0.0.0.0", "10.0.0.1"]),
        (["10.0.0.0/30"], ["10.0.0.0", "10.0.0.3"], ["9.255.255.255", "10.0.0.4"]),
        (
            ["10.0.1.0/24", "10.0.0.8/32"],
            ["10.0.0.8", "10.0.1.0", "10.0.1.255"],
            ["10.0.0.7", "10.0.0.9", "10.0.2.0"],
        ),
        (["0.0.0.0/1"], ["0.0.0.0", "127.255.255.255"], ["128.0.0.0", "255.255.255.255"]),
        (["fd00::/127"], ["fd00::", "fd00::1"], ["fcff::", "fd00::2"]),
    ],
)
def test_sources_are_what_their_prefixes_hold(prefixes: list[str], inside: list[str], outside: list[str]) -> None:
    sources = Sources.of(prefixes)
    assert [ip_address(ip).packed in sources for ip in (*inside, *outside)] == [True] * len(inside) + [False] * len(
        outside
    )


def test_a_chain_leads_to_the_endpoints_of_all_that_it_leads_to() -> None:
    """By chance or not, and in circles, as somebody may have made them; each chain is looked at once."""
    chains = {
        "draw": Chain("draw", ((GotoChance("one", 1, 2),), (Goto("two"),), (Goto("gone"),))),
        "one": Chain("one", ((Drop(),), (Dnat("udp", "10.244.1.1", 8080),))),
        "two": Chain("two", ((Dnat("udp", "10.244.1.2", 9090), Goto("draw")), (Goto("one"),))),
    }
    assert sorted(led_to("draw", chains)) == [("10.244.1.1", 8080), ("10.244.1.2", 9090)]
    assert list(led_to("one", chains)) == [("10.244.1.1", 8080)]
    assert list(led_to("gone", chains)) == []


def test_a_guard_is_a_chain_that_drops_who_is_not_in_its_set() -> None:
    own = InSet((Field.SADDR,), "allowed", negated=True)
    chains = {
        "guard": Chain("guard", ((Drop(),), (own, Drop()))),
        "lets in": Chain("lets in", ((InSet((Field.SADDR,), "allowed"), Drop()),)),
        "by destination": Chain("by destination", ((InSet((Field.DADDR,), "allowed", negated=True), Drop()),)),
        "leads on": Chain("leads on", ((own, Goto("guard")),)),
    }
    assert {name: guarding_set(Goto(name), chains) for name in (*chains, "gone")} == {
        "guard": "allowed",
        **dict.fromkeys(("lets in", "by destination", "leads on", "gone"), ""),
    }
    assert guarding_set(None, chains) == guarding_set(("10.244.1.1", 80), chains) == ""


def test_a_service_cidr_is_ours_from_its_first_to_its_last_address_in_its_own_family() -> None:
    facts = replace(FACTS, service_cidrs=(ip_network("10.96.0.0/30"), ip_network("fd00:10:96::/126")))
    four, six = (frontends((), (), facts=facts, family=family) for family in Family)
    inside = {
        text: known.concerns(to(f"{text} 53"))
        for known, texts in (
            (four, ("10.95.255.255", "10.96.0.0", "10.96.0.3", "10.96.0.4")),
            (six, ("fd00:10:95:ffff::", "fd00:10:96::", "fd00:10:96::3", "fd00:10:96::4")),
        )
        for text in texts
    }
    assert list(inside.values()) == [False, True, True, False] * 2
    assert len(four.ranges) == len(six.ranges) == 1


def test_the_endpoints_of_all_frontends_of_a_place_are_taken_together() -> None:
    """Consistent hashing and policies fill several slots with one endpoint, and two pools with several."""
    for policy in ("Cluster", "Local", "PreferLocal"):
        hashed = replace(DNS, load_balancing=LoadBalancing.MAGLEV, external_traffic_policy=policy)
        ends = make_endpoint("10.244.1.1", node="worker-1"), make_endpoint("10.244.2.1")
        known = frontends((hashed,), (make_slice(*ends, service="dns", protocol="UDP"),))
        for where in ("10.96.0.10 53", "172.30.1.2 30053"):
            # From inside this node, policy Local leads to all of them; PreferLocal leads nobody away from here.
            away = policy == "PreferLocal" and where.endswith("30053")
            answers = [known.is_stale(to(where), at(f"10.244.{i}.1 8080")) for i in (1, 2, 3)]
            assert answers == [False, away, True], (policy, where)


def test_of_two_services_that_want_a_frontend_only_the_holders_endpoints_count() -> None:
    older, younger = (
        replace(DNS, created="2026-01-01T00:00:00Z"),
        replace(DNS, name="late", created="2026-02-01T00:00:00Z"),
    )
    late = make_slice("10.244.1.5", service="late", protocol="UDP")
    known = frontends((older, younger), (*DNS_SLICES, late))
    assert not known.is_stale(to("172.30.1.2 30053"), at("10.244.1.1 8080"))
    assert known.is_stale(to("172.30.1.2 30053"), at("10.244.1.5 8080"))


@pytest.mark.parametrize(("drained", "stale"), [(False, True), (True, False)])
def test_a_node_that_is_known_is_not_one_that_drains(drained: bool, stale: bool) -> None:
    """With policy PreferLocal a ready endpoint elsewhere has no flows from here; one that drains keeps its own."""
    service = replace(DNS, internal_traffic_policy="PreferLocal")
    ends = (make_endpoint("10.244.1.1", node="worker-1"), make_endpoint("10.244.2.1", node="worker-2"))
    piece = make_slice(*ends, service="dns", protocol="UDP")
    snapshot = Snapshot((service,), (piece,), nodes=(Node("worker-2", drained=drained),))
    known = stale_frontends(snapshot, compile_snapshot(snapshot, FACTS).tables, {}, ())[Family.IPV4]
    assert known.is_stale(to("10.96.0.10 53"), at("10.244.2.1 8080")) is stale
    assert not known.is_stale(to("10.96.0.10 53"), at("10.244.1.1 8080"))


def test_what_a_service_does_not_get_is_no_frontend_for_those_that_drain_either() -> None:
    """Among the UDP services alone it would get it: the clusterIP is that of one that has no UDP port."""
    thief = replace(DNS, external_ips=WEB.cluster_ips)
    known = frontends((thief, WEB), (draining("10.244.1.1"),))
    assert known.is_stale(to("10.96.0.20 53"), at("10.244.1.1 8080"))
    assert not known.is_stale(to("10.96.0.10 53"), at("10.244.1.1 8080"))


def test_other_local_addresses_are_not_ours_to_judge_where_chosen_ones_serve_node_ports() -> None:
    known = frontends((DNS,), local=("192.0.2.7",))
    assert known.concerns(to("172.30.1.2 30053"))
    assert not known.concerns(to("192.0.2.7 30053"))


def test_a_place_that_two_keys_lead_to_has_the_endpoints_of_both() -> None:
    """A nodePort on the node's address, and another Service's externalIP that is that address."""
    other = make_service("other", make_port(30053, protocol="UDP"), ips=("10.96.0.30",))
    other = replace(other, external_ips=(ip_address("172.30.1.2"),))
    theirs = make_slice("10.244.3.1", service="other", name="other", protocol="UDP")
    known = frontends((DNS, other), (*DNS_SLICES, theirs))
    answers = [known.is_stale(to("172.30.1.2 30053"), at(f"10.244.{i}.1 8080")) for i in (1, 3, 9)]
    assert answers == [False, False, True]
