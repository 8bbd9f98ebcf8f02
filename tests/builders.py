"""Short ways to write down model values, for tests that are about what becomes of them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from nodeport_nft.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    Member,
    Node,
    NodeFacts,
    ProbeFailure,
    Protocol,
    Ref,
    Service,
    ServiceCIDR,
    ServicePort,
    ServiceType,
    Value,
)

FACTS = NodeFacts(
    "worker-1",
    node_port_ips=(ip_address("172.30.1.2"), ip_address("fd00:30:1::2")),
    pod_cidrs=(ip_network("10.244.0.0/16"), ip_network("fd00:244::/32")),
    service_cidrs=(ip_network("10.96.0.0/12"), ip_network("fd00:10:96::/112")),
)


def ref_of(value: Value) -> Ref:
    """What an object of this one value is filed under."""
    match value:
        case Node():
            return Ref("Node", "", value.name)
        case Member() | ProbeFailure() | ServiceCIDR():
            return value.ref
        case _:
            return Ref(type(value).__name__, value.namespace, value.name)


def make_port(
    number: int = 80, *, name: str = "", target: int | str = 8080, node_port: int = 0, protocol: str = "TCP"
) -> ServicePort:
    return ServicePort(name, Protocol(protocol), number, target, node_port)


def make_service(
    name: str = "web",
    *ports: ServicePort,
    ips: tuple[str, ...] = ("10.96.0.10",),
    selector: dict[str, str] | None = None,
    created: str = "",
    headless: bool = False,
    proxy_name: str | None = None,
    publish_not_ready: bool = False,
) -> Service:
    ports = ports or (make_port(),)
    addresses = tuple(ip_address(ip) for ip in ips)
    return Service(
        "default",
        name,
        type=ServiceType.NODE_PORT if any(p.node_port for p in ports) else ServiceType.CLUSTER_IP,
        ports=ports,
        cluster_ips=addresses,
        ip_families=tuple(Family(ip.version) for ip in addresses),
        selector=selector or {},
        created=created,
        headless=headless,
        proxy_name=proxy_name,
        publish_not_ready_addresses=publish_not_ready,
    )


def make_endpoint(
    address: str,
    *,
    ready: bool = True,
    serving: bool = True,
    terminating: bool = False,
    node: str = "worker-2",
) -> Endpoint:
    return Endpoint(ip_address(address), ready, serving, terminating, node)


def make_slice(
    *endpoints: Endpoint | str,
    service: str = "web",
    name: str = "web-1",
    port: int = 8080,
    port_name: str = "",
    protocol: str = "TCP",
    headless: bool = False,
    mirrored: bool = False,
) -> EndpointSlice:
    values = tuple(make_endpoint(e) if isinstance(e, str) else e for e in endpoints)
    ports = (EndpointPort(port_name, Protocol(protocol), port),)
    return EndpointSlice("default", name, service, ports, values, headless, mirrored)
