"""Verdicts of readiness probes on a real etcd: there as long as their node is registered, and no longer (X9)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.model import PROBE_FAILURE, ProbeFailure, Ref
from nodeport_nft.store.etcd import open_client
from nodeport_nft.store.etcd.values import Put
from nodeport_nft.store.etcd.verdicts import EtcdVerdicts
from tests.etcd.members import WAIT, Members, in_etcd, patient

pytestmark = [pytest.mark.usefixtures("private_namespaces"), pytest.mark.proves("X9")]


def failure(number: int, since: float = 1000.5) -> ProbeFailure:
    return ProbeFailure("default", ip_address(f"10.1.{number >> 8}.{number & 255}"), since)


def ref(number: int) -> Ref:
    return Ref(PROBE_FAILURE, "default", str(failure(number).address))


class Node:
    """A node's verdicts; what the registration of a node would do is done by hand."""

    def __init__(self, members: Members, client: Any, **options: Any) -> None:
        self.client = client
        self.problems: tuple[str, ...] = ()
        own = open_client(members.connection(), patient())
        self.verdicts = EtcdVerdicts(own, "worker-1", self._report, **{"leave_seconds": 60.0, **options})

    def _report(self, problems: tuple[str, ...]) -> None:
        self.problems = problems

    async def register(self, place: str = "") -> int:
        lease = int(await self.client.lease_grant(60))
        await self.client.put("members/live/worker-1", json.dumps({"place": place}).encode(), lease=lease)
        return lease

    async def written(self) -> dict[str, tuple[dict[str, float], int]]:
        """The value and the lease of each key."""
        listing = await self.client.list_all("members/probes/")
        return {found.key: (json.loads(found.value), found.lease) for found in listing.keys}

    async def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        async with asyncio.timeout(WAIT):
            while not condition(found := await self.written()):
                await asyncio.sleep(0.02)
        return found


def with_node(tmp_path: Path, scenario: Callable[[Node], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        members = Members(1, tmp_path)
        members.start()
        async with open_client(members.connection(), patient()) as client:
            await client.put("ready", b"")
            node = Node(members, client, **options)
            running = asyncio.create_task(node.verdicts.run())
            try:
                await scenario(node)
                assert not running.done()
                assert node.problems == ()
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running

    in_etcd(run)


def test_failures_are_written_under_the_lease_of_the_registration_and_end_with_it(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        node.verdicts.put(failure(1))
        await asyncio.sleep(0.3)
        assert await node.written() == {}, "whom would they end with?"
        lease = await node.register()
        assert await node.until(len) == {"members/probes/default/10.1.0.1": ({"since": 1000.5}, lease)}
        for number in range(1, 351):  # more than one transaction takes
            node.verdicts.put(failure(number, 2000.0))
        await node.until(
            lambda found: len(found) == 350 and all(value == {"since": 2000.0} for value, _ in found.values())
        )
        for number in range(1, 350):
            node.verdicts.clear(ref(number))
        await node.until(lambda found: list(found) == ["members/probes/default/10.1.1.94"])
        await node.client.lease_revoke(lease)
        assert await node.written() == {}

    with_node(tmp_path, scenario)


def test_a_node_that_registers_anew_takes_its_verdicts_along(tmp_path: Path) -> None:
    """As a daemon that is started again: the dead backend must not come back for a moment when the old lease ends."""

    async def scenario(node: Node) -> None:
        before = await node.register()
        node.verdicts.put(failure(1))
        await node.until(len)
        after = await node.register()
        await node.until(lambda found: [lease for _, lease in found.values()] == [after])
        await node.client.lease_revoke(before)
        assert len(await node.written()) == 1
        await node.client.lease_revoke(after)
        assert await node.written() == {}
        node.verdicts.put(failure(1))  # as its source tells that the key has gone
        last = await node.register()
        await node.until(lambda found: [lease for _, lease in found.values()] == [last])

    with_node(tmp_path, scenario)


def test_what_is_left_to_another_node_is_removed_unless_that_one_writes_over_it(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        lease = await node.register()
        for number in (1, 2, 3):
            node.verdicts.put(failure(number))
        await node.until(lambda found: len(found) == 3)
        other = int(await node.client.lease_grant(60))
        node.verdicts.leave(ref(1))
        node.verdicts.leave(ref(2))
        assert len(await node.written()) == 3, "not at once"
        await node.client.commit((), [Put("members/probes/default/10.1.0.2", b'{"since": 3.0}', other)])
        found = await node.until(lambda found: len(found) == 2)
        assert found == {
            "members/probes/default/10.1.0.2": ({"since": 3.0}, other),
            "members/probes/default/10.1.0.3": ({"since": 1000.5}, lease),
        }

    with_node(tmp_path, scenario, leave_seconds=0.5)


def test_nothing_is_written_for_another_machine_that_has_the_name(tmp_path: Path) -> None:
    """It would stay as long as that one is registered, and say of its endpoints what is seen from elsewhere."""

    async def scenario(node: Node) -> None:
        await node.register("there")
        node.verdicts.put(failure(1))
        await asyncio.sleep(0.5)
        assert await node.written() == {}
        own = await node.register("here")
        assert [lease for _, lease in (await node.until(len)).values()] == [own]

    with_node(tmp_path, scenario, place="here")
