"""A packet under way, and one rule at work on it."""

from __future__ import annotations

import enum
from collections.abc import Collection
from fractions import Fraction

from msgspec import Struct, field

from nodeport_nft.ruleset import Field, Key, Rule
from nodeport_nft.trace.values import Fate, Hit, Place, TraceError, UnknownInterface


class Flow(Struct, frozen=True):
    """A packet on its way. ``path`` is as in Outcome."""

    source: str
    destination: str
    protocol: str
    port: int
    interface: str | None = None
    mark: int = 0
    dnat: bool = False
    translated: bool = False  # what `ct status dnat` tells: the destination has in fact changed
    masqueraded: bool = False
    fate: Fate | None = None
    tcp_reset: bool = False
    path: tuple[Place, ...] = ()


class Then(enum.Enum):
    """How a rule ends that hands the packet to no chain."""

    HELD = enum.auto()  # every statement held; the next rule follows
    BROKEN = enum.auto()  # one did not; the next rule follows
    ENDED = enum.auto()  # nothing is left of the packet


class Visit(Struct):
    """One rule at work on one packet: what its look-ups find, and what it leaves of the packet's probability."""

    hook: str
    trail: tuple[Place, ...]
    chain: str
    number: int
    rule: Rule
    flow: Flow
    share: Fraction
    taken: Fraction = Fraction(0)
    hits: list[Hit] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return Place(self.chain, self.number, self.rule, tuple(self.hits))

    def error(self, what: str) -> TraceError:
        return TraceError(f"chain {self.chain}, rule {self.number}: {what}")

    def only_in(self, hooks: Collection[str], what: str) -> None:
        """The kernel refuses a statement in any other hook when it is loaded (nft(8))."""
        if self.hook not in hooks:
            raise self.error(
                f"{what} in the hook {self.hook}; the kernel takes it in {', '.join(sorted(hooks))} alone"
            )

    def key(self, fields: tuple[Field, ...]) -> Key:
        """The packet's fields as the key of a look-up. Raises TraceError for one that a packet does not have."""
        return tuple([self._read(field) for field in fields])

    def address(self, field: Field) -> str:
        """One of the packet's addresses. Raises TraceError if the field is none."""
        if field not in (Field.SADDR, Field.DADDR):
            raise self.error(f"{field.value!r} is not an address")
        return str(self._read(field))

    def came_in_on(self, name: str) -> bool:
        """Whether the packet came in on this interface, or on one of this prefix with ``*`` behind it.

        Raises UnknownInterface if nobody has said what it came in on.
        """
        interface = self.flow.interface
        if interface is None:
            raise UnknownInterface(f"whether the packet comes in on {name} decides about it, and nobody has said so")
        return interface.startswith(name[:-1]) if name.endswith("*") else interface == name

    def _read(self, field: Field) -> str | int:
        match field:
            case Field.SADDR:
                return self.flow.source
            case Field.DADDR:
                return self.flow.destination
            case Field.L4PROTO:
                return self.flow.protocol
            case Field.DPORT:
                return self.flow.port
            case _:
                raise self.error(f"no packet has a field {field.value!r}")
