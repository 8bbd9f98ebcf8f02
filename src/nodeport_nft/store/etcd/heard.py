"""What etcd says of the cluster besides its objects, for commands: nodes that count as lost, and probes that fail.

A daemon follows the same keys and has timers for what it has seen itself. A command comes and goes, so it goes by the
time at which a node was found to be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from nodeport_nft.model import Member, Parsed
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.registration import member_ref, probe_ref, read_known, read_probe
from nodeport_nft.store.etcd.values import KeyValue


def heard(keys: Iterable[KeyValue], now: float, grace: float) -> Iterator[Parsed]:
    """What the keys below ``MEMBERS`` say at the Unix time ``now``; what is damaged says nothing.

    ``grace``: how many seconds a node may be away before it counts as lost.
    """
    values = {each.key: each.value for each in keys}
    for key, value in values.items():
        with suppress(ValueError):
            if key.startswith(layout.KNOWN):
                name = key.removeprefix(layout.KNOWN)
                lost_at = read_known(name, value)
                is_lost = f"{layout.LIVE}{name}" not in values and 0 < lost_at <= now - grace
                yield member_ref(name), (Member(name, lost_at if is_lost else 0.0),)
            elif key.startswith(layout.PROBES):
                ref = probe_ref(key)
                yield ref, (read_probe(ref, value),)
