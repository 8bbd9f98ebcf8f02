"""So many lines of a kind in a minute, and then their number alone: a defect must not fill the disk with its log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator

from msgspec import Struct

SECONDS = 60.0
_MOST_KINDS = 1000


class _Kind(Struct):
    since: float
    name: str
    count: int = 0
    held_back: int = 0


class Limiter:
    """Counts by kind. All methods may be called from any thread. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[Hashable, _Kind] = {}

    def lets_through(self, kind: Hashable, name: str, most: int) -> bool:
        """Whether a line of this kind, which people call ``name``, is one of the first ``most`` of its minute."""
        now = self._clock()
        with self._lock:
            if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
                return True  # so many kinds are no repetition; room comes with the next ``ended``
            found = self._kinds.setdefault(kind, _Kind(now, name))
            found.count += 1
            if found.count <= most:
                return True
            found.held_back += 1
            return False

    def ended(self, *, at_once: bool = False) -> Iterator[tuple[str, int, float]]:
        """The minutes that are over since the last call, or all ``at_once``: name, lines held back, seconds."""
        now = self._clock()
        with self._lock:
            over = [key for key, kind in self._kinds.items() if at_once or now - kind.since >= SECONDS]
            kinds = [self._kinds.pop(key) for key in over]
        return ((kind.name, kind.held_back, now - kind.since) for kind in kinds if kind.held_back)
