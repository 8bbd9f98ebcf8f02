"""What an earlier version has kept of documents, and this one would not, is erased from the file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress

from nodeport_nft.store.trimming import trimmed

_TRIMMED = 1
"""The value of the key ``trimmed`` in a store without anything that this version would not keep."""


def trim_store(db: sqlite3.Connection, *, is_sound: Callable[[], bool]) -> None:
    """Erase from the store what an earlier version has kept, once; for watchers nothing has changed.

    Not only the bodies are written anew, but the whole file: what was deleted before is still in its free pages, and
    in the log. Where that cannot be done now (another writer is at work, a reader still needs the old log, the medium
    is read-only or full) nothing is amiss, and the next one who opens the store tries again. A store is marked last.
    One that is not sound is left as it is: whoever reads the pages of a damaged file may find rows missing.
    """
    timeout = db.execute("PRAGMA busy_timeout").fetchone()[0]
    db.execute("PRAGMA busy_timeout = 0")  # whoever only reads must not wait for a writer
    try:
        with suppress(sqlite3.DatabaseError):  # also of a damaged store, of which reading says more
            if _is_trimmed(db) or not is_sound():
                return
            _trim_bodies(db)
            db.execute("VACUUM")
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                mark_trimmed(db)
    finally:
        db.execute(f"PRAGMA busy_timeout = {timeout}")


def mark_trimmed(db: sqlite3.Connection) -> None:
    """Notes that there is nothing to erase, as in a new store."""
    db.execute(
        "INSERT INTO meta (key, value) VALUES ('trimmed', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_TRIMMED,),
    )


def _is_trimmed(db: sqlite3.Connection) -> bool:
    row = db.execute("SELECT value FROM meta WHERE key = 'trimmed'").fetchone()
    return row is not None and isinstance(row[0], int) and row[0] >= _TRIMMED


def _trim_bodies(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        rows = db.execute(
            "SELECT rowid, CAST(body AS BLOB) FROM objects"
        )  # text that is not UTF-8 would end the loop
        changed = [(text, row) for row, body in rows if (text := _trimmed_text(body)) is not None]
        db.executemany("UPDATE objects SET body = ? WHERE rowid = ?", changed)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _trimmed_text(text: bytes) -> str | None:
    """A stored body without what is not kept; None where that is all of it, or where somebody has damaged it."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    kept = trimmed(body)
    return None if kept == body else json.dumps(kept, separators=(",", ":"))
