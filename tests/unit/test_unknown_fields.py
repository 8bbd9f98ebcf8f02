"""Names with a slip in them: told where they stand, with the name that was probably meant."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from nodeport_nft.manifest import KINDS, Manifests, Problems, Validate, read_manifests
from nodeport_nft.model import Ranges
from nodeport_nft.problems import nearest

SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
}
STICKY = {**SERVICE, "spec": {**SERVICE["spec"], "sessionAffinity": "ClientIP"}}
SLICE: dict[str, Any] = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.244.1.2"]}],
    "ports": [{"port": 8080}],
}
ENDPOINTS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Endpoints",
    "metadata": {"name": "web"},
    "subsets": [{"addresses": [{"ip": "10.244.1.2"}], "ports": [{"port": 8080}]}],
}
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-1"},
    "spec": {"containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]},
    "status": {"podIP": "10.244.1.2"},
}
NODE: dict[str, Any] = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-1"}, "spec": {}}


def read(*objects: dict[str, Any], validate: Validate = Validate.strict) -> Manifests:
    text = "\n---\n".join(json.dumps(one) for one in objects)
    return read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(text.encode()), validate=validate)


def with_field(raw: dict[str, Any], path: tuple[str | int, ...], value: Any = "x") -> dict[str, Any]:
    """A copy with one more field; mappings on the way are made."""
    copied: dict[str, Any] = json.loads(json.dumps(raw))
    at: Any = copied
    for key in path[:-1]:
        at = at[key] if isinstance(key, int) else at.setdefault(key, {})
    at[path[-1]] = value
    return copied


@pytest.mark.parametrize(
    ("raw", "path", "told", "meant"),
    [
        (SERVICE, ("spec", "loadbalancerSourceRanges"), "spec.loadbalancerSourceRanges", "loadBalancerSourceRanges"),
        (SERVICE, ("spec", "ports", 0, "targetport"), "spec.ports[0].targetport", "targetPort"),
        (SERVICE, ("spec", "ports", 0, "nodeport"), "spec.ports[0].nodeport", "nodePort"),
        (SERVICE, ("spec", "externaltrafficpolicy"), "spec.externaltrafficpolicy", "externalTrafficPolicy"),
        (SERVICE, ("spec", "Type"), "spec.Type", "type"),
        (SERVICE, ("spec", "selectors"), "spec.selectors", "selector"),
        (SERVICE, ("metadata", "lables"), "metadata.lables", "labels"),
        (SERVICE, ("Spec",), "Spec", "spec"),
        (STICKY, ("spec", "sessionAffinityConfig", "clientIp"), "spec.sessionAffinityConfig.clientIp", "clientIP"),
        (SERVICE, ("status", "loadBalancer", "Ingress"), "status.loadBalancer.Ingress", "ingress"),
        (SLICE, ("endpoints", 0, "conditions", "Ready"), "endpoints[0].conditions.Ready", "ready"),
        (SLICE, ("endpoints", 0, "hints", "forZone"), "endpoints[0].hints.forZone", "forZones"),
        (SLICE, ("endpoint",), "endpoint", "endpoints"),
        (SLICE, ("ports", 0, "Port"), "ports[0].Port", "port"),
        (ENDPOINTS, ("subsets", 0, "address"), "subsets[0].address", "addresses"),
        (ENDPOINTS, ("subsets", 0, "addresses", 0, "IP"), "subsets[0].addresses[0].IP", "ip"),
        (POD, ("status", "podIp"), "status.podIp", "podIP"),
        (POD, ("spec", "hostnetwork"), "spec.hostnetwork", "hostNetwork"),
        (POD, ("spec", "containers", 0, "port"), "spec.containers[0].port", "ports"),
        (POD, ("spec", "containers", 0, "ports", 0, "containerport"), "spec.containers[0].ports[0].containerport",
         "containerPort"),
        (NODE, ("spec", "podCidr"), "spec.podCidr", "podCIDR"),
        (NODE, ("status", "address"), "status.address", "addresses"),
    ],
)  # fmt: skip
def test_a_slip_names_the_field_that_was_meant(
    raw: dict[str, Any], path: tuple[str | int, ...], told: str, meant: str
) -> None:
    wrong = with_field(raw, path)
    name = f"{raw['kind']}/" + ("" if raw["kind"] == "Node" else "default/") + raw["metadata"]["name"]
    text = f"<stdin>:1: {name}: {told}: unknown field; did you mean {meant}?"
    with pytest.raises(Problems) as caught:
        read(wrong)
    assert str(caught.value) == text
    assert read(wrong, validate=Validate.warn).warnings == (text,)
    assert read(wrong, validate=Validate.ignore).warnings == ()


def test_the_line_is_that_of_the_field() -> None:
    text = "kind: Service\napiVersion: v1\nmetadata: {name: web}\nspec:\n  ports:\n  - port: 80\n    targetport: 1\n"
    with pytest.raises(
        Problems, match=r"<stdin>:7: Service/default/web: spec.ports\[0\].targetport: unknown field; "
    ):
        read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(text.encode()))


def test_all_unknown_fields_are_told_together_and_bounded() -> None:
    wrong = json.loads(json.dumps(SERVICE))
    wrong["spec"] |= {f"x-{number}": {} for number in range(1000)}
    with pytest.raises(Problems) as caught:
        read(wrong)
    assert len(caught.value.problems) == 11
    assert str(caught.value).endswith(
        "<stdin>:1: Service/default/web: 990 more fields are unknown; correct these first"
    )


@pytest.mark.parametrize("name", ["x" * 100_000, "\x1b[2J", "", "nodePort" * 20])
def test_names_of_any_kind_are_told_in_a_short_printable_line(name: str) -> None:
    with pytest.raises(Problems) as caught:
        read(with_field(SERVICE, ("spec", name)))
    (problem,) = caught.value.problems
    assert problem.message == "unknown field; leave it out, or choose --validate=warn"
    assert str(problem).isprintable()
    assert len(str(problem)) < 300


def test_what_an_api_server_answers_is_known() -> None:
    """As recorded from kube-apiserver 1.36, with what only a server writes."""
    service = {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {
            "name": "web",
            "namespace": "default",
            "uid": "8f4a2c0e-7a0f-4dcb-8d0f-4a3a1d8b6f10",
            "resourceVersion": "217",
            "generation": 1,
            "creationTimestamp": "2026-11-01T10:00:00Z",
            "selfLink": "/api/v1/namespaces/default/services/web",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": True}],
            "finalizers": ["service.kubernetes.io/load-balancer-cleanup"],
            "labels": {"app": "web"},
            "managedFields": [
                {
                    "manager": "kubectl",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "time": "2026-11-01T10:00:00Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:spec": {"f:ports": {".": {}, 'k:{"port":80,"protocol":"TCP"}': {".": {}}}}},
                }
            ],
        },
        "spec": {
            "ports": [{"name": "http", "protocol": "TCP", "appProtocol": "http", "port": 80, "targetPort": 8080}],
            "selector": {"app": "web"},
            "clusterIP": "10.96.0.20",
            "clusterIPs": ["10.96.0.20"],
            "type": "LoadBalancer",
            "sessionAffinity": "None",
            "loadBalancerIP": "192.0.2.1",
            "loadBalancerClass": "example.org/lb",
            "externalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "allocateLoadBalancerNodePorts": True,
            "internalTrafficPolicy": "Cluster",
            "trafficDistribution": "PreferClose",
        },
        "status": {
            "loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP", "ports": [{"port": 80}]}]},
            "conditions": [{"type": "x", "status": "True", "reason": "y", "message": "", "lastTransitionTime": None}],
        },
    }
    listed = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [service, SLICE, POD]}
    made = read(listed)
    assert [one.kind for one in made.objects] == ["Service", "EndpointSlice", "Pod"]
    assert made.warnings == ()


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_an_author_is_free_to_choose_are_no_fields(kind: str) -> None:
    raw = next(one for one in (SERVICE, SLICE, ENDPOINTS, POD, NODE) if one["kind"] == kind)
    named = with_field(with_field(raw, ("metadata", "labels", "targetport")), ("metadata", "annotations", "podIp"))
    assert len(read(named).objects) == 1


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("NODEPORT", ("port", "nodePort"), "nodePort"),
        ("nodePrt", ("port", "nodePort"), "nodePort"),
        ("colour", ("port", "nodePort"), ""),
        ("", ("port",), ""),
        ("port" * 1000, ("port",), ""),
    ],
)
def test_the_nearest_name(name: str, known: tuple[str, ...], near: str) -> None:
    assert nearest(name, known) == near


@pytest.mark.parametrize("place", ["labels", "annotations"])
def test_keys_under_our_prefix_are_fields_of_ours(place: str) -> None:
    wrong = with_field(SERVICE, ("metadata", place, "nodeport-nft/wieghts"))
    with pytest.raises(Problems, match=r"nodeport-nft/weights (is )?meant\?|did you mean nodeport-nft/weights\?"):
        read(wrong)
    assert read(with_field(SERVICE, ("metadata", place, "example.org/weights"))).warnings == ()


@pytest.mark.parametrize("place", ["top", "below", "annotations"])
def test_how_many_more_there_are_is_told_behind_the_first_of_them(place: str) -> None:
    keys = [f"nodeport-nft/x{n}: y" if place == "annotations" else f"x{n}: 1" for n in range(20)]
    text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n"
    if place == "annotations":
        text += "  annotations:\n" + "".join(f"    {key}\n" for key in keys)
    text += "spec:\n  type: NodePort\n  ports: [{port: 80}]\n"
    if place != "annotations":
        text += "".join(f"{'  ' * (place == 'below')}{key}\n" for key in keys)
    with pytest.raises(Problems) as caught:
        read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(text.encode()))
    *first, last = str(caught.value).splitlines()
    assert len(first) == 10
    assert all(": unknown " in line for line in first)
    assert "10 more" in last
    assert last.split(":")[1] == first[-1].split(":")[1]
