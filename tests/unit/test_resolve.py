"""Which endpoints a Service has on a node, by conformance id."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from msgspec.structs import replace

from nodeport_nft.model import (
    HOSTNAME_LABEL,
    MEMBER,
    PROBE_FAILURE,
    ZONE_LABEL,
    ContainerPort,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    IPAddress,
    Member,
    Node,
    ObjectName,
    Pod,
    ProbeFailure,
    Protocol,
    Ref,
    Requirement,
    Service,
    ServiceType,
    Snapshot,
)
from nodeport_nft.resolve import Claimable, FrontendKind, Index, Place, Resolver, is_proxied, join
from nodeport_nft.resolve.whereabouts import Whereabouts
from tests.builders import make_endpoint, make_port, make_service, make_slice


def addresses(service: Service, *, slices: tuple[EndpointSlice, ...] = (), pods: tuple[Pod, ...] = ()) -> list[str]:
    """The addresses behind the service's first port, in order."""
    resolver = Resolver(Snapshot((service,), slices, pods), "worker-1")
    return [str(backend.address) for backend in dict(resolver.endpoints_by_port(service))[service.ports[0]]]


def make_pod(name: str, *ips: str, labels: dict[str, str] | None = None, **fields: object) -> Pod:
    values: dict[str, object] = {"labels": labels or {"app": "web"}, "ips": tuple(map(ip_address, ips)), **fields}
    return Pod("default", name, **values)  # type: ignore[arg-type]  # spelled out by each test


@pytest.mark.proves("F1")
def test_f1_a_frontend_for_each_port_and_protocol() -> None:
    service = make_service("dns", make_port(53, name="tcp", target=53), make_port(53, name="udp", protocol="UDP"))
    frontends = Resolver(Snapshot((service,)), "worker-1").resolved(service).frontends
    assert [(f.kind, f.protocol, f.port) for f in frontends] == [
        (FrontendKind.CLUSTER_IP, Protocol.TCP, 53),
        (FrontendKind.CLUSTER_IP, Protocol.UDP, 53),
    ]


@pytest.mark.proves("F2")
def test_f2_a_node_port_is_a_frontend_of_its_own_in_each_family() -> None:
    service = make_service("web", make_port(node_port=30080), ips=("10.96.0.10", "fd00:10:96::a"))
    frontends = Resolver(Snapshot((service,)), "worker-1").resolved(service).frontends
    assert [(f.kind, f.family, f.port) for f in frontends] == [
        (FrontendKind.CLUSTER_IP, Family.IPV4, 80),
        (FrontendKind.NODE_PORT, Family.IPV4, 30080),
        (FrontendKind.CLUSTER_IP, Family.IPV6, 80),
        (FrontendKind.NODE_PORT, Family.IPV6, 30080),
    ]


@pytest.mark.proves("F8")
@pytest.mark.parametrize(
    "service",
    [
        make_service("web", headless=True, ips=()),
        Service("default", "web", type=ServiceType.EXTERNAL_NAME, ports=(make_port(),)),
        make_service("web", proxy_name="another-proxy"),
        make_service("web", proxy_name=""),
    ],
)
def test_f8_services_that_are_not_ours(service: Service) -> None:
    claiming_one = replace(service, external_ips=(ip_address("10.96.0.77"),))
    holder = make_service("holder", ips=("10.96.0.77",))
    resolver = Resolver(Snapshot((claiming_one, holder), (make_slice("10.244.1.1"),)), "worker-1")
    assert not is_proxied(service)
    assert resolver.resolved(claiming_one).frontends == ()
    assert resolver.resolved(claiming_one).offered == 0
    assert list(resolver.resolved(claiming_one).problems) == [], "nor is what they claim"


@pytest.mark.proves("F8")
def test_f8_headless_slices_are_skipped() -> None:
    assert addresses(make_service(), slices=(make_slice("10.244.1.1", headless=True),)) == []


@pytest.mark.proves("F9")
def test_f9_each_family_has_its_own_endpoints() -> None:
    service = make_service("web", ips=("10.96.0.10", "fd00:10:96::a"))
    slices = (make_slice("10.244.1.1"), make_slice("fd00:244:1::1", "fd00:244:1::2", name="web-2"))
    four, six = Resolver(Snapshot((service,), slices), "worker-1").resolved(service).frontends
    assert [len(four.backends), len(six.backends)] == [1, 2]


@pytest.mark.proves("E1")
def test_e1_local_is_what_runs_here_or_may() -> None:
    slices = (
        make_slice(
            make_endpoint("10.244.1.1", node="worker-1"),
            make_endpoint("10.244.1.2", node="worker-2"),
            make_endpoint("10.244.1.3", node=""),
        ),
    )
    service = make_service()
    resolver = Resolver(Snapshot((service,), slices), "worker-1")
    places = [b.place for b in dict(resolver.endpoints_by_port(service))[service.ports[0]]]
    assert places == [Place.HERE, Place.ELSEWHERE, Place.UNKNOWN]


TERMINATING = make_endpoint("10.244.1.9", ready=False, terminating=True)


@pytest.mark.proves("E2")
@pytest.mark.parametrize(
    ("endpoints", "usable"),
    [
        ([make_endpoint("10.244.1.1"), TERMINATING], ["10.244.1.1"]),
        ([make_endpoint("10.244.1.1", ready=False, serving=False), TERMINATING], ["10.244.1.9"]),
        ([make_endpoint("10.244.1.1", ready=False, serving=True)], []),
        ([make_endpoint("10.244.1.1", ready=False, serving=False, terminating=True)], []),
    ],
    ids=["ready first", "then serving and terminating", "not ready is not usable", "nor is what stopped serving"],
)
def test_e2_usable_endpoints(endpoints: list[object], usable: list[str]) -> None:
    assert addresses(make_service(), slices=(make_slice(*endpoints),)) == usable  # type: ignore[arg-type]


@pytest.mark.proves("E2", "F9")
@pytest.mark.parametrize("four", [None, TERMINATING, make_endpoint("10.244.1.1")])
@pytest.mark.parametrize(
    "six", [None, make_endpoint("fd00:244::1"), make_endpoint("fd00:244::9", ready=False, terminating=True)]
)
def test_e2_what_people_are_told_is_used_is_what_each_familys_frontends_have(
    four: Endpoint | None, six: Endpoint | None
) -> None:
    service = make_service(ips=("10.96.0.10", "fd00:10:96::10"))
    slices = tuple(make_slice(end, name=f"web-{n}") for n, end in enumerate((four, six)) if end)
    resolver = Resolver(Snapshot((service,), slices), "worker-1")
    ((_, told),) = resolver.endpoints_by_port(service)
    assert told == tuple(b for frontend in resolver.resolved(service).frontends for b in frontend.backends)
    assert len(told) == len(slices)


@pytest.mark.proves("E3")
def test_e3_slices_are_merged_and_an_endpoint_counts_once() -> None:
    slices = (
        make_slice("10.244.1.1", "10.244.1.2"),
        make_slice("10.244.1.2", "10.244.1.3", name="web-2"),
    )
    assert addresses(make_service(), slices=slices) == ["10.244.1.1", "10.244.1.2", "10.244.1.3"]


@pytest.mark.proves("E3")
@pytest.mark.parametrize("order", [1, -1])
def test_e3_the_copy_that_is_not_terminating_wins(order: int) -> None:
    leaving = make_endpoint("10.244.1.1", ready=False, terminating=True)
    slices = (make_slice(leaving), make_slice("10.244.1.1", name="web-2"))[::order]
    assert addresses(make_service(), slices=slices) == ["10.244.1.1"]


@pytest.mark.parametrize("order", [1, -1])
def test_e3_draining_one_of_two_copies_lets_no_other_one_win(order: int) -> None:
    """Two Pods have one address, and by their weights one takes no connection: the same one, drained or not."""
    ip = ip_address("10.244.0.4")

    def used(drained: tuple[IPAddress, ...]) -> list[str]:
        pods = (
            make_pod("a", str(ip), labels={"app": "web"}, node_name="worker-1"),
            make_pod("b", str(ip), labels={"app": "web"}, node_name="worker-2", weight=0, drained=drained),
        )[::order]
        return addresses(make_service("web", make_port(80), selector={"app": "web"}), pods=pods)

    assert used(()) == used((ip,))


@pytest.mark.proves("E4")
def test_e4_slice_ports_match_by_name() -> None:
    service = make_service("web", make_port(80, name="http"), make_port(81, name="admin"))
    slices = (make_slice("10.244.1.1", port_name="http", port=8080), make_slice("10.244.1.2", port_name="admin"))
    resolver = Resolver(Snapshot((service,), slices), "worker-1")
    assert [len(dict(resolver.endpoints_by_port(service))[port]) for port in service.ports] == [1, 1]
    assert addresses(make_service("web", make_port(80, name="other")), slices=slices) == []


@pytest.mark.proves("E4")
def test_e4_a_named_target_port_resolves_per_pod() -> None:
    service = make_service("web", make_port(80, target="http"), selector={"app": "web"})
    pods = (
        make_pod("a", "10.244.1.1", ports=(ContainerPort("http", Protocol.TCP, 8080),)),
        make_pod("b", "10.244.1.2", ports=(ContainerPort("http", Protocol.TCP, 9090),)),
        make_pod("c", "10.244.1.3", ports=(ContainerPort("http", Protocol.UDP, 7070),)),
    )
    resolver = Resolver(Snapshot((service,), (), pods), "worker-1")
    backends = dict(resolver.endpoints_by_port(service))[service.ports[0]]
    assert [(str(b.address), b.port) for b in backends] == [("10.244.1.1", 8080), ("10.244.1.2", 9090)]


@pytest.mark.proves("E5")
def test_e5_publish_not_ready_addresses() -> None:
    pods = (make_pod("a", "10.244.1.1", ready=False), make_pod("b", "10.244.1.2", ready=False, terminating=True))
    selector = {"app": "web"}
    assert addresses(make_service(selector=selector), pods=pods) == []
    published = make_service(selector=selector, publish_not_ready=True)
    assert addresses(published, pods=pods) == ["10.244.1.1", "10.244.1.2"]


@pytest.mark.proves("E7")
def test_e7_pods_are_selected_by_every_label() -> None:
    pods = (
        make_pod("a", "10.244.1.1", labels={"app": "web", "tier": "front", "more": "x"}),
        make_pod("b", "10.244.1.2", labels={"app": "web"}),
        make_pod("c", "10.244.1.3", labels={"app": "web", "tier": "front"}, finished=True),
        make_pod("d", labels={"app": "web", "tier": "front"}),
        Pod("other", "e", {"app": "web", "tier": "front"}, (ip_address("10.244.1.5"),)),
    )
    assert addresses(make_service(selector={"app": "web", "tier": "front"}), pods=pods) == ["10.244.1.1"]


@pytest.mark.proves("E7")
def test_e7_without_a_selector_no_pod_is_an_endpoint() -> None:
    assert addresses(make_service(), pods=(make_pod("a", "10.244.1.1"),)) == []


@pytest.mark.proves("E7")
def test_e7_slices_go_before_endpoints_and_both_before_pods() -> None:
    service = make_service(selector={"app": "web"})
    pods = (make_pod("a", "10.244.1.1"),)
    mirrored = make_slice("10.244.1.2", mirrored=True)
    assert addresses(service, slices=(mirrored,), pods=pods) == ["10.244.1.2"]
    assert addresses(service, slices=(mirrored, make_slice("10.244.1.3")), pods=pods) == ["10.244.1.3"]


def test_a_slice_may_hold_several_ports_of_one_name() -> None:
    ports = (EndpointPort("", Protocol.TCP, 1), EndpointPort("", Protocol.TCP, 2))
    piece = EndpointSlice("default", "s", "web", ports, (make_endpoint("10.244.1.1"),))
    service = make_service()
    backends = dict(Resolver(Snapshot((service,), (piece,)), "worker-1").endpoints_by_port(service))[service.ports[0]]
    assert [b.port for b in backends] == [1, 2]


HINTED = {
    name: Endpoint(ip_address(ip), node_name=node, zones=zones, nodes=nodes)
    for name, ip, node, zones, nodes in (
        ("mine", "10.244.1.1", "worker-1", ("a",), ("worker-1",)),
        ("zone", "10.244.2.1", "worker-2", ("a",), ("worker-2",)),
        ("far", "10.244.3.1", "worker-3", ("b",), ("worker-3",)),
        ("unhinted", "10.244.3.2", "worker-3", (), ()),
        ("zone only", "10.244.2.2", "worker-2", ("a",), ()),
    )
}


@pytest.mark.proves("E6")
@pytest.mark.parametrize(
    ("names", "zone", "chosen"),
    [
        (("mine", "zone", "far"), "a", ("mine",)),
        (("zone", "far"), "a", ("zone",)),
        (("mine", "zone only", "far"), "a", ("mine", "zone only")),
        (("mine", "zone", "far"), "", ("mine",)),
        (("zone", "far"), "", ("zone", "far")),
        (("zone", "far"), "c", ("zone", "far")),
        (("mine", "zone", "unhinted"), "a", ("mine", "zone", "unhinted")),
    ],
    ids=[
        "ours by node",
        "else by zone",
        "not all name nodes: by zone",
        "by node without a zone",
        "no zone of ours",
        "no endpoint for our zone",
        "one without a hint: all",
    ],
)
def test_e6_hints(names: tuple[str, ...], zone: str, chosen: tuple[str, ...]) -> None:
    service = make_service()
    slices = (make_slice(*(HINTED[name] for name in names)),)
    frontend = Resolver(Snapshot((service,), slices), "worker-1", zone).resolved(service).frontends[0]
    assert {b.address for b in frontend.backends} == {HINTED[name].address for name in chosen}


@pytest.mark.proves("E6")
def test_e6_hints_of_endpoints_that_are_not_ready_do_not_count() -> None:
    service = make_service()
    leaving = (
        replace(HINTED["mine"], ready=False, terminating=True),
        replace(HINTED["far"], ready=False, terminating=True),
    )
    frontend = Resolver(Snapshot((service,), (make_slice(*leaving),)), "worker-1", "a").resolved(service).frontends[0]
    assert len(frontend.backends) == 2
    mixed = (replace(HINTED["mine"], ready=False, terminating=True), HINTED["zone"], HINTED["far"])
    frontend = Resolver(Snapshot((service,), (make_slice(*mixed),)), "worker-1", "a").resolved(service).frontends[0]
    assert [b.address for b in frontend.backends] == [HINTED["zone"].address]


@pytest.mark.proves("E6")
@pytest.mark.parametrize(
    ("distribution", "expected"),
    [("", 3), ("PreferClose", 2), ("PreferSameZone", 2), ("PreferSameNode", 1)],
)
def test_e6_traffic_distribution_of_selected_pods(distribution: str, expected: int) -> None:
    service = replace(make_service(selector={"app": "web"}), traffic_distribution=distribution)
    nodes = tuple(Node(f"worker-{i}", {ZONE_LABEL: zone}) for i, zone in ((1, "a"), (2, "a"), (3, "b")))
    pods = tuple(make_pod(f"p{i}", f"10.244.{i}.1", node_name=f"worker-{i}") for i in (1, 2, 3))
    frontend = Resolver(Snapshot((service,), (), pods, nodes), "worker-1", "a").resolved(service).frontends[0]
    assert len(frontend.backends) == expected


@pytest.mark.proves("E2")
def test_e2_the_local_pool_falls_back_on_its_own() -> None:
    """A ready endpoint elsewhere does not keep the one here, which terminates, out of the local pool."""
    service = replace(make_service("web", make_port(node_port=30080)), external_traffic_policy="Local")
    here = make_endpoint("10.244.1.1", ready=False, terminating=True, node="worker-1")
    slices = (make_slice(here, make_endpoint("10.244.2.1")),)
    node_port = Resolver(Snapshot((service,), slices), "worker-1").resolved(service).frontends[1]
    assert [str(b.address) for b in node_port.backends] == ["10.244.2.1"]
    assert node_port.local_backends is not None
    assert [str(b.address) for b in node_port.local_backends] == ["10.244.1.1"]


@pytest.mark.proves("F3")
def test_f3_external_and_load_balancer_addresses() -> None:
    service = replace(
        make_service("web", make_port(node_port=30080)),
        external_ips=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
        load_balancer_ips=(ip_address("198.51.100.1"),),
    )
    frontends = Resolver(Snapshot((service,)), "worker-1").resolved(service).frontends
    assert [(f.kind, str(f.address), f.port) for f in frontends] == [
        (FrontendKind.CLUSTER_IP, "10.96.0.10", 80),
        (FrontendKind.EXTERNAL_IP, "192.0.2.1", 80),
        (FrontendKind.LOAD_BALANCER, "198.51.100.1", 80),
        (FrontendKind.NODE_PORT, "None", 30080),
    ]


def claiming(name: str, *, external: str = "", load_balancer: str = "", ip: str = "10.96.0.66") -> Service:
    """A Service that claims addresses from outside, each given as a text with blanks between them."""
    made = make_service(name, ips=(ip,), created="2020-01-01T00:00:00Z")
    outside = {"external_ips": external, "load_balancer_ips": load_balancer}
    return replace(made, **{field: tuple(map(ip_address, text.split())) for field, text in outside.items()})


def served(resolver: Resolver, service: Service) -> list[str]:
    """On which addresses it is served, in order."""
    return [str(frontend.address) for frontend in resolver.resolved(service).frontends]


@pytest.mark.proves("F10")
@pytest.mark.parametrize("field", ["external", "load_balancer"])
@pytest.mark.parametrize("holder", [{}, {"proxy_name": "another-proxy"}], ids=["ours", "another proxy's"])
def test_f10_a_cluster_ip_is_nobody_elses_whoever_is_older(field: str, holder: dict[str, str]) -> None:
    """On no port, not even one that its Service has not: what is refused there stays refused."""
    victim = make_service("victim", make_port(80), created="2026-01-01T00:00:00Z", **holder)  # type: ignore[arg-type]
    thief = claiming("thief", **{field: "10.96.0.10 192.0.2.1"})
    thief = replace(thief, ports=(make_port(80), make_port(81, name="more")))
    resolver = Resolver(Snapshot((victim, thief)), "worker-1")
    assert served(resolver, thief) == ["10.96.0.66", "192.0.2.1"] * 2
    place = "spec.externalIPs" if field == "external" else "status.loadBalancer.ingress"
    assert list(resolver.resolved(thief).problems) == [
        f"Service/default/thief: {place}: 10.96.0.10 is the clusterIP of Service/default/victim, which keeps it; "
        "leave it out"
    ]
    assert list(resolver.resolved(victim).problems) == []


def test_a_services_own_cluster_ip_may_be_its_address_from_outside() -> None:
    service = claiming("web", external="10.96.0.66")
    resolver = Resolver(Snapshot((service,)), "worker-1")
    assert served(resolver, service) == ["10.96.0.66"] * 2
    assert list(resolver.resolved(service).problems) == []


@pytest.mark.proves("F10")
def test_f10_who_claims_an_address_is_touched_as_it_becomes_a_cluster_ip_and_as_it_is_free_again() -> None:
    index = Index()
    thief, victim = claiming("thief", external="10.96.0.10"), make_service("victim")
    resolver = Resolver(index, "worker-1")
    index.put(Ref("Service", "default", "thief"), (thief,))
    assert served(resolver, thief) == ["10.96.0.66", "10.96.0.10"]
    for values, addresses_now in (((victim,), ["10.96.0.66"]), ((), ["10.96.0.66", "10.96.0.10"])):
        assert index.put(Ref("Service", "default", "victim"), values) == {victim.key, thief.key}
        assert served(resolver, thief) == addresses_now


NETWORKS = tuple(map(ip_network, ("192.0.2.0/24", "2001:db8::/64")))


@pytest.mark.proves("F3")
@pytest.mark.parametrize(
    ("claimable", "expected"),
    [
        (Claimable(), ["192.0.2.1", "172.30.1.2", "192.0.2.2", "8.8.8.8"]),
        (Claimable(external_ips=()), ["192.0.2.2", "8.8.8.8"]),
        (Claimable(load_balancer_ips=()), ["192.0.2.1", "172.30.1.2"]),
        (Claimable((), ()), []),
        (Claimable(external_ips=NETWORKS), ["192.0.2.1", "192.0.2.2", "8.8.8.8"]),
        (Claimable(NETWORKS, NETWORKS), ["192.0.2.1", "192.0.2.2"]),
        (Claimable(NETWORKS[1:], NETWORKS[1:]), []),
    ],
)
def test_f3_the_configuration_says_which_addresses_may_be_claimed(claimable: Claimable, expected: list[str]) -> None:
    """The clusterIP and the nodePort are never in question, and each address that is left out is told."""
    service = claiming("web", external="192.0.2.1 172.30.1.2", load_balancer="192.0.2.2 8.8.8.8")
    service = replace(service, ports=(make_port(node_port=30080),))
    resolver = Resolver(Snapshot((service,)), "worker-1", claimable=claimable)
    assert served(resolver, service) == ["10.96.0.66", *expected, "None"]
    problems = list(resolver.resolved(service).problems)
    assert len(problems) == 4 - len(expected)
    for address in {"192.0.2.1", "172.30.1.2", "192.0.2.2", "8.8.8.8"} - {*expected}:
        assert sum(f": {address} is not served" in problem for problem in problems) == 1


def test_what_may_not_be_claimed_is_told_with_the_key_that_says_so() -> None:
    service = claiming("web", external="8.8.8.8", load_balancer="8.8.4.4")
    resolver = Resolver(Snapshot((service,)), "worker-1", claimable=Claimable((), NETWORKS))
    assert list(resolver.resolved(service).problems) == [
        "Service/default/web: spec.externalIPs: 8.8.8.8 is not served, since the configuration says externalIPs: "
        "deny; leave it out, or allow it",
        "Service/default/web: status.loadBalancer.ingress: 8.8.4.4 is not served, since the configuration allows "
        "loadBalancerIPs in 192.0.2.0/24, 2001:db8::/64 alone; choose another, or allow it",
    ]
    for count, ending in ((3, "/32 alone"), (4, "/32, … alone")):
        many = tuple(ip_network(f"192.0.2.{i}/32") for i in range(count))
        [problem] = (
            Resolver(Snapshot((service,)), "worker-1", claimable=Claimable(None, many)).resolved(service).problems
        )
        assert f"in 192.0.2.0/32, 192.0.2.1/32, 192.0.2.2{ending}" in problem
    assert list(resolver.resolved(replace(service, proxy_name="another-proxy")).problems) == []


# --- endpoints that are there more than once, and how often each is chosen ----


def candidate(address: str = "10.244.1.1", **more: object) -> Endpoint:
    return replace(make_endpoint(address, node=""), **more)  # spelled out by each test


UNREADY = {"ready": False, "serving": False}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("better", "worse", "left"),
    [
        (UNREADY, {"terminating": True}, 0),  # that it terminates says more than that it is ready
        ({}, UNREADY, 1),
        ({"terminating": True, "ready": False}, {**UNREADY, "terminating": True}, 1),
    ],
    ids=["not terminating", "ready", "serving"],
)
def test_e3_of_two_copies_the_one_that_says_more_counts_whatever_the_order(
    better: dict[str, Any], worse: dict[str, Any], left: int, order: int
) -> None:
    slices = (make_slice(candidate(**better)), make_slice(candidate(**worse), name="web-2"))[::order]
    assert len(addresses(make_service(), slices=slices)) == left


@pytest.mark.parametrize("order", [1, -1])
def test_e3_of_two_equal_copies_the_same_one_counts_whatever_the_order(order: int) -> None:
    """First by the name of the node, then by the weight: whichever it is, it is one and the same."""
    here, away = candidate(node_name="worker-1"), candidate(node_name="worker-2")
    pieces = [make_slice(here), make_slice(away, name="web-2")][::order]
    service = make_service()
    [backend] = dict(Resolver(Snapshot((service,), tuple(pieces)), "worker-1").endpoints_by_port(service))[
        service.ports[0]
    ]
    assert backend.place is Place.ELSEWHERE
    pieces = [replace(make_slice(here), weight=3), replace(make_slice(here, name="web-2"), weight=7)][::order]
    [backend] = dict(Resolver(Snapshot((service,), tuple(pieces)), "worker-1").endpoints_by_port(service))[
        service.ports[0]
    ]
    assert backend.weight == 7


def test_e3_an_address_on_two_ports_is_two_endpoints_in_the_order_of_address_and_port() -> None:
    service = replace(make_service("web", ips=("10.96.0.10", "fd00:10:96::a")), ports=(make_port(),))
    pieces = (
        make_slice("fd00:244::1", name="six"),
        make_slice("10.244.1.10", "10.244.1.9", name="a", port=9090),
        make_slice("10.244.1.9", name="b", port=8080),
    )
    found = dict(Resolver(Snapshot((service,), pieces), "worker-1").endpoints_by_port(service))[service.ports[0]]
    assert [(str(b.address), b.port) for b in found] == [
        ("10.244.1.9", 8080),
        ("10.244.1.9", 9090),
        ("10.244.1.10", 9090),
        ("fd00:244::1", 8080),
    ]


def test_x7_a_services_own_weights_go_before_those_of_slices_and_pods() -> None:
    """Address by address; one of weight 0 takes no new connection."""
    weights = {"10.244.1.1": 5, "10.244.1.2": 0, "10.244.9.9": 7}
    ips = ("10.244.1.1", "10.244.1.2", "10.244.1.3")
    expected = {"10.244.1.1": 5, "10.244.1.3": 2}
    of_slices = replace(make_service(), weights=weights)
    of_pods = replace(of_slices, selector={"app": "web"})
    pods = tuple(make_pod(f"p{i}", ip, weight=2) for i, ip in enumerate(ips))
    for snapshot in (Snapshot((of_slices,), (replace(make_slice(*ips), weight=2),)), Snapshot((of_pods,), (), pods)):
        service = snapshot.services[0]
        for weighted, told in ((service, expected), (replace(service, weights={}), dict.fromkeys(ips, 2))):
            found = dict(Resolver(snapshot, "worker-1").endpoints_by_port(weighted))[service.ports[0]]
            assert {str(backend.address): backend.weight for backend in found} == told
    idle = make_pod("idle", "10.244.1.4", weight=0)
    assert addresses(replace(of_pods, weights={}), pods=(idle, pods[0])) == ["10.244.1.1"]


def test_e4_of_two_container_ports_of_one_name_the_first_counts() -> None:
    ports = (ContainerPort("http", Protocol.TCP, 8080), ContainerPort("http", Protocol.TCP, 9090))
    service = make_service("web", make_port(80, target="http"), selector={"app": "web"})
    resolver = Resolver(Snapshot((service,), (), (make_pod("a", "10.244.1.1", ports=ports),)), "worker-1")
    assert [backend.port for backend in dict(resolver.endpoints_by_port(service))[service.ports[0]]] == [8080]


def test_f9_of_a_pod_the_first_address_of_each_family_counts() -> None:
    service = make_service(ips=("10.96.0.10", "fd00:10:96::a"), selector={"app": "web"})
    pods = (make_pod("a", "fd00:244::1", "10.244.1.1", "10.244.1.2", "fd00:244::2"), make_pod("b", "fd00:244::3"))
    assert addresses(service, pods=pods) == ["10.244.1.1", "fd00:244::1", "fd00:244::3"]
    assert addresses(replace(service, ip_families=(Family.IPV4,)), pods=pods) == ["10.244.1.1"]


# --- the traffic policies -----------------------------------------------------

BOTH_SIDES = make_slice(make_endpoint("10.244.1.1", node="worker-1"), make_endpoint("10.244.2.1"))


@pytest.mark.parametrize(
    ("internal", "external", "expected"),
    [
        ("Cluster", "Cluster", [(None, False), (None, False)]),
        ("Local", "Cluster", [(1, False), (None, False)]),
        ("Cluster", "Local", [(None, False), (1, False)]),
        ("PreferLocal", "Local", [(1, True), (1, False)]),
        ("Local", "PreferLocal", [(1, False), (1, True)]),
    ],
)
def test_each_policy_is_for_its_own_kind_of_frontends(
    internal: str, external: str, expected: list[tuple[int | None, bool]]
) -> None:
    service = replace(
        make_service("web", make_port(node_port=30080)),
        internal_traffic_policy=internal,
        external_traffic_policy=external,
        external_ips=(ip_address("192.0.2.1"),),
        load_balancer_ips=(ip_address("198.51.100.1"),),
    )
    cluster_ip, *outside = Resolver(Snapshot((service,), (BOTH_SIDES,)), "worker-1").resolved(service).frontends
    assert [f.kind for f in outside] == [
        FrontendKind.EXTERNAL_IP,
        FrontendKind.LOAD_BALANCER,
        FrontendKind.NODE_PORT,
    ]
    for frontends, (local, prefer_local) in zip(([cluster_ip], outside), expected, strict=True):
        for frontend in frontends:
            own = frontend.local_backends
            assert (None if own is None else len(own), frontend.prefer_local) == (local, prefer_local)
            assert len(frontend.backends) == 2


def test_x10_what_terminates_here_is_no_reason_to_prefer_this_node() -> None:
    leaving = make_endpoint("10.244.1.1", ready=False, terminating=True, node="worker-1")
    pieces = (make_slice(leaving, make_endpoint("10.244.2.1")),)
    for policy, here in (("PreferLocal", 0), ("Local", 1)):
        service = replace(make_service(), internal_traffic_policy=policy)
        [frontend] = Resolver(Snapshot((service,), pieces), "worker-1").resolved(service).frontends
        assert len(frontend.local_backends or ()) == here


# --- which nodes serve nodePorts, and on which ports there are any ------------


@pytest.mark.parametrize(
    ("requirement", "node", "serves"),
    [
        (Requirement("disk", "In", ("ssd",)), Node("worker-1", {"disk": "ssd"}), True),
        (Requirement("disk", "In", ("ssd",)), Node("worker-1", {"disk": "hdd"}), False),
        (Requirement("disk", "In", ("ssd",)), Node("worker-2", {"disk": "ssd"}), False),
        (Requirement("disk", "In", ("ssd",)), None, False),
        (Requirement(HOSTNAME_LABEL, "In", ("worker-1",)), None, True),
        (Requirement(HOSTNAME_LABEL, "In", ("worker-2",)), None, False),
        (Requirement(HOSTNAME_LABEL, "In", ("worker-1",)), Node("worker-1", {"disk": "ssd"}), True),
        (Requirement(HOSTNAME_LABEL, "In", ("w1.example",)), Node("worker-1", {HOSTNAME_LABEL: "w1.example"}), True),
        (Requirement(HOSTNAME_LABEL, "In", ("worker-1",)), Node("worker-1", {HOSTNAME_LABEL: "w1.example"}), False),
    ],
)
def test_x6_node_ports_are_served_by_the_nodes_that_are_asked_for(
    requirement: Requirement, node: Node | None, serves: bool
) -> None:
    """All requirements hold for a node that serves them; the clusterIP is there on every node."""
    service = make_service("web", make_port(80, name="a", node_port=30080), make_port(81, name="b"))
    wanted = replace(service, node_port_nodes=(requirement,))
    resolver = Resolver(Snapshot((wanted,), (), (), (node,) if node else ()), "worker-1")
    assert resolver.serves_node_ports(wanted) is serves
    expected = [("10.96.0.10", 80), ("None", 30080), ("10.96.0.10", 81)]
    kept = [each for each in expected if serves or each[0] != "None"]
    assert [(str(f.address), f.port) for f in resolver.resolved(wanted).frontends] == kept
    assert resolver.resolved(wanted).offered == len(kept)
    never = replace(service, node_port_nodes=(requirement, Requirement(HOSTNAME_LABEL, "In", ("other",))))
    assert not resolver.serves_node_ports(never)


@pytest.mark.parametrize(
    ("service", "offered"),
    [
        (make_service(ips=("10.96.0.10", "fd00:10:96::a")), 2),
        (make_service("web", make_port(80, node_port=30080), make_port(81), ips=("10.96.0.10", "fd00:10:96::a")), 6),
        (replace(claiming("web", external="192.0.2.1 2001:db8::1", load_balancer="192.0.2.2")), 3),
        (claiming("web", external="10.96.0.77"), 1),  # another Service's clusterIP
        (make_service("web", make_port(node_port=30080), proxy_name="another-proxy"), 0),
        (make_service("web", headless=True, ips=()), 0),
    ],
)
def test_what_is_offered_is_what_is_resolved_where_nothing_is_too_many(service: Service, offered: int) -> None:
    holder = make_service("holder", ips=("10.96.0.77",))
    resolver = Resolver(Snapshot((service, holder)), "worker-1")
    assert resolver.resolved(service).offered == len(resolver.resolved(service).frontends) == offered


# --- the index ----------------------------------------------------------------


def test_the_cluster_ips_of_a_service_that_is_not_known_are_nobody_elses_either() -> None:
    index, lost = Index(), ObjectName("default", "lost")
    thief = claiming("thief", external="10.96.0.10")
    index.put(Ref("Service", *thief.key), (thief,))
    held, other = ip_address("10.96.0.10"), ip_address("10.96.0.11")
    for addresses_now, touched in (((other,), set()), ((held, other), {thief.key}), ((held,), {thief.key})):
        assert index.hold(lost, addresses_now) == touched
        assert index.holder(held, thief.key) == (lost if held in addresses_now else None)
        assert index.holder(other, thief.key) == (lost if other in addresses_now else None)
    assert index.holder(held, lost) is None, "who asks is not meant"
    also = make_service("also", ips=("10.96.0.10",))
    index.put(Ref("Service", *also.key), (also,))
    assert index.holder(held, thief.key) == also.key, "of two, the first by its name"
    assert index.hold(lost, ()) == {thief.key}
    assert index.hold(lost, ()) == set()
    assert (index.holder(held, thief.key), index.holder(held, also.key)) == (also.key, None)


def test_an_index_that_is_emptied_keeps_nothing() -> None:
    """A daemon runs for months: what has come and gone must not stay, by no label and no address."""
    index = Index()
    empty = sizes(index)
    values = (
        (Ref("Service", "default", "web"), (claiming("web", external="192.0.2.1", load_balancer="192.0.2.2"),)),
        (Ref("Service", "default", "app"), (make_service("app", ips=("10.96.0.9",), selector={"app": "web"}),)),
        (Ref("EndpointSlice", "default", "web-1"), (BOTH_SIDES,)),
        (Ref("Pod", "default", "a"), (make_pod("a", "10.244.1.1", labels={"app": "web", "tier": "front"}),)),
        (Ref("Node", "", "worker-1"), (Node("worker-1", drained=True),)),
        (Ref(MEMBER, "", "worker-2"), (Member("worker-2", 1.0),)),
        (Ref(PROBE_FAILURE, "default", "10.244.1.1"), (ProbeFailure("default", ip_address("10.244.1.1"), 1.0),)),
    )
    for ref, value in (*values, *values[::-1]):
        index.put(ref, ())
        index.put(ref, value)
    assert index.refs() == {ref for ref, _ in values}
    index.hold(ObjectName("default", "lost"), [ip_address("10.96.0.8")])
    index.hold(ObjectName("default", "lost"), [])
    for ref, _ in values:
        index.put(ref, ())
    assert sizes(index) == empty
    assert index.refs() == frozenset()


def sizes(index: Index) -> dict[str, int]:
    """How much is in each of the index's parts, and of those that know places in what they keep."""
    whereabouts = {
        name: vars(held)["_refs"] or () for name, held in vars(index).items() if isinstance(held, Whereabouts)
    }
    return {name: len(held) for name, held in (vars(index) | whereabouts).items()}


def test_ready_addresses_of_this_node_are_counted_by_family_once_for_all_ports() -> None:
    service = make_service(
        "web", make_port(80, name="a"), make_port(81, name="b"), ips=("10.96.0.10", "fd00:10:96::a")
    )
    own = [make_endpoint(f"10.244.1.{i}", node="worker-1", ready=i != 3) for i in (1, 2, 3)]
    pieces = (
        make_slice(*own, port_name="a", name="a"),
        make_slice(own[0], make_endpoint("10.244.2.1"), port_name="b", name="b"),
        make_slice(make_endpoint("fd00:244::1", node="worker-1"), port_name="b", name="c"),
    )
    resolver = Resolver(Snapshot((service,), pieces), "worker-1")
    assert resolver.local_ready(service) == {Family.IPV4: 2, Family.IPV6: 1}
    assert [(port.name, len(found)) for port, found in resolver.endpoints_by_port(service)] == [("a", 2), ("b", 3)]


def test_each_label_of_a_selector_counts_also_where_none_is_rarer() -> None:
    labels = ({"app": "web", "tier": "front"}, {"app": "web"}, {"tier": "front"}, {"app": "web", "tier": "back"})
    pods = tuple(make_pod(f"p{i}", f"10.244.1.{i}", labels=held) for i, held in enumerate(labels, 1))
    assert addresses(make_service(selector={"app": "web", "tier": "front"}), pods=pods) == ["10.244.1.1"]


@pytest.mark.proves("F3", "F9")
def test_f3_every_address_is_served_in_its_own_family_alone() -> None:
    both = tuple(map(ip_address, ("192.0.2.1", "2001:db8::1")))
    service = replace(make_service(ips=("10.96.0.10", "fd00:10:96::10")), external_ips=both, load_balancer_ips=both)
    frontends = Resolver(Snapshot((service,)), "worker-1").resolved(service).frontends
    assert len(frontends) == 6
    assert all(frontend.address and frontend.family == frontend.address.version for frontend in frontends)


@pytest.mark.proves("E6")
def test_e6_a_pod_without_a_node_is_meant_for_no_node_and_so_nobody_keeps_to_their_own() -> None:
    service = replace(make_service(selector={"app": "web"}), traffic_distribution="PreferSameNode")
    pods = (make_pod("a", "10.244.1.1", node_name="worker-1"), make_pod("b", "10.244.1.2", node_name=""))
    frontend = Resolver(Snapshot((service,), (), pods), "worker-1").resolved(service).frontends[0]
    assert len(frontend.backends) == 2


def test_a_node_touches_the_services_that_ask_for_nodes_and_no_others() -> None:
    asking = (
        replace(make_service("near"), traffic_distribution="PreferClose"),
        replace(make_service("chosen"), node_port_nodes=(Requirement("edge", "Exists"),)),
    )
    index = Index.of(Snapshot((*asking, make_service())))
    node = Node("worker-9", {ZONE_LABEL: "a"})
    for values in ((node,), (replace(node, labels={}),), ()):
        assert index.put(Ref("Node", "", node.name), values) == {service.key for service in asking}


def test_where_ports_have_too_many_endpoints_those_here_are_counted_of_the_first_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(join, "MAX_WEIGHED", 3)
    service = make_service("web", make_port(80, name="a"), make_port(81, name="b"))
    here = [make_endpoint(f"10.244.1.{n}", node="worker-1") for n in range(1, 4)]
    slices = (make_slice(*here[:2], port_name="a"), make_slice(*here, name="web-2", port_name="b"))
    assert Resolver(Snapshot((service,), slices), "worker-1").local_ready(service) == {Family.IPV4: 2}


def test_a_pod_touches_the_services_that_it_fits_and_not_those_that_want_more() -> None:
    services = (
        make_service(selector={"app": "web"}),
        make_service("front", selector={"app": "web", "tier": "front"}),
    )
    index = Index.of(Snapshot(services))
    pod = make_pod("a", "10.244.1.1", labels={"app": "web"})
    assert index.put(Ref("Pod", "default", "a"), (pod,)) == {services[0].key}
    both = replace(pod, labels={"app": "web", "tier": "front"})
    assert index.put(Ref("Pod", "default", "a"), (both,)) == {service.key for service in services}
