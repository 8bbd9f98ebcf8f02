"""What a Service holds whose document cannot be read: told by what is known of who holds what.

That is about numbers, and not about which port has which. What is left of the document may say it; else a number goes
to the port for which it would have been found first, as it was when nobody chose otherwise.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from nodeport_nft.allocate import PREFER_DUAL_STACK, Claims, FreePorts
from nodeport_nft.model import Family, IPAddress, PortRange, Service, ServicePort, ServiceType


def held_before(holding: Claims, wanted: Service, rest: dict[str, Any], range_: PortRange) -> Service | None:
    """The Service of ``wanted``'s name as it may have been, so that it keeps what it held; None if it held nothing.

    ``holding`` is what it holds, ``rest`` what is left of its document, ``range_`` where nodePorts are looked for.
    """
    numbers, ips = holding.node_ports, _addresses(holding, wanted)
    if not (numbers or ips):
        return None
    left = sorted(numbers - {port.node_port for port in wanted.ports} - {wanted.health_check_node_port})
    told = _told(rest)
    ports: list[ServicePort] = []
    for port in wanted.ports:
        number = port.node_port or told.get((str(port.protocol), port.port), 0)
        if number not in numbers:
            twin = next((other.node_port for other in ports if other.port == port.port), 0)
            number = twin or _first(f"{wanted.key}/{port.name}/{port.protocol}/{port.port}", left, range_)
        if number in left:
            left.remove(number)
        ports.append(replace(port, node_port=number))
    return replace(
        wanted,
        type=ServiceType.LOAD_BALANCER if numbers else ServiceType.CLUSTER_IP,
        ports=tuple(ports),
        cluster_ips=ips,
        headless=False,
        ip_families=tuple(Family(ip.version) for ip in ips),
        ip_family_policy=PREFER_DUAL_STACK if len(ips) > 1 else "",
        external_traffic_policy="Local" if left else "Cluster",
        health_check_node_port=_first(f"{wanted.key}/healthCheckNodePort", left, range_),
    )


def _addresses(holding: Claims, service: Service) -> tuple[IPAddress, ...]:
    """Its clusterIPs, the one first that the Service wants first."""
    families = (*service.ip_families, *(Family(ip.version) for ip in service.cluster_ips), *Family)
    return tuple(sorted(holding.cluster_ips, key=lambda ip: (families.index(Family(ip.version)), int(ip))))


def _told(rest: dict[str, Any]) -> dict[tuple[str, int], int]:
    """The nodePorts that a document gives, by protocol and port; whatever is of another shape gives none."""
    spec = rest.get("spec")
    ports = spec.get("ports") if isinstance(spec, dict) else None
    found: dict[tuple[str, int], int] = {}
    for port in ports if isinstance(ports, list) else ():
        match port:
            case {"protocol": str(protocol), "port": int(number), "nodePort": int(node_port)}:
                found[protocol, number] = node_port
    return found


def _first(key: str, left: list[int], range_: PortRange) -> int:
    """Of these numbers the one that would have been found first; 0 if there is none."""
    return FreePorts(range_, set(left).__contains__).find(key) or next(iter(left), 0)
