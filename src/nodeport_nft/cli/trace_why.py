"""Why a traced connection finds no endpoint: from the tables, which know of chains, back to the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from nodeport_nft.compile import comment
from nodeport_nft.model import Family, Pod, Service, ServicePort, Snapshot
from nodeport_nft.resolve.absence import Around, Cause, Document, why_none
from nodeport_nft.ruleset import Goto
from nodeport_nft.trace import Fate

if TYPE_CHECKING:
    from nodeport_nft.trace import Trace

_STOPPING = ("refuse", "no-local-endpoint")
"""The chains that the compiler leads a frontend to that has no endpoint."""


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
