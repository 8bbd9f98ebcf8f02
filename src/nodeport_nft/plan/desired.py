"""What one table should hold, kept up to date owner by owner."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nodeport_nft.plan.edits import Change, Edits, ElementEdits
from nodeport_nft.ruleset import Chain, Contender, Element, Elements, Key, Map, Pool, Rank

Owned = TypeVar("Owned", Map, Chain)
Changed = TypeVar("Changed", Element, Map, Chain)
Name = TypeVar("Name", Key, str)


@dataclass(frozen=True, slots=True)
class Contest:
    """A frontend that ``loser`` wants and ``holder`` has."""

    map: str
    key: Key
    holder: Rank
    loser: Rank


Claim = tuple[str, Key]
"""What owners compete for: a verdict map and a key."""

Want = tuple[Rank, tuple[Pool, ...]]
"""Who wants a frontend, and what it would be."""


def place(before: Sequence[tuple[str, int]], endpoints: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Assign endpoints to slots 0 to n-1, moving as few as possible.

    An endpoint of weight w is among them w times. Each that stays within the first n slots keeps its slot. Newcomers
    and those from beyond fill the holes in order. For one endpoint more or less, at most two slots for each time it
    is among them change.
    """
    if not before:
        return tuple(endpoints)
    wanted = Counter(endpoints)
    # The newer of two equal values: what was read from the kernel can then be given up.
    own = {endpoint: endpoint for endpoint in endpoints}
    slots: list[tuple[str, int] | None] = []
    for endpoint in before[: len(endpoints)]:
        stays = wanted[endpoint] > 0
        slots.append(own[endpoint] if stays else None)
        wanted[endpoint] -= stays
    slots += [None] * (len(endpoints) - len(slots))
    homeless = wanted.elements()
    return tuple(next(homeless) if slot is None else slot for slot in slots)


@dataclass(slots=True)
class Desired:
    """The elements one table should have, kept up to date owner by owner.

    ``adopted``: the elements the kernel has at the start, consulted for the places of endpoints alone.
    ``is_noting``: whether changes are noted; else from the first ``take_edits`` on, where all is compared before.
    """

    adopted: Elements = field(default_factory=dict)
    is_noting: bool = True
    elements: dict[str, dict[Key, Element]] = field(default_factory=lambda: defaultdict(dict))
    maps: dict[str, Map] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    _owners: dict[tuple[str, str], Contender] = field(default_factory=dict)
    _claims: dict[Claim, list[Want]] = field(default_factory=dict)  # by rank; the first has the frontend
    _contested: set[Claim] = field(default_factory=set)
    _leading: set[str] = field(default_factory=set)
    _shares: Counter[tuple[str, Key]] = field(default_factory=Counter)
    _edits: dict[str, dict[Key, Change]] = field(default_factory=lambda: defaultdict(dict))
    _map_edits: dict[str, tuple[Map | None, Map | None]] = field(default_factory=dict)
    _chain_edits: dict[str, tuple[Chain | None, Chain | None]] = field(default_factory=dict)

    def update(self, owner: tuple[str, str], contender: Contender | None) -> None:
        """Let ``owner`` want what ``contender`` says and nothing else; None: nothing at all."""
        before = self._owners.pop(owner, None)
        if contender is not None:
            self._owners[owner] = contender
        held: dict[Claim, tuple[Pool, ...]] = {}  # what stands in the tables for each frontend that is touched
        for claim, _ in _frontends(before):
            wants = self._claims[claim]
            held[claim] = wants[0][1]
            assert before is not None
            del wants[bisect.bisect_left(wants, before.rank, key=_rank)]
        for claim, pools in _frontends(contender):
            wants = self._claims.setdefault(claim, [])
            held.setdefault(claim, wants[0][1] if wants else ())
            assert contender is not None
            bisect.insort(wants, (contender.rank, pools), key=_rank)
            self._leading.add(claim[0])
        # All that is given up is cleared before anything is filled: two pools may lie in one slot map.
        for claim, pools in held.items():
            self._vacate(claim, pools)
        for claim in held:
            self._settle(claim)
        self._share(contender.shared if contender else (), +1)
        self._share(before.shared if before else (), -1)
        for chain in _own(before.chains if before else (), contender.chains if contender else ()):
            _note(self.chains, self._chain_edits, *chain)
        for declared in _own(before.maps if before else (), contender.maps if contender else ()):
            _note(self.maps, self._map_edits, *declared)

    def put(self, elements: Iterable[tuple[str, Element]]) -> None:
        """Want elements that belong to the table itself."""
        for name, element in elements:
            self._set(name, element.key, element)

    def contender(self, owner: tuple[str, str]) -> Contender | None:
        """What this owner wants now."""
        return self._owners.get(owner)

    def holder(self, name: str, key: Key) -> tuple[str, str] | None:
        """Who has the frontend that this key of this verdict map belongs to; None if nobody wants it.

        A frontend has one key in all its maps, and the claim is in one of few maps that lead. Another thread may ask:
        while an owner is being updated, None may be said of what it has.
        """
        for leading in (name, *tuple(self._leading)):
            for rank, pools in self._claims.get((leading, key), ())[:1]:
                if any((pool.map, pool.key) == (name, key) for pool in pools):
                    return rank[1:]
        return None

    def contests(self) -> tuple[Contest, ...]:
        """Every frontend that more than one owner wants, sorted; costs the contested ones."""
        lost = ((c, self._claims[c][0][0], rank) for c in self._contested for rank, _ in self._claims[c][1:])
        return tuple(sorted((Contest(*c, h, r) for c, h, r in lost), key=lambda c: (c.loser, c.map, str(c.key))))

    def take_edits(self) -> Edits:
        """What has changed since the last call; an element that is back to what it was is not among it."""
        edits = self.edits()
        self.is_noting = True
        self._edits, self._map_edits, self._chain_edits = defaultdict(dict), {}, {}
        return edits

    def edits(self) -> Edits:
        """What ``take_edits`` would give."""
        elements: ElementEdits = {
            name: changed for name, pairs in self._edits.items() if (changed := _different(pairs))
        }
        return Edits(elements, _different(self._map_edits), _different(self._chain_edits))

    def _wanted(self, claim: Claim) -> tuple[Pool, ...]:
        """The frontend of the first in line; nothing if nobody is."""
        wants = self._claims[claim]
        return wants[0][1] if wants else ()

    def _vacate(self, claim: Claim, pools: tuple[Pool, ...]) -> None:
        """Clear what a frontend has and will not have."""
        wanted = self._wanted(claim)
        maps, places = {pool.map for pool in wanted}, {(pool.slots, pool.first) for pool in wanted}
        for pool in pools:
            if pool.map not in maps:
                self._set(pool.map, pool.key, None)
            if (pool.slots, pool.first) not in places:
                self._fill(replace(pool, endpoints=()))

    def _settle(self, claim: Claim) -> None:
        """Give a frontend to the first in line, and its slots to that one's endpoints."""
        wanted = self._wanted(claim)
        if len(self._claims[claim]) > 1:
            self._contested.add(claim)
        else:
            self._contested.discard(claim)
        if not wanted:
            del self._claims[claim]
            return
        for pool in wanted:
            self._set(pool.map, pool.key, Element(pool.key, pool.verdict, pool.comment))
            self._fill(pool)

    def _fill(self, pool: Pool) -> None:
        if not pool.slots:
            return
        before = tuple(_slots(self.elements[pool.slots], pool))
        placed = pool.endpoints
        if not pool.fixed:
            placed = place(before or tuple(_slots(self.adopted.get(pool.slots, {}), pool)), placed)
        for slot, value in enumerate(placed, pool.first):
            key = (*pool.key, slot)
            self._set(pool.slots, key, Element(key, value, pool.comment))
        for slot in range(pool.first + len(placed), pool.first + len(before)):
            self._set(pool.slots, (*pool.key, slot), None)

    def _share(self, shared: Iterable[tuple[str, Element]], step: int) -> None:
        """Count an owner more or less. Few elements have several, so only those beyond the first are counted."""
        for name, element in shared:
            share = name, element.key
            if step > 0:
                self._shares[share] += element.key in self.elements[name]
                self._set(name, element.key, element)
            elif not self._shares[share]:
                self._set(name, element.key, None)
            else:
                self._shares[share] -= 1
            if not self._shares[share]:
                del self._shares[share]

    def _set(self, name: str, key: Key, element: Element | None) -> None:
        elements = self.elements[name]
        before = elements.get(key)
        if element == before:
            return
        if self.is_noting:
            first = self._edits[name].get(key, (before, None))[0]
            self._edits[name][key] = first, element
        if element is None:
            del elements[key]
        else:
            elements[key] = element


def _own(before: Iterable[Owned], after: Iterable[Owned]) -> Iterator[tuple[str, Owned | None]]:
    """By name: what an owner has now, None for what it has no longer."""
    now: dict[str, Owned | None] = dict.fromkeys(owned.name for owned in before)
    now |= {owned.name: owned for owned in after}
    yield from now.items()


def _note(
    by_name: dict[str, Owned],
    edits: dict[str, tuple[Owned | None, Owned | None]],
    name: str,
    owned: Owned | None,
) -> None:
    """Hold a map or chain by its name, None: no longer, and note what that changes."""
    before = by_name.pop(name, None)
    if owned is not None:
        by_name[name] = owned
    edits[name] = edits.get(name, (before, None))[0], owned


def _different(
    pairs: Mapping[Name, tuple[Changed | None, Changed | None]],
) -> dict[Name, tuple[Changed | None, Changed | None]]:
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _frontends(contender: Contender | None) -> Iterator[tuple[Claim, tuple[Pool, ...]]]:
    for pools in contender.frontends if contender else ():
        yield (pools[0].map, pools[0].key), pools


def _rank(want: Want) -> Rank:
    return want[0]


def _slots(elements: Mapping[Key, Element], pool: Pool) -> Iterator[tuple[str, int]]:
    """What stands in the slots of a pool, from the first one up to the first empty one."""
    slot = pool.first
    while (element := elements.get((*pool.key, slot))) is not None:
        assert isinstance(element.value, tuple)  # the values of a slot map
        yield element.value
        slot += 1
