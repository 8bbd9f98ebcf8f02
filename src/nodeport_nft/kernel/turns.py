"""One process at a time: whoever reads the kernel's tables and then writes the difference wants nobody in between."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(store: str) -> Iterator[None]:
    """Let one process at a time program nodes from this store.

    The lock is on the store's directory (flock(2)), so that nothing is left behind.
    """
    directory = Path(store).absolute().parent
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
