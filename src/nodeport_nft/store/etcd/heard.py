"""What etcd says of the cluster besides its objects, for commands: nodes that count as lost, and probes that fail.

A daemon follows the same keys and has timers for what it has seen itself. A command comes and goes, so it goes by the
time at which a node was found to be lost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from nodeport_nft.model import MEMBER, PROBE_FAILURE, Member, Parsed, ProbeFailure, Ref
from nodeport_nft.store.etcd.values import KeyValue

MEMBERS = "members/"
_KNOWN, _LIVE, _PROBES = "members/known/", "members/live/", "members/probes/"


def heard(found: Iterable[KeyValue], now: float, grace: float) -> Iterator[Parsed]:
    """What the keys below ``MEMBERS`` say at the Unix time ``now``; what is damaged says nothing.

    ``grace``: how many seconds a node may be away before it counts as lost.
    """
    values = {each.key: each.value for each in found}
    for key, value in values.items():
        if key.startswith(_KNOWN):
            name = key.removeprefix(_KNOWN)
            lost_at = _seconds(value, "lostAt")
            is_lost = f"{_LIVE}{name}" not in values and 0 < lost_at <= now - grace
            yield Ref(MEMBER, "", name), (Member(name, lost_at if is_lost else 0.0),)
        elif key.startswith(_PROBES):
            namespace, _, text = key.removeprefix(_PROBES).partition("/")
            try:
                failure = ProbeFailure(namespace, ip_address(text), _seconds(value, "since"))
            except ValueError:
                continue
            yield Ref(PROBE_FAILURE, namespace, text), (failure,)


def _seconds(value: bytes, key: str) -> float:
    """A time in a JSON mapping (Unix time, seconds); 0.0 if there is none."""
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        return 0.0
    time = said.get(key) if isinstance(said, dict) else None
    return float(time) if isinstance(time, int | float) and math.isfinite(time) else 0.0
