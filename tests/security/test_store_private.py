"""The store is one user's alone: a real second user cannot read it, lock it, or put another in its place."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from nodeport_nft.config import Config
from nodeport_nft.sources.store import StoreSource
from nodeport_nft.store import Store, StoreError, delete_store
from tests.cli.program import Program
from tests.security.others import NOBODY, as_nobody, common_place, give, mode_of, umask
from tests.unit.test_store import RANGES, apply, service

BESIDE = ("", "-wal", "-shm")


@pytest.fixture
def place() -> Iterator[Path]:
    with common_place() as made:
        yield made


def fill(path: Path, *names: str) -> Path:
    with Store(path, ranges=RANGES) as store:
        apply(store, *map(service, names))
    return path


def names(path: Path) -> set[str]:
    with Store(path, ranges=RANGES) as store:
        return {stored.name for stored in store.objects()}


def files_of(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in BESIDE]


def modes(path: Path) -> dict[str, int]:
    """Of the store and what lies beside it now."""
    return {each.name: mode_of(each) for each in path.parent.iterdir()}


# --- what others may do with it ------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077, 0o777], ids=oct)
def test_a_new_store_is_its_owners_alone_whatever_the_umask(place: Path, mask: int) -> None:
    path = place / "one" / "two" / "store.db"
    with umask(mask), Store(path, ranges=RANGES) as store:
        apply(store, service("web"))
        assert modes(path) == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    assert [mode_of(each) for each in (path.parent, path.parent.parent, place)] == [0o700, 0o700, 0o755]
    with umask(mask), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")  # as while the store is made
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE meta SET value = value + 1")
        assert modes(path) == {"store.db": 0o600, "store.db-journal": 0o600}
        db.execute("ROLLBACK")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o755], ids=oct)
def test_a_store_that_others_could_read_is_closed_to_them_at_the_next_look(place: Path, mode: int) -> None:
    """As earlier versions made it; a daemon of theirs may have it open still."""
    path = fill(place / "store.db", "web")
    with closing(sqlite3.connect(path)) as db:
        db.execute("SELECT * FROM objects").fetchall()
        for each in files_of(path):
            each.chmod(mode)
        assert names(path) == {"web"}
        assert modes(path) == dict.fromkeys(modes(path), mode & 0o700)
        assert len(modes(path)) == 3
    assert mode_of(place) == 0o755, "a directory that others may list stays as it is: they may have business there"


def test_nobody_can_read_it_lock_it_or_write_to_it(place: Path) -> None:
    path = fill(place / "store.db", "web")

    def grasp() -> list[str]:
        """What he can do with the files while they are in use."""
        done = []
        for each in files_of(path):
            for way in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                with suppress(PermissionError):
                    descriptor = os.open(each, way)
                    done.append(f"opened {each}")
                    fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    done.append(f"locked {each}")
            with suppress(PermissionError):
                each.rename(each.with_name("away"))
                done.append(f"moved {each}")
        with suppress(PermissionError):
            Path(f"{path}-journal").touch()
            done.append("put a journal beside it")
        return done

    with Store(path, ranges=RANGES) as store:
        apply(store, service("more"))
        assert as_nobody(grasp) == []
        read = as_nobody(["cat", *files_of(path)])
        assert (read.returncode, read.stdout) == (1, "")
        apply(store, service("again"))
    assert names(path) == {"web", "more", "again"}


def test_nobody_is_told_whom_to_ask(place: Path) -> None:
    path = fill(place / "store.db", "web")
    with pytest.raises(StoreError) as caught:
        as_nobody(lambda: names(path))
    remedy = "run this as the user to whom it belongs, or choose another with --store"
    assert str(caught.value) == f"{path}: Permission denied; {remedy}"
    with pytest.raises(StoreError, match=f"Permission denied; {remedy}"):
        as_nobody(lambda: names(place / "new.db"))


def test_a_file_that_is_no_store_keeps_its_mode(place: Path) -> None:
    path = place / "diary.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE diary (day TEXT)")
    path.chmod(0o644)
    with pytest.raises(StoreError, match="database of another program"):
        Store(path, ranges=RANGES)
    assert mode_of(path) == 0o644


WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    db.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
"""


def test_the_look_at_the_files_takes_no_lock_from_this_process(place: Path) -> None:
    """Whoever closes a descriptor of a file gives up all the locks that the process has on it (fcntl(2))."""
    path = fill(place / "store.db", "web")

    def others_answer() -> str:
        words = [sys.executable, "-c", WRITER, str(path)]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    with Store(path, ranges=RANGES) as store:
        with store.transaction():
            assert others_answer() == "database is locked", "or the test proves nothing"
            for each in files_of(path):
                each.chmod(0o644)
            Store(path, ranges=RANGES).close()
            assert others_answer() == "database is locked"
        assert others_answer() == ""


# --- where it may not be ---------------------------------------------------------------------------------------


def in_directory(mode: int, owner: int = 0) -> Callable[[Path, Path], Path]:
    """The store in a directory with this mode and owner."""

    def make(place: Path, ready: Path) -> Path:
        directory = place / "open"
        directory.mkdir()
        if ready.exists():
            shutil.copy(ready, directory / "store.db")
        give(directory, mode, owner)
        return directory / "store.db"

    return make


def below(mode: int) -> Callable[[Path, Path], Path]:
    """A directory deeper."""

    def make(place: Path, ready: Path) -> Path:
        path = place / "open" / "deep" / "store.db"
        path.parent.mkdir(parents=True)
        if ready.exists():
            shutil.copy(ready, path)
        else:
            path.parent.rmdir()
        give(place / "open", mode)
        return path

    return make


def linked(to: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    """By a link of root's, which leads there or dangles."""

    def make(place: Path, ready: Path) -> Path:
        target = to(place, ready)
        (place / "link.db").symlink_to(target)
        return place / "link.db"

    return make


def his_link(place: Path, ready: Path) -> Path:
    """By a link of nobody's in a directory such as /tmp."""
    hall = place / "hall"
    hall.mkdir()
    (hall / "store.db").symlink_to(ready)
    give(hall / "store.db", 0, NOBODY)
    give(hall, 0o1777)
    return hall / "store.db"


def given(mode: int, owner: int = 0, beside: str = "") -> Callable[[Path, Path], Path]:
    """The store, or a file beside it, with this mode and owner."""

    def make(place: Path, ready: Path) -> Path:
        path = place / "store.db"
        if ready.exists():
            shutil.copy(ready, path)
        file = Path(f"{path}{beside}")
        file.touch()
        give(file, mode, owner)
        return path

    return make


REFUSED = {
    "writable for all": (in_directory(0o777), "others than its owner may write to {}/open; chmod go-w {}/open"),
    "writable for its group": (in_directory(0o775), "others than its owner may write to {}/open; chmod go-w {}/open"),
    "as /tmp is": (in_directory(0o1777), "anybody may put a file into {}/open; choose a directory of your own"),
    "a directory of nobody's": (in_directory(0o755, NOBODY), "{}/open belongs to user 65534, who may put anything"),
    "below one for all": (below(0o777), "others than its owner may write to {}/open; chmod go-w {}/open"),
    "a link into one for all": (linked(in_directory(0o777)), "others than its owner may write to {}/open"),
    "a link into one as /tmp is": (linked(in_directory(0o1777)), "anybody may put a file into {}/open"),
    "a link into nobody's": (linked(in_directory(0o755, NOBODY)), "{}/open belongs to user 65534"),
    "nobody's link": (his_link, "belongs to user 65534"),
    "nobody's file": (given(0o600, NOBODY), "belongs to user 65534, who may put anything there; chown 0 {}/store.db"),
    "a file for all": (given(0o666), "others than its owner may write to {}/store.db; chmod go-w {}/store.db"),
    "a file for its group": (given(0o660), "others than its owner may write to {}/store.db; chmod go-w"),
    "nobody's log": (given(0o644, NOBODY, "-wal"), "{}/store.db-wal belongs to user 65534"),
    "nobody's shared memory": (given(0o644, NOBODY, "-shm"), "{}/store.db-shm belongs to user 65534"),
    "nobody's journal": (given(0o644, NOBODY, "-journal"), "{}/store.db-journal belongs to user 65534"),
    "a log for all": (given(0o666, 0, "-wal"), "others than its owner may write to {}/store.db-wal"),
}


def state(place: Path) -> dict[str, tuple[int, int, str | bytes]]:
    """All there is below: names, modes, owners, contents."""
    found: dict[str, tuple[int, int, str | bytes]] = {}
    for each in sorted(place.rglob("*")):
        look = each.lstat()
        content = str(each.readlink()) if each.is_symlink() else each.read_bytes() if each.is_file() else ""
        found[str(each)] = (look.st_mode, look.st_uid, content)
    return found


@pytest.mark.parametrize("ready", [True, False], ids=["there", "to be made"])
@pytest.mark.parametrize("way", REFUSED)
def test_a_store_that_another_user_can_have_put_there_is_refused(
    place: Path, tmp_path: Path, way: str, ready: bool
) -> None:
    make, words = REFUSED[way]
    if ready:
        fill(tmp_path / "ready.db", "web")
    path = make(place, tmp_path / "ready.db")
    before = state(place)
    acts: list[Callable[[Path], object]] = [lambda path: Store(path, ranges=RANGES)]
    if path.exists():
        acts.append(delete_store)
    for act in acts:
        with pytest.raises(StoreError) as caught:
            act(path)
        told = str(caught.value)
        assert told.startswith(f"{path}: ")
        assert words.format(place, place).removeprefix(f"{path} ") in told
        assert told.endswith(", or choose another store with --store")
        assert "\n" not in told
    assert state(place) == before


@pytest.mark.parametrize("ready", [True, False], ids=["there", "to be made"])
def test_a_link_of_ones_own_is_as_good_as_the_file(place: Path, ready: bool) -> None:
    """SQLite puts its files beside the file, not beside the link."""
    target, link = place / "elsewhere" / "data.db", place / "store.db"
    link.symlink_to(target)
    if ready:
        fill(target, "web")
        target.chmod(0o644)
    with Store(link, ranges=RANGES) as store:
        apply(store, service("more"))
        assert modes(target) == {"data.db": 0o600, "data.db-wal": 0o600, "data.db-shm": 0o600}
    assert names(target) == names(link) == {"more"} | ({"web"} if ready else set())
    assert delete_store(link)
    assert [each.name for each in place.rglob("*")] == ["elsewhere"], "nothing of it is left, nor the link"


def test_another_user_has_a_store_of_his_own(place: Path) -> None:
    home = place / "home"
    home.mkdir()
    give(home, 0o755, NOBODY)
    assert as_nobody(lambda: names(fill(home / "deep" / "store.db", "his"))) == {"his"}
    assert mode_of(home / "deep") == 0o700
    with pytest.raises(StoreError, match="belongs to user 65534"):
        Store(home / "deep" / "store.db", ranges=RANGES)


def test_the_program_says_what_to_do(place: Path) -> None:
    program = Program(place)
    program.ok("create", "service", "nodeport", "web", "--tcp=80")
    place.chmod(0o1777)
    for words in (["get", "services"], ["create", "service", "nodeport", "more", "--tcp=80"], ["delete", "svc/web"]):
        answer = program(*words)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err == (
            f"error: {program.store}: anybody may put a file into {place}; choose a directory of your own, "
            "or choose another store with --store\n"
        )
    place.chmod(0o755)
    assert program.ok("get", "services", "-o", "name") == "service/web\n"


def test_a_store_that_is_replaced_by_another_users_is_told_and_not_read(place: Path) -> None:
    """By whoever could write to the directory for a moment: what was read last stays."""
    path = fill(place / "store.db", "web")
    forged = fill(place / "forged.db", "forged")
    give(forged, 0o644, NOBODY)
    source = StoreSource(Config(store=str(path)))
    try:
        assert {change.ref.name for change in source.take().changes} == {"web"}
        path.rename(place / "away.db")
        forged.rename(path)
        assert not source.take()
        [problem] = source.problems()
        assert "belongs to user 65534" in problem
        assert "what was read last is served" in problem
        (place / "away.db").rename(path)
        changes = source.take()
        assert (changes.whole, {change.ref.name for change in changes.changes}) == (True, {"web"})
        assert source.problems() == ()
    finally:
        source.close()
