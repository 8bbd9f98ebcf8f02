"""What is acknowledged is seen, once and in order, whatever becomes of the members."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from nodeport_nft.store.etcd import open_client
from nodeport_nft.store.etcd.errors import PASSING
from tests.etcd.members import WAIT, Member, Members, in_etcd, timings
from tests.etcd.storm import Storm, causes

pytestmark = [pytest.mark.proves("C4"), pytest.mark.usefixtures("private_namespaces")]

Fault = Callable[[Members, Storm], Awaitable[None]]


async def kill_the_leader(members: Members, storm: Storm) -> None:
    leader = await members.leader()
    leader.kill()
    await storm.until_seen(20)
    leader.start()


async def kill_the_member_in_use(members: Members, storm: Storm) -> None:
    for client in (storm.follower, storm.writer):
        member = members.at(client.calls.endpoint)
        member.kill()
        await storm.until_seen(20)
        member.start()


async def freeze_the_member_in_use(members: Members, storm: Storm) -> None:
    for client in (storm.follower, storm.writer):
        member = members.at(client.calls.endpoint)
        member.signal(signal.SIGSTOP)
        await storm.until_seen(20)
        member.signal(signal.SIGCONT)


async def freeze_the_leader(members: Members, storm: Storm) -> None:
    leader = await members.leader()
    leader.signal(signal.SIGSTOP)
    await storm.until_seen(20)
    leader.signal(signal.SIGCONT)


async def lose_the_quorum(members: Members, storm: Storm) -> None:
    lost = members.all[1:]
    for member in lost:
        member.kill()
    await storm.until_refused()
    await asyncio.sleep(1)  # long enough for the one that is left to find out
    for member in lost:
        member.start()
    assert causes(storm.refusals) <= PASSING


async def restart_one_after_the_other(members: Members, _storm: Storm) -> None:
    for member in members.all:
        member.signal(signal.SIGTERM)
        member.start()
        await members.ready()


@pytest.mark.parametrize(
    "fault",
    [
        kill_the_leader,
        kill_the_member_in_use,
        freeze_the_member_in_use,
        freeze_the_leader,
        lose_the_quorum,
        restart_one_after_the_other,
    ],
)
def test_three_members(fault: Fault, tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members(3, tmp_path)
        members.start()
        await members.ready()
        connection = members.connection()
        async with (
            open_client(connection, timings(), first=0) as writer,
            open_client(connection, timings(), first=1) as follower,
        ):
            storm = Storm(writer, follower)
            await storm.run(lambda: fault(members, storm))

    in_etcd(scenario)


async def kill_it(member: Member, storm: Storm) -> None:
    member.kill()
    await storm.until_refused()
    await storm.until_told()
    member.start()


async def freeze_it(member: Member, storm: Storm) -> None:
    member.signal(signal.SIGSTOP)
    await storm.until_refused()
    await storm.until_told()
    member.signal(signal.SIGCONT)


@pytest.mark.parametrize("fault", [kill_it, freeze_it])
def test_the_only_member(fault: Callable[[Member, Storm], Awaitable[None]], tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        members = Members(1, tmp_path)
        members.start()
        await members.ready()
        connection = members.connection()
        short = timings(patience=3.0)
        async with open_client(connection, short) as writer, open_client(connection, short) as follower:
            storm = Storm(writer, follower)
            await storm.run(lambda: fault(members.all[0], storm))
            assert any(storm.told), "the follower has told nobody"
            assert storm.told[-1] is None
            return [str(error) for error in (*storm.refusals, *storm.told) if error]

    for error in in_etcd(scenario):
        assert error.startswith("etcd 127.0.0.1:2379: ")


def test_a_member_that_is_silent_otherwise(tmp_path: Path) -> None:
    """Where pings tell nothing, a question after a long silence does; a member that is well keeps its stream."""

    async def scenario() -> None:
        members = Members(3, tmp_path)
        members.start()
        await members.ready()
        connection = members.connection()
        no_pings = timings(keepalive=3600.0, silence=0.3, call=WAIT)
        async with (
            open_client(connection, timings(), first=0) as writer,
            open_client(connection, no_pings, first=1) as follower,
        ):
            storm = Storm(writer, follower)

            async def fault() -> None:
                at = follower.calls.endpoint
                storm.pause.clear()
                await asyncio.sleep(2)  # questions are asked, and answered
                assert follower.calls.endpoint == at
                assert storm.told == [None]
                storm.pause.set()
                await storm.until_seen(20)
                follower.calls.timings = timings(keepalive=3600.0, silence=0.3, call=1.5)
                members.at(at).signal(signal.SIGSTOP)
                await storm.until_seen(20)
                assert follower.calls.endpoint != at
                members.at(at).signal(signal.SIGCONT)

            await storm.run(fault)

    in_etcd(scenario)
