"""The file: its tables, how it is opened, and how one that is not ours is recognised and left alone."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUSY_SECONDS = 60.0

_APPLICATION_ID = 0x6E706E66  # "npnf"; stands at offset 68 of the file, where file(1) looks for it
_SCHEMA_VERSION = 1
_MAGIC = b"SQLite format 3\x00"

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


class StoreError(Exception):
    """The store cannot be used; the message names its path and the remedy."""


def connect(path: str | Path) -> sqlite3.Connection:
    """A connection to the store at ``path``, created with its parent directories where there is none.

    ":memory:" is a store that ends with the connection. A lock that another process has is waited for, at
    most BUSY_SECONDS at a time.

    Raises StoreError for a path that cannot be opened or created, and, leaving it untouched, for a file that
    is no store or was written by a newer version. Source: https://sqlite.org/wal.html
    """
    if str(path) != ":memory:":
        path = Path(path).absolute()
        if not _is_open_here(path):
            _check_file(path)
    with translated(path):
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, factory=_Connection)
        try:
            db.note(path)
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = FULL")
            _create_schema(db, path)
            _use_wal(db, path)
        except BaseException:
            db.close()
            raise
    return db


_OPEN: Counter[tuple[int, int]] = Counter()
"""The files that this process has open, by device and inode: how many connections there are to each."""

_OPEN_LOCK = threading.Lock()


class _Connection(sqlite3.Connection):
    """A connection that notes which file is open in this process.

    Whoever closes any descriptor of a file gives up all locks that the process has on it (POSIX locks, fcntl(2)),
    also those of a connection in another thread; then other processes take that one for gone and delete its log. So a
    file that is open here must not be opened by anybody but SQLite, which knows.
    """

    _file: tuple[int, int] | None = None

    def note(self, path: str | Path) -> None:
        """This is the file; nothing for one in memory."""
        if str(path) != ":memory:":
            with _OPEN_LOCK:
                self._file = file_identity(path)
                _OPEN[self._file] += 1

    def close(self) -> None:
        super().close()
        with _OPEN_LOCK:
            if self._file is not None:
                _OPEN[self._file] -= 1
                self._file = None


def _is_open_here(path: Path) -> bool:
    with _OPEN_LOCK:
        return path.exists() and _OPEN[file_identity(path)] > 0


def file_identity(path: str | Path) -> tuple[int, int]:
    """Which file is at a path now, by device and inode; (0, 0) if there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


@contextmanager
def translated(path: str | Path) -> Iterator[None]:
    """Turns SQLite's errors into StoreErrors that name the path and the remedy."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = error.sqlite_errorcode & 0xFF  # the upper bytes tell the cases of a kind apart
        remedy = {
            sqlite3.SQLITE_BUSY: f"another process held it for {BUSY_SECONDS:.0f} s; end that one or wait",
            sqlite3.SQLITE_READONLY: "make it writable for this user, or choose another with --store",
            sqlite3.SQLITE_CANTOPEN: "make it writable for this user, or choose another with --store",
            sqlite3.SQLITE_FULL: "make room on the disk; nothing was written",
            sqlite3.SQLITE_IOERR: "check the disk and its free space; nothing was written",
        }.get(code, "choose another with --store")
        raise StoreError(f"{path}: {error}; {remedy}") from error
    except sqlite3.ProgrammingError:
        raise  # a mistake of the caller's, such as a closed connection
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: {error}; restore it from a copy, or choose another with --store") from error


def delete_store(path: str | Path) -> bool:
    """Delete the store at ``path``, if there is one; whether there was. Raises StoreError for a file that is none."""
    path = Path(path).absolute()
    if not path.exists():
        return False
    _check_file(path)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return True


def _check_file(path: Path) -> None:
    """Refuses what is there and not ours, by its first bytes alone.

    SQLite itself would write: it rolls back a journal it finds, and on closing takes a write-ahead log into
    the file. The schema is there before the file gets a write-ahead log, so the ids stand in the file itself.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        if not path.is_file():
            raise StoreError(f"{path}: is no regular file; name the store's file with --store")
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}; make it accessible for this user, or choose another with --store"
        ) from error
    if head and not head.startswith(_MAGIC):
        raise StoreError(f"{path}: is no nodeport-nft store; choose another with --store")
    if head:
        _check_ids(path, int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big"))


def _check_ids(path: str | Path, application_id: int, version: int) -> None:
    if application_id != _APPLICATION_ID:
        raise StoreError(f"{path}: is the SQLite database of another program; choose another with --store")
    if version > _SCHEMA_VERSION:
        raise StoreError(
            f"{path}: was written by a newer version (schema {version}, this one knows {_SCHEMA_VERSION}); "
            "upgrade nodeport-nft, or choose another with --store"
        )


def _create_schema(db: sqlite3.Connection, path: str | Path) -> None:
    if not _has_tables(db):
        db.execute("BEGIN IMMEDIATE")
        try:
            if not _has_tables(db):  # of several processes that start at once, one creates
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    application_id, version = (
        db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("application_id", "user_version")
    )
    _check_ids(path, application_id, version)


def _has_tables(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _use_wal(db: sqlite3.Connection, path: str | Path) -> None:
    """Switches the file to a write-ahead log, once in its life.

    The switch wants the file for itself and does not wait for other connections as other statements do.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode not in ("wal", "memory"):
        raise StoreError(
            f"{path}: its file system allows no write-ahead log (the journal mode stays {mode}); "
            "choose a store on a local disk with --store"
        )
