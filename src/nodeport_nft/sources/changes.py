"""What a source tells."""

from __future__ import annotations

from dataclasses import dataclass

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
    be read: their last good state stays.
    """

    changes: tuple[Change, ...] = ()
    whole: bool = False
    unreadable: frozenset[Ref] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.changes or self.whole)
