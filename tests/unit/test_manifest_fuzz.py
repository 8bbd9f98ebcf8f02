"""Whatever comes in: manifests are read, or refused with ``Problems`` of one printable line each; nothing else."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from nodeport_nft.manifest import KINDS, Problems, parse_object, read_manifests
from nodeport_nft.model import Ranges

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "web",
        "namespace": "team",
        "labels": {"a": "b"},
        "creationTimestamp": "2026-01-31T12:00:00Z",
        "annotations": {
            "nodeport-nft/node-port-source-ranges": "10.0.0.0/8, fd00::/8",
            "nodeport-nft/node-port-nodes": "disk in (ssd), !spot",
            "nodeport-nft/load-balancing": "random",
            "nodeport-nft/weights": "10.1.0.1=3, fd00::1=0",
        },
    },
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.9",
        "clusterIPs": ["10.96.0.9", "fd00:10:96::9"],
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "PreferDualStack",
        "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080, "protocol": "TCP"}],
        "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Local",
        "healthCheckNodePort": 30081,
        "allocateLoadBalancerNodePorts": True,
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
        "externalIPs": ["192.0.2.1"],
        "externalName": "",
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "trafficDistribution": "PreferClose",
        "publishNotReadyAddresses": False,
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}]}},
}
PREFERRING = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {
        "name": "near",
        "annotations": {
            "nodeport-nft/external-traffic-policy": "PreferLocal",
            "nodeport-nft/internal-traffic-policy": "PreferLocal",
            "nodeport-nft/load-balancing": "maglev",
        },
    },
    "spec": {"type": "NodePort", "sessionAffinity": "None", "ports": [{"port": 80}]},
}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {
        "name": "web-1",
        "labels": {"kubernetes.io/service-name": "web"},
        "annotations": {"nodeport-nft/weight": "2"},
    },
    "addressType": "IPv4",
    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    "endpoints": [
        {
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": True},
            "nodeName": "worker-1",
            "hints": {"forZones": [{"name": "a"}]},
        }
    ],
}
ENDPOINTS = {
    "apiVersion": "v1",
    "kind": "Endpoints",
    "metadata": {"name": "web", "annotations": {"nodeport-nft/weight": "2"}},
    "subsets": [
        {"addresses": [{"ip": "10.1.0.1"}], "notReadyAddresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}
    ],
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-1",
        "deletionTimestamp": "2026-01-31T12:00:00Z",
        "annotations": {"nodeport-nft/weight": "2"},
    },
    "spec": {"nodeName": "worker-1", "containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
    "status": {
        "phase": "Running",
        "podIP": "10.1.0.1",
        "podIPs": [{"ip": "10.1.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "worker-1"},
    "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "172.30.1.2"}]},
}
GOOD: list[dict[str, Any]] = [SERVICE, PREFERRING, SLICE, ENDPOINTS, POD, NODE]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(
        [
            "10.0.0.1",
            "::1",
            "0/0",
            "10.0.0.1=1",
            "a in (b)",
            "None",
            "IPv4",
            "80",
            "Service",
            "List",
            "\ud800",
            "a" * 100,
        ]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in ``value``, itself first."""
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """``value`` with ``new`` at ``path``."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A good object of any kind, in which one to three fields hold anything."""
    value: Any = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 3))):
        value = replaced(value, draw(st.sampled_from(places(value))), draw(json_values))
    return value


def check(content: bytes) -> None:
    """Read ``content``; it must give objects, or problems that name their line. Of what can be read the names can."""
    lines: list[str] = []
    names: list[list[str] | None] = []
    for names_only in (False, True):
        try:
            made = read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(content), names_only=names_only)
        except Problems as error:
            names.append(None)
            lines += str(error).split("\n")
            continue
        names.append([str(item.ref) for item in made.objects])
        lines += made.warnings
        for item in made.objects:
            assert item.kind in KINDS
            json.dumps(item.raw, ensure_ascii=False).encode()
    assert names[0] in (None, names[1])
    for line in lines:
        assert line.startswith("<stdin>:")
        assert line.isprintable()


def test_the_good_objects_are_good() -> None:
    for value in GOOD:
        assert parse_object(value, ranges=Ranges()).values


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf\xef\xbb\xbfa: 1")
def test_any_bytes(content: bytes) -> None:
    check(content)


@given(st.text(alphabet="abk: -[]{}\"'\n\t#&*!|>%@`?,<\\~0\x85\u2028\ufeff", max_size=80))
@example("? a\n? <<\n: &a [*a]")
@example("? &a\n: *a")
@example('{"a":1}\u2028{')
def test_any_text_that_looks_like_yaml(text: str) -> None:
    check(text.encode())


@given(spoilt())
def test_anything_in_place_of_any_field(value: Any) -> None:
    check(json.dumps(value).encode())
    if "\ud800" not in json.dumps(value, ensure_ascii=False):  # which YAML cannot write
        check(yaml.dump(value, Dumper=yaml.CSafeDumper).encode())


@given(spoilt())
def test_anything_in_an_object_out_of_a_store(value: Any) -> None:
    if not isinstance(value, dict):
        return
    with suppress(Problems):
        made = parse_object(value)
        again = parse_object(made.raw)
        assert (again.values, again.ref) == (made.values, made.ref)


@given(st.lists(st.sampled_from(GOOD).flatmap(lambda good: st.just(yaml.safe_dump(good))), max_size=3), st.data())
def test_a_truncated_file(texts: list[str], data: st.DataObject) -> None:
    text = "---\n".join(texts)
    check(text[: data.draw(st.integers(0, len(text)))].encode())
