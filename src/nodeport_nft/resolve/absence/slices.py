"""EndpointSlices and Endpoints of a Service, and why none of their endpoints serves a port.

The sieve of ``pods`` once more: the port's name, its protocol, an endpoint at all, its family, its conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nodeport_nft.model import Endpoint, EndpointPort, EndpointSlice, Family, ServicePort
from nodeport_nft.resolve.absence.cause import Cause, has_or_have, is_or_are, listed, named, quoted

Pieces = Sequence[EndpointSlice]


def unusable(
    port: ServicePort, family: Family, pieces: Pieces, called: Sequence[tuple[EndpointSlice, EndpointPort]]
) -> Iterable[Cause]:
    """Why no endpoint of these slices (one at least) serves this port in this family; at least one cause.

    ``called`` are their ports of the right name.
    """
    if not called:
        yield _without_port(port, pieces)
        return
    fitting = [piece for piece, held in called if held.protocol is port.protocol]
    if not fitting:
        piece, held = called[0]
        text = f"{noun([piece])} has the port {quoted(port.name)} as {held.protocol}"
        yield Cause("OtherProtocol", f"{text}, and the Service wants {port.protocol}", "give both the same protocol")
        return
    members = [(piece, endpoint) for piece in fitting for endpoint in piece.endpoints]
    own = [(piece, endpoint) for piece, endpoint in members if endpoint.address.version == family]
    if not members:
        text = f"{noun(fitting)} {has_or_have(fitting)} no endpoints"
        yield Cause("NoAddresses", text, "write the endpoints' addresses there")
    elif not own:
        text = f"{noun(fitting)} {has_or_have(fitting)} no IPv{family.value} address, but {members[0][1].address}"
        remedy = f"write a slice for IPv{family.value}, or leave it out of spec.ipFamilies"
        yield Cause("NoAddressOfFamily", text, remedy)
    else:
        yield _not_serving(own)


def _without_port(port: ServicePort, pieces: Pieces) -> Cause:
    """No slice has a port of this name."""
    piece = next((piece for piece in pieces if piece.ports), None)
    if piece is None:
        text = f"{noun(pieces)} {has_or_have(pieces)} no port with a number"
        return Cause("NoPortOfName", text, "list the port there, under the name that it has in the Service")
    names = [quoted(held.name) for held in piece.ports]
    if any(held.name for held in piece.ports):
        told = f"{noun([piece])} names its port{'s' * (len(names) > 1)} {listed(names)}"
    else:
        told = f"{noun([piece])} has a port without a name"
    wanted = f"named {quoted(port.name)}" if port.name else "without a name"
    return Cause("NoPortOfName", f"{told}, and the Service's is {wanted}", "give both the same name")


def _not_serving(members: Sequence[tuple[EndpointSlice, Endpoint]]) -> Cause:
    """Endpoints of the right port and family, none of which is used."""
    pieces = list({piece.name: piece for piece, _ in members}.values())
    unready = [endpoint for _, endpoint in members if not endpoint.ready]
    addresses = [str(endpoint.address) for _, endpoint in members]
    whose = f"{named('endpoint', addresses)} of {noun(pieces)}"
    if not unready:
        remedy = "raise it in nodeport-nft/weight, or in nodeport-nft/weights of the Service"
        return Cause("WeightZero", f"{whose} {has_or_have(addresses)} weight 0", remedy)
    waiting = [str(endpoint.address) for endpoint in unready if not endpoint.terminating]
    if not waiting:
        return Cause("EndpointsTerminating", f"{whose} {is_or_are(addresses)} terminating", "start others")
    whose = f"{named('endpoint', waiting)} of {noun(pieces)}"
    where = "they stand under notReadyAddresses" if pieces[0].mirrored else "conditions.ready is false"
    remedy = "look at what they wait for, or correct that if it is written by hand"
    return Cause("EndpointsNotReady", f"{whose} {is_or_are(waiting)} not ready: {where}", remedy)


def noun(pieces: Pieces) -> str:
    """``slice web-abc``, ``slices web-abc and web-def``, ``Endpoints web``."""
    if all(piece.mirrored for piece in pieces):
        return f"Endpoints {pieces[0].service}"
    return named("slice", sorted({piece.name for piece in pieces}))
