"""The rows of the file, as far as they are objects."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from nodeport_nft.kube import Object
from nodeport_nft.model import Ref
from nodeport_nft.problems import clipped
from nodeport_nft.store.objects import Damaged, read_document
from nodeport_nft.store.sqlite.schema import LAST_VERSION

# A column may hold anything, whatever was declared; a body of bytes says itself whether it is text.
_COLUMNS = "SELECT kind, namespace, name, resource_version, typeof(body), CAST(body AS BLOB) FROM objects"


def read_rows(
    db: sqlite3.Connection, kind: str | None = None, namespace: str | None = None
) -> Iterator[Object | Damaged]:
    """The rows of a kind and a namespace (None: of all), sorted by kind, namespace and name."""
    rows = db.execute(
        f"{_COLUMNS} WHERE (:kind IS NULL OR kind = :kind) AND (:namespace IS NULL OR namespace = :namespace)"
        " ORDER BY kind, namespace, name",
        {"kind": kind, "namespace": namespace},
    )
    return map(_read_row, rows)


def read_row(db: sqlite3.Connection, ref: Ref) -> Object | Damaged | None:
    """One row, None if there is none of that name."""
    row = db.execute(f"{_COLUMNS} WHERE kind = ? AND namespace = ? AND name = ?", ref).fetchone()
    return None if row is None else _read_row(row)


class UnreadRow(NamedTuple):
    """A row as it is in the file, each column of whatever type."""

    kind: Any
    namespace: Any
    name: Any
    version: Any
    kind_of_body: Any
    body: Any

    @property
    def is_sound(self) -> bool:
        """Whether the columns are what they are to be; what the body says is not looked at."""
        return (
            self.kind_of_body == "text"
            and type(self.namespace) is type(self.name) is str
            and type(self.version) is int
            and 0 < self.version <= LAST_VERSION
        )

    def read(self) -> Object | Damaged:
        """The object of the row."""
        return _read_row(self)


def unread_rows(db: sqlite3.Connection, kind: str, namespace: str | None) -> list[UnreadRow]:
    """The rows of a kind as ``read_rows`` has them, before they are read."""
    where, asked = ("kind = ?", (kind,)) if namespace is None else ("kind = ? AND namespace = ?", (kind, namespace))
    rows = db.execute(f"{_COLUMNS} WHERE {where} ORDER BY kind, namespace, name", asked)
    return list(map(UnreadRow._make, rows))


def _read_row(row: tuple[Any, ...]) -> Object | Damaged:
    kind, namespace, name, version, kind_of_body, body = row
    # Of a hundred thousand objects each names its kind and namespace: one text for all of them.
    ref = Ref(_shared(kind), _shared(namespace), name if isinstance(name, str) else f"{name!r}")
    if body is None or kind_of_body != "text":
        return Damaged(ref, f"its body is no text but {kind_of_body}", frozenset((ref,)))
    is_version = isinstance(version, int) and 0 < version <= LAST_VERSION
    fault = "" if is_version else f"its resource version {clipped(str(version))} is none"
    return read_document(ref, str(version), body, fault)


def _shared(part: object) -> str:
    return sys.intern(part) if isinstance(part, str) else f"{part!r}"
