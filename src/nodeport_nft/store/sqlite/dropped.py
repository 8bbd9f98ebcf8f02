"""Which leftovers of a Service were dropped, for as long as they keep coming (``store.leftovers``)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from nodeport_nft.kube import Object
from nodeport_nft.model import Ref
from nodeport_nft.store.leftovers import spec_of
from nodeport_nft.store.sqlite.schema import has_rows, has_table, made_anew

_TABLE = """
CREATE TABLE leftovers (
    kind TEXT NOT NULL DEFAULT 'Service' CHECK (kind = 'Service'),
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name),
    FOREIGN KEY (kind, namespace, name) REFERENCES objects ON DELETE CASCADE
) STRICT, WITHOUT ROWID
"""
_IS_IT = "kind = ? AND namespace = ? AND name = ?"


def prepare(db: sqlite3.Connection) -> None:
    """Make the table where there is none. Within a write."""
    made_anew(db, "leftovers", _TABLE)


def dropped_spec(db: sqlite3.Connection, ref: Ref) -> dict[str, Any]:
    """The spec that came last with what was dropped of it; empty if none did, or somebody has damaged it."""
    if not has_table(db, "leftovers"):  # a store of an earlier version, which is only read
        return {}
    row = db.execute(f"SELECT spec FROM leftovers WHERE {_IS_IT}", ref).fetchone()  # noqa: S608 (constants)
    try:
        return spec_of({"spec": json.loads(row[0])}) if row else {}
    except (ValueError, RecursionError):
        return {}


def remember(db: sqlite3.Connection, objects: Iterable[Object]) -> None:
    """Note which leftovers of these stored objects were dropped; forget those that came no more."""
    services = [obj for obj in objects if obj.kind == "Service"]
    if has_rows(db, "leftovers"):
        keys = [(obj.kind, obj.namespace, obj.name) for obj in services]
        db.executemany(f"DELETE FROM leftovers WHERE {_IS_IT}", keys)  # noqa: S608 (constants)
    db.executemany(
        "INSERT INTO leftovers (namespace, name, spec) VALUES (?, ?, ?)",
        [(obj.namespace, obj.name, json.dumps(spec_of(obj.raw))) for obj in services if obj.leftovers],
    )
