"""nodePorts that a node does not serve, since the Service has them on others alone (X6)."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport_nft.model import Requirement, Snapshot
from nodeport_nft.resolve.absence.cause import Cause, label, listed
from nodeport_nft.resolve.index import Index
from nodeport_nft.resolve.join import families
from nodeport_nft.resolve.resolver import Resolver, is_proxied


def left_out(snapshot: Snapshot, node: str, protocol: str, number: int, version: int) -> Iterator[Cause]:
    """Which Services have a nodePort of this protocol (as nft writes it) and number, and leave ``node`` out."""
    resolver: Resolver | None = None
    for service in snapshot.services:
        ports = ((port.protocol.lower(), port.node_port) for port in service.ports)
        if not service.node_port_nodes or (protocol, number) not in ports:
            continue
        if not is_proxied(service) or version not in families(service):
            continue
        resolver = resolver or Resolver(Index.of(snapshot), node)
        if not resolver.serves_node_ports(service):
            selector = listed([_written(requirement) for requirement in service.node_port_nodes])
            yield Cause(
                "NodePortNotHere",
                f"nodePorts of {service.key} are not served on this node: its labels do not match {selector}",
                "connect to a node that matches, or correct nodeport-nft/node-port-nodes or the node's labels",
            )


def _written(requirement: Requirement) -> str:
    """One condition of a label selector, as kubectl's ``-l`` takes it."""
    key, values = requirement.key, requirement.values
    match requirement.operator:
        case "Exists":
            return label(key)
        case "DoesNotExist":
            return f"!{label(key)}"
        case "In":
            return label(key, values[0]) if len(values) == 1 else f"{label(key)} in ({listed(values)})"
        case _:
            return f"{label(key)}!={values[0]}" if len(values) == 1 else f"{label(key)} notin ({listed(values)})"
