"""A writer that numbers what it writes and a follower that must see each of it once, in order, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from nodeport_nft.store.etcd.errors import Cause, EtcdError, Outcome
from nodeport_nft.store.etcd.values import Batch, Position, Put, is_absent
from tests.etcd.members import WAIT

NAPS = 0.01  # seconds between two writes
LAST = "n/last"


class Storm:
    """Writes ``n/0``, ``n/1``, … with one client and follows with another."""

    def __init__(self, writer: Any, follower: Any) -> None:
        self.writer = writer
        self.follower = follower
        self.acknowledged: list[str] = []
        self.seen: list[str] = []
        self.told: list[EtcdError | None] = []
        self.doubts = 0
        self.refusals: list[EtcdError] = []
        self.position: Position | None = None
        self.pause = asyncio.Event()
        """Cleared, it stops the writer for a while."""
        self.pause.set()
        self._ends = asyncio.Event()

    async def run(self, fault: Callable[[], Awaitable[None]]) -> None:
        """Let ``fault`` happen under the storm, and compare what was written with what was seen."""
        self.position = (await self.follower.list_all("n/")).position
        async with asyncio.timeout(2 * WAIT), asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            writing = group.create_task(self._write())
            await self.until_seen(20)
            await fault()
            await self.until_seen(20)
            self._ends.set()
            await writing
            await self.write_one(LAST)
        assert self.seen == self.acknowledged
        assert len(set(self.seen)) == len(self.seen)

    async def until_seen(self, more: int) -> None:
        """Return when ``more`` writes have come through."""
        wanted = len(self.seen) + more
        while len(self.seen) < wanted:
            await asyncio.sleep(0.01)

    async def until_refused(self) -> None:
        """Return when one more write has failed."""
        before = len(self.refusals)
        while len(self.refusals) == before:
            await asyncio.sleep(0.01)

    async def until_told(self) -> None:
        """Return when the follower has said that it cannot follow."""
        while not self.told or self.told[-1] is None:
            await asyncio.sleep(0.01)

    async def write_one(self, key: str) -> None:
        """Write a key until it is known to be there; never twice."""
        while True:
            try:
                done = await self.writer.commit((is_absent(key),), (Put(key, b"x"),))
            except EtcdError as error:
                self.refusals.append(error)
                self.doubts += error.outcome is Outcome.UNKNOWN
                await asyncio.sleep(0.05)
                continue
            assert done.succeeded or self.doubts, f"{key} was there, and nobody can have written it"
            self.acknowledged.append(key)
            return

    async def _write(self) -> None:
        number = 0
        while not self._ends.is_set():
            await self.pause.wait()
            await self.write_one(f"n/{number}")
            number += 1
            await asyncio.sleep(NAPS)

    async def _follow(self) -> None:
        from nodeport_nft.store.etcd.watch import watch

        assert self.position is not None
        async with contextlib.aclosing(watch(self.follower, self.position, "n/", tell=self.told.append)) as batches:
            async for batch in batches:
                self.take(batch)
                if batch.events[-1].key == LAST:
                    return

    def take(self, batch: Batch) -> None:
        """Keep what has come."""
        revisions = [event.revision for event in batch.events]
        assert revisions == sorted(revisions)
        assert batch.position.revision == revisions[-1]
        self.seen += [event.key for event in batch.events]


def causes(errors: list[EtcdError]) -> set[Cause]:
    """Why the writes failed that did."""
    return {error.cause for error in errors}
