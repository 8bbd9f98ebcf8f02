"""Where the log's lines go: to a descriptor that may be full, stuck or gone, without anybody waiting for it.

Who logs puts a line into a queue and goes on; a thread writes. What cannot be written waits, and is tried again every
second: a disk gets room again, a FIFO a reader, and journald is back after its restart. The queue has an end. What
comes after that is lost, is counted, and a line says how many there were at the place where they are missing.

A thread alone would not do: one that is stuck in write(2) cannot say so. So it asks poll(2) first, and hands over no
more at once than what a pipe that is ready takes whole (pipe(7), PIPE_BUF).
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

_MOST_LINES, _MOST_BYTES = 2000, 1 << 20
_PIECE = select.PIPE_BUF
_PAUSE = 1.0
"""Seconds after which what could not be written is tried again, and that a reader may take before it is told of."""

_REMEDIES = {
    errno.EPIPE: "whoever read it has gone: start the daemon anew with a log that is read",
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room within the quota",
}


class Outlet:
    """Writes to ``descriptor``, which stays its caller's; None: there is none, and all is lost.

    ``lost`` counts lines. ``fault``: why nothing can be written now, with the remedy; "" while all is well.
    ``missing`` makes a line of a number of lost lines. ``changed`` is called when ``fault`` has changed, from another
    thread. No method raises or waits, but ``close``, for a bounded time.
    """

    def __init__(
        self, descriptor: int | None, missing: Callable[[int], str], changed: Callable[[], None] = lambda: None
    ) -> None:
        """Raises RuntimeError where there can be no thread."""
        self.lost = 0
        self.fault = "" if descriptor is not None else "it is closed; start the daemon with a log"
        self.changed = changed
        self._descriptor = descriptor
        self._missing = missing
        self._waiting: deque[bytes | int] = deque()  # a number: so many are missing here
        self._size = 0
        self._deadline: float | None = None
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        if descriptor is not None:
            self._thread.start()

    def write(self, text: str) -> None:
        """Let one line, with its end, be written soon."""
        line = text.encode(errors="backslashreplace")
        with self._condition:
            if self._descriptor is None:
                self.lost += 1
            elif len(self._waiting) >= _MOST_LINES or self._size + len(line) > _MOST_BYTES:
                self.lost += 1
                last = self._waiting[-1] if self._waiting else None
                if isinstance(last, int):
                    self._waiting[-1] = last + 1
                else:
                    self._waiting.append(1)
            else:
                self._waiting.append(line)
                self._size += len(line)
                self._condition.notify()

    def flush(self) -> None:
        """Nothing: for who takes this for a file."""

    def close(self, seconds: float) -> None:
        """Write what waits, but for no longer than so many seconds."""
        with self._condition:
            self._deadline = time.monotonic() + seconds
            self._condition.notify()
        if self._descriptor is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and self._deadline is None:
                    self._condition.wait()
                if not self._waiting:
                    return
                first = self._waiting.popleft()
                self._size -= 0 if isinstance(first, int) else len(first)
            try:
                self._put(self._missing(first).encode() if isinstance(first, int) else first)
            except MemoryError:
                self.lost += 1

    def _put(self, data: bytes) -> None:
        """Write all of it, however often that takes; once ``close`` was called, until its time is over."""
        while data:
            if self._deadline is not None and time.monotonic() > self._deadline:
                return
            fault = ""
            try:
                data = data[self._write(data) :]
            except OSError as error:
                why = error.strerror or str(error)
                fault = f"{why}; {_REMEDIES.get(error.errno or 0, 'mend the cause')}"
            if fault != self.fault:
                self.fault = fault
                self.changed()
            if fault:
                with self._condition:
                    if self._deadline is None:
                        self._condition.wait_for(lambda: self._deadline is not None, _PAUSE)
                    else:
                        self._condition.wait(_PAUSE / 20)

    def _write(self, data: bytes) -> int:
        """How many bytes were taken. Raises OSError, also where nobody takes any."""
        assert self._descriptor is not None
        ready = select.poll()
        ready.register(self._descriptor, select.POLLOUT)
        if not ready.poll(_PAUSE * 1000 if self._deadline is None else _PAUSE * 50):
            raise OSError(0, "nobody reads it; let its reader go on")
        try:
            return os.write(self._descriptor, data[:_PIECE])
        except BlockingIOError:  # of a descriptor that does not block, between poll and write
            return 0
