"""Stale flows are looked for until it has gone well: what a failed search was to look for is not forgotten (K2).

With a clock of our own, and searches that fail when they are told to; tests/netns/test_conntrack.py has the kernel's.
"""

from __future__ import annotations

import asyncio

import pytest

from nodeport_nft.daemon.flow_cleaner import FlowCleaner, Queue
from nodeport_nft.errors import KernelError
from nodeport_nft.flows import UDP, Destination, Frontends
from nodeport_nft.model import Family
from tests.unit.test_agenda import Clock

V4, V6 = Family.IPV4, Family.IPV6


def at(port: int) -> Destination:
    return UDP, b"address", port


def frontends(*ports: int, endpoint: int = 0) -> Frontends:
    """On these ports, each with this one endpoint."""
    return Frontends({at(port): frozenset({(b"pod", endpoint)}) for port in ports})


class Search:
    """Searches, of which some fail: what each was to look for, and a queue of them."""

    def __init__(self) -> None:
        self.fails: dict[Family, BaseException] = {}
        self.searched: list[tuple[Family, Frontends]] = []
        self.told: list[dict[Family, str]] = []
        self.clock = Clock()
        self.queue = Queue(self._clean, lambda: self.told.append(dict(self.queue.problems)), self.clock)

    async def _clean(self, family: Family, known: Frontends) -> None:
        await asyncio.sleep(0)
        self.searched.append((family, known))
        if family in self.fails:
            raise self.fails[family]

    def turn(self, seconds: float = 0.0) -> list[tuple[Family, Frontends]]:
        """What is searched so much later."""
        self.clock.now += seconds
        before = len(self.searched)
        asyncio.run(self.queue.clean_due())
        return self.searched[before:]


@pytest.fixture
def search() -> Search:
    return Search()


def test_a_search_is_made_once_where_it_goes_well(search: Search) -> None:
    search.queue.put({V4: frontends(1), V6: Frontends({})})
    assert search.turn() == [(V4, frontends(1))]
    assert search.turn(1000) == []
    assert search.told == []


def test_a_failed_search_is_made_again_ever_later_until_it_goes_well(search: Search) -> None:
    search.queue.put({V4: frontends(1, 2)})
    search.fails[V4] = KernelError("no memory")
    assert search.turn() == [(V4, frontends(1, 2))]
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        assert search.turn(pause - 0.5) == [], "too early"
        assert search.turn(0.5) == [(V4, frontends(1, 2))], "forgotten"
    assert search.told == [{V4: "no memory; it is tried again"}], "told once"
    search.fails.clear()
    assert search.turn(60) == [(V4, frontends(1, 2))]
    assert search.turn(1000) == []
    assert search.told[1:] == [{}]
    search.fails[V4] = KernelError("no memory")
    search.queue.put({V4: frontends(3)})
    assert search.turn() == [(V4, frontends(3))]
    assert search.turn(1) == [(V4, frontends(3))], "from the shortest pause on"


def test_what_comes_up_meanwhile_is_looked_for_at_once_and_what_failed_with_it(search: Search) -> None:
    """Of a frontend that both know, the later word counts."""
    search.fails[V4] = KernelError("no memory")
    search.queue.put({V4: frontends(1, 2, endpoint=7)})
    search.turn()
    search.queue.put({V4: frontends(2, 3, endpoint=8)})
    search.fails.clear()
    both = Frontends({**frontends(1, endpoint=7).serving, **frontends(2, 3, endpoint=8).serving})
    assert search.turn() == [(V4, both)]


def test_what_comes_up_while_a_search_fails_is_the_later_word(search: Search) -> None:
    async def run() -> None:
        search.queue.put({V4: frontends(1, 2, endpoint=7)})
        search.fails[V4] = KernelError("no memory")
        failing = asyncio.create_task(search.queue.clean_due())
        await asyncio.sleep(0)
        search.queue.put({V4: frontends(2, endpoint=8)})
        await failing

    asyncio.run(run())
    assert search.searched == [(V4, frontends(1, 2, endpoint=7))]
    search.fails.clear()
    both = Frontends({**frontends(1, endpoint=7).serving, **frontends(2, endpoint=8).serving})
    assert search.turn() == [(V4, both)], "at once: more has come up"


@pytest.mark.parametrize("failing", [V4, V6])
def test_a_family_that_fails_stands_in_no_others_way(search: Search, failing: Family) -> None:
    search.fails[failing] = KernelError("unknown protocol")
    known = {V4: frontends(4), V6: frontends(6)}
    search.queue.put(known)
    assert search.turn() == [(V4, known[V4]), (V6, known[V6])]
    assert search.turn(100) == [(failing, known[failing])]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread"), asyncio.CancelledError()])
def test_whatever_else_ends_it_nothing_is_forgotten(search: Search, error: BaseException) -> None:
    """Neither what it was at, nor what was still to come. Whoever began it begins it again."""
    known = {V4: frontends(4), V6: frontends(6)}
    search.queue.put(known)
    search.fails[V4] = error
    with pytest.raises(type(error)):
        search.turn()
    search.fails.clear()
    assert search.turn() == [(V4, known[V4]), (V6, known[V6])]


def test_where_one_of_the_ways_ends_both_are_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other is not left running beside the new one."""
    running: list[Queue] = []

    async def run(self: Queue) -> None:
        running.append(self)
        try:
            await asyncio.sleep(0.01 if len(running) == 2 else 60)
            raise MemoryError
        finally:
            running.remove(self)

    monkeypatch.setattr(Queue, "run", run)

    async def begin() -> None:
        with pytest.raises(ExceptionGroup):
            await FlowCleaner(lambda *_: None, lambda _: None).run()
        assert not running

    asyncio.run(begin())
