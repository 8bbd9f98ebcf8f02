"""Which objects manifests wrote, so that manifests that are followed delete those alone when they leave them.

``sync -f`` takes its manifests for the whole desired state. Who points it at a store that others fill, with ``apply``
or ``create``, does not mean that theirs is to go. So the store notes whose an object is: whoever wrote it last.

A store of an earlier version does not say it. Its objects count as those of others: each that is in the manifests
becomes theirs with the next ``sync -f``, so one that manifests alone have filled goes on as before, and one that they
did not fill loses nothing by an upgrade.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable

from nodeport_nft.model import Ref
from nodeport_nft.problems import clipped
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.sqlite.schema import has_rows, has_table, made_anew

_TABLE = """
CREATE TABLE of_manifests (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name),
    FOREIGN KEY (kind, namespace, name) REFERENCES objects ON DELETE CASCADE
) STRICT, WITHOUT ROWID
"""
_MOST_NAMED = 5


class OthersObjects(StoreError):
    """Manifests are to be the whole state of a store that holds objects which they did not write."""

    def __init__(self, path: object, others: Collection[Ref]) -> None:
        super().__init__(
            f"{path} holds {summary(others)} that the manifests lack and sync -f is not known to have written; "
            "--prune deletes them, apply -f adds the manifests and deletes nothing "
            "(with --dry-run=server -o yaml it shows what they would be)"
        )


def summary(keys: Collection[Ref]) -> str:
    """How many objects these are, and the names of the first few."""
    names = [clipped("/".join(part for part in map(str, key) if part)) for key in sorted(keys, key=repr)]
    count = "1 object" if len(names) == 1 else f"{len(names):,} objects"
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return f"{count} ({', '.join(names[:_MOST_NAMED])}{more})"


def prepare(db: sqlite3.Connection) -> None:
    """Make the table where there is none. Within a write."""
    made_anew(db, "of_manifests", _TABLE)


def note(db: sqlite3.Connection, keys: Iterable[Ref], *, by_manifests: bool) -> None:
    """These stored objects are those of manifests from now on, or of others."""
    if by_manifests:
        query = "INSERT OR IGNORE INTO of_manifests (kind, namespace, name) VALUES (?, ?, ?)"
    else:
        if not any_of_manifests(db):
            return
        query = "DELETE FROM of_manifests WHERE kind = ? AND namespace = ? AND name = ?"
    db.executemany(query, keys)


def is_of_manifests(db: sqlite3.Connection, key: Ref) -> bool:
    """Whether manifests wrote this object last."""
    query = "SELECT 1 FROM of_manifests WHERE kind = ? AND namespace = ? AND name = ?"
    return db.execute(query, key).fetchone() is not None


def any_of_manifests(db: sqlite3.Connection) -> bool:
    """Whether manifests have written anything that is there."""
    return has_rows(db, "of_manifests")


def of_others(db: sqlite3.Connection) -> list[Ref]:
    """The objects that manifests did not write: all of them in a store of an earlier version, which is only read."""
    query = "SELECT kind, namespace, name FROM objects"
    if has_table(db, "of_manifests"):
        query += " EXCEPT SELECT kind, namespace, name FROM of_manifests"
    return [Ref(*key) for key in db.execute(query)]


def refuse_others(db: sqlite3.Connection, path: object, keep: Iterable[Ref]) -> None:
    """Raises OthersObjects if manifests that hold ``keep`` alone would delete what they did not write."""
    kept = frozenset(keep)
    if others := [ref for ref in of_others(db) if ref not in kept]:
        raise OthersObjects(path, others)
