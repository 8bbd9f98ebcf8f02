"""What one Service may have at most, which of it is kept, and how the rest is told (``resolve.bounds``)."""

from __future__ import annotations

import json
from collections import Counter
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.compile import MAGLEV_SLOTS, MAX_ENDPOINTS, within_bounds
from nodeport_nft.compile.schema import collapsed
from nodeport_nft.kube import limits as api
from nodeport_nft.manifest import Problems, parse_object, read_manifests
from nodeport_nft.model import (
    EndpointPort,
    EndpointSlice,
    Family,
    IPNetwork,
    LoadBalancing,
    Protocol,
    Ranges,
    Ref,
    Service,
    Snapshot,
)
from nodeport_nft.reconcile import NodeState, compile_snapshot
from nodeport_nft.resolve import MAX_FRONTENDS, MAX_SLOTS, MAX_STICKY, Frontend, FrontendKind, Resolver, join
from tests.builders import FACTS, make_endpoint, make_port, make_service

CLUSTER_IP, NODE_PORT = FrontendKind.CLUSTER_IP, FrontendKind.NODE_PORT
EXTERNAL_IP, LOAD_BALANCER = FrontendKind.EXTERNAL_IP, FrontendKind.LOAD_BALANCER


def v4(count: int, first: str = "10.244.0.1") -> list[IPv4Address]:
    return [IPv4Address(first) + i for i in range(count)]


def slice_of(count: int, ports: int = 1, *, ready: bool = True) -> EndpointSlice:
    """A slice with so many endpoints, on each of the ports that ``service`` has."""
    numbers = tuple(EndpointPort(f"p{i}", Protocol.TCP, 8080) for i in range(ports))
    pods = tuple(make_endpoint(str(ip), ready=ready) for ip in v4(count))
    return EndpointSlice("default", "web-1", "web", numbers, pods)


def service(ports: int = 1, **more: Any) -> Service:
    made = make_service("web", *(make_port(1 + i, name=f"p{i}", node_port=20001 + i) for i in range(ports)))
    return replace(made, **more)


def resolved(which: Service, *pieces: EndpointSlice) -> tuple[Frontend, ...]:
    return Resolver(Snapshot((which,), pieces), FACTS.name).resolved(which).frontends


def compiled(which: Service, *pieces: EndpointSlice) -> NodeState:
    return compile_snapshot(Snapshot((which,), pieces), FACTS)


def kinds(frontends: tuple[Frontend, ...]) -> Counter[FrontendKind]:
    return Counter(frontend.kind for frontend in frontends)


# --- frontends ----------------------------------------------------------------


def test_cluster_ips_stay_longest_then_node_ports_then_external_ips() -> None:
    which = service(10, external_ips=tuple(v4(1000)), load_balancer_ips=tuple(v4(5, "192.0.2.1")))
    frontends = resolved(which, slice_of(1, 10))
    assert kinds(frontends) == {CLUSTER_IP: 10, NODE_PORT: 10, EXTERNAL_IP: MAX_FRONTENDS - 20}
    kept = [(f.port, f.address) for f in frontends if f.kind is EXTERNAL_IP]
    whole, rest = divmod(MAX_FRONTENDS - 20, 1000)
    assert kept == [
        (1 + port, ip) for port in range(10) for ip in v4(1000) if port < whole or (port == whole and ip in v4(rest))
    ], "in the order of the ports and addresses"


def test_load_balancer_addresses_come_last() -> None:
    which = service(load_balancer_ips=tuple(v4(MAX_FRONTENDS)), external_ips=tuple(v4(MAX_FRONTENDS - 3)))
    assert kinds(resolved(which)) == {CLUSTER_IP: 1, NODE_PORT: 1, EXTERNAL_IP: MAX_FRONTENDS - 3, LOAD_BALANCER: 1}


def test_as_many_as_there_may_be_are_all_there_and_no_problem() -> None:
    which = service(external_ips=tuple(v4(MAX_FRONTENDS - 2)))
    assert len(resolved(which, slice_of(1))) == MAX_FRONTENDS
    assert compiled(which, slice_of(1)).problems() == ()


def test_what_is_left_out_is_one_problem_of_its_service_and_the_other_is_served() -> None:
    many, other = service(external_ips=tuple(v4(20_000))), make_service("other", ips=("10.96.0.11",))
    programme = compile_snapshot(Snapshot((many, other), (slice_of(3),)), FACTS)
    assert programme.problems() == (
        "Service/default/web: 4096 of its 20002 addresses with a port are served, clusterIPs first, then nodePorts, "
        "externalIPs and load-balancer addresses: with the endpoints behind them they are more than one Service may "
        "have; split the Service",
    )
    elements = programme.tables.table(Family.IPV4).elements
    assert len(elements["service-ips"]) == MAX_FRONTENDS - 1 + 1
    assert ("10.96.0.11", "tcp", 80) in elements["service-ips"]


def test_both_families_have_their_own_room() -> None:
    which = service(
        cluster_ips=(ip_address("10.96.0.10"), ip_address("fd00:10:96::a")),
        ip_families=(Family.IPV4, Family.IPV6),
        external_ips=(*v4(MAX_FRONTENDS), ip_address("2001:db8::1")),
    )
    found = Counter(frontend.family for frontend in resolved(which))
    assert found == {Family.IPV4: MAX_FRONTENDS, Family.IPV6: 3}


def test_the_daemon_tells_it_until_there_are_fewer() -> None:
    state = NodeState(FACTS)
    ref = Ref("Service", "default", "web")
    for count, told in ((MAX_FRONTENDS, 1), (5, 0), (MAX_FRONTENDS, 1)):
        state.put(ref, (service(external_ips=tuple(v4(count))),))
        state.compile(sorted(state.touched))
        assert len(state.problems()) == told
    state.put(ref, ())
    state.compile(sorted(state.touched))
    assert state.problems() == ()


# --- endpoints behind them ----------------------------------------------------


@pytest.mark.parametrize("weight", [1, 2])
def test_slots_of_all_frontends_are_bounded(weight: int) -> None:
    piece = replace(slice_of(1000), weight=weight)
    which = service(external_ips=tuple(v4(200, "192.0.2.1")))
    kept = within_bounds(which, resolved(which, piece))
    assert kinds(kept) == {CLUSTER_IP: 1, NODE_PORT: 1, EXTERNAL_IP: MAX_SLOTS // (1000 * weight) - 2}
    programme = compiled(which, piece)
    (problem,) = programme.problems()
    assert problem.startswith(f"Service/default/web: {len(kept)} of its 202 addresses with a port are served")
    elements = programme.tables.table(Family.IPV4).elements
    assert len(elements["service-endpoints"]) + len(elements["node-port-endpoints"]) == len(kept) * 1000 * weight


def test_many_ports_with_many_endpoints_are_served_whole() -> None:
    which, piece = service(20), slice_of(2000, 20)
    assert kinds(within_bounds(which, resolved(which, piece))) == {CLUSTER_IP: 20, NODE_PORT: 20}
    assert compiled(which, piece).problems() == ()


def test_what_is_too_large_makes_way_for_what_is_not() -> None:
    """The endpoints of the first port fill the slots; the second one's are few."""
    few, many = EndpointPort("p1", Protocol.TCP, 9090), slice_of(MAX_ENDPOINTS)
    which = service(2, external_ips=tuple(v4(30, "192.0.2.1")))
    kept = within_bounds(which, resolved(which, many, replace(slice_of(1), name="web-2", ports=(few,))))
    assert Counter(f.port_name for f in kept) == {"p0": MAX_SLOTS // MAX_ENDPOINTS - 1, "p1": 32}


def test_hashed_frontends_count_what_they_fill() -> None:
    which = service(external_ips=tuple(v4(1000, "192.0.2.1")), load_balancing=LoadBalancing.MAGLEV)
    kept = within_bounds(which, resolved(which, slice_of(3)))
    assert len(kept) == MAX_SLOTS // MAGLEV_SLOTS


def test_both_pools_of_policy_local_count() -> None:
    which = service(external_ips=tuple(v4(200, "192.0.2.1")), external_traffic_policy="Local")
    here = tuple(replace(endpoint, node_name=FACTS.name) for endpoint in slice_of(1000).endpoints)
    kept = within_bounds(which, resolved(which, replace(slice_of(1), endpoints=here)))
    assert kinds(kept)[EXTERNAL_IP] == (MAX_SLOTS - 1000 - 2000) // 2000


def test_endpoints_with_affinity_are_bounded() -> None:
    which = service(session_affinity_seconds=60)
    programme = compiled(which, slice_of(MAX_STICKY + 1))
    assert programme.problems() == (
        "Service/default/web: 1025 endpoints, of which the first 1024 are used; split the Service",
    )
    sets = [name for name in programme.tables.table(Family.IPV4).maps if name.startswith("affinity/")]
    assert len(sets) == MAX_STICKY


def test_ports_with_affinity_share_the_room_for_chains() -> None:
    which = service(3, session_affinity_seconds=60)
    programme = compiled(which, slice_of(MAX_STICKY // 2, 3))
    assert len(programme.tables.table(Family.IPV4).maps) == MAX_STICKY
    elements = programme.tables.table(Family.IPV4).elements
    served = {key[-1] for key in (*elements["service-ips"], *elements["node-ports"])}
    assert served == {1, 20001, 2, 20002}, "the third port has none"
    assert len(programme.problems()) == 1


def test_endpoints_of_all_ports_together_are_bounded_and_one_port_s_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "MAX_WEIGHED", 1000)
    frontends = resolved(service(5), slice_of(1000 // 4, 5, ready=False))
    assert {f.port_name for f in frontends} == {"p0", "p1", "p2", "p3"}
    (alone,) = {len(f.backends) for f in resolved(service(), slice_of(1001))}
    assert alone == 1001
    assert {f.port_name for f in resolved(service(4), slice_of(1000 // 4, 4))} == {"p0", "p1", "p2", "p3"}, "just so"


# --- what the API bounds ------------------------------------------------------


def an_object(kind: str, **more: Any) -> dict[str, Any]:
    version = "discovery.k8s.io/v1" if kind == "EndpointSlice" else "v1"
    metadata = {"name": "web", "labels": {"kubernetes.io/service-name": "web"}, **more.pop("metadata", {})}
    own: dict[str, dict[str, Any]] = {
        "EndpointSlice": {"addressType": "IPv4"},
        "Service": {"spec": {"ports": [{"port": 80}]}},
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **own.get(kind, {}), **more}


def an_endpoint(addresses: int = 1, hints: dict[str, int] | None = None) -> dict[str, Any]:
    named = {key: [{"name": f"n{i}"} for i in range(count)] for key, count in (hints or {}).items()}
    return {"addresses": [str(ip) for ip in v4(addresses)], "hints": named}


def slice_ports(count: int) -> list[dict[str, Any]]:
    return [{"name": f"p{i}", "port": 80} for i in range(count)]


ANNOTATION = "x" * (api.MAX_ANNOTATIONS - len("note"))
LIMITS = {
    "endpoints": lambda more: an_object("EndpointSlice", endpoints=[an_endpoint()] * (api.MAX_ENDPOINTS + more)),
    "addresses": lambda more: an_object("EndpointSlice", endpoints=[an_endpoint(api.MAX_ADDRESSES + more)]),
    "ports": lambda more: an_object("EndpointSlice", ports=slice_ports(api.MAX_PORTS + more)),
    "zones": lambda more: an_object("EndpointSlice", endpoints=[an_endpoint(1, {"forZones": api.MAX_HINTS + more})]),
    "nodes": lambda more: an_object("EndpointSlice", endpoints=[an_endpoint(1, {"forNodes": api.MAX_HINTS + more})]),
    "annotations": lambda more: an_object("Pod", metadata={"annotations": {"note": ANNOTATION + "x" * more}}),
    "a label": lambda more: an_object("Pod", metadata={"labels": {"l" * (63 + more): "v"}}),
    "a label's value": lambda more: an_object("Pod", metadata={"labels": {"l": "v" * (63 + more)}}),
    "a selector's value": lambda more: an_object(
        "Service", spec={"ports": [{"port": 80}], "selector": {"l": "v" * (63 + more)}}
    ),
}
TOLD = {
    "endpoints": "endpoints: has 1001 entries and may have 1000; make several slices of it",
    "addresses": "endpoints[0].addresses: has 101 entries and may have 100; "
    "leave out all but the first, which is used",
    "ports": "ports: has 20001 entries and may have 20000; make several slices of it",
    "zones": "endpoints[0].hints.forZones: has 9 entries and may have 8; leave some of them out",
    "nodes": "endpoints[0].hints.forNodes: has 9 entries and may have 8; leave some of them out",
    "annotations": "metadata.annotations: have 262145 bytes, keys and values together, and may have 262144; "
    "shorten them",
}


@pytest.mark.parametrize("what", LIMITS)
def test_what_the_api_server_takes_is_taken_and_no_more(what: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(LIMITS[what](0)), encoding="utf-8")
    read_manifests([str(path)], ranges=Ranges())
    path.write_text(json.dumps(LIMITS[what](1)), encoding="utf-8")
    with pytest.raises(Problems) as caught:
        read_manifests([str(path)], ranges=Ranges())
    (problem,) = caught.value.problems
    assert f"{problem.field}: {problem.message}" == TOLD.get(what, f"{problem.field}: {problem.message}")


@pytest.mark.parametrize("what", LIMITS)
def test_what_a_store_has_stays_readable(what: str) -> None:
    assert parse_object(LIMITS[what](1), ranges=None).name == "web"


def test_wrong_labels_are_told_and_from_some_number_on_counted(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(an_object("Pod", metadata={"labels": {f"a b{i}": "" for i in range(25)}})))
    with pytest.raises(Problems) as caught:
        read_manifests([str(path)], ranges=Ranges())
    assert len(caught.value.problems) == 11
    assert any(
        problem.message == "15 more of them are wrong; correct these first" for problem in caught.value.problems
    )


# --- prefixes -----------------------------------------------------------------


@given(st.booleans(), st.lists(st.tuples(st.integers(0, 63), st.integers(0, 6)), max_size=40))
def test_prefixes_are_joined_as_the_standard_library_joins_them(is_v4: bool, drawn: list[tuple[int, int]]) -> None:
    networks: list[IPNetwork]
    joined: list[IPNetwork]
    if is_v4:
        own = [IPv4Network((int(IPv4Address("10.0.0.0")) + (at >> up << up), 32 - up)) for at, up in drawn]
        networks, joined = [*own], [*collapse_addresses(own)]
    else:
        others = [IPv6Network((int(IPv6Address("fd00::")) + (at >> up << up), 128 - up)) for at, up in drawn]
        networks, joined = [*others], [*collapse_addresses(others)]
    wanted = [str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in joined]
    assert list(collapsed(networks, Family.IPV4 if is_v4 else Family.IPV6)) == wanted


@pytest.mark.parametrize("text", ["0.0.0.0/0", "0.0.0.0/1 128.0.0.0/1", "::/0", "::/1 8000::/1"])
def test_all_there_is_is_one_prefix(text: str) -> None:
    networks = [IPv6Network(part) if ":" in part else IPv4Network(part) for part in text.split()]
    family = Family(networks[0].version)
    assert list(collapsed(networks, family)) == ["::/0" if family is Family.IPV6 else "0.0.0.0/0"]
