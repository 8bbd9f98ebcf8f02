"""The services that are measured: each with a clusterIP, a nodePort and three endpoints on three nodes.

A nodePort on every service is twice the work of clusterIPs alone; 10,000 of them need a wider range than the
default, so ports are counted from 20,000.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

from nodeport_nft.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    IPAddress,
    NodeFacts,
    PortRange,
    Protocol,
    Ranges,
    Service,
    ServicePort,
    ServiceType,
    Snapshot,
)

ENDPOINTS = 3
RANGES = Ranges(node_ports=PortRange(20000, 60000))
FACTS = NodeFacts(
    "node-0",
    node_port_ips=(ip_address("172.30.1.2"),),
    pod_cidrs=(ip_network("10.0.0.0/8"),),
    service_cidrs=RANGES.service_cidrs,
)
_FIRST_CLUSTER_IP, _FIRST_POD = ip_address("10.96.1.0"), ip_address("10.0.0.1")


def make_snapshot(count: int) -> Snapshot:
    """``count`` services with a slice each."""
    services = tuple(make_service(number) for number in range(count))
    return Snapshot(services, tuple(make_slice(number, ENDPOINTS) for number in range(count)))


def make_service(number: int) -> Service:
    port = ServicePort("http", Protocol.TCP, 80, 8080, RANGES.node_ports.first + number)
    return Service(
        "default",
        f"service-{number}",
        type=ServiceType.NODE_PORT,
        ports=(port,),
        cluster_ips=(_FIRST_CLUSTER_IP + number,),
        ip_families=(Family.IPV4,),
        created="2026-01-01T00:00:00Z",
    )


def make_slice(number: int, endpoints: int) -> EndpointSlice:
    ports = (EndpointPort("http", Protocol.TCP, 8080),)
    backends = tuple(Endpoint(_pod(number, i), node_name=f"node-{i}") for i in range(endpoints))
    return EndpointSlice("default", f"service-{number}-x", f"service-{number}", ports, backends)


def _pod(number: int, index: int) -> IPAddress:
    return _FIRST_POD + (number * ENDPOINTS + index)


def write_manifests(count: int, path: Path) -> None:
    """The same as a multi-document YAML file."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            service, piece = make_service(number), make_slice(number, ENDPOINTS)
            file.write(f"---\n{_service_yaml(service)}---\n{_slice_yaml(piece)}")


def _service_yaml(service: Service) -> str:
    port = service.ports[0]
    return (
        f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {service.name}\nspec:\n  type: NodePort\n"
        f"  clusterIP: {service.cluster_ips[0]}\n  ports:\n  - name: {port.name}\n    port: {port.port}\n"
        f"    targetPort: {port.target_port}\n    nodePort: {port.node_port}\n"
    )


def _slice_yaml(piece: EndpointSlice) -> str:
    endpoints = "".join(f"- addresses: [{e.address}]\n  nodeName: {e.node_name}\n" for e in piece.endpoints)
    return (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n"
        f"  name: {piece.name}\n  labels: {{kubernetes.io/service-name: {piece.service}}}\n"
        f"addressType: IPv4\nports:\n- {{name: http, port: 8080}}\nendpoints:\n{endpoints}"
    )
