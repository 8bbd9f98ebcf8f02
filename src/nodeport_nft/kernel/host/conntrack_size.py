"""How full the table of tracked connections is. Once it is full, new connections are dropped (nf_conntrack)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_ROOM = Path("/proc/sys/net/netfilter")


class Tracked(NamedTuple):
    """The connections that are tracked in this network namespace, and how many there may be on the machine."""

    entries: int
    limit: int


def read_tracked() -> Tracked | None:
    """How it is now; None where the kernel tracks nothing, or does not say."""
    try:
        entries, limit = (int((_ROOM / f"nf_conntrack_{name}").read_text("ascii")) for name in ("count", "max"))
    except (OSError, ValueError):
        return None
    return Tracked(entries, limit)
