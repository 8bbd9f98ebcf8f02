"""The SQLite store as a source: what has changed since the last look, told within milliseconds and without polling.

inotify(7) tells of the store's directory. A writer of ours touches the file when its commit can be seen
(``Store._ring``). Should it have been killed in between, or be another program, the log that it has written to says
that something is about to change; then the store is looked at again a few times, at growing distances.

Deletions are told by tombstones, each with a resource version; an object that has changed twice is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

from nodeport_nft.config import Config
from nodeport_nft.manifest import Problems
from nodeport_nft.model import Node, Ref, Value
from nodeport_nft.sources.changes import Change, Changes
from nodeport_nft.sources.inotify import is_exhausted, open_inotify, unwatched
from nodeport_nft.store import Store, StoreError, file_identity

_LOOKS = (0.05, 0.2, 1.0, 5.0)
"""Seconds after the log was last written to at which the store is looked at again."""

_FILES = Mask.CREATE | Mask.DELETE | Mask.MOVED_TO | Mask.MOVED_FROM
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT
_EVENTS = Mask.MODIFY | Mask.ATTRIB | _FILES | Mask.DELETE_SELF | Mask.MOVE_SELF
_AGAIN_SECONDS = 1.0
"""How often to look at a store that was taken away or cannot be watched."""


class StoreSource:
    """One store, on the thread of its event loop. ``fault``: why it could not be read last time, "" if it could."""

    def __init__(self, config: Config) -> None:
        """Opens the store, and watches it from now on. Raises StoreError, OSError."""
        self._path = Path(config.store).absolute()
        self._config = config
        self._version = -1
        self._broken: dict[Ref, str] = {}
        self._read_once: set[Ref] = set()
        self._store: Store | None = self._open()
        self._file = file_identity(self._path)
        self._inotify: Inotify | None = None
        self._watch: Watch | None = None
        self._unwatched = ""
        self._begin_watch()
        self.fault = ""
        self._looks: Iterator[float] = iter(())

    def close(self) -> None:
        """Watch no longer."""
        if self._inotify:
            self._inotify.close()
        if self._store:
            self._store.close()

    def read(self) -> Changes:
        """What has changed since the last look; at first, and where there is another file, all there is.

        A store that is away or cannot be read is one of the ``problems``; its last state stays.
        """
        try:
            changes = self._read()
        except (StoreError, OSError) as error:
            self.fault = f"{error}; what was read last is served"
            self._version = -1
            return Changes()
        self.fault = ""
        return changes

    def forget(self) -> None:
        """Read all there is the next time: what was read last may not have come through."""
        self._version = -1

    def count(self, kind: str) -> int:
        """How many objects of a kind there are. Raises StoreError."""
        return self._store.count(kind) if self._store else 0

    def node(self, name: str) -> Node | None:
        """The Node of this name, before anything else is read. Raises StoreError."""
        values = self._store.value(Ref("Node", "", name)) if self._store else ()
        return (
            next((value for value in values if isinstance(value, Node)), None) if isinstance(values, tuple) else None
        )

    def problems(self) -> tuple[str, ...]:
        """What cannot be read."""
        faults = filter(None, (self.fault, self._unwatched))
        return (*faults, *(self._broken[ref] for ref in sorted(self._broken)))

    async def changed(self) -> None:
        """Return when there may be something to read."""
        while True:
            pause = _AGAIN_SECONDS if self.fault or self._watch is None else next(self._looks, None)
            try:
                async with asyncio.timeout(pause):  # wait_for forgets a cancellation when an event comes with it
                    event = await self._event()
            except TimeoutError:
                if self.fault or self._watch is None or self._is_news():
                    return
                continue
            if event.mask & Mask.Q_OVERFLOW:
                return  # whatever has happened
            if event.mask & _GONE:
                self._watch = None  # what is at its place by now is another directory
                return
            name = str(event.name or "")
            if name == f"{self._path.name}-wal":
                self._looks = iter(_LOOKS)
            elif name in (self._path.name, "") and (event.mask & _FILES or self._is_news()):
                return

    async def _event(self) -> Event:
        if self._inotify is None:  # until it is time to look by ourselves
            await asyncio.Event().wait()
        assert self._inotify is not None
        return await self._inotify.get()

    def _begin_watch(self) -> None:
        """Watch the store's directory; where the system has no watches left, that is a problem, and we look often."""
        try:
            self._inotify = self._inotify or open_inotify()
            self._watch = self._inotify.add_watch(self._path.parent, _EVENTS)
        except OSError as error:
            if not is_exhausted(error):
                raise
            self._unwatched = unwatched(self._path, error, _AGAIN_SECONDS)
        else:
            self._unwatched = ""

    def _read(self) -> Changes:
        if self._watch is None:
            self._begin_watch()
        if self._store is None or file_identity(self._path) != self._file:
            if not self._path.exists():
                raise StoreError(f"{self._path}: the store is gone; put it back, or end the daemon")
            if self._store:
                self._store.close()
            self._store, self._version = None, -1
            self._store, self._file = self._open(), file_identity(self._path)
        with self._store.reading():  # a write of several objects is read as a whole, or not at all
            return self._read_news(self._store)

    def _read_news(self, store: Store) -> Changes:
        version = store.resource_version()
        if version == self._version:
            return Changes()
        before, self._version = self._version, version
        if not 0 <= before < version:  # it goes back where a backup has been restored into the file
            self._broken.clear()
            return self._changes(store.values(), whole=True)
        refs = [(Ref(c.kind, c.namespace, c.name), c.deleted) for c in store.changes_since(before)]
        return self._changes((ref, () if deleted else store.value(ref)) for ref, deleted in refs)

    def _changes(self, found: Iterable[tuple[Ref, tuple[Value, ...] | Problems]], *, whole: bool = False) -> Changes:
        changes = []
        for ref, values in found:
            self._broken.pop(ref, None)
            if isinstance(values, Problems):
                state = "is served as it was last" if ref in self._read_once else "is not served"
                self._broken[ref] = f"{values}; it {state}"
            else:
                changes.append(Change(ref, values))
                self._read_once.add(ref)
        return Changes(tuple(changes), whole, frozenset(self._broken))

    def _is_news(self) -> bool:
        try:
            return self._store is None or self._store.resource_version() != self._version
        except StoreError:
            return True  # `read` says what the matter is

    def _open(self) -> Store:
        return Store(self._path, ranges=self._config.ranges)
