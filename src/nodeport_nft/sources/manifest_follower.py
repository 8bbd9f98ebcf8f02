"""Manifests on disk, followed: the store is kept as the manifests say.

A file counts as a whole. One that cannot be read, or has anything wrong in it, leaves its last good objects in force
until it is mended; all other files go on. So what is wanted is always the sum of every file's last good objects, and
the store gets the difference to what was brought there last, in one transaction.

What the store held before the first reading may come from a file that is wrong just now; it is deleted only when
every file has been read well.

All that touches a file system happens in threads beside the loop (sources.aside). One that does not answer is told
and left alone until it does; everything else goes on.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.agenda import Backoff
from nodeport_nft.kube import Object
from nodeport_nft.manifest import read_manifest
from nodeport_nft.model import Ref
from nodeport_nft.problems import Problem
from nodeport_nft.sources.aside import Aside, Hung, NoThread, Work
from nodeport_nft.sources.handover import Handover
from nodeport_nft.sources.inotify import POLL_SECONDS
from nodeport_nft.sources.survey import ManifestFile, Stamp, Survey, Touched, look
from nodeport_nft.sources.watcher import DOUBT_SECONDS, Watcher
from nodeport_nft.sources.writing import Written, write
from nodeport_nft.store import OthersObjects, StoreError, file_identity

if TYPE_CHECKING:
    from nodeport_nft.config import Config

_LONGEST_SECONDS = 30.0  # until what failed is tried again
_ROUNDS = 10  # looks at directories that come and go while they are looked at, before they get a rest
_MOST_TOLD = 1000  # problems, one by one


class _File(Struct, frozen=True):
    """A file as it was last read: its last good ``objects``, and what is wrong with it now."""

    stamp: Stamp
    order: tuple[int, str]
    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    failed: bool  # not read at all, so that it is tried again though nothing has happened to it


class ManifestFollower:
    """Keeps the store of ``config`` as the manifests at ``paths`` say. Belongs to one event loop.

    ``report`` gets all problems there are, one text each, whenever these have changed; none when all is well again.
    ``say`` gets what happened once: warnings, deletions. With ``prune`` what others write to the store is deleted
    with the next change of the manifests, else it stays. Without ``allow_empty`` manifests without any object delete
    nothing: a directory that is not mounted looks like an empty one. ``handover`` gets what was written.
    """

    def __init__(
        self,
        paths: Sequence[str],
        config: Config,
        *,
        prune: bool = False,
        allow_empty: bool,
        report: Callable[[tuple[str, ...]], None],
        say: Callable[[str], None],
        handover: Handover | None = None,
    ) -> None:
        self._paths = tuple(paths)
        self._config = config
        self._store = config.store
        self._prune = prune
        self._allow_empty = allow_empty
        self._report = report
        self._say = say
        self._handover = handover or Handover()
        self._handover.lost = self.retry
        self._watcher: Watcher | None = None
        self._aside = Aside(self._answers, self._tell)
        self._survey = Survey()
        self._files: dict[str, _File] = {}  # in reading order
        self._doubts: dict[str, tuple[Stamp, float]] = {}  # files that may be being written, and since when they stay
        self._reread = False
        self._stored: dict[Ref, dict[str, Any] | None] = {}  # documents as the store took them; None: never yet
        self._refused: dict[Ref, tuple[Problem, ...]] = {}
        self._file: tuple[int, int] | None = None  # the store's, by device and inode
        self._pruned = False
        self._begun = False
        self._retry = False  # whether something was read since the refused were tried
        self._fault = ""
        self._writing = Backoff(_LONGEST_SECONDS)  # where there is a fault
        self._reading = Backoff(_LONGEST_SECONDS)  # of what could not be looked at or read
        self._reported: tuple[str, ...] = ()

    async def begin(self) -> None:
        """Reads everything once and brings the store to it. Changes from here on are ``follow``'s.

        A store that cannot be written, and files that do not answer, are reported and left to ``follow``. Raises
        OSError where the system has no thread for it, OthersObjects where the manifests would be the whole state of a
        store that others have filled; nothing is written then.
        """
        self._watcher = Watcher(", ".join(self._paths))
        try:
            await self._pass(self._watcher, Touched(everything=True, at_once=True))
        except NoThread as error:
            raise OSError(errno.EAGAIN, str(error)) from error
        self._begun = True

    async def follow(self) -> None:
        """Brings changes to the store until it is cancelled, or for ever. Wants ``begin`` before it."""
        watcher = self._watcher
        assert watcher is not None
        try:
            watcher.start()
            while True:
                await watcher.changed(self._rest(watcher))
                touched = watcher.take()
                if watcher.problems or self._doubts:  # nobody tells us everything
                    touched.everything = True
                touched.names.update(os.path.split(real) for real in self._survey.lost)
                try:
                    await self._pass(watcher, touched)
                except NoThread as error:
                    watcher.give_back(touched)
                    self._writing.succeeded()  # nothing was tried: threads may be there in a moment
                    self._fails(error)
                    self._tell()
        finally:
            watcher.close()
            self._watcher = None

    def reconfigure(self, config: Config) -> None:
        """From now on, and for all files once more: other ranges, another limit of size. The store stays the same."""
        self._config = config
        self._reread = True
        if self._watcher is not None:
            self._watcher.wake()

    def retry(self) -> None:
        """Something has happened to the store: bring it to the manifests again."""
        self._retry = True
        if self._watcher is not None:
            self._watcher.wake()

    def _answers(self, reals: set[str]) -> None:
        """What hung can be looked at again."""
        if self._watcher is not None:
            self._watcher.touch(reals)

    def _rest(self, watcher: Watcher) -> float | None:
        """How long to wait if nothing happens."""
        rests = (
            self._writing.pause,
            POLL_SECONDS if watcher.problems else 0.0,
            DOUBT_SECONDS if self._doubts else 0.0,
            self._reading.pause,
        )
        return min((rest for rest in rests if rest), default=None)

    async def _pass(self, watcher: Watcher, touched: Touched) -> None:
        """Looks where something has happened, reads what has changed, and brings it to the store."""
        for _ in range(_ROUNDS):
            survey, unwatched = await self._look(watcher, touched)
            if not unwatched:
                break
            touched.places |= unwatched
        else:
            watcher.wake()
        await self._read(survey)
        await self._bring()
        self._tell()

    async def _look(self, watcher: Watcher, touched: Touched) -> tuple[Survey, set[str]]:
        """What is there now, and which directories of it were not watched before."""
        while True:
            try:
                survey = await self._aside.run(lambda work: look(self._paths, touched, work))
                touched.names |= survey.completed
                touched.created = {}
                watcher.doubt(survey.filling)
                return survey, await watcher.watch(survey, self._aside)
            except Hung:  # what it hangs at is passed over from now on
                self._tell()

    async def _read(self, survey: Survey) -> None:
        """Reads the files that have changed; what stands where nobody can look stays as it was."""
        reread, self._reread = self._reread, False
        closed = {found.stamp[:2] for found in survey.files if found.named}  # under one of its names, if it has many
        doubts, self._doubts = self._doubts, {}
        due = [found for found in survey.files if reread or self._is_due(found, closed, doubts)]
        before = self._files
        try:
            read = await self._read_all(due) if due else {}
        except NoThread:
            self._reread |= reread
            raise
        self._files = {}
        for found in survey.files:
            file = read.get(found.path) or before.get(found.path)
            if file is not None:  # else its writer is not done
                self._files[found.path] = file
        hidden = {path: file for path, file in before.items() if path not in self._files and survey.hides(path)}
        if hidden:
            merged = (self._files | hidden).items()
            self._files = dict(sorted(merged, key=lambda item: item[1].order))
        self._survey = survey
        self._retry = self._retry or any(not file.failed for file in read.values())
        failed = bool(survey.lost) or any(file.failed for file in self._files.values())
        if failed:
            self._reading.failed()
        else:
            self._reading.succeeded()
        for path, file in read.items():
            known = frozenset(before[path].warnings if path in before else ())
            for warning in file.warnings:
                if warning not in known:
                    self._say(f"warning: {warning}")

    async def _read_all(self, due: Sequence[ManifestFile]) -> dict[str, _File]:
        """The files as they are now, but for those that hang."""
        known, config = self._files, self._config
        read: dict[str, _File] = {}
        while True:
            rest = [found for found in due if found.path not in read and not self._aside.skips(found.real)]
            part: dict[str, _File] = {}
            try:
                await self._aside.run(partial(_read_files, rest, known, config, part))
            except Hung:
                read |= part
                self._tell()
                continue
            return read | part

    def _is_due(
        self, found: ManifestFile, closed: set[tuple[int, int]], doubts: dict[str, tuple[Stamp, float]]
    ) -> bool:
        file = self._files.get(found.path)
        if found.named or (file is not None and file.failed):
            return True
        if file is not None and file.stamp == found.stamp:
            return False
        if found.near or found.stamp[:2] in closed:
            return True
        if not found.doubtful:
            return False
        now = asyncio.get_running_loop().time()
        stamp, since = doubts.get(found.path, (None, now))
        if stamp == found.stamp and now - since >= DOUBT_SECONDS:
            return True
        self._doubts[found.path] = found.stamp, since if stamp == found.stamp else now
        return False

    async def _bring(self) -> None:
        """Brings the store to what is wanted, if there is a difference."""
        file = file_identity(self._store)
        if self._file not in (None, file):  # another store, or none: what we know of it is no longer so
            self._stored = dict.fromkeys(self._stored)
            self._pruned = False
        wanted = {ref: obj for ref, obj, twin in _by_ref(self._files.values()) if twin is None}
        keep_all = not wanted and not self._allow_empty
        prune = not self._pruned and self._all_well() and not keep_all
        gone = [ref for ref in self._stored if ref not in wanted and not keep_all]
        changed = {ref: obj for ref, obj in wanted.items() if not _same(self._stored.get(ref), obj.raw)}
        self._refused = {ref: reasons for ref, reasons in self._refused.items() if ref in changed}
        untried = self._retry or changed.keys() - self._refused.keys()
        if not (prune or gone or (changed and untried)):
            self._goes_well(file)
            return
        if self._prune and self._all_well() and not keep_all:
            prune = True  # what others have written meanwhile goes, too
        keep = tuple(wanted.values()) if prune else None
        due = tuple(changed.values())
        bring = partial(write, self._store, self._config, keep, gone, due, of_others=self._prune)
        try:
            with self._handover.writing():
                written = await self._aside.run(lambda _: bring(first=not self._begun))
                if self._begun:  # else nobody has read anything yet, and all there is will be
                    self._handover.give(written.file, written.finished)
        except OthersObjects:
            raise
        except StoreError as error:
            self._fails(error)
            return
        self._pruned = self._pruned or prune
        self._note(written, gone, changed)

    def _fails(self, error: Exception) -> None:
        self._fault = str(error)
        self._writing.failed()

    def _goes_well(self, file: tuple[int, int] | None) -> None:
        """The store, which is this file, is as the manifests say."""
        self._file = file
        self._fault = ""
        self._writing.succeeded()

    def _note(self, written: Written, gone: Iterable[Ref], changed: dict[Ref, Object]) -> None:
        """Note what a write did, and say what is to be said of it."""
        self._goes_well(file_identity(self._store))
        self._retry = False
        self._refused = written.refused
        for ref in gone:
            del self._stored[ref]
        for ref, obj in changed.items():
            # A refused object stays as it was stored, and is deleted when it leaves the manifests.
            self._stored[ref] = self._stored.get(ref) if ref in written.refused else obj.raw
        for warning in written.warnings:
            self._say(f"warning: {warning}")
        for name in written.deleted:
            self._say(f"{name} deleted: it is not in the manifests")

    def _all_well(self) -> bool:
        """Whether every path was found and every file read well: what is not in them is nowhere."""
        hidden = self._survey.problems or self._survey.unseen or self._aside or self._doubts
        return not hidden and not any(file.problems or file.failed for file in self._files.values())

    def _tell(self) -> None:
        """Reports the problems, if they have changed."""
        wrong = [problem for file in self._files.values() for problem in file.problems]
        texts = [str(problem) for problem in (*self._survey.problems, *wrong)]
        empty = True
        for _, obj, twin in _by_ref(self._files.values()):
            empty = False
            if twin is not None:
                text = f"{obj.name} is given twice, first at {twin.source}; remove one"
                texts.append(str(Problem(obj.source, str(obj.ref), "metadata.name", text)))
        if empty and not wrong and not self._aside and not self._allow_empty:
            text = "the manifests hold no object; what is stored stays in force, --allow-empty would delete it"
            texts.append(str(Problem(", ".join(self._paths), "", "", text)))
        texts += [str(problem) for problems in self._refused.values() for problem in problems]
        problems = tuple(dict.fromkeys(texts))
        if len(problems) > _MOST_TOLD:
            rest = f"manifests: {len(problems) - _MOST_TOLD} more problems; mend the others first"
            problems = (*problems[:_MOST_TOLD], rest)
        faults = (self._fault,) if self._fault else ()
        unwatched = self._watcher.problems if self._watcher is not None else ()
        problems = tuple(dict.fromkeys((*faults, *unwatched, *self._aside.problems(), *problems)))
        if problems != self._reported:
            self._reported = problems
            self._report(problems)


def _by_ref(files: Iterable[_File]) -> Iterable[tuple[Ref, Object, Object | None]]:
    """Every object of the files, and the one that was read before it and has its name, if there is one."""
    first: dict[Ref, Object] = {}
    for file in files:
        for obj in file.objects:
            ref = obj.ref
            other = first.setdefault(ref, obj)
            yield ref, obj, None if other is obj else other


def _same(stored: dict[str, Any] | None, raw: dict[str, Any]) -> bool:
    return stored is raw or stored == raw  # almost always the very same: a comparison of values takes far longer


def _read_files(
    due: Iterable[ManifestFile], before: dict[str, _File], config: Config, read: dict[str, _File], work: Work
) -> None:
    """Puts the files as they are now into ``read``, with the last good objects of those that are wrong.

    Runs in a thread of its own.
    """
    for found in due:
        if not work.skips(found.real):
            read[found.path] = _read_file(found, before.get(found.path), config, work)


def _read_file(found: ManifestFile, before: _File | None, config: Config, work: Work) -> _File:
    reading = read_manifest(
        found.path,
        ranges=config.ranges,
        max_document_bytes=config.max_document_bytes,
        validate=config.validate,
        to_store=True,
        steps=work,
        real=found.real,
    )
    known = before.objects if before is not None else ()
    if reading.problems or reading.failed:
        warnings = before.warnings if before is not None else ()
        return _File(found.stamp, found.order, known, reading.problems, warnings, reading.failed)
    # Objects that are as they were keep their document, so that it is found the same at a glance.
    old = {obj.ref: obj.raw for obj in known}
    objects = tuple(
        replace(obj, raw=raw) if (raw := old.get(obj.ref)) is not None and raw == obj.raw else obj
        for obj in reading.objects
    )
    return _File(found.stamp, found.order, objects, (), reading.warnings, failed=False)
