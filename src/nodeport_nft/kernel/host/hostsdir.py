"""The directory that dnsmasq reads with ``--hostsdir``: a hosts file of ours for each namespace.

dnsmasq watches it with inotify and takes what is renamed into it, or deleted; measured with 2.90 (Debian 12), it
forgets the names that a replaced or deleted file had. It passes over files whose names begin with a dot, as they do
while they are written. It runs as a user of its own: so directory and files are for everybody to read, and nobody
else may write.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nodeport_nft.errors import KernelError
from nodeport_nft.hosts import MARKER
from nodeport_nft.kernel.host.directory import opened, read, replace

_WHAT = "dnsHostsDir"
_MAX_BYTES = 256 << 20


def make_names_directory(path: Path) -> None:
    """Make it where it is missing. Raises KernelError where others could write, or its parent is missing."""
    if path.is_dir():
        return
    with _told(path), opened(path.parent, _WHAT) as above:
        os.mkdir(path.name, 0o755, dir_fd=above)
        os.chmod(path.name, 0o755, dir_fd=above)  # noqa: S103  # to be read by all, whatever the umask is


def read_names(path: Path) -> dict[str, str]:
    """What our files say, by namespace. Raises KernelError."""
    with _told(path), opened(path, _WHAT) as directory:
        names = os.listdir(directory)  # noqa: PTH208  # of a descriptor
        return {name: text for name in names if (text := _ours(directory, name)) is not None}


def write_names(path: Path, files: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    """Let the files of these namespaces have these texts, "" for none: each replaced at once if it differs.

    How many did; and which could not be written, and why. What is not ours is left as it is. Raises KernelError.
    """
    written, failed = 0, {}
    with _told(path), opened(path, _WHAT) as directory:
        for name, text in files.items():
            try:
                written += _write(directory, name, text)
            except (KernelError, OSError) as error:
                why = f"cannot be written: {error.strerror}" if isinstance(error, OSError) else error
                failed[name] = f"{path / name}: {why}"
    return written, failed


def remove_names(path: Path) -> bool:
    """Remove our files; whether there were any. The directory stays: dnsmasq watches it. Raises KernelError."""
    if not path.is_dir():
        return False
    found = read_names(path)
    _, failed = write_names(path, dict.fromkeys(found, ""))
    if failed:
        raise KernelError("; ".join(failed.values()))
    return bool(found)


def closed_to_others(path: Path) -> str:
    """Why another user cannot read what is in the directory, with the remedy; "" where everybody can."""
    for step in (path.absolute(), *path.absolute().parents):
        wanted = 0o005 if step == path.absolute() else 0o001
        try:
            if step.stat().st_mode & wanted != wanted:
                rights = "rx" if wanted == 0o005 else "x"
                return f"dnsHostsDir {path}: dnsmasq, which is another user, cannot read it; chmod o+{rights} {step}"
        except OSError:
            return ""
    return ""


def _ours(directory: int, name: str) -> str | None:
    """What a file of ours says; None where it is another's."""
    if name.startswith("."):
        return None
    try:
        found = read(directory, name, _MAX_BYTES)
    except OSError:
        return None
    return found.decode(errors="replace") if found is not None and found.startswith(MARKER.encode()) else None


def _write(directory: int, name: str, text: str) -> bool:
    """Whether it changed. Raises KernelError, OSError."""
    before = _ours(directory, name)
    if before is None:
        try:
            os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            raise KernelError("was not written by nodeport-nft and is left as it is; move it away")
    if text == (before or ""):
        return False
    if text:
        replace(directory, name, text, mode=0o644, durable=False)  # after a power cut it is looked at again
    else:
        os.unlink(name, dir_fd=directory)
    return True


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Name the directory where the system refuses something."""
    try:
        yield
    except FileNotFoundError as error:
        missing = next((step for step in (path, *path.parents) if step.parent.is_dir()), path)
        raise KernelError(f"{_WHAT} {path}: there is no {missing}; make it, or name another directory") from error
    except OSError as error:
        raise KernelError(f"{_WHAT} {path}: {error.strerror}; name a directory that can be written to") from error
