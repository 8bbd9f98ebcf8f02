"""What is read out of the store: objects as documents, and all of them as a Snapshot of the model.

Disks, editors and other programs damage files. A row that cannot be read is told (``Damaged``) and hides no other:
whoever acts on the objects must know that there is one more, of which nothing is known but its name.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NoReturn

from nodeport_nft.manifest import Problems, parse_object
from nodeport_nft.manifest.document import MAX_DEPTH, too_deep
from nodeport_nft.manifest.objects import KINDS
from nodeport_nft.manifest.yaml_text import finite
from nodeport_nft.model import EndpointSlice, Node, Pod, Ref, Service, Snapshot, Value
from nodeport_nft.problems import clipped
from nodeport_nft.store.schema import LAST_VERSION
from nodeport_nft.terminal import printable

_REFS = {"EndpointSlice": "endpointslice.discovery.k8s.io"}


class _Unreadable(Exception):
    """What is wrong with a row."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is stored; ``raw`` has its ``metadata.resourceVersion`` filled in."""

    kind: str
    namespace: str
    name: str
    resource_version: int
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that is no object, and ``why``. ``ref`` is what it is filed under; it may be about any of ``meant``.

    ``raw`` is its document, as far as that is one.
    """

    ref: Ref
    why: str
    meant: frozenset[Ref]
    raw: dict[str, Any] | None = None

    def told(self, path: object) -> str:
        """What an operator is told, with the store's path and the remedy."""
        known = self.ref.kind in KINDS and printable(str(self.ref)) == str(self.ref)
        remedy = "apply it again or delete it" if known else "restore the store from a copy, or delete that row"
        return f"{printable(str(self.ref))} in {path} cannot be read: {self.why}; {remedy}"


def reference(kind: str, name: str) -> str:
    """An object as kubectl names it in its answers: "service/web"."""
    return f"{_REFS.get(kind, kind.lower())}/{name}"


def with_resource_version(body: dict[str, Any], version: int) -> dict[str, Any]:
    """A stored body as a reader sees it."""
    metadata = body.get("metadata")
    own = metadata if isinstance(metadata, dict) else {}
    return {**body, "metadata": {**own, "resourceVersion": str(version)}}


# A column may hold anything, whatever was declared; a body of bytes says itself whether it is text.
_COLUMNS = "SELECT kind, namespace, name, resource_version, typeof(body), CAST(body AS BLOB) FROM objects"


def read_rows(
    db: sqlite3.Connection, kind: str | None = None, namespace: str | None = None
) -> Iterator[StoredObject | Damaged]:
    """The rows of a kind and a namespace (None: of all), sorted by kind, namespace and name."""
    rows = db.execute(
        f"{_COLUMNS} WHERE (:kind IS NULL OR kind = :kind) AND (:namespace IS NULL OR namespace = :namespace)"
        " ORDER BY kind, namespace, name",
        {"kind": kind, "namespace": namespace},
    )
    return map(_read_row, rows)


def read_row(db: sqlite3.Connection, ref: Ref) -> StoredObject | Damaged | None:
    """One row, None if there is none of that name."""
    row = db.execute(f"{_COLUMNS} WHERE kind = ? AND namespace = ? AND name = ?", ref).fetchone()
    return None if row is None else _read_row(row)


def _read_row(row: tuple[Any, ...]) -> StoredObject | Damaged:
    *key, version, kind_of_body, body = row
    ref = Ref(*(part if isinstance(part, str) else f"{part!r}" for part in key))
    raw: dict[str, Any] | None = None
    try:
        raw = _document(body, kind_of_body)
        _check_identity(raw, ref)
        _check_version(version)
    except _Unreadable as error:
        return Damaged(ref, str(error), frozenset((ref, *_named(raw))), raw)
    return StoredObject(*ref, version, with_resource_version(raw, version))


def _document(body: bytes | None, kind: str) -> dict[str, Any]:
    """A stored body. Raises _Unreadable with what is wrong with it."""
    if body is None or kind != "text":
        raise _Unreadable(f"its body is no text but {kind}")
    try:
        document = _JSON.decode(body.decode())
    except UnicodeDecodeError:
        raise _Unreadable("its body is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise _Unreadable(f"its body is not JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise _Unreadable("its body is nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise _Unreadable(f"its body is not JSON: {clipped(str(error))}") from None
    if not isinstance(document, dict):
        raise _Unreadable("its body is no mapping")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and too_deep(document):
        raise _Unreadable("its body is nested too deeply")
    if not isinstance(document.get("metadata"), dict):
        raise _Unreadable("its body has no metadata")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON")


_JSON = json.JSONDecoder(parse_float=finite, parse_constant=_no_constant)


def _check_identity(raw: dict[str, Any], ref: Ref) -> None:
    metadata = raw["metadata"]
    own = raw.get("kind"), "" if ref.kind == "Node" else metadata.get("namespace"), metadata.get("name")
    if own == tuple(ref):
        if ref.kind not in KINDS:
            raise _Unreadable("its kind is not used here")
        return
    named = "/".join(part if isinstance(part, str) else "?" for part in own if part != "")
    raise _Unreadable(f"its body is that of {clipped(named)}")


def _check_version(version: object) -> None:
    if not (isinstance(version, int) and 0 < version <= LAST_VERSION):
        raise _Unreadable(f"its resource version {clipped(str(version))} is none")


def _named(raw: dict[str, Any] | None) -> Iterable[Ref]:
    """What a document says that it is, if it does."""
    if raw is None or raw.get("kind") not in KINDS:
        return ()
    namespace = "" if raw["kind"] == "Node" else raw["metadata"].get("namespace")
    name = raw["metadata"].get("name")
    return (Ref(raw["kind"], namespace, name),) if isinstance(namespace, str) and isinstance(name, str) else ()


def read_values(
    db: sqlite3.Connection, look: Callable[[StoredObject], None] | None = None
) -> Iterator[tuple[Ref, tuple[Value, ...] | Damaged]]:
    """Every object parsed into the model, or what is wrong with it; no ranges are checked (see ``made_of``).

    ``look`` is shown each object before it is parsed.
    """
    for row in read_rows(db):
        if isinstance(row, Damaged):
            yield row.ref, row
        else:
            if look:
                look(row)
            # Of a hundred thousand objects each names its kind and namespace: one object for all of them.
            yield Ref(sys.intern(row.kind), sys.intern(row.namespace), row.name), parsed(row)


def parsed(stored: StoredObject) -> tuple[Value, ...] | Damaged:
    """What a stored object is made into, or what is wrong with it."""
    try:
        return parse_object(stored.raw, ranges=None).values
    except Problems as error:
        why = "; ".join(": ".join(filter(None, (each.field, each.message))) for each in error.problems)
        ref = Ref(stored.kind, stored.namespace, stored.name)
        return Damaged(ref, why, frozenset((ref,)), stored.raw)


def made_of(values: Iterable[Value]) -> Snapshot:
    """These values, which come in the order of the store, sorted by namespace and name.

    No ranges are checked: what was given stays good when they change.
    """
    services: list[Service] = []
    slices: list[EndpointSlice] = []
    pods: list[Pod] = []
    nodes: list[Node] = []
    for value in values:
        match value:
            case Service():
                services.append(value)
            case EndpointSlice():
                slices.append(value)
            case Pod():
                pods.append(value)
            case Node():
                nodes.append(value)
    by_name = attrgetter("namespace", "name")  # slices come from two kinds, the rest is in this order already
    return Snapshot(tuple(services), tuple(sorted(slices, key=by_name)), tuple(pods), tuple(nodes))
