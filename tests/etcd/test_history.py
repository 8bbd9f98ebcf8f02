"""A reader that was away is told to begin again exactly when it would miss something."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.store.etcd import open_client
from nodeport_nft.store.etcd.errors import Cause, EtcdError
from nodeport_nft.store.etcd.values import BeginAgain, Compacted, Event, Position, Restored
from tests.etcd.members import WAIT, Members, in_etcd, patient

pytestmark = [pytest.mark.proves("C4"), pytest.mark.usefixtures("private_namespaces")]


async def follow(client: Any, position: Position, count: int) -> list[Event]:
    """The next ``count`` events."""
    from nodeport_nft.store.etcd.watch import watch

    seen: list[Event] = []
    async with asyncio.timeout(WAIT), contextlib.aclosing(watch(client, position)) as batches:
        async for batch in batches:
            seen += batch.events
            if len(seen) >= count:
                break
    return seen


async def begin_again(client: Any, position: Position) -> type[BeginAgain]:
    """How a watch from there is ended."""
    try:
        seen = await follow(client, position, 1)
    except BeginAgain as told:
        return type(told)
    raise AssertionError(f"it has gone on with {seen}")


def test_compaction_while_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members(1, tmp_path)
        members.start()
        async with open_client(members.connection(), patient()) as client:
            start = (await client.list_all()).position
            revisions = [await client.put(f"k{number}", b"v") for number in range(5)]
            known = Position(start.cluster, revisions[1], start.term)

            await client.compact(revisions[2])  # all that comes after what is known can still be told
            assert [event.key for event in await follow(client, known, 3)] == ["k2", "k3", "k4"]

            await client.compact(revisions[3])  # k2 is gone from the history
            assert await begin_again(client, known) is Compacted
            with pytest.raises(EtcdError) as caught:
                _ = [page async for page in client.range_pages(revision=revisions[0])]
            assert caught.value.cause is Cause.COMPACTED

            listing = await client.list_all()
            assert [found.key for found in listing.keys] == ["k0", "k1", "k2", "k3", "k4"]
            await client.put("k5", b"v")
            assert [event.key for event in await follow(client, listing.position, 1)] == ["k5"]

    in_etcd(scenario)


@pytest.mark.parametrize("is_deletion", [False, True])
def test_compaction_of_all_that_is_known(is_deletion: bool, tmp_path: Path) -> None:
    """A position at the head of the history stays good, though its own revision can no longer be read."""

    async def scenario() -> None:
        members = Members(1, tmp_path)
        members.start()
        async with open_client(members.connection(), patient()) as client:
            start = (await client.list_all()).position
            await client.put("k0", b"v")
            if is_deletion:
                await client.delete("k0")
            seen = await follow(client, start, 1 + is_deletion)
            known = Position(start.cluster, seen[-1].revision, start.term, seen[-1])
            await client.compact(known.revision)
            await client.put("k1", b"v")
            assert [event.key for event in await follow(client, known, 1)] == ["k1"]

    in_etcd(scenario)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("written_since", [0, 8], ids=["behind", "grown past"])
def test_a_snapshot_is_restored_under_a_watch(count: int, written_since: int, tmp_path: Path) -> None:
    """Also where the restored cluster is ahead of what was read: the same numbers, and other changes behind them."""

    async def scenario() -> None:
        members = Members(count, tmp_path)
        members.start()
        await members.ready()
        async with open_client(members.connection(), patient()) as client:
            await client.put("kept", b"v")
            snapshot = tmp_path / "snapshot"
            members.control("snapshot", "save", str(snapshot))
            for number in range(4):
                await client.put(f"lost{number}", b"v")
            known = (await client.list_all()).position
            members.restore(snapshot)
            await members.ready()
            for number in range(written_since):
                await client.put(f"other{number}", b"v")

            assert await begin_again(client, known) is Restored
            listing = await client.list_all()
            assert not any(found.key.startswith("lost") for found in listing.keys)
            await client.put("new", b"v")
            assert [event.key for event in await follow(client, listing.position, 1)] == ["new"]

    in_etcd(scenario)


def test_a_cluster_made_anew_at_the_same_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members(1, tmp_path)
        members.start()
        async with open_client(members.connection(), patient()) as client:
            for number in range(3):
                await client.put(f"k{number}", b"v")
            known = (await client.list_all()).position
            members.all[0].kill()
            shutil.rmtree(members.all[0].directory)
            members.start()
            await members.ready()
            assert await begin_again(client, known) is Restored

    in_etcd(scenario)


def test_a_database_that_is_full(tmp_path: Path) -> None:
    """NOSPACE names its remedy, loses nothing that was acknowledged, and ends when there is room."""

    async def scenario() -> str:
        members = Members(1, tmp_path, arguments=("--quota-backend-bytes", str(2 * 1024 * 1024)))
        members.start()
        async with open_client(members.connection(), patient()) as client:
            start = (await client.list_all()).position
            written: list[str] = []

            async def fill() -> None:
                while True:
                    await client.put(f"k{len(written):02}", bytes(100_000))
                    written.append(f"k{len(written):02}")

            with pytest.raises(EtcdError) as caught:
                await fill()
            assert caught.value.cause is Cause.FULL
            assert [found.key for found in (await client.list_all("k")).keys] == written
            assert [event.key for event in await follow(client, start, len(written))] == written

            revision = await client.delete("k", is_prefix=True)  # what frees is let through
            await client.compact(revision)
            await client.make_room()
            await client.put("again", b"v")
            return str(caught.value)

    said = in_etcd(scenario)
    assert "127.0.0.1:2379: mvcc: database space exceeded; nothing was written" in said
    for remedy in ("etcdctl compact", "etcdctl defrag", "etcdctl alarm disarm"):
        assert remedy in said
