"""Stores damaged as disks, editors and other programs do it, for tests about what becomes of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_LOOSE = (
    (") STRICT", ")"),
    ("body TEXT NOT NULL", "body"),
    ("resource_version INTEGER NOT NULL UNIQUE", "resource_version UNIQUE"),
)


def rewrite(path: Path, statement: str, *values: object) -> None:
    """Run a statement on the store at ``path`` that its declarations would forbid."""
    with closing(sqlite3.connect(path, timeout=60)) as db:
        declared = db.execute("SELECT sql FROM sqlite_master WHERE name = 'objects'").fetchone()[0]
    loose = declared
    for before, after in _LOOSE:
        assert before in loose
        loose = loose.replace(before, after)
    _declare(path, loose)
    try:
        with closing(sqlite3.connect(path, timeout=60)) as db, db:
            assert db.execute(statement, values).rowcount == 1
            db.execute("UPDATE meta SET value = value + 1")
    finally:
        _declare(path, declared)


def _declare(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'objects'", (sql,))
        version = db.execute("PRAGMA schema_version").fetchone()[0]
        db.execute(f"PRAGMA schema_version = {version + 1}")
        db.execute("COMMIT")


ROWS: dict[str, tuple[str, object]] = {
    "not-utf8": ("body = CAST(? AS TEXT)", b'{"kind": "\xff\xfe"}'),
    "blob": ("body = ?", b"{}"),
    "null": ("body = ?", None),
    "number": ("body = ?", 7),
    "empty": ("body = ?", ""),
    "no-json": ("body = ?", "apiVersion: v1"),
    "no-mapping": ("body = ?", "[]"),
    "nan": ("body = replace(body, '80,', ?)", "NaN,"),
    "deep": ("body = ?", '{"metadata":{},"x":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "deep-enough": ("body = json_set(body, '$.x', json(?))", "[" * 500 + "]" * 500),
    "long-integer": ("body = ?", '{"metadata":{},"x":' + "9" * 5000 + "}"),
    "no-metadata": ("body = json_remove(body, '$.metadata', ?)", "$.y"),
    "metadata-no-mapping": ("body = json_set(body, '$.metadata', ?)", "web"),
    "no-name": ("body = json_remove(body, '$.metadata.name', ?)", "$.y"),
    "another-kind": ("body = json_set(body, '$.kind', ?)", "Pod"),
    "another-name": ("body = json_set(body, '$.metadata.name', ?)", "other"),
    "no-such-protocol": ("body = json_set(body, '$.spec.ports[0].protocol', ?)", "XYZ"),
    "spec-no-mapping": ("body = json_set(body, '$.spec', ?)", "all"),
    "version-too-large": ("resource_version = ?", (1 << 63) - 1),
    "version-negative": ("resource_version = ?", -5),
    "version-text": ("resource_version = ?", "abc"),
    "version-null": ("resource_version = ?", None),
}
"""What may be wrong with a row: an assignment, and its value."""


def damage(path: Path, what: str, kind: str = "Service", name: str = "web") -> None:
    """Damage one row in one of the ways of ``ROWS``."""
    assignment, value = ROWS[what]
    rewrite(path, f"UPDATE objects SET {assignment} WHERE kind = '{kind}' AND name = '{name}'", value)
