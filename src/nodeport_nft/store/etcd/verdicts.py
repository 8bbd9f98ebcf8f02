"""What this node's readiness probes have found, for all nodes: a key ``members/probes/NAMESPACE/ADDRESS`` a failure.

The keys are under the lease of the node's registration, which is read off its key ``members/live/NAME``. So they end
with it: of a prober that is gone, or cut off, nothing is believed any longer. A node that is not registered writes
nothing, and writes all of it once it is. When it registers anew, all is written anew, before the old lease ends.

An endpoint that passes has no key, and one that is healthy costs etcd nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from nodeport_nft.agenda import Backoff
from nodeport_nft.model import ProbeFailure, Ref
from nodeport_nft.store.errors import told_by_daemon
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.errors import PASSING, EtcdError
from nodeport_nft.store.etcd.registration import probe_key, probe_value, read_live
from nodeport_nft.store.etcd.values import Delete, Operation, Put, is_unchanged

if TYPE_CHECKING:
    from nodeport_nft.store.etcd.client import Client

_MOST = 100
"""Keys that are written in one transaction; etcd takes 128 operations."""

_LOOK_SECONDS = 3.0
"""How often to see whether the node has registered anew, as long as anything fails; a lease outlives that."""

_LONGEST_SECONDS = 5.0


class EtcdVerdicts:
    """On the thread of one event loop; ``report`` is told what keeps the verdicts from being written.

    ``place``: as the registration of this very node has it (``registration.Identity``). Under that of another
    machine, which has the same name by mistake, nothing is written. What is left to another node stays for
    ``leave_seconds``: by then that one has its own verdict.
    """

    is_local = False

    def __init__(
        self,
        client: Client,
        node: str,
        report: Callable[[tuple[str, ...]], None],
        *,
        place: str = "",
        leave_seconds: float = 10.0,
    ) -> None:
        """Connects to nothing yet."""
        self._client = client
        self._place = place
        self._live = layout.LIVE + node
        self._report = report
        self._leave_seconds = leave_seconds
        self._backoff = Backoff(_LONGEST_SECONDS, first=0.2)
        self._news = asyncio.Event()
        self._failing: dict[Ref, ProbeFailure] = {}
        self._dirty: dict[Ref, None] = {}
        self._left: dict[Ref, float] = {}
        self._revisions: dict[Ref, int] = {}  # at which we have written each
        self._lease = 0

    def known(self) -> Mapping[Ref, ProbeFailure]:
        """Nothing: the store tells what failed before, as it tells everything else."""
        return {}

    def put(self, failure: ProbeFailure) -> None:
        """An endpoint fails, or its key has gone."""
        self._change(failure.ref, failure)

    def clear(self, ref: Ref) -> None:
        """It passes, or there is nothing to probe any more."""
        self._change(ref, None)

    def leave(self, ref: Ref) -> None:
        """Another node probes it from now on, and writes its verdict over ours."""
        self._failing.pop(ref, None)
        self._dirty.pop(ref, None)
        self._left[ref] = time.monotonic() + self._leave_seconds
        self._news.set()

    def _change(self, ref: Ref, failure: ProbeFailure | None) -> None:
        self._left.pop(ref, None)
        self._failing.pop(ref, None)
        if failure is not None:
            self._failing[ref] = failure
        self._dirty[ref] = None
        self._news.set()

    async def run(self) -> None:
        """Write what is to be written, until cancelled."""
        try:
            while True:
                try:
                    await self._write()
                except EtcdError as error:
                    if error.cause not in PASSING:
                        why = told_by_daemon(str(error))
                        self._report((f"verdicts of readiness probes cannot be written: {why}",))
                    await asyncio.sleep(self._backoff.failed() * random.uniform(0.7, 1.0))  # noqa: S311
                else:
                    self._backoff.succeeded()
                    self._report(())
                    await self._rest()
        finally:
            await self._client.close()

    async def _rest(self) -> None:
        """Wait for news, but no longer than until it is time to look, if there is anything to look after."""
        rest = _LOOK_SECONDS if self._failing or self._left or self._dirty else None
        with suppress(TimeoutError):
            async with asyncio.timeout(rest):
                await self._news.wait()

    async def _write(self) -> None:
        """Bring etcd up to date; what cannot be written stays to be written. Raises EtcdError."""
        self._news.clear()
        if not (self._failing or self._dirty or self._left):
            return
        live = await self._client.get(self._live)
        if live is None or not live.lease or read_live(live.value)[0].place != self._place:
            return  # not registered: all that we wrote is gone, or goes with the old lease
        if live.lease != self._lease:
            self._lease = live.lease
            self._dirty |= dict.fromkeys(self._failing)
        while self._dirty:
            refs = list(self._dirty)[:_MOST]
            failures = {ref: self._failing.get(ref) for ref in refs}
            operations = [self._operation(ref, failure) for ref, failure in failures.items()]
            committed = await self._client.commit([is_unchanged(live.key, live.mod_revision)], operations)
            if not committed.succeeded:
                self._news.set()  # registered anew this very moment
                return
            for ref, failure in failures.items():
                self._revisions.pop(ref, None)
                if failure is not None:
                    self._revisions[ref] = committed.revision
                if self._failing.get(ref) is failure:  # and has not changed while it was written
                    self._dirty.pop(ref, None)
        await self._give_up_what_was_left()

    def _operation(self, ref: Ref, failure: ProbeFailure | None) -> Operation:
        if failure is None:
            return Delete(probe_key(ref))
        return Put(probe_key(ref), probe_value(failure), self._lease)

    async def _give_up_what_was_left(self) -> None:
        """Remove what nobody has written over: the node that is to probe it has found that it passes."""
        for ref in [ref for ref, at in self._left.items() if at <= time.monotonic()]:
            if revision := self._revisions.get(ref, 0):
                await self._client.commit([is_unchanged(probe_key(ref), revision)], [Delete(probe_key(ref))])
                self._revisions.pop(ref, None)
            self._left.pop(ref, None)
