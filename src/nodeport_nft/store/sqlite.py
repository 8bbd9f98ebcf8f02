"""The embedded store: one SQLite file, many processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nodeport_nft.manifest import Problems
from nodeport_nft.model import Ranges, Ref, Snapshot, Value
from nodeport_nft.store.records import StoredObject, parsed, read_object, read_objects, read_snapshot, read_values
from nodeport_nft.store.schema import StoreError, connect, translated
from nodeport_nft.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Change:
    """An object that was created or changed, or ``deleted``, at a resource version."""

    resource_version: int
    kind: str
    namespace: str
    name: str
    deleted: bool


class Store:
    """Objects and what they hold. Use it as a context manager, or close it.

    Every method raises StoreError where the file cannot be read or written. A Store belongs to the thread
    that made it; other threads and processes open their own.
    """

    def __init__(self, path: str | Path = ":memory:", *, ranges: Ranges) -> None:
        """Opens the store at ``path``; creates it, and its parent directories, where there is none.

        ``ranges`` is what new allocations draw on; what is held already stays.
        """
        self._path = path
        self._ranges = ranges
        self._db = connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; what is not committed by then is not written."""
        self._db.close()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """The write lock and a transaction, committed when the block ends, rolled back on an exception.

        Another process's write is waited for up to schema.BUSY_SECONDS; StoreError after that.
        """
        with translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                transaction = Transaction(self._db, self._ranges)
                yield transaction
                self._db.execute("ROLLBACK" if transaction.rolled_back else "COMMIT")
                if not transaction.rolled_back:
                    self._ring()
            except BaseException:
                if self._db.in_transaction:  # SQLite itself has rolled back where the disk was full
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All that is read in the block is of one moment, whatever others write meanwhile."""
        with translated(self._path):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                if self._db.in_transaction:  # SQLite itself has rolled back where it found no memory
                    self._db.execute("ROLLBACK")

    def objects(self, kind: str | None = None, namespace: str | None = None) -> tuple[StoredObject, ...]:
        """The objects of a kind and a namespace (None: of all), sorted by kind, namespace and name."""
        with translated(self._path):
            return tuple(read_objects(self._db, kind, namespace))

    def get(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        """One object, None if there is none of that name. The namespace of a Node is ""."""
        with translated(self._path):
            return read_object(self._db, kind, namespace, name)

    def snapshot(self) -> Snapshot:
        """Every stored object, parsed into the model. Raises Problems for what does not parse."""
        with translated(self._path):
            return read_snapshot(self._db)

    def values(self) -> Iterator[tuple[Ref, tuple[Value, ...] | Problems]]:
        """Every stored object parsed into the model, or what is wrong with it."""
        with translated(self._path):
            yield from read_values(self._db)

    def value(self, ref: Ref) -> tuple[Value, ...] | Problems:
        """One object parsed; without values if there is none of that name."""
        stored = self.get(*ref)
        return () if stored is None else parsed(stored)

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        with translated(self._path):
            return int(self._db.execute("SELECT count(*) FROM objects WHERE kind = ?", (kind,)).fetchone()[0])

    def resource_version(self) -> int:
        """The number of the latest change; 0 in a new store. To list and then watch, ask for it first."""
        with translated(self._path):
            row = self._db.execute("SELECT value FROM meta WHERE key = 'resource_version'").fetchone()
            if row is None:
                raise StoreError(f"{self._path}: has lost what it held; restore it from a copy")
            return int(row[0])

    def _ring(self) -> None:
        """Let watchers of the file know that there is something new to read.

        What SQLite itself does to its files happens before a commit can be seen by others, or in shared memory, of
        which inotify(7) tells nothing.
        """
        with contextlib.suppress(OSError):  # somebody else's file that we may write, but not touch
            os.utime(self._path)

    def changes_since(self, resource_version: int) -> tuple[Change, ...]:
        """What was created, changed or deleted after that resource version, in order; each object once."""
        with translated(self._path):
            rows = self._db.execute(
                "SELECT resource_version, kind, namespace, name, 0 FROM objects"
                " WHERE resource_version > :since UNION ALL"
                " SELECT resource_version, kind, namespace, name, 1 FROM tombstones"
                " WHERE resource_version > :since ORDER BY 1",
                {"since": resource_version},
            )
            return tuple(
                Change(version, kind, namespace, name, bool(deleted))
                for version, kind, namespace, name, deleted in rows
            )
