"""Who of many does a thing, so that each of them knows without asking: consistent hashing. Pure.

One more, or one less, takes over from the others, or leaves to them, its own share and nothing else; and to look it
up costs the same for five nodes and for five thousand.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Collection
from hashlib import blake2b

_POINTS = 32
"""Of each on the circle; the more, the more even the shares (with 32, most are within a third of the mean)."""


class Ring:
    """Some ``names``, all alike."""

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self._points: list[tuple[int, str]] = []

    def become(self, names: Collection[str]) -> bool:
        """Let these be the names, and no others; whether that is a change."""
        now = frozenset(names)
        come, gone = now - self.names, self.names - now
        self.names = now
        if gone:
            self._points = [point for point in self._points if point[1] not in gone]
        for name in come:
            for number in range(_POINTS):
                insort(self._points, (_place(f"{number} {name}"), name))
        return bool(come or gone)

    def owner(self, what: str) -> str:
        """Whose it is; "" if there is nobody."""
        if not self._points:
            return ""
        return self._points[bisect(self._points, (_place(what), "")) % len(self._points)][1]


def _place(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
