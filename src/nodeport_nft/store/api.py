"""What the program wants of the place where the desired state is kept. Read this first.

Whoever programs a node needs a ``Source`` and nothing else: it tells what there is, and what changes. Whoever serves
people needs ``Objects``: it reads and writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nodeport_nft.model import Ref, Value


@dataclass(frozen=True, slots=True)
class Change:
    """An object as it is now; without values it is gone, or is nothing that this program can use."""

    ref: Ref
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since a source was last asked, each object once.

    ``whole``: it is all there is, and any other object is gone. ``unreadable`` are objects that are there and cannot
    be read: their last good state stays. ``warnings`` are told once, here and never again.
    """

    changes: tuple[Change, ...] = ()
    whole: bool = False
    unreadable: frozenset[Ref] = frozenset()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes or self.whole)


class Source(Protocol):
    """What there is, and what changes, on the thread of one event loop.

    The first ``take`` that is not empty is ``whole``, and comes when *all* kinds have been listed: a Service whose
    endpoints are yet to come must not be programmed as one without any. Whenever a source cannot say what has changed
    since (another file at the path, a compacted history, a restored backup) it says everything once more, ``whole``.
    """

    async def run(self) -> None:
        """Follow the store until cancelled. Never returns by itself, and outlives every failure of the store."""

    async def changed(self) -> None:
        """Return when there may be something to ``take``, or when the ``problems`` are others.

        One waits at a time, and may be cancelled: what it would have been told of is told to the next.
        """

    def take(self) -> Changes:
        """What has come since the last time; empty if nothing has. It never waits for a network.

        Raises StoreError where nothing has ever come and waiting would mend nothing.
        """

    def forget(self) -> None:
        """Tell everything once more, ``whole``: what was taken last may not have come through."""

    def problems(self) -> tuple[str, ...]:
        """What is wrong now, each with its remedy; none if all is well. What was taken last stays good."""

    def close(self) -> None:
        """Follow no longer; nothing is asked afterwards."""
