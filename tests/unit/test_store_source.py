"""The store as a source: what other processes do to it is told once, and without polling (sources/store.py)."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from nodeport_nft.config import Config
from nodeport_nft.manifest import Object, Validate
from nodeport_nft.model import Ref
from nodeport_nft.sources.handover import Handover
from nodeport_nft.sources.store import StoreSource
from nodeport_nft.store import Store
from nodeport_nft.store.api import Changes
from tests.damage import damage
from tests.unit.test_store import RANGES, apply, endpoint_slice, service

SECONDS = 60.0
"""The longest that a change may take to be told on a slow machine; as a rule it is milliseconds."""


def ref(name: str) -> Ref:
    return Ref("Service", "default", name)


def names(changes: Changes) -> set[str]:
    return {change.ref.name for change in changes.changes if change.values}


def gone(changes: Changes) -> set[str]:
    return {change.ref.name for change in changes.changes if not change.values}


def fill(path: Path, *objects: Object) -> None:
    with Store(path, ranges=RANGES) as store:
        apply(store, *objects)


def delete(path: Path, name: str) -> None:
    with Store(path, ranges=RANGES) as store, store.transaction() as transaction:
        transaction.delete("Service", "default", name)


async def told(source: StoreSource) -> Changes:
    """The next changes there are; a wake-up without any is allowed."""
    async with asyncio.timeout(SECONDS):
        while True:
            await source.changed()
            if found := source.take():
                return found


async def until(source: StoreSource, is_so: Callable[[], bool]) -> Changes:
    """What the last look gave, once it is so."""
    async with asyncio.timeout(SECONDS):
        while True:
            await source.changed()
            found = source.take()
            if is_so():
                return found


def follow(path: Path, walk: Callable[[StoreSource], Awaitable[None]]) -> None:
    """Open the source and let ``walk`` go on from what it has read first."""

    async def run() -> None:
        source = StoreSource(Config(store=str(path)))
        try:
            await walk(source)
        finally:
            source.close()

    asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    fill(directory / "store.db", service("a"), service("b"))
    return directory / "store.db"


# Started from nothing, since a fork would have this process's connections to the file.
ELSEWHERE = """
import sys
from ipaddress import ip_network
from nodeport_nft.manifest import parse_object
from nodeport_nft.model import PortRange, Ranges
from nodeport_nft.store import Store

RANGES = Ranges(PortRange(30000, 30099), (ip_network("10.96.0.0/24"), ip_network("fd00:10:96::/112")))
SPEC = {"type": "NodePort", "ports": [{"port": 80}]}
METADATA = [{"name": name, "namespace": "default"} for name in sys.argv[2:]]
DOCUMENTS = [{"apiVersion": "v1", "kind": "Service", "metadata": each, "spec": SPEC} for each in METADATA]
with Store(sys.argv[1], ranges=RANGES) as store, store.transaction() as transaction:
    transaction.apply(list(map(parse_object, DOCUMENTS)), now="2026-01-31T12:00:00Z")
"""


async def elsewhere(path: Path, *words: str) -> None:
    """Apply these services in another process."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", ELSEWHERE, str(path), *words)
    assert await child.wait() == 0


def test_at_first_all_there_is_then_what_another_process_changes(path: Path) -> None:
    async def walk(source: StoreSource) -> None:
        first = source.take()
        assert (first.whole, names(first)) == (True, {"a", "b"})
        assert not source.take()
        await elsewhere(path, "c")
        changes = await told(source)
        assert (changes.whole, names(changes), gone(changes)) == (False, {"c"}, set())

    follow(path, walk)


def test_deletions_are_told_and_what_changed_twice_is_told_once(path: Path) -> None:
    async def walk(source: StoreSource) -> None:
        source.take()
        delete(path, "a")
        changes = await told(source)
        assert (names(changes), gone(changes)) == (set(), {"a"})
        fill(path, service("c"))
        fill(path, service("c", type="ClusterIP"))
        fill(path, service("d"))
        delete(path, "d")
        changes = await told(source)
        assert sorted(change.ref.name for change in changes.changes) == ["c", "d"]
        assert gone(changes) == {"d"}
        assert not source.take()

    follow(path, walk)


def test_an_object_that_cannot_be_read_keeps_the_others(path: Path) -> None:
    def damage(old: str, new: str) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE meta SET value = value + 1 WHERE key = 'resource_version'")
            db.execute(
                "UPDATE objects SET body = replace(body, ?, ?), resource_version ="
                " (SELECT value FROM meta WHERE key = 'resource_version') WHERE name = 'a'",
                (old, new),
            )

    async def walk(source: StoreSource) -> None:
        source.take()
        damage("TCP", "XYZ")
        fill(path, service("c"))
        changes = await until(source, lambda: bool(source.problems()))
        seen = names(changes) | (set() if "c" in names(changes) else names(await told(source)))
        assert seen == {"c"}
        assert ref("a") in changes.unreadable
        assert not gone(changes)
        [problem] = source.problems()
        assert "Service/default/a" in problem
        damage("XYZ", "TCP")
        assert names(await told(source)) == {"a"}
        assert source.problems() == ()

    follow(path, walk)


def test_an_object_that_is_there_goes_before_a_stray_tombstone(path: Path) -> None:
    async def walk(source: StoreSource) -> None:
        source.take()
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE meta SET value = value + 1")
            db.execute("INSERT INTO tombstones VALUES ('Service', 'default', 'a', (SELECT value FROM meta))")
        changes = await told(source)
        assert (names(changes), gone(changes)) == ({"a"}, set())

    follow(path, walk)


@pytest.mark.parametrize("what", ["null", "version-text", "another-name"])
def test_a_damaged_row_is_among_the_unreadable_from_the_first_look_on(path: Path, what: str) -> None:
    damage(path, what, name="a")

    async def walk(source: StoreSource) -> None:
        changes = source.take()
        assert (changes.whole, names(changes)) == (True, {"b"})
        assert ref("a") in changes.unreadable
        [problem] = source.problems()
        assert problem.startswith(f"Service/default/a in {path} cannot be read: ")
        fill(path, service("a"))
        assert names(await told(source)) == {"a"}
        assert source.problems() == ()

    follow(path, walk)


def test_the_source_never_takes_a_log_into_the_file(path: Path) -> None:
    """Which may be another by then: it would be spoilt."""

    async def walk(source: StoreSource) -> None:
        source.take()
        await elsewhere(path, "c")
        await told(source)
        path.write_bytes(b"")
        await until(source, lambda: bool(source.problems()))
        assert path.read_bytes() == b""

    follow(path, walk)
    assert path.read_bytes() == b""


def test_another_file_in_its_place_is_told_as_a_whole(path: Path) -> None:
    async def walk(source: StoreSource) -> None:
        source.take()
        other = path.with_name("other.db")
        fill(other, service("b"), service("z"))
        other.rename(path)
        changes = await told(source)
        assert (changes.whole, names(changes)) == (True, {"b", "z"})
        await elsewhere(path, "y")
        assert names(await told(source)) == {"y"}

    follow(path, walk)


def test_a_backup_restored_into_the_file_is_told_as_a_whole(path: Path) -> None:
    async def walk(source: StoreSource) -> None:
        with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(path.with_name("backup.db"))) as backup:
            db.backup(backup)
            fill(path, service("c"))
            assert names(source.take()) == {"a", "b", "c"}
            backup.backup(db)
        changes = await told(source)
        assert (changes.whole, names(changes)) == (True, {"a", "b"})

    follow(path, walk)


@pytest.mark.parametrize("what", ["store", "directory"])
def test_what_is_taken_away_and_put_back(path: Path, what: str) -> None:
    async def walk(source: StoreSource) -> None:
        source.take()
        moved = path if what == "store" else path.parent
        away = path.parent.parent / "away"
        moved.rename(away)
        changes = await until(source, lambda: bool(source.problems()))
        assert not changes, "what was read last stays"
        away.rename(moved)
        changes = await told(source)
        assert (changes.whole, names(changes)) == (True, {"a", "b"})
        assert source.problems() == ()
        await elsewhere(path, "c")
        assert names(await told(source)) == {"c"}

    follow(path, walk)


BYPASS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE meta SET value = value + 1 WHERE key = 'resource_version'")
db.execute("UPDATE objects SET resource_version = (SELECT value FROM meta WHERE key = 'resource_version')"
           " WHERE name = 'b'")
db.execute("COMMIT")
"""


def test_a_writer_that_does_not_ring_is_seen_too(path: Path) -> None:
    async def walk(source: StoreSource) -> None:
        source.take()
        # Another connection stays open, so that the last one's checkpoint does not touch the file.
        with Store(path, ranges=RANGES):
            subprocess.run([sys.executable, "-c", BYPASS, str(path)], check=True, timeout=60)
            assert names(await told(source)) == {"b"}

    follow(path, walk)


def test_nothing_is_done_while_nothing_happens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    resource_version = Store.resource_version

    def noted(store: Store) -> int:
        looks.append(1)
        return resource_version(store)

    async def walk(source: StoreSource) -> None:
        source.take()
        await elsewhere(path, "c")
        await told(source)
        with pytest.raises(TimeoutError):  # the echoes of that write
            await asyncio.wait_for(source.changed(), 0.5)
        monkeypatch.setattr(Store, "resource_version", noted)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.changed(), 1.5)
        assert looks == []
        await elsewhere(path, "d")
        assert names(await told(source)) == {"d"}
        assert looks, "or the count proves nothing"

    follow(path, walk)


def test_lost_events_make_it_look_at_the_file_as_well(path: Path) -> None:
    """Of a store that has been replaced while more happened than the kernel remembers, no event tells."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))

    async def walk(source: StoreSource) -> None:
        source.take()
        other = path.parent.parent / "other.db"
        fill(other, service("z"))
        here, there = path.with_name("here"), path.with_name("there")
        here.touch()
        for _ in range(limit // 4 + 1):  # two events a rename; nobody reads them while this loop runs
            here.rename(there)
            there.rename(here)
        other.rename(path)
        changes = await told(source)
        assert (changes.whole, names(changes)) == (True, {"z"})

    follow(path, walk)


# --- unknown fields ---------------------------------------------------------------------------------------------


def slip(name: str, *fields: str) -> Object:
    """A Service with unknown fields, as --validate=ignore takes it."""
    return service(name, **dict.fromkeys(fields, "x"))


def doubt(path: Path, name: str, text: str) -> str:
    return f"Service/default/{name} in {path}: spec.{text}"


LOOSE = "loadbalancerSourceRanges"
MEANT = f"{LOOSE}: unknown field; did you mean loadBalancerSourceRanges?"
STRANGE = "colour: unknown field; apply it again without"


def test_unknown_fields_are_told_once_of_each_object(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    fill(path, slip("web", LOOSE), service("good"))
    source = StoreSource(Config(store=str(path)))
    with closing(source):
        assert source.take().warnings == (doubt(path, "web", MEANT),)
        assert source.take().warnings == ()
        fill(path, service("other"))
        changes = source.take()
        assert names(changes) == {"other"}
        assert changes.warnings == (), "another object has changed"
        fill(path, slip("web", LOOSE, "colour"))
        assert source.take().warnings == (doubt(path, "web", STRANGE),), "what was told is told no more"
        source.forget()
        changes = source.take()
        assert changes.whole
        assert changes.warnings == ()
        fill(path, service("web"))
        source.take()
        fill(path, slip("web", LOOSE))
        assert source.take().warnings == (doubt(path, "web", MEANT),), "it was mended in between"
        delete(path, "web")
        assert source.take().warnings == ()
        fill(path, slip("web", LOOSE))
        assert source.take().warnings == (doubt(path, "web", MEANT),)


def test_many_of_a_kind_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    fill(path, *(slip(f"web-{number:02}", LOOSE) for number in range(50)), slip("other", "colour"))
    source = StoreSource(Config(store=str(path)))
    with closing(source):
        doubts = source.take().warnings
    assert len(doubts) == 12
    assert doubts[0] == doubt(path, "other", STRANGE)
    assert doubts[-1] == "… and 40 more of this kind"


@pytest.mark.parametrize("quiet", [{"validate": Validate.ignore}, {}])
def test_who_passes_over_unknown_fields_is_told_nothing(tmp_path: Path, quiet: dict[str, Validate]) -> None:
    """And neither is who follows manifests, of which it is told as they are read."""
    path = tmp_path / "store.db"
    fill(path, slip("web", LOOSE))
    source = StoreSource(Config(store=str(path), **quiet), None if quiet else Handover())  # type: ignore[arg-type]
    with closing(source):
        changes = source.take()
    assert names(changes) == {"web"}
    assert changes.warnings == ()


def test_what_was_written_by_hand_is_looked_at_as_well(tmp_path: Path) -> None:
    """Each kind, at each level; annotations and labels of our own; and names that end on a terminal."""
    path = tmp_path / "store.db"
    fill(path, service("web"), endpoint_slice("web-1"))
    with closing(sqlite3.connect(path)) as db:
        for kind, field, value in (
            ("Service", "$.spec.ports[0].targetport", 80),
            ("Service", '$.metadata.annotations."nodeport-nft/weigths"', "1"),
            ("Service", '$.metadata.labels."nodeport-nft/x"', "1"),
            ("EndpointSlice", '$.endpoints[0]."\x1b[2J"', 80),
        ):
            if ".metadata." in field:
                parent = field.partition('."')[0]
                db.execute(
                    "UPDATE objects SET body = json_insert(body, ?, json('{}')) WHERE kind = ?", (parent, kind)
                )
            db.execute("UPDATE objects SET body = json_set(body, ?, ?) WHERE kind = ?", (field, value, kind))
        db.commit()
    source = StoreSource(Config(store=str(path)))
    with closing(source):
        doubts = source.take().warnings
    assert [line.partition(": unknown")[0].partition(f" in {path}: ")[2] for line in doubts] == [
        'endpoints[0]["\ufffd[2J"]',
        "spec.ports[0].targetport",
        'metadata.labels["nodeport-nft/x"]',
        'metadata.annotations["nodeport-nft/weigths"]',
    ]
    assert all(line.isprintable() for line in doubts)
