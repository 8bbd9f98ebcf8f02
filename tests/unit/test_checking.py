"""`check`: what hands and disks do to a store is named, and mended where it is certain what is right."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport_nft.config import Config
from nodeport_nft.kube import parse_object
from nodeport_nft.model import ObjectName, Ref
from nodeport_nft.store import Store, StoreError, copy_store, open_objects
from nodeport_nft.store.checking import Contents, Outside, findings
from nodeport_nft.store.sqlite.checking import RowWords
from tests.cli.program import Program
from tests.damage import ROWS, damage
from tests.hands import API, EDITS, FOREIGN, FREE_IP, GONE, WEB, WEB_IP, Edit, documents, file_hand, ref
from tests.unit.test_store import NOW, RANGES, document

pytestmark = pytest.mark.proves("C2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return filled(tmp_path)


def filled(directory: Path) -> Path:
    path = directory / "store.db"
    with Store(path, ranges=RANGES) as store:
        store.write([parse_object(each, ranges=RANGES) for each in documents()], now=NOW)
    return path


def bodies(path: Path) -> dict[str, Any]:
    with Store(path, ranges=RANGES, reading=True) as store:
        return {each.name: each.raw for each in store.objects()}


def tables(path: Path) -> dict[str, list[Any]]:
    """Every row but for what counts versions."""
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        names = ("objects", "node_ports", "cluster_ips", "outside_ips", "leftovers", "of_manifests")
        return {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def checked(path: Path, *, repair: bool = False) -> Any:
    with Store(path, ranges=RANGES, reading=not repair) as store:
        return store.check(repair=repair)


def place(item: Any) -> str:
    words = RowWords()
    if isinstance(item, Ref):
        return f"leftovers {item}" if item == ref(GONE) else words.object(item)
    return words.item(item)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.what)
def test_what_a_hand_has_done_is_named_and_mended_where_it_is_certain(path: Path, edit: Edit) -> None:
    assert checked(path).findings == ()
    with file_hand(path) as hand:
        edit.edit(hand, bodies(path))
    before = tables(path)
    found = checked(path).findings
    assert tables(path) == before, "who only looks changes nothing"
    assert len(found) == len(edit.found)
    for each, (item, text, is_mended) in zip(found, edit.found, strict=True):
        assert each.where == place(item)
        assert text in each.wrong
        assert bool(each.repair) is is_mended
        assert is_mended or each.remedy
    done = checked(path, repair=True)
    assert done.mended == tuple(each for each in found if each.repair)
    assert done.findings == checked(path).findings == tuple(each for each in found if not each.repair)
    assert tables(path)["objects"] == before["objects"], "no object is changed"
    assert checked(path, repair=True).mended == ()


def test_who_has_a_double_does_as_is_told_and_nothing_is_wrong_any_more(path: Path) -> None:
    edit = next(each for each in EDITS if each.what == "a copy")
    with file_hand(path) as hand:
        edit.edit(hand, bodies(path))
    program = Program(path.parent)
    done = program("check")
    assert done.code == 1
    command = done.out.partition("; nodeport-nft ")[2].partition(", and apply")[0]
    assert command == "delete service/copy -n default"
    program.ok(*command.split())
    assert program.ok("check", "-o", "json")


CLAIMS = st.sampled_from([30001, 30002, 30050, WEB_IP, FREE_IP])
NAMES = st.sampled_from([WEB, API, GONE, ObjectName("default", "copy")])
HANDS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), CLAIMS, st.one_of(st.none(), NAMES)),
        st.tuples(st.just("outside"), NAMES, st.booleans()),
        st.tuples(st.just("body"), NAMES, st.sampled_from(["web", "api", "no json", None])),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(hands=HANDS)
def test_whatever_was_done_one_repair_mends_all_that_can_be(hands: Any, tmp_path_factory: Any) -> None:
    path = filled(tmp_path_factory.mktemp("hands"))
    documents = bodies(path)
    with file_hand(path) as hand:
        for what, one, other in hands:
            if what == "claim":
                hand.claim(one, other)
            elif what == "outside":
                hand.outside(Outside(FOREIGN, one), there=other)
            else:
                body = documents.get(other)
                if body is not None:
                    metadata = {**body["metadata"], "name": one.name}
                    other = json.dumps({**body, "metadata": metadata})
                hand.body(ref(one), other)
    before = tables(path)["objects"]
    found = checked(path).findings
    done = checked(path, repair=True)
    left = checked(path)
    assert not [each for each in left.findings if each.repair]
    assert set(done.mended) | set(done.findings) == set(found)
    assert tables(path)["objects"] == before
    # Each claim is that of somebody who has it, or cannot be read.
    with Store(path, ranges=RANGES) as store:
        for service in store.snapshot().services:
            store.write(deletes=[ref(service.key)], now=NOW)
        for each in list(store.list()):
            store.write(deletes=[each.ref], now=NOW)
    after = tables(path)
    assert not any(after.values()), "and nothing is kept for nobody once all are gone"


@pytest.mark.parametrize("what", ROWS)
def test_a_damaged_row_is_told_and_what_is_kept_for_it_stays(path: Path, what: str) -> None:
    before = tables(path)["node_ports"]
    damage(path, what)
    damaged = checked(path).findings
    assert all(each.repair is None and each.remedy for each in damaged)
    if what != "deep-enough":
        assert damaged
    done = checked(path, repair=True)
    assert (done.mended, done.findings) == ((), damaged)
    assert tables(path)["node_ports"] == before


def test_pages_that_are_damaged_are_trouble_and_no_findings(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'node_ports_by_owner'").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
    with pytest.raises(StoreError, match="malformed"):
        checked(path)
    assert Program(path.parent)("check").code == 2


@pytest.mark.parametrize("statement", ["DELETE FROM meta", "UPDATE meta SET value = -5"])
def test_a_file_that_has_lost_its_version_is_trouble_and_can_be_copied(path: Path, statement: str) -> None:
    """Nothing can be written to it any more, so nothing but a copy is of use."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
    for repair in (False, True):
        with pytest.raises(StoreError, match=r"has lost what it held|save what is in it with .* store copy"):
            checked(path, repair=repair)
    copied = Config(store=str(path.with_name("copy.db")), ranges=RANGES)
    copy_store(Config(store=str(path), ranges=RANGES), copied)
    with open_objects(copied) as copy:
        assert [one.action for one in copy.write([parse_object(documents()[0], ranges=RANGES)], now=NOW).applied]
        versions = [each.version for each in copy.objects()]
    assert len(set(versions)) == len(versions)
    assert checked(Path(copied.store)).findings == ()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM objects")
    with pytest.raises(StoreError, match=r"resource version|has lost"):
        copy_store(Config(store=str(path)), Config(store=str(path.with_name("empty.db"))))


def test_a_file_of_an_earlier_version_has_nothing_wrong_and_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for table in ("outside_ips", "leftovers", "of_manifests"):
            db.execute(f"DROP TABLE {table}")
    assert checked(path).findings == ()
    with closing(sqlite3.connect(path)) as db:
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'outside_ips'").fetchone()
    assert checked(path, repair=True).findings == ()


def test_the_command_says_it_in_lines_and_in_json_and_by_its_exit_code(tmp_path: Path) -> None:
    program = Program(tmp_path)
    done = program("check")
    assert (done.code, done.out) == (2, "")
    assert "there is no store" in done.err
    program.ok("create", "service", "nodeport", "web", "--tcp=80", "--node-port=30001")
    done = program("check")
    assert (done.code, done.out, done.err) == (0, "", f"{program.store}: nothing is wrong\n")
    with file_hand(program.store) as hand:
        hand.claim(30001, ObjectName("default", "no\n\x1b[2Jbody"))
        hand.claim(30003, WEB)
    done = program("check")
    assert done.code == 1
    first, second = done.out.splitlines()
    assert first.startswith("node_ports 30001: is kept for Service/default/no")
    assert first.endswith("Service/default/web has it; --repair keeps it for Service/default/web")
    assert second == "node_ports 30003: is kept for Service/default/web, which has it not; --repair deletes it"
    assert "\x1b" not in done.out
    done = program("check", "--repair")
    assert done.code == 0
    assert done.out.splitlines()[1].endswith("which has it not; deleted")
    assert done.err.endswith("nothing is wrong any more\n")
    assert program("check").code == 0


def test_a_repair_rests_on_who_has_it_and_who_is_to_have_it_however_many_want_it() -> None:
    """Some dozens of repairs share a transaction, which takes 128 conditions: what many have must not fill it."""
    ports = [{"port": 80, "nodePort": 30080}]
    bodies = [document(f"copy-{number}", clusterIP=str(WEB_IP), type="NodePort", ports=ports) for number in range(9)]
    objects = tuple(parse_object(body, ranges=RANGES) for body in bodies)
    claims = {30080: ObjectName("default", "gone"), WEB_IP: None}
    repairs = [each.repair for each in findings(Contents(objects, claims), RowWords()) if each.repair]
    assert [repair.holder for repair in repairs] == [ObjectName("default", "copy-0")] * 2
    assert {each.name for repair in repairs for each in repair.depends} == {"gone", "copy-0"}
