"""Manifests on disk, followed: the store is kept as the manifests say.

A file counts as a whole. One that cannot be read, or has anything wrong in it, leaves its last good objects in force
until it is mended; all other files go on. So what is wanted is always the sum of every file's last good objects, and
the store gets the difference to what was brought there last, in one transaction.

What the store held before the first reading may come from a file that is wrong just now; it is deleted only when
every file has been read well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nodeport_nft.manifest import Object, Problem, Problems, read_manifest
from nodeport_nft.model import Ref
from nodeport_nft.sources.files import Found, Stamp, Survey, Touched, Watcher, look
from nodeport_nft.store import Store, StoreError, file_identity
from nodeport_nft.store.records import reference

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.store import Transaction

_FIRST_DELAY = 1.0  # seconds until a store that failed is tried again; doubled each time
_LONGEST_DELAY = 30.0
_ROUNDS = 10  # looks at directories that come and go while they are looked at, before they get a rest


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was last read: its last good ``objects``, and what is wrong with it now."""

    stamp: Stamp
    order: tuple[int | str, ...]
    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Written:
    """What became of one write: who was deleted (as "service/web"), and who was refused, with the reasons."""

    deleted: tuple[str, ...]
    refused: dict[Ref, tuple[Problem, ...]]


class ManifestFollower:
    """Keeps the store of ``config`` as the manifests at ``paths`` say. Belongs to one event loop.

    ``report`` gets all problems there are, one text each, whenever these have changed; none when all is well again.
    ``say`` gets what happened once: warnings, deletions. Without ``allow_empty`` manifests without any object delete
    nothing: a directory that is not mounted looks like an empty one.
    """

    def __init__(
        self,
        paths: Sequence[str],
        config: Config,
        *,
        allow_empty: bool,
        report: Callable[[tuple[str, ...]], None],
        say: Callable[[str], None],
    ) -> None:
        self._paths = tuple(paths)
        self._config = config
        self._store = config.store
        self._allow_empty = allow_empty
        self._report = report
        self._say = say
        self._watcher: Watcher | None = None
        self._survey = Survey()
        self._files: dict[str, _File] = {}  # in reading order
        self._reread = False
        self._stored: dict[Ref, dict[str, Any] | None] = {}  # documents as the store took them; None: never yet
        self._refused: dict[Ref, tuple[Problem, ...]] = {}
        self._file: tuple[int, int] | None = None  # the store's, by device and inode
        self._pruned = False
        self._retry = False  # whether something was read since the refused were tried
        self._fault = ""
        self._delay = 0.0
        self._reported: tuple[str, ...] = ()

    async def begin(self) -> None:
        """Reads everything once and brings the store to it. Changes from here on are ``follow``'s.

        A store that cannot be written is reported, and left to ``follow``. Raises OSError where the system has no
        inotify instance left.
        """
        self._watcher = Watcher()
        await self._pass(self._watcher, Touched(everything=True))

    async def follow(self) -> None:
        """Brings changes to the store until it is cancelled, or for ever. Wants ``begin`` before it."""
        watcher = self._watcher
        assert watcher is not None
        try:
            watcher.start()
            while True:
                await watcher.changed(self._rest(watcher))
                touched = watcher.take()
                if watcher.problems:  # nobody tells us everything
                    touched.everything = True
                await self._pass(watcher, touched)
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

    def _rest(self, watcher: Watcher) -> float | None:
        """How long to wait if nothing happens."""
        if self._fault:
            return self._delay
        return _LONGEST_DELAY if watcher.problems else None

    async def _pass(self, watcher: Watcher, touched: Touched) -> None:
        """Looks where something has happened, reads what has changed, and brings it to the store."""
        for _ in range(_ROUNDS):
            survey = await asyncio.to_thread(look, self._paths, touched)
            unwatched = watcher.watch(survey)
            if not unwatched:
                break
            touched.places |= unwatched
        else:
            watcher.wake()
        await self._read(survey)
        await self._bring()
        self._tell(watcher)

    async def _read(self, survey: Survey) -> None:
        """Reads the files that have changed; what stands where nobody can look stays as it was."""
        reread, self._reread = self._reread, False
        closed = {found.stamp[:2] for found in survey.files if found.named}  # under one of its names, if it has many
        due = [found for found in survey.files if reread or self._is_due(found, closed)]
        before = self._files
        read = await asyncio.to_thread(_read_files, due, before, self._config) if due else {}
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
        self._retry = self._retry or bool(due)
        for path, file in read.items():
            known = before[path].warnings if path in before else ()
            for warning in file.warnings:
                if warning not in known:
                    self._say(f"warning: {warning}")

    def _is_due(self, found: Found, closed: set[tuple[int, int]]) -> bool:
        if found.named or not (found.near or found.stamp[:2] in closed):
            return found.named
        file = self._files.get(found.path)
        return file is None or file.stamp != found.stamp

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
            self._file = file
            self._fault, self._delay = "", 0.0
            return
        keep = tuple(wanted.values()) if prune else None
        try:
            written = await asyncio.to_thread(_write, self._store, self._config, keep, gone, tuple(changed.values()))
        except StoreError as error:
            self._fault = str(error)
            self._delay = min(max(_FIRST_DELAY, 2 * self._delay), _LONGEST_DELAY)
            return
        self._file = file_identity(self._store)
        self._fault, self._delay = "", 0.0
        self._pruned = self._pruned or prune
        self._retry = False
        self._refused = written.refused
        for ref in gone:
            del self._stored[ref]
        for ref, obj in changed.items():
            # A refused object stays as it was stored, and is deleted when it leaves the manifests.
            self._stored[ref] = self._stored.get(ref) if ref in written.refused else obj.raw
        for name in written.deleted:
            self._say(f"{name} deleted: it is not in the manifests")

    def _all_well(self) -> bool:
        """Whether every path was found and every file read well: what is not in them is nowhere."""
        return not self._survey.problems and not any(file.problems for file in self._files.values())

    def _tell(self, watcher: Watcher) -> None:
        """Reports the problems, if they have changed."""
        wrong = [problem for file in self._files.values() for problem in file.problems]
        texts = [str(problem) for problem in (*self._survey.problems, *wrong)]
        empty = True
        for _, obj, twin in _by_ref(self._files.values()):
            empty = False
            if twin is not None:
                text = f"{obj.name} is given twice, first at {twin.source}; remove one"
                texts.append(str(Problem(obj.source, obj.ref, "metadata.name", text)))
        if empty and not wrong and not self._allow_empty:
            text = "the manifests hold no object; what is stored stays in force, --allow-empty would delete it"
            texts.append(str(Problem(", ".join(self._paths), "", "", text)))
        texts += [str(problem) for problems in self._refused.values() for problem in problems]
        texts += watcher.problems
        if self._fault:
            texts.append(self._fault)
        problems = tuple(dict.fromkeys(texts))
        if problems != self._reported:
            self._reported = problems
            self._report(problems)


def _by_ref(files: Iterable[_File]) -> Iterable[tuple[Ref, Object, Object | None]]:
    """Every object of the files, and the one that was read before it and has its name, if there is one."""
    first: dict[Ref, Object] = {}
    for file in files:
        for obj in file.objects:
            ref = _ref(obj)
            other = first.setdefault(ref, obj)
            yield ref, obj, None if other is obj else other


def _ref(obj: Object) -> Ref:
    return Ref(obj.kind, obj.namespace, obj.name)


def _same(stored: dict[str, Any] | None, raw: dict[str, Any]) -> bool:
    return stored is raw or stored == raw  # almost always the very same: a comparison of values takes far longer


def _read_files(due: Iterable[Found], before: dict[str, _File], config: Config) -> dict[str, _File]:
    """The files as they are now; the last good objects of those that are wrong. Runs in a thread of its own."""
    return {found.path: _read_file(found, before.get(found.path), config) for found in due}


def _read_file(found: Found, before: _File | None, config: Config) -> _File:
    limit = config.max_document_bytes
    reading = read_manifest(found.path, ranges=config.ranges, max_document_bytes=limit, validate=config.validate)
    known = before.objects if before is not None else ()
    if reading.problems:
        warnings = before.warnings if before is not None else ()
        return _File(found.stamp, found.order, known, reading.problems, warnings)
    # Objects that are as they were keep their document, so that it is found the same at a glance.
    old = {_ref(obj): obj.raw for obj in known}
    objects = tuple(
        replace(obj, raw=raw) if (raw := old.get(_ref(obj))) is not None and raw == obj.raw else obj
        for obj in reading.objects
    )
    return _File(found.stamp, found.order, objects, (), reading.warnings)


def _write(
    path: str, config: Config, keep: Sequence[Object] | None, gone: Sequence[Ref], changed: Sequence[Object]
) -> _Written:
    """One transaction: all that is not in ``keep`` is pruned, ``gone`` deleted, ``changed`` applied.

    Runs in a thread of its own, to which its Store belongs. Raises StoreError.
    """
    with Store(path, ranges=config.ranges) as store, store.write() as transaction:
        deleted = [] if keep is None else list(transaction.prune(keep))
        deleted += [reference(ref.kind, ref.name) for ref in gone if transaction.delete(*ref)]
        return _Written(tuple(deleted), _apply(transaction, changed))


def _apply(transaction: Transaction, objects: Sequence[Object]) -> dict[Ref, tuple[Problem, ...]]:
    """Applies all objects but those that are refused, which it returns with the reasons.

    Objects that trade what they hold need each other, so all are tried together first. Who is refused may have stood
    in the way of another who is refused, so those are tried once more, one by one.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    refused: dict[Ref, tuple[Problem, ...]] = {}
    together = list(objects)
    while together:
        reasons = _refusal(transaction, together, now)
        if not reasons:
            break
        named = {problem.object for problem in reasons}
        out = [obj for obj in together if obj.ref in named] or together  # a reason that names none of them
        refused |= {_ref(obj): tuple(reason for reason in reasons if reason.object == obj.ref) for obj in out}
        together = [obj for obj in together if _ref(obj) not in refused]
    tried = True
    while tried:
        tried = False
        for obj in objects:
            if _ref(obj) in refused:
                reasons = _refusal(transaction, [obj], now)
                if reasons:
                    refused[_ref(obj)] = reasons
                else:
                    del refused[_ref(obj)]
                    tried = True
    return refused


def _refusal(transaction: Transaction, objects: Sequence[Object], now: str) -> tuple[Problem, ...]:
    """Why these cannot be applied together; nothing was written then."""
    try:
        transaction.apply(objects, now=now)
    except Problems as error:
        return error.problems
    return ()
