"""A traffic policy Local, and no endpoint on this node (P2, P3), which is what the Service asks for, mostly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from nodeport_nft.model import Service, ServicePort
from nodeport_nft.resolve.absence.around import Around
from nodeport_nft.resolve.absence.cause import Cause, has_or_have, is_or_are, named
from nodeport_nft.resolve.frontend import Backend
from nodeport_nft.resolve.join import Join

_MOST = 3


def not_here(
    service: Service, by_port: Iterable[tuple[ServicePort, tuple[Backend, ...]]], node: str, around: Around
) -> Iterator[Cause]:
    """Why a Service with endpoints has none on ``node``, where one of its policies is Local."""
    policies = [
        f"{which}TrafficPolicy"
        for which, policy, is_offered in (
            ("external", service.external_traffic_policy, _is_offered_outside(service)),
            ("internal", service.internal_traffic_policy, bool(service.cluster_ips)),
        )
        if policy == "Local" and is_offered
    ]
    if not policies:
        return
    join = Join(around.index, service)
    nodes: dict[tuple[str, int], str] = {}
    failed: dict[str, None] = {}
    for port, backends in by_port:
        usable = {(str(backend.address), backend.port) for backend in backends}
        for candidate in join.candidates(port) or ():
            place = str(candidate.address), candidate.port
            if place in usable:
                nodes[place] = candidate.node_name
            elif candidate.node_name == node and join.has_failed(candidate):
                failed[str(candidate.address)] = None
    counts = Counter(nodes.values())
    if not counts or node in counts:
        return
    what = f"{' and '.join(policies)} {is_or_are(policies)} Local, and of {_endpoints(len(nodes))} none is on {node}"
    if failed:
        has_failed = f"{named('endpoint', list(failed))} {has_or_have(list(failed))} failed"
        text = f"{what}: {has_failed}, as the node is lost or the readiness probe fails"
        yield Cause("LocalEndpointsFailed", text, "mend them, or what cuts the probing node off from them")
        return
    unknown, others = counts.pop("", 0), sorted(counts)
    if unknown:
        verb = "names" if unknown == 1 else "name"
        text = f"{what}: {unknown:,} {verb} no node"
        yield Cause("NoLocalEndpoint", text, "write nodeName to the endpoints (spec.nodeName to Pods)")
    elif slip := next((other for other in others if _is_slip(node, other, around)), None):
        text = f"{what}; they name {slip}"
        yield Cause("NoLocalEndpoint", text, "use the node's own name there, or give --node-name")
    else:
        shown = ", ".join(f"{counts[other]:,} on {other}" for other in others[:_MOST])
        more = f", {len(others) - _MOST:,} nodes more" if len(others) > _MOST else ""
        text = f"{what} ({shown}{more})"
        remedy = "connect to a node that has one, or choose the policy Cluster or PreferLocal"
        yield Cause("NoLocalEndpoint", text, remedy, expected=True)


def _is_offered_outside(service: Service) -> bool:
    has_node_port = any(port.node_port for port in service.ports)
    return has_node_port or bool(service.external_ips or service.load_balancer_ips)


def _endpoints(count: int) -> str:
    return f"{count:,} endpoint{'s' * (count != 1)}"


def _is_slip(node: str, other: str, around: Around) -> bool:
    """Whether a name was meant for this node: of another domain or case alone, or like it and no Node's."""
    if node.casefold().partition(".")[0] == other.casefold().partition(".")[0]:
        return True
    nodes = around.index.nodes
    # The next node of a row differs in its number, and may just have no object.
    is_in_row = _digits(node) != _digits(other)
    return bool(nodes) and other not in nodes and not is_in_row and around.is_like(node, other)


def _digits(name: str) -> str:
    return "".join(filter(str.isdecimal, name))
