"""A guard against what would never end."""

from __future__ import annotations

from contextlib import AbstractContextManager

from fuzz.engine import bounded


def ended_within(seconds: float) -> AbstractContextManager[None]:
    """Fail the test once the block has taken that much processor time."""
    return bounded(seconds, AssertionError(f"has not ended after {seconds} s of processor time"))
