"""What the service manager says of signs of life, read to the letter (sd_watchdog_enabled(3))."""

from __future__ import annotations

import pytest

from nodeport_nft.daemon.report import read_watchdog


def test_half_of_what_the_manager_allows() -> None:
    assert read_watchdog({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7) == (15.0, "")
    assert read_watchdog({"WATCHDOG_USEC": "30000000"}, 7) == (15.0, "")


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_PID": "7"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "8"}])
def test_nothing_is_wanted_of_this_process(environment: dict[str, str]) -> None:
    assert read_watchdog(environment, 7) == (None, "")


@pytest.mark.parametrize("name", ["WATCHDOG_USEC", "WATCHDOG_PID"])
@pytest.mark.parametrize(
    "value", ["", "²", "٣", "1_000", "-1", "+1", " 1", "1\n", "0", "1e6", "0x10", "9" * 5000, "\udcff"]
)
def test_what_is_no_number_is_told_and_counts_for_nothing(name: str, value: str) -> None:
    seconds, wrong = read_watchdog({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"} | {name: value}, 7)
    assert seconds is None
    assert wrong.startswith(f"{name}: ")
    assert "is no number" in wrong
    assert len(wrong) < 200


@pytest.mark.parametrize(("value", "seconds"), [("1", 0.05), ("9" * 19, 3600.0)])
def test_a_beat_is_neither_all_there_is_nor_never(value: str, seconds: float) -> None:
    assert read_watchdog({"WATCHDOG_USEC": value}, 7) == (seconds, "")
