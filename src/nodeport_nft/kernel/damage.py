"""What others have done to single elements, in the ruleset's own terms; pure."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from nodeport_nft.kernel.events import Touched
from nodeport_nft.model import Family
from nodeport_nft.ruleset import Field, Key, Schema

_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_SCTP: "sctp"}


class Damage(NamedTuple):
    """An element that is there, or is not, by another's hand."""

    family: Family
    map: str
    key: Key
    present: bool


def read_damage(touched: Iterable[Touched], schemas: Mapping[Family, Schema]) -> tuple[Damage, ...] | None:
    """The same with readable keys; None where it is not only elements that can be repaired one by one.

    What somebody does to what packets have put in (a learned set) is no damage.
    """
    found = []
    for element in touched:
        schema = schemas[element.family]
        declared = next((m for m in schema.maps if m.name == element.map), None) or schema.own_map(element.map)
        if declared is not None and declared.learned:
            continue
        if declared is None or declared.interval or declared not in schema.maps:
            return None
        try:
            key = _key(element.family, declared.key, element.key)
        except (struct.error, ValueError):
            return None
        found.append(Damage(element.family, element.map, key, element.present))
    return tuple(found)


def _key(family: Family, fields: tuple[Field, ...], data: bytes) -> Key:
    """Each field fills whole registers of four bytes; a slot is in the host's byte order (it is no packet's)."""
    parts: list[str | int] = []
    at = 0
    for field in fields:
        size = (4 if family is Family.IPV4 else 16) if field in (Field.SADDR, Field.DADDR) else 4
        part = data[at : at + size]
        at += size
        match field:
            case Field.SADDR | Field.DADDR:
                parts.append(str(ip_address(part)))
            case Field.L4PROTO:
                parts.append(_PROTOCOLS.get(part[0]) or str(part[0]))
            case Field.SLOT:
                parts.append(struct.unpack("=I", part)[0])
            case _:
                parts.append(struct.unpack(">H", part[:2])[0])
    return tuple(parts)
