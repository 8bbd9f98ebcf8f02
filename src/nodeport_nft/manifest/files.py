"""Paths → texts: files, directories and standard input, each bounded before it is read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from nodeport_nft.manifest.problems import Problem

STDIN = "-"
_SUFFIXES = (".yaml", ".yml", ".json")
_SPLIT = "split it, or raise the document size limit"


def read_texts(paths: Sequence[str], max_bytes: int, stdin: BinaryIO | None) -> Iterator[tuple[str, str | Problem]]:
    """Each file's name and its text, or the problem that kept it from being read; never raises.

    A directory stands for the ``*.yaml``, ``*.yml`` and ``*.json`` files in it and below, in the order of their
    names. Names with a leading dot are left out: editors and ConfigMap mounts keep second copies there.
    ``max_bytes`` is the most a file, or standard input, may hold.
    """
    for path in paths:
        if path == STDIN:
            yield "<stdin>", _read(sys.stdin.buffer if stdin is None else stdin, "<stdin>", max_bytes)
            continue
        for name in _files(path):
            yield (name, read_text(name, max_bytes)) if isinstance(name, str) else (name.source, name)


def _files(path: str) -> Iterator[str | Problem]:
    """The files that ``path`` stands for: itself, or what a directory holds; directories that cannot be read."""
    failed: list[Problem] = []

    def note(error: OSError) -> None:
        failed.append(unreadable(str(error.filename), error))

    try:
        is_directory = Path(path).is_dir()
    except (ValueError, OSError):  # a NUL in the name, a directory on the way that may not be searched
        is_directory = False
    if not is_directory:
        yield path
        return
    found = 0
    for directory, names in read_tree(path, note):
        for name in names:
            file = Path(directory) / name
            if file.is_file():
                found += 1
                yield str(file)
    if not found and not failed:
        failed.append(
            Problem(path, "", "", f"holds no file ending in {', '.join(_SUFFIXES)}; name the files themselves")
        )
    yield from failed


def read_tree(path: str, failed: Callable[[OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """A directory and those below it, each with the names of its manifests, in the order in which they are read.

    Links to directories are not entered. A name may stand for anything but a directory, and for nothing at all.
    ``failed`` is told what cannot be listed.
    """
    for directory, directories, names in os.walk(path, onerror=failed):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        yield directory, sorted(name for name in names if is_manifest(name))


def is_manifest(name: str) -> bool:
    """Whether a file of this name in a directory is read."""
    return name.endswith(_SUFFIXES) and not name.startswith(".")


def read_text(name: str, max_bytes: int, *, remedy: str = _SPLIT) -> str | Problem:
    """A file's text, or the problem that kept it from being read; never raises.

    ``remedy`` is what to do about a file of more than ``max_bytes``.
    """
    try:
        with Path(name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # 0 for pipes and devices, which are read up to the limit
            if size > max_bytes:
                return _too_large(name, max_bytes, remedy)
            return _read(file, name, max_bytes, remedy)
    except (OSError, ValueError) as error:
        return unreadable(name, error)


def _read(file: BinaryIO, name: str, max_bytes: int, remedy: str = _SPLIT) -> str | Problem:
    try:
        content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        return unreadable(name, error)
    if len(content) > max_bytes:
        return _too_large(name, max_bytes, remedy)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "binary"
        byte = content[error.start]
        return Problem(
            f"{name}:{line}", "", "", f"byte 0x{byte:02x} is not UTF-8 ({what} content?); save it as UTF-8 text"
        )


def unreadable(name: str, error: Exception) -> Problem:
    """What is wrong with a path that cannot be read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Problem(name, "", "", f"cannot be read: {reason}; check the path and its permissions")


def _too_large(name: str, max_bytes: int, remedy: str) -> Problem:
    return Problem(name, "", "", f"is larger than {max_bytes} bytes; {remedy}")
