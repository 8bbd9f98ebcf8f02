"""The rows of the file, as far as they are objects."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from typing import Any

from nodeport_nft.model import Ref
from nodeport_nft.problems import clipped
from nodeport_nft.store.bodies import Body
from nodeport_nft.store.objects import Damaged
from nodeport_nft.store.sqlite.schema import LAST_VERSION

# A column may hold anything, whatever was declared; a body of bytes says itself whether it is text.
_COLUMNS = (
    "SELECT kind, namespace, name, resource_version, nullif(typeof(body), 'text'), CAST(body AS BLOB) FROM objects"
)


def read_rows(
    db: sqlite3.Connection, kind: str | None = None, namespace: str | None = None
) -> Iterator[Body | Damaged]:
    """The rows of a kind and a namespace (None: of all), sorted by kind, namespace and name."""
    rows = db.execute(
        f"{_COLUMNS} WHERE (:kind IS NULL OR kind = :kind) AND (:namespace IS NULL OR namespace = :namespace)"
        " ORDER BY kind, namespace, name",
        {"kind": kind, "namespace": namespace},
    )
    return map(_read_row, rows)


def read_row(db: sqlite3.Connection, ref: Ref) -> Body | Damaged | None:
    """One row, None if there is none of that name."""
    row = db.execute(f"{_COLUMNS} WHERE kind = ? AND namespace = ? AND name = ?", ref).fetchone()
    return None if row is None else _read_row(row)


def _read_row(row: tuple[Any, ...]) -> Body | Damaged:
    kind, namespace, name, version, strange, body = row
    # Of a hundred thousand objects each names its kind and namespace: one text for all of them.
    if isinstance(kind, str) and isinstance(namespace, str) and isinstance(name, str):
        ref = Ref(sys.intern(kind), sys.intern(namespace), name)
    else:
        ref = Ref(*(part if isinstance(part, str) else f"{part!r}" for part in (kind, namespace, name)))
    if strange is not None:
        return Damaged(ref, f"its body is not text but {strange}", frozenset((ref,)))
    is_version = isinstance(version, int) and 0 < version <= LAST_VERSION
    fault = "" if is_version else f"its resource version {clipped(str(version))} is none"
    return Body(ref, str(version), body, fault)
