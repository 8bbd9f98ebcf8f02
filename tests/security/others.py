"""Other users of the machine: a second one for real, and places that both can reach."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, overload

import pytest

NOBODY = 65534
"""The number of the user and of the group ``nobody``, who owns nothing on this machine."""

Result = TypeVar("Result")


@overload
def as_nobody(what: Callable[[], Result]) -> Result: ...
@overload
def as_nobody(what: Sequence[str | Path]) -> subprocess.CompletedProcess[str]: ...
def as_nobody(
    what: Callable[[], Result] | Sequence[str | Path],
) -> Result | subprocess.CompletedProcess[str]:
    """Let the user nobody do it, in a process of his own: call a function, whose result or exception comes back, or
    run a program, whatever comes of it. Without root's rights the test is skipped, but fails in CI.
    """
    need_root()
    if callable(what):
        return _call(what)
    return subprocess.run(
        [str(word) for word in what],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def need_root() -> None:
    """Skip the test where there can be no second user; fail in CI."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI must run the tests with a second user as root")
        pytest.skip("a second user needs root's rights")


@contextmanager
def common_place() -> Iterator[Path]:
    """A directory of root's that everybody may enter and list, at the end of a way that root alone can change.

    Not pytest's ``tmp_path``, into which nobody but its owner comes.
    """
    need_root()
    place = Path(tempfile.mkdtemp(prefix="nodeport-nft-", dir="/tmp"))
    try:
        place.chmod(0o755)
        yield place
    finally:
        shutil.rmtree(place)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Under this umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def give(path: Path, mode: int, owner: int = 0, group: int | None = None) -> Path:
    """The file or directory, with this mode, owner and group (default: the owner's own)."""
    os.chown(path, owner, owner if group is None else group, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(mode)
    return path


def mode_of(path: Path) -> int:
    """The permission bits of a file, as ``chmod`` takes them."""
    return path.lstat().st_mode & 0o7777


def _call(function: Callable[[], Result]) -> Result:
    """In a forked child: nobody may have no way to the interpreter, but all that he needs is loaded already."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.chdir("/")
            try:
                answer: tuple[bool, object] = True, function()
            except BaseException as error:
                answer = False, error
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(answer, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        sent = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "nobody's process ended before it answered"
    well, result = pickle.loads(sent)
    if not well:
        raise result
    return result  # type: ignore[no-any-return]
