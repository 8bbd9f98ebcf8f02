"""Ctrl-C in commands: exit code 130 and no other word, whenever it comes.

KeyboardInterrupt comes out of whatever line the program has reached. That is right for our own code, and wrong inside
machinery that has to finish its steps: an import, or an event loop. There, and when it is pressed again, Ctrl-C ends
the program at once. It does so by a handler, not by SIG_DFL, which the kernel does not carry out for process 1 of a
container; and Python loses a signal that comes while SIG_DFL is being set.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from asyncio import Task

Result = TypeVar("Result")

CODE = 128 + signal.SIGINT
"""The exit code, which is the one that shells tell of a program that SIGINT has ended."""


def press(_number: int, _frame: FrameType | None) -> NoReturn:
    """The handler of SIGINT while a command runs: the first Ctrl-C. What is cleaned up then is not interrupted."""
    signal.signal(signal.SIGINT, end)
    raise KeyboardInterrupt


def end(_number: int, _frame: FrameType | None) -> NoReturn:
    """The handler of SIGINT where nothing can be cleaned up, or somebody does not want to wait for it."""
    os._exit(CODE)


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Meanwhile Ctrl-C ends the program, and nothing is cleaned up."""
    if not _is_ours():
        yield
        return
    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Runner:
    """An event loop for those who have none, for several works one after another. To be closed.

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
            signal.signal(signal.SIGINT, end)
            if task:
                loop.call_soon_threadsafe(task.cancel)

        before = signal.signal(signal.SIGINT, cancel)
        try:
            task = loop.create_task(work)
            if pressed:
                task.cancel()
            return loop.run_until_complete(task)
        finally:
            signal.signal(signal.SIGINT, before)
            if pressed:
                raise KeyboardInterrupt

    def close(self) -> None:
        """End what still runs, and the loop."""
        with ends_at_once():
            self._runner.close()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for this alone, as ``Runner.run`` does."""
    with closing(Runner()) as runner:
        return runner.run(work)


def _is_ours() -> bool:
    """Whether Ctrl-C raises KeyboardInterrupt here: not in other threads, nor where somebody has other plans."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) in (press, signal.default_int_handler)
