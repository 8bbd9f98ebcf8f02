"""When it is time: an agenda of what is to be done when, and how long to wait before something is tried again.

Whoever has to do several things, each at its time, keeps one agenda, waits until the first of them is due, and does
what is due. Times are seconds of the clock that is given, which must not go back (``time.monotonic``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Generic, TypeVar

from msgspec import Struct

Name = TypeVar("Name", bound=Hashable)


class Agenda(Generic[Name]):
    """Each of ``names`` at one time, or not at all. What is due together is done in the order of ``names``.

    ``planned`` is called whenever something is to be done: who waits for the agenda has to look at it again.
    """

    def __init__(
        self, names: Iterable[Name], clock: Callable[[], float], planned: Callable[[], None] = lambda: None
    ) -> None:
        self._names = tuple(names)
        self._clock = clock
        self._planned = planned
        self._times: dict[Name, float] = {}

    def __contains__(self, name: Name) -> bool:
        """Whether it is to be done."""
        return name in self._times

    def when(self, name: Name) -> float:
        """The time it is to be done; infinity if it is not."""
        return self._times.get(name, math.inf)

    def at(self, name: Name, time: float) -> None:
        """To be done then, whatever was planned before; at infinity: not at all."""
        if time == math.inf:
            self.drop(name)
            return
        self._times[name] = time
        self._planned()

    def after(self, name: Name, seconds: float) -> None:
        """To be done so long from now, whatever was planned before."""
        self.at(name, self._clock() + seconds)

    def within(self, name: Name, seconds: float) -> None:
        """To be done so long from now at the latest."""
        self.at(name, min(self.when(name), self._clock() + seconds))

    def not_within(self, name: Name, seconds: float) -> None:
        """If it is to be done, so long from now at the soonest."""
        if name in self:
            self.at(name, max(self.when(name), self._clock() + seconds))

    def drop(self, name: Name) -> None:
        """Not to be done."""
        self._times.pop(name, None)

    def due(self) -> Iterator[Name]:
        """What is to be done by now, each taken off when it is given, and no name twice.

        What is put off or dropped meanwhile is not given. What is not asked for stays: if one fails, the rest is due
        the next time.
        """
        for name in self._names:
            if self.when(name) <= self._clock():
                del self._times[name]
                yield name

    def rest(self) -> float | None:
        """Seconds until something is due, 0 where something is; None: there is nothing to be done."""
        first = min(self._times.values(), default=math.inf)
        return None if first == math.inf else max(0.0, first - self._clock())


class Backoff(Struct):
    """How long to wait before what has failed is tried again: ``first`` seconds, then twice as long each time.

    ``longest`` seconds are the most, also at first; it may be changed. ``pause`` is what was said last, 0 where it
    has gone well since.
    """

    longest: float
    first: float = 1.0
    pause: float = 0.0

    def failed(self) -> float:
        """How long to wait before the next try, in seconds."""
        self.pause = min(max(self.first, 2 * self.pause), self.longest)
        return self.pause

    def succeeded(self) -> None:
        """Begin with the shortest pause again."""
        self.pause = 0.0


def apart(attempt: int, longest: float) -> float:
    """Seconds, at random, after which those who have met at a write try again: not again in the same moment.

    The more attempts (from 0 on) they have made the longer it may be, up to ``longest``.
    """
    return random.uniform(0, min(longest, 0.01 * 2 ** min(attempt, 6)))  # noqa: S311
