"""Reading, transactions, leases and their limits, on a real etcd."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.store.etcd import open_blocking, open_client
from nodeport_nft.store.etcd.errors import Cause, EtcdError
from nodeport_nft.store.etcd.values import (
    MOST_BYTES,
    MOST_OPERATIONS,
    Delete,
    Get,
    MemberStatus,
    Put,
    is_absent,
    is_none_newer,
    is_present,
    is_unchanged,
)
from tests.etcd.members import PREFIX, WAIT, Members, in_etcd, patient

pytestmark = pytest.mark.usefixtures("private_namespaces")


def with_client(tmp_path: Path, scenario: Any) -> None:
    """Run ``scenario(client)`` beside one member."""

    async def run() -> None:
        members = Members(1, tmp_path)
        members.start()
        async with open_client(members.connection(), patient()) as client:
            await scenario(client)

    in_etcd(run)


def test_pages_are_of_one_revision(tmp_path: Path) -> None:
    async def scenario(client: Any) -> None:
        for number in range(25):
            await client.put(f"a/{number:02}", b"old")
        await client.put("b/0", b"elsewhere")
        read, sizes = [], []
        async for page, position in client.range_pages("a/", page=4):
            sizes.append(len(page))
            read += page
            last = position
            await client.put("a/00", b"new")
            await client.delete("a/24")
            await client.put("a/99", b"new")
        assert sizes == [4, 16, 5]
        assert [found.key for found in read] == [f"a/{number:02}" for number in range(25)]
        assert {found.value for found in read} == {b"old"}
        assert last.witness is not None
        assert last.witness.key == "a/24"

        listing = await client.list_all("a/", page=7)
        assert [found.key for found in listing.keys] == [*(f"a/{number:02}" for number in range(24)), "a/99"]
        assert (await client.list_all("nothing/")).keys == ()

    with_client(tmp_path, scenario)


def test_pages_grow_with_what_there_is_and_shrink_with_its_size(tmp_path: Path) -> None:
    """So that neither their number nor the bytes of one grow without end."""

    async def scenario(client: Any) -> None:
        for number in range(40):
            await client.put(f"a/{number:02}", b"x")
        for number in range(12):
            await client.put(f"b/{number:02}", b"x" * 1_000_000)
        assert [len(page) async for page, _ in client.range_pages("a/", page=2)] == [2, 8, 30]
        assert [len(page) async for page, _ in client.range_pages("b/", page=2)] == [2, 4, 4, 2]
        assert [len(page) async for page, _ in client.range_pages("b/", page=6)] == [6, 4, 2]

    with_client(tmp_path, scenario)


def test_transactions(tmp_path: Path) -> None:
    async def scenario(client: Any) -> None:
        first = await client.commit((is_absent("claim"),), (Put("claim", b"1"), Put("object", b"1")))
        assert first.succeeded
        lost = await client.commit((is_absent("claim"),), (Put("claim", b"2"),), (Get("claim"), Get("none")))
        assert not lost.succeeded
        assert lost.answers[0].value == b"1"
        assert lost.answers[0].mod_revision == first.revision == lost.revision
        assert lost.answers[1] is None

        newer = is_none_newer("cl", first.revision)
        assert (await client.commit((newer, is_present("claim")), (Put("object", b"2"),))).succeeded
        assert not (await client.commit((is_unchanged("object", first.revision),), (Delete("object"),))).succeeded
        assert (await client.commit((is_unchanged("claim", first.revision),), (Put("claim", b"3"),))).succeeded
        assert not (await client.commit((newer,), (Delete("claim"),))).succeeded
        assert not (await client.commit((is_present("none"),), ())).succeeded
        assert (await client.commit((), (Delete("c", is_prefix=True), Get("object")))).answers[0].value == b"2"
        assert await client.get("claim") is None

    with_client(tmp_path, scenario)


def test_one_of_many_gets_a_claim(tmp_path: Path) -> None:
    async def scenario(client: Any) -> None:
        claims = [client.commit((is_absent("claim"),), (Put("claim", b"%d" % each),)) for each in range(50)]
        won = [each for each, done in enumerate(await asyncio.gather(*claims)) if done.succeeded]
        assert len(won) == 1
        assert (await client.get("claim")).value == b"%d" % won[0]

    with_client(tmp_path, scenario)


def test_keys_belong_to_the_prefix(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members(1, tmp_path)
        members.start()
        long = patient()
        async with (
            open_client(members.connection(), long) as ours,
            open_client(members.connection(prefix=f"{PREFIX}-2"), long) as others,
        ):
            await ours.put("key", b"ours")
            await others.put("key", b"others'")
            await ours.delete("", is_prefix=True)
            kept = await others.get("key")
            assert kept is not None
            assert kept.value == b"others'"
            assert (await ours.list_all()).keys == ()

    in_etcd(scenario)


def test_limits_are_those_of_etcd(tmp_path: Path) -> None:
    """What the limits let through, etcd takes; one more is refused before it is sent, with the figures."""

    async def scenario(client: Any) -> None:
        await client.commit((), tuple(Put(f"k{number}", b"v") for number in range(MOST_OPERATIONS)))
        await client.put("large", bytes(MOST_BYTES - 200))
        for writes in (
            tuple(Put(f"k{number}", b"v") for number in range(MOST_OPERATIONS + 1)),
            (Put("large", bytes(MOST_BYTES)),),
        ):
            with pytest.raises(
                EtcdError, match=rf"it takes ({MOST_OPERATIONS}|{MOST_BYTES}); apply less at once"
            ) as caught:
                await client.commit((), writes)
            assert caught.value.cause is Cause.TOO_LARGE

    with_client(tmp_path, scenario)


def test_a_batch_of_any_size_is_whole(tmp_path: Path) -> None:
    """Transactions of more than etcd puts into one message come in fragments, and are given as one."""

    async def scenario(client: Any) -> None:
        from nodeport_nft.store.etcd.watch import watch

        start = (await client.list_all()).position
        revisions = []
        for turn in range(4):
            writes = tuple(Put(f"{turn}/{number}", bytes(MOST_BYTES // 101)) for number in range(100))
            revisions.append((await client.commit((), writes)).revision)
        seen: list[int] = []
        async with asyncio.timeout(WAIT), contextlib.aclosing(watch(client, start)) as batches:
            async for batch in batches:
                seen += [event.revision for event in batch.events]
                assert len(seen) % 100 == 0, "a revision was cut in two"
                if len(seen) == 400:
                    break
        assert seen == [revision for revision in revisions for _ in range(100)]

    with_client(tmp_path, scenario)


def test_leases(tmp_path: Path) -> None:
    async def scenario(client: Any) -> None:
        lease = await client.lease_grant(60)
        await client.put("node", b"v", lease=lease)
        assert (await client.get("node")).lease == lease
        assert 0 < await client.lease_refresh(lease) <= 60
        await client.lease_revoke(lease)
        assert await client.get("node") is None
        assert await client.lease_refresh(lease) == 0
        await client.lease_revoke(lease)

        named = await client.lease_grant(60, lease=4711)
        assert named == 4711
        with pytest.raises(EtcdError) as caught:
            await client.lease_grant(60, lease=named)
        assert caught.value.cause is Cause.LEASE_EXISTS

        short = await client.lease_grant(1)
        await client.put("short", b"v", lease=short)
        async with asyncio.timeout(WAIT):
            while await client.get("short"):
                await asyncio.sleep(0.1)

    with_client(tmp_path, scenario)


def test_commands_need_no_event_loop(tmp_path: Path) -> None:
    async def start() -> None:
        members = Members(1, tmp_path)
        members.start()
        await asyncio.to_thread(work, members)

    def work(members: Members) -> None:
        with open_blocking(members.connection(), patient()) as store:
            assert store.run(store.client.put("key", b"v")) > 0
            found = store.run(store.client.get("key"))
            assert found is not None
            assert found.value == b"v"
            (status,) = store.run(store.client.status())
            assert isinstance(status, MemberStatus)
            assert status.endpoint == "127.0.0.1:2379"
            assert status.leader == status.member

    in_etcd(start)
