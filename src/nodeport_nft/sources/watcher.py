"""When something changes on the way to the manifests: inotify watches, mounts, and looks where there are no watches.

Sources: inotify(7); proc(5) on polling /proc/self/mountinfo, because mounting causes no inotify event.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from asyncinotify import Event, Inotify, Mask, Watch

from nodeport_nft.sources.aside import Aside, Work
from nodeport_nft.sources.inotify import open_inotify, unwatched
from nodeport_nft.sources.survey import GONE, Entry, Stamp, Survey, Touched
from nodeport_nft.text.files import is_manifest

QUIET_SECONDS = 0.02
"""A burst of events has ended when none has come for so long."""

LONGEST_SECONDS = 0.5
"""A burst that goes on for longer is looked into all the same."""

DOUBT_SECONDS = 1.0
"""How long a file must stay as it is, to count as complete without word of its writer."""

_DIRECTORY = (
    Mask.CLOSE_WRITE
    | Mask.ATTRIB
    | Mask.CREATE
    | Mask.DELETE
    | Mask.MOVED_FROM
    | Mask.MOVED_TO
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
)
_FILE = Mask.CLOSE_WRITE  # of a file that may be mounted alone or have other names: its directory is told of nothing


class _Watched(NamedTuple):
    """The watches by their numbers, each with all places that it is for; the unwatched; what could not be watched."""

    watches: dict[int, tuple[Watch, list[str]]]
    vanished: set[str]
    refused: tuple[str, OSError] | None


class Watcher:
    """Watches what a survey names, and gathers where something happened. Belongs to one event loop."""

    def __init__(self, what: str) -> None:
        """``what`` is watched, for messages."""
        self._what = what
        self._inotify: Inotify | None = None
        self._started = False
        self._mounts: tuple[select.epoll, BinaryIO] | None = None
        self._watches: dict[int, tuple[Watch, list[str]]] = {}
        self._survey = Survey()
        self._touched = Touched()
        self._woken = asyncio.Event()
        self._doubted: dict[Entry, Stamp] = {}
        self._last = 0.0
        self.problems: tuple[str, ...] = ()
        """Why some changes will not be noticed at once: look at everything now and then."""

    def start(self) -> None:
        """Lets events come in from now on; those since the first ``watch`` come first. To be closed."""
        loop = asyncio.get_running_loop()
        self._started = True
        self._listen()
        # The loop waits for readable files, which this one always is; epoll can be asked for a change alone.
        try:
            table = Path("/proc/self/mountinfo").open("rb")  # noqa: SIM115 (closed in close)
        except OSError:  # no /proc here, or no descriptor: mounts are seen with the next event
            return
        try:
            changes = select.epoll()
        except OSError:
            table.close()
            return
        changes.register(table.fileno(), select.EPOLLPRI)
        loop.add_reader(changes.fileno(), self._mounted, changes)
        self._mounts = changes, table
        self.wake()  # for what was mounted before

    def close(self) -> None:
        """Ends all watches."""
        self._started = False
        self._pause()
        if self._inotify is not None:
            self._inotify.close()
        if self._mounts is not None:
            asyncio.get_running_loop().remove_reader(self._mounts[0].fileno())
            for file in self._mounts:
                file.close()

    def wake(self) -> None:
        """Ends the wait in ``changed``, as an event would."""
        self._last = asyncio.get_running_loop().time()
        self._woken.set()

    def touch(self, reals: Iterable[str]) -> None:
        """Something may have happened at these real paths, and below them."""
        for real in reals:
            directory, _, name = real.rpartition("/")
            self._touched.names.add((directory or "/", name))
            self._touched.places.add(real)
        self.wake()

    def give_back(self, touched: Touched) -> None:
        """What was taken has not been looked at."""
        self._touched.add(touched)

    async def changed(self, seconds: float | None) -> None:
        """Waits until something has happened and the burst has ended; at most ``seconds`` for its beginning."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        loop = asyncio.get_running_loop()
        limit = loop.time() + LONGEST_SECONDS
        while (rest := min(self._last + QUIET_SECONDS, limit) - loop.time()) > 0:
            await asyncio.sleep(rest)

    def take(self) -> Touched:
        """Where something has happened since this was last called."""
        self._woken.clear()
        touched, self._touched = self._touched, Touched()
        return touched

    async def watch(self, survey: Survey, aside: Aside) -> set[str]:
        """Watches what ``survey`` names and nothing else; the directories that were not watched before.

        What happened in these before they were watched was missed: look again. Where the system has no watches left,
        that is one of the ``problems``. Raises what ``aside`` does; then all is watched that was before.
        """
        try:
            inotify = self._inotify = self._inotify or open_inotify()
        except OSError as error:
            self.problems = (unwatched(self._what, error),)
            return set()
        self._pause()  # events of a watch that is not noted yet would be lost
        try:
            found = await aside.run(lambda work: _watch(inotify, survey, work))
            before, self._watches, self._survey = self._watches, found.watches, survey
        finally:
            self._listen()
        self.problems = () if found.refused is None else (unwatched(*found.refused),)
        known = {(number, place) for number, (_, places) in before.items() for place in places}
        now = {(number, place) for number, (_, places) in self._watches.items() for place in places}
        return {place for _, place in now - known if place not in survey.single} | found.vanished

    def doubt(self, filling: dict[Entry, Stamp]) -> None:
        """Look once more, after a while, at what somebody may fill; unless something happens to it before."""
        # Somebody has it open to fill, and closes it some time: another event. Or it was linked here and has lost its
        # other name since: then it is complete, and there is none.
        loop = asyncio.get_running_loop()
        for entry, stamp in filling.items():
            if entry not in self._touched.names and entry not in self._touched.created:
                self._doubted[entry] = stamp
                loop.call_later(DOUBT_SECONDS, self._look_once_more, entry, stamp)

    def _look_once_more(self, entry: Entry, stamp: Stamp) -> None:
        if self._doubted.get(entry) == stamp:  # else it was closed, or created again
            del self._doubted[entry]
            self._touched.created[entry] = stamp
            self.wake()

    def _listen(self) -> None:
        if self._started and self._inotify is not None:
            asyncio.get_running_loop().add_reader(self._inotify.fd, self._read)

    def _pause(self) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)

    def _mounted(self, changes: select.epoll) -> None:
        changes.poll(0)
        self.wake()

    def _read(self) -> None:
        while self._inotify is not None and (event := self._inotify.sync_get()) is not None:
            if self._note(event):
                self.wake()

    def _note(self, event: Event) -> bool:
        """Notes where something happened; whether it can matter."""
        if Mask.Q_OVERFLOW in event.mask:
            self._touched.everything = True
            return True
        watch = event.watch
        if watch is None or watch.wd not in self._watches:  # no longer of interest
            return False
        places = self._watches[watch.wd][1]
        if event.name is None:
            if Mask.CLOSE_WRITE in event.mask:
                self._touched.names.update(map(os.path.split, places))
            elif Mask.ATTRIB in event.mask:
                self._touched.places.update(places)
            return True  # moved, deleted, unmounted: what is there now is another one
        name = str(event.name)
        return bool(sum(self._note_name(place, name, event.mask) for place in places))  # every one is asked

    def _note_name(self, place: str, name: str, mask: Mask) -> bool:
        scanned = place in self._survey.scanned and not name.startswith(".")
        found = scanned and (Mask.ISDIR in mask or is_manifest(name))
        if not found and name not in self._survey.places.get(place, ()):
            return False
        entry = (place, name)
        self._doubted.pop(entry, None)
        if Mask.CREATE in mask and Mask.ISDIR not in mask:
            self._touched.names.discard(entry)
            self._touched.created[entry] = None
        else:
            self._touched.created.pop(entry, None)
            self._touched.names.add(entry)
        return True


def _watch(inotify: Inotify, survey: Survey, work: Work) -> _Watched:
    """Adds the watches that a survey wants and ends the others. Runs in a thread of its own."""
    watches: dict[int, tuple[Watch, list[str]]] = {}
    vanished: set[str] = set()
    refused: tuple[str, OSError] | None = None
    for place in sorted([*survey.places, *survey.single]):
        if work.skips(place):
            continue
        work.at(place)
        try:
            watch = inotify.add_watch(place, _FILE if place in survey.single else _DIRECTORY)
        except OSError as error:
            if error.errno in GONE:
                vanished.add(place)
            elif not isinstance(error, PermissionError):  # a directory that we may pass, not list
                refused = refused or (place, error)
            continue
        watches.setdefault(watch.wd, (watch, []))[1].append(place)
    work.done()
    for watch in inotify.watches:
        if watch.wd not in watches and not work.skips(str(watch.path)):
            with suppress(OSError):  # the kernel has dropped it, with what was watched
                inotify.rm_watch(watch)
    return _Watched(watches, vanished, refused)
