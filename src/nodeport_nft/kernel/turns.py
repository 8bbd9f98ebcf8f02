"""One process at a time: whoever reads the kernel's tables and then writes the difference wants nobody in between."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeport_nft.kernel.nft import KernelError

_SECONDS, _PAUSE = 60.0, 0.005


@contextmanager
def alone(store: str) -> Iterator[None]:
    """Let one process at a time program nodes from this store.

    The lock is on the store's directory (flock(2)), so that nothing is left behind. Raises KernelError where another
    process does not give it up.
    """
    directory = Path(store).absolute().parent
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise KernelError(
                    f"{directory}: another process that programs from the store there has not been done for "
                    f"{_SECONDS:g} s; find it with lslocks, and end it or wait"
                ) from None
            time.sleep(_PAUSE)
        else:
            return
