"""What it does to the Services when something is drained, or is no longer."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from nodeport_nft.model import IPAddress, ObjectName, Service
from nodeport_nft.resolve.candidate import Candidate
from nodeport_nft.resolve.index import Index
from nodeport_nft.resolve.join import Join
from nodeport_nft.resolve.resolver import Resolver, is_proxied


class Effect(Struct, frozen=True):
    """What becomes of one Service: which of its addresses get no new connections any more, and which again.

    ``last``: those of them that get new ones all the same, since the Service has no others, on some port.
    """

    service: ObjectName
    drained: tuple[IPAddress, ...] = ()
    last: tuple[IPAddress, ...] = ()
    back: tuple[IPAddress, ...] = ()


def effects(before: Index, after: Index, touched: Iterable[ObjectName]) -> tuple[Effect, ...]:
    """What becomes of the Services that are touched, sorted; of those alone of which something becomes."""
    found = []
    for key in sorted(touched):
        service = after.services.get(key)
        if service is None or not is_proxied(service):
            continue
        old, new = _candidates(before, service), _candidates(after, service)
        drained = [c for place, c in new.items() if c.terminating and _could_serve(old.get(place))]
        back = [c for place, c in new.items() if c.ready and place in old and old[place].terminating]
        used = {
            (backend.address.packed, backend.port)
            for _, backends in Resolver(after, "").endpoints_by_port(service)
            for backend in backends
        }
        last = [c for c in drained if (c.address.packed, c.port) in used]
        if drained or back:
            found.append(Effect(key, *(_addresses(each) for each in (drained, last, back))))
    return tuple(found)


def _could_serve(candidate: Candidate | None) -> bool:
    return candidate is not None and candidate.ready and not candidate.terminating


def _candidates(index: Index, service: Service) -> dict[tuple[str, bytes, int], Candidate]:
    join = Join(index, service)
    return {(port.name, c.address.packed, c.port): c for port in service.ports for c in join.candidates(port) or ()}


def _addresses(candidates: Iterable[Candidate]) -> tuple[IPAddress, ...]:
    found = {c.address.packed: c.address for c in candidates}
    return tuple(sorted(found.values(), key=lambda ip: (ip.version, int(ip))))
