"""Stale UDP flows, looked for and deleted beside the event loop (K2).

The kernel's whole table of UDP flows is looked through for one changed frontend as for all, so what comes up while a
search is under way is put together and looked for in one go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from nodeport_nft.flows import UDPFrontends
from nodeport_nft.kernel.conntrack import delete_stale_flows
from nodeport_nft.kernel.nft import KernelError
from nodeport_nft.model import Family

Report = Callable[[Family, int, float], None]


class FlowCleaner:
    """``deleted`` is told the family, the flows deleted and the seconds of each search; ``failed`` an error."""

    def __init__(self, deleted: Report, failed: Callable[[str], None]) -> None:
        self._deleted = deleted
        self._failed = failed
        self._waiting: dict[Family, UDPFrontends] = {}
        self._wake = asyncio.Event()

    def clean(self, frontends: Mapping[Family, UDPFrontends]) -> None:
        """Look for stale flows of these frontends soon."""
        for family, known in frontends.items():
            if known:
                self._waiting[family] = merged(self._waiting.get(family), known)
                self._wake.set()

    async def run(self) -> None:
        """Clean until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            frontends, self._waiting = self._waiting, {}
            for family, known in frontends.items():
                begin = time.monotonic()
                try:
                    count = await asyncio.to_thread(delete_stale_flows, {family: known})
                except KernelError as error:
                    self._failed(str(error))
                else:
                    self._deleted(family, count, time.monotonic() - begin)


def merged(earlier: UDPFrontends | None, later: UDPFrontends) -> UDPFrontends:
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
