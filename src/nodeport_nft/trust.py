"""Which files may be believed: those that nobody but root and the user who reads them can have written.

A file is as trustworthy as the whole way to it. Whoever can write to a directory of it can put another file there,
and whoever owns a directory can give himself the right to. So every step counts, those of symbolic links as well.
Once all of them hold, nobody else can change anything between the look and the use: paths may be used as they are.

Sources: path_resolution(7), inode(7) (the sticky bit), user_namespaces(7) (owners without a name).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # as many as the kernel follows


def file_fault(path: str | Path) -> str:
    """Why the file at ``path`` may not be believed, with the remedy; "" where it may be, or where there is none.

    A free name in a directory such as ``/tmp``, where anybody may take it first, is a fault; so is anything but a
    regular file. Raises OSError for what cannot be looked at.
    """
    return _fault(path, directory=False)


def neighbour_fault(path: Path) -> str:
    """As ``file_fault``, of a file in a directory that ``directory_fault`` believes: the way is not walked again.

    That of a link is, for it may lead anywhere.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return ""
    if stat.S_ISLNK(found.st_mode):
        return file_fault(path)
    return _step_fault(path, found, _believed(), wanted=stat.S_IFREG)


def directory_fault(path: str | Path, *, may_be_free: bool = False) -> str:
    """Why what lies in the directory at ``path`` may not be believed, as ``file_fault`` says it.

    Nobody else may write to it, with a sticky bit or without: names that are free would be anybody's.
    ``may_be_free``: it is none that the directory itself is yet to be made where anybody may make it, but nobody can
    take it away from who did (as in a /run that is a plain tmpfs); look again at what was made.
    """
    return _fault(path, directory=True, may_be_free=may_be_free)


def open_directory_fault(descriptor: int) -> str:
    """The same of a directory that is open already, whatever way led to it."""
    found = os.fstat(descriptor)
    if found.st_uid not in _believed():
        return f"belongs to user {found.st_uid}, who may put anything there"
    return "others than its owner may write to it" if found.st_mode & _WRITABLE else ""


def _believed() -> set[int]:
    return {0, os.geteuid(), Path("/").lstat().st_uid}  # "/" is nobody's where its owner has no name in here


def _fault(path: str | Path, *, directory: bool, may_be_free: bool = False) -> str:
    believed = _believed()
    above = Path("/")
    for step, found, last in _way(path):
        if found is None:
            mode = above.lstat().st_mode
            open_to_all = mode & _WRITABLE and not (may_be_free and mode & stat.S_ISVTX)
            return f"anybody may put a file into {above}; choose a directory of your own" if open_to_all else ""
        wanted = stat.S_IFDIR if directory else stat.S_IFREG
        if fault := _step_fault(step, found, believed, wanted=wanted if last else 0):
            return fault
        if not stat.S_ISLNK(found.st_mode):
            above = step
    return ""


def _step_fault(step: Path, status: os.stat_result, believed: set[int], *, wanted: int) -> str:
    """What is wrong with one step of a way; ``wanted`` is the type of the last one, 0 for those on the way."""
    if status.st_uid not in believed:
        return f"{step} belongs to user {status.st_uid}, who may put anything there; chown {os.geteuid()} {step}"
    if stat.S_ISLNK(status.st_mode):
        return ""
    if wanted and stat.S_IFMT(status.st_mode) != wanted:
        return f"{step} is not a {'directory' if wanted == stat.S_IFDIR else 'regular file'}; name another"
    is_sticky = status.st_mode & stat.S_ISVTX
    if not status.st_mode & _WRITABLE or (is_sticky and not wanted):
        return ""
    if is_sticky:
        return f"anybody may put a file into {step}; choose a directory of your own"
    if os.statvfs(step).f_flag & os.ST_RDONLY:  # theirs need not be, and kubelet gives pods ConfigMaps with mode 0777
        remedy = "it is read-only for us alone: mount one that nobody else may write to, in a pod a projected volume"
    else:
        remedy = f"chmod go-w {step}"
    return f"others than its owner may write to {step}; {remedy}"


def _way(path: str | Path) -> Iterator[tuple[Path, os.stat_result | None, bool]]:
    """Each directory, link and file that leads to ``path``, as the kernel visits them, and whether it is the last.

    None for the first one that is missing, which ends it. "/" is taken for granted.
    """
    ahead = list(reversed(Path(path).absolute().parts[1:]))
    here, links = Path("/"), 0
    while ahead:
        name = ahead.pop()
        if name == "..":
            here = here.parent
            continue
        step = here / name
        try:
            found = step.lstat()
        except FileNotFoundError:
            yield step, None, not ahead
            return
        yield step, found, not ahead
        if not stat.S_ISLNK(found.st_mode):
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.readlink()
        here = Path("/") if target.is_absolute() else here
        ahead += [part for part in reversed(target.parts) if part != "/"]
