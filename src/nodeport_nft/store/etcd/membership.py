"""This node's registration: a lease, and what vanishes with it when the daemon is gone or cut off.

A lease of etcd ends where it is not refreshed in time, and etcd then removes its keys, at once for all who follow
them. After a change of leader, or when etcd comes back, each lease has its full time again, so a daemon that comes
back soon enough is not missed. Where the lease has ended, or nobody knows it any more (a restored backup, another
cluster), the node registers anew.

A daemon that ends leaves its lease to end by itself: one that is started again within that time was never away, to
the others. One of another machine that wants the same name is told who has it, and waits until that one is gone; the
two never take the name from each other in turns.

Sources: https://etcd.io/docs/v3.4/learning/api/#lease-api, etcd server/lease/lessor.go (Promote: leases are extended
by a new leader), KEP-589 (node leases: renewed about four times as often as they need be).
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.agenda import Backoff
from nodeport_nft.store.api import NodeReport
from nodeport_nft.store.errors import told_by_daemon
from nodeport_nft.store.etcd import layout, open_client
from nodeport_nft.store.etcd.address import Connection
from nodeport_nft.store.etcd.calls import Timings
from nodeport_nft.store.etcd.errors import PASSING, Cause, EtcdError
from nodeport_nft.store.etcd.registration import (
    Identity,
    known_value,
    live_value,
    progress_value,
    read_known,
    read_live,
    read_position,
)
from nodeport_nft.store.etcd.values import Get, KeyValue, Operation, Put, is_present, is_unchanged


class Pauses(Struct, frozen=True):
    """In seconds. ``lease``: how long a registration outlives its daemon; it is refreshed every ``refresh``.

    What a node says of itself is written ``progress`` apart at least, up to ``jitter`` later, so that a change of
    the objects is not a moment in which all nodes write. Every ``look`` it is seen whether the registration is
    there: somebody may have removed it by hand, and a node that is there must not count as lost for that.
    """

    lease: int = 15
    refresh: float = 5.0
    progress: float = 5.0
    jitter: float = 2.0
    look: float = 20.0


class EtcdMembership:
    """One node's registration, on the thread of one event loop (``store.api.Membership``)."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        who: Identity,
        *,
        changed: Callable[[], None] = lambda: None,
        pauses: Pauses | None = None,
        timings: Timings | None = None,
    ) -> None:
        """Connects to nothing yet. ``changed`` is called when the problems may be others."""
        self._name = name
        self._who = replace(who, daemon=who.daemon or uuid.uuid4().hex)
        self._changed = changed
        self._pauses = pauses or Pauses()
        self._client = open_client(connection, timings, first=connection.any_endpoint())
        self._backoff = Backoff(self._pauses.refresh, first=0.2)
        self._news = asyncio.Event()
        self._report: NodeReport | None = None
        self._lease = 0
        self._was_registered = False
        self._ends_at = time.monotonic() + self._pauses.lease  # of the lease, at the soonest
        self._refresh_at = self._look_at = self._written_at = self._write_at = 0.0
        self._live = _Written()
        self._progress = _Written()
        self._barrier = ""
        self._fault = ""
        self._is_lasting = False  # a fault that waiting does not mend

    async def run(self) -> None:
        """Keep the registration until cancelled."""
        try:
            while self._report is None:
                await self._news.wait()
                self._news.clear()
            while True:
                try:
                    await self._keep(self._report)
                except EtcdError as error:
                    if error.cause is Cause.NO_LEASE:
                        self._lease = 0
                    self._wrong(told_by_daemon(str(error)), is_lasting=error.cause not in PASSING)
                    await asyncio.sleep(self._backoff.failed() * random.uniform(0.7, 1.0))  # noqa: S311
                except _Taken as taken:
                    self._lease = 0
                    self._wrong(str(taken), is_lasting=self._is_another(taken, self._report))
                    await asyncio.sleep(self._pauses.refresh)
                else:
                    self._backoff.succeeded()
                    self._wrong("")
                    await self._rest()
        finally:
            await self._client.close()

    def tell(self, report: NodeReport) -> None:
        """This is how the node is now."""
        if report != self._report:
            self._report = report
            self._news.set()

    def problems(self) -> tuple[str, ...]:
        """What is wrong now; a fault that may pass is none while the registration stands in spite of it."""
        if not self._fault or not (self._is_lasting or time.monotonic() >= self._ends_at):
            return ()
        return (f"this node is not registered as {self._name}: {self._fault}",)

    def _wrong(self, fault: str, *, is_lasting: bool = False) -> None:
        self._fault, self._is_lasting = fault, is_lasting
        self._changed()

    async def _rest(self) -> None:
        """Wait until something is due, or there is something to tell."""
        rest = min(self._refresh_at, self._write_at or self._look_at) - time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(rest, 0.0)):
                await self._news.wait()
        self._news.clear()

    async def _keep(self, report: NodeReport) -> None:
        """Do what is due. Raises EtcdError, _Taken."""
        now = time.monotonic()
        if self._lease and now >= self._refresh_at:
            left = await self._client.lease_refresh(self._lease)
            if left > 0:
                self._refreshed(now, left)
            else:
                self._lease = 0
        if self._lease:
            self._plan(report, now)
            if now >= (self._write_at or self._look_at):
                await self._write(report)
        if not self._lease:
            await self._register(report)

    def _refreshed(self, begin: float, seconds: int) -> None:
        self._ends_at = begin + seconds
        self._refresh_at = begin + min(self._pauses.refresh, seconds / 3)

    # --- registering --------------------------------------------------------------------------------------

    async def _register(self, report: NodeReport) -> None:
        """Write all of it under a new lease, unless somebody else has the name. Raises EtcdError, _Taken."""
        begin = time.monotonic()
        live_key, known_key = layout.LIVE + self._name, layout.KNOWN + self._name
        live, known = (await self._client.commit((), (Get(live_key), Get(known_key)))).answers
        # What ends with no lease is nobody's registration, and would be in the way for ever.
        if live is not None and live.lease and not self._is_ours(live):
            raise _Taken(live)
        lease = await self._client.lease_grant(self._pauses.lease)
        written, progress = live_value(report, self._who), progress_value(report)
        puts: list[Operation] = [
            Put(live_key, written, lease),
            Put(layout.PROGRESS + self._name, progress, lease),
        ]
        if known is None or self._is_lost(known):
            puts.append(Put(known_key, known_value(0.0)))
        unchanged = [is_unchanged(one.key, one.mod_revision) for one in (live, known) if one is not None]
        absent = [is_unchanged(key, 0) for key, one in ((live_key, live), (known_key, known)) if one is None]
        committed = await self._client.commit([*unchanged, *absent], puts)
        if not committed.succeeded:
            # Others were faster: look at it once more.
            await asyncio.sleep(random.uniform(0.05, 0.3))  # noqa: S311
            self._refresh_at = begin
            return
        self._lease, self._was_registered = lease, True
        self._refreshed(begin, self._pauses.lease)
        self._note(report, written, progress, committed.revision)

    def _is_ours(self, live: KeyValue) -> bool:
        """Whether a registration is our own, or that of the daemon whose place we have taken."""
        other, _ = read_live(live.value)
        if other.daemon == self._who.daemon:
            return True
        return not self._was_registered and bool(self._who.place) and other.place == self._who.place

    def _is_another(self, taken: _Taken, report: NodeReport) -> bool:
        """Whether it is another machine for sure, and not this one before it was booted anew."""
        return taken.machine != self._who.machine or taken.addresses != report.addresses

    def _is_lost(self, known: KeyValue) -> bool:
        try:
            return read_known(self._name, known.value) > 0
        except ValueError:
            return True

    # --- what the node says of itself ---------------------------------------------------------------------

    def _plan(self, report: NodeReport, now: float) -> None:
        """When to write what has changed since it was written last."""
        if progress_value(report) == self._progress.value and live_value(report, self._who) == self._live.value:
            self._write_at = 0.0
        elif read_position(report.position)[1] != self._barrier:
            self._write_at = now  # somebody waits for it
        elif not self._write_at:
            soonest = max(self._written_at + self._pauses.progress, now)
            self._write_at = soonest + random.uniform(0, self._pauses.jitter)  # noqa: S311

    async def _write(self, report: NodeReport) -> None:
        """Write what has changed, if the registration is still there; else it is to be made anew."""
        live_key = layout.LIVE + self._name
        written, progress = live_value(report, self._who), progress_value(report)
        puts: list[Operation] = []
        if progress != self._progress.value:
            puts.append(Put(layout.PROGRESS + self._name, progress, self._lease))
        if written != self._live.value:
            puts.append(Put(live_key, written, self._lease))
        # Without the other key nobody would miss the node when it is gone.
        standing = [is_unchanged(live_key, self._live.revision), is_present(layout.KNOWN + self._name)]
        committed = await self._client.commit(standing, puts)
        if not committed.succeeded:
            self._lease = 0
            return
        revision = committed.revision if written != self._live.value else self._live.revision
        self._note(report, written, progress, revision)

    def _note(self, report: NodeReport, live: bytes, progress: bytes, revision: int) -> None:
        now = time.monotonic()
        self._live, self._progress = _Written(live, revision), _Written(progress)
        self._barrier = read_position(report.position)[1]
        self._written_at, self._write_at = now, 0.0
        self._look_at = now + self._pauses.look


class _Written(Struct, frozen=True):
    value: bytes = b""
    revision: int = 0


class _Taken(Exception):
    """Another daemon has registered under this name."""

    def __init__(self, live: KeyValue) -> None:
        other, fields = read_live(live.value)
        self.machine: str = other.machine
        self.addresses: tuple[str, ...] = fields["addresses"]
        where = ", ".join(filter(None, (self.machine, *self.addresses))) or "an unknown machine"
        super().__init__(
            f"a daemon on {where} has that name; give one of the two another with --node-name. Until the other is "
            "gone nobody hears of this one; it programs its own machine all the same"
        )
