"""What ``Source`` promises (store/api.py), held against each that there is, the fake among them."""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from nodeport_nft.config import Config
from nodeport_nft.manifest import Object
from nodeport_nft.model import Ref
from nodeport_nft.sources.by_scheme import open_source
from nodeport_nft.store import Store, StoreError
from nodeport_nft.store.api import Changes, Source
from nodeport_nft.store.fake import FakeSource
from tests.unit.test_store import RANGES, apply, endpoint_slice, service

SECONDS = 60.0
"""Guards against hanging."""


def ref(name: str) -> Ref:
    return Ref("Service", "default", name)


class World(ABC):
    """A store that a test lets things happen to."""

    warning: str
    """A part of what is said of a Service with unknown fields."""

    @abstractmethod
    def open(self) -> Source: ...

    @abstractmethod
    def write(self, *objects: Object) -> None: ...

    @abstractmethod
    def delete(self, name: str) -> None: ...

    @abstractmethod
    def spoil(self, name: str) -> None: ...

    @abstractmethod
    def fail(self) -> None: ...

    @abstractmethod
    def mend(self) -> None: ...


class FileWorld(World):
    warning = "colour"

    def __init__(self, directory: Path) -> None:
        self.path = directory / "state" / "store.db"
        self.path.parent.mkdir()
        Store(self.path, ranges=RANGES).close()

    def open(self) -> Source:
        return open_source(Config(store=str(self.path)), "worker-1")

    def write(self, *objects: Object) -> None:
        with Store(self.path, ranges=RANGES) as store:
            apply(store, *objects)

    def delete(self, name: str) -> None:
        with Store(self.path, ranges=RANGES) as store, store.transaction() as transaction:
            transaction.delete(*ref(name))

    def spoil(self, name: str) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("UPDATE meta SET value = value + 1 WHERE key = 'resource_version'")
            db.execute(
                "UPDATE objects SET body = '[]', resource_version ="
                " (SELECT value FROM meta WHERE key = 'resource_version') WHERE name = ?",
                (name,),
            )

    def fail(self) -> None:
        self.path.rename(self.path.with_name("away"))

    def mend(self) -> None:
        self.path.with_name("away").rename(self.path)


class FakeWorld(World):
    warning = "colour"

    def __init__(self) -> None:
        self.source = FakeSource()

    def open(self) -> Source:
        return self.source

    def write(self, *objects: Object) -> None:
        for obj in objects:
            if "colour" in obj.raw.get("spec", {}):
                self.source.warn("spec.colour: unknown field")
            self.source.put(Ref(obj.kind, obj.namespace, obj.name), obj.values)

    def delete(self, name: str) -> None:
        self.source.delete(ref(name))

    def spoil(self, name: str) -> None:
        self.source.spoil(ref(name))

    def fail(self) -> None:
        self.source.fail("the store does not answer")

    def mend(self) -> None:
        self.source.forget()
        self.source.fail("")


@pytest.fixture(params=["file", "fake"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return FileWorld(tmp_path) if request.param == "file" else FakeWorld()


def follow(world: World, walk: Callable[[Source], Awaitable[None]]) -> None:
    """Let ``walk`` follow the source while it runs."""

    async def scenario() -> None:
        async with asyncio.timeout(3 * SECONDS):
            source = world.open()
            running = asyncio.create_task(source.run())
            try:
                await walk(source)
                assert not running.done(), "it runs until it is cancelled"
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                source.close()

    asyncio.run(scenario())


async def told(source: Source, is_it: Callable[[Changes], bool] = bool) -> Changes:
    """The next changes that are such; to be woken for others, or for none, is allowed."""
    async with asyncio.timeout(SECONDS):
        while True:
            await source.changed()
            if is_it(changes := source.take()):
                return changes


def names(changes: Changes) -> list[str]:
    found = [change.ref.name for change in changes.changes if change.values]
    assert len(changes.changes) == len({change.ref for change in changes.changes}), "each object once"
    return sorted(found)


def gone(changes: Changes) -> list[str]:
    return sorted(change.ref.name for change in changes.changes if not change.values)


def test_the_first_are_whole_also_where_there_is_nothing(world: World) -> None:
    async def walk(source: Source) -> None:
        changes = source.take()
        assert changes.whole
        assert changes, "that there is nothing is something to be told"
        assert changes.changes == ()
        assert not source.take()
        assert source.problems() == ()

    follow(world, walk)


def test_all_kinds_are_in_the_first(world: World) -> None:
    world.write(service("web"), endpoint_slice("web-1"))

    async def walk(source: Source) -> None:
        changes = source.take()
        assert changes.whole
        assert {change.ref.kind for change in changes.changes} == {"Service", "EndpointSlice"}

    follow(world, walk)


def test_changes_wake_and_are_told_once(world: World) -> None:
    world.write(service("a"), service("b"))

    async def walk(source: Source) -> None:
        assert names(source.take()) == ["a", "b"]
        world.write(service("c"))
        world.write(service("c", type="ClusterIP"))
        changes = await told(source)
        assert (changes.whole, names(changes), gone(changes)) == (False, ["c"], [])
        world.delete("a")
        changes = await told(source)
        assert (changes.whole, names(changes), gone(changes)) == (False, [], ["a"])
        world.write(service("d"))
        world.delete("d")
        changes = await told(source)
        assert gone(changes) == ["d"]
        assert not source.take()

    follow(world, walk)


def test_to_begin_again_is_whole(world: World) -> None:
    world.write(service("a"), service("b"))

    async def walk(source: Source) -> None:
        source.take()
        world.delete("a")
        world.write(service("c"))
        source.forget()
        changes = source.take()
        assert (changes.whole, names(changes), gone(changes)) == (True, ["b", "c"], [])
        assert not source.take()

    follow(world, walk)


@pytest.mark.parametrize("when", ["at first", "later", "anew"])
def test_what_cannot_be_read_is_told_and_hides_no_other(world: World, when: str) -> None:
    world.write(service("a"), service("b"))

    async def walk(source: Source) -> None:
        if when != "at first":
            source.take()
        world.spoil("a")
        world.write(service("c"))
        if when == "anew":
            source.forget()
        changes = source.take()
        assert names(changes) == (["c"] if when == "later" else ["b", "c"])
        assert gone(changes) == []
        assert ref("a") in changes.unreadable
        [problem] = source.problems()
        assert "Service/default/a" in problem
        world.write(service("a"))
        changes = await told(source, lambda changes: names(changes) == ["a"])
        assert ref("a") not in changes.unreadable
        assert source.problems() == ()

    follow(world, walk)


def test_warnings_come_once(world: World) -> None:
    world.write(service("a", colour="x"))

    async def walk(source: Source) -> None:
        [warning] = source.take().warnings
        assert world.warning in warning
        world.write(service("b"))
        assert (await told(source)).warnings == ()
        source.forget()
        assert source.take().warnings == ()

    follow(world, walk)


def test_a_store_that_fails_is_a_problem_and_changes_nothing(world: World) -> None:
    world.write(service("a"))

    async def walk(source: Source) -> None:
        source.take()
        world.fail()
        async with asyncio.timeout(SECONDS):
            while not source.problems():
                await source.changed()
                assert not source.take()
        assert not source.take(), "what was taken last stays good"
        world.mend()
        changes = await told(source)
        assert (changes.whole, names(changes)) == (True, ["a"])
        assert source.problems() == ()

    follow(world, walk)


def test_a_wait_that_is_cancelled_loses_nothing(world: World) -> None:
    """At every moment: before the change, and as it comes."""

    async def walk(source: Source) -> None:
        source.take()
        for turns in range(6):
            waiting = asyncio.create_task(source.changed())
            await asyncio.sleep(0)
            world.write(service(f"web-{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            assert names(await told(source)) == [f"web-{turns}"]

    follow(world, walk)


@pytest.mark.parametrize("store", ["xyz://host/a", "etcd9://127.0.0.1", "Xyz:", "file:///var/lib/store.db"])
def test_a_kind_of_store_that_is_not_known_is_refused(store: str) -> None:
    with pytest.raises(StoreError, match="is not a kind of store known here; name a file by its path") as refusal:
        open_source(Config(store=store), "worker-1")
    assert store in str(refusal.value)


@pytest.mark.parametrize("name", ["a:b.db", "xyz:store", "store.db"])
def test_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Store(name, ranges=RANGES).close()
    source = open_source(Config(store=name), "worker-1")
    with closing(source):
        assert source.take().whole


@pytest.mark.parametrize("call", ["take", "forget", "problems", "close"])
def test_the_fake_wants_nothing_to_be_asked_after_close(call: str) -> None:
    source = FakeSource()
    source.close()
    with pytest.raises(AssertionError, match="closed"):
        getattr(source, call)()


def test_the_fake_wants_one_wait_at_a_time() -> None:
    async def walk() -> None:
        source = FakeSource()
        first = asyncio.create_task(source.changed())
        await asyncio.sleep(0)
        with pytest.raises(AssertionError, match="two wait"):
            await source.changed()
        first.cancel()

    asyncio.run(walk())
