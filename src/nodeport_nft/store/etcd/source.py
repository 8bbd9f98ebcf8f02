"""The store in etcd as a source: everything once, at one revision, and from then on what changes.

Where etcd is away, frozen, without a majority or full, what was taken last stays good, and the problem is told. Where
changes were compacted away or a backup was restored, everything is told once more.

What the store says of the cluster comes in the same order as the objects, from one range of keys (``layout``). A node
whose registration has ended is told when it counts as lost, which takes its grace period (``roll``).
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress

from nodeport_nft.agenda import Backoff
from nodeport_nft.kube import Object
from nodeport_nft.model import Ref, Value
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import Change, Changes
from nodeport_nft.store.bodies import Body
from nodeport_nft.store.errors import StoreError, told_by_daemon
from nodeport_nft.store.etcd import layout, open_client
from nodeport_nft.store.etcd.address import Connection
from nodeport_nft.store.etcd.cluster import Cluster
from nodeport_nft.store.etcd.registration import position_text
from nodeport_nft.store.etcd.roll import Waits
from nodeport_nft.store.etcd.values import BeginAgain, KeyValue, Position
from nodeport_nft.store.etcd.watch import watch
from nodeport_nft.store.objects import Damaged, parsed, read_document
from nodeport_nft.store.strange import strange_fields, told_strange

_LONGEST_SECONDS = 5.0
"""Between two attempts to list what cannot be listed."""

_MOST_APART = 0.5
"""Seconds that nodes wait at random before they list everything again."""

_PORTION = 500
"""Objects that are parsed before others on the event loop have their turn."""


class EtcdSource:
    """One store, on the thread of its event loop (``store.api.Source``)."""

    def __init__(self, connection: Connection, *, validate: Validate, waits: Waits | None = None) -> None:
        """Connects to nothing yet; unknown fields are warned of unless ``validate`` says ignore.

        ``waits``: when a node counts as lost.
        """
        self._connection = connection
        self._validate = validate
        self._client = open_client(connection, first=connection.any_endpoint())
        self._backoff = Backoff(_LONGEST_SECONDS, first=0.2)
        self._cluster = Cluster(self._client, waits or Waits(), self._has_lost)
        self._revision = 0
        self._news = asyncio.Event()
        self._again = asyncio.Event()
        self._pending: dict[Ref, tuple[Value, ...]] = {}
        self._is_whole = False
        self._damaged: dict[Ref, Damaged] = {}
        self._strange: dict[Ref, tuple[str, ...]] = {}
        self._untold: dict[Ref, tuple[str, ...]] = {}
        self._fault = ""

    async def run(self) -> None:
        """Follow the store until cancelled."""
        self._cluster.roll.reopen()
        try:
            while True:
                self._again.clear()
                try:
                    position = await self._list()
                except StoreError as error:
                    self._backoff.failed()
                    self._told(error)
                    await asyncio.sleep(self._backoff.pause)
                    continue
                self._backoff.succeeded()
                await self._follow(position)
        finally:
            await self._cluster.roll.close()
            await self._client.close()

    async def changed(self) -> None:
        """Return when there may be something to take, or when the problems are others."""
        await self._news.wait()
        self._news.clear()

    def take(self) -> Changes:
        """What has come since the last time."""
        changes = tuple(Change(ref, values) for ref, values in self._pending.items())
        unreadable = frozenset().union(*(damaged.meant for damaged in self._damaged.values()))
        warnings = told_strange(self._untold, self._connection)
        position = position_text(self._revision, self._cluster.barrier) if self._revision else ""
        taken = Changes(changes, self._is_whole, unreadable, warnings, position)
        self._pending, self._untold, self._is_whole = {}, {}, False
        return taken

    def forget(self) -> None:
        """List everything once more."""
        self._again.set()

    def problems(self) -> tuple[str, ...]:
        """What is wrong now."""
        nothing = "nothing was read yet, and the tables stay as they are"
        served = "what was read last is served" if self._revision else nothing
        faults = (f"{self._fault}; {served}",) if self._fault else ()
        told = (
            f"{damaged.complaint(self._connection)}; until then it stays as it was"
            for damaged in self._damaged.values()
        )
        return (*faults, *sorted(told), *self._cluster.problems())

    def close(self) -> None:
        """Nothing: connections end with ``run``."""

    async def _list(self) -> Position:
        listing = await self._client.list_all(layout.MEMBERS, end=layout.END_OF_OBJECTS)
        pending: dict[Ref, tuple[Value, ...]] = {}
        damaged: dict[Ref, Damaged] = {}
        before, self._strange = self._strange, {}
        objects = [found for found in listing.keys if found.key.startswith(layout.OBJECTS)]
        for number, found in enumerate(objects):
            ref = layout.object_ref(found.key)
            values = self._read(ref, found, before.get(ref, ()))
            if isinstance(values, Damaged):
                damaged[ref] = values
            else:
                pending[ref] = values
            if number % _PORTION == _PORTION - 1:
                await asyncio.sleep(0)
        pending |= self._cluster.listed(found for found in listing.keys if not found.key.startswith(layout.OBJECTS))
        self._pending, self._damaged, self._is_whole = pending, damaged, True
        self._revision = listing.position.revision
        self._told(None)
        self._news.set()
        return listing.position

    async def _follow(self, position: Position) -> None:
        """Take what comes after a position, until everything has to be told once more."""
        again = asyncio.create_task(self._again.wait())
        following = asyncio.create_task(self._take_after(position))
        try:
            await asyncio.wait((again, following), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            for task in (again, following):
                task.cancel()
            await asyncio.wait((again, following))
        # Not all nodes of a cluster shall list everything in the same moment.
        await asyncio.sleep(random.uniform(0, _MOST_APART))  # noqa: S311

    async def _take_after(self, position: Position) -> None:
        following = watch(self._client, position, layout.MEMBERS, end=layout.END_OF_OBJECTS, tell=self._told)
        async with aclosing(following) as batches:
            with suppress(BeginAgain):
                async for batch in batches:
                    for event in batch.events:
                        if event.key.startswith(layout.OBJECTS):
                            self._take_one(layout.object_ref(event.key), event.now)
                        else:
                            self._pending |= self._cluster.changed(event.key, event.now)
                    self._revision = batch.position.revision
                    self._news.set()

    def _has_lost(self, ref: Ref) -> None:
        """A node counts as lost from now on."""
        self._pending[ref] = self._cluster.member(ref)
        self._news.set()

    def _take_one(self, ref: Ref, found: KeyValue | None) -> None:
        self._damaged.pop(ref, None)
        before = self._strange.pop(ref, ())
        self._untold.pop(ref, None)
        values = () if found is None else self._read(ref, found, before)
        if isinstance(values, Damaged):
            self._damaged[ref] = values
        else:
            self._pending.pop(ref, None)  # the order in which they are told is that of their changes
            self._pending[ref] = values

    def _read(self, ref: Ref, found: KeyValue, told: tuple[str, ...]) -> tuple[Value, ...] | Damaged:
        """What it is parsed into; notes which of its unknown fields are new."""
        body = Body(ref, str(found.mod_revision), found.value)
        if (values := body.plain_values()) is not None:
            return values
        stored = read_document(*body)
        if not isinstance(stored, Object):
            return stored
        if self._validate is not Validate.ignore and (fields := strange_fields(ref.kind, stored.raw)):
            self._strange[ref] = fields
            if fresh := tuple(text for text in fields if text not in told):
                self._untold[ref] = fresh
        return parsed(stored)

    def _told(self, error: StoreError | None) -> None:
        """Why etcd cannot be followed now, None if it can."""
        fault = "" if error is None else told_by_daemon(str(error))
        if fault != self._fault:
            if not fault:
                self._cluster.roll.settle()
            self._fault = fault
            self._news.set()
