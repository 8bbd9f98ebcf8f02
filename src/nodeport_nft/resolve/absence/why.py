"""Which ports of a Service are without an endpoint, in which family, and the causes of it put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from nodeport_nft.model import EndpointPort, EndpointSlice, Family, Pod, Service, ServicePort
from nodeport_nft.problems import clipped
from nodeport_nft.resolve.absence import pods, slices
from nodeport_nft.resolve.absence.around import Around
from nodeport_nft.resolve.absence.cause import Cause, is_or_are, listed, named
from nodeport_nft.resolve.absence.local import not_here
from nodeport_nft.resolve.absence.near import unmatched, without_slice
from nodeport_nft.resolve.absence.strays import strays
from nodeport_nft.resolve.bounds import MAX_WEIGHED
from nodeport_nft.resolve.join import Join, families
from nodeport_nft.resolve.resolver import Resolver, is_proxied

_Gap = tuple[ServicePort, Family]

_MOST_KINDS = 10
"""Kinds of ports of one Service that are looked into."""


def why_none(service: Service, around: Around, node: str = "") -> tuple[Cause, ...]:
    """Why ports of this Service have no usable endpoint, or none on ``node`` where a policy asks for one there.

    Or why it uses what has failed. Empty where all is well, and for Services that need none (F8). ``node`` "": no
    node is asked about.
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
    causes = _of_gaps(service, gaps, around) if gaps else []
    if node:
        causes += not_here(service, by_port, node, around)
    if not causes:
        causes += _last_good(service, around)
    return tuple(causes)


def _last_good(service: Service, around: Around) -> list[Cause]:
    """What is used though it has failed: what is sent there may be lost."""
    join = Join(around.index, service)
    for port in service.ports:
        join.candidates(port)
    last = join.last_good
    return [Cause("EndpointsFailed", last.text, last.remedy)] if last else []


def _of_gaps(service: Service, gaps: list[_Gap], around: Around) -> list[Cause]:
    """Why these ports have no endpoint in these families, each cause once."""
    question = _Question(service, around)
    found: dict[Cause, list[_Gap]] = {}
    for gap in gaps:
        for cause in question.causes(*gap):
            found.setdefault(cause, []).append(gap)
    causes = [replace(cause, where=_where(service, where)) for cause, where in found.items()]
    if question.left:
        verb = "is" if question.left == 1 else "are"
        causes.append(
            Cause("MorePorts", f"{question.left:,} more {verb} without an endpoint", "mend these ports first")
        )
    return causes


@dataclass(slots=True)
class _Question:
    """One Service's ports are asked about. Those of a kind share their causes, which are found once.

    ``left``: how often nothing was found out, since there were too many kinds.
    """

    service: Service
    around: Around
    left: int = 0
    _own: list[EndpointSlice] = field(init=False)
    _mirrored: list[EndpointSlice] = field(init=False)
    _selected: list[Pod] = field(init=False)
    _ports: dict[str, list[tuple[EndpointSlice, EndpointPort]]] = field(init=False)
    _known: dict[object, tuple[Cause, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        # As ``Join`` looks for them.
        pieces = [piece for piece in self.around.index.slices(self.service) if not piece.headless]
        self._mirrored = [piece for piece in pieces if piece.mirrored]
        self._own = [piece for piece in pieces if not piece.mirrored] or pieces
        self._selected = self.around.index.selected(self.service) if self.service.selector else []
        self._ports = {}
        for piece in self._own:
            for port in piece.ports:
                self._ports.setdefault(port.name, []).append((piece, port))

    def causes(self, port: ServicePort, family: Family) -> tuple[Cause, ...]:
        """Why one port has no endpoint in one family."""
        kind: object = None
        if self._own:
            kind = port.name, port.protocol, family
        elif self._selected:
            kind = (port.target_port, port.protocol, family) if isinstance(port.target_port, str) else family
        if kind not in self._known:
            if len(self._known) >= _MOST_KINDS:
                self.left += 1
                return ()
            self._known[kind] = tuple(self._found(port, family))
        return self._known[kind]

    def _found(self, port: ServicePort, family: Family) -> Iterator[Cause]:
        service, around = self.service, self.around
        if self._weighed() > MAX_WEIGHED:
            text = f"more than {MAX_WEIGHED:,} endpoints would have to be looked at for all ports together"
            yield Cause("TooManyEndpoints", text, "split the Service")
        if self._own:
            yield from slices.unusable(port, family, self._own, self._ports.get(port.name, ()))
            yield from self._shadowed(family)
        elif self._selected:
            yield from pods.unusable(service, port, family, self._selected, around)
            yield from strays(service, around)
        elif service.selector:
            yield from without_slice(service, around) or unmatched(service, around)
            yield from strays(service, around)
        else:
            yield from strays(service, around)
            text = f"no selector, and no EndpointSlice or Endpoints named {service.name}"
            yield Cause("NoEndpoints", text, "write one, or a selector")

    def _weighed(self) -> int:
        """How many endpoints ``Join`` looks at for all ports together."""
        if not self._own:
            return len(self.service.ports) * len(self._selected)
        named = ((port, *held) for port in self.service.ports for held in self._ports.get(port.name, ()))
        return sum(len(piece.endpoints) for port, piece, its in named if its.protocol is port.protocol)

    def _shadowed(self, family: Family) -> Iterator[Cause]:
        """Slices without a usable endpoint, which go before what has some (E7)."""
        there = f"{slices.noun(self._own)} {is_or_are(self._own)} there"
        if not self._own[0].mirrored and any(e.ready for piece in self._mirrored for e in piece.endpoints):
            text = f"{there}, so Endpoints {self.service.name} is not looked at"
            yield Cause("EndpointsNotUsed", text, "delete one or the other")
        serving = sorted(
            pod.name
            for pod in self._selected
            if pod.ready and not pod.finished and any(ip.version == family for ip in pod.ips)
        )
        if serving:
            text = f"{there}, so the selector is not followed, which matches {named('pod', serving)}"
            yield Cause("SelectorNotUsed", text, "delete what is out of date, or keep it up to date")


def _where(service: Service, where: list[_Gap]) -> str:
    """Of which ports and families something is true; "" where it is true of the whole Service."""
    ports = list(dict.fromkeys(port for port, _ in where))
    versions = {family for _, family in where}
    told = ""
    if len(ports) < len(service.ports):
        told = named("port", [clipped(port.name) or f"{port.port}/{port.protocol}" for port in ports])
    if len(versions) < len(families(service)):
        told = f"{told} ".lstrip() + f"over {listed([f'IPv{family.value}' for family in sorted(versions)])}"
    return told
