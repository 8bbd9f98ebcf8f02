"""A check and what it finds."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from subprocess import SubprocessError
from typing import TYPE_CHECKING

from msgspec import Struct

from nodeport_nft.errors import KernelError
from nodeport_nft.problems import Problems
from nodeport_nft.store import StoreError

if TYPE_CHECKING:
    from nodeport_nft.doctor.examination import Examination


class State(enum.StrEnum):
    """How something is. A warning may become trouble, or is trouble in some clusters alone; a failure is trouble."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "not looked at"


class Finding(Struct, frozen=True):
    """What one check has found: ``seen``, what it ``means`` for the traffic, and the ``remedy``, a command if any."""

    state: State
    seen: str
    means: str = ""
    remedy: str = ""


def ok(seen: str) -> Finding:
    """All is well."""
    return Finding(State.OK, seen)


def warning(seen: str, means: str, remedy: str) -> Finding:
    """It may become trouble."""
    return Finding(State.WARNING, seen, means, remedy)


def failed(seen: str, means: str, remedy: str) -> Finding:
    """It is trouble."""
    return Finding(State.FAILED, seen, means, remedy)


def skipped(why: str) -> Finding:
    """It was not looked at."""
    return Finding(State.SKIPPED, why)


def of_text(state: State, text: str, means: str, otherwise: str = "") -> Finding:
    """A problem as the other rooms word theirs: what is wrong, a semicolon, and the remedy, or else ``otherwise``."""
    seen, _, remedy = text.partition("; ")
    return Finding(state, seen, means, remedy or otherwise)


Look = Callable[["Examination"], Iterable[Finding]]


class Check(Struct, frozen=True):
    """``id`` is for programs, and stays; ``title`` is for people. ``look`` finds at least one thing."""

    id: str
    title: str
    look: Look


def examine(checks: Iterable[Check], examination: Examination) -> Iterator[tuple[Check, Finding]]:
    """What all of these checks find. One that cannot look says why, and the others go on."""
    for check in checks:
        try:
            found = list(check.look(examination))
        except (KernelError, StoreError, Problems, OSError, SubprocessError) as error:
            words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            found = [skipped(" ".join(words.split()))]
        yield from ((check, each) for each in found)
