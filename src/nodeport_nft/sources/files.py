"""Where manifests stand on disk, and when that changes: files with their stamps, and inotify watches on the way.

Every directory entry that leads to a manifest is watched, from the root on and through every link: whatever is
created, replaced, moved, deleted or mounted on that way changes what a path stands for. Events only say where to look
again; what is there is always found out by looking at all of it, so that no order of events can mislead.

A file that is still being written must not be read, for half of it may well be a manifest. So a change of a file's
stamp alone lets nobody read it: an event must have said that its writer is done (closed, moved or linked into its
place), or its directory must be one that was not watched before.

Sources: inotify(7); proc(5) on polling /proc/self/mountinfo, because mounting causes no inotify event.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from asyncinotify import Event, Inotify, Mask, Watch

from nodeport_nft.manifest.files import is_manifest, read_tree, unreadable
from nodeport_nft.manifest.problems import Problem

QUIET_SECONDS = 0.02
"""A burst of events has ended when none has come for so long."""

LONGEST_SECONDS = 0.5
"""A burst that goes on for longer is looked into all the same."""

_DOUBT_SECONDS = 1.0  # how long a new file must stay as it is, to count as complete without word of its writer
_MAX_LINKS = 40  # as the kernel: path_resolution(7)
_GONE = (errno.ENOENT, errno.ENOTDIR)
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


class Stamp(NamedTuple):
    """What changes when a file does."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(slots=True)
class Touched:
    """Where to look: ``names`` in directories, whole ``places`` (directories, by real paths), or ``everything``."""

    everything: bool = False
    names: set[tuple[str, str]] = field(default_factory=set)
    places: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest's file. ``order`` sorts files as they are read.

    ``named``: an event told of it, its writer is done. ``near``: it may be read if its stamp has changed.
    """

    path: str
    stamp: Stamp
    order: tuple[int | str, ...]
    named: bool
    near: bool


@dataclass(slots=True)
class Survey:
    """What the paths stand for at one moment.

    Of ``unseen`` paths nothing is known; a path that is not there is one of the ``problems`` only. ``places`` are the
    directories to watch, each with the names in it that lead on; ``scanned`` are those of them where every manifest
    counts, ``single`` the files to watch themselves.
    """

    files: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    places: dict[str, set[str]] = field(default_factory=dict)
    scanned: set[str] = field(default_factory=set)
    single: set[str] = field(default_factory=set)

    def hides(self, path: str) -> bool:
        """Whether ``path`` stands where nobody can look, so that it may be there or not."""
        return any(path == unseen or path.startswith(unseen.rstrip("/") + "/") for unseen in self.unseen)


def look(paths: Sequence[str], touched: Touched) -> Survey:
    """Looks at everything that ``paths`` stand for; never raises. Reading order: manifest.files.read_texts."""
    survey = Survey()
    seen: set[str] = set()
    for number, path in enumerate(paths):
        if path not in seen:
            seen.add(path)
            _look_at(survey, path, number, touched)
    return survey


def _look_at(survey: Survey, path: str, number: int, touched: Touched) -> None:
    named, near = _follow(survey, path, touched)
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        survey.problems.append(unreadable(path, error))
        if isinstance(error, OSError) and error.errno not in _GONE:
            survey.unseen.append(path)
        return
    if stat.S_ISDIR(found.st_mode):
        _look_below(survey, path, number, touched, near=named or near or touched.everything)
    elif stat.S_ISREG(found.st_mode):
        survey.single.add(os.path.realpath(path))
        survey.files.append(Found(path, _stamp(found), (number,), named, near or touched.everything))
    else:
        text = "is neither a file nor a directory, and cannot be followed; name a file, or sync it with --once"
        survey.problems.append(Problem(path, "", "", text))
        survey.unseen.append(path)


def _look_below(survey: Survey, top: str, number: int, touched: Touched, *, near: bool) -> None:
    """The manifests of a directory and those below. ``near``: something on the way to it has changed."""

    def failed(error: OSError) -> None:
        if error.errno not in _GONE:  # else it has gone since its parent was listed
            survey.problems.append(unreadable(str(error.filename), error))
            survey.unseen.append(str(error.filename))

    real = os.path.realpath(top)
    near_places: set[str] = set()
    listed: list[Found] = []
    for directory, names in read_tree(top, failed):
        below = os.path.relpath(directory, top)
        parts = [] if below == "." else below.split("/")
        place = os.path.join(real, *parts)  # noqa: PTH118 (a Path for each of thousands takes longer than the look)
        parent, _, own = place.rpartition("/")
        survey.scanned.add(place)
        survey.places.setdefault(place, set())
        if (
            (near and not parts)
            or place in touched.places
            or (parts and (parent in near_places or (parent, own) in touched.names))
        ):
            near_places.add(place)
        for name in names:
            path = os.path.join(directory, name)  # noqa: PTH118 (as above)
            if os.path.islink(path):  # noqa: PTH114 (as above)
                named, new = _follow(survey, path, touched)
            else:
                named, new = (place, name) in touched.names, False
            try:
                found = os.stat(path)  # noqa: PTH116 (as above)
            except OSError as error:
                if error.errno not in (*_GONE, errno.ELOOP):  # a link to nothing counts for nothing
                    survey.problems.append(unreadable(path, error))
                    survey.unseen.append(path)
                continue
            if stat.S_ISREG(found.st_mode):
                if found.st_nlink > 1:  # written under another name, its directory is told of nothing
                    survey.single.add(os.path.realpath(path))
                # Files come before directories that are beside them: 0 sorts before 1.
                order = (number, *(part for name in parts for part in (1, name)), 0, name)
                listed.append(Found(path, _stamp(found), order, named, new or place in near_places))
    survey.files += listed


def _follow(survey: Survey, path: str, touched: Touched) -> tuple[bool, bool]:
    """Notes every directory entry on the way to what ``path`` stands for.

    Returns whether one of them was touched, and whether one stands in a directory to look at as a whole.
    """
    pending = os.path.join(os.getcwd(), path).split("/")[::-1]  # noqa: PTH109, PTH118 (keeps "..", behind links too)
    place = "/"
    links = 0
    named = near = False
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if name == "..":
            place = os.path.dirname(place)  # noqa: PTH120 (text, as all around it)
            continue
        survey.places.setdefault(place, set()).add(name)
        named = named or (place, name) in touched.names
        near = near or place in touched.places
        entry = place.rstrip("/") + "/" + name
        try:
            target = os.readlink(entry)  # noqa: PTH115 (as above)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: it is there and no link
                break
            place = entry
            continue
        except ValueError:  # a NUL in the name
            break
        links += 1
        if links > _MAX_LINKS:
            break
        if target.startswith("/"):
            place = "/"
        pending += target.split("/")[::-1]
    return named, near


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Watcher:
    """Watches what a survey names, and gathers where something happened. Belongs to one event loop."""

    def __init__(self) -> None:
        """Raises OSError, with the remedy, where the system has no more inotify instances."""
        try:
            self._inotify = Inotify(sync_timeout=0, cache_size=256)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            text = "no inotify instance is free; raise fs.inotify.max_user_instances (sysctl) or the open files limit"
            raise OSError(error.errno, text) from error
        self._mounts: tuple[select.epoll, BinaryIO] | None = None
        self._watches: dict[int, tuple[Watch, list[str]]] = {}
        self._survey = Survey()
        self._touched = Touched()
        self._woken = asyncio.Event()
        self._created: dict[tuple[str, str], Stamp] = {}
        self._last = 0.0
        self.problems: tuple[str, ...] = ()
        """Why some changes will not be noticed."""

    def start(self) -> None:
        """Lets events come in from now on; those since the first ``watch`` come first. To be closed."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._inotify.fd, self._read)
        # The loop waits for readable files, which this one always is; epoll can be asked for a change alone.
        try:
            table = Path("/proc/self/mountinfo").open("rb")  # noqa: SIM115 (closed in close)
        except OSError:  # no /proc here: mounts are seen with the next event
            return
        changes = select.epoll()
        changes.register(table.fileno(), select.EPOLLPRI)
        loop.add_reader(changes.fileno(), self._mounted, changes)
        self._mounts = changes, table
        self.wake()  # for what was mounted before

    def close(self) -> None:
        """Ends all watches."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._inotify.fd)
        self._inotify.close()
        if self._mounts is not None:
            loop.remove_reader(self._mounts[0].fileno())
            for file in self._mounts:
                file.close()

    def wake(self) -> None:
        """Ends the wait in ``changed``, as an event would."""
        self._last = asyncio.get_running_loop().time()
        self._woken.set()

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

    def watch(self, survey: Survey) -> set[str]:
        """Watches what ``survey`` names and nothing else; the directories that were not watched before.

        What happened in these before they were watched was missed: look again.
        """
        self._survey = survey
        before = self._watches
        self._watches = {}
        refused: OSError | None = None
        vanished: set[str] = set()
        for place in sorted([*survey.places, *survey.single]):
            try:
                watch = self._inotify.add_watch(place, _FILE if place in survey.single else _DIRECTORY)
            except OSError as error:
                if error.errno in _GONE:
                    vanished.add(place)
                elif error.errno != errno.EACCES:  # a directory that we may pass, not list
                    refused = error
                continue
            self._watches.setdefault(watch.wd, (watch, []))[1].append(place)
        for number, (watch, _) in before.items():
            if number not in self._watches:
                with suppress(OSError):  # the kernel has dropped it, with what was watched
                    self._inotify.rm_watch(watch)
        self.problems = () if refused is None else (_unwatched(refused),)
        known = {(number, place) for number, (_, places) in before.items() for place in places}
        now = {(number, place) for number, (_, places) in self._watches.items() for place in places}
        return {place for _, place in now - known if place not in survey.single} | vanished

    def _mounted(self, changes: select.epoll) -> None:
        changes.poll(0)
        self.wake()

    def _read(self) -> None:
        while (event := self._inotify.sync_get()) is not None:
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
        self._created.pop((place, name), None)
        stamp = _written(place, name) if Mask.CREATE in mask and Mask.ISDIR not in mask else None
        if stamp is None:
            self._touched.names.add((place, name))
            return True
        # Somebody has it open to fill, and closes it some time: another event. Or it was linked here and has lost its
        # other name since: then it is complete, and there is none.
        self._touched.names.discard((place, name))
        if stamp.size:
            self._created[place, name] = stamp
            asyncio.get_running_loop().call_later(_DOUBT_SECONDS, self._look_once_more, place, name, stamp)
        return False

    def _look_once_more(self, place: str, name: str, stamp: Stamp) -> None:
        if self._created.get((place, name)) == stamp:  # else it was closed, or created again
            del self._created[place, name]
            if _written(place, name) == stamp:
                self._touched.names.add((place, name))
                self.wake()


def _written(place: str, name: str) -> Stamp | None:
    """The stamp of a new entry that may be a file which somebody fills; None for a link, which is complete."""
    try:
        found = os.lstat(os.path.join(place, name))  # noqa: PTH118 (text, as all around it)
    except OSError:
        return None
    # Writing sets both times, linking one of them.
    filling = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_mtime_ns == found.st_ctime_ns
    return _stamp(found) if filling else None


def _unwatched(error: OSError) -> str:
    path = os.fspath(error.filename) if isinstance(error.filename, str | os.PathLike) else ""
    remedy = "raise fs.inotify.max_user_watches (sysctl)" if error.errno == errno.ENOSPC else "check the path"
    return str(Problem(str(path), "", "", f"cannot be watched: {error.strerror}; {remedy}"))
