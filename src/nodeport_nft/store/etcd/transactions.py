"""A plan as etcd's transactions: as few as its limits allow, each of which leaves a consistent state.

What belongs together is in one: an object, what it takes and what it gives up, and whoever takes that. A plan of some
dozens of Services is one transaction, a large one is cut between those that have nothing to do with each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct, field

from nodeport_nft.allocate import Claims
from nodeport_nft.model import ObjectName, Ref, Service
from nodeport_nft.store.body import encoded
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.client import request_bytes
from nodeport_nft.store.etcd.known import KnownKeys
from nodeport_nft.store.etcd.values import (
    MOST_BYTES,
    MOST_OPERATIONS,
    Compare,
    Delete,
    Operation,
    Put,
    is_none_newer,
    is_unchanged,
)
from nodeport_nft.store.holders import claimed_from_outside
from nodeport_nft.store.leftovers import spec_of
from nodeport_nft.store.writing import Plan
from nodeport_nft.store.writing import Put as PlannedPut

_AROUND_A_COMPARE = 64 + 128
"""Bytes of a condition besides its key: its numbers, and the longest prefix."""


class Step(Struct):
    """One transaction of a plan: the objects it is about, on what it depends, and what it writes."""

    refs: list[Ref] = field(default_factory=list)
    depends: dict[str, int] = field(default_factory=dict)  # a key, and the revision it must still have; 0: none
    unclaimed: dict[str, int] = field(default_factory=dict)  # prefixes with nothing newer than a revision
    puts: dict[str, bytes] = field(default_factory=dict)
    deletes: set[str] = field(default_factory=set)

    @property
    def compares(self) -> list[Compare]:
        """The conditions."""
        unchanged = [is_unchanged(key, revision) for key, revision in self.depends.items()]
        return [*unchanged, *(is_none_newer(prefix, revision) for prefix, revision in self.unclaimed.items())]

    @property
    def operations(self) -> list[Operation]:
        """What is written. What one gives up and another takes is written by the latter."""
        given_up = sorted(self.deletes - self.puts.keys())
        return [*(Put(key, value) for key, value in self.puts.items()), *map(Delete, given_up)]

    def joined(self, other: Step) -> Step:
        """Both in one."""
        return Step(
            [*self.refs, *other.refs],
            self.depends | other.depends,
            self.unclaimed | other.unclaimed,
            self.puts | other.puts,
            self.deletes | other.deletes,
        )

    def fits(self) -> bool:
        """Whether etcd takes it in one transaction."""
        if max(len(self.depends) + len(self.unclaimed), len(self.puts) + len(self.deletes)) > MOST_OPERATIONS:
            return False
        compared = sum(len(key.encode()) + _AROUND_A_COMPARE for key in (*self.depends, *self.unclaimed))
        return request_bytes(self.operations) + compared <= MOST_BYTES


def steps_of(plan: Plan, known: KnownKeys) -> list[Step]:
    """The transactions that carry out a plan. Raises StoreError for what cannot be done in one, and must be."""
    known.read_claims(plan)
    single = [*(_deleted(ref, known) for ref in plan.deletes), *_put_steps(plan, known)]
    steps: list[Step] = []
    for step in _grouped(single):
        if not step.fits():
            names = ", ".join(str(ref) for ref in step.refs[:3]) + (" and others" if len(step.refs) > 3 else "")
            raise StoreError(
                f"{names}: etcd takes no more than {MOST_OPERATIONS} keys and {MOST_BYTES:,} bytes in a transaction, "
                "and this is one: give a Service fewer ports, and trade numbers between Services in several steps"
            )
        if steps and (both := steps[-1].joined(step)).fits():
            steps[-1] = both
        else:
            steps.append(step)
    return steps


def _put_steps(plan: Plan, known: KnownKeys) -> Iterator[Step]:
    givers = {key: name for name, claims in plan.freed.items() for key in layout.claim_keys(claims)}
    for put in plan.puts:
        step = _put(put, plan, known, givers)
        if step.puts or step.deletes:
            # Whatever is noted of an object is noted of the one that was read.
            step.depends[layout.object_key(put.ref)] = known.revision_of(layout.object_key(put.ref))
            yield step


def _deleted(ref: Ref, known: KnownKeys) -> Step:
    key = layout.object_key(ref)
    step = Step([ref], {key: known.revision_of(key)}, deletes={key})
    if ref.kind == "Service":
        name = ObjectName(ref.namespace, ref.name)
        step.deletes.update(known.claim_keys_of(name), known.outside_keys_of(name), (layout.dropped_key(ref),))
    return step


def _put(put: PlannedPut, plan: Plan, known: KnownKeys, givers: Mapping[str, ObjectName]) -> Step:
    """``givers``: who gives up which claim with the same plan, or keeps it."""
    step = Step([put.ref])
    if put.action != "unchanged":
        step.puts[layout.object_key(put.ref)] = encoded(put.body)
    if put.service is None:
        return step
    if put.action != "unchanged":
        _claim(step, put.service, plan.taken[put.service.key], known, givers, is_new=put.action == "created")
    dropped = layout.dropped_key(put.ref)
    if put.wanted.leftovers:
        step.puts[dropped] = json.dumps(spec_of(put.wanted.raw)).encode()
    elif known.revision_of(dropped):
        step.deletes.add(dropped)
    return step


def _claim(
    step: Step, service: Service, taken: Claims, known: KnownKeys, givers: Mapping[str, ObjectName], *, is_new: bool
) -> None:
    """Take what a Service holds and give up what it does not; a new one of its name inherits nothing."""
    name = service.key
    had = frozenset() if is_new else known.claim_keys_of(name)
    has = layout.claim_keys(taken)
    step.deletes.update(had.difference(has))
    for key in has:
        if key in had:
            continue
        holder = known.holder_of(key)
        if holder not in (None, name) and givers.get(key) != holder:
            raise StoreError(
                f"Service/{name} and Service/{holder} have the same {key}, which is the latter's: somebody has "
                "written to etcd by hand, or restored a part of it; delete one of the two and apply it again"
            )
        step.depends[key] = known.revision_of(key)
        step.puts[key] = str(name).encode()
    for ip in taken.cluster_ips:
        if layout.ip_key(ip) not in had:
            step.unclaimed[layout.outside_prefix(ip)] = known.revision
    before = frozenset() if is_new else known.outside_keys_of(name)
    claims = frozenset(f"{layout.outside_prefix(text)}{name}" for text in claimed_from_outside(service))
    step.deletes.update(before - claims)
    step.puts |= dict.fromkeys(sorted(claims - before), b"")


def _grouped(steps: Iterable[Step]) -> Iterator[Step]:
    """Those that touch the same keys as one, in the order of their first.

    An address that one claims no longer from outside, and another takes for its clusterIP, is such a key, too.
    """
    all_steps = list(steps)
    taken = {prefix for step in all_steps for prefix in step.unclaimed}
    first: dict[str, int] = {}
    groups: dict[int, Step] = {}
    for number, step in enumerate(all_steps):
        given_up = {claim[0] for key in step.deletes if (claim := layout.outside_claim(key)) is not None}
        keys = {*step.puts, *step.deletes, *step.unclaimed, *(given_up & taken)}
        joined = sorted({first[key] for key in keys if key in first})
        whole = Step()
        for each in joined:
            whole = whole.joined(groups.pop(each))
        whole = whole.joined(step)
        at = joined[0] if joined else number
        groups[at] = whole
        first |= dict.fromkeys((*keys, *whole.puts, *whole.deletes, *whole.unclaimed), at)
    for at in sorted(groups):
        yield groups[at]
