"""A Service changes its type or its family policy, as who edits ``get -o yaml`` changes it: one word.

What the table expects is what dropTypeDependentFields of the API server does, and what it leaves alone.
"""

from __future__ import annotations

import copy
import json
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.allocate import holdings
from nodeport_nft.manifest import Object, Problems, parse_object, read_manifests
from nodeport_nft.model import PortRange, Ranges, Service
from nodeport_nft.store import Applied, Store

NOW = "2026-01-31T12:00:00Z"
RANGES = Ranges(PortRange(30000, 30099), (IPv4Network("10.96.0.0/24"), IPv6Network("fd00:10:96::/112")))

SHAPES: dict[str, dict[str, Any]] = {
    "ClusterIP": {"type": "ClusterIP"},
    "headless": {"type": "ClusterIP", "clusterIP": "None"},
    "NodePort": {"type": "NodePort", "externalTrafficPolicy": "Local"},
    "LoadBalancer": {"type": "LoadBalancer", "loadBalancerClass": "example.org/lb"},
    "Local": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP"},
    "without nodePorts": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False},
    "ExternalName": {"type": "ExternalName", "externalName": "example.org"},
}

ALLOCATED = {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}
MAY_HAVE: dict[str, set[str]] = {
    "ClusterIP": ALLOCATED | {"internalTrafficPolicy"},
    "NodePort": ALLOCATED | {"internalTrafficPolicy", "externalTrafficPolicy"},
    "LoadBalancer": ALLOCATED
    | {"internalTrafficPolicy", "externalTrafficPolicy", "allocateLoadBalancerNodePorts", "loadBalancerClass"},
    "ExternalName": {"internalTrafficPolicy"},  # which the API leaves to it
}
ALWAYS = {"type", "ports", "selector", "sessionAffinity", "externalName"}


def document(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}], **spec}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": copy.deepcopy(spec),
    }


class Desk:
    """A store, and manifests that are read as the commands read them."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "manifests.json"
        self.store = Store(ranges=RANGES)
        self.dropped: list[str] = []

    def read(self, *documents: dict[str, Any]) -> tuple[Object, ...]:
        self.path.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
        return read_manifests([str(self.path)], ranges=RANGES, to_store=True).objects

    def apply(self, *documents: dict[str, Any]) -> tuple[Applied, ...]:
        objects = self.read(*documents)
        with self.store.transaction() as transaction:
            applied = transaction.apply(objects, now=NOW)
        self.dropped = transaction.dropped
        return applied

    def refused(self, *documents: dict[str, Any]) -> list[str]:
        before = self.store.objects()
        with pytest.raises(Problems) as caught:
            self.apply(*documents)
        assert self.store.objects() == before
        return [problem.field for problem in caught.value.problems]

    def stored(self, name: str = "web") -> dict[str, Any]:
        found = self.store.get("Service", "default", name)
        assert found is not None
        return found.raw

    def service(self, name: str = "web") -> Service:
        return next(each for each in self.store.snapshot().services if each.name == name)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def refusal(old: str, new: str) -> str:
    """The field for which the API refuses a change, "" where it takes it."""
    if new == "headless":
        return "" if old in ("headless", "ExternalName") else "spec.clusterIP"
    if old == "headless" and new in ("NodePort", "LoadBalancer", "Local", "without nodePorts"):
        return "spec.clusterIPs[0]"
    return ""


@pytest.mark.proves("A6")
@pytest.mark.parametrize("new", SHAPES)
@pytest.mark.parametrize("old", SHAPES)
def test_what_a_type_change_leaves_is_dropped_and_free(desk: Desk, old: str, new: str) -> None:
    desk.apply(document("web", SHAPES[old]))
    before, held = desk.stored(), desk.service()
    edited = copy.deepcopy(before)
    edited["spec"]["type"] = SHAPES[new]["type"]
    if new == "headless" and old != "headless":
        edited["spec"] |= {"clusterIP": "None", "clusterIPs": ["None"]}
    if new in ("ExternalName", "Local"):
        edited["spec"] |= SHAPES[new]
    if new == "LoadBalancer" and old == "Local":
        edited["spec"]["externalTrafficPolicy"] = "Cluster"
    if (field := refusal(old, new)) and old != new:
        assert desk.refused(edited) == [field]
        return
    desk.apply(edited)
    after, service = desk.stored(), desk.service()
    spec = after["spec"]
    kind = SHAPES[new]["type"]
    needs_health = kind == "LoadBalancer" and spec["externalTrafficPolicy"] == "Local"
    assert spec.keys() <= ALWAYS | MAY_HAVE[kind] | ({"healthCheckNodePort"} if needs_health else set())
    assert needs_health == bool(service.health_check_node_port)
    if kind in ("ClusterIP", "ExternalName"):
        assert not any("nodePort" in port for port in spec["ports"])
    elif held.ports[0].node_port:
        assert [port.node_port for port in service.ports] == [port.node_port for port in held.ports]
    if kind != "ExternalName" and held.cluster_ips:
        assert service.cluster_ips == held.cluster_ips
    assert parse_object(after).values == (service,), "what is stored is right by itself"
    assert desk.apply(after)[0].action == "unchanged"
    free = holdings(held).node_ports - holdings(service).node_ports
    for number in free:
        port = {"port": 80, "nodePort": number}
        desk.apply(document(f"heir-{number}", {"type": "NodePort", "ports": [port]}))
    for ip in holdings(held).cluster_ips - holdings(service).cluster_ips:
        desk.apply(document("heir", {"clusterIP": str(ip)}))


@pytest.mark.parametrize(
    ("old", "change", "fields"),
    [
        ("NodePort", {"type": "ClusterIP", "externalTrafficPolicy": "Cluster"}, ["spec.externalTrafficPolicy"]),
        ("Local", {"type": "NodePort", "healthCheckNodePort": 30099}, ["spec.healthCheckNodePort"]),
        ("Local", {"externalTrafficPolicy": "Cluster", "healthCheckNodePort": 30099}, ["spec.healthCheckNodePort"]),
        (
            "LoadBalancer",
            {"type": "NodePort", "allocateLoadBalancerNodePorts": False},
            ["spec.allocateLoadBalancerNodePorts"],
        ),
        ("LoadBalancer", {"type": "NodePort", "loadBalancerClass": "example.org/b"}, ["spec.loadBalancerClass"]),
        ("Local", {"type": "NodePort", "loadBalancerClass": "example.org/b"}, ["spec.loadBalancerClass"]),
        (
            "ClusterIP",
            {
                "type": "ExternalName",
                "externalName": "x.org",
                "clusterIP": "10.96.0.77",
                "clusterIPs": ["10.96.0.77"],
                "ipFamilies": ["IPv6"],
                "ipFamilyPolicy": "PreferDualStack",
            },
            ["spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies", "spec.ipFamilyPolicy"],
        ),
        (
            "NodePort",
            {"type": "ClusterIP", "ports": [{"name": "a", "port": 80, "nodePort": 30007}]},
            ["spec.ports[0].nodePort"],
        ),
        ("ClusterIP", {"ports": [{"name": "a", "port": 80, "nodePort": 30007}]}, ["spec.ports[0].nodePort"]),
        ("ClusterIP", {"type": "NodePort", "healthCheckNodePort": 30007}, ["spec.healthCheckNodePort"]),
    ],
)
def test_what_was_touched_is_refused(desk: Desk, old: str, change: dict[str, Any], fields: list[str]) -> None:
    desk.apply(document("web", SHAPES[old]))
    edited = copy.deepcopy(desk.stored())
    edited["spec"] |= change
    assert desk.refused(edited) == fields


def test_what_the_api_does_not_drop_is_still_refused(desk: Desk) -> None:
    desk.apply(document("web", {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}))
    edited = copy.deepcopy(desk.stored())
    edited["spec"]["type"] = "NodePort"
    assert desk.refused(edited) == ["spec.loadBalancerSourceRanges"]


@pytest.mark.parametrize("shape", [{"nodePort": 30007}, {}])
def test_a_new_service_has_nothing_left(desk: Desk, shape: dict[str, Any]) -> None:
    spec = {"ports": [{"port": 80, **shape}], "allocateLoadBalancerNodePorts": True}
    fields = ["spec.allocateLoadBalancerNodePorts", *(["spec.ports[0].nodePort"] if shape else [])]
    assert sorted(desk.refused(document("web", spec))) == fields
    with pytest.raises(Problems):
        parse_object(document("web", spec), ranges=RANGES)
    assert parse_object(document("web", spec)), "what an earlier version let into a store stays readable"


@pytest.mark.proves("A6")
@pytest.mark.parametrize("leave_out", [(), ("clusterIPs",), ("ipFamilies",), ("clusterIPs", "ipFamilies")])
@pytest.mark.parametrize("policy", ["PreferDualStack", "RequireDualStack"])
@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_a_second_family_is_given_back(desk: Desk, kind: str, policy: str, leave_out: tuple[str, ...]) -> None:
    desk.apply(document("web", {"type": kind, "ipFamilyPolicy": policy}))
    first, second = desk.service().cluster_ips
    edited = copy.deepcopy(desk.stored())
    edited["spec"]["ipFamilyPolicy"] = "SingleStack"
    for field in leave_out:
        del edited["spec"][field]
    # Both in one write: the other has the address that this one gives up.
    desk.apply(document("heir", {"ipFamilies": ["IPv6"], "clusterIP": str(second)}), edited)
    spec = desk.stored()["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"], spec["ipFamilies"]) == (str(first), [str(first)], ["IPv4"])
    assert desk.service("heir").cluster_ips == (second,)
    assert [one.action for one in desk.apply(edited)] == ["unchanged"], "it may come again"


def test_other_families_than_were_there_are_refused(desk: Desk) -> None:
    desk.apply(document("web", {"ipFamilyPolicy": "PreferDualStack"}))
    first, second = desk.stored()["spec"]["clusterIPs"]
    swapped = {"clusterIP": second, "clusterIPs": [second, first], "ipFamilies": ["IPv6", "IPv4"]}
    for change in (swapped, {"clusterIPs": [first, "fd00:10:96::7"]}):
        edited = copy.deepcopy(desk.stored())
        edited["spec"] |= {"ipFamilyPolicy": "SingleStack", **change}
        assert "spec.ipFamilyPolicy" in desk.refused(edited)


def test_a_headless_service_may_change_its_families(desk: Desk) -> None:
    desk.apply(document("web", {"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack"}))
    changes = ((["IPv6"], "SingleStack"), (["IPv4"], "SingleStack"), (["IPv6", "IPv4"], "PreferDualStack"))
    for families, policy in changes:
        edited = copy.deepcopy(desk.stored())
        edited["spec"] |= {"ipFamilies": families, "ipFamilyPolicy": policy}
        desk.apply(edited)
        assert desk.stored()["spec"]["ipFamilies"] == families


def test_ports_may_go_and_change_places_with_the_type(desk: Desk) -> None:
    desk.apply(document("web", {"type": "NodePort"}))
    first, second = (port.node_port for port in desk.service().ports)
    edited = copy.deepcopy(desk.stored())
    edited["spec"]["type"] = "ClusterIP"
    edited["spec"]["ports"] = [{"name": "c", "port": 82}, edited["spec"]["ports"][1]]
    port = {"port": 80, "nodePort": second}
    desk.apply(edited, document("heir", {"type": "NodePort", "ports": [port]}))
    assert holdings(desk.service()).node_ports == frozenset()
    assert desk.service("heir").ports[0].node_port == second != first


def test_what_is_dropped_is_told_with_its_place(desk: Desk) -> None:
    desk.apply(document("web", {"type": "LoadBalancer", "ipFamilyPolicy": "PreferDualStack"}))
    edited = copy.deepcopy(desk.stored())
    edited["spec"] |= {"type": "ClusterIP", "ipFamilyPolicy": "SingleStack"}
    desk.apply(edited)
    [line] = desk.dropped
    assert line.startswith(f"{desk.path}:1: Service/default/web: ")
    for field in ("spec.ports[0].nodePort", "spec.ports[1].nodePort", "spec.clusterIPs[1]", "spec.ipFamilies[1]"):
        assert field in line
    assert line.endswith("leave such fields out of the manifest")


@pytest.mark.proves("A6")
def test_a_manifest_that_still_names_it_may_come_again(desk: Desk) -> None:
    desk.apply(document("web", SHAPES["Local"]))
    first = copy.deepcopy(desk.stored())
    del first["metadata"]["resourceVersion"]  # a file that is edited time and again
    first["spec"]["type"] = "NodePort"
    for action in ("configured", "unchanged", "unchanged"):
        assert desk.apply(first)[0].action == action
    second = copy.deepcopy(first)  # what is left of two changes, in a file that was never cleaned
    second["spec"]["type"] = "ClusterIP"
    for action in ("configured", "unchanged"):
        assert desk.apply(second)[0].action == action
    third = copy.deepcopy(second)
    third["spec"]["ports"][0]["nodePort"] = 30001
    assert set(desk.refused(third)) == {"spec.ports[0].nodePort", "spec.ports[1].nodePort"}
    assert desk.apply(desk.stored())[0].action == "unchanged"
    assert desk.refused(second), "it was taken out, and would be put in again"
    with desk.store.transaction() as transaction:
        transaction.delete("Service", "default", "web")
    assert desk.refused(second)


def test_the_status_of_a_load_balancer_goes_with_it(desk: Desk) -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    desk.apply({**document("web", {"type": "LoadBalancer"}), "status": status})
    assert desk.service().load_balancer_ips
    edited = copy.deepcopy(desk.stored())
    edited["spec"]["type"] = "NodePort"
    desk.apply(edited)
    assert desk.stored()["status"] == {"loadBalancer": {}}
