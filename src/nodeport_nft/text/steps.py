"""Which path a thread waits for: what others look at to tell a file system that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from nodeport_nft.problems import clipped

PATIENCE = 5
"""Seconds that one step may take before it is told."""


class Step(NamedTuple):
    """One call that may hang: the path as its user writes it, and by its real directories."""

    shown: str
    real: str


class Steps:
    """Where one thread is. It writes, others read; ``step`` is a new object for every call, None in between."""

    def __init__(self) -> None:
        self.step: Step | None = None

    def at(self, shown: str, real: str = "") -> None:
        """The next call is about this path and may hang; it ends with the next word of this thread."""
        self.step = Step(shown, real or shown)

    def done(self) -> None:
        """What comes next is no matter of any file system."""
        self.step = None


class Patience:
    """How long a thread has been at the same step, counted in looks at it, one a second.

    Counted and not measured: whoever looks may itself have been held up, and the thread with it.
    """

    def __init__(self) -> None:
        self._seen: Step | None = None
        self._looks = 0

    def ends(self, step: Step | None) -> bool:
        """One look more; whether the step has lasted ``PATIENCE`` of them."""
        self._looks = self._looks + 1 if step is not None and step is self._seen else 0
        self._seen = step
        return self._looks >= PATIENCE


@contextmanager
def told_waiting(say: Callable[[str], None]) -> Iterator[Steps]:
    """Steps of the calling thread; each one that takes long is told once, from a thread beside it."""
    steps, over = Steps(), threading.Event()

    def look() -> None:
        patience, told = Patience(), None
        while not over.wait(1.0):
            step = steps.step
            if patience.ends(step) and step is not None and step is not told:
                told = step
                path = clipped(step.shown, 250)
                say(f"{path}: reading has taken more than {PATIENCE} s; still waiting, Ctrl-C ends it")

    thread = threading.Thread(target=look, name="waiting", daemon=True)
    with suppress(RuntimeError):  # no thread to be had: nothing is told
        thread.start()
    try:
        yield steps
    finally:
        over.set()
        if thread.ident is not None:
            thread.join()


def answer(question: Callable[[], bool], *, otherwise: bool) -> bool:
    """What a question says that may hang; ``otherwise`` where it has not in ``PATIENCE`` seconds, or raises."""
    found = [otherwise]

    def ask() -> None:
        with suppress(OSError, ValueError):
            found[0] = question()

    thread = threading.Thread(target=ask, name="question", daemon=True)
    with suppress(RuntimeError):
        thread.start()
        thread.join(PATIENCE)
    return found[0]
