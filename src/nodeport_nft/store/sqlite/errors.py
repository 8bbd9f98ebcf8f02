"""SQLite's errors in words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeport_nft.store.errors import DAMAGED, ELSEWHERE, LOST, StoreError

BUSY_SECONDS = 60.0
"""For how long a lock of another process is waited for."""


@contextmanager
def translated(path: str | Path) -> Iterator[None]:
    """Turns SQLite's errors into StoreErrors that name the path and the remedy."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a mistake of the caller's, such as a closed connection
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise as_store_error(path, error) from error


_WRITABLE = f"make it and its directory writable for this user, or {ELSEWHERE}"
_REMEDIES = {
    sqlite3.SQLITE_BUSY: f"another process held it for {BUSY_SECONDS:.0f} s; end that one or wait",
    sqlite3.SQLITE_LOCKED: "another write of this process is under way; try again",
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_PERM: _WRITABLE,
    sqlite3.SQLITE_FULL: "make room on the disk; nothing was written",
    sqlite3.SQLITE_IOERR: "check the disk and its free space; nothing was written",
    sqlite3.SQLITE_ERROR: ELSEWHERE,
}


def as_store_error(path: str | Path, error: sqlite3.Error | UnicodeDecodeError) -> StoreError:
    """SQLite's error in words, with the remedy."""
    if isinstance(error, UnicodeDecodeError):  # SQLite quotes a damaged schema, whose bytes Python takes for text
        return StoreError(f"{path}: its schema is damaged; {DAMAGED}")
    if str(error).startswith("no such table"):  # while it is open, somebody has emptied it
        return StoreError(f"{path}: {LOST}")
    # Python's own errors, such as one about text that is not UTF-8, have no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the upper bytes tell cases apart
    return StoreError(f"{path}: {error}; {_REMEDIES.get(code, DAMAGED)}")
