"""The objects, and what they were: one counter of revisions, and the history of all changes back to a compaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from tests.kubernetes.apiserver.kinds import KINDS, Kind

Key = tuple[str, str]
"""Namespace ("" for what has none) and name."""


class Stored(NamedTuple):
    """One version of an object: without kind and apiVersion, as lists show it, and the same as JSON."""

    key: Key
    revision: int
    value: dict[str, Any]
    encoded: bytes


class Change(NamedTuple):
    """A write: ``new`` is None where the object went, and ``last`` is then how it is shown for the last time."""

    revision: int
    kind: Kind
    old: Stored | None
    new: Stored | None
    last: Stored | None = None


def order(key: Key) -> str:
    """Where an object stands in the lists: they are in the order of the keys that etcd has."""
    return f"/{key[0]}/{key[1]}" if key[0] else f"/{key[1]}"


class Storage:
    """All objects. A write takes the next revision, and tells everybody who listens."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        """What was before this revision is not known any more."""
        self.listeners: set[Callable[[Change], None]] = set()
        self._objects: dict[Kind, dict[Key, Stored]] = {kind: {} for kind in KINDS}
        self._history: list[Change] = []

    def get(self, kind: Kind, key: Key) -> Stored | None:
        return self._objects[kind].get(key)

    def all(self, kind: Kind) -> dict[Key, Stored]:
        """What there is now."""
        return self._objects[kind]

    def at(self, kind: Kind, revision: int) -> dict[Key, Stored]:
        """What there was at a revision, which must not be before the compaction."""
        found = dict(self._objects[kind])
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            if change.kind is not kind:
                continue
            if change.old is not None:
                found[change.old.key] = change.old
            elif change.new is not None:
                del found[change.new.key]
        return found

    def since(self, kind: Kind, revision: int) -> list[Change]:
        """The changes after a revision."""
        found: list[Change] = []
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            if change.kind is kind:
                found.append(change)
        return found[::-1]

    def put(self, kind: Kind, key: Key, value: dict[str, Any]) -> Stored:
        """Write an object; its resourceVersion is set here."""
        new = self._stored(key, value)
        old = self._objects[kind].get(key)
        self._objects[kind][key] = new
        self._tell(Change(new.revision, kind, old, new))
        return new

    def remove(self, kind: Kind, key: Key) -> Stored:
        """Take an object away; how it was last, with the revision of its end."""
        old = self._objects[kind].pop(key)
        last = self._stored(key, old.value)
        self._tell(Change(last.revision, kind, old, None, last))
        return last

    def bump(self, count: int = 1) -> None:
        """Let revisions pass without a change of what is served here, as writes of other kinds do."""
        self.revision += count

    def compact(self, revision: int | None = None) -> None:
        """Forget what was before a revision, the present one if none is given."""
        self.compacted = min(self.revision, self.revision if revision is None else revision)
        self._history = [change for change in self._history if change.revision > self.compacted]

    def _stored(self, key: Key, value: dict[str, Any]) -> Stored:
        self.revision += 1
        metadata = {**value["metadata"], "resourceVersion": str(self.revision)}
        value = {**value, "metadata": metadata}
        return Stored(key, self.revision, value, msgspec.json.encode(value))

    def _tell(self, change: Change) -> None:
        self._history.append(change)
        for listener in tuple(self.listeners):
            listener(change)
