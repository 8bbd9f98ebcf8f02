"""The file: how it is made, opened and deleted, and how one that is not ours is left alone."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from nodeport_nft.store.errors import ELSEWHERE, StoreError
from nodeport_nft.store.sqlite.erasing import trim_store
from nodeport_nft.store.sqlite.errors import BUSY_SECONDS, as_store_error, translated
from nodeport_nft.store.sqlite.guard import make_directory, make_private, store_fault, store_files
from nodeport_nft.store.sqlite.schema import HEAD_BYTES, check_contents, check_head, create_schema, structure_fault


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
        create_schema(db)
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
            check_contents(db, path)
            _use_wal(db, path)
            _prepared(db)
            trim_store(db, is_sound=lambda: not structure_fault(db))
        except BaseException:
            db.close()
            raise
    return db


def _prepared(db: sqlite3.Connection) -> sqlite3.Connection:
    # Text that is not UTF-8 is for those to judge who read it, row by row.
    db.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
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
            raise as_store_error(path, error) from error
        if _size(log):
            raise StoreError(
                f"{path}: what {log.name} beside it holds cannot be read where nothing can be written; make their "
                "directory writable for this user, or copy both files to one that is"
            ) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise as_store_error(path, error) from error
    with translated(path):
        return _opened(path, "mode=ro&immutable=1")


def _opened(path: Path, how: str) -> sqlite3.Connection:
    db = _open(path, how)
    try:
        db.is_frozen = "immutable" in how
        check_contents(db, path)
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
        raise StoreError(f"{path}: {error.strerror}; {remedy}, or {ELSEWHERE}") from error


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
        head = file.read(HEAD_BYTES)
    check_head(path, head, has_log=bool(_size(path.with_name(f"{path.name}-wal"))))
    return True


def _create(path: Path) -> None:
    """Puts a new store in place, with all its tables or not at all; of several processes at once, one does.

    So no store is ever a file without contents, which would pass for a desired state without a Service. Raises
    OSError.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        create_schema(db)
        image = db.serialize()
    _put(path, image)


def place(path: Path, image: bytes) -> None:
    """Puts a store, an image of its file, where none is; all of it or nothing. Raises StoreError."""
    path = path.absolute()
    with _OPENING_LOCK, _accessible(path):
        file, log, _, journal = store_files(path)
        if _check_file(path):
            raise StoreError(f"{path}: there is a store already; name another file, or remove it")
        for each in (log, journal):
            if each.exists():  # SQLite would take it for a part of the new one
                raise StoreError(f"{path}: {each.name} beside it is left of another database; remove it")
        make_directory(path)
        if not _put(file, image):
            raise StoreError(f"{path}: somebody else has made a store there just now; name another file")
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _put(path: Path, image: bytes) -> bool:
    """The same; False if somebody else was faster. Raises OSError."""
    made = path.with_name(f".nodeport-nft-{os.getpid()}-{threading.get_native_id()}")
    made.unlink(missing_ok=True)
    try:
        descriptor = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # a umask may take something from the owner, too
            file.write(image)
            file.flush()
            os.fsync(descriptor)
        return _move_new(made, path)
    finally:
        made.unlink(missing_ok=True)


def _move_new(made: Path, path: Path) -> bool:
    """Moves a file to a place that is free; False if it is not any more."""
    try:
        path.hardlink_to(made)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if path.exists():  # a file system without links
            return False
        made.rename(path)
    return True


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
