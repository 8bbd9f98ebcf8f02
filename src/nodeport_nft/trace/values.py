"""What goes into a trace and what comes out of it.

Addresses, protocols and ports are spelled as in the ruleset: canonical text, lower-case names, ``int``.
Probabilities are exact fractions: nobody has to ask whether a missing 0.01 % is a rounding or a lost packet.
"""

from __future__ import annotations

import enum
from fractions import Fraction
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec import Struct

from nodeport_nft.ruleset import Element, Rule


class TraceError(Exception):
    """The table holds what the walk does not know or the kernel would refuse; ``str()`` says what and where."""


@lru_cache(maxsize=1 << 14)
def read_address(text: str) -> IPv4Address | IPv6Address:
    """An address out of a table or of a packet. Raises TraceError if it is none."""
    try:
        return ip_address(text)
    except ValueError:
        raise TraceError(f"{text!a} is not an address") from None


@lru_cache(maxsize=1 << 14)
def read_network(text: str) -> IPv4Network | IPv6Network:
    """A prefix out of a table. Raises TraceError if it is none."""
    try:
        return ip_network(text)
    except ValueError:
        raise TraceError(f"{text!a} is not a prefix") from None


class UnknownInterface(TraceError):
    """What becomes of the packet depends on the interface it comes in on, and that is not known."""


class Packet(Struct, frozen=True):
    """The first packet of a connection. ``from_node``: a process on the node sends it, so that it meets the output
    hook; all others (from pods, from outside) come in through prerouting, on ``interface`` (None: nobody knows).
    """

    source: str
    destination: str
    protocol: str
    port: int
    from_node: bool = False
    interface: str | None = None


class Hit(Struct, frozen=True):
    """An element that a look-up of this packet found in a map or set."""

    map: str
    element: Element


class Place(Struct, frozen=True):
    """A rule, as its chain and its number there (from 1), with what its look-ups found."""

    chain: str
    number: int
    rule: Rule
    hits: tuple[Hit, ...] = ()


class Step(Struct, frozen=True):
    """A rule the packet came to. ``depth`` is the number of jumps and gotos from the base chain to it.

    ``reached`` is the probability that the packet comes here, ``taken`` that all of the rule holds for it: that it
    goes through to its last statement. For a draw, ``place.hits`` holds the filled slots.
    """

    hook: str
    depth: int
    place: Place
    reached: Fraction
    taken: Fraction


class Fate(enum.StrEnum):
    """What becomes of a packet."""

    FORWARDED = "forwarded"  # its destination (or only its source) was translated, and it goes on
    REFUSED = "refused"  # whoever sent it hears so
    DROPPED = "dropped"  # nobody hears of it
    UNTOUCHED = "untouched"  # no rule changed its addresses; it goes where it was going


class Outcome(Struct, frozen=True):
    """One way a packet can go, and the probability of it.

    ``destination`` and ``port``: where it goes, or was going when it was stopped. ``here``: that is an address of
    the node itself. ``masqueraded``: its source becomes an address of the node, which one is up to the interface
    it leaves by. ``tcp_reset``: refused by a reset, not by an ICMP error. ``path``: the rules that handed it from
    chain to chain up to a decision, and the rule that refused, dropped or masqueraded it.
    """

    probability: Fraction
    fate: Fate
    destination: str
    port: int
    here: bool
    masqueraded: bool = False
    tcp_reset: bool = False
    path: tuple[Place, ...] = ()


class Trace(Struct, frozen=True):
    """A packet's walk: the rules it came to, in order, and its outcomes, whose probabilities add up to 1."""

    packet: Packet
    steps: tuple[Step, ...]
    outcomes: tuple[Outcome, ...]
