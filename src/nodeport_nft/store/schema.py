"""The file: its tables, how it is opened, and how one that is not ours is recognised and left alone."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nodeport_nft.store.guard import make_directory, make_private, store_fault, store_files
from nodeport_nft.store.trimming import mark_trimmed, trim_store

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


LAST_VERSION = 1 << 62
"""The largest resource version: far from where SQLite's integers end, beyond which sums turn into floats."""


class StoreError(Exception):
    """The store cannot be used; the message names its path and the remedy."""


_TABLES = ("meta", "objects", "tombstones", "node_ports", "cluster_ips")
LOST = "has lost what it held; restore it from a copy, or remove it to begin anew"
"""What is said of a file that is there, and is a store no longer."""

_ELSEWHERE = "choose another with --store"


def connect(path: str | Path, *, reading: bool = False) -> sqlite3.Connection:
    """A connection to the store at ``path``, created with its parent directories where there is none.

    ":memory:" is a store that ends with the connection. A lock that another process has is waited for, at
    most BUSY_SECONDS at a time. With ``reading`` nothing is created or written, so that a store on a read-only file
    system will do; a new connection is wanted for what others write there (see ``is_frozen``). What others than its
    owner may do with the store's files ends here.

    Raises StoreError for a path that cannot be opened or created, and, leaving it untouched, for a file that is no
    store, has lost its contents, was written by a newer version, or can have been written by somebody else. Source:
    https://sqlite.org/wal.html
    """
    if str(path) == ":memory:":
        db = sqlite3.connect(path, isolation_level=None, factory=_Connection)
        _create_schema(db)
        return _prepared(db)
    path = Path(path).absolute()
    with _OPENING_LOCK, _accessible(path):
        if not _check_file(path):
            if reading:
                raise StoreError(f"there is no store {path}; apply something first, or name the store with --store")
            make_directory(path)
            _create(store_files(path)[0])
        make_private(path)
    if reading:
        return _connect_reading(path)
    with translated(path):
        db = _open(path)
        try:
            _check_contents(db, path)
            _use_wal(db, path)
            _prepared(db)
            trim_store(db, is_sound=lambda: not structure_fault(db))
        except BaseException:
            db.close()
            raise
    return db


def _prepared(db: sqlite3.Connection) -> sqlite3.Connection:
    # Text that is not UTF-8 is for those to judge who read it, row by row.
    db.text_factory = lambda raw: str(raw, "utf-8", "surrogateescape")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")  # what is deleted is gone from the file
    return db


def _connect_reading(path: Path) -> sqlite3.Connection:
    """Read-only, and so without ever taking a log into the file, which may be another by then.

    SQLite wants to write beside the file, to its index of the log; where it cannot, and there is no log, the file
    alone is all there is (``immutable``).
    """
    try:
        return _opened(path, "mode=ro")
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        if (error.sqlite_errorcode & 0xFF) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise _as_store_error(path, error) from error
        if _size(log):
            raise StoreError(
                f"{path}: what {log.name} beside it holds cannot be read where nothing can be written; make their "
                "directory writable for this user, or copy both files to one that is"
            ) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _as_store_error(path, error) from error
    with translated(path):
        return _opened(path, "mode=ro&immutable=1")


def _opened(path: Path, how: str) -> sqlite3.Connection:
    db = _open(path, how)
    try:
        db.is_frozen = "immutable" in how
        _check_contents(db, path)
        return _prepared(db)
    except BaseException:
        db.close()
        raise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


_OPEN: Counter[tuple[int, int]] = Counter()
"""The files that this process has open, by device and inode: how many connections there are to each."""

_OPEN_LOCK = threading.Lock()

_OPENING_LOCK = threading.Lock()
"""For those who look into the file before SQLite opens it, or make it: meanwhile no other thread opens it."""


class _Connection(sqlite3.Connection):
    """A connection that notes which file is open in this process.

    Whoever closes any descriptor of a file gives up all locks that the process has on it (POSIX locks, fcntl(2)),
    also those of a connection in another thread; then other processes take that one for gone and delete its log. So a
    file that is open here must not be opened by anybody but SQLite, which knows.
    """

    _file: tuple[int, int] | None = None
    is_frozen = False
    """Whether it takes the file for one that nobody writes to, and sees nothing of it if somebody does."""

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


def _open(path: Path, how: str = "") -> _Connection:
    with _OPENING_LOCK:
        db = sqlite3.connect(
            f"{path.as_uri()}?{how}", timeout=BUSY_SECONDS, isolation_level=None, factory=_Connection, uri=True
        )
        db.note(path)
        return db


@contextmanager
def _accessible(path: Path) -> Iterator[None]:
    """Turns the errors of looking at a path, or of making a file, into StoreErrors."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.EACCES: "run this as the user to whom it belongs",
            errno.ENOSPC: "make room on the disk",
            errno.EDQUOT: "make room on the disk",
        }.get(error.errno or 0, "make it accessible for this user")
        raise StoreError(f"{path}: {error.strerror}; {remedy}, or {_ELSEWHERE}") from error


def is_frozen(db: sqlite3.Connection) -> bool:
    """Whether a connection takes the file for one that nobody writes to."""
    return isinstance(db, _Connection) and db.is_frozen


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
    except sqlite3.ProgrammingError:
        raise  # a mistake of the caller's, such as a closed connection
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _as_store_error(path, error) from error


_WRITABLE = "make it and its directory writable for this user, or choose another with --store"
_REMEDIES = {
    sqlite3.SQLITE_BUSY: f"another process held it for {BUSY_SECONDS:.0f} s; end that one or wait",
    sqlite3.SQLITE_LOCKED: "another write of this process is under way; try again",
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_FULL: "make room on the disk; nothing was written",
    sqlite3.SQLITE_IOERR: "check the disk and its free space; nothing was written",
    sqlite3.SQLITE_ERROR: "choose another with --store",
}
_DAMAGED = "restore it from a copy, or choose another with --store"


def _as_store_error(path: str | Path, error: sqlite3.Error | UnicodeDecodeError) -> StoreError:
    if isinstance(error, UnicodeDecodeError):  # SQLite quotes a damaged schema, whose bytes Python takes for text
        return StoreError(f"{path}: its schema is damaged; {_DAMAGED}")
    if str(error).startswith("no such table"):  # while it is open, somebody has emptied it
        return StoreError(f"{path}: {LOST}")
    # Python's own errors, such as one about text that is not UTF-8, have no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the upper bytes tell cases apart
    return StoreError(f"{path}: {error}; {_REMEDIES.get(code, _DAMAGED)}")


def delete_store(path: str | Path) -> bool:
    """Delete the store at ``path``, if there is one; whether there was. Raises StoreError for a file that is none."""
    path = Path(path).absolute()
    if not path.exists():
        return False
    with _OPENING_LOCK, _accessible(path):
        _check_file(path)
    for file in (*store_files(path), path):  # the last may be a link to the first
        file.unlink(missing_ok=True)
    return True


def _check_file(path: Path) -> bool:
    """Refuses what others can have put there, and what is there and not ours, by its first bytes; False for nothing.

    SQLite itself would write: it rolls back a journal it finds, and on closing takes a write-ahead log into
    the file. The schema is there before the file gets a write-ahead log, so the ids stand in the file itself.
    A file without contents is none of ours: ours come into being as a whole (``_create``).

    Raises StoreError, OSError.
    """
    if fault := store_fault(path):
        raise StoreError(f"{path}: {fault.removeprefix(f'{path} ')}, or choose another store with --store")
    if not path.exists():
        return False
    if _is_open_here(path):
        return True
    with path.open("rb") as file:
        head = file.read(105)
    if head and not head.startswith(_MAGIC):
        raise StoreError(f"{path}: is no nodeport-nft store; {_ELSEWHERE}")
    # From byte 100 on stands the list of tables: a leaf (13), and how many there are (sqlite.org/fileformat2.html).
    has_none = head[68:72] == bytes(4) and head[100:101] == b"\x0d" and head[103:105] == bytes(2)
    if len(head) < 105 or (has_none and not _size(path.with_name(f"{path.name}-wal"))):
        raise StoreError(f"{path}: {LOST}")
    _check_ids(path, int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big"))
    return True


def _check_ids(path: str | Path, application_id: int, version: int) -> None:
    if application_id != _APPLICATION_ID:
        raise StoreError(f"{path}: is the SQLite database of another program; choose another with --store")
    if version > _SCHEMA_VERSION:
        raise StoreError(
            f"{path}: was written by a newer version (schema {version}, this one knows {_SCHEMA_VERSION}); "
            "upgrade nodeport-nft, or choose another with --store"
        )


def _create(path: Path) -> None:
    """Puts a new store in place, with all its tables or not at all; of several processes at once, one does.

    So no store is ever a file without contents, which would pass for a desired state without a Service. Raises
    OSError.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        _create_schema(db)
        image = db.serialize()
    made = path.with_name(f".nodeport-nft-{os.getpid()}-{threading.get_native_id()}")
    made.unlink(missing_ok=True)
    try:
        descriptor = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # a umask may take something from the owner, too
            file.write(image)
            file.flush()
            os.fsync(descriptor)
        _move_new(made, path)
    finally:
        made.unlink(missing_ok=True)


def _move_new(made: Path, path: Path) -> None:
    """Moves a file to a place that is free; nothing if it is not any more."""
    try:
        path.hardlink_to(made)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if not path.exists():  # a file system without links
            made.rename(path)


def _create_schema(db: sqlite3.Connection) -> None:
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    mark_trimmed(db)


def _check_contents(db: sqlite3.Connection, path: Path) -> None:
    """Refuses what is not ours, and what was, by what SQLite reads of it."""
    application_id, version = (
        db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("application_id", "user_version")
    )
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables:
        _check_ids(path, application_id, version)
    if not tables.issuperset(_TABLES):
        raise StoreError(f"{path}: {LOST}")


_OF_ROWS = re.compile(r"(NULL|non-\w+|[A-Z]+) value in |CHECK constraint failed")


def check_structure(db: sqlite3.Connection, path: str | Path) -> None:
    """Raises StoreError where pages of the file are damaged, so that rows may be missing without an error."""
    with translated(path):
        if fault := structure_fault(db):
            raise StoreError(f"{path}: database disk image is malformed ({fault}); {_DAMAGED}")


def structure_fault(db: sqlite3.Connection) -> str:
    """What is wrong with the pages of the file; "" if nothing is. What is wrong within a row is not looked at.

    60,000 objects take 0.14 s.
    """
    for (line,) in db.execute("PRAGMA integrity_check(1000000)"):
        if line != "ok" and not _OF_ROWS.match(line):
            return " ".join(line.split())[:200]
    return ""


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
