"""Many documents → one set of objects: lists unfolded, conflicts between objects found, lines put to problems.

A document is dropped as soon as its object is made, so that ten thousand Services need the memory of their
values, not of their syntax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.kinds import KINDS
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.objects import Object, describe, foreign, name_object, read_object
from nodeport_nft.kube.unknown import note_unknown_fields
from nodeport_nft.manifest.lists import Item, owner, unfold
from nodeport_nft.manifest.plain import PlainReader
from nodeport_nft.manifest.skipped import Skipped
from nodeport_nft.model import IPAddress, Ranges
from nodeport_nft.problems import Leftover, Path, Problem, Problems, Tally, field_text, shown
from nodeport_nft.settings import Validate
from nodeport_nft.terminal import printable
from nodeport_nft.text.document import Document, Fault
from nodeport_nft.text.files import read_regular, read_texts, short_path
from nodeport_nft.text.json_text import read_documents
from nodeport_nft.text.steps import Steps


class Manifests(Struct, frozen=True):
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
    names_only: bool = False,
    steps: Steps | None = None,
) -> Manifests:
    """Read manifests from files, directories and standard input ("-").

    ``namespace`` is given to objects that name none; ``ranges`` bounds explicit nodePorts and clusterIPs;
    ``max_document_bytes`` bounds a file; ``validate`` says what becomes of unknown fields, ``steps`` what is waited
    for. ``to_store``: leftovers of another type come with the objects, for the store to judge; else they are wrong.
    ``names_only``: what the objects are called is all that is read and can be wrong; they come without values, and as
    often as they are named.
    Raises Problems with everything that is wrong in any of them.
    """
    reading = _Reading(ranges, namespace, validate, to_store, names_only)
    for path, text in read_texts(paths, max_document_bytes, stdin, steps):
        reading.add_text(path, text)
    if reading.problems:
        raise Problems(_told(reading.problems))
    return Manifests(tuple(reading.objects), reading.told_warnings())


class Reading(Struct, frozen=True):
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

    What is not a regular file is not opened, and gives nothing or a problem. ``steps`` is told what is waited for, by
    ``path`` and ``real``, and may raise.
    """
    text = read_regular(path, max_document_bytes, steps, real=real)
    reading = _Reading(ranges, namespace, validate, to_store)
    reading.add_text(path, "" if text is None else text)
    problems = _told(reading.problems)
    return Reading(tuple(reading.objects), problems, reading.told_warnings(), failed=not isinstance(text, str))


def read_document(value: Any, *, ranges: Ranges, validate: Validate) -> Reading:
    """The one object of a document that stands in no file, and is to be stored; never raises.

    What is wrong with it has no place, but for its field.
    """
    reading = _Reading(ranges, "default", validate, to_store=True)
    reading.add_document("", Document(value, 1))
    return Reading(tuple(reading.objects), _told(reading.problems), reading.told_warnings())


def _told(tally: Tally[Problem]) -> tuple[Problem, ...]:
    return tuple(replace(problem, more=more) for _, problem, more in tally)


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    ranges: Ranges
    namespace: str
    validate: Validate
    to_store: bool
    names_only: bool = False
    objects: list[Object] = field(default_factory=list)
    problems: Tally[Problem] = field(default_factory=Tally)
    warnings: Tally[Problem] = field(default_factory=Tally)
    skipped: Skipped = field(default_factory=Skipped)
    sources: dict[tuple[str, str, str], str] = field(default_factory=dict)  # where each object was first read
    holders: dict[int | IPAddress, tuple[str, str]] = field(default_factory=dict)  # ref and source of claimants
    plain: PlainReader = field(init=False)

    def __post_init__(self) -> None:
        self.plain = PlainReader(self.ranges, self.namespace)

    def add_text(self, path: str, text: str | Problem) -> None:
        """Add what a file holds, or the problem that kept it from being read."""
        if isinstance(text, Problem):
            self.problems.add(path, text.message, text)
            return
        name = printable(short_path(path))
        for document in read_documents(text):
            if isinstance(document, Fault):
                self._add_broken(name, document)
            else:
                self.add_document(name, document)

    def told_warnings(self) -> tuple[str, ...]:
        """All warnings, a line each; what was skipped first."""
        return (*self.skipped.warnings(), *map(str, _told(self.warnings)))

    def _add_broken(self, name: str, fault: Fault) -> None:
        """Add what is wrong with a document that was given up: no problem where its kind is not used here."""
        place, known = f"{name}:{fault.line}", fault.known
        kind = foreign(known) if isinstance(known, dict) else ""
        if kind and not kind.endswith("List"):  # there may be objects of ours in what has not been read
            ref = describe(known, self.namespace)
            self.skipped.add(place, ref, kind)
            self._warn(place, ref, _no_matter(fault.message))
        else:
            self.problems.add(name, fault.message, Problem(place, "", "", fault.message))

    def add_document(self, name: str, document: Document) -> None:
        """Add the objects of one document, and what is wrong with them in the order of their lines."""
        found: Tally[tuple[Path, str, Path, str]] = Tally()  # a list may have a million items, each of them wrong
        placed, faulty = self._note_text(name, document)
        for item in unfold(document.value):
            if item.path in faulty or self._add_plain(name, document, item):
                continue
            ref = describe(item.raw, self.namespace)
            if not isinstance(item.raw, dict):
                text = f"{shown(item.raw)} is not an object; write a mapping with apiVersion, kind and metadata"
                found.add(ref, text, (item.path, ref, (), text))
                continue
            fields = Fields()
            for key, text in item.contradictions:
                if key == "kind" or not self.names_only:
                    fields.problem((key,), text)
            if not fields.problems:
                self._add(name, document, item, ref, fields)
            for _, (at, text), more in fields.problems:
                found.add(ref, text, (item.path + fields.place(at, text), ref, at, text), more)
        placed += [(document.line(path), ref, field_text(at), text, more) for _, (path, ref, at, text), more in found]
        placed.sort(key=lambda problem: problem[0])
        for line, ref, where, text, more in placed:
            self.problems.add(ref or name, text, Problem(_at(name, line), ref, where, text), more)

    def _note_text(self, name: str, document: Document) -> tuple[list[tuple[int, str, str, str, int]], set[Path]]:
        """Note what is wrong with the text of a document, be it for those who use it or for nobody.

        Gives the problems, and which objects are not what was written.
        """
        placed: list[tuple[int, str, str, str, int]] = []
        faulty: set[Path] = set()
        for fault in document.faults:
            item = owner(document.value, fault.path)
            ref = describe(item.raw, self.namespace)
            if isinstance(item.raw, dict) and foreign(item.raw):
                self._warn(f"{name}:{fault.line}", ref, _no_matter(fault.message), fault.more)
            elif not self.names_only or _is_in_name(fault.path[len(item.path) :]):
                faulty.add(item.path)
                placed.append((fault.line, ref, "", fault.message, fault.more))
        for double in document.doubled:
            ref = describe(owner(document.value, double.path).raw, self.namespace)
            self._warn(f"{name}:{double.line}", ref, f"{double.message}; the last one counts", double.more)
        return placed, faulty

    def _add_plain(self, name: str, document: Document, item: Item) -> bool:
        """Add an object of which there is nothing to tell; False where there may be, and nothing is added then."""
        made = None if self.names_only or item.contradictions else self.plain.read(item.raw)
        if made is None:
            return False
        obj, claims = made
        ref = str(obj.ref) if claims else ""
        if obj.ref in self.sources or any(self.holders.get(claim, (ref,))[0] != ref for claim in claims):
            return False
        source = _at(name, document.known_line(item.path))
        self.sources[obj.ref] = source
        for claim in claims:
            self.holders.setdefault(claim, (ref, source))
        self.objects.append(Object(obj.ref, obj.raw, obj.values, source))
        return True

    def _add(self, name: str, document: Document, item: Item, ref: str, fields: Fields) -> None:
        path, raw = item.path, item.raw
        source = _at(name, document.known_line(path))
        if kind := foreign(raw):
            self.skipped.add(source, ref, kind)
            return
        if self.names_only:
            self.objects.append(replace(name_object(raw, fields, self.namespace), source=source))
            return
        made = read_object(raw, fields, self.ranges, self.namespace)
        if made.kind in KINDS and self.validate is not Validate.ignore:
            is_strict = self.validate is Validate.strict
            remedy = "leave it out, or choose --validate=warn" if is_strict else "leave it out"
            note_unknown_fields(raw, made.kind, fields, otherwise=remedy)
            note = fields.problem if is_strict else fields.note
            for at, text in fields.unknown:
                note(at, text)
        for _, (at, text), more in fields.notes:
            told = f"{field_text(at)}: {text}" if at else text
            self._warn(_at(name, document.known_line(path + fields.place(at, text))), ref, told, more)
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
                where = _at(name, document.line(path + at))
                leftovers.append(Leftover(at, Problem(where, ref, field_text(at), text, more)))
            else:
                fields.problems.add("", text, (at, text), more)
        self.objects.append(replace(made, source=source, leftovers=tuple(leftovers)))

    def _warn(self, source: str, ref: str, text: str, more: int = 0) -> None:
        self.warnings.add(ref, text, Problem(source, ref, "", text), more)


_NAMING: tuple[Path, ...] = (("kind",), ("apiVersion",), ("metadata", "name"), ("metadata", "namespace"), ("items",))
"""What says which objects a document names. Of apiVersion it is the group, for others may have a kind like ours."""


def _at(name: str, line: int) -> str:
    """A place in a file; "" in none."""
    return f"{name}:{line}" if name else ""


def _is_in_name(path: Path) -> bool:
    """Whether what stands at ``path`` is, holds, or is part of what names an object."""
    return any(path[: len(part)] == part[: len(path)] for part in _NAMING)


def _no_matter(message: str) -> str:
    """What is said of a fault in a document that is skipped: no remedy, for it needs none."""
    return f"{message.partition('; ')[0]}; no matter, for it is skipped"
