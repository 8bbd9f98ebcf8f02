"""What reading everything leaves behind: what is no garbage, and memory that is free and not given back."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_SELDOM = 100_000
"""How many more objects there are when garbage is looked for. What is read at the start is none: to look as often as
Python does by itself took a quarter of the processor time that reading 10,000 Services took."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Look for garbage seldom. Not never: a store that is away may be waited for for days."""
    before = gc.get_threshold()
    gc.set_threshold(_SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def give_back_memory() -> None:
    """Let the C library give back what it has no use for now: listings come in large pieces. glibc keeps some."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
