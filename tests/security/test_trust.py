"""Which files are believed, held against a real second user who tries to change what they say (trust.py)."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nodeport_nft.store.sqlite.guard import store_fault
from nodeport_nft.trust import directory_fault, file_fault, neighbour_fault
from tests.security.others import NOBODY, as_nobody, common_place, give

HIS = "his words"


@pytest.fixture
def place() -> Iterator[Path]:
    with common_place() as made:
        yield made


def put(path: Path, mode: int = 0o644, owner: int = 0, group: int | None = None) -> Path:
    """A file."""
    path.write_text("root's words")
    return give(path, mode, owner, group)


def put_directory(path: Path, mode: int = 0o755, owner: int = 0, group: int | None = None) -> Path:
    path.mkdir()
    return give(path, mode, owner, group)


def put_link(path: Path, target: str | Path, owner: int = 0) -> Path:
    path.symlink_to(target)
    return give(path, 0, owner)


def attack(path: Path, file: Path) -> None:
    """Everything that one can do to make ``path``, which leads to ``file``, say something else."""

    def open_up(step: Path) -> None:
        step.chmod(0o777)

    def write(step: Path) -> None:
        with os.fdopen(os.open(step, os.O_WRONLY | os.O_TRUNC), "w") as there:
            there.write(HIS)

    def replace(step: Path) -> None:
        new = step.with_name(f"{step.name}.new")
        new.write_text(HIS)
        new.chmod(0o644)
        new.rename(step)

    def replace_directory(step: Path) -> None:
        step.rename(step.with_name(f"{step.name}.away"))
        step.mkdir()
        (step / file.name).write_text(HIS)

    for step in dict.fromkeys((path, file, file.parent, path.parent)):
        for act in (open_up, write, replace, replace_directory):
            if path.read_text() == HIS:
                return
            with suppress(OSError):
                act(step)


def attack_all(paths: dict[Path, Path]) -> None:
    for path, file in paths.items():
        attack(path, file)


WAYS = [
    (directory_mode, directory_owner, file_mode, file_owner, linked)
    for directory_mode in (0o755, 0o775, 0o777, 0o1777, 0o1775)
    for directory_owner in (0, NOBODY)
    for file_mode in (0o644, 0o664, 0o646)
    for file_owner in (0, NOBODY)
    for linked in ("", "by root", "by nobody")
]


def test_what_another_user_can_change_is_not_believed_and_what_he_cannot_is(place: Path) -> None:
    """All that is group-writable is writable for him: the group is his."""
    paths: dict[Path, Path] = {}
    for number, (directory_mode, directory_owner, file_mode, file_owner, linked) in enumerate(WAYS):
        directory = put_directory(place / f"{number}")
        path = put(directory / "file", file_mode, file_owner, NOBODY)
        give(directory, directory_mode, directory_owner, NOBODY)
        if linked:
            hall = put_directory(place / f"{number}-links", 0o1777)
            path = put_link(hall / "link", path, 0 if linked == "by root" else NOBODY)
        paths[path] = directory / "file"
    faults = {path: file_fault(path) for path in paths}
    alone = [path for path in paths if not directory_fault(path.parent)]
    assert {path: neighbour_fault(path) for path in alone} == {path: faults[path] for path in alone}
    as_nobody(lambda: attack_all(paths))
    changed = {path for path in paths if path.resolve().read_text() == HIS}
    assert changed <= {path for path, fault in faults.items() if fault}
    assert len(changed) > len(paths) / 2, "he did try"
    assert "" in faults.values(), "not everything is refused"


def free_names(mode: int) -> Callable[[Path], Path]:
    return lambda place: put_directory(place / "open", mode) / "file"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (free_names(0o1777), "anybody may put a file into {}/open; choose a directory of your own"),
        (free_names(0o755), ""),
        (lambda place: place / "none" / "file", ""),
        (lambda place: free_names(0o1777)(place) / "deep" / "file", "anybody may put a file into {}/open; choose"),
        (
            lambda place: put(place / "file", 0o666),
            "others than its owner may write to {0}/file; chmod go-w {0}/file",
        ),
        (lambda place: put(place / "file", 0o644, NOBODY), "{0}/file belongs to user 65534, who may put anything"),
        (lambda place: put_directory(place / "file"), "{}/file is not a regular file; name another"),
        (lambda place: put_link(place / "link", "/dev/null"), "/dev/null is not a regular file; name another"),
        (lambda place: put_link(place / "link", free_names(0o1777)(place)), "anybody may put a file into {}/open"),
        (lambda place: put_link(place / "link", free_names(0o755)(place)), ""),
        (lambda place: put_link(put_directory(place / "in") / "link", "../file"), ""),
        (lambda place: put_link(place / "link", put(place / "file", 0o644, NOBODY)), "{0}/file belongs to user"),
    ],
)
def test_every_fault_is_told_with_its_remedy(place: Path, make: Callable[[Path], Path], words: str) -> None:
    path = make(place)
    fault = file_fault(path)
    assert fault.startswith(words.format(place))
    assert bool(fault) == bool(words)
    if not directory_fault(path.parent):
        assert neighbour_fault(path) == fault


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o702])
def test_a_directory_is_for_one_alone(place: Path, mode: int) -> None:
    directory = put_directory(place / "open", mode)
    assert f"{directory}" in directory_fault(directory)
    assert directory_fault(give(directory, 0o755)) == ""
    assert "belongs to user 65534" in directory_fault(give(directory, 0o755, NOBODY))
    assert "is not a directory" in directory_fault(put(place / "file"))


def test_whoever_asks_believes_himself_and_root_but_nobody_else(place: Path) -> None:
    own = put(put_directory(place / "own", 0o700, NOBODY) / "file", 0o600, NOBODY)
    roots = put(place / "roots")
    third = put(place / "third", 0o644, 65533)
    assert as_nobody(lambda: [file_fault(path) for path in (own, roots)]) == ["", ""]
    assert "belongs to user 65533" in as_nobody(lambda: file_fault(third))
    assert "belongs to user 65534" in file_fault(own)


def test_links_without_end_are_an_error(place: Path) -> None:
    put_link(place / "a", "b")
    put_link(place / "b", "a")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        file_fault(place / "a")


def test_the_way_to_a_store_is_not_walked_again_for_each_file_beside_it(place: Path) -> None:
    """Which matters on a network's file system: its directory has been judged, and they lie in it."""

    def looks(path: Path) -> int:
        """How often something is looked at to judge a store there."""
        count = 0

        def heard(_frame: object, event: str, called: object) -> None:
            nonlocal count
            count += event == "c_call" and getattr(called, "__name__", "") in ("stat", "lstat")

        before = sys.getprofile()
        sys.setprofile(heard)
        try:
            assert store_fault(path) == ""
        finally:
            sys.setprofile(before)
        return count

    near = put_directory(place / "d")
    far = near
    for _ in range(10):
        far = put_directory(far / "d")
    for directory in (near, far):
        for name in ("store.db", "store.db-wal", "store.db-shm"):
            put(directory / name, 0o600)
    assert 10 <= looks(far / "store.db") - looks(near / "store.db") <= 30, (
        "the file's way, its links, its directory's"
    )
