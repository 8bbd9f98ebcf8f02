"""What differs between two states of a table, and the transaction that makes one of the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TypeVar

from msgspec import Struct, field

from nodeport_nft.plan.transaction import (
    Add,
    AddChain,
    AddMap,
    AddRules,
    Delete,
    DeleteChain,
    DeleteMap,
    FlushChain,
    Operation,
    Replace,
    Transaction,
)
from nodeport_nft.ruleset import Chain, Element, Key, Map, Memory, Pool, Schema, Table

Change = tuple[Element | None, Element | None]
"""An element as it was and as it should be."""

ElementEdits = Mapping[str, Mapping[Key, Change]]
"""By map and key."""


class Edits(Struct, frozen=True):
    """What is to be changed in a table: elements, and the maps and chains that services have added, by name.

    Each as it was and as it should be, None where there is none.
    """

    elements: ElementEdits = field(default_factory=dict)
    maps: Mapping[str, tuple[Map | None, Map | None]] = field(default_factory=dict)
    chains: Mapping[str, tuple[Chain | None, Chain | None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.elements or self.maps or self.chains)


Endpoints = tuple[tuple[str, int], ...]
"""Addresses and ports, in the order of their slots."""


class Comparing(Mapping[Key, Element]):
    """Elements that are held in another form, in which they are cheaper to compare and to look through."""

    @abstractmethod
    def differing(self, want: Mapping[Key, Element]) -> dict[Key, Change]:
        """What is not as wanted, each as it is and as it should be."""

    @abstractmethod
    def run(self, pool: Pool) -> Endpoints:
        """What stands in the slots of this frontend, from its first up to the first empty one.

        Those are the pool's endpoints themselves, if it is they: nothing need be made then.
        """


Value = TypeVar("Value", Element, Map, Chain)
Name = TypeVar("Name", Key, str)


def diff(have: Table, want: Table) -> Edits:
    """Everything that differs between two tables of one schema, but for what packets have put in."""
    elements: dict[str, dict[Key, Change]] = {}
    for name in {**have.elements, **want.elements}:
        held, wanted = have.elements.get(name, {}), want.elements.get(name, {})
        changed = held.differing(wanted) if isinstance(held, Comparing) else differing(held, wanted)
        if changed:
            elements[name] = changed
    return Edits(elements, differing(have.maps, want.maps), differing(have.chains, want.chains))


def differing(
    have: Mapping[Name, Value], want: Mapping[Name, Value]
) -> dict[Name, tuple[Value | None, Value | None]]:
    """What is not as wanted, by key or name: each as it is and as it should be."""
    changed: dict[Name, tuple[Value | None, Value | None]] = {}
    common = 0
    for name, value in want.items():  # gone through, not asked: what is wanted may be made as it comes
        before = have.get(name)
        common += before is not None
        if before != value:
            changed[name] = before, value
    if common < len(have):
        changed.update((name, (value, None)) for name, value in have.items() if name not in want)
    return changed


def plan_edits(schema: Schema, edits: Edits) -> tuple[Transaction, ...]:
    """What carries out ``edits`` on a table of this schema: one transaction, or none where nothing differs.

    Where elements leave a map in which they linger, a late one follows that deletes them.

    An element cannot be changed in place: it is deleted and added, and since the kernel commits both at once no
    packet finds it missing. So with a chain's rules. The order is fixed (first what goes, in the order in which one
    thing leads to another, then what comes, the other way round; maps in the schema's order, keys sorted), so that
    the same edits give the same bytes.
    """
    deletions: list[Operation] = []
    additions: list[Operation] = []
    late: list[Operation] = []
    leaving_maps = [name for name, (old, _) in sorted(edits.maps.items()) if old is not None]
    gone = frozenset(leaving_maps)
    coming_maps = [new for _, (_, new) in sorted(edits.maps.items()) if new is not None]
    lingering_maps = {declared.name for declared in schema.maps if declared.lingers}
    own = sorted(edits.elements.keys() - {declared.name for declared in schema.maps})
    for name in (*(declared.name for declared in schema.maps), *own):
        pairs = sorted(edits.elements.get(name, {}).items())
        lingers = name in lingering_maps
        lingering = tuple(key for key, (_, new) in pairs if new is None and lingers)
        leaving = tuple(key for key, (old, new) in pairs if old is not None and (new or not lingers))
        coming = tuple(new for _, (_, new) in pairs if new is not None)
        late += [Delete(name, lingering)] if lingering else []
        if leaving and name not in gone:  # what a map holds goes with it
            deletions.append(Delete(name, leaving))
        additions += [Add(name, coming)] if coming else []
    operations = (
        *deletions,
        *_chains_leaving(edits),
        *(DeleteMap(name) for name in leaving_maps),
        *(AddMap(declared) for declared in coming_maps),
        *_chains_coming(edits),
        *additions,
    )
    now = Transaction(schema.family, schema.name, operations)
    after = Transaction(schema.family, schema.name, tuple(late), late=True)
    return tuple(transaction for transaction in (now, after) if transaction)


def _chains_leaving(edits: Edits) -> Iterable[Operation]:
    """All that change are emptied before one is deleted: they lead to each other."""
    chains = sorted(edits.chains.items())
    yield from (FlushChain(name) for name, (old, _) in chains if old is not None)
    yield from (DeleteChain(name) for name, (_, new) in chains if new is None)


def _chains_coming(edits: Edits) -> Iterable[Operation]:
    chains = sorted(edits.chains.items())
    yield from (AddChain(new) for _, (old, new) in chains if new is not None and old is None)
    yield from (AddRules(new) for _, (_, new) in chains if new is not None)


def plan_replacement(table: Table, memories: Mapping[str, tuple[Memory, ...]] | None = None) -> Transaction:
    """One transaction that puts a whole table in place, with no moment in between for a packet to see.

    ``memories`` is what the learned sets of the table that was there hold; what is still wanted of it stays.
    """
    kept = {name: held for name, held in (memories or {}).items() if name in table.maps}
    whole = Table(table.schema, table.elements, table.maps, table.chains, kept)
    return Transaction(table.schema.family, table.schema.name, (Replace(whole),))
