"""Which Services have something: an address, a label. Most things are had by one alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

from nodeport_nft.model import ObjectName

Thing = TypeVar("Thing", bound="bytes | tuple[str, str, str]")


class Owners(Generic[Thing]):
    """Services by what they have; as long as there are things that somebody has.

    One alone needs no set: at 100,000 Services those would be 22 MB.
    """

    def __init__(self) -> None:
        self._by_thing: dict[Thing, ObjectName | set[ObjectName]] = {}

    def __len__(self) -> int:
        return len(self._by_thing)

    def of(self, thing: Thing) -> Collection[ObjectName]:
        """Those that have it."""
        found = self._by_thing.get(thing, ())
        return (found,) if isinstance(found, ObjectName) else found

    def add(self, thing: Thing, owner: ObjectName) -> None:
        """Let one more have it."""
        others = self._by_thing.setdefault(thing, owner)
        if isinstance(others, set):
            others.add(owner)
        elif others != owner:
            self._by_thing[thing] = {others, owner}

    def discard(self, thing: Thing, owner: ObjectName) -> None:
        """Let one have it no longer, if it had it."""
        others = self._by_thing.get(thing)
        if isinstance(others, set):
            others.discard(owner)
        if others in (owner, set()):
            del self._by_thing[thing]
