"""When to write: a lone change at once, a burst together; and when to look again at what takes long.

Every transaction costs the kernel a grace period and a commit, whatever is in it; a rolling update of a hundred Pods
is better written once or twice. So a change that comes soon after another waits for the burst to end, but not
forever. Pure: the time is an argument, in seconds of any one clock.
"""

from __future__ import annotations

import math

from msgspec import Struct

LONGEST = 1.0
"""The longest that a change waits for others, in seconds."""


class Pace(Struct):
    """``quiet``: how long there must be no change for a burst to be over, in seconds; 0: nothing ever waits."""

    quiet: float
    first: float | None = None
    _last: float = -math.inf
    _due: float = math.inf

    def changed(self, now: float) -> None:
        """Something is to be written."""
        if self.first is None:
            self.first = now
            self._due = now if now - self._last >= self.quiet else now + self.quiet
        else:
            self._due = max(self._due, now + self.quiet)
        self._due = min(self._due, self.first + LONGEST)
        self._last = now

    def due(self) -> float:
        """When to write; infinity if there is nothing to write."""
        return self._due

    def written(self) -> None:
        """What was to be written is written."""
        self.first, self._due = None, math.inf


_SHARE = 0.1
"""The most of the time that is spent on looking, again and again, at what others have."""


class Rest(Struct):
    """How long (``until``) a thing is left alone after it was done: it takes no more than its share of the time.

    Who can make it take long, and can make it be done again, must not keep the program from its work.
    """

    until: float = -math.inf

    def is_over(self, now: float) -> bool:
        """Whether it may be done again."""
        return now >= self.until

    def begin(self, began: float, now: float) -> None:
        """It was done from ``began`` until ``now``."""
        self.until = now + (now - began) * (1 / _SHARE - 1)
