"""What the kernel has allocated for a process, tables and all: a memory cgroup that the process is started in.

nf_tables charges chains, rules, sets and elements to whoever sends the transaction, and they stay charged when he has
ended. The buckets of its hash tables are not charged: some bytes an element are missing. Source: GFP_KERNEL_ACCOUNT
in net/netfilter/nf_tables_api.c; cgroups(7).
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_MOUNT = Path("/sys/fs/cgroup")
_numbers = itertools.count()


class KernelAccount:
    """A cgroup of this run's own. Use it as a context manager: it is taken away in the end."""

    def __init__(self) -> None:
        """Raises OSError where there is no memory controller, of version 1 or 2, or it may not be used."""
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
        named = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
        is_old = "memory" in named
        base = _MOUNT / "memory" if is_old else _MOUNT
        self._home = base / named["memory" if is_old else ""].strip("/")
        self._group = base / f"bench-{os.getpid()}-{next(_numbers)}"
        self._group.mkdir()
        self._figure = self._group / ("memory.kmem.usage_in_bytes" if is_old else "memory.stat")
        if not self._figure.exists():  # version 2, and the controller is not switched on for children
            self._group.rmdir()
            raise FileNotFoundError(self._figure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # somebody is still in it: it is empty, and stays
            self._group.rmdir()

    @contextlib.contextmanager
    def charged(self) -> Iterator[None]:
        """Processes that are started in the block are charged to it."""
        self._move(self._group)
        try:
            yield
        finally:
            self._move(self._home)

    def megabytes(self) -> float:
        """What is charged now. A process that lives has some of its own among it."""
        text = self._figure.read_text(encoding="ascii")
        if self._figure.name == "memory.stat":
            text = next(line.split()[1] for line in text.splitlines() if line.startswith("kernel "))
        return int(text) / 2**20

    def _move(self, group: Path) -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def kernel_account() -> contextlib.AbstractContextManager[KernelAccount | None]:
    """A new one, or None where the machine has none to give."""
    try:
        return KernelAccount()
    except (OSError, KeyError):
        return contextlib.nullcontext()
