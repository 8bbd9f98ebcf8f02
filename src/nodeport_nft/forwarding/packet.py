"""The first packet of a translated connection, as far as it is known beforehand."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from nodeport_nft.model import Family


class Endpoint(NamedTuple):
    """Where connections are translated to, and what they were meant for.

    Addresses are canonical texts, ``protocol`` is in lower case. ``asked`` is "" behind a nodePort, and also where it
    may be several, as is ``asked_port`` 0 then.
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

    ``iif`` is None where it is not known by which device it comes; ``oif`` is "" for what this host receives itself.
    ``asked`` is the destination before the translation, None where that may be one or another.
    """

    family: Family
    iif: str | None
    oif: str
    protocol: str
    daddr: int
    dport: int
    asked: int | None
    asked_port: int | None

    @classmethod
    def to(cls, endpoint: Endpoint, *, iif: str | None, oif: str) -> Packet:
        """The packet that reaches this endpoint."""
        return cls(
            endpoint.family,
            iif,
            oif,
            endpoint.protocol,
            int(ip_address(endpoint.address)),
            endpoint.port,
            int(ip_address(endpoint.asked)) if endpoint.asked else None,
            endpoint.asked_port or None,
        )
