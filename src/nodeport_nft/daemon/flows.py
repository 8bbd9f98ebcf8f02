"""Stale flows, looked for and deleted beside the event loop (K2).

The kernel's whole table is looked through for one changed frontend as for all, so what comes up while a search is
under way is put together and looked for in one go. Attempts to connect are watched for a moment before they are
forgotten; UDP does not wait for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from nodeport_nft.flows import Frontends
from nodeport_nft.kernel.conntrack import (
    PATIENCE_SECONDS,
    delete_stale_attempts,
    delete_stale_flows,
    find_stale_attempts,
)
from nodeport_nft.kernel.nft import KernelError
from nodeport_nft.model import Family

Report = Callable[[Family, int, float], None]


class FlowCleaner:
    """``deleted`` is told the family, the flows deleted and the seconds of each search; ``failed`` an error."""

    def __init__(self, deleted: Report, failed: Callable[[str], None]) -> None:
        self._deleted = deleted
        self._failed = failed
        self._queues = _Queue(self._clean_flows), _Queue(self._clean_attempts)

    def clean(self, frontends: Mapping[Family, Frontends]) -> None:
        """Look for stale flows of these frontends soon."""
        for queue in self._queues:
            queue.put(frontends)

    async def run(self) -> None:
        """Clean until cancelled."""
        await asyncio.gather(*(queue.run(self._failed) for queue in self._queues))

    async def _clean_flows(self, family: Family, known: Frontends) -> None:
        begin = time.monotonic()
        count = await asyncio.to_thread(delete_stale_flows, {family: known})
        self._deleted(family, count, time.monotonic() - begin)

    async def _clean_attempts(self, family: Family, known: Frontends) -> None:
        begin = time.monotonic()
        found = await asyncio.to_thread(find_stale_attempts, {family: known})
        count, seconds = 0, time.monotonic() - begin
        if found:
            await asyncio.sleep(PATIENCE_SECONDS)
            begin = time.monotonic()
            count = await asyncio.to_thread(delete_stale_attempts, {family: known}, found)
            seconds += time.monotonic() - begin
        self._deleted(family, count, seconds)


class _Queue:
    """What is to be cleaned by one of the ways."""

    def __init__(self, clean: Callable[[Family, Frontends], Awaitable[None]]) -> None:
        self._clean = clean
        self._waiting: dict[Family, Frontends] = {}
        self._wake = asyncio.Event()

    def put(self, frontends: Mapping[Family, Frontends]) -> None:
        for family, known in frontends.items():
            if known:
                self._waiting[family] = merged(self._waiting.get(family), known)
                self._wake.set()

    async def run(self, failed: Callable[[str], None]) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            frontends, self._waiting = self._waiting, {}
            for family, known in frontends.items():
                try:
                    await self._clean(family, known)
                except KernelError as error:
                    failed(str(error))


def merged(earlier: Frontends | None, later: Frontends) -> Frontends:
    """What both know; of a frontend that both know, what the later one does."""
    if earlier is None:
        return later
    return replace(
        later,
        serving={**earlier.serving, **later.serving},
        sources={p: s for p, s in earlier.sources.items() if p not in later.serving} | dict(later.sources),
        ranges=later.ranges or earlier.ranges,
        foreign=later.foreign or earlier.foreign,
    )
