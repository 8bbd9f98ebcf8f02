"""A hosts file of ours in its directory: written over nothing but its like, and removed if it still is one.

Whoever may write to the directory could put another file in its place, and have root replace or remove that. So it
lies where nobody else may write. The file itself is for everybody to read (0644).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from nodeport_nft.errors import KernelError
from nodeport_nft.hosts import MARKER, kept_lines
from nodeport_nft.kernel.host.directory import opened, read, replace
from nodeport_nft.model import ObjectName, Ref

_DIRECTORY = "the hosts file's directory"
_MAX_BYTES = 256 << 20


def check_hosts_path(path: Path) -> None:
    """Raise KernelError where a hosts file of ours must not be written: over anything that is not one already."""
    path = path.absolute()
    if not path.parent.is_dir():
        raise KernelError(f"{path}: there is no directory {path.parent}; make it, or choose another --hosts-file")
    with opened(path.parent, _DIRECTORY) as directory:
        _check_name(directory, path)


def write_hosts(path: Path, text: str) -> bool:
    """Replace our hosts file; whether it changed. Raises KernelError over a file that is not ours."""
    with opened(path.parent, _DIRECTORY) as directory:
        _check_name(directory, path)
        wanted = text.encode()
        if _begins(directory, path.name, len(wanted) + 1) == wanted:
            return False
        try:
            replace(directory, path.name, text, mode=0o644)
        except OSError as error:
            raise KernelError(f"{path}: cannot be written: {error.strerror}") from error
        return True


def kept_hosts_lines(path: Path, unreadable: Collection[Ref]) -> tuple[str, ...]:
    """The lines that our hosts file has for Services which cannot be read: their names still count.

    Raises KernelError where others could write.
    """
    keys = {ObjectName(ref.namespace, ref.name) for ref in unreadable if ref.kind == "Service"}
    if not keys:
        return ()
    with opened(path.absolute().parent, _DIRECTORY) as directory:
        text = _begins(directory, path.name, _MAX_BYTES) or b""
    return kept_lines(text.decode(errors="replace"), keys)


def remove_hosts(path: Path) -> bool:
    """Remove our hosts file; whether there was one. Raises KernelError where others could write, and OSError."""
    try:
        with opened(path.parent, _DIRECTORY) as directory:
            if not _is_ours(directory, path.name):
                return False
            os.unlink(path.name, dir_fd=directory)
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def _check_name(directory: int, path: Path) -> None:
    try:
        is_ours = _is_ours(directory, path.name)
    except FileNotFoundError:
        return
    if not is_ours:
        raise KernelError(
            f"{path}: was not written by nodeport-nft and is left as it is; choose another --hosts-file, "
            "or move this one away"
        )


def _is_ours(directory: int, name: str) -> bool:
    return read(directory, name, len(MARKER)) == MARKER.encode()


def _begins(directory: int, name: str, most: int) -> bytes | None:
    try:
        return read(directory, name, most)
    except FileNotFoundError:
        return None
