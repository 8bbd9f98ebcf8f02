"""etcd as a source: everything once, then what changes, and everything again where that cannot be told (C1, C4)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nodeport_nft.model import Ref
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import Changes, Source
from nodeport_nft.store.etcd import etcd_source, layout, open_client
from nodeport_nft.store.etcd.client import Client
from nodeport_nft.store.memory import MemoryStore
from tests.etcd.members import WAIT, Members, in_etcd, patient
from tests.unit.test_store import NOW, RANGES, node, service

pytestmark = [pytest.mark.proves("C4"), pytest.mark.usefixtures("private_namespaces")]

WEB, API = Ref("Service", "default", "web"), Ref("Service", "default", "api")


def bodies() -> dict[str, bytes]:
    """Two Services and a Node as they lie in etcd."""
    with MemoryStore(RANGES) as store:
        applied = store.write([service("web"), service("api"), node("worker-1")], now=NOW).applied
    found = {}
    for one in applied:
        raw = {**one.object.raw, "metadata": dict(one.object.raw["metadata"])}
        del raw["metadata"]["resourceVersion"]
        ref = Ref(one.object.kind, one.object.namespace, one.object.name)
        found[layout.object_key(ref)] = json.dumps(raw).encode()
    return found


async def told(source: Source, wanted: Callable[[Changes], bool] = bool) -> Changes:
    """The next changes that are wanted."""
    async with asyncio.timeout(WAIT):
        while not wanted(changes := source.take()):
            await source.changed()
        return changes


def follow(directory: Path, walk: Callable[[Source, Client, Members], Awaitable[Any]]) -> None:
    """A walk with a source that runs, over an etcd that holds the ``bodies``."""

    async def scenario() -> None:
        members = Members(1, directory)
        members.start()
        await members.ready()
        async with open_client(members.connection(), patient()) as client:
            for key, body in bodies().items():
                await client.put(key, body)
            source = etcd_source(members.connection(), Validate.warn)
            running = asyncio.create_task(source.run())
            try:
                await walk(source, client, members)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                members.all[0].kill()

    in_etcd(scenario)


def names(changes: Changes) -> list[tuple[str, bool]]:
    return sorted((change.ref.name, bool(change.values)) for change in changes.changes)


ALL = [("api", True), ("web", True), ("worker-1", True)]


def test_everything_comes_first_and_then_each_change_once(tmp_path: Path) -> None:
    async def walk(source: Source, client: Client, _: Members) -> None:
        assert not source.take(), "nothing is told before all of it is listed"
        first = await told(source)
        assert (first.whole, names(first)) == (True, ALL)
        await client.delete(layout.object_key(WEB))
        gone = await told(source)
        assert (gone.whole, names(gone)) == (False, [("web", False)])
        await client.put("ports/30001", b"default/web")
        await client.put(layout.object_key(WEB), bodies()[layout.object_key(WEB)])
        back = await told(source)
        assert names(back) == [("web", True)], "what is no object is nobody's news"
        assert not source.take()
        assert not source.problems()

    follow(tmp_path, walk)


def test_what_cannot_be_read_stays_and_what_is_unknown_is_told_once(tmp_path: Path) -> None:
    async def walk(source: Source, client: Client, _: Members) -> None:
        await told(source)
        await client.put(layout.object_key(WEB), b"no json")
        spoilt = await told(source, lambda changes: bool(changes.unreadable))
        assert not spoilt.changes
        assert spoilt.unreadable == {WEB}
        assert "Service/default/web" in source.problems()[0]
        strange = json.loads(bodies()[layout.object_key(API)])
        strange["spec"]["colour"] = "red"
        await client.put(layout.object_key(API), json.dumps(strange).encode())
        changes = await told(source)
        assert "spec.colour" in changes.warnings[0]
        assert changes.unreadable == {WEB}, "it is still there"
        strange["metadata"]["labels"] = {"a": "b"}
        await client.put(layout.object_key(API), json.dumps(strange).encode())
        assert (await told(source)).warnings == ()
        await client.put(layout.object_key(WEB), bodies()[layout.object_key(WEB)])
        mended = await told(source)
        assert (names(mended), mended.unreadable) == ([("web", True)], frozenset())
        assert not source.problems()

    follow(tmp_path, walk)


def test_where_nothing_was_ever_read_nothing_is_said_to_be_served(tmp_path: Path) -> None:
    async def walk(_: Source, __: Client, members: Members) -> None:
        members.all[0].kill()
        late = etcd_source(members.connection(), Validate.warn)
        running = asyncio.create_task(late.run())
        async with asyncio.timeout(WAIT):
            while not late.problems():
                await late.changed()
        (problem,) = late.problems()
        assert problem.endswith("; nothing was read yet, and the tables stay as they are")
        assert "--store" not in problem, "which is no advice for a daemon that runs"
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    follow(tmp_path, walk)


def test_everything_comes_again_where_changes_cannot_be_told(tmp_path: Path) -> None:
    """Asked for; and after etcd was away, and has forgotten what came meanwhile."""

    async def walk(source: Source, client: Client, members: Members) -> None:
        await told(source)
        source.forget()
        again = await told(source)
        assert (again.whole, names(again)) == (True, ALL)

        members.all[0].kill()
        async with asyncio.timeout(WAIT):
            while not source.problems():
                await source.changed()
        assert not source.take(), "what was taken last stays good"
        assert "what was read last is served" in source.problems()[0]
        members.all[0].start()
        await client.delete(layout.object_key(API))
        for number in range(3):
            revision = await client.put(layout.object_key(WEB), bodies()[layout.object_key(WEB)] + b" " * number)
        await client.compact(revision)
        seen: dict[str, bool] = {}
        async with asyncio.timeout(WAIT):
            while not ((changes := source.take()).whole or {"api", "web"} <= seen.keys()):
                seen |= dict(names(changes))
                await source.changed()
        if changes.whole:
            assert names(changes) == [("web", True), ("worker-1", True)]
        else:
            assert seen == {"api": False, "web": True}
        async with asyncio.timeout(WAIT):
            while source.problems():
                await source.changed()

    follow(tmp_path, walk)
