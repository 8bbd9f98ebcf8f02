"""The Services that are measured, as documents, and how they change. Every benchmark has its load from here.

Each Service has a clusterIP and one port, the first ``node_ports`` a nodePort too, and a slice of endpoints on fifty
nodes. Numbers of the model, documents for an API server and manifests are all made of the same documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from bench.scenario import MOST_NODE_PORTS, Scenario
from nodeport_nft.kube import Object, parse_object
from nodeport_nft.model import EndpointSlice, NodeFacts, PortRange, Ranges, Service, Snapshot

Document = dict[str, Any]

NAMESPACE = "default"
NOW = "2026-01-01T00:00:00Z"
RANGES = Ranges(node_ports=PortRange(20000, 60000))
NODE_ADDRESS = "172.30.1.2"
NODE = "node-0"
POD_CIDR = "10.128.0.0/9"
FACTS = NodeFacts(
    NODE,
    node_port_ips=(ip_address(NODE_ADDRESS),),
    pod_cidrs=(ip_network(POD_CIDR),),
    service_cidrs=RANGES.service_cidrs,
)
TARGET_PORT = 8080
UDP_TARGET_PORT = 9000
SLICE_SIZE = 100
"""Endpoints of one slice at most, as Kubernetes' controller makes them."""

SPARE = 64
"""Services that come and go: their slices are there from the start, so that one write brings them."""

_NODES = 50
_FIRST_CLUSTER_IP = int(ip_address("10.96.1.0"))
_FIRST_POD = int(ip_address("10.128.0.1"))
_FIRST_OTHER = int(ip_address("10.200.0.1"))
_FIRST_ROLLING = int(ip_address("10.220.0.1"))
_UDP_CLUSTER_IP = "10.96.0.200"
_ROLLING_CLUSTER_IP = "10.96.0.201"
UDP_NODE_PORT = 32767
_FIRST_CHANGED_PORT = 32_000


@dataclass(frozen=True, slots=True)
class Change:
    """One write: ``document`` as it is from now on, or, where ``deletes``, what it takes away. ``kind``: its name."""

    kind: str
    document: Document
    creates: bool = False
    deletes: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name."""
        return self.document["kind"], NAMESPACE, self.document["metadata"]["name"]


@dataclass(frozen=True, slots=True)
class Workload:
    """So many Services with so many endpoints each. ``given_ips``: whether the documents say their clusterIPs."""

    services: int
    endpoints: int
    node_ports: int = 0
    rolling: int = 0
    given_ips: bool = True
    first_node_port: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "node_ports", min(self.node_ports, self.services))
        # An API server's default range begins at the first; more nodePorts than scenarios have want a wider one.
        first = 30_000 if self.node_ports <= MOST_NODE_PORTS else RANGES.node_ports.first
        object.__setattr__(self, "first_node_port", first)

    @classmethod
    def of(cls, scenario: Scenario, *, given_ips: bool = True) -> Workload:
        return cls(scenario.services, scenario.endpoints, scenario.node_ports, scenario.rolling, given_ips)

    def documents(self) -> Iterator[Document]:
        """Everything that is there at the start."""
        for number in range(self.services):
            yield self.service(number)
            yield self.piece(number)
        for number in range(self.services, self.services + SPARE):
            yield self.piece(number)
        yield from self._udp()
        if self.rolling:
            yield self._rolling_service()
            for first in range(0, self.rolling, SLICE_SIZE):
                yield self._rolling_piece(first, 0, 0, 0)

    def objects(self) -> Iterator[Object]:
        """The same, parsed."""
        return map(parsed, self.documents())

    def snapshot(self) -> Snapshot:
        """The Services and their slices alone, as values."""
        numbers = range(self.services)
        return Snapshot(
            tuple(service_value(self.service(number)) for number in numbers),
            tuple(slice_value(self.piece(number)) for number in numbers),
        )

    def service(self, number: int, **changed: Any) -> Document:
        """As a Helm chart makes it: labels, an annotation, a selector. ``changed``: fields of its spec."""
        name = name_of(number)
        port: Document = {"name": "http", "port": 80, "targetPort": TARGET_PORT}
        spec: Document = {"type": "ClusterIP", "ports": [port], "selector": {"app.kubernetes.io/name": name}}
        spec |= {"sessionAffinity": "None"}
        if self.given_ips:
            spec["clusterIP"] = self.cluster_ip(number)
        if number < self.node_ports:
            spec |= {"type": "NodePort", "externalTrafficPolicy": "Cluster"}
            port["nodePort"] = changed.pop("node_port", self.first_node_port + number)
        labels = {"app": "bench", "app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"}
        metadata = {"name": name, "labels": labels, "annotations": {"meta.helm.sh/release-name": name}}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec | changed}

    def cluster_ip(self, number: int) -> str:
        return str(ip_address(_FIRST_CLUSTER_IP + number))

    @property
    def count(self) -> int:
        """All Services there are at the start."""
        return self.services + 1 + bool(self.rolling)

    @property
    def udp_cluster_ip(self) -> str:
        """Of the Service that takes datagrams."""
        return _UDP_CLUSTER_IP

    def pods(self, number: int) -> list[int]:
        first = _FIRST_POD + number * self.endpoints
        return list(range(first, first + self.endpoints))

    def piece(self, number: int, pods: list[int] | None = None) -> Document:
        """As the endpoint slice controller makes it; ``pods`` are addresses."""
        return _piece(f"{name_of(number)}-x", name_of(number), self.pods(number) if pods is None else pods)

    def changes(self, turn: int) -> Iterator[Change]:
        """One of each kind at Services of this turn's own; at the end everything is as it was."""
        which = turn * 7919 % self.services
        pods, other = self.pods(which), _FIRST_OTHER + 2 * turn
        yield Change("endpoint added", self.piece(which, [*pods, other]))
        yield Change("endpoint moved", self.piece(which, [*pods, other + 1]))
        yield Change("endpoint removed", self.piece(which))
        if self.node_ports:
            which = turn * 7919 % self.node_ports
            port = _FIRST_CHANGED_PORT + turn % (UDP_NODE_PORT - _FIRST_CHANGED_PORT)
            yield Change("nodePort changed", self.service(which, node_port=port))
            yield Change("nodePort changed", self.service(which))
            yield Change("policy changed", self.service(which, externalTrafficPolicy="Local"))
            yield Change("policy changed", self.service(which))
        yield Change("affinity switched on", self.service(which, sessionAffinity="ClientIP"))
        yield Change("affinity switched off", self.service(which))
        spare = self.service(self.services + turn % SPARE)
        yield Change("Service added", spare, creates=True)
        yield Change("Service removed", spare, deletes=True)

    def rolling_update(self, step: int) -> Iterator[Change]:
        """Every endpoint of the one large Service is replaced, ``step`` at a time, slice by slice; then all back."""
        for old, new in ((0, 1), (1, 0)):
            for first in range(0, self.rolling, SLICE_SIZE):
                size = min(SLICE_SIZE, self.rolling - first)
                for replaced in range(step, size + step, step):
                    piece = self._rolling_piece(first, old, new, min(replaced, size))
                    yield Change("rolling update, one step", piece)

    def _rolling_service(self) -> Document:
        ports = [{"name": "http", "port": 80, "targetPort": TARGET_PORT}]
        spec: Document = {"type": "ClusterIP", "ports": ports}
        if self.given_ips:
            spec["clusterIP"] = _ROLLING_CLUSTER_IP
        metadata = {"name": "rolling", "labels": {"app": "bench"}}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}

    def _rolling_piece(self, first: int, old: int, new: int, replaced: int) -> Document:
        """The slice of the endpoints from ``first`` on, so many of them of the new version."""
        size = min(SLICE_SIZE, self.rolling - first)
        begins = [_FIRST_ROLLING + version * self.rolling + first for version in (old, new)]
        pods = [begins[i < replaced] + i for i in range(size)]
        return _piece(f"rolling-{first}", "rolling", pods)

    def _udp(self) -> Iterator[Document]:
        """One Service that packets without connections are sent to."""
        port = {"name": "dgram", "port": 53, "targetPort": UDP_TARGET_PORT, "protocol": "UDP"}
        spec: Document = {"type": "NodePort", "ports": [port | {"nodePort": UDP_NODE_PORT}]}
        if self.given_ips:
            spec["clusterIP"] = _UDP_CLUSTER_IP
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "datagrams", "labels": {"app": "bench"}},
            "spec": spec,
        }
        piece = _piece("datagrams-x", "datagrams", [_FIRST_ROLLING - 1])
        piece["ports"] = [{"name": "dgram", "port": UDP_TARGET_PORT, "protocol": "UDP"}]
        yield piece


def name_of(number: int) -> str:
    return f"service-{number}"


def address(number: int) -> str:
    return str(ip_address(number))


def _piece(name: str, service: str, pods: list[int]) -> Document:
    endpoints = [
        {
            "addresses": [address(pod)],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{index % _NODES}",
            "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": f"{service}-{pod}"},
        }
        for index, pod in enumerate(pods)
    ]
    labels = {
        "kubernetes.io/service-name": service,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "app": "bench",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": TARGET_PORT, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def parsed(document: Document) -> Object:
    return parse_object(document, ranges=RANGES)


def service_value(document: Document) -> Service:
    (value,) = parsed(document).values
    assert isinstance(value, Service)
    return value


def slice_value(document: Document) -> EndpointSlice:
    (value,) = parsed(document).values
    assert isinstance(value, EndpointSlice)
    return value


def write_manifests(workload: Workload, path: Path) -> None:
    """The Services and slices as a multi-document YAML file, laid out as people write them."""
    import yaml

    with path.open("w", encoding="utf-8") as file:
        for number in range(workload.services):
            documents = [workload.service(number), workload.piece(number)]
            yaml.dump_all(documents, file, Dumper=yaml.CSafeDumper, explicit_start=True, sort_keys=False)


def write_json(workload: Workload, path: Path) -> None:
    """The same as one List in JSON, as `kubectl get -o json` writes it."""
    numbers = range(workload.services)
    items = [each for number in numbers for each in (workload.service(number), workload.piece(number))]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}), encoding="utf-8")
