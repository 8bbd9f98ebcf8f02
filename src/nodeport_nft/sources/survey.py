"""Where manifests stand on disk: files with their stamps, and every directory on the way to them.

Every directory entry that leads to a manifest is noted, from the root on and through every link: whatever is created,
replaced, moved, deleted or mounted on that way changes what a path stands for. Events only say where to look again;
what is there is always found out by looking at all of it, so that no order of events can mislead.

A file that is still being written must not be read, for half of it may well be a manifest. So a change of a file's
stamp alone lets nobody read it: an event must have said that its writer is done (closed, moved or linked into its
place), or its directory must be one that was not watched before. Where events are missing, it must have stayed as it
is for a while.

Whatever is looked at may hang, or be something else a moment later: each step says where it is (sources.aside), and
nothing is opened here.
"""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from nodeport_nft.problems import Problem
from nodeport_nft.sources.aside import Work
from nodeport_nft.text.files import list_directory, not_regular, short_path, unreadable

GONE = (errno.ENOENT, errno.ENOTDIR)
"""What it is called that a path is not there."""

_MAX_LINKS = 40  # as the kernel: path_resolution(7)

Entry = tuple[str, str]
"""A directory, by its real path, and a name in it."""


class Stamp(NamedTuple):
    """What changes when a file does."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(slots=True)
class Touched:
    """Where to look: ``names`` in directories, whole ``places`` (directories, by real paths), or ``everything``.

    ``created`` are new names that nobody has closed yet, each with the stamp it had when it was last looked at; None:
    not yet. ``at_once``: what is there now counts as complete.
    """

    everything: bool = False
    at_once: bool = False
    names: set[Entry] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    created: dict[Entry, Stamp | None] = field(default_factory=dict)

    def add(self, other: Touched) -> None:
        """Take what another has, where it is not newer here."""
        self.everything |= other.everything
        self.at_once |= other.at_once
        self.created = {e: s for e, s in other.created.items() if e not in self.names} | self.created
        self.names |= other.names - self.created.keys()
        self.places |= other.places


class ManifestFile(Struct, frozen=True):
    """A manifest's file. ``order`` sorts files as they are read; ``real`` is its path without links.

    ``named``: an event told of it, its writer is done. ``near``: it may be read if its stamp has changed.
    ``doubtful``: if it has besides stayed as it is for a while.
    """

    path: str
    real: str
    stamp: Stamp
    order: tuple[int, str]
    named: bool
    near: bool
    doubtful: bool


@dataclass
class Survey:
    """What the paths stand for at one moment.

    Of ``unseen`` paths nothing is known; a path that is not there is one of the ``problems`` only. ``lost`` are the
    real paths of those that may be seen the next time. ``places`` are the directories to watch, each with the names
    in it that lead on; ``scanned`` are those of them where every manifest counts, ``single`` the files to watch
    themselves. ``completed`` and ``filling`` say which of the created names are complete, and which may not be.
    """

    files: list[ManifestFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    places: dict[str, set[str]] = field(default_factory=dict)
    scanned: set[str] = field(default_factory=set)
    single: set[str] = field(default_factory=set)
    completed: set[Entry] = field(default_factory=set)
    filling: dict[Entry, Stamp] = field(default_factory=dict)

    def hides(self, path: str) -> bool:
        """Whether ``path`` stands where nobody can look, so that it may be there or not. Once the look is over."""
        path = _closed(path)
        number = bisect_right(self._hidden, path)
        return bool(number) and path.startswith(self._hidden[number - 1])

    @cached_property
    def _hidden(self) -> list[str]:
        """The unseen paths in order, without those below another: then only the one before a path can be above it."""
        hidden: list[str] = []
        for path in sorted(map(_closed, self.unseen)):
            if not hidden or not path.startswith(hidden[-1]):
                hidden.append(path)
        return hidden


def _closed(path: str) -> str:
    return path.rstrip("/") + "/"


def look(paths: Sequence[str], touched: Touched, work: Work) -> Survey:
    """Looks at everything that ``paths`` stand for; raises nothing but what ``work`` does.

    Reading order: manifest.files.read_texts.
    """
    eye = _Look(touched, work)
    for number, path in enumerate(dict.fromkeys(paths)):
        eye.at_path(path, number)
    return eye.survey


class _Way(NamedTuple):
    """Where a path leads: the real path, as far as it goes, and whether one of the entries on it was touched, or
    stands in a directory to look at as a whole. Without ``real`` it leads where nobody may look."""

    real: str
    named: bool
    near: bool


class _Directory(NamedTuple):
    """One to list: as its user writes it, by its real path, its key for sorting, and whether it was touched."""

    path: str
    place: str
    key: str
    near: bool


class _Look:
    def __init__(self, touched: Touched, work: Work) -> None:
        self.survey = Survey()
        self._touched = touched
        self._work = work
        for entry, before in touched.created.items():
            self._created(entry, before)
        self._names = touched.names | self.survey.completed

    def at_path(self, path: str, number: int) -> None:
        """All that one path stands for."""
        way = _Way(path, named=False, near=False)
        try:
            way = self._follow(path, path)
            if not way.real:
                return
            self._work.at(path, way.real)
            found = Path(path).stat()
        except (OSError, ValueError) as error:
            self.survey.problems.append(unreadable(path, error))
            if isinstance(error, OSError) and error.errno not in GONE:
                self.survey.unseen.append(path)
                self.survey.lost.append(way.real)
            return
        if stat.S_ISDIR(found.st_mode):
            self._below(_Directory(path, way.real, "", way.named or way.near), number)
        elif stat.S_ISREG(found.st_mode):
            self.survey.single.add(way.real)
            self._found(path, way.real, found, (number, ""), named=way.named, near=way.near)
        else:
            text = "is neither a file nor a directory, and cannot be followed; name a file, or sync it with --once"
            self.survey.problems.append(Problem(short_path(path), "", "", text))
            self.survey.unseen.append(path)

    def _below(self, top: _Directory, number: int) -> None:
        """The manifests of a directory and those below, files before the directories that are beside them."""
        pending = [top]
        while pending:
            here = pending.pop()
            if not self._may(here.path, here.place):
                continue
            try:
                names, below = list_directory(here.path)
            except OSError as error:
                self._failed(here.path, here.place, error)
                continue
            self.survey.scanned.add(here.place)
            self.survey.places.setdefault(here.place, set())
            near = here.near or here.place in self._touched.places
            for name, is_link in names:
                self._entry(here, name, number, is_link=is_link, near=near)
            for name in reversed(below):
                pending.append(
                    _Directory(
                        f"{here.path.rstrip('/')}/{name}",
                        f"{here.place.rstrip('/')}/{name}",
                        f"{here.key}\0\1{name}",
                        near or (here.place, name) in self._names,
                    )
                )

    def _entry(self, here: _Directory, name: str, number: int, *, is_link: bool, near: bool) -> None:
        """What stands under a manifest's name in a directory."""
        path = f"{here.path.rstrip('/')}/{name}"
        way = _Way(f"{here.place.rstrip('/')}/{name}", (here.place, name) in self._names, near=False)
        if is_link:
            way = self._follow(path, way.real)
        if not way.real or not self._may(path, way.real):
            return
        try:
            found = os.stat(path)  # noqa: PTH116 (a Path for each of thousands takes longer than the look)
        except OSError as error:
            if error.errno != errno.ELOOP:  # a link to nothing counts for nothing
                self._failed(path, way.real, error)
            return
        if stat.S_ISREG(found.st_mode):
            if found.st_nlink > 1:  # written under another name, its directory is told of nothing
                self.survey.single.add(way.real)
            self._found(
                path, way.real, found, (number, f"{here.key}\0\0{name}"), named=way.named, near=way.near or near
            )
        elif problem := not_regular(path, found):
            self.survey.problems.append(problem)
            self.survey.unseen.append(path)

    def _found(
        self, path: str, real: str, found: os.stat_result, order: tuple[int, str], *, named: bool, near: bool
    ) -> None:
        whole = self._touched.everything
        self.survey.files.append(
            ManifestFile(
                path,
                real,
                _stamp(found),
                order,
                named,
                near or (whole and self._touched.at_once),
                doubtful=whole and not self._touched.at_once,
            )
        )

    def _failed(self, path: str, real: str, error: OSError) -> None:
        if error.errno not in GONE:  # else it has gone since its directory was listed
            self.survey.problems.append(unreadable(path, error))
            self.survey.unseen.append(path)
            self.survey.lost.append(real)

    def _may(self, path: str, real: str) -> bool:
        """Begin a step, unless it would hang."""
        if self._work.skips(real):
            self.survey.unseen.append(path)
            return False
        self._work.at(path, real)
        return True

    def _follow(self, shown: str, path: str) -> _Way:
        """Notes every directory entry on the way to what ``path`` stands for."""
        whole = path if path.startswith("/") else f"{os.getcwd()}/{path}"  # noqa: PTH109 (keeps "..", behind links too)
        pending = whole.split("/")[::-1]
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
            self.survey.places.setdefault(place, set()).add(name)
            named = named or (place, name) in self._names
            near = near or place in self._touched.places
            entry = place.rstrip("/") + "/" + name
            if not self._may(shown, entry):
                return _Way("", named, near)
            try:
                target = os.readlink(entry)  # noqa: PTH115 (as above)
            except OSError as error:
                place = entry
                if error.errno != errno.EINVAL:  # EINVAL: it is there and no link
                    break
                continue
            except ValueError:  # a NUL in the name
                break
            links += 1
            if links > _MAX_LINKS:
                break
            if target.startswith("/"):
                place = "/"
            pending += target.split("/")[::-1]
        return _Way(place, named, near or place in self._touched.places)

    def _created(self, entry: Entry, before: Stamp | None) -> None:
        """Whether a new entry is complete, or may be a file that somebody fills and closes some time."""
        path = f"{entry[0].rstrip('/')}/{entry[1]}"
        if self._work.skips(path):
            return
        self._work.at(path)
        stamp = _written(path)
        if stamp is None or stamp == before:
            self.survey.completed.add(entry)
        elif stamp.size:
            self.survey.filling[entry] = stamp


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _written(path: str) -> Stamp | None:
    """The stamp of a new entry that may be a file which somebody fills; None for a link, which is complete."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    # Writing sets both times, linking one of them.
    filling = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_mtime_ns == found.st_ctime_ns
    return _stamp(found) if filling else None
