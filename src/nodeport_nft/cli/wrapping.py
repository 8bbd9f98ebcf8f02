"""Prose as wide as a terminal. What goes to a file or a pipe is not wrapped: programs read it line by line."""

from __future__ import annotations

import shutil
import sys
import textwrap

_WIDEST = 100  # columns; longer lines are hard to read


def prose_width() -> int | None:
    """Columns for prose on stdout; None where it is no terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return min(shutil.get_terminal_size().columns, _WIDEST)


def wrapped(text: str, indent: int, width: int | None) -> list[str]:
    """The lines of ``text`` behind ``indent`` columns of something else, broken at blanks alone; one without a width.

    Where next to nothing is left of the width, it is the terminal that wraps.
    """
    least = 20
    if width is None or width - indent < least or len(text) <= width - indent:
        return [text]
    return textwrap.wrap(text, width - indent, break_long_words=False, break_on_hyphens=False)
