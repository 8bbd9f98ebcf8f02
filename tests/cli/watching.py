"""``get --watch`` as a person has it on a terminal: a process whose lines come one by one, and Ctrl-C."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cli.program import SCRIPT

WAIT = 60.0
"""Seconds for whatever has to come to pass on a slow machine."""


class Watching:
    """One run; use it as a context manager."""

    def __init__(self, directory: Path, *words: str) -> None:
        self._process = subprocess.Popen(
            [SCRIPT, "get", *words],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def line(self) -> list[str]:
        """The cells of the next line."""
        return self.text().split()

    def text(self) -> str:
        """The next line. Raises queue.Empty where none comes."""
        return self._lines.get(timeout=WAIT)

    def has_come(self, seconds: float) -> bool:
        """Whether there is a line, or comes within so many seconds."""
        try:
            self._lines.queue.appendleft(self._lines.get(timeout=seconds))
        except queue.Empty:
            return False
        return True

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; the exit code, and all that came on stderr."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(timeout=WAIT)
        assert self._process.stderr
        return code, self._process.stderr.read()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
