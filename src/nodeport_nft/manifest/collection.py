"""Many documents → one set of objects: lists unfolded, conflicts between objects found, lines put to problems.

A document is dropped as soon as its object is made, so that ten thousand Services need the memory of their
values, not of their syntax.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from nodeport_nft.manifest.document import Document, Fault
from nodeport_nft.manifest.fields import Fields
from nodeport_nft.manifest.files import read_regular, read_texts, short_path
from nodeport_nft.manifest.json_text import read_documents
from nodeport_nft.manifest.objects import KINDS, Object, describe, foreign, read_object
from nodeport_nft.manifest.problems import Leftover, Path, Problem, Problems, Tally, field_text, printable, shown
from nodeport_nft.manifest.steps import Steps
from nodeport_nft.manifest.unknown import Validate, note_unknown_fields
from nodeport_nft.model import IPAddress, Ranges


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects, in the order they were read, and warnings as ``file:line: kind/namespace/name: text``."""

    objects: tuple[Object, ...]
    warnings: tuple[str, ...]


def read_manifests(
    paths: Sequence[str],
    *,
    ranges: Ranges,
    namespace: str = "default",
    max_document_bytes: int = 64 << 20,
    stdin: BinaryIO | None = None,
    validate: Validate = Validate.strict,
    to_store: bool = False,
    steps: Steps | None = None,
) -> Manifests:
    """Read manifests from files, directories and standard input ("-").

    ``namespace`` is given to objects that name none; ``ranges`` bounds explicit nodePorts and clusterIPs;
    ``max_document_bytes`` bounds a file; ``validate`` says what becomes of unknown fields, ``steps`` what is waited
    for. ``to_store``: leftovers of another type come with the objects, for the store to judge; else they are wrong.
    Raises Problems with everything that is wrong in any of them.
    """
    reading = _Reading(ranges, namespace, validate, to_store)
    for path, text in read_texts(paths, max_document_bytes, stdin, steps):
        reading.add_text(path, text)
    if reading.problems:
        raise Problems(_told(reading.problems))
    return Manifests(tuple(reading.objects), tuple(map(str, _told(reading.warnings))))


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file holds; ``objects`` may be anything where there are ``problems``.

    ``failed``: it could not be read at all, or was gone by then. Another try may go well though nothing has changed.
    """

    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    failed: bool = False


def read_manifest(
    path: str,
    *,
    ranges: Ranges,
    namespace: str = "default",
    max_document_bytes: int = 64 << 20,
    validate: Validate = Validate.strict,
    to_store: bool = False,
    steps: Steps | None = None,
    real: str = "",
) -> Reading:
    """Read one regular file as ``read_manifests`` does, looking at no other; never raises of its own.

    What is no regular file is not opened, and gives nothing or a problem. ``steps`` is told what is waited for, by
    ``path`` and ``real``, and may raise.
    """
    text = read_regular(path, max_document_bytes, steps, real=real)
    reading = _Reading(ranges, namespace, validate, to_store)
    reading.add_text(path, "" if text is None else text)
    warnings = tuple(map(str, _told(reading.warnings)))
    return Reading(tuple(reading.objects), _told(reading.problems), warnings, failed=not isinstance(text, str))


def _told(tally: Tally[Problem]) -> tuple[Problem, ...]:
    return tuple(replace(problem, more=more) for _, problem, more in tally)


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    ranges: Ranges
    namespace: str
    validate: Validate
    to_store: bool
    objects: list[Object] = field(default_factory=list)
    problems: Tally[Problem] = field(default_factory=Tally)
    warnings: Tally[Problem] = field(default_factory=Tally)
    sources: dict[tuple[str, str, str], str] = field(default_factory=dict)  # where each object was first read
    holders: dict[int | IPAddress, tuple[str, str]] = field(default_factory=dict)  # ref and source of claimants

    def add_text(self, path: str, text: str | Problem) -> None:
        """Add what a file holds, or the problem that kept it from being read."""
        if isinstance(text, Problem):
            self.problems.add(path, text.message, text)
            return
        name = printable(short_path(path))
        for document in read_documents(text):
            if isinstance(document, Fault):
                problem = Problem(f"{name}:{document.line}", "", "", document.message)
                self.problems.add(name, document.message, problem)
            else:
                self.add_document(name, document)

    def add_document(self, name: str, document: Document) -> None:
        """Add the objects of one document, and what is wrong with them in the order of their lines."""
        whole = describe(document.value, self.namespace)
        found: Tally[tuple[Path, str, Path, str]] = Tally()  # a list may have a million items, each of them wrong
        for path, raw in _unfold(document.value):
            ref = describe(raw, self.namespace)
            if not isinstance(raw, dict):
                text = f"{shown(raw)} is not an object; write a mapping with apiVersion, kind and metadata"
                found.add(ref, text, (path, ref, (), text))
                continue
            fields = Fields()
            self._add(name, document, path, raw, ref, fields)
            for _, (at, text), more in fields.found:
                found.add(ref, text, (path + at, ref, at, text), more)
        placed = [(fault.line, whole, "", fault.message, fault.more) for fault in document.faults]
        placed += [(document.line(path), ref, field_text(at), text, more) for _, (path, ref, at, text), more in found]
        placed.sort(key=lambda problem: problem[0])
        for line, owner, where, text, more in placed:
            self.problems.add(owner or name, text, Problem(f"{name}:{line}", owner, where, text), more)

    def _add(self, name: str, document: Document, path: Path, raw: dict[str, Any], ref: str, fields: Fields) -> None:
        source = f"{name}:{document.known_line(path)}"
        if reason := foreign(raw):
            self._warn(source, ref, f"{reason}; skipped")
            return
        made = read_object(raw, fields, self.ranges, self.namespace)
        if made.kind in KINDS and self.validate is not Validate.ignore:
            note_unknown_fields(raw, made.kind, fields)
            note = fields.problem if self.validate is Validate.strict else fields.note
            for at, text in fields.unknown:
                note(at, text)
        for _, (at, text), more in fields.notes:
            told = f"{field_text(at)}: {text}" if at else text
            self._warn(f"{name}:{document.known_line(path + at)}", ref, told, more)
        if made.name:
            first = self.sources.setdefault((made.kind, made.namespace, made.name), source)
            if first is not source:
                fields.problem(("metadata", "name"), f"{made.name} is given twice, first at {first}; remove one")
        for at, claim in fields.claims:
            holder, where = self.holders.setdefault(claim, (ref, source))
            if holder != ref:
                fields.problem(
                    at, f"{claim} is asked for by {holder} at {where} too; choose another, or leave it out"
                )
        leftovers: list[Leftover] = []
        for _, (at, text), more in fields.leftovers:
            if self.to_store:
                where = f"{name}:{document.line(path + at)}"
                leftovers.append(Leftover(at, Problem(where, ref, field_text(at), text, more)))
            else:
                fields.found.add("", text, (at, text), more)
        self.objects.append(replace(made, source=source, leftovers=tuple(leftovers)))

    def _warn(self, source: str, ref: str, text: str, more: int = 0) -> None:
        self.warnings.add(ref, text, Problem(source, ref, "", text), more)


def _unfold(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The objects of a document with their paths: itself, or the items of a ``List``, however nested."""
    if not isinstance(value, dict) or value.get("kind") != "List" or not _has_items(value):
        yield path, value
        return
    for index, item in enumerate(value["items"] or ()):
        yield from _unfold(item, (*path, "items", index))


def _has_items(value: dict[str, Any]) -> bool:
    """Whether ``items`` is a list (null is an empty one); a List without it is reported as an object."""
    return "items" in value and isinstance(value["items"], list | None)
