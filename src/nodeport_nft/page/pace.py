"""From numbers that only grow to rates, between two looks of whoever looks on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping

from msgspec import Struct

LONGEST = 120.0
"""Seconds between two looks beyond which a rate would say nothing of now."""

_SHORTEST = 1.0  # several may look on: what one of them has been told holds for the others for a moment
_MOST = 10_000  # numbers that are remembered


class _Seen(Struct):
    at: float
    count: int
    rate: float | None = None


class Pace:
    """Remembers what was counted, for the numbers that somebody looked at last."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()

    def rates(self, counts: Mapping[Hashable, int], now: float) -> dict[Hashable, float | None]:
        """By name how much a second was counted since the last look; None where there was none, or not lately.

        ``now`` is in seconds, by a clock that only goes on. A number that fell has begun anew.
        """
        return {name: self._rate(name, count, now) for name, count in counts.items()}

    def _rate(self, name: Hashable, count: int, now: float) -> float | None:
        seen = self._seen.get(name)
        if seen is None:
            self._seen[name] = _Seen(now, count)
            while len(self._seen) > _MOST:
                self._seen.popitem(last=False)
            return None
        self._seen.move_to_end(name)
        passed = now - seen.at
        if passed < _SHORTEST:
            return seen.rate
        seen.rate = (count - seen.count) / passed if passed <= LONGEST and count >= seen.count else None
        seen.at, seen.count = now, count
        return seen.rate
