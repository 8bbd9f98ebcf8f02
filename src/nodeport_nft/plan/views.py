"""A table's desired elements, seen as elements: made when somebody looks, and not kept.

Ten elements and more come from one frontend, and all that they say stands in its pools already: kept as elements they
were most of the daemon's memory. So a map is kept by its frontends, and these views make an ``Element`` of what is
asked for. A view shows what there is at the time, like one of a dict, and nothing can be changed through it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from itertools import zip_longest

from nodeport_nft.plan.edits import Change, Comparing, Endpoints, differing
from nodeport_nft.ruleset import Element, InPools, Key, Pool

Pools = Mapping[Key, Pool]
"""By the key of the frontend."""


class ElementsView(Comparing):
    """One map's elements by their keys."""

    @abstractmethod
    def made(self) -> Iterator[Element]:
        """Every element, made as it comes."""

    def __iter__(self) -> Iterator[Key]:
        return (element.key for element in self.made())

    def items(self) -> ItemsView[Key, Element]:
        """Key and element, of one making."""
        return _Items(self)

    def values(self) -> ValuesView[Element]:
        """The elements."""
        return _Values(self)

    def differing(self, want: Mapping[Key, Element]) -> dict[Key, Change]:
        """As ``Comparing`` has it."""
        return differing(self, want)

    def run(self, pool: Pool) -> Endpoints:  # noqa: ARG002 (that of SlotsView)
        """As ``Comparing`` has it: in a map without slots there are none."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"


class _Items(ItemsView[Key, Element]):
    _mapping: ElementsView

    def __iter__(self) -> Iterator[tuple[Key, Element]]:
        return ((element.key, element) for element in self._mapping.made())


class _Values(ValuesView[Element]):
    _mapping: ElementsView

    def __iter__(self) -> Iterator[Element]:
        return self._mapping.made()


class SetView(ElementsView):
    """The elements of a set, which are keys and nothing else."""

    def __init__(self, keys: Mapping[Key, None]) -> None:
        self._keys = keys

    def __getitem__(self, key: Key) -> Element:
        self._keys[key]
        return Element(key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def made(self) -> Iterator[Element]:
        return map(Element, self._keys)


class VerdictsView(ElementsView):
    """The elements of a verdict map: one a pool."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    def __getitem__(self, key: Key) -> Element:
        return verdict_of(self._pools[key])

    def __contains__(self, key: object) -> bool:
        return key in self._pools

    def __len__(self) -> int:
        return len(self._pools)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._pools)

    def made(self) -> Iterator[Element]:
        return map(verdict_of, self._pools.values())


class SlotsView(ElementsView, InPools):
    """The elements of a slot map: one for each slot of the pools, by the number of their first slot."""

    def __init__(self, pools: Mapping[int, Pools]) -> None:
        self._pools = pools

    def __getitem__(self, key: Key) -> Element:
        *_, slot = key
        for first, pools in self._pools.items():
            pool = pools.get(key[:-1])
            if pool is not None and isinstance(slot, int) and first <= slot < first + len(pool.endpoints):
                return Element(key, pool.endpoints[slot - first], pool.comment)
        raise KeyError(key)

    def __len__(self) -> int:
        return sum(len(pool.endpoints) for pool in self.pools())

    def made(self) -> Iterator[Element]:
        for pool in self.pools():
            yield from slots_of(pool)

    def differing(self, want: Mapping[Key, Element]) -> dict[Key, Change]:
        """As ``Comparing`` has it; of what is equal no element is made."""
        if not isinstance(want, SlotsView):
            return differing(self, want)
        changed: dict[Key, Change] = {}
        for first in {**self._pools, **want._pools}:
            have, now = self._pools.get(first, {}), want._pools.get(first, {})
            for key in {**have, **now}:
                old, new = have.get(key), now.get(key)
                if old and new and (old.endpoints, old.comment) == (new.endpoints, new.comment):
                    continue
                for one, other in zip_longest(slots_of(old), slots_of(new)):
                    if one != other:
                        changed[(one or other).key] = one, other
        return changed

    def run(self, pool: Pool) -> Endpoints:
        """As ``Comparing`` has it."""
        there = self._pools.get(pool.first, {}).get(pool.key)
        if there is None:
            return ()
        return pool.endpoints if pool.endpoints == there.endpoints else there.endpoints

    def pools(self) -> Iterable[Pool]:
        """As ``InPools`` has it."""
        return (pool for pools in self._pools.values() for pool in pools.values())


def verdict_of(pool: Pool) -> Element:
    """A pool's element of its verdict map."""
    return Element(pool.key, pool.verdict, pool.comment)


def slots_of(pool: Pool | None) -> Iterator[Element]:
    """A pool's elements of its slot map, given that its endpoints stand in the order of their slots."""
    if pool is not None:
        key, comment = pool.key, pool.comment
        for slot, endpoint in enumerate(pool.endpoints, pool.first):
            yield Element((*key, slot), endpoint, comment)
