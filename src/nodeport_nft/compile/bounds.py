"""Which frontends of a Service are in the tables, where it has more endpoints behind them than there may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nodeport_nft.compile.schema import MAGLEV_SLOTS, MAX_ENDPOINTS
from nodeport_nft.model import Family, LoadBalancing, Service
from nodeport_nft.resolve import KEPT, MAX_SLOTS, MAX_STICKY, Backend, Frontend

_FEW = 10
"""Endpoints that are within all bounds, whatever their weights and whatever is made of them."""

_ORDER = {kind: place for place, kind in enumerate(KEPT)}


def within_bounds(service: Service, frontends: Iterable[Frontend]) -> tuple[Frontend, ...]:
    """The frontends that are kept, in their order: those that come first have first choice (``KEPT``), and one that
    has too many endpoints for the room that is left (``MAX_SLOTS``, ``MAX_STICKY``) makes way for those behind it.
    """
    frontends = tuple(frontends)
    if are_few(frontends):
        return frontends
    slots = dict.fromkeys(Family, MAX_SLOTS)
    sticky = dict.fromkeys(Family, MAX_STICKY)
    counted: dict[tuple[int, int], int] = {}  # a port's frontends have their endpoints in common
    has_chains: set[tuple[Family, str]] = set()
    kept: set[int] = set()
    for index in sorted(range(len(frontends)), key=lambda i: _ORDER[frontends[i].kind]):
        frontend = frontends[index]
        pools, family = (frontend.backends, frontend.local_backends or ()), frontend.family
        places = id(pools[0]), id(pools[1])
        if places not in counted:
            counted[places] = sum(_slots(service, pool) for pool in pools)
        chains = 0
        if service.session_affinity_seconds and (family, frontend.port_name) not in has_chains:
            chains = min(MAX_STICKY, max(map(len, pools)))
        if counted[places] <= slots[family] and chains <= sticky[family]:
            slots[family] -= counted[places]
            sticky[family] -= chains
            has_chains.add((family, frontend.port_name))
            kept.add(index)
    return tuple(frontend for index, frontend in enumerate(frontends) if index in kept)


def are_few(frontends: Iterable[Frontend]) -> bool:
    """Whether all these frontends together have so few endpoints that nothing bounds them."""
    count = 0
    for frontend in frontends:
        count += len(frontend.backends) + len(frontend.local_backends or ())
    return count <= _FEW


def most_endpoints(service: Service) -> int:
    """How many endpoints there may be behind one frontend of this Service, but for its weights."""
    if service.session_affinity_seconds:
        return MAX_STICKY
    return MAGLEV_SLOTS if service.load_balancing is LoadBalancing.MAGLEV else MAX_ENDPOINTS


def _slots(service: Service, backends: Sequence[Backend]) -> int:
    if service.load_balancing is LoadBalancing.MAGLEV and not service.session_affinity_seconds:
        return max(MAGLEV_SLOTS, len(backends)) if backends else 0
    return min(MAX_ENDPOINTS, sum(backend.weight for backend in backends))
