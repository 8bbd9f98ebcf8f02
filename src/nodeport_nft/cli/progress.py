"""What a command is at that takes long: one line on a terminal, on stderr, which goes when there is something to say.

Nothing is shown in pipes and files, nor within the first second: most commands are done by then. What is written by
``options.put`` and ``options.say`` takes the line away before, so that it never mixes with what stays.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nodeport_nft.terminal import visible

PATIENCE = 1.0
"""Seconds from the first step on that nothing is shown for."""

_EVERY = 0.2
"""Seconds from one look at what is done to the next."""


class _Line:
    """The line, and the thread that keeps it as long as there is a step."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._steps: list[Callable[[], str]] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._since = 0.0
        self._live: Any = None
        self._spinner: Any = None

    def begin(self, step: Callable[[], str]) -> None:
        with self.lock:
            self._steps.append(step)
            self._since = self._since or time.monotonic()
            if self._thread is None:
                self._over.clear()
                self._thread = threading.Thread(target=self._keep, name="progress", daemon=True)
                with suppress(RuntimeError):  # no thread to be had: nothing is shown
                    self._thread.start()

    def end(self) -> None:
        with self.lock:
            self._steps.pop()
            if self._steps:
                return
            self._over.set()
            thread, self._thread = self._thread, None
            self.hide()
        if thread is not None and thread.ident is not None:
            thread.join()

    def hide(self) -> None:
        with self.lock:
            if self._live is not None:
                live, self._live = self._live, None
                with suppress(OSError, ValueError):  # a terminal that is gone
                    live.stop()

    def _keep(self) -> None:
        wait = self._since + PATIENCE - time.monotonic()
        while not self._over.wait(max(wait, 0.0)):
            wait = _EVERY
            with self.lock, suppress(OSError, ValueError):
                if not self._over.is_set():
                    self._show(f"{visible(self._steps[-1]())} … {time.monotonic() - self._since:.0f} s")

    def _show(self, told: str) -> None:
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        text = Text(told, no_wrap=True, overflow="ellipsis")
        if self._live is None:
            is_utf8 = (sys.stderr.encoding or "").lower().replace("-", "") == "utf8"
            self._spinner = Spinner("dots" if is_utf8 else "line")
            self._live = Live(
                self._spinner,
                console=_console(),
                transient=True,
                auto_refresh=False,  # which would take a thread more
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._spinner.update(text=text)
        self._live.refresh()


def _console() -> Any:
    from rich.console import Console

    class Plain(Console):
        """One that leaves the cursor alone: whoever is killed could not bring it back."""

        def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 (rich's signature)
            return False

    return Plain(stderr=True, no_color=True, highlight=False)


_line = _Line()


@contextmanager
def doing(what: str, detail: Callable[[], str] | None = None) -> Iterator[None]:
    """Show what is done as long as this lasts, and behind it ``detail``, which another thread asks again and again.

    Inside of another, it takes that one's place.
    """
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield
        return

    def step() -> str:
        more = detail() if detail is not None else ""
        return f"{what} {more}" if more else what

    _line.begin(step)
    try:
        yield
    finally:
        _line.end()


@contextmanager
def hidden() -> Iterator[None]:
    """Without the line, while something is written to the terminal that stays."""
    with _line.lock:
        _line.hide()
        yield
