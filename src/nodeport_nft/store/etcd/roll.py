"""Who has registered, and which of them count as lost.

A node whose registration has ended is marked by one of the daemons that see it: with the time, so that a daemon that
starts later knows how long it has been. It counts as lost when the grace period is over, which is time enough for a
daemon that is started again, for etcd's own return, and for one that has to register anew.

Nobody is counted lost by somebody who may be mistaken. Before it is, etcd is asked once more, in the view of a
majority, so one that is cut off from etcd counts nobody; and after etcd was away everybody has a moment to come back.
A node that was alive to this daemon has the whole grace period from when its end was seen here, whatever the clocks
of others say, and whatever a restored backup does.

Sources: https://kubernetes.io/docs/concepts/architecture/nodes/#node-heartbeats and --node-monitor-grace-period of
kube-controller-manager.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from msgspec import Struct

from nodeport_nft.agenda import Backoff
from nodeport_nft.model import Member
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.client import Client
from nodeport_nft.store.etcd.errors import EtcdError
from nodeport_nft.store.etcd.registration import known_value
from nodeport_nft.store.etcd.values import Get, Put, is_absent, is_unchanged

_LONGEST_SECONDS = 5.0
"""Between two attempts at an etcd that does not answer."""

_PROMPT_SECONDS = 1.0
"""An answer that took longer has waited for an etcd that was away: it may be the very first after its return."""


class Waits(Struct, frozen=True):
    """In seconds. ``grace``: how long a registration may be away before the node counts as lost.

    Daemons wait ``mark_first`` to ``mark_last`` before they mark one, so that one does it and not all. After etcd was
    away everybody has ``settle`` to come back.
    """

    grace: float = 40.0
    mark_first: float = 1.0
    mark_last: float = 4.0
    settle: float = 15.0


class Seen(Struct, frozen=True):
    """What etcd holds of a node: ``revision`` is that of its ``known`` key, 0 if there is none."""

    is_live: bool = False
    revision: int = 0
    lost_at: float = 0.0


class _Entry(Struct):
    seen: Seen
    is_lost: bool = False
    grace_ends: float | None = None  # on the monotonic clock; None while the node is alive
    task: asyncio.Task[None] | None = None


class Roll:
    """All nodes that have ever registered; belongs to an event loop. ``lost`` is called when one counts as lost."""

    def __init__(self, client: Client, waits: Waits, lost: Callable[[str], None]) -> None:
        self._client = client
        self._waits = waits
        self._lost = lost
        self._entries: dict[str, _Entry] = {}
        self._settled_at = 0.0

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def member(self, name: str) -> Member | None:
        """The node as it counts now; None if it has never registered."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        lost_at = (entry.seen.lost_at or time.time()) if entry.is_lost else 0.0
        return Member(name, lost_at, entry.seen.is_live)

    def listed(self, seen: Mapping[str, Seen]) -> None:
        """These are all there are."""
        for name in self._entries.keys() - seen.keys():
            self.see(name, Seen())
        for name, each in seen.items():
            self.see(name, each, is_first=name not in self._entries)

    def seen(self, name: str) -> Seen:
        """What was told of a node last."""
        entry = self._entries.get(name)
        return entry.seen if entry else Seen()

    def see(self, name: str, seen: Seen, *, is_first: bool = False) -> None:
        """A node is like this now. ``is_first``: what has become of it before is not known here, but by its mark."""
        entry = self._entries.setdefault(name, _Entry(seen))
        is_marked_now = bool(seen.lost_at and not entry.seen.lost_at)
        entry.seen = seen
        if seen.is_live or not seen.revision:
            entry.is_lost, entry.grace_ends = False, None
            if entry.task:
                entry.task.cancel()
                entry.task = None
            if seen == Seen():
                del self._entries[name]
            return
        if entry.is_lost:
            return
        if entry.grace_ends is None:
            rest = self._waits.grace
            if is_first and seen.lost_at:
                rest = min(max(seen.lost_at + rest - time.time(), 0.0), rest)
            entry.is_lost = not rest
            entry.grace_ends = time.monotonic() + rest
        elif is_marked_now:  # from then on for all, also for those that begin later
            entry.grace_ends = time.monotonic() + self._waits.grace
        if not entry.is_lost and (entry.task is None or entry.task.done()):
            entry.task = asyncio.create_task(self._see_off(name, entry))

    def settle(self) -> None:
        """etcd was away, and is back."""
        self._settled_at = time.monotonic() + self._waits.settle

    async def close(self) -> None:
        """Wait for nobody any longer; who counts as lost stays so."""
        tasks = [entry.task for entry in self._entries.values() if entry.task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for entry in self._entries.values():
            entry.task = None

    def reopen(self) -> None:
        """Wait again for those whose grace period is not over."""
        for name in list(self._entries):
            self.see(name, self._entries[name].seen)

    async def _see_off(self, name: str, entry: _Entry) -> None:
        """Mark a node that is not there, and count it as lost when its grace period is over.

        The period runs from the mark, however short it is: a daemon that starts later has nothing else to go by.
        """
        backoff = Backoff(_LONGEST_SECONDS)
        while not entry.seen.lost_at:
            pause = random.uniform(self._waits.mark_first, self._waits.mark_last)  # noqa: S311
            await asyncio.sleep(max(0.0, self._settled_at - time.monotonic()) + pause)
            await self._mark(name, entry.seen)
        while True:
            while rest := max(self._rest(entry), self._settled_at - time.monotonic(), 0.0):
                await asyncio.sleep(rest)
            try:
                with self._asking():
                    is_away = await self._is_away(name)
            except EtcdError:
                await asyncio.sleep(backoff.failed())
                continue
            if not is_away:
                await asyncio.sleep(_LONGEST_SECONDS)  # it is back, and we are about to be told
            elif time.monotonic() >= self._settled_at:
                break
        entry.is_lost, entry.task = True, None
        self._lost(name)

    def _rest(self, entry: _Entry) -> float:
        """How much of the grace period is left."""
        return max((entry.grace_ends or 0.0) - time.monotonic(), 0.0)

    async def _mark(self, name: str, seen: Seen) -> None:
        """Note that it is lost since now, unless it is back or somebody else has done so."""
        if seen.lost_at:
            return
        known, live = layout.KNOWN + name, layout.LIVE + name
        with suppress(EtcdError), self._asking():  # we try again; that etcd does not answer is told elsewhere
            await self._client.commit(
                (is_absent(live), is_unchanged(known, seen.revision)), (Put(known, known_value(time.time())),)
            )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Everybody has a moment to come back where etcd does not answer, or has not done so at once."""
        asked = time.monotonic()
        try:
            yield
        except EtcdError:
            self.settle()
            raise
        if time.monotonic() - asked > _PROMPT_SECONDS:
            self.settle()

    async def _is_away(self, name: str) -> bool:
        """Whether there is no registration, as etcd has it at this moment. Raises EtcdError."""
        live, known = (await self._client.commit((), (Get(layout.LIVE + name), Get(layout.KNOWN + name)))).answers
        return live is None and known is not None
