"""The nodes of a store in etcd, for commands: who has registered, and who has programmed what.

To wait for all of them a barrier is written: a key that each daemon follows together with the objects, and that is no
object. Whoever has taken it has taken everything that was written before; once that is in the kernel the node says so
at once, by repeating what the barrier holds. A number would not do: after a restored backup the same numbers come
again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from contextlib import aclosing, suppress

from msgspec.structs import replace

from nodeport_nft.notation import subdomain_fault
from nodeport_nft.store.api import NodeReport, Registered, Waited
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.address import Connection
from nodeport_nft.store.etcd.client import Blocking, Client
from nodeport_nft.store.etcd.errors import EtcdError
from nodeport_nft.store.etcd.registration import barrier_text, read_known, read_live, read_position, read_progress
from nodeport_nft.store.etcd.values import BeginAgain, Delete, Get, KeyValue, Position, is_absent, is_unchanged
from nodeport_nft.store.etcd.watch import watch

_AGAIN_SECONDS = 0.5
"""How long to wait before all is read once more."""

_RANGES = (layout.KNOWN, layout.LIVE, layout.PROGRESS)


class EtcdMembers:
    """For one command (``store.api.Members``)."""

    def __init__(self, connection: Connection) -> None:
        """Opens nothing yet, and begins with any of the endpoints."""
        self._etcd = Blocking(connection, first=connection.any_endpoint())

    def close(self) -> None:
        """Hang up."""
        self._etcd.close()

    def list(self) -> tuple[Registered, ...]:
        """As ``Members`` has it."""
        found, _ = self._etcd.run(_read(self._etcd.client))
        return _registered(found)

    def wait(self, seconds: float) -> Waited:
        """As ``Members`` has it."""
        return self._etcd.run(wait_for_all(self._etcd.client, seconds))

    def forget(self, name: str) -> bool:
        """As ``Members`` has it."""
        known, live = layout.KNOWN + name, layout.LIVE + name
        return self._etcd.run(_forget(self._etcd.client, known, live))


async def wait_for_all(client: Client, seconds: float) -> Waited:
    """As ``Members.wait`` has it. Raises EtcdError where no barrier can be written, or nothing can be read."""
    return await _Wait(client).run(seconds)


async def _forget(client: Client, known: str, live: str) -> bool:
    (found,) = (await client.commit((), (Get(known),))).answers
    if found is None:
        return False
    conditions = (is_absent(live), is_unchanged(known, found.mod_revision))
    return (await client.commit(conditions, (Delete(known),))).succeeded


async def _read(client: Client) -> tuple[dict[str, KeyValue], Position]:
    """All there is of all nodes, and the position of the earliest part of it."""
    listings = [await client.list_all(prefix) for prefix in _RANGES]
    return {one.key: one for listing in listings for one in listing.keys}, listings[0].position


def _registered(found: dict[str, KeyValue]) -> tuple[Registered, ...]:
    """The nodes by name, of the keys that there are of them."""
    names = {key.removeprefix(prefix) for key in found for prefix in _RANGES[:2] if key.startswith(prefix)}
    return tuple(_one(name, found) for name in sorted(names) if not subdomain_fault(name))


def _one(name: str, found: dict[str, KeyValue]) -> Registered:
    known, live, progress = (found.get(prefix + name) for prefix in _RANGES)
    if live is None:
        lost_at = 0.0
        with suppress(ValueError):
            lost_at = read_known(name, known.value) if known else 0.0
        return Registered(NodeReport(name), is_alive=False, lost_at=lost_at)
    who, fields = read_live(live.value)
    told = read_progress(progress.value) if progress else {}
    return Registered(NodeReport(name, **fields, **told), is_alive=True, machine=who.machine)


class _Wait:
    """One wait. ``barriers``: ours and those that came after it; whoever repeats one of them has all that we want."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: dict[str, KeyValue] = {}
        self._barriers: set[str] = set()
        self._wanted: frozenset[str] = frozenset()
        self._late: set[str] = set()
        self._done = asyncio.Event()

    async def run(self, seconds: float) -> Waited:
        """Raises EtcdError where the barrier cannot be written, or etcd cannot be read at first."""
        position = await self._begin()
        self._wanted = frozenset(one.name for one in _registered(self._found))
        self._judge(self._wanted)
        following = asyncio.create_task(self._follow(position))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._done.wait()
        following.cancel()
        await asyncio.wait((following,))
        nodes = [_one(name, self._found) for name in sorted(self._wanted)]
        return Waited(
            tuple(one for one in nodes if one.is_alive and one.name not in self._late),
            tuple(one for one in nodes if one.is_alive and one.name in self._late),
            tuple(one for one in nodes if not one.is_alive),
        )

    async def _begin(self) -> Position:
        """Write a barrier, and read what there is of all nodes; the position of the barrier. Raises EtcdError."""
        barrier = uuid.uuid4().hex
        self._barriers = {barrier}
        revision = await self._client.put(layout.BARRIER, barrier.encode())
        # Whoever registers later begins with what is there now, and need not be waited for.
        self._found, position = await _read(self._client)
        return replace(position, revision=revision)

    def _judge(self, names: Iterable[str]) -> None:
        """See whether these are late now."""
        for name in self._wanted.intersection(names):
            one = _one(name, self._found)
            is_late = one.is_alive and read_position(one.report.position)[1] not in self._barriers
            (self._late.add if is_late else self._late.discard)(name)
        (self._done.clear if self._late else self._done.set)()

    async def _follow(self, position: Position) -> None:
        """Keep up what is known of the nodes; where that is no longer possible, begin anew."""
        while True:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._follow_prefix(position, prefix))
                    for prefix in (layout.MEMBERS, layout.PROGRESS)
                ]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
            with suppress(EtcdError):
                position = await self._begin()
                self._judge(self._wanted)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _follow_prefix(self, position: Position, prefix: str) -> None:
        with suppress(BeginAgain):
            async with aclosing(watch(self._client, position, prefix)) as batches:
                async for batch in batches:
                    for event in batch.events:
                        self._take(event.key, event.now)

    def _take(self, key: str, now: KeyValue | None) -> None:
        if key == layout.BARRIER:
            self._barriers.add(barrier_text(now.value if now else None) or _NO_BARRIER)
            self._judge(tuple(self._late))  # one may have been told before this
            return
        if now is None:
            self._found.pop(key, None)
        else:
            self._found[key] = now
        self._judge(key.removeprefix(prefix) for prefix in _RANGES if key.startswith(prefix))


_NO_BARRIER = "-"  # "" is what a node repeats that has not seen any
