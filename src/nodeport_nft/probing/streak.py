"""What a row of results means: when an endpoint is ready, and when no longer. Pure; times are Unix times in s."""

from __future__ import annotations

from typing import Self

from msgspec import Struct

from nodeport_nft.model import Probe

NEVER_PASSED = 0.0
"""As the time since when a probe fails: it has not passed yet."""


class Streak(Struct):
    """The results of one probe. ``failing_since`` None: it counts as passed.

    ``is_new``: nothing is known yet, and the first result decides.
    """

    probe: Probe
    failing_since: float | None = None
    is_new: bool = False
    _passing: bool = True
    _run: int = 0
    _begun: float = 0.0

    @classmethod
    def of_new(cls, probe: Probe) -> Self:
        """Of an endpoint that nobody has known before."""
        is_awaited = probe.success_threshold > 1 or probe.initial_delay > 0
        return cls(probe, NEVER_PASSED if is_awaited else None, is_new=True)

    def result(self, passed: bool, begun: float) -> bool:
        """A probe that was begun then has passed or failed; whether that changes the verdict."""
        if passed != self._passing or not self._run:
            self._passing, self._run, self._begun = passed, 0, begun
        self._run += 1
        before = self.failing_since
        if passed:
            if self._run >= self.probe.success_threshold:
                self.failing_since, self.is_new = None, False
        elif self.failing_since is None and (self.is_new or self._run >= self.probe.failure_threshold):
            self.failing_since = NEVER_PASSED if self.is_new else self._begun
        return self.failing_since != before
