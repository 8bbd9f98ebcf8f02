"""When to write: a lone change at once, a burst together.

Every transaction costs the kernel a grace period and a commit, whatever is in it; a rolling update of a hundred Pods
is better written once or twice. So a change that comes soon after another waits for the burst to end, but not
forever. Pure: the time is an argument, in seconds of any one clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LONGEST = 1.0
"""The longest that a change waits for others, in seconds."""


@dataclass(slots=True)
class Pace:
    """``quiet``: how long there must be no change for a burst to be over, in seconds; 0: nothing ever waits."""

    quiet: float
    first: float | None = None
    _last: float = field(default=float("-inf"))
    _due: float = field(default=float("inf"))

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
        self.first, self._due = None, float("inf")
