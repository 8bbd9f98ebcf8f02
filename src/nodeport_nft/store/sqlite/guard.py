"""Whose the store is: its owner's and root's alone, whatever the umask and however it came to its place.

What the store holds decides where packets go, so nobody else may write to it, put another file in its place, or put
one beside it that SQLite would take for its log. Nobody else may read it either: fcntl(2) grants a read lock on any
file that can be opened for reading, and such a lock on the store's shared memory keeps every writer waiting.

Paths are looked at and changed without opening them. A process that closes any descriptor of a file gives up all the
locks that SQLite has on it. Sources: https://sqlite.org/howtocorrupt.html (2.2), https://sqlite.org/tempfiles.html
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from nodeport_nft.trust import directory_fault, file_fault, neighbour_fault

_BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite calls its files beside a database; it gives new ones the mode of the database."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def store_files(path: Path) -> tuple[Path, ...]:
    """The store that ``path`` leads to, over links, and the files that SQLite may have beside it."""
    file = Path(os.path.realpath(path))  # as SQLite resolves it; also for a link to what is yet to be made
    return file, *(file.with_name(file.name + suffix) for suffix in _BESIDE)


def store_fault(path: Path) -> str:
    """Why the store at ``path``, or one that were made there, may not be believed, with the remedy; "" if it may.

    Raises OSError for what cannot be looked at.
    """
    if fault := file_fault(path):
        return fault
    file, *beside = store_files(path)
    if not file.parent.exists():  # made by us, in a directory that has just been looked at
        return ""
    return directory_fault(file.parent) or next(filter(None, map(neighbour_fault, beside)), "")


def make_directory(path: Path) -> None:
    """The directories that the store at ``path`` lacks, for their owner alone; those that exist stay as they are.

    One that others may list is none of our business: a hosts file may lie there that all are to read. Raises OSError.
    """
    parent = store_files(path)[0].parent
    for directory in reversed((parent, *parent.parents)):
        if directory.exists():
            continue
        with suppress(FileExistsError):  # another process makes it just now
            directory.mkdir(mode=stat.S_IRWXU)
            directory.chmod(stat.S_IRWXU)  # a umask may take something from the owner, too


def make_private(path: Path) -> None:
    """Take from others what they may do with the store's files. Call it only for what is known to be a store.

    Raises OSError.
    """
    for file in store_files(path):
        try:
            mode = stat.S_IMODE(file.lstat().st_mode)
            if mode & _OTHERS:
                file.chmod(mode & ~_OTHERS)
        except FileNotFoundError:
            continue
        except OSError as error:
            # A store on a medium that is read-only, or of root's for another user, can be read all the same.
            if error.errno not in (errno.EROFS, errno.EPERM):
                raise
