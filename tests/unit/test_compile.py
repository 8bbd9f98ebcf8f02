"""The compiler: sizes, comments, and what stands in which map."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import pytest
from msgspec.structs import replace

from nodeport_nft.compile import COMMENT_LIMIT, LOCAL_SLOTS, MAX_ENDPOINTS, comment, compile_node, compile_schema
from nodeport_nft.model import Endpoint, Family, NodePortMode, ObjectName, Ref, Service, Snapshot
from nodeport_nft.problems import MOST_TOLD
from nodeport_nft.reconcile import NodeState, NodeTables, compile_snapshot
from nodeport_nft.render import write_rule
from nodeport_nft.resolve import Resolver
from nodeport_nft.ruleset import Element, Goto, Key
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice


def elements(service: Service, *addresses: str, family: Family = Family.IPV4) -> Mapping[str, Mapping[Key, Element]]:
    snapshot = Snapshot((service,), (make_slice(*addresses),))
    return compile_snapshot(snapshot, FACTS).tables.desired[family].elements


def chain(name: str, family: Family = Family.IPV4, **facts: object) -> list[str]:
    schema = compile_schema(family, replace(FACTS, **facts))  # spelled out by each test
    (found,) = (c for c in schema.chains if c.name == name)
    return [write_rule(schema.family, rule) for rule in found.rules]


@pytest.mark.parametrize(
    ("endpoints", "verdict"),
    [
        (0, "refuse"),
        (1, "service/1"),
        (2, "service/2"),
        (3, "service/4"),
        (4, "service/4"),
        (5, "service/8"),
        (300, "service/512"),
        (4096, "service/4096"),
        (4097, "service/4096"),
    ],
)
def test_the_verdict_names_the_smallest_size_that_fits(endpoints: int, verdict: str) -> None:
    pods = [str(ip_address("10.244.0.0") + i) for i in range(endpoints)]
    found = elements(make_service(), *pods)
    assert found["service-ips"]["10.96.0.10", "tcp", 80].value == Goto(verdict)
    assert len(found["service-endpoints"]) == min(endpoints, MAX_ENDPOINTS)


def test_endpoints_beyond_the_largest_size_are_reported() -> None:
    pods = [str(ip_address("10.244.0.0") + i) for i in range(MAX_ENDPOINTS + 1)]
    programme = compile_snapshot(Snapshot((make_service(),), (make_slice(*pods),)), FACTS)
    assert programme.problems() == (
        "Service/default/web: 4097 endpoints, of which the first 4096 are used; split the Service",
    )


def test_a_node_port_service_stands_in_every_map() -> None:
    found = elements(make_service("web", make_port(80, node_port=30080)), "10.244.1.1", "10.244.1.2")
    assert found["service-ips"].keys() == {("10.96.0.10", "tcp", 80)}
    assert found["node-ports"] == {
        ("tcp", 30080): Element(("tcp", 30080), Goto("node-port-external/2"), "default/web"),
    }
    assert [e.value for _, e in sorted(found["node-port-endpoints"].items())] == [
        ("10.244.1.1", 8080),
        ("10.244.1.2", 8080),
    ]
    assert found["cluster-ips"].keys() == {("10.96.0.10",)}


@pytest.mark.proves("P4")
def test_p4_only_endpoints_that_may_be_here_are_hairpin_connections() -> None:
    assert "hairpin-connections" not in elements(make_service(), "10.244.2.1")


@pytest.mark.proves("P5")
def test_p5_without_a_cluster_cidr_nothing_is_outside() -> None:
    with_cidr, without = chain("services"), chain("services", pod_cidrs=())
    to_service = "ip daddr @service-cidrs ip daddr != @foreign-cluster-ips"
    assert [rule for rule in with_cidr if rule not in without] == [
        f"{to_service} ip saddr != @pod-cidrs meta mark set meta mark | 0x00004000"
    ]
    only_ipv6 = chain("services", pod_cidrs=(ip_network("fd00:244::/32"),))
    assert only_ipv6 == without


@pytest.mark.proves("P6")
@pytest.mark.parametrize(("bit", "mark"), [(0, "0x00000001"), (14, "0x00004000"), (31, "0x80000000")])
def test_p6_the_masquerade_bit_is_set_and_cleared(bit: int, mark: str) -> None:
    assert chain("node-port-external/1", masquerade_bit=bit)[0] == f"meta mark set meta mark | {mark}"
    assert chain("nat-postrouting", masquerade_bit=bit)[0] == (
        f"meta mark & {mark} == {mark} meta mark set meta mark ^ {mark} masquerade fully-random"
    )


@pytest.mark.proves("F2")
@pytest.mark.parametrize(
    ("mode", "family", "rule"),
    [
        (NodePortMode.PRIMARY, Family.IPV4, "ip daddr @node-port-ips meta l4proto . th dport vmap @node-ports"),
        (NodePortMode.CIDRS, Family.IPV6, "ip6 daddr @node-port-ips meta l4proto . th dport vmap @node-ports"),
        (
            NodePortMode.ALL,
            Family.IPV4,
            "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @node-ports",
        ),
        (
            NodePortMode.ALL,
            Family.IPV6,
            "fib daddr type local ip6 daddr != ::1 meta l4proto . th dport vmap @node-ports",
        ),
    ],
)
def test_f2_where_node_ports_are_served(mode: NodePortMode, family: Family, rule: str) -> None:
    assert rule in chain("services", family, node_port_mode=mode)


LOCAL = {"external_traffic_policy": "Local", "internal_traffic_policy": "Local"}
HERE, THERE = make_endpoint("10.244.1.1", node="worker-1"), make_endpoint("10.244.2.1", node="worker-2")


@pytest.mark.proves("P2")
@pytest.mark.parametrize(
    ("endpoints", "cluster_ip", "node_port", "inside"),
    [
        ((HERE, THERE), "service-local/1", "node-port-local/1", "node-port-inside/2"),
        ((THERE,), "no-local-endpoint", "no-local-endpoint", "node-port-inside/1"),
        ((), "refuse", "refuse", None),
    ],
)
def test_policy_local_has_a_verdict_for_each_side(
    endpoints: tuple[Endpoint, ...], cluster_ip: str, node_port: str, inside: str | None
) -> None:
    service = replace(make_service("web", make_port(80, node_port=30080)), **LOCAL)  # strings
    tables = compile_snapshot(Snapshot((service,), (make_slice(*endpoints),)), FACTS).tables
    found = tables.desired[Family.IPV4].elements
    assert found["service-ips"]["10.96.0.10", "tcp", 80].value == Goto(cluster_ip)
    assert found["node-ports"]["tcp", 30080].value == Goto(node_port)
    held = found.get("short-circuit-node-ports", {})
    assert held == ({} if inside is None else {("tcp", 30080): Element(("tcp", 30080), Goto(inside), "default/web")})
    assert "short-circuit-ips" not in found
    slots = sorted(found.get("node-port-endpoints", {}))
    everywhere = [("tcp", 30080, i) for i in range(len(endpoints))]
    here = [("tcp", 30080, LOCAL_SLOTS)] if HERE in endpoints else []
    assert slots == [*everywhere, *here]


def test_a_change_of_policy_leaves_no_slot_behind() -> None:
    service = make_service("web", make_port(80, node_port=30080))
    local = replace(service, **LOCAL)  # strings
    slices = (make_slice(HERE, THERE),)
    tables = NodeTables(FACTS)
    for which in (service, local, service):
        tables.put(which, Resolver(Snapshot((which,), slices), FACTS.name).resolved(which).frontends)
        scratch = compile_snapshot(Snapshot((which,), slices), FACTS).tables
        for family in Family:
            held = {name: e for name, e in tables.desired[family].elements.items() if e}
            assert held == {name: e for name, e in scratch.desired[family].elements.items() if e}


@pytest.mark.proves("P5")
@pytest.mark.parametrize(
    ("facts", "prerouting", "mark"),
    [
        ({}, "ip saddr @pod-cidrs jump short-circuit", "ip saddr != @pod-cidrs meta mark set meta mark | 0x00004000"),
        ({"pod_cidrs": ()}, None, None),
        (
            {"pod_cidrs": (), "pod_interface": "cbr0"},
            'iifname "cbr0" jump short-circuit',
            'iifname != "cbr0" meta mark set meta mark | 0x00004000',
        ),
        (
            {"pod_cidrs": (), "pod_interface": "veth*"},
            'iifname "veth*" jump short-circuit',
            'iifname != "veth*" meta mark set meta mark | 0x00004000',
        ),
        ({"masquerade_all": True}, "ip saddr @pod-cidrs jump short-circuit", "meta mark set meta mark | 0x00004000"),
    ],
    ids=["clusterCIDR", "none", "bridge", "interface prefix", "masqueradeAll"],
)
def test_p5_detectors(facts: dict[str, object], prerouting: str | None, mark: str | None) -> None:
    four = Family.IPV4
    short_circuit = [prerouting] if prerouting else []
    assert chain("nat-prerouting", four, **facts) == ["jump firewall", *short_circuit, "jump services"]
    assert chain("nat-output", four, **facts) == ["jump firewall", "jump short-circuit", "jump services"]
    marks = [rule for rule in chain("services", four, **facts) if "mark set" in rule]
    assert marks == ([f"ip daddr @service-cidrs ip daddr != @foreign-cluster-ips {mark}"] if mark else [])


def test_every_draw_ends_in_a_full_slot_or_a_drop() -> None:
    rules = chain("service/8")
    assert [rule.split("numgen random ")[1].split(" ")[1] for rule in rules[:-1]] == ["8"] * 6 + ["4", "1"]
    assert rules[-1] == "drop"


def test_prefixes_that_overlap_or_join_are_one_element() -> None:
    networks = ("10.0.0.0/25", "10.0.0.128/25", "10.0.0.0/30", "192.0.2.1/32", "fd00::/64")
    facts = replace(FACTS, pod_cidrs=tuple(map(ip_network, networks)))
    held = [e.key for name, e in compile_node(Family.IPV4, facts) if name == "pod-cidrs"]
    assert held == [("10.0.0.0/24",), ("192.0.2.1",)]


@pytest.mark.proves("K7")
def test_k7_comments_are_cut_with_a_hash() -> None:
    long = comment(ObjectName("n" * 63, "s" * 63), "p" * 63)
    other = comment(ObjectName("n" * 63, "s" * 63), "p" * 62 + "q")
    assert len(long) == COMMENT_LIMIT
    assert long != other
    assert comment(ObjectName("default", "my-ser"), "http") == "default/my-ser:http"


def test_input_order_never_matters() -> None:
    services = tuple(make_service(f"s{i}", ips=(f"10.96.0.{i}",)) for i in range(5))
    slices = tuple(make_slice(f"10.244.0.{i}", f"10.244.1.{i}", service=f"s{i}") for i in range(5))
    forth = compile_snapshot(Snapshot(services, slices), FACTS)
    back = compile_snapshot(Snapshot(services[::-1], slices[::-1]), FACTS)
    assert forth.tables.tables() == back.tables.tables()


@pytest.mark.proves("F10")
def test_f10_the_contest_is_told() -> None:
    services = (
        make_service("young", created="2026-01-01T00:00:00Z"),
        make_service("old", created="2025-01-01T00:00:00Z"),
    )
    programme = compile_snapshot(Snapshot(services, (make_slice("10.244.1.1", service="old"),)), FACTS)
    assert programme.problems() == (
        "Service/default/young: 10.96.0.10 tcp 80 is held by Service/default/old, which is older; change one of them",
    )
    assert programme.tables.desired[Family.IPV4].elements["service-ips"]["10.96.0.10", "tcp", 80].value == Goto(
        "service/1"
    )


@pytest.mark.proves("F10")
def test_f10_of_the_same_age_the_first_by_name_has_it_and_is_not_called_older() -> None:
    services = (make_service("b"), make_service("a"))
    (problem,) = compile_snapshot(Snapshot(services), FACTS).problems()
    assert problem == (
        "Service/default/b: 10.96.0.10 tcp 80 is held by Service/default/a, which is as old and comes first by its "
        "name; change one of them"
    )


def test_many_problems_of_one_service_are_counted() -> None:
    """Contested frontends and addresses that may not be claimed; each Service has its own count."""
    ports = tuple(make_port(n, name=f"p{n}") for n in range(1, 101))
    vips = tuple(ip_address(f"192.0.2.{n}") for n in range(1, 101))
    services = tuple(
        replace(make_service(name, *ports), created=created, external_ips=vips)
        for name, created in (("old", "2025"), ("young", "2026"), ("younger", "2027"))
    )
    problems = compile_snapshot(Snapshot(services), replace(FACTS, external_ips=())).problems()
    counts = [problem for problem in problems if "more of this kind" in problem]
    assert len(problems) == 5 * (MOST_TOLD + 1)
    owners = ("old", "young", "young", "younger", "younger")
    assert sorted(counts) == [f"… and 90 more of this kind in Service/default/{name}" for name in owners]
    state = NodeState(replace(FACTS, external_ips=()))
    for service in services:
        state.put(Ref("Service", *service.key), (service,))
    state.compile(state.touched)
    assert state.problems() == problems
    state.refit(FACTS, {})
    state.compile(state.touched)
    assert not any("spec.externalIPs" in problem for problem in state.problems())


def test_an_external_address_that_is_a_load_balancers_too_is_one_frontend() -> None:
    vip = (ip_address("192.0.2.1"),)
    ranges = (ip_network("10.0.0.0/8"),)
    service = replace(
        make_service("web"), external_ips=vip, load_balancer_ips=vip, load_balancer_source_ranges=ranges
    )
    programme = compile_snapshot(Snapshot((service,), (make_slice("10.244.1.1"),)), FACTS)
    assert programme.problems() == ()
    held = programme.tables.desired[Family.IPV4].elements
    assert held["firewall-ips"]["192.0.2.1", "tcp", 80].value == Goto("firewall/default/web")
