"""Ctrl-C at every line of an event loop's life: KeyboardInterrupt, or the end of the program, and no other word."""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from types import FrameType
from typing import Any

import pytest

from nodeport_nft.interrupts import Runner, end, ends_at_once, press, run

_TRACED = (asyncio.__file__.removesuffix("__init__.py"), inspect.getfile(Runner))


class Interrupt:
    """Ctrl-C at line ``number`` of those that asyncio and we execute."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.came = self.ended = False

    def during(self, work: Callable[[], object]) -> None:
        """Raises what comes of it."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            work()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(_TRACED) else None

    def _line(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and not self.came:
            self._left -= 1
            if self._left < 0:
                self.came = True
                if signal.getsignal(signal.SIGINT) is end:
                    self.ended = True
                else:
                    signal.raise_signal(signal.SIGINT)
        return self._line


def interrupts(work: Callable[[], object], handler: Callable[[int, FrameType | None], object]) -> Iterator[Interrupt]:
    """The outcome at every line, until there are no more: KeyboardInterrupt, or the end of the program."""
    for number in range(10_000):
        interrupt = Interrupt(number)
        signal.signal(signal.SIGINT, handler)
        try:
            interrupt.during(work)
        except KeyboardInterrupt:
            assert interrupt.came
            assert not interrupt.ended
        else:
            if not interrupt.came:
                return
            assert interrupt.ended, f"Ctrl-C at line {number} was lost"
        yield interrupt
    pytest.fail("no end")


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """What Ctrl-C does is afterwards what it did before."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


async def a_while() -> str:
    """Twice around the loop, with a task beside it."""
    beside = asyncio.ensure_future(asyncio.sleep(60))
    await asyncio.sleep(0)
    beside.cancel()
    return "done"


def twice() -> None:
    """Two runs of one loop."""
    with closing(Runner()) as runner:
        assert runner.run(a_while()) == "done"
        assert runner.run(a_while()) == "done"


# What a command does not show either: the first by ``entry``, the second by Python.
@pytest.mark.usefixtures("as_it_was")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("work", [twice, lambda: run(a_while())], ids=["twice", "once"])
@pytest.mark.parametrize("handler", [press, signal.default_int_handler], ids=["a command's", "Python's"])
def test_ctrl_c_is_keyboard_interrupt_at_every_line_of_a_loop(
    work: Callable[[], object],
    handler: Callable[[int, FrameType | None], object],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    outcomes = list(interrupts(work, handler))
    gc.collect()
    assert {each.ended for each in outcomes} == {True, False}
    assert len(outcomes) > 100
    assert (unraisable, caplog.text) == ([], "")
    assert signal.getsignal(signal.SIGINT) is handler  # the last one met no Ctrl-C


def test_what_runs_is_cancelled_and_may_clean_up() -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            told.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run(work())
    assert told == ["cleaned up"]


def test_pressed_again_ctrl_c_ends_the_program() -> None:
    handlers: list[Any] = []

    async def work() -> None:
        signal.raise_signal(signal.SIGINT)
        handlers.append(signal.getsignal(signal.SIGINT))

    with pytest.raises(KeyboardInterrupt):
        run(work())
    assert handlers == [end]


def test_who_has_other_plans_for_ctrl_c_keeps_them() -> None:
    pressed: list[int] = []

    def plan(number: int, _frame: FrameType | None) -> None:
        pressed.append(number)

    async def work() -> str:
        signal.raise_signal(signal.SIGINT)
        return "done"

    before = signal.signal(signal.SIGINT, plan)
    try:
        with ends_at_once():
            assert run(work()) == "done"
        assert signal.getsignal(signal.SIGINT) is plan
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT]
