"""When it is time: nothing is lost, nothing is early, and what fails is tried ever later."""

from __future__ import annotations

import asyncio
import math
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport_nft.agenda import Agenda, Backoff, apart
from nodeport_nft.daemon.due import until_due

NAMES = "abcd"
PLANS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 8))


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def planned(times: dict[str, int]) -> tuple[Agenda[str], Clock]:
    clock = Clock()
    agenda = Agenda(NAMES, clock)
    for name, time in times.items():
        agenda.at(name, time)
    return agenda, clock


# --- the agenda -------------------------------------------------------------------------------------------


@given(PLANS)
def test_all_is_given_once_at_its_time_and_in_its_order(times: dict[str, int]) -> None:
    agenda, clock = planned(times)
    given_at = {}
    for clock.now in range(10):
        found = list(agenda.due())
        assert found == sorted(found)
        for name in found:
            assert name not in given_at
            given_at[name] = clock.now
    assert given_at == times


@given(PLANS)
def test_who_waits_for_the_rest_misses_nothing_and_wakes_for_nothing(times: dict[str, int]) -> None:
    agenda, clock = planned(times)
    left = set(times)
    while (rest := agenda.rest()) is not None:
        if rest:
            assert not list(agenda.due())
        clock.now += rest
        found = set(agenda.due())
        assert found
        left -= found
    assert not left


@given(PLANS, st.integers(0, 9), st.integers(0, 4))
def test_what_is_left_when_one_fails_is_due_the_next_time(times: dict[str, int], now: int, done: int) -> None:
    agenda, clock = planned(times)
    clock.now = now
    due = sorted(name for name, time in times.items() if time <= now)
    assert list(islice(agenda.due(), done)) == due[:done]
    assert list(agenda.due()) == due[done:]


@given(PLANS)
def test_what_plans_itself_again_at_once_is_given_once_a_time(times: dict[str, int]) -> None:
    agenda, clock = planned(times)
    clock.now = 9
    for _ in range(3):
        seen = []
        for name in agenda.due():
            agenda.after(name, 0.0)
            seen.append(name)
        assert seen == sorted(times)


def test_what_is_dropped_or_put_off_by_one_before_it_is_not_given() -> None:
    agenda, _ = planned(dict.fromkeys(NAMES, 0))
    seen = []
    for name in agenda.due():
        seen.append(name)
        agenda.drop("b")
        agenda.not_within("c", 1.0)
    assert seen == ["a", "d"]
    assert ("b" in agenda, agenda.when("c")) == (False, 1.0)


def test_what_one_plans_for_now_is_given_the_same_time_if_its_turn_is_yet_to_come() -> None:
    agenda, _ = planned({"b": 0})
    seen = []
    for name in agenda.due():
        seen.append(name)
        agenda.within("a", 0.0)
        agenda.within("d", 0.0)
    assert (seen, list(agenda.due())) == (["b", "d"], ["a", "d"])


@given(PLANS, st.sampled_from(NAMES), st.integers(0, 8), st.integers(0, 8))
def test_bounds_move_a_time_one_way_alone(times: dict[str, int], name: str, now: int, seconds: int) -> None:
    agenda, clock = planned(times)
    clock.now = now
    before = agenda.when(name)
    agenda.not_within(name, seconds)
    assert agenda.when(name) == (max(before, now + seconds) if name in times else math.inf)
    agenda.at(name, before)
    agenda.within(name, seconds)
    assert agenda.when(name) == min(before, now + seconds)
    agenda.after(name, seconds)
    assert agenda.when(name) == now + seconds
    agenda.at(name, math.inf)
    assert name not in agenda
    assert all(agenda.when(other) == time for other, time in times.items() if other != name)


def test_who_waits_is_woken_by_every_plan() -> None:
    woken: list[None] = []
    agenda = Agenda(NAMES, Clock(), lambda: woken.append(None))
    agenda.not_within("a", 1.0)
    agenda.drop("a")
    assert not woken
    agenda.at("a", 5.0)
    agenda.after("a", 5.0)
    agenda.within("b", 5.0)
    agenda.not_within("b", 6.0)
    assert len(woken) == 4


def test_the_wait_ends_at_the_time_at_a_plan_and_at_once_where_something_is_due() -> None:
    """And with nothing planned it goes on until something is."""

    async def run() -> list[str]:
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        agenda = Agenda(NAMES, loop.time, woken.set)
        loop.call_later(0.01, agenda.after, "a", 0.01)
        found: list[str] = []
        for _ in range(100):
            found += agenda.due()
            if "c" in found:
                break
            if "a" in found and "b" not in found:
                agenda.within("b", 0.0)
            elif "b" in found and "c" not in agenda:
                agenda.within("c", 0.01)
            await asyncio.wait_for(until_due(agenda, woken), 60)
            assert not woken.is_set()
        return found

    assert asyncio.run(run()) == ["a", "b", "c"]


# --- the backoff ------------------------------------------------------------------------------------------


@given(st.floats(0.001, 10), st.floats(0.001, 100), st.integers(1, 20))
def test_each_pause_is_twice_the_one_before_up_to_the_longest(first: float, longest: float, tries: int) -> None:
    backoff = Backoff(longest, first)
    pauses = [backoff.failed() for _ in range(tries)]
    assert pauses[0] == min(first, longest)
    assert all(later == min(2 * sooner, longest) for sooner, later in pairwise(pauses))
    assert backoff.pause == pauses[-1]
    backoff.succeeded()
    assert backoff.pause == 0
    assert backoff.failed() == pauses[0]


@pytest.mark.parametrize("longest", [0.5, 3.0, 100.0])
def test_another_longest_pause_holds_from_the_next_on(longest: float) -> None:
    backoff = Backoff(10.0)
    for _ in range(5):
        backoff.failed()
    backoff.longest = longest
    assert backoff.failed() == min(20.0, longest)


def test_what_fails_is_tried_ever_later_and_at_once_again_after_it_went_well() -> None:
    backoff = Backoff(10.0)
    assert [backoff.failed() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.succeeded()
    assert [backoff.failed() for _ in range(2)] == [1, 2]


def test_a_longest_delay_below_a_second_holds_from_the_start() -> None:
    backoff = Backoff(0.5)
    assert [backoff.failed() for _ in range(3)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(("attempt", "most"), [(0, 0.01), (3, 0.08), (6, 0.5), (99, 0.5)])
def test_those_who_have_met_wait_apart_the_longer_the_more_often(attempt: int, most: float) -> None:
    pauses = {apart(attempt, 0.5) for _ in range(50)}
    assert len(pauses) > 1
    assert 0 <= min(pauses) <= max(pauses) <= most
