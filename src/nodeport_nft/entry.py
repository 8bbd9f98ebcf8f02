"""The program's first steps: what signals do is settled before anything is imported that takes its time.

Otherwise a service manager that stops the daemon while it starts would see it die of a signal, and Ctrl-C would be
answered with a traceback out of somebody's import.
"""

from __future__ import annotations

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody has it ignored, and means it
    # Python's own would answer with a traceback out of whatever is imported next.
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(128 + signal.SIGINT))

import gc
import sys
import warnings
from collections.abc import Callable
from types import FrameType

from nodeport_nft import leading_flags
from nodeport_nft.interrupts import CODE, end, press
from nodeport_nft.scarcity import scarcity


def main() -> None:
    """The console entry point ``nodeport-nft``."""
    _open_standard_streams()
    is_daemon = _is_daemon(sys.argv[1:])
    if is_daemon:
        # Until the daemon has its own: nothing has begun, and nothing is lost.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    else:
        # A command ends in seconds, and what it reads has no cycles: looking for some in the values of ten thousand
        # Services is a third of its time. Those that wait switch it on again (``cli.waiting``).
        gc.disable()
        # Ctrl-C may fall between the call that makes a coroutine and what would run it. One that nobody awaits by
        # mistake is mypy's to find.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        sys.unraisablehook = _unraisable
    try:
        from nodeport_nft.cli import main as run
    except (MemoryError, ImportError) as error:
        if not (wanting := scarcity(error)):
            raise
        sys.exit(f"error: {wanting}")
    if is_daemon or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        run()
    else:
        _run_interruptibly(run)


def _run_interruptibly(run: Callable[[], None]) -> None:
    try:
        try:
            signal.signal(signal.SIGINT, press)
            run()
        finally:
            signal.signal(signal.SIGINT, end)
    except KeyboardInterrupt:  # before or after Typer, which makes the same of it
        sys.exit(CODE)


def _unraisable(told: sys.UnraisableHookArgs) -> None:
    """Let Ctrl-C end the program also where Python tells of an exception and goes on, as in finalizers."""
    if issubclass(told.exc_type, KeyboardInterrupt):
        os._exit(CODE)
    sys.__unraisablehook__(told)


def _is_daemon(words: list[str]) -> bool:
    return leading_flags.split(words)[1][:1] == ["sync"] and not {"--once", "--dry-run", "--help", "-h"} & set(words)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _open_standard_streams() -> None:
    """Put nothing where a stream is closed: what is opened next would be taken for it (a store for stderr, say)."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
