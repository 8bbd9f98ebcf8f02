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

from nodeport_nft.model import Parsed, Ranges, Ref, Snapshot, Value
from nodeport_nft.settings import Validate
from nodeport_nft.store.errors import translated
from nodeport_nft.store.opening import connect, is_frozen
from nodeport_nft.store.records import Damaged, StoredObject, made_of, parsed, read_row, read_rows, read_values
from nodeport_nft.store.schema import check_structure
from nodeport_nft.store.strange import strange_fields, told_strange
from nodeport_nft.store.transaction import Transaction, read_version


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

    ``damaged`` are the rows that could not be read of what was asked for so far: they are nowhere else. ``strange``
    are warnings about the unknown fields of the objects that were parsed so far.

    Every method raises StoreError where the file cannot be read or written. A Store belongs to the thread
    that made it; other threads and processes open their own.
    """

    def __init__(
        self,
        path: str | Path = ":memory:",
        *,
        ranges: Ranges,
        reading: bool = False,
        validate: Validate = Validate.ignore,
    ) -> None:
        """Opens the store at ``path``; creates it, and its parent directories, where there is none.

        ``ranges`` is what new allocations draw on; what is held already stays. With ``reading`` nothing is created or
        written, whatever happens: see ``schema.connect``. Unknown fields are looked for unless ``validate`` says
        ignore.
        """
        self.damaged: dict[Ref, Damaged] = {}
        self.strange: dict[Ref, tuple[str, ...]] = {}
        self._validate = validate
        self._path = path
        self._ranges = ranges
        self._db = connect(path, reading=reading)

    @property
    def is_frozen(self) -> bool:
        """Whether this store sees nothing of what others write to its file from now on: it must be opened again."""
        return is_frozen(self._db)

    def complaints(self) -> tuple[str, ...]:
        """What an operator is told of the ``damaged``."""
        return tuple(self.complaint(self.damaged[ref]) for ref in sorted(self.damaged))

    def complaint(self, damaged: Damaged) -> str:
        """What an operator is told of a row, with the remedy."""
        return damaged.told(self._path)

    def doubts(self) -> tuple[str, ...]:
        """What an operator is told of unknown fields; from some number on, those of a kind are counted."""
        return told_strange(self.strange, self._path)

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

        Another process's write is waited for up to errors.BUSY_SECONDS; StoreError after that.
        """
        with translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                transaction = Transaction(self._db, self._ranges, self._path)
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

    def draft(self) -> Store:
        """A copy in memory, to try writes that are not meant: this store need not be writable for it."""
        copy = Store(ranges=self._ranges)
        with translated(self._path):
            self._db.backup(copy._db)
        copy._path = self._path
        return copy

    def objects(self, kind: str | None = None, namespace: str | None = None) -> tuple[StoredObject, ...]:
        """The objects of a kind and a namespace (None: of all), sorted by kind, namespace and name."""
        with translated(self._path):
            rows = [self._noted(row) for row in read_rows(self._db, kind, namespace)]
        return tuple(row for row in rows if isinstance(row, StoredObject))

    def get(self, kind: str, namespace: str, name: str) -> StoredObject | None:
        """One object, None if there is none of that name, or it is ``damaged``. The namespace of a Node is ""."""
        with translated(self._path):
            row = self._noted(read_row(self._db, Ref(kind, namespace, name)))
        return row if isinstance(row, StoredObject) else None

    def snapshot(self) -> Snapshot:
        """Every stored object, parsed into the model, but for those that are ``damaged``."""
        return made_of(value for _, values in self.readable() for value in values)

    def readable(self) -> tuple[Parsed, ...]:
        """Every stored object with what it is parsed into, but for those that are ``damaged``."""
        found: list[Parsed] = []
        self.damaged.clear()
        for ref, values in self.values():
            if isinstance(values, Damaged):
                self.damaged[ref] = values
            else:
                found.append((ref, values))
        return tuple(found)

    def values(self) -> Iterator[tuple[Ref, tuple[Value, ...] | Damaged]]:
        """Every stored object parsed into the model, or what is wrong with it.

        Raises StoreError where the file is damaged such that some may be missing.
        """
        check_structure(self._db, self._path)
        self.strange.clear()
        with translated(self._path):
            yield from read_values(self._db, None if self._validate is Validate.ignore else self._look)

    def value(self, ref: Ref) -> tuple[Value, ...] | Damaged:
        """One object parsed, or what is wrong with it; without values if there is none of that name."""
        with translated(self._path):
            row = read_row(self._db, ref)
        self.strange.pop(ref, None)
        if row is None:
            return ()
        if not isinstance(row, StoredObject):
            return row
        if self._validate is not Validate.ignore:
            self._look(row)
        return parsed(row)

    def _look(self, row: StoredObject) -> None:
        if found := strange_fields(row.kind, row.raw):
            self.strange[Ref(row.kind, row.namespace, row.name)] = found

    def _noted(self, row: StoredObject | Damaged | None) -> StoredObject | Damaged | None:
        if isinstance(row, Damaged):
            self.damaged[row.ref] = row
        elif row is not None:
            self.damaged.pop(Ref(row.kind, row.namespace, row.name), None)
        return row

    def resource_version(self) -> int:
        """The number of the latest change; 0 in a new store. To list and then watch, ask for it first."""
        with translated(self._path):
            return read_version(self._db, self._path)

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
