"""What a store is: its tables, how a file that is none or was one is told, and whether its pages are whole."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from nodeport_nft.store.errors import DAMAGED, ELSEWHERE, LOST, StoreError
from nodeport_nft.store.sqlite.erasing import mark_trimmed
from nodeport_nft.store.sqlite.errors import translated

_APPLICATION_ID = 0x6E706E66  # "npnf"; stands at offset 68 of the file, where file(1) looks for it
_SCHEMA_VERSION = 1
_MAGIC = b"SQLite format 3\x00"

HEAD_BYTES = 105
"""So much of the file is looked at before SQLite opens it."""

# Each allocation refers to its Service and goes with it; `kind` is there for that reference alone.
_SCHEMA = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('resource_version', 0);

CREATE TABLE objects (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    resource_version INTEGER NOT NULL UNIQUE,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) STRICT;

CREATE TABLE tombstones (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    resource_version INTEGER NOT NULL UNIQUE,
    PRIMARY KEY (kind, namespace, name)
) STRICT;

CREATE TABLE node_ports (
    port INTEGER PRIMARY KEY,
    kind TEXT NOT NULL DEFAULT 'Service' CHECK (kind = 'Service'),
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    FOREIGN KEY (kind, namespace, name) REFERENCES objects ON DELETE CASCADE
) STRICT;
CREATE INDEX node_ports_by_owner ON node_ports (kind, namespace, name);

CREATE TABLE cluster_ips (
    ip TEXT PRIMARY KEY,
    kind TEXT NOT NULL DEFAULT 'Service' CHECK (kind = 'Service'),
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    FOREIGN KEY (kind, namespace, name) REFERENCES objects ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX cluster_ips_by_owner ON cluster_ips (kind, namespace, name);

"""
_TABLES = ("meta", "objects", "tombstones", "node_ports", "cluster_ips")

LAST_VERSION = 1 << 62
"""The largest resource version: far from where SQLite's integers end, beyond which sums turn into floats."""


def read_version(db: sqlite3.Connection, path: object) -> int:
    """The number of the latest change. Raises StoreError where the store at ``path`` has lost it."""
    row = db.execute("SELECT value FROM meta WHERE key = 'resource_version'").fetchone()
    if row is None:
        raise StoreError(f"{path}: {LOST}")
    if not (isinstance(row[0], int) and 0 <= row[0] <= LAST_VERSION):
        remedy = "restore it from a copy, or save what is in it with nodeport-nft store copy"
        raise StoreError(f"{path}: its resource version is damaged ({row[0]!r:.40}); {remedy}")
    return row[0]


def create_schema(db: sqlite3.Connection) -> None:
    """Makes the tables, and marks the file as ours."""
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    mark_trimmed(db)


def check_head(path: Path, head: bytes, *, has_log: bool) -> None:
    """Refuses what is not ours, and what was, by the first HEAD_BYTES of the file.

    ``has_log``: there is a write-ahead log beside it, with what the file itself may lack. Raises StoreError.
    """
    if head and not head.startswith(_MAGIC):
        raise StoreError(f"{path}: is not a nodeport-nft store; {ELSEWHERE}")
    # From byte 100 on stands the list of tables: a leaf (13), and how many there are (sqlite.org/fileformat2.html).
    has_none = head[68:72] == bytes(4) and head[100:101] == b"\x0d" and head[103:105] == bytes(2)
    if len(head) < HEAD_BYTES or (has_none and not has_log):
        raise StoreError(f"{path}: {LOST}")
    _check_ids(path, int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big"))


def check_contents(db: sqlite3.Connection, path: Path) -> None:
    """The same by what SQLite reads of it."""
    application_id, version = (
        db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("application_id", "user_version")
    )
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables:
        _check_ids(path, application_id, version)
    if not tables.issuperset(_TABLES):
        raise StoreError(f"{path}: {LOST}")


def _check_ids(path: str | Path, application_id: int, version: int) -> None:
    if application_id != _APPLICATION_ID:
        raise StoreError(f"{path}: is the SQLite database of another program; {ELSEWHERE}")
    if version > _SCHEMA_VERSION:
        raise StoreError(
            f"{path}: was written by a newer version (schema {version}, this one knows {_SCHEMA_VERSION}); "
            f"upgrade nodeport-nft, or {ELSEWHERE}"
        )


_OF_ROWS = re.compile(r"(NULL|non-\w+|[A-Z]+) value in |CHECK constraint failed")


def has_table(db: sqlite3.Connection, table: str) -> bool:
    """Whether there is a table of that name."""
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None


def has_rows(db: sqlite3.Connection, table: str) -> bool:
    """Whether there is anything in a table: tens of thousands of questions need not be asked of an empty one."""
    return db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None  # noqa: S608 (a name of ours)


def made_anew(db: sqlite3.Connection, table: str, *statements: str) -> bool:
    """Make a table that stores of earlier versions lack, and say whether it was missing. Within a write."""
    if has_table(db, table):
        return False
    for statement in statements:
        db.execute(statement)
    return True


def check_structure(db: sqlite3.Connection, path: str | Path) -> None:
    """Raises StoreError where pages of the file are damaged, so that rows may be missing without an error."""
    with translated(path):
        if fault := structure_fault(db):
            raise StoreError(f"{path}: database disk image is malformed ({fault}); {DAMAGED}")


def structure_fault(db: sqlite3.Connection) -> str:
    """What is wrong with the pages of the file; "" if nothing is. What is wrong within a row is not looked at.

    60,000 objects take 0.14 s.
    """
    for (line,) in db.execute("PRAGMA integrity_check(1000000)"):
        if line != "ok" and not _OF_ROWS.match(line):
            return " ".join(line.split())[:200]
    return ""
