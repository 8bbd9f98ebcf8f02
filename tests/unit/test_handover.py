"""The daemon with -f hears of its own manifests without the disk (sources/handover.py), and of all others as before.

Real files, a real store, a follower and a source on one event loop, and other writers in processes of their own.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.config import Config
from nodeport_nft.model import Ref, Value
from nodeport_nft.sources.handover import Finished, Handover
from nodeport_nft.sources.manifest_follower import ManifestFollower
from nodeport_nft.sources.store import StoreSource
from nodeport_nft.sources.writing import Written, write
from nodeport_nft.store import Store
from tests.unit.test_manifest_follower import DEADLINE, Desk, replace_file, service
from tests.unit.test_store_source import elsewhere

State = dict[Ref, tuple[Value, ...]]


@dataclass
class Heard:
    """What a source has told, put together, and how many rows it has read for it."""

    desk: Desk
    source: StoreSource
    state: State
    rows: list[Ref]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not is_so():
                await self.source.changed()
                self.take()

    def take(self) -> None:
        changes = self.source.take()
        if changes.whole:
            self.state.clear()
        for change in changes.changes:
            if change.values:
                self.state[change.ref] = change.values
            else:
                self.state.pop(change.ref, None)

    def names(self) -> set[str]:
        return {ref.name for ref in self.state}

    async def stored(self, path: Path, *documents: dict[str, Any]) -> None:
        """Write a manifest, and hear of all that is in it."""
        replace_file(path, *documents)
        wanted = {document["metadata"]["name"] for document in documents}
        await self.until(lambda: wanted <= self.names())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    directory = tmp_path / "manifests"
    directory.mkdir()
    return Desk(tmp_path, directory, tmp_path / "state" / "store.db")


def hear(desk: Desk, monkeypatch: pytest.MonkeyPatch, walk: Callable[[Heard], Awaitable[None]]) -> None:
    """Follow manifests and the store they come to; at the end, what was heard is what is stored."""
    rows: list[Ref] = []
    value = Store.value

    def counted(store: Store, ref: Ref) -> Any:
        rows.append(ref)
        return value(store, ref)

    async def scenario() -> None:
        config, handover = replace(Config(), store=str(desk.store)), Handover()
        follower = ManifestFollower(
            [str(desk.manifests)],
            config,
            allow_empty=True,
            report=lambda _: None,
            say=lambda _: None,
            handover=handover,
        )
        await follower.begin()
        source = StoreSource(config, handover)
        task = asyncio.create_task(follower.follow())
        try:
            with closing(source):
                heard = Heard(desk, source, {}, rows)
                heard.take()
                monkeypatch.setattr(Store, "value", counted)
                await walk(heard)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        with Store(desk.store, ranges=config.ranges) as store:
            assert heard.state == dict(store.readable())

    asyncio.run(scenario())


@pytest.mark.parametrize("count", [1, 30, 300])
def test_what_manifests_write_is_not_read_back(desk: Desk, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Created, changed, and changed in part: as many rows are read as the others have written, which is none."""

    async def walk(heard: Heard) -> None:
        path = desk.manifests / "web.yaml"
        await heard.stored(path, *(service(f"web-{number}") for number in range(count)))
        assert len(heard.state) == count
        await heard.stored(path, *(service(f"web-{number}", target=81) for number in range(count)), service("last"))
        assert heard.rows == []

    hear(desk, monkeypatch, walk)


def test_what_is_refused_or_taken_late_is_as_it_is_stored(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that are traded, and one that somebody has already."""

    async def walk(heard: Heard) -> None:
        path = desk.manifests / "web.yaml"
        await heard.stored(path, service("a", 30001), service("b", 30002))
        replace_file(desk.manifests / "other.yaml", service("c", 30001), service("d"))
        await heard.until(lambda: "d" in heard.names())
        await heard.stored(path, service("a", 30002), service("b", 30001), service("e"))
        assert "c" not in heard.names()
        assert heard.rows == []
        await heard.stored(path, service("a", 30002), service("b", 30003), service("f"))
        await heard.until(lambda: "c" in heard.names() and "e" not in heard.names())
        assert {ref.name for ref in heard.rows} <= {"e"}, "which is gone"

    hear(desk, monkeypatch, walk)


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_what_others_write_around_it_is_not_lost(desk: Desk, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Before our commit, right after it and before it is handed over, and after that; the same object and another."""

    def others() -> None:
        asyncio.run(elsewhere(desk.store, "web", "foreign"))

    def slow(*words: Any, **options: Any) -> Written:
        if moment == "before":
            others()
        written = write(*words, **options)
        if moment == "between":
            others()
        return written

    async def walk(heard: Heard) -> None:
        path = desk.manifests / "web.yaml"
        await heard.stored(path, service("web"), service("quiet"))
        monkeypatch.setattr("nodeport_nft.sources.manifest_follower.write", slow)
        await heard.stored(path, service("web", target=81), service("quiet", target=81), service("last"))
        if moment == "after":
            await elsewhere(desk.store, "web", "foreign")
        await heard.until(lambda: "foreign" in heard.names())
        assert "quiet" not in {ref.name for ref in heard.rows}, "ours are not read for that"

    hear(desk, monkeypatch, walk)


def test_many_small_writes_of_both(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def others() -> None:
        for number in range(6):
            await elsewhere(desk.store, "web-0", f"foreign-{number}")

    async def walk(heard: Heard) -> None:
        path = desk.manifests / "web.yaml"
        await heard.stored(path, service("web-0"))
        writing = asyncio.create_task(others())
        for number in range(20):
            await heard.stored(path, service("web-0", target=100 + number), service(f"web-{number}"))
        await writing
        await heard.until(lambda: {f"foreign-{number}" for number in range(6)} <= heard.names())
        await heard.stored(path, service("last"))

    hear(desk, monkeypatch, walk)


def test_a_store_that_is_restored_meanwhile_is_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the same file: its versions begin anew, and ours may be given to what others wrote."""

    async def walk(heard: Heard) -> None:
        path = desk.manifests / "web.yaml"
        await heard.stored(path, service("web"))
        backup = desk.root / "backup.db"
        with closing(sqlite3.connect(desk.store)) as db, closing(sqlite3.connect(backup)) as copy:
            db.backup(copy)
        await heard.stored(path, service("web", target=81), service("later"))
        with closing(sqlite3.connect(desk.store)) as db, closing(sqlite3.connect(backup)) as copy:
            copy.backup(db)
        await heard.until(lambda: "later" not in heard.names())
        await elsewhere(desk.store, "web")
        await heard.stored(path, service("last"))

    hear(desk, monkeypatch, walk)


REF = Ref("Service", "default", "web")


def test_what_was_written_to_another_file_is_not_believed() -> None:
    handover = Handover()
    handover.give((1, 1), {REF: Finished("1", ())})
    assert handover.take((1, 2)) == {}
    assert handover.take((1, 1)) == {}, "the source has moved on"
    handover.give((1, 1), {REF: Finished("1", ())})
    handover.give((1, 2), {})
    assert handover.take((1, 2)) == {}, "what was given before was written to another file"


def test_a_write_that_fails_holds_nobody_up() -> None:
    handover = Handover()

    def fail() -> None:
        with handover.writing():
            assert not handover.idle.is_set()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert handover.idle.is_set()
