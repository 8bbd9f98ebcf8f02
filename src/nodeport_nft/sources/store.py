"""The SQLite store as a source: what has changed since the last look, told within milliseconds and without polling.

inotify(7) tells of the store's directory. A writer of ours touches the file when its commit can be seen
(``Store._ring``). Should it have been killed in between, or be another program, the log that it has written to says
that something is about to change; then the store is looked at again a few times, at growing distances.

Deletions are told by tombstones, each with a resource version; an object that has changed twice is told once.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch
from msgspec.structs import replace

from nodeport_nft.agenda import Backoff
from nodeport_nft.config import Config
from nodeport_nft.model import Ref, Value
from nodeport_nft.settings import Validate
from nodeport_nft.sources.handover import Finished, Handover
from nodeport_nft.sources.inotify import is_exhausted, open_inotify, unwatched
from nodeport_nft.store import LOST, Damaged, Store, StoreError, file_identity, told_strange
from nodeport_nft.store.api import Change, Changes
from nodeport_nft.store.opening import store_path

_LOOKS = (0.05, 0.2, 1.0, 5.0)
"""Seconds after the log was last written to at which the store is looked at again."""

_FILES = Mask.CREATE | Mask.DELETE | Mask.MOVED_TO | Mask.MOVED_FROM
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT
_EVENTS = Mask.MODIFY | Mask.ATTRIB | _FILES | Mask.DELETE_SELF | Mask.MOVE_SELF
_AGAIN_SECONDS, _LONGEST_SECONDS = 1.0, 5.0
"""How often to look at a store that was taken away, at first and later, or cannot be watched."""


class StoreSource:
    """One store, as ``Source`` has it. Unknown fields are what it warns of, those of each object once.

    It never writes to the store, not even what SQLite would tidy up: by then another file may stand in its place.
    """

    def __init__(self, config: Config, handover: Handover | None = None) -> None:
        """Opens the store, and watches it from now on. Raises StoreError, OSError.

        ``handover``: from who keeps this store as manifests say. Where there is no store then, one without an object
        is made; manifests may have none yet.
        """
        self._path = Path(store_path(config)).absolute()
        make = handover is not None
        # Of manifests it is told as they are read, and there is nothing else in their store.
        self._config = dataclasses.replace(config, validate=Validate.ignore) if make else config
        self._handover = handover or Handover()
        self._version = -1
        self._has_told = False
        self._damaged: dict[Ref, Damaged] = {}
        self._strange: dict[Ref, tuple[str, ...]] = {}
        if make and not self._path.exists():
            Store(self._path, ranges=config.ranges).close()
        self._store: Store | None = self._open()
        self._file = file_identity(self._path)
        self._inotify: Inotify | None = None
        self._watch: Watch | None = None
        self._unwatched = ""
        self._begin_watch()
        self._fault = ""  # why it could not be read the last time
        self._noticed = False
        self._backoff = Backoff(_LONGEST_SECONDS, first=_AGAIN_SECONDS)
        self._looks: Iterator[float] = iter(())

    async def run(self) -> None:
        """Nothing: the kernel notes what happens to the file, and ``take`` reads what there is."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """Watch no longer."""
        if self._inotify:
            self._inotify.close()
        if self._store:
            self._store.close()

    def take(self) -> Changes:
        """What has changed since the last time; at first, and where there is another file, all there is.

        A store that is away or cannot be read is one of the ``problems``; its last state stays. Raises StoreError
        where nothing was ever read: there is no last state.
        """
        self._noticed = False
        try:
            changes = self._read()
        except (StoreError, OSError) as error:
            if not self._has_told:
                raise StoreError(str(error)) from error
            self._backoff.failed()
            self._fault = f"{error}; what was read last is served"
            self._version = -1
            self._drop()  # what SQLite remembers of it may be of what it was
            self._handover.lost()
            return Changes()
        self._has_told = True
        self._fault = ""
        self._backoff.succeeded()
        return changes

    def forget(self) -> None:
        """Read all there is the next time: what was read last may not have come through."""
        self._version = -1

    def problems(self) -> tuple[str, ...]:
        """What cannot be read."""
        faults = filter(None, (self._fault, self._unwatched))
        told = (f"{self._damaged[ref].complaint(self._path)}; until then it stays as it was" for ref in self._damaged)
        return (*faults, *sorted(told))

    async def changed(self) -> None:
        """Return when there may be something to take; what is being handed over is waited for."""
        if not self._noticed:
            await self._notice()
            self._noticed = True  # until it is taken: who is cancelled here may come back
        await self._handover.idle.wait()

    async def _notice(self) -> None:
        while True:
            untold = self._fault or self._watch is None
            pause = (self._backoff.pause or _AGAIN_SECONDS) if untold else next(self._looks, None)
            try:
                async with asyncio.timeout(pause):  # wait_for forgets a cancellation when an event comes with it
                    event = await self._event()
            except TimeoutError:
                if self._fault or self._watch is None or self._is_news():
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
        # Not Inotify.get: it reads events into a future, and they are lost when the wait for that is cancelled.
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        if self._inotify is None:  # until it is time to look by ourselves
            await ready.wait()
        assert self._inotify is not None
        while (event := self._inotify.sync_get()) is None:
            ready.clear()
            loop.add_reader(self._inotify.fd, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(self._inotify.fd)
        return event

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
        is_another = file_identity(self._path) != self._file
        if self._store is None or is_another or self._store.is_frozen:
            if not self._path.exists():
                raise StoreError(f"{self._path}: the store is gone; put it back, or end the daemon")
            self._drop()
            if is_another:
                self._version = -1
            self._file = file_identity(self._path)
            self._store = self._open()
        if self._is_emptied():
            raise StoreError(f"{self._path}: {LOST}")
        with self._store.reading():  # a write of several objects is read as a whole, or not at all
            return self._read_news(self._store)

    def _read_news(self, store: Store) -> Changes:
        version = store.resource_version()
        finished = self._handover.take(self._file)
        if version == self._version:
            return Changes()
        before, self._version = self._version, version
        if not 0 <= before < version:  # it goes back where a backup has been restored into the file
            self._damaged.clear()
            changes = self._changes(store.values(), whole=True)
            return replace(changes, warnings=self._warnings(store, (*self._strange, *store.strange)))
        news = self._news(store, before, finished)
        changes = self._changes(news.items())
        return replace(changes, warnings=self._warnings(store, news))

    def _news(
        self, store: Store, since: int, finished: Mapping[Ref, Finished]
    ) -> dict[Ref, tuple[Value, ...] | Damaged]:
        """What has changed since this version; of what was handed over at its present version, no row is read."""
        news: dict[Ref, tuple[Value, ...] | Damaged] = {}
        for ref, version in store.changed_since(since).items():
            own = finished.get(ref)
            news[ref] = own.values if own and own.version == version else store.value(ref)
        return news

    def _warnings(self, store: Store, refs: Iterable[Ref]) -> tuple[str, ...]:
        """What is new of the unknown fields of these objects."""
        news: dict[Ref, tuple[str, ...]] = {}
        for ref in dict.fromkeys(refs):
            before, now = self._strange.pop(ref, ()), store.strange.get(ref, ())
            if now:
                self._strange[ref] = now
            if fresh := tuple(text for text in now if text not in before):
                news[ref] = fresh
        return told_strange(news, self._path)

    def _changes(self, found: Iterable[tuple[Ref, tuple[Value, ...] | Damaged]], *, whole: bool = False) -> Changes:
        changes = []
        for ref, values in found:
            if self._damaged:
                self._damaged.pop(ref, None)
            if isinstance(values, Damaged):
                self._damaged[ref] = values
            else:
                changes.append(Change(ref, values))
        unreadable = frozenset().union(*(damaged.meant for damaged in self._damaged.values()))
        return Changes(tuple(changes), whole, unreadable)

    def _drop(self) -> None:
        if self._store:
            self._store.close()
        self._store = None

    def _is_emptied(self) -> bool:
        """Whether somebody has emptied the file, of which the log and what SQLite remembers say nothing."""
        try:
            return self._path.stat().st_size == 0
        except OSError:
            return False  # it is gone, which is told elsewhere

    def _is_news(self) -> bool:
        try:
            if self._store is None or self._store.is_frozen or self._is_emptied():
                return True
            return self._store.resource_version() != self._version
        except StoreError:
            return True  # `take` says what the matter is

    def _open(self) -> Store:
        return Store(self._path, ranges=self._config.ranges, reading=True, validate=self._config.validate)
