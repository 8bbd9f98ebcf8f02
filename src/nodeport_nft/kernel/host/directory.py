"""Directories that nobody else can write to, and the files in them.

What root reads and obeys, holds as a lock, or gives to others to read lies in such directories alone (see ``trust``).
They are opened once that is known; files are reached through the descriptor, by name, and never through a link.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeport_nft.errors import KernelError
from nodeport_nft.trust import directory_fault, open_directory_fault

_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would have its opener wait


@contextmanager
def opened(path: Path, what: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of a directory that nobody else can write to; ``what`` names it in errors.

    ``make``: make what is missing of it, for its owner alone (0700). Raises KernelError, with the remedy, where
    others can write; OSError where there is none, and for what the system refuses.
    """
    if fault := directory_fault(path, may_be_free=True):
        raise KernelError(f"{what} {path}: {fault}")
    if make and not path.is_dir():
        _make(path, what)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if fault := open_directory_fault(descriptor):  # somebody has made it meanwhile
            raise KernelError(f"{what} {path}: {fault}; remove it, or name another")
        yield descriptor
    finally:
        os.close(descriptor)


def _make(path: Path, what: str) -> None:
    missing = [step for step in (path, *path.parents) if not step.exists()]
    for step in reversed(missing):
        step.mkdir(mode=0o700, exist_ok=True)
        if fault := directory_fault(step):  # not ours: somebody else was there first
            raise KernelError(f"{what} {path}: {fault}")


def open_file(directory: int, name: str, *, make: bool) -> int:
    """A descriptor of a file, to be locked; ``make``: made if it is missing, for its owner alone. Raises OSError."""
    return os.open(name, os.O_RDWR | (os.O_CREAT if make else 0) | _FILE, 0o600, dir_fd=directory)


def read(directory: int, name: str, most: int) -> bytes | None:
    """The first ``most`` bytes of a file; None where that is not a regular file (a link is none). Raises OSError."""
    # A device may do things when it is opened, so look first. Nobody else can exchange it in between.
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return None
    with os.fdopen(os.open(name, os.O_RDONLY | _FILE, dir_fd=directory), "rb") as file:
        return file.read(most)


def replace(directory: int, name: str, text: str, *, mode: int, durable: bool = True) -> None:
    """Put a file in place at once: written beside it, synced, renamed over it. Raises OSError.

    A reader sees the old one or the new one. ``durable``: also after a power cut.
    """
    beside = f".{name[:200]}.{secrets.token_hex(4)}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(beside, dir_fd=directory)
        raise
