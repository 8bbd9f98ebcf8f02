"""nftables as values: tables, maps, sets, chains, rules and elements, with no syntax in them.

``compile`` builds these, ``plan`` compares them, ``render`` writes and reads their text. The vocabulary is no
larger than what our own tables use; the words are nft's (nft(8)).

Two choices keep a table of 100,000 services small and fast to compare:

* An address inside a key or a value is its canonical text (``str(IPv4Address(...))``), a protocol its lower-case
  name, a port or a slot an ``int``. Such tuples hash in C and need no conversion on the way in or out.
* A statement carries its operands only. What a statement reads is named by a ``Field``; whether that is
  ``ip daddr`` or ``ip6 daddr`` follows from the table's family.

Most of a table is the same whatever the services: its ``Schema``. Where a service needs maps and chains of its own,
their names begin with a word that the schema sets aside for them, and a slash.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace


class Field(enum.Enum):
    """What a rule reads from a packet, or draws; also the type of one part of a key."""

    SADDR = "saddr"
    DADDR = "daddr"
    L4PROTO = "meta l4proto"
    SPORT = "th sport"
    DPORT = "th dport"
    SLOT = "numgen random mod 65536"  # only in a map's declaration: any draw, whatever its modulus


Key = tuple[str | int, ...]
"""A key: its parts in the order of the map's fields. A prefix (``10.96.0.0/12``) only in an interval set."""


class Goto(Struct, frozen=True, gc=False):
    """The verdict ``goto CHAIN``, as a statement and as the value of a verdict map's element."""

    chain: str


Value = tuple[str, int] | Goto | None
"""An element's value: an address and port to DNAT to, a verdict, or None in a set."""


class Element(NamedTuple):
    """One element of a map or set. ``comment`` is for people and never read back as identity."""

    key: Key
    value: Value = None
    comment: str = ""


class Map(Struct, frozen=True):
    """A map or (``data`` None) a set. ``data`` is ``"verdict"`` or the fields of the value.

    ``lingers``: an element that is no longer wanted is deleted one transaction later, since a packet that met the
    tables as they were may need it further down its path. ``learned``: packets put its elements in, each with a
    timeout; what it holds is never part of a desired state.
    """

    name: str
    key: tuple[Field, ...]
    data: tuple[Field, ...] | str | None = None
    interval: bool = False
    counter: bool = False
    lingers: bool = False
    learned: bool = False
    comment: str = ""


class Memory(NamedTuple):
    """An element of a learned set: its key, its timeout and how much of that is left, in milliseconds."""

    key: Key
    timeout: int
    expires: int


# --- statements -------------------------------------------------------------------------------------------


class InSet(Struct, frozen=True):
    """Continue if the fields are (``negated``: are not) in a set."""

    fields: tuple[Field, ...]
    set: str
    negated: bool = False


class NotIn(Struct, frozen=True):
    """Continue if the address is outside a prefix (canonical text)."""

    field: Field
    prefix: str


class Local(Struct, frozen=True):
    """Continue if the address is one of this host (``fib daddr type local``, ``fib saddr type local``)."""

    field: Field = Field.DADDR


class Interface(Struct, frozen=True):
    """Continue if the packet came in on this interface (``negated``: on no such one); ``*`` ends a prefix.

    A packet from the host itself came in on none.
    """

    name: str
    negated: bool = False


class Translated(Struct, frozen=True):
    """Continue if the connection's destination was translated (``ct status dnat``)."""


class MarkHas(Struct, frozen=True):
    """Continue if all of these bits are set in the packet's mark."""

    bits: int


class MarkSet(Struct, frozen=True):
    """Set these bits of the packet's mark and leave the others."""

    bits: int


class MarkFlip(Struct, frozen=True):
    """Invert these bits of the packet's mark and leave the others."""

    bits: int


class Dispatch(Struct, frozen=True):
    """Look the fields up in a verdict map and do what it says; continue if it says nothing."""

    fields: tuple[Field, ...]
    map: str


class DnatSlot(Struct, frozen=True):
    """Draw a slot below ``slots`` and DNAT to what the map holds for fields and slot; continue if that is empty.

    ``offset`` is added to the draw, so that several pools can live behind one key (nft: ``numgen … offset``). The
    draw is random, or, with ``hashed``, a hash of these fields (nft: ``jhash``) that is the same on every node.
    """

    fields: tuple[Field, ...]
    slots: int
    map: str
    offset: int = 0
    hashed: tuple[Field, ...] = ()


class GotoChance(Struct, frozen=True):
    """Go to a chain in ``share`` of ``of`` cases at random, else continue (``numgen random mod OF < SHARE goto``).

    Not one draw from a map of verdicts: nft 1.0.6 crashes when it lists one that nft 1.1.3 has written, and a packet
    that is on its way through while such a map is exchanged finds nothing in it.
    """

    chain: str
    share: int
    of: int


class Learn(Struct, frozen=True):
    """Put the source address into a learned set for so many seconds, anew if it is there; continue.

    A set that is full (``LEARNED_SIZE``) takes no other: the rule then ends here.
    """

    set: str
    seconds: int


class Dnat(Struct, frozen=True):
    """DNAT packets of this protocol (lower case) to an address and port; continue with others."""

    protocol: str
    address: str
    port: int


class Established(Struct, frozen=True):
    """Continue if packets of this connection have passed both ways (``ct state established``)."""


class Offload(Struct, frozen=True):
    """Put the connection into a flowtable (``flow add``); continue. What cannot be in one passes on."""

    flowtable: str


HASH_SEED = 0x6E6F6465
"""The seed of every hash: any number, as long as all nodes have the same."""

LEARNED_SIZE = 65535
"""Elements a learned set can have; what the kernel gives it by itself (nft_dynset_init, nft_dynset.c)."""


class Jump(Struct, frozen=True):
    """Call a chain."""

    chain: str


class Drop(Struct, frozen=True):
    """Drop the packet without an answer."""


class Reject(Struct, frozen=True):
    """Refuse with an ICMP error, or with a TCP reset (which matches TCP packets alone)."""

    tcp_reset: bool = False


class Masquerade(Struct, frozen=True):
    """Source NAT to the outgoing interface's address, with a fully random port."""


Statement = (
    InSet
    | NotIn
    | Local
    | Interface
    | Translated
    | MarkHas
    | MarkSet
    | MarkFlip
    | Dispatch
    | DnatSlot
    | GotoChance
    | Learn
    | Dnat
    | Established
    | Offload
    | Jump
    | Goto
    | Drop
    | Reject
    | Masquerade
)

Rule = tuple[Statement, ...]


# --- tables -----------------------------------------------------------------------------------------------


class Hook(Struct, frozen=True):
    """Where a base chain hangs: a hook and its priority, and the type of the chain (nft(8), "Chains")."""

    name: str
    priority: int
    type: str = "nat"


class Chain(Struct, frozen=True):
    """A chain with its rules; with a hook it is a base chain."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    comment: str = ""


class Schema(Struct, frozen=True):
    """Everything of a table that is there whatever the services. ``family`` is nft's: ``"ip"`` or ``"ip6"``.

    ``own_maps`` are patterns of the maps that services may add: a map whose name begins with a pattern's and a slash
    is like it but for the name. ``own_chains`` are the words that the names of their chains begin with. ``flowtable``
    is the name of its flowtable, "" for none; which devices that has is the host's state and no part of a table here.
    """

    family: str
    name: str
    maps: tuple[Map, ...]
    chains: tuple[Chain, ...]
    own_maps: tuple[Map, ...] = ()
    own_chains: tuple[str, ...] = ()
    flowtable: str = ""

    def own_map(self, name: str) -> Map | None:
        """The map of this name as a service may add it; None if none may."""
        word, slash, _ = name.partition("/")
        pattern = next((pattern for pattern in self.own_maps if slash and pattern.name == word), None)
        return replace(pattern, name=name) if pattern else None

    def new_map(self, name: str) -> Map:
        """The same, where the schema is known to have a pattern for the name."""
        made = self.own_map(name)
        assert made is not None, f"no pattern for {name}"
        return made

    def is_own_chain(self, name: str) -> bool:
        """Whether a service may add a chain of this name."""
        word, slash, _ = name.partition("/")
        return bool(slash) and word in self.own_chains


Elements = Mapping[str, Mapping[Key, Element]]
"""The elements of a table: by map or set name, then by key."""


class Table(Struct, frozen=True):
    """A table with its elements, and with the maps and chains that services have added, by name.

    ``memories`` is what its learned sets hold, by set.
    """

    schema: Schema
    elements: Elements = field(default_factory=dict)
    maps: Mapping[str, Map] = field(default_factory=dict)
    chains: Mapping[str, Chain] = field(default_factory=dict)
    memories: Mapping[str, tuple[Memory, ...]] = field(default_factory=dict)


# --- what an owner wants, before endpoints have their slots -----------------------------------------------

Rank = tuple[str, str, str]
"""Who goes first on a contested frontend: creation time, then namespace and name. It identifies the owner too."""


class Pool(Struct, frozen=True, gc=False):
    """A key of a verdict map, and the endpoints behind it, not yet placed in slots. It does not change.

    ``first`` is the number of their first slot: two pools may share a key of a slot map. An endpoint may have several
    slots. ``fixed``: the endpoints stand in the order of their slots, which matters. ``slots`` "": the verdict alone.
    """

    map: str
    key: Key
    verdict: Goto
    slots: str
    endpoints: tuple[tuple[str, int], ...]
    comment: str
    first: int = 0
    fixed: bool = False


class InPools(Mapping[Key, Element]):
    """The elements of a slot map, made of pools when somebody looks."""

    @abstractmethod
    def pools(self) -> Iterable[Pool]:
        """The frontends with their endpoints in the order of their slots, which begin with ``first``.

        For who wants to look at a key once, and not once a slot.
        """


Shared = tuple[str, Key]
"""An element that several owners may want: its set and its key. It has neither a value nor a comment."""


class Contender(Struct, frozen=True, gc=False):
    """All that one owner wants in one table: its frontends, and elements it may share with others. It never changes.

    A frontend is one pool, or several that are had together (policy Local leads those inside to another pool). The
    map and key of its first pool are what owners compete for. ``maps`` and ``chains`` are this owner's alone.
    """

    rank: Rank
    frontends: tuple[tuple[Pool, ...], ...]
    shared: tuple[Shared, ...] = ()
    maps: tuple[Map, ...] = ()
    chains: tuple[Chain, ...] = ()
