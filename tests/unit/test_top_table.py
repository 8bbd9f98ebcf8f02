"""What ``top`` prints and draws of given rates; nothing is counted here (``netns/test_top.py`` does)."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console

from nodeport_nft.cli.top_screen import Screen
from nodeport_nft.cli.top_table import number, summary, to_json, to_table
from nodeport_nft.observe.rates import EndpointRate, Port, Rates, Sampler, ServiceRate, owner_of

HOSTILE = "[red]\x1b[31m\u202e\nx"
RATES = Rates(
    2.0,
    (ServiceRate("shop", "web", 120.0, 0.0), ServiceRate("shop", "old", 8.25, 8.25), ServiceRate("a", "b", 0.0, 0.0)),
    (EndpointRate("shop", "web", "http", "10.244.1.2:80", 60.5), EndpointRate("shop", "web", "", HOSTILE, 0.04)),
    400,
    200,
)


class Shown:
    """A screen, its keys and its lines."""

    def __init__(
        self, kind: str, rates: Rates = RATES, *, seconds: float = 2.0, said: str = f"node {HOSTILE}"
    ) -> None:
        self.screen = Screen(kind, Sampler(), rates, seconds, lambda: said)

    def press(self, keys: str) -> bool:
        return all(self.screen.press(key) for key in keys)

    def lines(self, height: int = 20) -> list[str]:
        console = Console(width=100, record=True, file=StringIO())
        console.print(self.screen.drawn(height))
        return console.export_text().splitlines()

    def names(self, height: int = 20) -> list[str]:
        return [line.split()[1] for line in self.lines(height)[3:] if line.startswith(("shop", "a "))]


def test_numbers_are_as_exact_as_they_are_of_use() -> None:
    assert [number(rate) for rate in (0.0, 0.004, 0.25, 12.34, 99.96, 340.4)] == [
        "0",
        "0.004",
        "0.2",
        "12.3",
        "100.0",
        "340",
    ]


def test_tables_and_json_say_what_was_counted() -> None:
    assert [line.split() for line in to_table(RATES, "services").splitlines()] == [
        ["NAMESPACE", "NAME", "NEW/S", "REFUSED/S"],
        ["shop", "web", "120", "0"],
        ["shop", "old", "8.2", "8.2"],
        ["a", "b", "0", "0"],
    ]
    endpoints = to_table(RATES, "endpoints")
    assert endpoints.splitlines()[2].split() == ["shop", "web", "<unset>", r"[red]\x1b[31m\u202e\nx", "0.04"]
    assert to_table(RATES, "services", headers=False).splitlines()[0].split() == ["shop", "web", "120", "0"]
    assert to_table(Rates(2.0, (), (), 3, 0), "services") == ""
    assert "2 of 400 Services had any" in summary(RATES, "services")
    assert "the 200 with most" in summary(RATES, "endpoints")
    told = json.loads(to_json(RATES, "endpoints", 0.0))
    assert told["readAt"] == "1970-01-01T00:00:00.000Z"
    assert (told["seconds"], told["servicesServed"], told["endpointsOfServices"]) == (2.0, 400, 200)
    assert told["endpoints"][1]["endpoint"] == HOSTILE
    assert json.loads(to_json(RATES, "services", 0.0))["services"][1]["refusedPerSecond"] == 8.25


def test_the_screen_sorts_and_filters_by_keys() -> None:
    shown = Shown("services")
    assert shown.names() == ["web", "old", "b"]
    assert shown.press("s")
    assert shown.names() == ["old", "web", "b"]
    assert shown.press("s")
    assert shown.names() == ["b", "old", "web"]
    assert shown.press("sfshop/ox\x7f")
    assert shown.names() == ["old"]
    assert shown.lines()[-1].startswith("filter: shop/o")
    assert shown.press("q")  # of the filter it is a letter
    assert "no row fits the filter" in shown.lines()[-2]
    assert shown.press("\x1b")
    assert shown.names() == ["web", "old", "b"]
    assert not shown.press("q")


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.2, "LAST 5 S"), (2.0, "LAST 48 S"), (5.0, "LAST 2 MIN"), (3600.0, "LAST 1440 MIN")]
)
def test_the_screen_says_of_what_time_the_bars_are_and_that_it_needs_no_daemon(seconds: float, header: str) -> None:
    lines = Shown("services", replace(RATES, seconds=0.2), seconds=seconds, said="").lines()
    assert lines[1].startswith("counted by the kernel; no daemon answers here, and none is needed")
    assert lines[2].rstrip().endswith(header)
    assert Shown("services", replace(RATES, seconds=5.0), seconds=0.2).lines()[2].rstrip().endswith("LAST 2 MIN")


def test_a_small_screen_says_how_many_more_there_are() -> None:
    shown = Shown("services")
    assert shown.names(8) == ["web", "old"]
    assert "and 1 more" in shown.lines(8)
    assert len(shown.lines(8)) <= 8


def test_who_had_connections_lately_stays_for_a_while() -> None:
    shown = Shown("services", Rates(2.0, RATES.services[:2], (), 400, 0))
    nothing = Rates(2.0, (), (), 400, 0)
    shown.screen.take(nothing)
    assert shown.names() == ["old", "web"]  # by name, since neither has any
    (old, *_) = [line for line in shown.lines() if "old" in line]
    assert old.split()[2:4] == ["0", "0"]
    assert old.rstrip().endswith("█▁")
    for _ in range(30):
        shown.screen.take(nothing)
    assert shown.names() == []


def test_what_others_write_into_our_tables_steers_no_terminal() -> None:
    for kind in ("services", "endpoints"):
        lines = Shown(kind).lines()
        assert not any(set("\x1b\u202e") & set(line) for line in lines)
        assert r"node [red]\x1b[31m\u202e\nx" in lines[1]
    assert any(r"[red]\x1b[31m\u202e\nx" in line for line in Shown("endpoints").lines()[3:])


@pytest.mark.parametrize(
    ("comment", "owner"),
    [
        ("default/web:http", Port("default", "web", "http")),
        ("default/web", Port("default", "web", "")),
        ("", None),
        ("web", None),
        ("/web", None),
        ("default/", None),
        ("default/:http", None),
    ],
)
def test_whose_an_element_is_stands_in_its_comment(comment: str, owner: Port | None) -> None:
    assert owner_of(comment) == owner
