"""Taking connections so that those who connect cannot use up the process' descriptors.

The kernel gives out the lowest free descriptor (POSIX), so the number of a new one says how few are left. The last
ones below the limit are kept for the daemon's own work: connections never have them, and listening sockets not even
twice as many.

Where the system has none for anybody (EMFILE, ENFILE) or no memory, a listening socket stays readable. Then it is
left alone for a second: an event loop that tries again at once does nothing else.

Source: accept(2), getrlimit(2).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

_RESERVE = 32
_PAUSE = 1.0
_AT_ONCE = 64
_BACKLOG = 128
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger("accepting")


class Acceptor:
    """Hands each connection to ``taken``, with its peer, on ``loop``, which has to be the caller's.

    ``drop_oldest`` closes the oldest connection that the caller has, and says whether there was one.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        taken: Callable[[socket.socket, tuple[Any, ...]], None],
        drop_oldest: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._taken = taken
        self._drop_oldest = drop_oldest
        self._pause: asyncio.TimerHandle | None = None
        self._begin()

    def close(self) -> None:
        """Take no more, and close the listening socket."""
        if self._pause:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _begin(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):  # then others have their turn
            try:
                accepted, peer = self._listening.accept()
                kept = self._low(accepted)
            except BlockingIOError:
                return
            except (OSError, MemoryError) as error:
                if isinstance(error, OSError) and error.errno not in _SCARCE:
                    continue  # it has ended before it was taken
                self._drop_oldest()
                self._loop.remove_reader(self._listening)
                self._pause = self._loop.call_later(_PAUSE, self._begin)
                port = self._listening.getsockname()[1]
                why = str(error) if isinstance(error, OSError) else "out of memory"
                _log.warning("port %d: no connection is taken for %g s: %s", port, _PAUSE, why)
                return
            if kept is not None:
                self._taken(kept, peer)

    def _low(self, accepted: socket.socket) -> socket.socket | None:
        """The connection under a number below the reserve; None: it had to be closed."""
        if accepted.fileno() < _limit() - _reserve():
            return accepted
        with accepted:
            return accepted.dup() if self._drop_oldest() else None


def listen(address: str, port: int, family: socket.AddressFamily, *, both: bool = False) -> socket.socket:
    """A listening socket that does not block. Raises OSError if the kernel refuses, or too few descriptors are left.

    An IPv6 socket is for IPv6 only (IPV6_V6ONLY), unless it is for ``both`` families.
    """
    listening = socket.create_server((address, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    listening.setblocking(False)
    if listening.fileno() >= _limit() - 2 * _reserve():
        listening.close()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return listening


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def _reserve() -> int:
    return min(_RESERVE, _limit() // 8)
