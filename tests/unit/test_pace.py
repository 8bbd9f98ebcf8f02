"""When to write: a lone change at once, a burst together, nothing later than a second after its first change."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport_nft.daemon.pace import LONGEST, Pace

QUIET = 0.25  # a power of two, as all the times here: sums are exact

BURSTS = {
    "nothing": ((), math.inf),
    "a lone change, at once": ((5.0,), 5.0),
    "a second one soon after waits for the burst to end": ((5.0, 5.125), 5.375),
    "each puts it off": ((5.0, 5.125, 5.25, 5.375), 5.625),
    "but not beyond a second after the first": (tuple(5 + i / 8 for i in range(16)), 6.0),
    "a second one long after does so too: nothing was written": ((5.0, 5.5), 5.75),
}


@pytest.mark.parametrize("case", BURSTS)
def test_a_burst_is_due(case: str) -> None:
    times, due = BURSTS[case]
    pace = Pace(QUIET)
    for now in times:
        pace.changed(now)
    assert pace.due() == due
    assert pace.first == (times[0] if times else None)


WRITTEN = {
    "long after the last change: at once": ((5.0,), 5.25, 5.25),
    "soon after the last change: it may be a burst": ((5.0,), 5.125, 5.375),
    "soon after a burst": ((5.0, 5.125), 5.25, 5.5),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_a_change_after_a_write_is_due(case: str) -> None:
    times, next_time, due = WRITTEN[case]
    pace = Pace(QUIET)
    for now in times:
        pace.changed(now)
    pace.written()
    assert (pace.due(), pace.first) == (math.inf, None)
    pace.changed(next_time)
    assert (pace.due(), pace.first) == (due, next_time)


def test_without_a_quiet_time_nothing_waits() -> None:
    pace = Pace(0)
    for now in (1.0, 1.0, 1.5):
        pace.changed(now)
        assert pace.due() <= now
        pace.written()


@given(st.floats(0, 10), st.lists(st.floats(0, 3), min_size=1, max_size=30))
def test_no_change_waits_longer_than_a_second_and_none_is_due_before_it_came(quiet: float, gaps: list[float]) -> None:
    pace = Pace(quiet)
    times = list(accumulate(gaps))
    for i, now in enumerate(times):
        pace.changed(now)
        assert pace.first is not None
        assert times[0] <= pace.first <= pace.due() <= pace.first + LONGEST
        if i == 0:
            assert pace.due() == now
        if pace.due() <= now:
            pace.written()
