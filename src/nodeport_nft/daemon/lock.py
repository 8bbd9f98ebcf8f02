"""The node's lock, for the daemon. Where another process has it, the event loop goes on and asks again."""

from __future__ import annotations

import time
from collections.abc import Callable

from nodeport_nft.agenda import Backoff
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.node_lock import NodeLock

_SHORTEST, _LONGEST = 0.005, 0.25
"""Seconds between two looks: a sync of another process takes milliseconds, or a second for many services."""

_QUIET_SECONDS = 2.0
"""How long it is waited for without a word."""


class DaemonLock:
    """``due`` is when to ask for it again, by ``clock``."""

    def __init__(self, lock: NodeLock, reporter: Reporter, clock: Callable[[], float] = time.monotonic) -> None:
        self.due = 0.0
        self._clock = clock
        self._lock = lock
        self._reporter = reporter
        self._backoff = Backoff(_LONGEST, first=_SHORTEST)
        self._since = 0.0
        self._holder: int | None = None

    def take(self) -> bool:
        """Whether it is ours now, until ``give_back``; tells what is in the way once that takes long."""
        now = self._clock()
        try:
            taken = self._lock.take()
        except KernelError as error:
            self._reporter.problems("turn", [f"nothing is written to the tables: {error}"])
            self.due = now + _LONGEST
            return False
        if taken:
            self.due = 0.0
            self._backoff.succeeded()
            self._reporter.problems("turn", ())
            return True
        if not self._backoff.pause:
            self._since, self._holder = now, None
        self.due = now + self._backoff.failed()
        if now - self._since > _QUIET_SECONDS:
            # /proc/locks is read in pieces, between which an entry may slip away: it is the same one as before then.
            self._holder = self._lock.holder() or self._holder
            named = f" (pid {self._holder})" if self._holder else ""
            self._reporter.problems(
                "turn",
                [f"another process{named} programs this node and holds {self._lock.path}; it is waited for: end it"],
            )
        return False

    def give_back(self) -> None:
        """Let others have it."""
        self._lock.give_back()
