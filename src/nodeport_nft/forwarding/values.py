"""What a rule compares: fields of a packet, and the values that nft writes beside them.

Everything is numbers in ranges, or words. A value that is not understood is kept as such, so that a set with one
strange element is still read as far as the others go.

Source: nft(8), "Primary expressions", "Payload expressions"; nft 1.0.6 as it lists them.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network

from msgspec import Struct, field

from nodeport_nft.forwarding.packet import Packet
from nodeport_nft.model import Family

Range = tuple[int, int]
"""The first and the last number."""

Known = int | str | frozenset[str]


class Absent:
    """A packet that has no such field: no condition on it holds, negated or not."""


ABSENT = Absent()


class OneOf(Struct, frozen=True):
    """One of these numbers, and it is not known which."""

    numbers: tuple[int, ...]

    def among(self, values: Values) -> bool | None:
        """Whether it is among them; None where some of these are."""
        answers = {values.have(number) for number in self.numbers}
        return answers.pop() if len(answers) == 1 else None


class NotIn(Struct, frozen=True):
    """A number of ``bits`` that is in none of these ranges, and no more is known of it."""

    ranges: tuple[Range, ...]
    bits: int

    def among(self, values: Values) -> bool | None:
        """Whether it is among them: all of them in these ranges, it is not; all others among them, it is."""
        if values.all:
            return True
        if values.words or values.prefixes:
            return None
        named = [*((number, number) for number in values.numbers), *values.ranges]
        if not _gaps(named, 0, (1 << self.bits) - 1, self.ranges):
            return True
        if values.strange or any(_gaps(self.ranges, first, last, ()) for first, last in named):
            return None
        return False


def _gaps(ranges: Iterable[Range], first: int, last: int, more: Iterable[Range]) -> bool:
    """Whether something from the first to the last number is in none of the ranges."""
    for begin, end in sorted((*ranges, *more)):
        if begin > first:
            break
        first = max(first, end + 1)
    return first <= last


class Bits(Struct, frozen=True):
    """Bits that are ``on``, those that may be, and all others off."""

    on: int
    maybe: int

    def among(self, values: Values) -> bool | None:
        """Whether it is among them; None where that takes bits that are not known."""
        if values.all:
            return True
        if values.words or values.prefixes or values.strange or values.ranges:
            return None
        fits = any(not (number ^ self.on) & ~self.maybe for number in values.numbers)
        return None if fits else False


Partly = OneOf | NotIn | Bits
"""What is known in part."""

Reading = Known | Partly | Absent | None
"""What a field of a packet is; None: nothing is known of it."""


class Field(Struct, frozen=True):
    """A field: how it is read from a packet (None: differs from packet to packet), and its values from text.

    ``literal`` gives a range, or a word; None for what it does not understand. ``flags`` are the names of the bits,
    of a field that holds bits: without an operator beside them, any of them is meant.
    """

    name: str
    read: Callable[[Packet], Reading]
    literal: Callable[[str], Range | str | None] = lambda text: text
    flags: Mapping[str, int] | None = None

    def masked(self, mask: int) -> Field:
        """The same, with no bit but those of the mask."""

        def read(packet: Packet) -> Reading:
            value = self.read(packet)
            match value:
                case int():
                    return value & mask
                case Bits():
                    on, maybe = value.on & mask, value.maybe & mask
                    return Bits(on, maybe) if maybe else on
                case Absent():
                    return value
            return None

        return Field(f"{self.name} masked", read, self.literal, self.flags)


class Values(Struct):
    """The values of one field that a condition names. ``strange``: some of them were not understood."""

    words: set[str] = field(default_factory=set)
    prefixes: list[str] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)
    ranges: list[Range] = field(default_factory=list)
    all: bool = False
    strange: bool = False
    _answers: dict[Partly, bool | None] | None = None
    _spans: tuple[list[int], list[int]] | None = None  # where the ranges begin and end, in order and apart

    def add(self, of: Field, text: str) -> None:
        """Add what one text stands for."""
        self._answers = self._spans = None
        if text == "*":
            self.all = True
            return
        value = of.literal(text)
        if value is None:
            self.strange = True
        elif isinstance(value, str):
            (self.prefixes.append(value[:-1]) if value.endswith("*") else self.words.add(value))
        elif value[0] == value[1]:
            self.numbers.add(value[0])
        else:
            self.ranges.append(value)

    def have(self, value: Known | Partly) -> bool | None:
        """Whether this is among them; None where that depends on what was not understood, or is not known."""
        if isinstance(value, OneOf | NotIn | Bits):
            if self._answers is None:
                self._answers = {}
            if value not in self._answers:
                self._answers[value] = value.among(self)
            return self._answers[value]
        if isinstance(value, int):
            found = value in self.numbers or self._in_a_range(value)
        elif isinstance(value, str):
            found = value in self.words or any(value.startswith(prefix) for prefix in self.prefixes)
        else:
            found = not value.isdisjoint(self.words)
        return True if found or self.all else None if self.strange else False

    def _in_a_range(self, value: int) -> bool:
        if not self.ranges:
            return False
        if self._spans is None:
            begins, ends = self._spans = [], []
            for first, last in sorted(self.ranges):
                if ends and first <= ends[-1]:
                    ends[-1] = max(ends[-1], last)
                elif first <= last:
                    begins.append(first)
                    ends.append(last)
        begins, ends = self._spans
        at = bisect.bisect(begins, value)
        return at > 0 and value <= ends[at - 1]

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


def _flags(names: Mapping[str, int]) -> Callable[[str], Range | None]:
    """The number that ``syn,ack``, ``syn | ack`` or ``0x12`` stands for; no range of such is understood."""

    def literal(text: str) -> Range | None:
        number = 0
        for part in re.split(r"[,|]", text):
            name = part.strip(" ()")
            known = names.get(name)
            if known is None:
                found = numbers(name)
                if found is None or found[0] != found[1]:
                    return None
                known = found[0]
            number |= known
        return number, number

    return literal


# linux/tcp.h, net/tcp.h (TCPHDR_*)
_TCP_FLAGS = {name: 1 << bit for bit, name in enumerate(("fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"))}
# nft(8), "Conntrack expressions": NF_CT_STATE_BIT of enum ip_conntrack_info
_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
# linux/netfilter/nf_conntrack_common.h: enum ip_conntrack_status, as far as nft has names
_STATUS = {
    "expected": 1 << 0,
    "seen-reply": 1 << 1,
    "assured": 1 << 2,
    "confirmed": 1 << 3,
    "snat": 1 << 4,
    "dnat": 1 << 5,
    "dying": 1 << 9,
}
_SEQUENCE, _SRC_NAT_DONE, _DST_NAT_DONE, _OTHERS = 1 << 6, 1 << 7, 1 << 8, 0xFFFFFFFF & ~((1 << 10) - 1)


def _status(packet: Packet) -> Bits:
    """It is translated, no answer was seen yet; behind the forward hook its source may be translated as well."""
    maybe = _STATUS["expected"] | _SEQUENCE | _SRC_NAT_DONE | _OTHERS
    if packet.hook in ("postrouting", "input"):
        maybe |= _STATUS["snat"]
    return Bits(_STATUS["dnat"] | _DST_NAT_DONE, maybe)


def _source(name: str | None, *, original: bool) -> Callable[[Packet], Reading]:
    """The source: of the packet itself, it may be translated behind the forward hook."""

    def read(packet: Packet) -> Reading:
        if name and packet.family is not _FAMILIES[name]:
            return ABSENT
        if not packet.inside or (packet.hook in ("postrouting", "input") and not original):
            return None
        return NotIn(packet.inside, 32 if packet.family is Family.IPV4 else 128)

    return read


def _asked(packet: Packet) -> Reading:
    return OneOf(packet.asked) if len(packet.asked) > 1 else packet.asked[0] if packet.asked else None


_PROTOCOLS = {"6": "tcp", "17": "udp", "132": "sctp"}
_PORTED = ("tcp", "udp", "sctp", "dccp", "udplite")
_FAMILIES = {"ip": Family.IPV4, "ip6": Family.IPV6}
_ETHERTYPES = {Family.IPV4: ("ip", "0x0800", "8"), Family.IPV6: ("ip6", "0x86dd", "56710")}


def _protocol(text: str) -> str | None:
    return None if "-" in text else _PROTOCOLS.get(word(text), word(text))


def _of_family(name: str, read: Callable[[Packet], Reading]) -> Callable[[Packet], Reading]:
    return lambda packet: read(packet) if packet.family is _FAMILIES[name] else ABSENT


def _of_protocol(name: str, read: Callable[[Packet], Reading]) -> Callable[[Packet], Reading]:
    return lambda packet: read(packet) if packet.protocol == name else ABSENT


def _fields() -> Mapping[tuple[str, ...], Field]:
    found: dict[tuple[str, ...], Field] = {}

    def add(text: str, name: str, read: Callable[[Packet], Reading], **more: object) -> None:
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
        add(f"{family} saddr", "saddr", _source(family, original=False), literal=addresses)
        add(f"ct original {family} daddr", "asked", _of_family(family, _asked), literal=addresses)
        add(f"ct original {family} saddr", "saddr", _source(family, original=True), literal=addresses)
    # iptables-nft's are listed without their family, which is the table's.
    add("ct original daddr", "asked", _asked, literal=addresses)
    add("ct original saddr", "saddr", _source(None, original=True), literal=addresses)
    for name in _PORTED:
        add(f"{name} dport", "dport", _of_protocol(name, lambda packet: packet.dport), literal=numbers)
        add(f"{name} sport", "sport", _of_protocol(name, lambda _: None), literal=numbers)
    add("th dport", "dport", lambda packet: packet.dport, literal=numbers)
    add("ct original proto-dst", "asked port", lambda packet: packet.asked_port, literal=numbers)
    add("ct protocol", "protocol", lambda packet: packet.protocol, literal=_protocol)
    # A client that asks for ECN sets two bits more (RFC 3168): few do.
    syn = _TCP_FLAGS["syn"]
    add("tcp flags", "flags", _of_protocol("tcp", lambda _: syn), literal=_flags(_TCP_FLAGS), flags=_TCP_FLAGS)
    add("ct state", "ct state", lambda _: _STATES["new"], literal=_flags(_STATES), flags=_STATES)
    add("ct status", "ct status", _status, literal=_flags(_STATUS), flags=_STATUS)
    # Whole packets alone get past conntrack; they may say that they must not be taken apart.
    add("ip frag-off", "fragment", _of_family("ip", lambda _: Bits(0, 0x4000)), literal=numbers)
    add("ip version", "version", _of_family("ip", lambda _: 4), literal=numbers)
    add("ip6 version", "version", _of_family("ip6", lambda _: 6), literal=numbers)
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
