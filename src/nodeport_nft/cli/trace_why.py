"""Why a traced connection finds no endpoint, or nobody: from tables, which know of chains, back to the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec.structs import replace

from nodeport_nft.compile import comment
from nodeport_nft.model import Family, NodeFacts, NodePortMode, Pod, Service, ServicePort, Snapshot
from nodeport_nft.reach import at_cluster_ip, at_node, elsewhere
from nodeport_nft.resolve.absence import Around, Cause, Document, left_out, why_none
from nodeport_nft.ruleset import Goto
from nodeport_nft.trace import Fate

if TYPE_CHECKING:
    from nodeport_nft.cli.trace_ends import Known
    from nodeport_nft.config import Config
    from nodeport_nft.trace import Trace

_STOPPING = ("refuse", "no-local-endpoint")
"""The chains that the compiler leads a frontend to that has no endpoint."""


_NO_ENDPOINT_SETS = ("cluster-ips", "service-cidrs")
"""The sets of clusterIPs: who is found in one of them after all frontends have asked for a port that none has."""


def why(config: Config, walked: Trace, known: Known, facts: NodeFacts, *, is_live: bool) -> tuple[Cause, ...]:
    """Why the packet finds no endpoint, or nobody at all; empty where it does, and where no objects are known."""
    family, node = Family(ip_address(walked.packet.destination).version), facts.name
    owners = stopped(walked)
    snapshot = known.snapshot if owners or _finds_nobody(walked) else None
    if snapshot is None:
        return ()
    if not owners:
        return tuple(_nobody(walked, snapshot, facts, known))
    pods = known.pods if known.is_of_store else None
    found = causes(owners, family, snapshot, known.documents, node, pods)
    if found or not is_live:
        return found
    text = f"the objects in {config.store} do not say why: the kernel has other tables than they would give"
    return (Cause("TablesDiffer", text, "see what differs with nodeport-nft diff, and write it with sync"),)


def _finds_nobody(walked: Trace) -> bool:
    """Whether no frontend is asked for: no rule is for the packet, or only the one for all other clusterIPs."""
    return all(
        outcome.fate is Fate.UNTOUCHED
        or (
            outcome.fate in (Fate.REFUSED, Fate.DROPPED)
            and any(each.map in _NO_ENDPOINT_SETS for place in outcome.path for each in place.hits)
        )
        for outcome in walked.outcomes
    )


def _nobody(walked: Trace, snapshot: Snapshot, facts: NodeFacts, known: Known) -> Iterable[Cause]:
    """Why nobody is there: at the node, in the clusterIPs, or anywhere else."""
    packet = walked.packet
    address = ip_address(packet.destination)
    outcome = walked.outcomes[0]
    if outcome.fate is not Fate.UNTOUCHED:
        yield from at_cluster_ip(snapshot, packet.protocol, address, packet.port)
    elif not outcome.here:
        yield from elsewhere(snapshot, address, known.pods() or ())
    elif not address.is_loopback and (
        found := tuple(left_out(snapshot, facts.name, packet.protocol, packet.port, address.version))
    ):
        yield from found
    else:
        served = None if facts.node_port_mode is NodePortMode.ALL else facts.node_port_ips
        yield from at_node(snapshot, packet.protocol, address, packet.port, served)


def stopped(walked: Trace) -> tuple[str, ...]:
    """Whose frontends a packet was stopped at for want of an endpoint, by the comments of their elements."""
    found: dict[str, None] = {}
    for outcome in walked.outcomes:
        if outcome.fate not in (Fate.REFUSED, Fate.DROPPED):
            continue
        for place in outcome.path:
            for each in place.hits:
                if isinstance(each.element.value, Goto) and each.element.value.chain in _STOPPING:
                    found[each.element.comment] = None
    return tuple(filter(None, found))


def causes(
    owners: Iterable[str],
    family: Family,
    snapshot: Snapshot,
    documents: Callable[[str, str], Iterable[Document]],
    node: str,
    pods: Callable[[], Iterable[Pod] | None] | None = None,
) -> tuple[Cause, ...]:
    """Why the ports that these comments stand for have no endpoint on ``node`` in this family.

    Empty where the objects are not those of the tables: their Services are unknown, or have endpoints.
    """
    wanted = frozenset(owners)
    ports = [
        (service, port)
        for service in snapshot.services
        for port in service.ports
        if comment(service.key, port.name) in wanted
    ]
    if not ports:
        return ()
    around = Around(snapshot, documents, pods=pods)
    return tuple(
        dict.fromkeys(cause for service, port in ports for cause in _of(service, port, family, around, node))
    )


def _of(service: Service, port: ServicePort, family: Family, around: Around, node: str) -> tuple[Cause, ...]:
    """Of this port and family alone, unless it is the number of the others that leaves nothing for this one."""
    alone = replace(service, ports=(port,), ip_families=(family,))
    return why_none(alone, around, node) or why_none(service, around, node)
