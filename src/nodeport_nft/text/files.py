"""Paths → texts: files, directories and standard input, each bounded before it is read.

A directory may hold anything, and what stands there may be exchanged at any moment. So nothing in it is opened before
it is known to be a regular file (``_open_regular``): to open a pipe waits, and to open a device may do something.
What the user names himself is opened as it is: a pipe of his own shell is welcome there.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from nodeport_nft.problems import Problem
from nodeport_nft.text.steps import Steps

STDIN = "-"
_BOM_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SUFFIXES = (".yaml", ".yml", ".json")
_SPLIT = "split it, or raise the document size limit"
_NULL_DEVICE = os.makedev(1, 3)
_LONGEST_PATH = 250  # as a message quotes it; the rest of its line has to fit on, too
_LEASE_SECONDS = 60.0  # longer than the kernel lets anybody keep a lease (fs.lease-break-time: 45 s)
_LEASE_PAUSE = 0.2
_PART = 1 << 20  # of a file; a slow disk has 5 s for each
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
}
_OF_THE_KERNEL = frozenset({"proc", "sysfs", "debugfs", "tracefs", "cgroup", "cgroup2", "securityfs", "configfs"})


def read_texts(
    paths: Sequence[str], max_bytes: int, stdin: BinaryIO | None, steps: Steps | None = None
) -> Iterator[tuple[str, str | Problem]]:
    """Each file's name and its text, or the problem that kept it from being read; never raises.

    A directory stands for the ``*.yaml``, ``*.yml`` and ``*.json`` files in it and below, in the order of their
    names. Names with a leading dot are left out: editors and ConfigMap mounts keep second copies there.
    ``max_bytes`` is the most a file, or standard input, may hold.
    """
    steps = steps or Steps()
    for path in paths:
        if path == STDIN:
            yield "<stdin>", _read(sys.stdin.buffer if stdin is None else stdin, "<stdin>", max_bytes)
            continue
        steps.at(path)
        mode = _mode(path)
        if not stat.S_ISREG(mode):
            steps.done()  # a pipe may make us wait
        if stat.S_ISDIR(mode):
            yield from _read_directory(path, max_bytes, steps)
        else:
            text = read_text(path, max_bytes)
            steps.done()
            yield path, text


def _mode(path: str) -> int:
    try:
        return Path(path).stat().st_mode
    except (ValueError, OSError):  # whoever reads it says what the matter is
        return 0


def _read_directory(top: str, max_bytes: int, steps: Steps) -> Iterator[tuple[str, str | Problem]]:
    failed: list[Problem] = []
    found = 0
    pending = [top]
    while pending:
        directory = pending.pop()
        steps.at(directory)
        try:
            names, below = list_directory(directory)
        except OSError as error:
            failed.append(unreadable(directory, error))
            continue
        finally:
            steps.done()
        pending += [os.path.join(directory, name) for name in reversed(below)]  # noqa: PTH118 (thousands of them)
        for name, _ in names:
            file = str(Path(directory) / name)
            text = read_regular(file, max_bytes, steps, lease_seconds=_LEASE_SECONDS)
            if text is not None:
                found += 1
                yield file, text
    if not found and not failed:
        failed.append(
            Problem(
                short_path(top), "", "", f"holds no file ending in {', '.join(_SUFFIXES)}; name the files themselves"
            )
        )
    yield from ((problem.source, problem) for problem in failed)


def list_directory(path: str) -> tuple[list[tuple[str, bool]], list[str]]:
    """The names of a directory's manifests, each with whether it is a link, and of the directories in it; sorted.

    Links to directories are not entered: such a name counts as a manifest's, and may stand for anything at all.
    Raises OSError.
    """
    names: list[tuple[str, bool]] = []
    below: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_directory = entry.is_dir(follow_symlinks=False)
            except OSError:  # whoever looks at it is told
                is_directory = False
            if is_directory:
                below.append(entry.name)
            elif is_manifest(entry.name):
                names.append((entry.name, entry.is_symlink()))
    return sorted(names), sorted(below)


def is_manifest(name: str) -> bool:
    """Whether a file of this name in a directory is read."""
    return name.endswith(_SUFFIXES) and not name.startswith(".")


def read_text(name: str, max_bytes: int, *, remedy: str = _SPLIT) -> str | Problem:
    """The text of what the user names himself, be it a pipe, or the problem that kept it from being read.

    Never raises. ``remedy`` is what to do about a file of more than ``max_bytes``.
    """
    try:
        with Path(name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # 0 for pipes and devices, which are read up to the limit
            if size > max_bytes:
                return _too_large(name, max_bytes, remedy)
            return _read(file, name, max_bytes, remedy)
    except (OSError, ValueError) as error:
        return unreadable(name, error)


def read_regular(
    name: str, max_bytes: int, steps: Steps | None = None, *, real: str = "", lease_seconds: float = 0.0
) -> str | Problem | None:
    """The text of a file in a directory, or the problem that kept it from being read; never raises of its own.

    None where nothing counts: no file, a directory, a link to nothing or to /dev/null, which masks a file. ``real``
    is for ``steps`` alone. A lease of another process is waited for as long as ``lease_seconds``.
    """
    steps = steps or Steps()
    deadline = time.monotonic() + lease_seconds
    try:
        while True:
            steps.at(name, real)
            try:
                return _read_regular(name, max_bytes, lambda: steps.at(name, real))
            except BlockingIOError:  # our opening has asked for the lease already
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_LEASE_PAUSE)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return unreadable(name, error)
    finally:
        steps.done()


def _read_regular(name: str, max_bytes: int, goes_on: Callable[[], None]) -> str | Problem | None:
    opened = _open_regular(name)
    if not isinstance(opened, int):
        return opened
    with os.fdopen(opened, "rb", buffering=0) as file:
        found = os.fstat(file.fileno())
        if found.st_size > max_bytes:
            return _too_large(name, max_bytes, _SPLIT)
        content = bytearray()
        while len(content) <= max_bytes:
            goes_on()
            part = file.read(min(_PART, max_bytes + 1 - len(content)))
            if part is None:
                raise OSError(errno.EIO, "it makes its reader wait")
            if not part:
                break
            content += part
    return _decoded(name, bytes(content), max_bytes, _SPLIT)


def _open_regular(name: str) -> int | Problem | None:
    """A descriptor to read a regular file by, and nothing else. Raises OSError.

    O_PATH finds it without opening it; it is opened by that very descriptor, so that nobody can put something else in
    between. O_NONBLOCK: a lease (fcntl(2)) is not waited for. Sources: open(2), proc(5) on /proc/PID/fd.
    """
    found = os.open(name, os.O_PATH | os.O_CLOEXEC)
    try:
        looked = os.fstat(found)
        if not stat.S_ISREG(looked.st_mode):
            return not_regular(name, looked)
        if not looked.st_size and (kind := _kernel_file(looked)):
            # These call themselves regular; one like /proc/kmsg is emptied by whoever reads it, or makes him wait.
            text = f"is a file of the kernel's own ({kind}), no manifest; remove it"
            return Problem(short_path(name), "", "", text)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(found)


def not_regular(name: str, status: os.stat_result) -> Problem | None:
    """What is wrong with a manifest's name for something else; None for what counts for nothing."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR or (kind == stat.S_IFCHR and status.st_rdev == _NULL_DEVICE):
        return None
    what = _KINDS.get(kind, "something else")
    return Problem(
        short_path(name),
        "",
        "",
        f"is {what}, no file; move it elsewhere, or give it a name that ends in none of {', '.join(_SUFFIXES)}",
    )


def _kernel_file(status: os.stat_result) -> str:
    """The type of the kernel's own file system that a file stands on; "" for all others."""
    if os.major(status.st_dev):
        return ""
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    try:
        with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="replace") as table:
            for line in table:
                words = line.split()
                if words[2] == device:
                    kind = words[words.index("-") + 1]
                    return kind if kind in _OF_THE_KERNEL else ""
    except OSError:
        pass
    return ""


def _read(file: BinaryIO, name: str, max_bytes: int, remedy: str = _SPLIT) -> str | Problem:
    try:
        content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        return unreadable(name, error)
    return _decoded(name, content, max_bytes, remedy)


def _decoded(name: str, content: bytes, max_bytes: int, remedy: str) -> str | Problem:
    if len(content) > max_bytes:
        return _too_large(name, max_bytes, remedy)
    content = content.removeprefix(codecs.BOM_UTF8)
    if content.startswith(_BOM_UTF16) and not content.startswith(codecs.BOM_UTF32_LE):
        try:
            return content.decode("utf-16")  # as Windows PowerShell writes kubectl's output, and kubectl reads it
        except UnicodeDecodeError:
            pass
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = "UTF-16" if content.startswith(_BOM_UTF16) else "binary"
        byte = content[error.start]
        text = f"byte 0x{byte:02x} is not UTF-8 ({what} content?); save it as UTF-8 text"
        return Problem(f"{short_path(name)}:{line}", "", "", text)


def unreadable(name: str, error: Exception) -> Problem:
    """What is wrong with a path that cannot be read."""
    if isinstance(error, BlockingIOError):
        text = "another process holds a lease on it, which the kernel ends within 45 s (fs.lease-break-time)"
        return Problem(short_path(name), "", "", f"cannot be read: {text}; it can be read then")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Problem(short_path(name), "", "", f"cannot be read: {reason}; check the path and its permissions")


def short_path(path: str) -> str:
    """A path as messages name it: one of thousands of characters loses its middle."""
    if len(path) <= _LONGEST_PATH:
        return path
    return f"{path[: _LONGEST_PATH // 3]}…{path[-(_LONGEST_PATH - _LONGEST_PATH // 3 - 1) :]}"


def _too_large(name: str, max_bytes: int, remedy: str) -> Problem:
    return Problem(short_path(name), "", "", f"is larger than {max_bytes} bytes; {remedy}")
