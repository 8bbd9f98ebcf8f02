"""Ctrl-C in commands: exit code 130 and nothing else, whenever it comes.

KeyboardInterrupt comes out of whatever line the program has reached. That is right for our own code, and wrong inside
machinery that has to finish its steps: an import, or an event loop.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from asyncio import Task

Result = TypeVar("Result")


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Meanwhile Ctrl-C ends the program, and nothing is cleaned up."""
    if not _is_ours():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Runner:
    """An event loop for those who have none, for several works one after another. Close it, or use ``with``.

    asyncio's own ``Runner`` has moments at which Ctrl-C leaves its loop half made or half stopped, and one at which
    CancelledError comes out instead of KeyboardInterrupt.
    """

    def __init__(self) -> None:
        with ends_at_once():
            import asyncio  # takes its time, and most commands do without

            self._runner = asyncio.Runner()
            self._runner.get_loop()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for it. Ctrl-C cancels it, and is raised when it has ended; pressed once more, it ends the program."""
        loop = self._runner.get_loop()  # not kept: it goes while it is closed
        if not _is_ours():
            return loop.run_until_complete(work)
        task: Task[Result] | None = None
        pressed = False

        def cancel(_number: int, _frame: FrameType | None) -> None:
            nonlocal pressed
            pressed = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if task:
                loop.call_soon_threadsafe(task.cancel)

        signal.signal(signal.SIGINT, cancel)
        try:
            task = loop.create_task(work)
            if pressed:
                task.cancel()
            return loop.run_until_complete(task)
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if pressed:
                raise KeyboardInterrupt

    def close(self) -> None:
        """End what still runs, and the loop."""
        with ends_at_once():
            self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for this alone, as ``Runner.run`` does."""
    with Runner() as runner:
        return runner.run(work)


def _is_ours() -> bool:
    """Whether Ctrl-C raises KeyboardInterrupt here: not in other threads, nor where somebody has other plans."""
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
