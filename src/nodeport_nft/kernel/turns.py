"""Who may write when: one process at a time, and one daemon in a network namespace.

Whoever reads the kernel's tables and then writes the difference wants nobody in between. And two daemons would undo
each other's work for ever.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeport_nft.kernel.nft import KernelError

_SECONDS, _PAUSE = 60.0, 0.005
_ADDRESS = "\0nodeport-nft/daemon"


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


class Presence:
    """Says that there is a daemon in this network namespace, for as long as the process lives.

    An abstract Unix socket (unix(7)): it is the network namespace's, as the tables are, and ends with the process.
    """

    def __init__(self) -> None:
        """Raises KernelError if there is one already. What somebody without our rights holds there does not count."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(_ADDRESS)
        except OSError as error:
            if daemon_pid() is None:
                return
            self._socket.close()
            raise KernelError(
                f"another daemon programs this node already{_named(daemon_pid())}; there can be one in a network "
                "namespace: stop it first"
            ) from error
        self._socket.listen(socket.SOMAXCONN)

    def close(self) -> None:
        """There is none any more."""
        self._socket.close()


def daemon_pid() -> int | None:
    """The process id of this network namespace's daemon, 0 if it is of another pid namespace; None if none runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(_ADDRESS)
            credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except BlockingIOError:
            return 0  # it has been asked before, and never answers
        except OSError:
            return None
    pid, user, _ = struct.unpack("3i", credentials)
    return int(pid) if user in (0, os.geteuid()) else None  # anybody may take the address


def _named(pid: int | None) -> str:
    return f" (pid {pid})" if pid else ""


def refuse_beside_daemon(what: str) -> None:
    """Raise KernelError if a daemon runs here, which would undo ``what``."""
    pid = daemon_pid()
    if pid is not None:
        raise KernelError(f"a daemon programs this node{_named(pid)} and would undo {what}; stop it first")
