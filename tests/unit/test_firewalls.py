"""When the chains of others are looked at, beside the loop; tests/daemon/test_strangers.py has the kernel's.

Readings that take as long and end as they are told to, in place of those of the kernel.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection
from types import SimpleNamespace
from typing import Any

import pytest

from nodeport_nft.agenda import Backoff
from nodeport_nft.daemon import firewalls
from nodeport_nft.daemon.firewalls import Firewalls
from nodeport_nft.errors import KernelError

SECONDS = 30.0


class Chains:
    """In the place of ``Obstacles``, of the tables, of the node and of who is told: what was done, in its order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.told: list[tuple[str, ...]] = []
        self.changed = True
        self.commits = 0
        self.failed = False
        self.is_legacy_changed = False
        self.error: Exception | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.config = SimpleNamespace(trusted_chains=())
        self.host = self.facts = self.tables = self.desired = None

    # The tables.
    def take_foreign_rules(self) -> bool:
        changed, self.changed = self.changed, False
        return changed

    # The obstacles.
    def read(self, trusted: Collection[str]) -> None:
        self.done.append(f"read {len(trusted)}")
        assert self.goes_on.wait(SECONDS)
        if self.error:
            raise self.error

    def legacy_changed(self) -> bool:
        assert threading.current_thread() is not threading.main_thread()
        changed, self.is_legacy_changed = self.is_legacy_changed, False
        return changed

    def ask(self, _: object) -> str:
        assert threading.current_thread() is threading.main_thread(), "the tables are the loop's"
        return f"at commit {self.commits}"

    def answer(self, question: str) -> tuple[str, ...]:
        assert threading.current_thread() is not threading.main_thread()
        self.done.append(f"answer {question}")
        return (question,)

    # libnftables, and who is told.
    def rest(self) -> None:
        self.done.append("rest")

    def problems(self, _: str, problems: Collection[str]) -> None:
        self.told.append(tuple(problems))


def followed(monkeypatch: pytest.MonkeyPatch, test: Callable[[Chains, Firewalls], Awaitable[None]]) -> None:
    """Run a test beside ``follow``."""
    chains: Any = Chains()
    monkeypatch.setattr(firewalls, "Obstacles", lambda _: chains)
    monkeypatch.setattr(firewalls, "Served", lambda *_: None)
    state: Any = SimpleNamespace(facts=None, tables=SimpleNamespace(desired={}))

    async def run() -> None:
        looking = Firewalls(chains, chains, chains, chains)
        looking._backoff = Backoff(0.01)
        task = asyncio.create_task(looking.follow(lambda: state))
        await test(chains, looking)
        task.cancel()

    asyncio.run(run())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def look(chains: Chains, looking: Firewalls) -> list[str]:
    """What one more turn does."""
    before = len(chains.done)
    looking.look_soon()
    await until(lambda: "rest" in chains.done[before:])
    return chains.done[before:]


def test_they_are_read_where_they_have_changed_and_asked_where_we_have(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(chains: Chains, looking: Firewalls) -> None:
        assert await look(chains, looking) == ["read 0", "answer at commit 0", "rest"]
        assert await look(chains, looking) == ["rest"]
        chains.commits = 1
        assert await look(chains, looking) == ["answer at commit 1", "rest"], "libnftables may go meanwhile"
        chains.changed = True
        assert await look(chains, looking) == ["read 0", "answer at commit 1", "rest"]
        chains.config.trusted_chains = ("ip filter FORWARD",)
        assert await look(chains, looking) == ["read 1", "answer at commit 1", "rest"]
        chains.is_legacy_changed = True
        assert await look(chains, looking) == ["read 1", "answer at commit 1", "rest"]
        assert await look(chains, looking) == ["rest"]

    followed(monkeypatch, test)


def test_what_changes_while_they_are_read_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(chains: Chains, looking: Firewalls) -> None:
        chains.goes_on.clear()
        looking.look_soon()
        await until(lambda: chains.done)
        chains.changed, chains.commits = True, 7
        looking.look_soon()
        chains.goes_on.set()
        await until(lambda: chains.done.count("rest") == 2)
        again = ["read 0", "answer at commit 7", "rest"]
        assert chains.done == [*again, *again], "it is asked about what is served by then"

    followed(monkeypatch, test)


@pytest.mark.parametrize("error", [KernelError("no"), OSError(12, "no memory"), None])
def test_what_fails_is_done_again_by_itself(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    """Reading as a whole, or (None) a part of it."""

    async def test(chains: Chains, looking: Firewalls) -> None:
        chains.error, chains.failed = error, error is None
        looking.look_soon()
        await until(lambda: chains.done.count("read 0") > 2)
        if error:
            assert chains.told[0][0].startswith("chains of others cannot be looked at: ")
        chains.error, chains.failed = None, False
        async with asyncio.timeout(SECONDS):  # until it is done no more
            while chains.done[-4:] != ["read 0", "answer at commit 0", "rest", "rest"]:
                await look(chains, looking)
        assert chains.told[-1] == ("at commit 0",)

    followed(monkeypatch, test)


def test_who_vouches_for_a_chain_does_not_wait_for_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewalls, "_REST", 1e9)

    async def test(chains: Chains, looking: Firewalls) -> None:
        await look(chains, looking)
        chains.changed = True
        looking.look_soon()
        await asyncio.sleep(0.05)
        assert chains.done.count("read 0") == 1, "others wait"
        chains.config.trusted_chains = ("ip filter FORWARD",)
        looking.look_soon()
        await until(lambda: chains.done[-3:] == ["read 1", "answer at commit 0", "rest"])

    followed(monkeypatch, test)
