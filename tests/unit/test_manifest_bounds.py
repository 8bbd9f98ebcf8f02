"""Many, deep and refused manifests: what is done grows as they do, counted in operations and never in time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from nodeport_nft.manifest import Object, Problems, parse_object, read_manifests
from nodeport_nft.model import PortRange, Ranges
from nodeport_nft.sources import manifest_follower as follower
from nodeport_nft.sources.aside import Work
from nodeport_nft.sources.survey import Survey, Touched, look
from nodeport_nft.sources.writing import apply
from nodeport_nft.store import Applied, Store
from nodeport_nft.store.sqlite.transaction import Transaction
from nodeport_nft.text.files import short_path
from tests.unit.test_manifest_follower import NOW, Desk, run, service, write

WIDE = Ranges(node_ports=PortRange(20000, 60000))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    directory = tmp_path / "manifests"
    directory.mkdir()
    return Desk(tmp_path, directory, tmp_path / "state" / "store.db")


def lines(work: Callable[[], object]) -> int:
    """How many lines of the program a call runs."""
    count = 0

    def local(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return local if "nodeport_nft" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def seen(top: Path) -> Survey:
    return look([str(top)], Touched(everything=True), Work(lambda _: False))


# --- trees --------------------------------------------------------------------------------------------------


def wide(top: Path, number: int) -> None:
    for index in range(number):
        below = top / f"d{index}"
        below.mkdir(parents=True)
        (below / "web.yaml").touch()


def deep(top: Path, number: int) -> None:
    top.mkdir()
    (top / Path(*["d"] * number)).mkdir(parents=True)
    for index in range(number):
        (top / Path(*["d"] * index) / "web.yaml").touch()


@pytest.mark.parametrize("shape", [wide, deep])
def test_a_look_costs_what_there_is_to_see(tmp_path: Path, shape: Callable[[Path, int], None]) -> None:
    shape(tmp_path / "few", 60)
    shape(tmp_path / "many", 600)
    few, many = (lines(lambda name=name: seen(tmp_path / name)) for name in ("few", "many"))  # type: ignore[misc]
    assert many <= 20 * few
    assert len(seen(tmp_path / "many").files) == 600


def test_what_is_hidden_is_found_at_the_cost_of_what_is_asked() -> None:
    def ask(number: int) -> None:
        survey = Survey(unseen=[f"/m/{index}/unseen" for index in range(number)])
        assert survey.hides(f"/m/{number // 2}/unseen/below/web.yaml")
        for index in range(number):
            assert survey.hides(f"/m/{index}/unseen")
            assert not survey.hides(f"/m/{index}/unseen-too")
            assert not survey.hides(f"/m/{index}")

    assert lines(lambda: ask(3000)) <= 20 * lines(lambda: ask(300))


def test_what_is_hidden_is_what_stands_below_something_unseen() -> None:
    survey = Survey(unseen=["/a/b", "/a/b/c", "/a!", "/a/b-c", "x/"])
    for path, hidden in {
        "/a/b": True,
        "/a/b/c/d": True,
        "/a/b/z": True,
        "/a/b!": False,
        "/a/b-c/d": True,
        "/a": False,
        "/a!/b": True,
        "/a0": False,
        "x/y": True,
        "xy": False,
    }.items():
        assert survey.hides(path) is hidden, path
    assert Survey(unseen=["/"]).hides("/a")
    assert not Survey().hides("/a")


def test_a_tree_deeper_than_a_path_may_be_is_told_in_a_short_line(desk: Desk) -> None:
    """The kernel takes 4096 bytes; what stands above that is read all the same."""
    write(desk.manifests / "web.yaml", service("web"))
    nest(desk.manifests, "d" * 200, 30)

    async def scenario() -> None:
        async with desk.following() as followed:
            assert followed.names() == {"web"}
            (problem,) = followed.problems
            assert "File name too long; check the path" in problem
            assert len(problem) < 400
            write(desk.manifests / "web.yaml", service("web", target=1))
            await followed.until(lambda: followed.targets() == {"web": 1})

    run(scenario())
    with pytest.raises(Problems, match="File name too long"):
        read_manifests([str(desk.manifests)], ranges=Ranges())


def nest(top: Path, name: str, number: int) -> None:
    """Directories in each other, made step by step: no path reaches down there."""
    handle = os.open(top, os.O_RDONLY)
    for _ in range(number):
        os.mkdir(name, dir_fd=handle)
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)


def test_a_long_path_keeps_its_ends() -> None:
    path = "/etc/" + "x" * 4000 + "/web.yaml"
    assert short_path("/etc/web.yaml") == "/etc/web.yaml"
    assert len(short_path(path)) == 250
    assert short_path(path).startswith("/etc/xxx")
    assert short_path(path).endswith("xxx/web.yaml")


def test_a_thousand_problems_are_told_and_the_rest_counted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_MOST_TOLD", 20)
    for number in range(50):
        (desk.manifests / f"{number}.yaml").write_text("kind: [", encoding="utf-8")

    async def scenario() -> None:
        async with desk.following() as followed:
            assert len(followed.problems) == 21
            assert followed.problems[-1] == "manifests: 30 more problems; mend the others first"

    run(scenario())


# --- refusals -----------------------------------------------------------------------------------------------


def refused_by_a_holder(number: int) -> tuple[list[Any], list[Any]]:
    """All want what somebody else holds."""
    return [service("holder", 20000)], [service(f"s{index}", 20000) for index in range(number)]


def each_wants_the_next_ones(number: int) -> tuple[list[Any], list[Any]]:
    """Each wants what the next one gives up, and the last what it cannot have."""
    before = [service("holder", 20000), *(service(f"s{index}", 20001 + index) for index in range(number))]
    after = [service(f"s{index}", 20002 + index) for index in range(number - 1)]
    return before, [*after, service(f"s{number - 1}", 20000)]


def each_stands_in_the_way(number: int) -> tuple[list[Any], list[Any]]:
    """Pairs: the first is refused for one port, and the second wants its other one."""
    wanted = []
    for index in range(number // 2):
        ports = [{"name": "x", "port": 80, "nodePort": 20000}, {"name": "y", "port": 81, "nodePort": 20001 + index}]
        wanted += [service(f"a{index}", ports=ports), service(f"b{index}", 20001 + index)]
    return [service("holder", 20000)], wanted


def each_gives_way(number: int) -> tuple[list[Any], list[Any]]:
    """Each wants what the next one gives up, and all can have it but two, who want what is held."""
    before = [service(f"s{index}", 20001 + index) for index in range(number)]
    after = [service(f"s{index}", 20002 + index) for index in range(number)]
    return [*before, service("holder", 20000)], [*after, service("other", 20000), service("more", 20000)]


KINDS = [refused_by_a_holder, each_wants_the_next_ones, each_stands_in_the_way, each_gives_way]


class Counted:
    """A transaction that counts the objects which it is asked to apply."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.objects = 0

    def apply(self, objects: Iterable[Object], *, now: str, by_manifests: bool = False) -> tuple[Applied, ...]:
        objects = tuple(objects)
        self.objects += len(objects)
        return self._transaction.apply(objects, now=now, by_manifests=by_manifests)

    def holdings(self) -> Any:
        return self._transaction.holdings()


def tried(path: Path, kind: Callable[[int], tuple[list[Any], list[Any]]], number: int) -> tuple[int, int, int]:
    """How many objects were applied, lines run, and objects refused."""
    before, wanted = kind(number)
    objects = [parse_object(document) for document in wanted]
    with Store(path, ranges=WIDE) as store:
        with store.transaction() as transaction:
            transaction.apply([parse_object(document) for document in before], now=NOW)
        with store.transaction() as transaction:
            counted = Counted(transaction)
            refused: list[int] = []
            ran = lines(lambda: refused.append(len(apply(counted, objects))))  # type: ignore[arg-type]
            return counted.objects, ran, refused[0]


@pytest.mark.parametrize("kind", KINDS)
def test_refusals_cost_what_there_is_to_refuse(
    tmp_path: Path, kind: Callable[[int], tuple[list[Any], list[Any]]]
) -> None:
    few, many = (tried(tmp_path / f"{number}.db", kind, number) for number in (20, 200))
    assert many[0] <= 20 * few[0], "objects that the store was asked to take"
    assert many[1] <= 20 * few[1], "lines"


@pytest.mark.parametrize(("kind", "expected"), list(zip(KINDS, (20, 20, 10, 2), strict=True)))
def test_only_those_are_refused_who_must_be(
    tmp_path: Path, kind: Callable[[int], tuple[Sequence[Any], Sequence[Any]]], expected: int
) -> None:
    assert tried(tmp_path / "store.db", kind, 20)[2] == expected  # type: ignore[arg-type]
