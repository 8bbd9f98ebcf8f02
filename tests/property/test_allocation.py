"""Laws of allocation: whatever is applied in whatever order, over whatever was there before (A1-A4)."""

from __future__ import annotations

import copy
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport_nft.allocate import holdings
from nodeport_nft.manifest import Object, Problem, Problems, parse_object
from nodeport_nft.model import ObjectName, PortRange, Protocol, Ranges, Service, ServiceType, Snapshot
from nodeport_nft.store import Store

NOW = "2026-01-31T12:00:00Z"
# Tight, so that claims meet, bands run over and ranges run out.
RANGES = Ranges(PortRange(30000, 30019), (IPv4Network("10.96.0.0/28"), IPv6Network("fd00:10:96::/124")))

PORTS = st.lists(
    st.fixed_dictionaries(
        {
            "port": st.sampled_from([53, 80, 443]),
            "protocol": st.sampled_from(["TCP", "UDP"]),
        },
        optional={"nodePort": st.integers(30000, 30019)},
    ),
    min_size=1,
    max_size=3,
    unique_by=(lambda port: (port["port"], port["protocol"]), lambda port: port.get("nodePort", object())),
)


# Made once: making a strategy takes Hypothesis longer than drawing from it.
TYPES = st.sampled_from(["ClusterIP", "NodePort", "NodePort", "LoadBalancer", "ExternalName"])
FAMILIES = st.sampled_from([None, "SingleStack", "PreferDualStack"])
CLUSTER_IPS = st.sampled_from([None, None, None, "10.96.0.3", "10.96.0.4"])
CLUSTER_IPS_OR_NONE = st.sampled_from([None, None, None, "10.96.0.3", "10.96.0.4", "None"])
POLICIES = st.sampled_from(["Cluster", "Local"])
BOOLEANS = st.booleans()
KEYS = st.sampled_from([(namespace, name) for namespace in "xy" for name in "abcdefgh"])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    type = draw(TYPES)
    ports = [{"name": f"p{i}", **port} for i, port in enumerate(draw(PORTS))]
    spec: dict[str, Any] = {"type": type, "selector": {"app": "web"}, "ports": ports}
    if type == "ExternalName":
        spec = {"type": type, "externalName": "example.org"}
    else:
        spec["ipFamilyPolicy"] = draw(FAMILIES)
        spec["clusterIP"] = draw(CLUSTER_IPS_OR_NONE if type == "ClusterIP" else CLUSTER_IPS)
    if type == "ClusterIP":
        for port in ports:
            port.pop("nodePort", None)
    if type == "LoadBalancer":
        spec["externalTrafficPolicy"] = draw(POLICIES)
        spec["allocateLoadBalancerNodePorts"] = draw(BOOLEANS)
    spec = {field: value for field, value in spec.items() if value is not None}
    namespace, name = draw(KEYS)
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def key(document: dict[str, Any]) -> tuple[str, str]:
    return document["metadata"]["namespace"], document["metadata"]["name"]


MANIFESTS = st.lists(documents(), max_size=10, unique_by=key)


def parsed(manifests: list[dict[str, Any]]) -> list[Object]:
    return [parse_object(document, ranges=RANGES) for document in copy.deepcopy(manifests)]


def apply(store: Store, manifests: list[dict[str, Any]], *, prune: bool = False) -> tuple[Problem, ...]:
    objects = parsed(manifests)
    try:
        with store.transaction() as transaction:
            if prune:
                transaction.prune(objects)
            transaction.apply(objects, now=NOW)
    except Problems as problems:
        return problems.problems
    return ()


def by_name(snapshot: Snapshot) -> dict[ObjectName, Service]:
    return {service.key: service for service in snapshot.services}


def prove(services: tuple[Service, ...]) -> None:
    """No two Services share a number or an address, and each has what its type is to have."""
    held = [holdings(service) for service in services]
    assert sum(len(each.node_ports) for each in held) == len({p for each in held for p in each.node_ports})
    assert sum(len(each.cluster_ips) for each in held) == len({ip for each in held for ip in each.cluster_ips})
    for service in services:
        numbered = [port for port in service.ports if port.node_port]
        pairs = {(port.protocol, port.node_port) for port in numbered}
        assert len(pairs) == len(numbered)
        assert all(port.node_port in RANGES.node_ports for port in numbered)
        if service.type is ServiceType.NODE_PORT:
            assert len(numbered) == len(service.ports)
        if service.type in (ServiceType.CLUSTER_IP, ServiceType.EXTERNAL_NAME):
            assert not numbered
        local = service.type is ServiceType.LOAD_BALANCER and service.external_traffic_policy == "Local"
        assert bool(service.health_check_node_port) == local
        holds_ips = service.type is not ServiceType.EXTERNAL_NAME and not service.headless
        assert tuple(ip.version for ip in service.cluster_ips) == (service.ip_families if holds_ips else ())
        for ip in service.cluster_ips:
            network = RANGES.service_cidrs[0 if ip.version == 4 else 1]
            assert ip in network
            assert ip != network.network_address
            assert ip.version == 6 or ip != network.broadcast_address


@given(MANIFESTS, st.randoms(use_true_random=False))
def test_the_order_of_documents_never_matters(manifests: list[dict[str, Any]], random: Any) -> None:
    shuffled = list(manifests)
    random.shuffle(shuffled)
    with Store(ranges=RANGES) as one, Store(ranges=RANGES) as other:
        assert apply(one, manifests) == apply(other, shuffled)
        assert one.snapshot() == other.snapshot()


@pytest.mark.proves("A1", "A3")
@given(st.lists(st.tuples(MANIFESTS, st.booleans()), max_size=4))
@settings(deadline=None)
def test_no_two_services_share_anything_whatever_came_before(
    history: list[tuple[list[dict[str, Any]], bool]],
) -> None:
    with Store(ranges=RANGES) as store:
        for manifests, prune in history:
            before, version = store.snapshot(), store.resource_version()
            if apply(store, manifests, prune=prune):
                assert (store.snapshot(), store.resource_version()) == (before, version)
            else:
                names = {key(document) for document in manifests}
                there = {service.key for service in store.snapshot().services}
                assert there == names if prune else there >= names
            prove(store.snapshot().services)


@pytest.mark.proves("A1", "A3")
@given(MANIFESTS, MANIFESTS)
def test_what_is_held_stays(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    with Store(ranges=RANGES) as store:
        if apply(store, first) or apply(store, second):
            return
        before = by_name(store.snapshot())
        # Whatever came first: the same again, without any explicit number, changes nothing at all.
        version = store.resource_version()
        bare = copy.deepcopy(second)
        for document in bare:
            document["spec"].pop("clusterIP", None)
            for port in document["spec"].get("ports", ()):
                if document["spec"].get("allocateLoadBalancerNodePorts", True):
                    port.pop("nodePort", None)
        assert apply(store, bare) == ()
        assert by_name(store.snapshot()) == before
        assert store.resource_version() == version


@given(MANIFESTS, st.data())
def test_the_others_are_untouched_by_one_that_changes(manifests: list[dict[str, Any]], data: st.DataObject) -> None:
    with Store(ranges=RANGES) as store:
        if apply(store, manifests):
            return
        before = by_name(store.snapshot())
        change = data.draw(documents())
        apply(store, [change])
        after = by_name(store.snapshot())
        changed = ObjectName(*key(change))
        before.pop(changed, None)
        after.pop(changed, None)
        assert after == before


@pytest.mark.proves("A1", "A3")
@given(MANIFESTS)
def test_what_is_deleted_is_given_back(manifests: list[dict[str, Any]]) -> None:
    with Store(ranges=RANGES) as store:
        if apply(store, manifests):
            return
        first = store.snapshot()
        with store.transaction() as transaction:
            assert len(transaction.prune(())) == len(manifests)
        assert store.snapshot() == Snapshot()
        assert apply(store, manifests) == ()
        assert store.snapshot() == first


@given(MANIFESTS)
def test_what_was_written_out_can_be_applied_again(manifests: list[dict[str, Any]]) -> None:
    with Store(ranges=RANGES) as store, Store(ranges=RANGES) as fresh:
        if apply(store, manifests):
            return
        written = [stored.raw for stored in store.objects()]
        version = store.resource_version()
        assert apply(store, written) == ()
        assert store.resource_version() == version
        assert apply(fresh, written) == ()
        assert fresh.snapshot() == store.snapshot()


@given(st.sets(st.sampled_from([f"s{i}" for i in range(40)]), min_size=20, max_size=20))
@settings(max_examples=20)
def test_any_names_fill_the_range_entirely(names: set[str]) -> None:
    manifests = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": str(Protocol.TCP)}]},
        }
        for name in sorted(names)
    ]
    ranges = Ranges(RANGES.node_ports, (IPv4Network("10.96.0.0/24"),))
    with Store(ranges=ranges) as store:
        assert apply(store, manifests) == ()
        given = {port.node_port for service in store.snapshot().services for port in service.ports}
    assert given == set(range(30000, 30020))
