"""What a store in etcd says of the cluster beside its objects: who has registered, which probes fail, the barrier.

What is there and is none of it harms nothing, and is told with its key and the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from nodeport_nft.model import ProbeFailure, Ref, Value
from nodeport_nft.problems import clipped
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.client import Client
from nodeport_nft.store.etcd.registration import barrier_text, member_ref, probe_ref, read_known, read_probe
from nodeport_nft.store.etcd.roll import Roll, Seen, Waits
from nodeport_nft.store.etcd.values import KeyValue

_MOST_TOLD = 10
"""Keys that are no such thing and are named."""

Values = dict[Ref, tuple[Value, ...]]


class Cluster:
    """Kept up key by key; belongs to an event loop. ``lost`` is called with the Ref of a node that counts as lost.

    ``barrier`` is the last one that was seen, as nodes repeat it.
    """

    def __init__(self, client: Client, waits: Waits, lost: Callable[[Ref], None]) -> None:
        self.roll = Roll(client, waits, lambda name: lost(member_ref(name)))
        self.barrier = ""
        self._prefix = client.connection.prefix
        self._probes: dict[Ref, tuple[ProbeFailure, ...]] = {}
        self._faults: dict[str, str] = {}

    def listed(self, keys: Iterable[KeyValue]) -> Values:
        """These are all keys there are below ``members/``; what they say."""
        self._faults, self._probes, self.barrier = {}, {}, ""
        seen: dict[str, Seen] = {}
        for one in keys:
            name = _name(one.key)
            if name is not None:
                seen[name] = self._seen(one.key, one, seen.get(name, Seen()))
            else:
                self._take_other(one.key, one)
        self.roll.listed(seen)
        return {**{member_ref(name): self.member(member_ref(name)) for name in seen}, **self._probes}

    def changed(self, key: str, now: KeyValue | None) -> Values:
        """One key is like this now; what has changed by that, if anything has."""
        name = _name(key)
        if name is None:
            return self._take_other(key, now)
        self.roll.see(name, self._seen(key, now, self.roll.seen(name)))
        return {member_ref(name): self.member(member_ref(name))}

    def member(self, ref: Ref) -> tuple[Value, ...]:
        """A node as it counts now."""
        member = self.roll.member(ref.name)
        return () if member is None else (member,)

    def problems(self) -> Iterator[str]:
        """What is there, and is nothing that belongs there."""
        for key in sorted(self._faults)[:_MOST_TOLD]:
            path = clipped(f"{self._prefix}/{key}", 400)
            yield f"{path} in etcd: {self._faults[key]}; nothing follows from it; remove it with `etcdctl del {path}`"
        if (more := len(self._faults) - _MOST_TOLD) > 0:
            yield f"{self._prefix}/{layout.MEMBERS} in etcd: {more} more keys like that"

    def _seen(self, key: str, now: KeyValue | None, before: Seen) -> Seen:
        """What is known of a node, once this key is like this."""
        if key.startswith(layout.LIVE):
            return Seen(now is not None, before.revision, before.lost_at)
        self._faults.pop(key, None)
        if now is None:
            return Seen(before.is_live)
        try:
            return Seen(before.is_live, now.mod_revision, read_known(key.removeprefix(layout.KNOWN), now.value))
        except ValueError as error:
            self._faults[key] = str(error)
            return Seen(before.is_live)

    def _take_other(self, key: str, now: KeyValue | None) -> Values:
        if key == layout.BARRIER:
            self.barrier = barrier_text(None if now is None else now.value)
            return {}
        if not key.startswith(layout.PROBES):
            return {}
        self._faults.pop(key, None)
        ref = probe_ref(key)
        before = self._probes.pop(ref, ())
        if now is not None:
            try:
                self._probes[ref] = (read_probe(ref, now.value),)
            except ValueError as error:
                self._faults[key] = str(error)
        after: tuple[ProbeFailure, ...] = self._probes.get(ref, ())
        return {ref: after} if before != after else {}


def _name(key: str) -> str | None:
    """The node that a key is about; None for other keys."""
    for prefix in (layout.KNOWN, layout.LIVE):
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    return None
