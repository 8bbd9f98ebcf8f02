"""The directory that dnsmasq reads: ours in it is replaced and removed, and nothing else is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodeport_nft.errors import KernelError
from nodeport_nft.hosts import MARKER
from nodeport_nft.kernel.host.directory import replace
from nodeport_nft.kernel.host.hostsdir import make_names_directory, read_names, remove_names, write_names

OURS = f"{MARKER}\n10.96.0.1 a.default.svc.cluster.local\n"


def _written(path: Path) -> tuple[int, int]:
    """What changes with each write, and with no look at the file."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def test_what_is_the_same_is_not_written(tmp_path: Path) -> None:
    assert write_names(tmp_path, {"a": OURS, "b": OURS, "none": ""}) == (2, {})
    before = _written(tmp_path / "a")
    assert write_names(tmp_path, {"a": OURS, "b": OURS + "#\n"}) == (1, {})
    assert _written(tmp_path / "a") == before
    assert (tmp_path / "b").read_text() == OURS + "#\n"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"], "and no file that was being written"  # noqa: PTH208
    assert read_names(tmp_path) == {"a": OURS, "b": OURS + "#\n"}
    assert write_names(tmp_path, {"a": ""}) == (1, {})
    assert not (tmp_path / "a").exists()


def test_what_is_not_ours_stays_and_does_not_keep_the_rest_from_being_written(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(OURS)
    names = tmp_path / "names"
    names.mkdir()
    (names / "theirs").write_text("192.0.2.1 printer\n")
    (names / "empty").touch()
    (names / "link").symlink_to(elsewhere)
    (names / "dangling").symlink_to(tmp_path / "nowhere")
    (names / "folder").mkdir()
    os.mkfifo(names / "pipe")
    others = ("theirs", "empty", "link", "dangling", "folder", "pipe")
    written, failed = write_names(names, {**dict.fromkeys(others, OURS), "default": OURS})
    assert (written, sorted(failed)) == (1, sorted(others))
    assert all(f"{names / name}: was not written by nodeport-nft" in why for name, why in failed.items())
    assert read_names(names) == {"default": OURS}
    assert remove_names(names)
    assert sorted(path.name for path in names.iterdir()) == sorted(others)
    assert elsewhere.read_text() == OURS
    assert not (tmp_path / "nowhere").exists()
    assert not remove_names(names), "there is nothing more"


def test_a_directory_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert not remove_names(tmp_path / "gone" / "names")
    (tmp_path / "file").touch()
    assert not remove_names(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
@pytest.mark.parametrize("spoil", [lambda path: path.chmod(0o777), lambda path: os.chown(path, 12345, -1)])
def test_where_others_may_write_nothing_is_done(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]  # a table's
    names = tmp_path / "names"
    names.mkdir()
    write_names(names, {"default": OURS})
    spoil(names)
    for done in (lambda: write_names(names, {"default": ""}), lambda: remove_names(names), lambda: read_names(names)):
        with pytest.raises(KernelError, match=r"may (write to|put anything)"):
            done()
    with pytest.raises(KernelError, match=r"may (write to|put anything)"):
        make_names_directory(names / "deeper")
    assert (names / "default").read_text() == OURS


def test_what_was_cut_off_while_it_was_written_is_no_file_of_names(tmp_path: Path) -> None:
    """A name that begins with a dot: dnsmasq passes over it, and so do we."""
    (tmp_path / ".default.0123abcd").write_text(OURS)
    assert read_names(tmp_path) == {}
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(UnicodeEncodeError):
            replace(descriptor, "default", "\ud800", mode=0o644, durable=False)
    finally:
        os.close(descriptor)
    assert [path.name for path in tmp_path.iterdir()] == [".default.0123abcd"]
