"""What is said of a store that cannot be used: which one it is, what is wrong, and the remedy."""

from __future__ import annotations

_OPTION = " with --store"
ELSEWHERE = f"choose another{_OPTION}"
DAMAGED = f"restore it from a copy, or {ELSEWHERE}"
LOST = "has lost what it held; restore it from a copy, or remove it to begin anew"
"""What is said of a store that is there, and is one no longer."""


def told_by_daemon(problem: str) -> str:
    """A problem without the advice that is for commands: a daemon's store is that of its configuration."""
    return problem.replace(f", or {ELSEWHERE}", "").replace(f"; {ELSEWHERE}", "")


def told_of_argument(problem: str) -> str:
    """A problem of a store that is an argument of a command, which then has no option for it."""
    return problem.replace(_OPTION, "")


class StoreError(Exception):
    """The store cannot be used; the message names it and the remedy."""
