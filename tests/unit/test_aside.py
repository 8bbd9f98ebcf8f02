"""Work beside the loop that hangs, for real: threads that read pipes to which nobody writes."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from nodeport_nft.sources import aside
from nodeport_nft.sources.aside import Aside, Hung, Work
from nodeport_nft.text.steps import Patience, Step

SECONDS = 60.0


def look_every(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is counted in looks, so that where they are short nobody waits for what never answers."""
    monkeypatch.setattr(aside, "_LOOK_SECONDS", seconds)


@dataclass
class Pipe:
    """A path that hangs until it answers."""

    path: str
    ends: tuple[int, int] = field(default_factory=os.pipe)

    def read(self, work: Work) -> str:
        work.at(self.path)
        os.read(self.ends[0], 1)
        work.at("/somewhere/else")
        return "read"

    def answer(self) -> None:
        os.write(self.ends[1], b"x")


def run(scenario: Callable[[Aside, list[set[str]], asyncio.Event], Awaitable[None]]) -> None:
    async def bounded() -> None:
        ended: list[set[str]] = []
        told = asyncio.Event()
        async with asyncio.timeout(SECONDS):
            await scenario(Aside(ended.append, told.set), ended, told)

    asyncio.run(bounded())


def test_work_that_hangs_is_given_up_and_its_path_left_alone_until_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_every(0.05, monkeypatch)
    here, there, near = Pipe("/m/here"), Pipe("/m/there"), Pipe("/m/near")

    async def scenario(work: Aside, ended: list[set[str]], _: asyncio.Event) -> None:
        for pipe in (here, there):
            with pytest.raises(Hung):
                await work.run(pipe.read)
            assert work.skips(pipe.path)
            assert any(problem.startswith(f"{pipe.path}: reading has taken") for problem in work.problems())
        assert work.skips("/n"), "two on a mount, and it is left alone"
        here.answer()
        while not ended:
            await asyncio.sleep(0.01)
        assert ended == [{"/m/here", "/"}]
        assert work.skips("/m/there")
        assert not work.skips("/m/here")
        assert not work.skips("/n")
        look_every(SECONDS, monkeypatch)  # what answers does not hang, however slow the machine is
        near.answer()
        assert await work.run(near.read) == "read"
        there.answer()
        while work:
            await asyncio.sleep(0.01)
        assert ended[1:] == [{"/m/there"}]
        assert work.problems() == ()

    run(scenario)


def test_what_hangs_beyond_all_bounds_is_told_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    look_every(0.05, monkeypatch)
    monkeypatch.setattr(aside, "_MOST_HUNG", 0)
    pipe = Pipe("/m/here")

    async def scenario(work: Aside, _: list[set[str]], told: asyncio.Event) -> None:
        waiting = asyncio.create_task(work.run(pipe.read))
        await told.wait()
        (problem,) = work.problems()
        assert problem.startswith("/m/here: reading has taken more than 5 s, and so do 0 other files; ")
        pipe.answer()
        assert await waiting == "read"
        assert work.problems() == ()

    run(scenario)


def test_what_takes_long_at_many_steps_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what computes for long, at no step. Each step ends when it has been looked at."""
    look_every(0.01, monkeypatch)
    looked, gone_on = threading.Event(), threading.Event()

    class Looked(Patience):
        def ends(self, step: Step | None) -> bool:
            found = super().ends(step)
            gone_on.clear()
            looked.set()
            assert gone_on.wait(SECONDS)  # a machine that does not come to the work looks no oftener for that
            return found

    monkeypatch.setattr(aside, "Patience", Looked)

    def steps(work: Work) -> int:
        for number in range(70):
            work.at(f"/m/{number // 10}")
            gone_on.set()
            assert looked.wait(SECONDS)
            looked.clear()
        work.done()
        gone_on.set()
        time.sleep(0.5)  # 50 looks
        return number

    async def scenario(work: Aside, _: list[set[str]], __: asyncio.Event) -> None:
        assert await work.run(steps) == 69

    run(scenario)


def test_many_steps_that_are_slow_together_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    look_every(0.2, monkeypatch)
    monkeypatch.setattr(aside, "_LONG", 2)
    over = threading.Event()

    def steps(work: Work) -> str:
        while not over.wait(0.01):
            work.at("/m/x")
        return "read"

    async def scenario(work: Aside, _: list[set[str]], told: asyncio.Event) -> None:
        waiting = asyncio.create_task(work.run(steps))
        await told.wait()
        (problem,) = work.problems()
        assert problem.startswith("/m/x: reading is slow")
        over.set()
        assert await waiting == "read"
        assert work.problems() == ()

    run(scenario)


def test_an_error_of_the_work_is_that_of_who_waits_for_it() -> None:
    def fails(_: Work) -> None:
        raise KeyError("x")

    async def scenario(work: Aside, _: list[set[str]], __: asyncio.Event) -> None:
        with pytest.raises(KeyError):
            await work.run(fails)

    run(scenario)
