"""The embedded store: one SQLite file, many processes.

Most who open it only read: what a write, a check or a copy wants is imported by those.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nodeport_nft.kube import Object
from nodeport_nft.model import Ranges, Ref
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import Written
from nodeport_nft.store.bodies import Body, StoredBodies
from nodeport_nft.store.objects import Damaged
from nodeport_nft.store.sqlite import writers
from nodeport_nft.store.sqlite.errors import translated
from nodeport_nft.store.sqlite.opening import connect, is_frozen
from nodeport_nft.store.sqlite.rows import read_row, read_rows
from nodeport_nft.store.sqlite.schema import check_structure, has_table, read_version

if TYPE_CHECKING:
    from nodeport_nft.store.checking import Checked
    from nodeport_nft.store.copying import Image
    from nodeport_nft.store.sqlite.transaction import Transaction
    from nodeport_nft.store.writing import Plan


class Store(StoredBodies):
    """One file. A write is atomic, however large; other threads and processes open their own Store.

    Raises StoreError where the file cannot be read or written.
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
        written, whatever happens: see ``opening.connect``.
        """
        super().__init__(path, validate)
        self._path = path
        self._ranges = ranges
        self._db = connect(path, reading=reading)

    @property
    def is_frozen(self) -> bool:
        """Whether this store sees nothing of what others write to its file from now on: it must be opened again."""
        return is_frozen(self._db)

    def close(self) -> None:
        """Closes the file; what is not committed by then is not written."""
        self._db.close()

    def write(
        self,
        puts: Sequence[Object] = (),
        deletes: Collection[Ref] = (),
        *,
        now: str,
        only_new: bool = False,
        dry_run: bool = False,
    ) -> Written:
        """As ``Objects`` has it: one transaction, in which others' writes are waited for."""
        if dry_run:
            with self.reading():
                return self._planned(puts, deletes, now, only_new).outcome()
        with self.transaction() as transaction:
            planned = self._planned(puts, deletes, now, only_new)
            return planned.outcome(transaction.carry_out(planned))

    def _planned(self, puts: Sequence[Object], deletes: Collection[Ref], now: str, only_new: bool) -> Plan:
        from nodeport_nft.store.sqlite.known import KnownRows
        from nodeport_nft.store.writing import plan

        return plan(puts, deletes, KnownRows(self._db), self._ranges, now=now, only_new=only_new)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """The write lock and a transaction, committed when the block ends, rolled back on an exception.

        Another process's write is waited for up to errors.BUSY_SECONDS; StoreError after that.
        """
        from nodeport_nft.store.sqlite.transaction import Transaction

        with translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                transaction = Transaction(self._db, self._ranges, self._path)
                yield transaction
                self._db.execute("COMMIT")
                self._ring()
            except BaseException:
                if self._db.in_transaction:  # SQLite itself has rolled back where the disk was full
                    self._db.execute("ROLLBACK")
                raise

    def refuse_others(self, keep: Iterable[Object]) -> None:
        """Raises OthersObjects if manifests that hold ``keep`` alone would delete what they did not write."""
        with translated(self._path):
            writers.refuse_others(self._db, self._path, (obj.ref for obj in keep))

    def any_of_manifests(self) -> bool:
        """Whether manifests that are followed have written anything of what is stored."""
        with translated(self._path):
            return has_table(self._db, "of_manifests") and writers.any_of_manifests(self._db)

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

    def bodies(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Body | Damaged]:
        """The rows, as ``StoredBodies`` has it. Whether any may be missing is looked at where all are wanted."""
        if kind is None and namespace is None:
            check_structure(self._db, self._path)
        with translated(self._path):
            yield from read_rows(self._db, kind, namespace)

    def check(self, *, repair: bool = False) -> Checked:
        """What is wrong with what the tables hold. Raises StoreError also for damaged pages, and a lost version."""
        from nodeport_nft.store.sqlite import checking

        check_structure(self._db, self._path)
        with self.transaction() if repair else self.reading():
            read_version(self._db, self._path)  # without it nothing can be written any more
            return checking.check(self._db, repair=repair)

    def image(self) -> Image:
        """All of it, at one moment, to be copied. Raises StoreError."""
        from nodeport_nft.store.sqlite import copying

        check_structure(self._db, self._path)
        with self.reading():
            return copying.read_image(self._db, self._path)

    def body(self, ref: Ref) -> Body | Damaged | None:
        """One row, as ``StoredBodies`` has it."""
        with translated(self._path):
            return read_row(self._db, ref)

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

    def changed_since(self, resource_version: int) -> dict[Ref, str]:
        """What was created, changed or deleted after that resource version, in order, with its version.

        That is "" if it is gone; one that is there goes before a stray tombstone of its name.
        """
        with translated(self._path):
            rows = self._db.execute(
                "SELECT resource_version, 0, kind, namespace, name FROM objects WHERE resource_version > :since"
                " UNION ALL"
                " SELECT resource_version, 1, kind, namespace, name FROM tombstones WHERE resource_version > :since"
                " ORDER BY 1",
                {"since": resource_version},
            )
            versions: dict[Ref, str] = {}
            for version, is_gone, *key in rows:
                ref = Ref(*key)
                versions[ref] = versions.get(ref, "") if is_gone else str(version)
            return versions
