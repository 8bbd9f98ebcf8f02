"""Which ports of a Service are without an endpoint, in which family, and the causes of it put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nodeport_nft.manifest.problems import clipped
from nodeport_nft.model import EndpointSlice, Family, Pod, Service, ServicePort
from nodeport_nft.resolve.absence import pods, slices
from nodeport_nft.resolve.absence.around import Around
from nodeport_nft.resolve.absence.cause import Cause, is_or_are, listed, named
from nodeport_nft.resolve.absence.local import not_here
from nodeport_nft.resolve.absence.near import unmatched
from nodeport_nft.resolve.absence.strays import strays
from nodeport_nft.resolve.bounds import MAX_WEIGHED
from nodeport_nft.resolve.join import families
from nodeport_nft.resolve.resolver import Resolver, is_proxied

_Gap = tuple[ServicePort, Family]

_MOST_PORTS = 50
"""Of one Service that are looked at: what is wrong with more of them is wrong with these."""


def why_none(service: Service, around: Around, node: str = "") -> tuple[Cause, ...]:
    """Why ports of this Service have no usable endpoint, or none on ``node`` where a policy asks for one there.

    Empty where all of them have one, and for Services that need none (F8). ``node`` "": no node is asked about.
    """
    if not (is_proxied(service) and service.ports):
        return ()
    by_port = list(Resolver(around.index, node).endpoints_by_port(service))
    gaps = [
        (port, family)
        for port, backends in by_port
        for family in families(service)
        if not any(backend.address.version == family for backend in backends)
    ]
    found: dict[Cause, list[_Gap]] = {}
    seen: dict[object, tuple[Cause, ...]] = {}
    for gap in gaps[:_MOST_PORTS]:
        # Ports of one kind share their causes, and the sieves are gone through once.
        kind = gap[0].name, gap[0].protocol, gap[0].target_port, gap[1]
        if kind not in seen:
            seen[kind] = tuple(_causes(service, *gap, around))
        for cause in seen[kind]:
            found.setdefault(cause, []).append(gap)
    causes = [replace(cause, where=_where(service, where, gaps)) for cause, where in found.items()]
    if node:
        causes += not_here(service, by_port, node, around)
    return tuple(causes)


def _causes(service: Service, port: ServicePort, family: Family, around: Around) -> Iterator[Cause]:
    """Why one port has no endpoint in one family. It looks where ``Join`` does."""
    pieces = [piece for piece in around.index.slices(service) if not piece.headless]
    own = [piece for piece in pieces if not piece.mirrored] or pieces
    selected = around.index.selected(service) if service.selector else []
    if own:
        if _beyond_bounds(service, own, selected):
            yield _too_many()
        yield from slices.unusable(port, family, own)
        yield from _shadowed(service, family, own, pieces, selected)
    elif selected:
        if _beyond_bounds(service, own, selected):
            yield _too_many()
        yield from pods.unusable(service, port, family, selected, around)
        yield from strays(service, around)
    elif service.selector:
        yield from unmatched(service, around)
        yield from strays(service, around)
    else:
        yield from strays(service, around)
        text = f"no selector, and no EndpointSlice or Endpoints named {service.name}"
        yield Cause("NoEndpoints", text, "write one, or a selector")


def _beyond_bounds(service: Service, own: list[EndpointSlice], selected: list[Pod]) -> bool:
    count = sum(len(piece.endpoints) for piece in own) if own else len(selected)
    return len(service.ports) * count > MAX_WEIGHED


def _too_many() -> Cause:
    text = f"more than {MAX_WEIGHED:,} endpoints would have to be looked at for all ports together"
    return Cause("TooManyEndpoints", text, "split the Service")


def _shadowed(
    service: Service,
    family: Family,
    own: list[EndpointSlice],
    pieces: list[EndpointSlice],
    selected: list[Pod],
) -> Iterator[Cause]:
    """Slices without a usable endpoint, which go before what has some (E7)."""
    what = slices.noun(own)
    others = [piece for piece in pieces if piece not in own and any(e.ready for e in piece.endpoints)]
    if others and not own[0].mirrored:
        text = f"{what} {is_or_are(own)} there, so Endpoints {service.name} is not looked at"
        yield Cause("EndpointsNotUsed", text, "delete one or the other")
    serving = sorted(
        pod.name for pod in selected if pod.ready and not pod.finished and any(ip.version == family for ip in pod.ips)
    )
    if serving:
        text = (
            f"{what} {is_or_are(own)} there, so the selector is not followed, which matches {named('pod', serving)}"
        )
        remedy = "delete what is out of date, or keep it up to date"
        yield Cause("SelectorNotUsed", text, remedy)


def _where(service: Service, where: list[_Gap], gaps: list[_Gap]) -> str:
    """Of which ports and families something is true; "" where it is true of the whole Service."""
    ports = list(dict.fromkeys(port for port, _ in where))
    versions = {family for _, family in where}
    told = ""
    if len(ports) < len(service.ports) and len(gaps) <= _MOST_PORTS:
        told = named("port", [_port(port) for port in ports])
    if len(versions) < len(families(service)):
        told = f"{told} ".lstrip() + f"over {listed([f'IPv{family.value}' for family in sorted(versions)])}"
    return told


def _port(port: ServicePort) -> str:
    return clipped(port.name) or f"{port.port}/{port.protocol}"
