"""Why a connection finds nobody at the address and port that it goes to: what is near, and what to try instead.

The causes are told likeliest first. Of what a packet *does* find, and of endpoints that are missing there, the rules
and ``resolve.absence`` tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from nodeport_nft.model import IPAddress, Pod, Service, ServicePort, Snapshot
from nodeport_nft.notation import socket_address
from nodeport_nft.resolve.absence import Cause
from nodeport_nft.resolve.resolver import is_proxied

_NAMED = 3  # ports that a sentence names


def at_node(
    snapshot: Snapshot, protocol: str, address: IPAddress, port: int, served: Collection[IPAddress] | None
) -> Iterator[Cause]:
    """Why nothing is served at this port of an address of the node.

    ``protocol``: nft's word. ``served``: the addresses on which the node serves nodePorts; None: on all but loopback.
    """
    node_ports = [pair for pair in _ports(snapshot) if pair[1].node_port]
    same = [pair for pair in node_ports if pair[1].node_port == port]
    holders = [service for service, each in same if each.protocol.lower() == protocol]
    if holders:
        known = [*(served or ()), *(ip for node in snapshot.nodes for ip in node.internal_ips)]
        where = [ip for ip in dict.fromkeys(known) if ip.version == address.version][: len(served or ()) or _NAMED]
        places = " or ".join(socket_address(ip, port) for ip in where) or "another address of the node"
        named = f"({port} is {holders[0].key}'s)"
        if address.is_loopback:
            yield Cause("NotOnLoopback", f"nodePorts are not served on loopback {named}", f"try {places}")
        elif served is not None and address not in served:
            on = ", ".join(map(str, served)) or "no address"
            text = f"this node serves nodePorts on {on}, and not on {address} {named}"
            yield Cause("NotOnThisAddress", text, f"try {places}, or see --nodeport-addresses")
        else:
            text = f"the table has no nodePort {port}, which {holders[0].key} asks for"
            yield Cause("NotProgrammed", text, "see what differs with nodeport-nft diff")
        return
    absent = f"no Service has nodePort {port} here"
    if same:
        service, each = same[0]
        text = f"{absent} for {protocol.upper()}: {service.key} has it for {each.protocol}"
        yield Cause("OtherProtocol", text, f"try --protocol {each.protocol.lower()}")
    elif own := [pair for pair in node_ports if pair[1].port == port]:
        text = f"{absent}: {port} is a port for clusterIPs"
        found = ", ".join(f"{each.node_port} ({service.key})" for service, each in own[:_NAMED])
        yield Cause("PortOfService", text, f"its nodePort is {found}")
    else:
        near = _near(port, node_ports)
        remedy = f"did you mean {near}?" if near else _LOOK
        yield Cause("NoSuchNodePort", absent, remedy)


def at_cluster_ip(snapshot: Snapshot, protocol: str, address: IPAddress, port: int) -> Iterator[Cause]:
    """Why a clusterIP refuses a port, or stands for no Service."""
    for service in snapshot.services:
        if address not in service.cluster_ips:
            continue
        has = ", ".join(f"{each.name + ' ' * bool(each.name)}{each.port}/{each.protocol}" for each in service.ports)
        by_node_port = next((each for each in service.ports if each.node_port == port), None)
        remedy = f"it has {has or 'none'}"
        if by_node_port:
            remedy += f"; {port} is its nodePort, which is for the addresses of nodes"
        yield Cause("NoSuchPort", f"Service {service.key} has no port {port}/{protocol.upper()}", remedy)
        return
    yield Cause("NoSuchClusterIP", f"no Service has the clusterIP {address}", _LOOK)


def elsewhere(snapshot: Snapshot, address: IPAddress, pods: Iterable[Pod]) -> Iterator[Cause]:
    """What an address is that no rule is for and that is not the node's own. ``pods``: all there are."""
    for node in snapshot.nodes:
        if address in node.internal_ips:
            text = f"{address} is an address of node {node.name}, whose own tables decide"
            yield Cause("OtherNode", text, f"try --node-name {node.name}", expected=True)
            return
    for pod in pods:
        if address in pod.ips:
            text = f"{address} is Pod {pod.namespace}/{pod.name} itself, and no Service is in between"
            yield Cause(
                "PodItself", text, "nothing is translated, so nothing of ours can be in the way", expected=True
            )
            return
    for piece in snapshot.slices:
        if any(endpoint.address == address for endpoint in piece.endpoints):
            text = f"{address} is an endpoint of Service {piece.namespace}/{piece.service} itself"
            yield Cause(
                "EndpointItself", text, "nothing is translated, so nothing of ours can be in the way", expected=True
            )
            return
    for service in snapshot.services:
        if address in (*service.external_ips, *service.load_balancer_ips):
            has = ", ".join(f"{each.port}/{each.protocol}" for each in service.ports)
            text = f"Service {service.key} has the address {address}, and not this port, or may not have it"
            yield Cause("NoSuchPort", text, f"its ports are {has}; nodeport-nft status tells which addresses it gets")
            return
    yield Cause("NoSuchAddress", f"no Service has the address {address}", _LOOK)


_LOOK = "see them with nodeport-nft get services -A"


def _ports(snapshot: Snapshot) -> Iterator[tuple[Service, ServicePort]]:
    return ((service, port) for service in snapshot.services if is_proxied(service) for port in service.ports)


def _near(port: int, known: Collection[tuple[Service, ServicePort]]) -> str:
    """The nodePorts that ``port`` may be a slip of, nearest first; where there are few, all of them."""
    slips = [pair for pair in known if _is_slip(str(port), str(pair[1].node_port))]
    if not slips and len(known) <= _NAMED:
        slips = list(known)
    slips.sort(key=lambda pair: (abs(pair[1].node_port - port), pair[1].node_port))
    return ", ".join(f"{each.node_port} ({service.key})" for service, each in slips[:_NAMED])


def _is_slip(one: str, other: str) -> bool:
    """Whether one digit differs, is missing or too many, or two neighbours have changed places."""
    if len(one) == len(other):
        places = [index for index, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        if len(places) == 2 and places[1] == places[0] + 1:
            return one[places[0]] == other[places[1]] and one[places[1]] == other[places[0]]
        return len(places) <= 1
    short, long = sorted((one, other), key=len)
    return len(long) == len(short) + 1 and any(
        long[:index] + long[index + 1 :] == short for index in range(len(long))
    )
