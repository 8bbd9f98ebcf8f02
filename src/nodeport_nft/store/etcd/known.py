"""What etcd holds of what a write asks about (``store.writing.Known``), and on what a plan thus depends.

Whatever was asked about is remembered with the revision it had, so that the plan is carried out on the condition that
it still is so. Nothing is scanned for a few Services: each number that is looked at is a key that is read, some
neighbours with it. For many Services, all claims are read at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from nodeport_nft.allocate import Claims, holdings
from nodeport_nft.kube import Object
from nodeport_nft.model import IPAddress, ObjectName, Ref, Service
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.client import Blocking
from nodeport_nft.store.etcd.values import MOST_OPERATIONS, Get, KeyValue
from nodeport_nft.store.holders import claimed_from_outside
from nodeport_nft.store.leftovers import spec_of
from nodeport_nft.store.objects import Damaged, parsed, read_document
from nodeport_nft.store.writing import Plan

_MANY = 64
"""Services in one write from which on all claims are read, rather than each number that is looked at."""

_NEIGHBOURS = 16
"""Numbers that are read with one that is looked at: whoever looks for a free one asks for the next."""


class KnownKeys:
    """The keys as they were when they were first asked about; ``revision`` is the earliest of those moments."""

    def __init__(self, etcd: Blocking) -> None:
        self._etcd = etcd
        self._seen: dict[str, KeyValue | None] = {}
        self._complete: set[str] = set()  # prefixes of which all keys are known
        self._services: dict[ObjectName, Service | Damaged | None] = {}
        self._claimants: dict[str, list[ObjectName]] = {}  # by the prefix of what they claim from outside
        self._any_outside: bool | None = None
        self.revision = 0

    def read_ahead(self, objects: Sequence[Object], deletes: Collection[Ref]) -> None:
        """Read at once what a plan for these will ask about in any case. Raises EtcdError."""
        services = [obj for obj in objects if obj.kind == "Service"]
        if len(services) > _MANY:
            for prefix in (layout.PORTS, layout.IPS, layout.OUTSIDE):
                self._read_all(prefix)
        refs = [*(obj.ref for obj in objects), *deletes]
        keys = [layout.object_key(ref) for ref in refs]
        keys += [layout.dropped_key(ref) for ref in refs if ref.kind == "Service"]
        named = (holdings(value) for obj in services for value in obj.values if isinstance(value, Service))
        self._read([*keys, *(key for claims in named for key in layout.claim_keys(claims))])

    def read_claims(self, plan: Plan) -> None:
        """Read what a plan gives up and takes: who is believed to hold it need not be who does."""
        claims = (*plan.freed.values(), *plan.taken.values())
        self._read(key for each in claims for key in layout.claim_keys(each))

    def revision_of(self, key: str) -> int:
        """The revision at which a key was written; 0 if it is not there."""
        found = self._get(key)
        return 0 if found is None else found.mod_revision

    def holder_of(self, key: str) -> ObjectName | None:
        """Who has a claim, by its key; None also where that is damaged."""
        found = self._get(key)
        return None if found is None else layout.holder(found.value)

    def claim_keys_of(self, name: ObjectName) -> frozenset[str]:
        """The keys of what a Service says it holds, as far as they are its own."""
        return frozenset(key for key in layout.claim_keys(self.held_by(name)) if self.holder_of(key) == name)

    def outside_keys_of(self, name: ObjectName) -> frozenset[str]:
        """The keys by which a Service that was asked about claims addresses from outside."""
        service = self._service(name)
        if isinstance(service, Damaged):
            self._read_all(layout.OUTSIDE)
            return frozenset(key for key in self._seen if key.startswith(layout.OUTSIDE) and key.endswith(f"/{name}"))
        claimed = claimed_from_outside(service) if service is not None else ()
        return frozenset(f"{layout.outside_prefix(text)}{name}" for text in claimed)

    # --- what a plan asks ---------------------------------------------------------------------------------

    def find(self, ref: Ref) -> Object | Damaged | None:
        """The object of that name, None if there is none."""
        found = self._get(layout.object_key(ref))
        return None if found is None else read_document(ref, str(found.mod_revision), found.value)

    def held_by(self, key: ObjectName) -> Claims:
        """What a Service holds: as it says itself, or, where it cannot be read, as all the claims say."""
        service = self._service(key)
        if not isinstance(service, Damaged):
            return Claims() if service is None else holdings(service)
        self._read_all(layout.PORTS)
        self._read_all(layout.IPS)
        mine = [layout.claimed(each) for each in list(self._seen) if self.holder_of(each) == key]
        return Claims(
            frozenset(claim for claim in mine if isinstance(claim, int)),
            frozenset(claim for claim in mine if claim is not None and not isinstance(claim, int)),
        )

    def port_holder(self, port: int) -> ObjectName | None:
        """Whose a number of the nodePort range is."""
        near = range(port, min(port + _NEIGHBOURS, 1 << 16))
        return self._holder(layout.port_key(port), map(layout.port_key, near))

    def ip_holder(self, ip: IPAddress) -> ObjectName | None:
        """Whose a clusterIP is."""
        last = (1 << ip.max_prefixlen) - 1 - int(ip)
        near = (ip + i for i in range(min(_NEIGHBOURS, last + 1)))
        return self._holder(layout.ip_key(ip), map(layout.ip_key, near))

    def outside_claimants(self, ip: IPAddress) -> Collection[ObjectName]:
        """Which Services claim an address from outside."""
        if self._any_outside is None:
            self._any_outside = self._is_any(layout.OUTSIDE)
        if not self._any_outside:
            return ()
        prefix = layout.outside_prefix(ip)
        if layout.OUTSIDE not in self._complete and prefix not in self._complete:
            self._read_all(prefix)
        return self._claimants.get(prefix, ())

    def dropped_spec(self, ref: Ref) -> Mapping[str, Any]:
        """The spec that came last with what was dropped of it."""
        found = self._get(layout.dropped_key(ref))
        if found is None:
            return {}
        try:
            return spec_of({"spec": json.loads(found.value)})
        except (ValueError, RecursionError):  # a damaged one is as none
            return {}

    # --- reading ------------------------------------------------------------------------------------------

    def _service(self, name: ObjectName) -> Service | Damaged | None:
        """The Service of that name, parsed once however often it is asked about."""
        if name not in self._services:
            stored = self.find(Ref("Service", *name))
            values = parsed(stored) if isinstance(stored, Object) else stored or ()
            if isinstance(values, Damaged):
                self._services[name] = values
            else:
                self._services[name] = next((each for each in values if isinstance(each, Service)), None)
        return self._services[name]

    def _holder(self, key: str, near: Iterable[str]) -> ObjectName | None:
        if not self._is_known(key):
            self._read(list(near))
        found = self._seen.get(key)
        if found is None:
            return None
        # One that is damaged may be anybody's.
        return layout.holder(found.value) or ObjectName(
            self._etcd.client.connection.prefix, f"{key}, which is damaged"
        )

    def _get(self, key: str) -> KeyValue | None:
        if not self._is_known(key):
            self._read([key])
        return self._seen.get(key)

    def _is_known(self, key: str) -> bool:
        return key in self._seen or any(key.startswith(prefix) for prefix in self._complete)

    def _read(self, keys: Iterable[str]) -> None:
        for some in _parts([key for key in dict.fromkeys(keys) if not self._is_known(key)]):
            committed = self._etcd.run(self._etcd.client.commit((), [Get(key) for key in some]))
            self._note_revision(committed.revision)
            self._seen |= zip(some, committed.answers, strict=True)

    def _read_all(self, prefix: str) -> None:
        listing = self._etcd.run(self._etcd.client.list_all(prefix))
        self._note_revision(listing.position.revision)
        self._complete.add(prefix)
        for found in listing.keys:
            if found.key not in self._seen:
                self._seen[found.key] = found
                if (claim := layout.outside_claim(found.key)) is not None:
                    self._claimants.setdefault(claim[0], []).append(claim[1])

    def _is_any(self, prefix: str) -> bool:
        if prefix in self._complete:
            return any(found is not None and key.startswith(prefix) for key, found in self._seen.items())

        async def first() -> tuple[bool, int]:
            async for found, position in self._etcd.client.range_pages(prefix, page=1):
                return bool(found), position.revision
            return False, 0

        is_any, revision = self._etcd.run(first())
        self._note_revision(revision)
        return is_any

    def _note_revision(self, revision: int) -> None:
        self.revision = min(self.revision or revision, revision)


def _parts(keys: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(keys)
    while some := list(islice(rest, MOST_OPERATIONS)):
        yield some
