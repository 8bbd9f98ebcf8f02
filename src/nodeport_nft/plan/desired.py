"""What one table should hold, kept up to date owner by owner."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.plan.edits import Change, Comparing, Edits, ElementEdits
from nodeport_nft.plan.views import SetView, SlotsView, VerdictsView, slots_of, verdict_of
from nodeport_nft.ruleset import Chain, Contender, Element, Elements, Key, Map, Pool, Rank, Shared

Owned = TypeVar("Owned", Map, Chain)
Changed = TypeVar("Changed", Element, Map, Chain)
Name = TypeVar("Name", Key, str)


class Contest(Struct, frozen=True):
    """A frontend that ``loser`` wants and ``holder`` has."""

    map: str
    key: Key
    holder: Rank
    loser: Rank


Claim = tuple[str, Key]
"""What owners compete for: a verdict map and a key."""

Want = tuple[Rank, tuple[Pool, ...]]
"""Who wants a frontend, and what it would be."""

_Slots = dict[int, dict[Key, Pool]]
"""By first slot and key: pools the endpoints of which stand in the order of their slots."""


def place(before: Sequence[tuple[str, int]], endpoints: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Assign endpoints to slots 0 to n-1, moving as few as possible.

    An endpoint of weight w is among them w times. Each that stays within the first n slots keeps its slot. Newcomers
    and those from beyond fill the holes in order. For one endpoint more or less, at most two slots for each time it
    is among them change.
    """
    if not before or before == endpoints:
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


class Desired(Struct):
    """The elements one table should have, kept up to date owner by owner.

    ``adopted``: the elements the kernel has at the start, consulted for the places of endpoints alone.
    ``is_noting``: whether changes are noted; else from the first ``take_edits`` on, where all is compared before.

    What stands in verdict and slot maps is kept as the pools that it comes from: ``elements`` makes elements of it.
    """

    adopted: Elements = field(default_factory=dict)
    is_noting: bool = True
    maps: dict[str, Map] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    _owners: dict[tuple[str, str], Contender] = field(default_factory=dict)
    _claims: dict[str, dict[Key, Want]] = field(default_factory=lambda: defaultdict(dict))  # who has it, by claim
    _waiting: dict[Claim, list[Want]] = field(default_factory=dict)  # who wants it besides, by rank
    _verdicts: dict[str, dict[Key, Pool]] = field(default_factory=lambda: defaultdict(dict))  # by verdict map
    _slots: dict[str, _Slots] = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))  # by slot map
    _sets: dict[str, dict[Key, None]] = field(default_factory=lambda: defaultdict(dict))
    _shares: dict[Shared, int] = field(default_factory=dict)  # owners beyond the first
    _edits: dict[str, dict[Key, Change]] = field(default_factory=lambda: defaultdict(dict))
    _map_edits: dict[str, tuple[Map | None, Map | None]] = field(default_factory=dict)
    _chain_edits: dict[str, tuple[Chain | None, Chain | None]] = field(default_factory=dict)

    @property
    def elements(self) -> Mapping[str, Mapping[Key, Element]]:
        """The elements by map or set name and key, as they are at any time; nothing under any other name."""
        found: dict[str, Mapping[Key, Element]] = defaultdict(dict)
        found.update((name, VerdictsView(pools)) for name, pools in tuple(self._verdicts.items()))
        found.update((name, SlotsView(pools)) for name, pools in tuple(self._slots.items()))
        found.update((name, SetView(keys)) for name, keys in tuple(self._sets.items()))
        return found

    def update(self, owner: tuple[str, str], contender: Contender | None) -> None:
        """Let ``owner`` want what ``contender`` says and nothing else; None: nothing at all."""
        before = self._owners.pop(owner, None)
        if before is None and contender is None:
            return
        if contender is not None:
            self._owners[owner] = contender
        stood: dict[Claim, tuple[Pool, ...]] = {}  # what is in the tables for each frontend that is touched
        if before is not None:
            for claim, _ in _frontends(before):
                stood[claim] = self._withdraw(claim, before.rank)
        if contender is not None:
            for claim, pools in _frontends(contender):
                stood.setdefault(claim, self._claim(claim, (contender.rank, pools)))
        # All that is given up is cleared before anything is filled: two pools may lie in one slot map.
        for claim, pools in stood.items():
            if pools:
                self._vacate(claim, pools)
        for claim in stood:
            for pool in self._wanted(claim):
                self._put_verdict(pool.map, pool.key, pool)
                self._fill(pool)
        self._share(contender.shared if contender else ())
        self._share_no_longer(before.shared if before else ())
        self._note_own(before, contender)

    def put(self, elements: Iterable[Shared]) -> None:
        """Want elements that belong to the table itself."""
        for name, key in elements:
            self._add(name, key)

    def contender(self, owner: tuple[str, str]) -> Contender | None:
        """What this owner wants now."""
        return self._owners.get(owner)

    def holder(self, name: str, key: Key) -> tuple[str, str] | None:
        """Who has the frontend that this key of this verdict map belongs to; None if nobody wants it.

        A frontend has one key in all its maps, and the claim is in one of few maps that lead. Another thread may ask:
        while an owner is being updated, None may be said of what it has.
        """
        for leading in (name, *tuple(self._claims)):
            want = self._claims.get(leading, {}).get(key)
            if want is not None and any((pool.map, pool.key) == (name, key) for pool in want[1]):
                return want[0][1:]
        return None

    def contests(self) -> tuple[Contest, ...]:
        """Every frontend that more than one owner wants, sorted; costs the contested ones."""
        lost = (
            Contest(name, key, self._claims[name][key][0], rank)
            for (name, key), wants in self._waiting.items()
            for rank, _ in wants
        )
        return tuple(sorted(lost, key=lambda c: (c.loser, c.map, str(c.key))))

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

    # --- who has which frontend ---------------------------------------------------------------------------

    def _wanted(self, claim: Claim) -> tuple[Pool, ...]:
        """The frontend of the first in line; nothing if nobody is."""
        want = self._claims[claim[0]].get(claim[1])
        return want[1] if want else ()

    def _claim(self, claim: Claim, want: Want) -> tuple[Pool, ...]:
        """Let somebody more be in line for a frontend; what stood there, nothing if nobody was."""
        name, key = claim
        holder = self._claims[name].get(key)
        if holder is None:
            self._claims[name][key] = want
            return ()
        waiting = self._waiting.setdefault(claim, [])
        if want[0] < holder[0]:
            self._claims[name][key] = want
            waiting.insert(0, holder)
        else:
            bisect.insort(waiting, want, key=_rank)
        return holder[1]

    def _withdraw(self, claim: Claim, rank: Rank) -> tuple[Pool, ...]:
        """Let somebody be in line no longer; what stood there."""
        name, key = claim
        holder, waiting = self._claims[name][key], self._waiting.get(claim, [])
        if holder[0] != rank:
            del waiting[bisect.bisect_left(waiting, rank, key=_rank)]
        elif waiting:
            self._claims[name][key] = waiting.pop(0)
        else:
            del self._claims[name][key]
        if not waiting:
            self._waiting.pop(claim, None)
        return holder[1]

    # --- what stands in the maps --------------------------------------------------------------------------

    def _vacate(self, claim: Claim, pools: tuple[Pool, ...]) -> None:
        """Clear what a frontend has and will not have."""
        wanted = self._wanted(claim)
        maps, places = {pool.map for pool in wanted}, {(pool.slots, pool.first) for pool in wanted}
        for pool in pools:
            if pool.map not in maps:
                self._put_verdict(pool.map, pool.key, None)
            if pool.slots and (pool.slots, pool.first) not in places:
                self._put_slots(pool.slots, pool.first, pool.key, None)

    def _fill(self, pool: Pool) -> None:
        """Give its endpoints their slots."""
        if not pool.slots:
            return
        placed = pool
        if not pool.fixed:
            there = self._slots[pool.slots][pool.first].get(pool.key)
            if pool.slots in self.adopted and (there is None or not self.is_noting):
                # Also where something stands: that is of somebody who wants the frontend, too, and will not have it.
                before = _endpoints(self.adopted[pool.slots], pool)
            else:
                before = there.endpoints if there else ()
            endpoints = place(before, pool.endpoints)
            if endpoints != pool.endpoints:
                placed = replace(pool, endpoints=endpoints)
        self._put_slots(pool.slots, pool.first, pool.key, placed if placed.endpoints else None)

    def _put_verdict(self, name: str, key: Key, pool: Pool | None) -> None:
        pools = self._verdicts[name]
        if self.is_noting:
            before = pools.get(key)
            self._note(name, key, verdict_of(before) if before else None, verdict_of(pool) if pool else None)
        _put(pools, key, pool)

    def _put_slots(self, name: str, first: int, key: Key, pool: Pool | None) -> None:
        pools = self._slots[name][first]
        if self.is_noting:
            for old, new in zip_longest(slots_of(pools.get(key)), slots_of(pool)):
                self._note(name, (new or old).key, old, new)
        _put(pools, key, pool)

    def _add(self, name: str, key: Key) -> None:
        keys = self._sets[name]
        if self.is_noting and key not in keys:
            self._note(name, key, None, Element(key))
        keys[key] = None

    def _share(self, shared: Iterable[Shared]) -> None:
        """Count one owner more. Few elements have several, so only those beyond the first are counted."""
        for share in shared:
            name, key = share
            if key in self._sets[name]:
                self._shares[share] = self._shares.get(share, 0) + 1
            else:
                self._add(name, key)

    def _share_no_longer(self, shared: Iterable[Shared]) -> None:
        for share in shared:
            name, key = share
            more = self._shares.pop(share, 0)
            if more > 1:
                self._shares[share] = more - 1
            elif not more:
                del self._sets[name][key]
                if self.is_noting:
                    self._note(name, key, Element(key), None)

    def _note(self, name: str, key: Key, before: Element | None, after: Element | None) -> None:
        if before != after:
            edits = self._edits[name]
            edits[key] = edits[key][0] if key in edits else before, after

    def _note_own(self, before: Contender | None, after: Contender | None) -> None:
        """Hold an owner's maps and chains, which are nobody else's."""
        for chain in _own(before.chains if before else (), after.chains if after else ()):
            _note(self.chains, self._chain_edits, *chain)
        for declared in _own(before.maps if before else (), after.maps if after else ()):
            _note(self.maps, self._map_edits, *declared)


def _put(pools: dict[Key, Pool], key: Key, pool: Pool | None) -> None:
    if pool is None:
        pools.pop(key, None)
    else:
        pools[key] = pool


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


def _frontends(contender: Contender) -> Iterator[tuple[Claim, tuple[Pool, ...]]]:
    for pools in contender.frontends:
        yield (pools[0].map, pools[0].key), pools


def _rank(want: Want) -> Rank:
    return want[0]


def _endpoints(elements: Mapping[Key, Element], pool: Pool) -> tuple[tuple[str, int], ...]:
    """What stands in the slots of a pool, from the first one up to the first empty one."""
    if isinstance(elements, Comparing):
        return elements.run(pool)
    endpoints = []
    slot = pool.first
    while (element := elements.get((*pool.key, slot))) is not None:
        assert isinstance(element.value, tuple)  # the values of a slot map
        endpoints.append(element.value)
        slot += 1
    return tuple(endpoints)
