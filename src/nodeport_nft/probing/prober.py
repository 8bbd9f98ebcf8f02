"""All the probes of a node, each at its time, on a thread of their own.

The daemon's loop may be busy for seconds with a large table, and a probe whose answer is read too late has failed. So
probes have a loop of their own. It costs nothing where there is nothing to probe: it begins with the first.

A timer and a few numbers are what a probe that waits consists of; ten thousand are no burden. So many run at once and
no more (``MOST``), the rest wait for their turn: a switch that takes a thousand endpoints along must not take the
daemon's descriptors, too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from random import random

from nodeport_nft.probing.asking import Unheard, ask
from nodeport_nft.probing.streak import Streak
from nodeport_nft.probing.targets import Target

MOST = 256
"""Probes that run at once."""

_HASTE = 0.95
"""The share of a period that lies between two probes; the rest is for telling of a failure, and for writing it."""

_THREAD = "probes"


class Watch:
    """One target, from ``Prober.begin`` to ``end``; its ``streak`` belongs to the prober's thread."""

    __slots__ = ("ended", "streak", "target", "timer")

    def __init__(self, target: Target, streak: Streak) -> None:
        self.target = target
        self.streak = streak
        self.ended = False
        self.timer: asyncio.TimerHandle | None = None


class Prober:
    """``told`` hears, on the prober's thread, that the verdict on one is another: since when it fails (None: it
    passes), and why. ``failed`` hears there of what must not happen.

    ``begin``, ``end`` and ``close`` are for the daemon's thread. Sockets belong to the network namespace of the
    thread that calls ``begin`` first.
    """

    def __init__(
        self, told: Callable[[Watch, float | None, str], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._told = told
        self._failed = failed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._waiting: deque[Watch] = deque()
        self._ended = False

    def begin(self, watch: Watch, *, spread: bool) -> None:
        """Probe from now on; ``spread``: at first some time within a period, so that not all come at once.

        Raises RuntimeError and MemoryError where there can be no thread.
        """
        probe = watch.streak.probe
        delay = random() * probe.period if spread else float(probe.initial_delay)  # noqa: S311 -- no secret
        self._started().call_soon_threadsafe(self._plan, watch, delay)

    def end(self, watch: Watch) -> None:
        """Probe no longer; what is under way is not told."""
        watch.ended = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, watch)

    def close(self) -> None:
        """End everything."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), name=_THREAD, daemon=True)
            try:
                self._thread.start()
            except BaseException:
                loop.close()
                raise
            self._loop = loop
        return self._loop

    # From here on everything runs on the prober's thread.

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        logging.getLogger("tornado.general").addFilter(_is_ours)
        loop.set_exception_handler(self._broken)
        loop.run_forever()
        self._ended = True  # what becomes due while the rest ends is not begun
        self._waiting.clear()
        for task in self._asking:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*self._asking, return_exceptions=True))

    def _broken(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException) and "task" not in context and "future" not in context:
            self._failed(error)

    def _plan(self, watch: Watch, delay: float) -> None:
        if not watch.ended:
            watch.timer = asyncio.get_running_loop().call_later(delay, self._due, watch)

    def _cancel(self, watch: Watch) -> None:
        if watch.timer is not None:
            watch.timer.cancel()

    def _due(self, watch: Watch) -> None:
        if self._ended:
            return
        if len(self._asking) >= MOST:
            self._waiting.append(watch)
        else:
            self._ask(watch)

    def _ask(self, watch: Watch) -> None:
        task = asyncio.get_running_loop().create_task(self._probe(watch))
        self._asking.add(task)
        task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failed(error)
        while self._waiting and len(self._asking) < MOST:
            watch = self._waiting.popleft()
            if not watch.ended:
                self._ask(watch)

    async def _probe(self, watch: Watch) -> None:
        loop, streak = asyncio.get_running_loop(), watch.streak
        begun, wall = loop.time(), time.time()
        try:
            why = await ask(streak.probe, watch.target.addresses[0])
        except Unheard:
            pass
        else:
            if not watch.ended and streak.result(not why, wall):
                self._told(watch, streak.failing_since, why)
        self._plan(watch, max(0.0, begun + streak.probe.period * _HASTE - loop.time()))


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a line of Tornado's is told: what it finds wrong with an answer is the probe's result, and no news."""
    return record.threadName != _THREAD
