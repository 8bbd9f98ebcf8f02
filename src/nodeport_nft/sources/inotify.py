"""inotify(7) where there may be none left: what the matter is, and how often to look instead."""

from __future__ import annotations

import errno
import os

from asyncinotify import Inotify

from nodeport_nft.problems import Problem
from nodeport_nft.text.files import short_path

POLL_SECONDS = 5.0
"""How often to look at what nobody tells of."""

_REMEDIES = {
    errno.EMFILE: "raise the sysctl fs.inotify.max_user_instances, or the limit of open files",
    errno.ENFILE: "raise the sysctl fs.file-max",
    errno.ENOSPC: "raise the sysctl fs.inotify.max_user_watches",
}


def open_inotify() -> Inotify:
    """An instance. Raises OSError where the system has none left."""
    return Inotify(sync_timeout=0, cache_size=256)


def is_exhausted(error: OSError) -> bool:
    """Whether the system has no more instances or watches."""
    return error.errno in _REMEDIES


def unwatched(path: str | os.PathLike[str], error: OSError, seconds: float = POLL_SECONDS) -> str:
    """Why changes at a path are noticed late, by looking every so many seconds, with the remedy."""
    whats = {errno.EMFILE: "no inotify instance is left", errno.ENOSPC: "no inotify watch is left"}
    what = whats.get(error.errno or 0, error.strerror or str(error))
    remedy = _REMEDIES.get(error.errno or 0, "check the path")
    return str(
        Problem(
            short_path(os.fspath(path)),
            "",
            "",
            f"cannot be watched: {what}; it is looked at every {seconds:g} s; {remedy}",
        )
    )
