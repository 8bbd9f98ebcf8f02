"""Objects that are nowhere but in this process, for what is asked of manifests alone; as strict as any store."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from nodeport_nft.allocate import Claims
from nodeport_nft.kube import Object
from nodeport_nft.model import IPAddress, ObjectName, Ranges, Ref
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import Written
from nodeport_nft.store.bodies import Body, StoredBodies
from nodeport_nft.store.holders import claimed_from_outside
from nodeport_nft.store.leftovers import spec_of
from nodeport_nft.store.objects import Damaged
from nodeport_nft.store.writing import Plan, plan


class MemoryStore(StoredBodies):
    """An empty store at first. A write is atomic, however large."""

    def __init__(self, ranges: Ranges, *, validate: Validate = Validate.ignore) -> None:
        super().__init__("memory", validate)
        self._ranges = ranges
        self._version = 0
        self._bodies: dict[Ref, tuple[str, bytes]] = {}
        self._holdings: dict[ObjectName, Claims] = {}
        self._ports: dict[int, ObjectName] = {}
        self._ips: dict[IPAddress, ObjectName] = {}
        self._claimed: dict[ObjectName, frozenset[str]] = {}  # from outside, by who does
        self._claimants: dict[str, dict[ObjectName, None]] = {}  # the same, by address
        self._dropped: dict[Ref, dict[str, Any]] = {}

    def bodies(self, kind: str | None = None, namespace: str | None = None) -> Iterator[Body | Damaged]:
        """As ``StoredBodies`` has it."""
        for ref in sorted(self._bodies):
            if kind in (None, ref.kind) and namespace in (None, ref.namespace):
                yield Body(ref, *self._bodies[ref])

    def body(self, ref: Ref) -> Body | Damaged | None:
        """As ``StoredBodies`` has it."""
        return Body(ref, *self._bodies[ref]) if ref in self._bodies else None

    def write(
        self,
        puts: Sequence[Object] = (),
        deletes: Collection[Ref] = (),
        *,
        now: str,
        only_new: bool = False,
        dry_run: bool = False,
    ) -> Written:
        """As ``Objects`` has it."""
        planned = plan(puts, deletes, self, self._ranges, now=now, only_new=only_new)
        return planned.outcome() if dry_run else self._carried_out(planned)

    def close(self) -> None:
        """Forget everything."""
        self._bodies.clear()

    # --- what a plan asks (``writing.Known``) -------------------------------------------------------------

    def held_by(self, key: ObjectName) -> Claims:
        """What a Service holds."""
        return self._holdings.get(key, Claims())

    def port_holder(self, port: int) -> ObjectName | None:
        """Whose a number of the nodePort range is."""
        return self._ports.get(port)

    def ip_holder(self, ip: IPAddress) -> ObjectName | None:
        """Whose a clusterIP is."""
        return self._ips.get(ip)

    def outside_claimants(self, ip: IPAddress) -> Collection[ObjectName]:
        """Which Services claim an address from outside."""
        return self._claimants.get(str(ip), ())

    def dropped_spec(self, ref: Ref) -> Mapping[str, Any]:
        """The spec that came last with what was dropped of it."""
        return self._dropped.get(ref, {})

    def _carried_out(self, planned: Plan) -> Written:
        for key, freed in planned.freed.items():
            self._holdings.pop(key, None)
            for port in freed.node_ports:
                del self._ports[port]
            for ip in freed.cluster_ips:
                del self._ips[ip]
        for key, taken in planned.taken.items():
            self._holdings[key] = taken
            for port in taken.node_ports:
                assert self._ports.setdefault(port, key) == key, f"{port} is held by {self._ports[port]}"
            for ip in taken.cluster_ips:
                assert self._ips.setdefault(ip, key) == key, f"{ip} is held by {self._ips[ip]}"
        for ref in planned.deletes:
            del self._bodies[ref]
            self._forget(ref)
        applied = []
        for put in planned.puts:
            version = put.version
            if put.action != "unchanged":
                self._version += 1
                version = str(self._version)
                self._bodies[put.ref] = version, json.dumps(put.body).encode()
            self._forget(put.ref)
            if put.service is not None:
                self._claimed[put.service.key] = claimed_from_outside(put.service)
                for text in self._claimed[put.service.key]:
                    self._claimants.setdefault(text, {})[put.service.key] = None
            if put.wanted.leftovers:
                self._dropped[put.ref] = spec_of(put.wanted.raw)
            applied.append(put.applied(version))
        return planned.outcome(applied)

    def _forget(self, ref: Ref) -> None:
        self._dropped.pop(ref, None)
        if ref.kind == "Service":
            key = ObjectName(ref.namespace, ref.name)
            for text in self._claimed.pop(key, ()):
                del self._claimants[text][key]
