"""What a rule compares: fields of a packet, and the values that nft writes beside them.

Everything is numbers in ranges, or words. A value that is not understood is kept as such, so that a set with one
strange element is still read as far as the others go.

Source: nft(8), "Primary expressions", "Payload expressions"; nft 1.0.6 as it lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network

from nodeport_nft.forwarding.packet import Packet
from nodeport_nft.model import Family

Range = tuple[int, int]
"""The first and the last number."""

Known = int | str | frozenset[str]


class Absent:
    """A packet that has no such field: no condition on it holds, negated or not."""


ABSENT = Absent()


@dataclass(frozen=True, slots=True)
class Field:
    """A field: how it is read from a packet (None: differs from packet to packet), and its values from text.

    ``literal`` gives a range, or a word; None for what it does not understand. ``flags`` is the whole value of a
    field that holds flags, "" for others: beside ``==``, ``!=`` and sets the whole counts, and else any flag.
    """

    name: str
    read: Callable[[Packet], Known | Absent | None]
    literal: Callable[[str], Range | str | None] = lambda text: text
    flags: str = ""

    def whole(self) -> Field:
        """The same, as it is where the whole value counts."""
        return Field(self.name, lambda _: self.flags) if self.flags else self


@dataclass(slots=True)
class Values:
    """The values of one field that a condition names. ``strange``: some of them were not understood."""

    words: set[str] = field(default_factory=set)
    prefixes: list[str] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)
    ranges: list[Range] = field(default_factory=list)
    all: bool = False
    strange: bool = False

    def add(self, of: Field, text: str) -> None:
        """Add what one text stands for."""
        if text == "*":
            self.all = True
            return
        for part in text.split(",") if of.flags else (text,):
            value = of.literal(part)
            if value is None:
                self.strange = True
            elif isinstance(value, str):
                (self.prefixes.append(value[:-1]) if value.endswith("*") else self.words.add(value))
            elif value[0] == value[1]:
                self.numbers.add(value[0])
            else:
                self.ranges.append(value)

    def have(self, value: Known) -> bool | None:
        """Whether this is among them; None where that depends on what was not understood."""
        if isinstance(value, int):
            found = value in self.numbers or any(first <= value <= last for first, last in self.ranges)
        elif isinstance(value, str):
            found = value in self.words or any(value.startswith(prefix) for prefix in self.prefixes)
        else:
            found = not value.isdisjoint(self.words)
        return True if found or self.all else None if self.strange else False

    def bounds(self) -> Iterable[int]:
        """The numbers at which the answer may change."""
        for number in self.numbers:
            yield from (number, number + 1)
        for first, last in self.ranges:
            yield from (first, last + 1)


@lru_cache(maxsize=65536)
def addresses(text: str) -> Range | None:
    """The range of ``10.0.0.0/8``, ``10.0.0.1-10.0.0.9`` or ``10.0.0.1``, of either family."""
    try:
        if "-" in text:
            first, last = map(ip_address, text.split("-", 1))
            return int(first), int(last)
        network = ip_network(text)
    except ValueError:
        return None
    return int(network.network_address), int(network.broadcast_address)


def numbers(text: str) -> Range | None:
    """The range of ``80-90``, ``80`` or ``0x50``."""
    first, _, last = text.partition("-")
    try:
        return int(first, 0), int(last or first, 0)
    except ValueError:
        return None


def word(text: str) -> str:
    """A name, quoted or not."""
    return text.strip('"')


_PROTOCOLS = {"6": "tcp", "17": "udp", "132": "sctp"}
_PORTED = ("tcp", "udp", "sctp", "dccp", "udplite")
_FAMILIES = {"ip": Family.IPV4, "ip6": Family.IPV6}
_ETHERTYPES = {Family.IPV4: ("ip", "0x0800", "8"), Family.IPV6: ("ip6", "0x86dd", "56710")}


def _protocol(text: str) -> str | None:
    return None if "-" in text else _PROTOCOLS.get(word(text), word(text))


def _of_family(name: str, read: Callable[[Packet], Known | None]) -> Callable[[Packet], Known | Absent | None]:
    return lambda packet: read(packet) if packet.family is _FAMILIES[name] else ABSENT


def _of_protocol(name: str, read: Callable[[Packet], Known | None]) -> Callable[[Packet], Known | Absent | None]:
    return lambda packet: read(packet) if packet.protocol == name else ABSENT


def _fields() -> Mapping[tuple[str, ...], Field]:
    found: dict[tuple[str, ...], Field] = {}

    def add(text: str, name: str, read: Callable[[Packet], Known | Absent | None], **more: object) -> None:
        found[tuple(text.split())] = Field(name, read, **more)  # type: ignore[arg-type]

    for prefix in ("", "meta "):
        for text in ("iif", "iifname"):
            add(prefix + text, "iif", lambda packet: packet.iif, literal=word)
        for text in ("oif", "oifname"):
            add(prefix + text, "oif", lambda packet: packet.oif, literal=word)
        add(prefix + "pkttype", "pkttype", lambda _: "host", literal=lambda text: {"unicast": "host"}.get(text, text))
        add(prefix + "l4proto", "protocol", lambda packet: packet.protocol, literal=_protocol)
        add(
            prefix + "nfproto",
            "nfproto",
            lambda packet: "ipv4" if packet.family is Family.IPV4 else "ipv6",
            literal=word,
        )
    add("meta protocol", "ethertype", lambda packet: frozenset(_ETHERTYPES[packet.family]), literal=word)
    add("ip protocol", "protocol", _of_family("ip", lambda packet: packet.protocol), literal=_protocol)
    add("ip6 nexthdr", "protocol", _of_family("ip6", lambda packet: packet.protocol), literal=_protocol)
    for family in _FAMILIES:
        add(f"{family} daddr", "daddr", _of_family(family, lambda packet: packet.daddr), literal=addresses)
        add(f"{family} saddr", "saddr", _of_family(family, lambda _: None), literal=addresses)
        add(
            f"ct original {family} daddr", "asked", _of_family(family, lambda packet: packet.asked), literal=addresses
        )
    for name in _PORTED:
        add(f"{name} dport", "dport", _of_protocol(name, lambda packet: packet.dport), literal=numbers)
        add(f"{name} sport", "sport", _of_protocol(name, lambda _: None), literal=numbers)
        add(f"{name} flags", "flags", _of_protocol(name, lambda _: None))
    add("th dport", "dport", lambda packet: packet.dport, literal=numbers)
    add("ct original proto-dst", "asked port", lambda packet: packet.asked_port, literal=numbers)
    add("ct protocol", "protocol", lambda packet: packet.protocol, literal=_protocol)
    add("ct state", "ct state", lambda _: "new", flags="new")
    # More is set than there are names for (IPS_DST_NAT_DONE), so that the whole is never what a rule names.
    add("ct status", "ct status", lambda _: "dnat", flags="dnat | dnat done")
    add("ct direction", "ct direction", lambda _: "original")
    add("fib daddr type", "fib", lambda packet: "local" if packet.local else "unicast")
    for text in ("icmp type", "icmp code", "icmpv6 type", "icmpv6 code", "igmp type", "esp spi", "ah spi"):
        add(text, "other protocol", lambda _: ABSENT)
    return found


FIELDS = _fields()
"""The fields that are understood, by how nft writes them."""


def field_at(tokens: Sequence[str], at: int) -> tuple[Field, int] | None:
    """The field that is named from here on, and where that ends."""
    for length in (4, 3, 2, 1):
        found = FIELDS.get(tuple(tokens[at : at + length]))
        if found is not None:
            return found, at + length
    return None
