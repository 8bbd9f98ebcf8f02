"""Whether a kube-proxy is at work in this network namespace, as far as processes can be seen from here.

In a container without the host's process ids none can: then it is its table that tells, which comes back.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from nodeport_nft.kernel.host.node_lock import network_namespace

_NAME = "kube-proxy\n"


def running() -> tuple[int, ...]:
    """The process ids of all that there are in the caller's network namespace."""
    here = network_namespace()
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError):  # it has just ended
            if each.name.isdecimal() and _is_one(each, here):
                found.append(int(each.name))
    return tuple(sorted(found))


def _is_one(process: Path, namespace: int) -> bool:
    """Raises OSError where it has ended."""
    if (process / "comm").read_text(encoding="utf-8", errors="replace") != _NAME:
        return False
    try:
        return (process / "ns" / "net").stat().st_ino == namespace
    except PermissionError:  # it has more capabilities than we have: then it is in the node's own, as a rule
        return True
