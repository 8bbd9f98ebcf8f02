"""A guard against what would never end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_within(seconds: float) -> Iterator[None]:
    """Fail the test once the block has taken that much processor time; for the main thread.

    Of the process alone, so that a busy machine is no fault. Regular expressions look for signals, too.
    """

    def stop(_signal: int, _frame: object) -> None:
        raise AssertionError(f"has not ended after {seconds} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
