"""The first packet of a translated connection, as far as it is known beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from nodeport_nft.model import Family


@lru_cache(maxsize=32768)
def _number(address: str) -> int | None:
    """An address as a number; None for none."""
    return int(ip_address(address)) if address else None


class Endpoint(NamedTuple):
    """Where connections are translated to, and what they were meant for.

    Addresses are canonical texts, ``protocol`` is in lower case. ``asked`` is "" behind a nodePort, and also where it
    may be several, as is ``asked_port`` 0 then. ``address`` "", ``port`` 0: any; there is none yet.
    """

    family: Family
    protocol: str
    address: str
    port: int
    asked: str
    asked_port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.family is Family.IPV6 else f"{self.address}:{self.port}"


class Packet(NamedTuple):
    """A packet behind its translation, before its connection has had an answer.

    None stands for what is not known, or may be one or another. ``oif`` is "" where no device is left by (yet).
    ``local``: this host receives it itself. ``asked`` are the addresses that may have been its destination before the
    translation. Its source is in none of the ranges ``inside``; none: nothing is known of it. ``hook`` is where it is
    looked at.
    """

    family: Family
    iif: str | None
    oif: str | None
    protocol: str
    daddr: int | None
    dport: int | None
    asked: tuple[int, ...]
    asked_port: int | None
    local: bool = False
    inside: tuple[tuple[int, int], ...] = ()
    hook: str = "forward"

    @classmethod
    def to(
        cls,
        endpoint: Endpoint,
        *,
        iif: str | None,
        oif: str | None,
        nodes: Iterable[str] = (),
        inside: tuple[tuple[int, int], ...] = (),
    ) -> Packet:
        """The packet that reaches this endpoint. ``nodes`` are the addresses whose nodePorts lead there."""
        # Without a port either, other frontends may lead there as well.
        asked = (endpoint.asked,) if endpoint.asked else tuple(nodes) if endpoint.asked_port else ()
        return cls(
            endpoint.family,
            iif,
            oif,
            endpoint.protocol,
            _number(endpoint.address),
            endpoint.port or None,
            tuple(number for number in map(_number, asked) if number is not None),
            endpoint.asked_port or None,
            local=oif == "",
            inside=inside,
        )

    def at(self, hook: str) -> Packet:
        """The same as the chains of this hook see it."""
        match hook:
            case "prerouting":
                return self._replace(hook=hook, oif="")  # it is not routed yet
            case "postrouting":
                return self._replace(hook=hook, iif=None)  # older kernels do not say
        return self._replace(hook=hook)
