"""Versions of what the program runs on, for ``version``; what is not there is None."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodeport_nft.model import IPAddress

_SECONDS = 5.0


def versions_here() -> dict[str, str | None]:
    """Python's, the kernel's, and those of nftables; the program nft is no need of ours, and good to look with."""
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "libnftables": _library(),
        "nft": _nft(),
    }


def daemon_version(address: tuple[IPAddress, int] | None) -> str | None:
    """That of the daemon which answers there."""
    from nodeport_nft.cli.status import NoDaemon, ask

    if address is None:
        return None
    try:
        return ask(*address, _SECONDS).version
    except NoDaemon:
        return None


def _library() -> str | None:
    """The file's name, which has its version, as "libnftables.so.1.1.0"."""
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    mapped = re.search(r"(/\S*/libnftables\.so[^\s/]*)$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    return os.path.realpath(mapped[1]).rpartition("/")[2] if mapped else None


def _nft() -> str | None:
    program = shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        return None
    try:
        said = subprocess.run(  # noqa: S603 (nft, by its path)
            [program, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    number = re.search(r"[0-9]+(\.[0-9]+)+", said)
    return number[0] if number else None
