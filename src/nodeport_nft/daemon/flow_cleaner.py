"""Stale flows, looked for and deleted beside the event loop (K2).

The kernel's whole table is looked through for one changed frontend as for all, so what comes up while a search is
under way is put together and looked for in one go. Attempts to connect are watched for a moment before they are
forgotten; UDP does not wait for that.

A search that fails is tried again, later and later: a flow that nobody looks for any more would go the wrong way for
as long as its client keeps sending.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from nodeport_nft.agenda import Agenda, Backoff
from nodeport_nft.daemon.due import until_due
from nodeport_nft.errors import KernelError
from nodeport_nft.flows import Frontends
from nodeport_nft.kernel.netlink.conntrack import (
    PATIENCE_SECONDS,
    delete_stale_attempts,
    delete_stale_flows,
    find_stale_attempts,
)
from nodeport_nft.model import Family

Report = Callable[[Family, int, float], None]

_LONGEST_SECONDS = 60.0
"""The longest pause before a search that has failed is tried again."""


class FlowCleaner:
    """``deleted`` is told the family, the flows deleted and the seconds of each search.

    ``report`` is told what cannot be searched now, a line each, whenever that changes.
    """

    def __init__(self, deleted: Report, report: Callable[[tuple[str, ...]], None]) -> None:
        self._deleted = deleted
        self._report = report
        self._queues = Queue(self._clean_flows, self._tell), Queue(self._clean_attempts, self._tell)

    def clean(self, frontends: Mapping[Family, Frontends]) -> None:
        """Look for stale flows of these frontends soon."""
        for queue in self._queues:
            queue.put(frontends)

    async def run(self) -> None:
        """Clean until cancelled."""
        async with asyncio.TaskGroup() as group:  # where one ends, all do: they are begun anew together
            for queue in self._queues:
                group.create_task(queue.run())

    def _tell(self) -> None:
        self._report(tuple(dict.fromkeys(text for queue in self._queues for text in queue.problems.values())))

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


class Queue:
    """What is to be cleaned by one of the ways, each family by itself: one that fails is tried again.

    What comes up is looked for at once, also while a family waits for its next try. ``clean`` raises KernelError
    where it fails; whatever else ends it, nothing is forgotten. ``problems`` are the families that fail, and why;
    ``changed`` is called when they have changed.
    """

    def __init__(
        self,
        clean: Callable[[Family, Frontends], Awaitable[None]],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problems: dict[Family, str] = {}
        self._clean = clean
        self._changed = changed
        self._waiting: dict[Family, Frontends] = {}
        self._backoffs = {family: Backoff(_LONGEST_SECONDS) for family in Family}
        self._woken = asyncio.Event()
        self.agenda = Agenda(Family, clock, self._woken.set)

    def put(self, frontends: Mapping[Family, Frontends]) -> None:
        """Look for stale flows of these soon."""
        for family, known in frontends.items():
            if known:
                self._waiting[family] = merged(self._waiting.get(family), known)
                self.agenda.within(family, 0.0)

    async def run(self) -> None:
        """Clean until cancelled."""
        while True:
            await self.clean_due()
            await until_due(self.agenda, self._woken)

    async def clean_due(self) -> None:
        """Clean what it is time for."""
        for family in self.agenda.due():
            known = self._waiting.pop(family)
            try:
                await self._clean(family, known)
            except KernelError as error:
                self._backoffs[family].failed()
                self._put_back(family, known)
                self._found(family, f"{error}; it is tried again")
            except BaseException:
                self._put_back(family, known)
                raise
            else:
                self._backoffs[family].succeeded()
                self._found(family, "")

    def _put_back(self, family: Family, known: Frontends) -> None:
        later = self._waiting.get(family)
        self._waiting[family] = merged(known, later) if later else known
        self.agenda.within(family, self._backoffs[family].pause)  # sooner, where more has come up meanwhile

    def _found(self, family: Family, problem: str) -> None:
        if self.problems.get(family, "") == problem:
            return
        self.problems.pop(family, None)
        if problem:
            self.problems[family] = problem
        self._changed()


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
