"""When the host's network is read again: after a burst, one reading at a time, and none is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import cast

from nodeport_nft.agenda import Agenda, Backoff
from nodeport_nft.daemon.due import Due
from nodeport_nft.daemon.flow_cleaner import FlowCleaner
from nodeport_nft.daemon.followed import FollowedNode
from nodeport_nft.daemon.network import Network
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.writing import Writing
from nodeport_nft.errors import KernelError
from nodeport_nft.model import NodePortMode
from tests.unit.test_agenda import Clock


class Host:
    """A host whose network is read for as long as we like, and what is planned meanwhile."""

    def __init__(self) -> None:
        self.readings = 0
        self.may_end = asyncio.Event()
        self.fails: list[Exception] = []
        self.told: list[tuple[str, ...]] = []
        self.lost: list[str] = []
        self.ended = asyncio.Event()
        self.clock = Clock()
        self.agenda = Agenda(Due, self.clock)
        state = SimpleNamespace(facts=SimpleNamespace(node_port_mode=NodePortMode.PRIMARY))
        self.network = Network(
            cast(FollowedNode, self),
            cast(Reporter, self),
            self.agenda,
            cast(Writing, SimpleNamespace(give_devices=lambda: None, state=state)),
            cast(FlowCleaner, None),
            Backoff(30.0),
            self.lost.append,
            lambda _: self.ended.set(),
        )

    # What the network asks of the node and of the reporter.
    events = SimpleNamespace(take=lambda: None)
    host = SimpleNamespace(addresses=())

    async def reread(self) -> bool:
        self.readings += 1
        await self.may_end.wait()
        if self.fails:
            raise self.fails.pop()
        return False

    def problems(self, _: str, found: Iterable[str]) -> None:
        self.told.append(tuple(found))

    def turn(self, seconds: float) -> None:
        """What the loop does so much later."""
        self.clock.now += seconds
        for what in self.agenda.due():
            assert what is Due.NETWORK
            self.network.reread()

    async def end(self) -> None:
        """Let the reading that is under way end."""
        self.may_end.set()
        await asyncio.wait_for(self.ended.wait(), 60)
        self.may_end.clear()
        self.ended.clear()


def test_a_burst_is_read_once_a_moment_after_its_first_change() -> None:
    async def burst() -> None:
        host = Host()
        for _ in range(4):
            host.network.changed()
            host.turn(0.02)
            await asyncio.sleep(0)
        assert host.readings == 0
        host.turn(0.03)
        await asyncio.sleep(0)
        assert host.readings == 1
        await host.end()
        assert host.agenda.rest() is None

    asyncio.run(burst())


def test_a_change_during_a_reading_is_read_after_it_and_keeps_nobody_busy_until_then() -> None:
    async def change() -> None:
        host = Host()
        host.network.changed()
        host.turn(0.1)
        await asyncio.sleep(0)
        host.network.changed()
        host.turn(0.1)
        await asyncio.sleep(0)
        assert host.readings == 1, "one at a time"
        assert host.agenda.rest() is None, "there is nothing to do until it has ended"
        await host.end()
        host.turn(60)
        await asyncio.sleep(0)
        assert host.readings == 2
        await host.end()
        assert host.agenda.rest() is None

    asyncio.run(change())


def test_a_failed_reading_is_told_and_made_again() -> None:
    async def fail() -> None:
        host = Host()
        host.fails.append(KernelError("no buffer space"))
        host.network.changed()
        host.turn(0.1)
        await asyncio.sleep(0)
        await host.end()
        assert host.told == [("no buffer space",)]
        host.network.changed()
        assert host.agenda.rest() == 0.1, "what has happened may be what it takes"
        host.turn(30)
        await asyncio.sleep(0)
        await host.end()
        assert host.told[1:] == [()]
        assert host.agenda.rest() is None

    asyncio.run(fail())
