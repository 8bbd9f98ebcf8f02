"""When to ask a server again that has not answered, or has refused.

A change is to be in the kernel within two seconds of a server's return, so one that is away is asked again after 1.2
seconds at the most, however long it has been away. That is cheap: one request of one connection at a time, whichever
of the kinds it is for, and a connection that is refused costs the machines in between two packets. Nodes spread it at
random. A server that is there and refuses has work to do, and is left alone for longer and longer, up to 30 seconds
as by client-go, or for as long as it says itself (Retry-After). What a proxy answers in the place of servers that are
not there, and a server that waits for its etcd (502, 503, 504), is away.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nodeport_nft.agenda import Backoff
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes.errors import Refused, Unreachable

AWAY_SECONDS = 1.2
_REFUSED_SECONDS = 30.0
_MOST_SECONDS = 120.0
"""As long as a server may ask to be left alone."""

_AWAY = (502, 503, 504)


def is_away(error: StoreError) -> bool:
    """Whether this says that nobody is there to answer."""
    if isinstance(error, Refused):
        return error.code in _AWAY and not error.retry_after
    return isinstance(error, Unreachable)


class Reach:
    """Whether the server can be reached, for all who ask it: while it is away one at a time tries, after a pause."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311
        self._backoff = Backoff(AWAY_SECONDS, first=0.2)
        self._trying = asyncio.Lock()

    @property
    def is_away(self) -> bool:
        """Whether the last that was asked has not been answered."""
        return bool(self._backoff.pause)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Ask within this, no longer than until the answer begins. Raises what asking does, and learns from it."""
        if not self.is_away:
            async with self._learning(self.lost):
                yield
            return
        async with self._trying:
            if self.is_away:
                await asyncio.sleep(self._backoff.pause * self._rng.uniform(0.5, 1.0))
            async with self._learning(self._backoff.failed):
                yield

    def lost(self) -> None:
        """An answer has broken off: the next one is asked for after a pause, a short one where many have at once."""
        if not self.is_away:
            self._backoff.failed()

    @asynccontextmanager
    async def _learning(self, failed: Callable[[], object]) -> AsyncIterator[None]:
        try:
            yield
        except StoreError as error:
            if is_away(error):
                failed()
            else:  # whoever refuses is there
                self._backoff.succeeded()
            raise
        self._backoff.succeeded()


class Refusals:
    """How long to leave a server alone that has refused one kind of request."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311
        self._backoff = Backoff(_REFUSED_SECONDS, first=0.2)

    def pause(self, error: StoreError) -> float:
        """Seconds, no less than the server asks for."""
        asked = min(error.retry_after, _MOST_SECONDS) if isinstance(error, Refused) else 0.0
        own = self._backoff.failed() * self._rng.uniform(0.5, 1.0)
        return max(own, asked * self._rng.uniform(1.0, 1.2))

    def over(self) -> None:
        """It has not refused."""
        self._backoff.succeeded()
