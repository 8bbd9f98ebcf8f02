"""Damaged stores: what cannot be read is told, hides nothing else, and takes away nothing that works."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from typer.main import get_command

from nodeport_nft.cli.app import app
from nodeport_nft.manifest import Problems
from nodeport_nft.model import Family, Ref
from nodeport_nft.plan import ListedTable
from nodeport_nft.reconcile import compile_snapshot
from nodeport_nft.store import Store, StoreError
from tests.builders import FACTS
from tests.damage import ROWS, damage, rewrite
from tests.security.others import as_nobody, common_place
from tests.unit.test_store import (
    LATER,
    RANGES,
    applied_service,
    apply,
    contents,
    endpoint_slice,
    node_port,
    pod,
    refused,
    service,
)

WEB = Ref("Service", "default", "web")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        apply(
            store, service("api"), service("web", ipFamilyPolicy="RequireDualStack"), endpoint_slice("web"), pod("p")
        )
    return path


def read(path: Path) -> Store:
    return Store(path, ranges=RANGES, reading=True)


# --- one row ------------------------------------------------------------------


@pytest.mark.parametrize("what", ROWS)
def test_a_damaged_row_is_told_and_hides_no_other(path: Path, what: str) -> None:
    damage(path, what)
    with read(path) as store:
        assert [each.name for each in store.snapshot().services] == ["api"]
        [complaint] = store.complaints()
        assert complaint.startswith(f"Service/default/web in {path} cannot be read: ")
        assert complaint.endswith("; apply it again or delete it")
    with read(path) as store:
        assert [each.name for each in store.objects("Pod")] == ["p"]


@pytest.mark.parametrize("what", ROWS)
def test_applying_it_again_mends_it_and_it_keeps_what_it_held(path: Path, what: str) -> None:
    with read(path) as store:
        number = node_port(store, "web")
        ips = next(each.cluster_ips for each in store.snapshot().services if each.name == "web")
    damage(path, what)
    with Store(path, ranges=RANGES) as store:
        [problem] = refused(store, service("rival", ports=[{"port": 80, "nodePort": number}]))
        assert "is held by default/web" in problem.message
        mended = applied_service(store, service("web"))
        assert (mended.ports[0].node_port, mended.cluster_ips) == (number, ips)
        assert [each.name for each in store.snapshot().services] == ["api", "web"]
        assert store.complaints() == ()
        [unchanged] = apply(store, service("web"), now=LATER)
        assert unchanged.action == "unchanged"


@pytest.mark.parametrize("what", ROWS)
def test_deleting_it_frees_what_it_held(path: Path, what: str) -> None:
    with Store(path, ranges=RANGES) as store:
        number = node_port(store, "web")
        damage(path, what)
        with store.transaction() as transaction:
            assert transaction.delete(*WEB)
        taken = applied_service(store, service("rival", ports=[{"port": 80, "nodePort": number}]))
        assert taken.ports[0].node_port == number


def test_each_port_gets_back_the_number_it_had(tmp_path: Path) -> None:
    ports = [{"name": f"p{i}", "port": 80 + i} for i in range(5)]
    wanted = service("many", "LoadBalancer", ports=ports, externalTrafficPolicy="Local")
    with Store(tmp_path / "store.db", ranges=RANGES) as store:
        before = applied_service(store, wanted)
        damage(tmp_path / "store.db", "null", name="many")
        after = applied_service(store, wanted)
    assert [port.node_port for port in after.ports] == [port.node_port for port in before.ports]
    assert after.health_check_node_port == before.health_check_node_port
    assert after.cluster_ips == before.cluster_ips


def test_a_row_of_an_unknown_kind_or_an_unreadable_name_is_told(path: Path) -> None:
    with read(path) as store:
        text = store.get(*WEB)
    assert text is not None
    rewrite(path, "UPDATE objects SET kind = 'Sexvice' WHERE name = 'api'")
    rewrite(path, "UPDATE objects SET name = CAST(? AS TEXT) WHERE name = 'web' AND kind = 'Service'", b"w\xffb")
    with read(path) as store:
        assert store.snapshot().services == ()
        first, second = store.complaints()
        assert "Service/default/w\ufffdb" in first
        assert "Sexvice/default/api" in second
        meant = frozenset().union(*(each.meant for each in store.damaged.values()))
    assert {WEB, Ref("Service", "default", "api")} <= meant, "its document says what it is"
    with Store(path, ranges=RANGES) as store:
        with store.transaction() as transaction:
            transaction.prune(())
        assert store.objects() == ()
        assert store.complaints() == ()


# --- numbers ------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, (1 << 63) - 1, "a", 1.5, None])
def test_a_damaged_resource_version_is_refused_and_the_objects_can_be_read(path: Path, value: object) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_master SET sql = replace(replace(sql, 'value INTEGER NOT NULL', 'value'), 'STRICT, ', '')"
            " WHERE name = 'meta'"
        )
        db.commit()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE meta SET value = ?", (value,))
    with Store(path, ranges=RANGES) as store:
        with pytest.raises(StoreError, match="resource version is damaged"):
            store.resource_version()
        with pytest.raises(StoreError, match="resource version is damaged"), store.transaction():
            pass
        assert len(store.snapshot().services) == 2


def test_no_number_is_given_twice_where_the_counter_was_set_back(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE meta SET value = 0")
    with Store(path, ranges=RANGES) as store:
        before = {(each.kind, each.name): each.raw for each in store.objects()}
        apply(store, pod("new"))
        after = {(each.kind, each.name): each.raw for each in store.objects()}
        assert before.items() <= after.items()
        assert store.resource_version() == 5


def test_numbers_that_are_used_up_are_said(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE meta SET value = 1 << 62")
    with Store(path, ranges=RANGES) as store:
        before = contents(store)
        with pytest.raises(StoreError, match="used up"):
            apply(store, pod("new"))
        assert contents(store) == before


# --- the file -----------------------------------------------------------------


def blank(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("DROP TABLE t")
        db.execute("VACUUM")


def without_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for table in ("node_ports", "cluster_ips", "objects", "tombstones", "meta"):
            db.execute(f"DROP TABLE {table}")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def anew(path: Path) -> None:
    path.unlink()
    blank(path)


@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize("lose", [emptied, anew, without_tables, lambda path: os.truncate(path, 50)])
def test_a_store_that_has_lost_everything_is_no_new_one(path: Path, lose: object, reading: bool) -> None:
    assert callable(lose)
    lose(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="has lost what it held; restore it from a copy, or remove it to begin anew"):
        Store(path, ranges=RANGES, reading=reading)
    assert path.read_bytes() == before
    path.unlink()
    with Store(path, ranges=RANGES) as store:
        assert store.objects() == ()


def test_an_open_store_that_is_emptied_says_so(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, read(path) as store:
        store.objects()
        with db:
            db.execute("DELETE FROM meta")
        with pytest.raises(StoreError, match="has lost what it held"):
            store.resource_version()
        with Store(path, ranges=RANGES) as other, pytest.raises(StoreError, match="has lost"), other.transaction():
            pass


def test_reading_makes_and_writes_nothing(tmp_path: Path, path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        read(tmp_path / "a" / "typo.db")
    assert not (tmp_path / "a").exists()
    with read(path) as store, pytest.raises(StoreError, match="readonly"), store.transaction() as transaction:
        transaction.delete(*WEB)
    with read(path) as store:
        assert len(store.snapshot().services) == 2


def test_a_writer_that_makes_a_store_leaves_nothing_else_behind(tmp_path: Path) -> None:
    with Store(tmp_path / "new.db", ranges=RANGES):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["new.db"]


# --- random bytes -------------------------------------------------------------

COMMANDS = (
    ("get", "services,pods,endpoints,endpointslices,nodes", "-A", "-o", "wide"),
    ("get", "services", "-A", "-o", "yaml"),
    ("describe", "services,pods,nodes", "-A"),
    ("hosts",),
    ("render", "--node-name", "worker-1", "--node-ip", "172.30.1.2"),
    ("render", "-f", "-", "--node-name", "worker-1", "--node-ip", "172.30.1.2"),
)


def corrupted(path: Path, chance: random.Random) -> Iterator[tuple[int, bytes]]:
    """Endless: a few bytes of the file changed, in one place."""
    whole = path.read_bytes()
    while True:
        at = chance.randrange(100, len(whole))
        length = chance.choice((1, 1, 1, 4, 64, 4096))
        noise = chance.choice((chance.randbytes(length), bytes(length), b"\xff" * length))
        yield at, (whole[:at] + noise + whole[at + length :])[: len(whole)]


def test_no_byte_of_the_file_leads_to_a_traceback_or_takes_away_what_cannot_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO()))
    command = get_command(app)  # once: to make it takes longer than most of its runs
    with Store(path, ranges=RANGES) as store:
        apply(
            store,
            *(service(f"s{i}") for i in range(20)),
            *(endpoint_slice(f"s{i}", f"10.1.1.{i}") for i in range(20)),
        )
        good = store.snapshot()
    tables = compile_snapshot(good, FACTS).tables
    listed = {family: ListedTable.of(tables.table(family)) for family in Family}
    broken, chance = path.with_name("broken.db"), random.Random(7)
    told = lost = 0
    for _, (at, content) in zip(range(100), corrupted(path, chance), strict=False):
        for file in broken.parent.glob("broken.db*"):
            file.unlink()
        broken.write_bytes(content)
        for words in COMMANDS:
            with redirect_stdout(TextIOWrapper(BytesIO())), redirect_stderr(TextIOWrapper(BytesIO())):
                try:
                    command.main([*words, "--store", str(broken)], prog_name="nodeport-nft")
                except SystemExit:
                    pass
                except Exception as error:
                    error.add_note(f"{words} where byte {at} was changed")
                    raise
        try:
            with read(broken) as store:
                store.changed_since(0)
                snapshot, damaged = store.snapshot(), store.damaged
        except StoreError:
            lost += 1
            continue
        told += bool(damaged)
        unreadable = frozenset().union(*(each.meant for each in damaged.values()))
        after = compile_snapshot(snapshot, FACTS, listed, unreadable).tables
        readable = {each.key for each in snapshot.services}
        for family in Family:
            for name, elements in listed[family].elements.items():
                kept = after.table(family).elements.get(name, {})
                gone = [e for key, e in elements.items() if key not in kept and e.comment]
                assert {e.comment.partition(":")[0] for e in gone} <= {str(key) for key in readable}, (at, name)
        with Store(broken, ranges=RANGES) as store:
            try:
                apply(store, service("web"), service("new"))
            except (StoreError, Problems):
                continue
    assert told
    assert lost
    assert told + lost > 30, "or the bytes changed nothing"


# --- users who may not write --------------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """A store in a directory that everybody may look into."""
    with common_place() as directory:
        with Store(directory / "store.db", ranges=RANGES) as store:
            apply(store, service("web"))
        (directory / "store.db").chmod(0o644)
        yield directory / "store.db"


def told_nobody(look: Callable[[], str]) -> str:
    """What another user finds, or what he is told instead."""

    def found() -> str:
        try:
            return look()
        except StoreError as error:
            return str(error)

    return as_nobody(found)


def names(path: Path) -> str:
    with read(path) as store:
        return ",".join(each.name for each in store.snapshot().services)


@pytest.mark.parametrize("busy", [False, True])
def test_who_may_not_write_can_read(public: Path, busy: bool) -> None:
    if busy:  # a writer has the store open, and what it wrote is in its log
        with Store(public, ranges=RANGES) as store:
            apply(store, service("new"))
            for file in public.parent.iterdir():
                file.chmod(0o644)  # as its owner may choose, until it is opened again
            assert told_nobody(lambda: names(public)) == "new,web"
    assert told_nobody(lambda: names(public)) == ("new,web" if busy else "web")
    assert sorted(each.name for each in public.parent.iterdir()) == ["store.db"]


def test_who_may_not_write_is_told_so(public: Path) -> None:
    def write() -> str:
        with Store(public, ranges=RANGES) as store:
            apply(store, service("new"))
        return "written"

    said = told_nobody(write)
    assert said.startswith(f"{public}: ")
    assert "make it and its directory writable for this user" in said
    public.chmod(0o600)
    assert "run this as the user to whom it belongs" in told_nobody(lambda: names(public))
