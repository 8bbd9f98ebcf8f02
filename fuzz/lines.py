"""Which lines of a package are carried out, and how many: Python's own tracing, of that package's frames alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any


class TooManyLines(BaseException):
    """An input has used up its lines. No Exception, so that nothing on the way takes it for one of its own."""


_Tracer = Callable[[FrameType, str, Any], Any]


class Lines:
    """Counts the lines of all files below ``directory``.

    ``seen`` is how many different ones were carried out so far.
    """

    def __init__(self, directory: str) -> None:
        self.seen = 0
        self._directory = directory
        self._left = 0
        # By identity: to hash a code object is to hash all that is in it. The object is kept, and so its identity.
        self._tracers: dict[int, tuple[CodeType, _Tracer | None]] = {}

    @contextmanager
    def counted(self, most: int) -> Iterator[None]:
        """Count in this block; TooManyLines is raised in the midst of it at more than ``most`` lines."""
        self._left = most
        before = sys.gettrace()  # coverage.py's, when tests run us
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _call(self, frame: FrameType, _event: str, _argument: object) -> _Tracer | None:
        known = self._tracers.get(id(frame.f_code))
        if known is None:
            known = frame.f_code, self._tracer(frame.f_code)
            self._tracers[id(frame.f_code)] = known
        return known[1]

    def _tracer(self, code: CodeType) -> _Tracer | None:
        """What is called at each line of this code; None if it is none of the package's."""
        if not code.co_filename.startswith(self._directory):
            return None
        met: set[int] = set()

        def at_line(frame: FrameType, event: str, _argument: object) -> _Tracer:
            if event == "line":
                if frame.f_lineno not in met:
                    met.add(frame.f_lineno)
                    self.seen += 1
                self._left -= 1
                if self._left < 0:
                    raise TooManyLines
            return at_line

        return at_line
