"""A plan as etcd's transactions: as few as its limits allow, each of which leaves a consistent state.

What belongs together is in one: an object, what it takes and what it gives up, and whoever takes that. A plan of some
dozens of Services is one transaction, a large one is cut between those that have nothing to do with each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nodeport_nft.allocate import Claims
from nodeport_nft.model import ObjectName, Ref
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


@dataclass(slots=True)
class Step:
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
        return request_bytes(self.operations) <= MOST_BYTES


def steps_of(plan: Plan, known: KnownKeys) -> list[Step]:
    """The transactions that carry out a plan. Raises StoreError for what cannot be done in one, and must be."""
    single = [*(_deleted(ref, plan, known) for ref in plan.deletes), *_put_steps(plan, known)]
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
    for put in plan.puts:
        step = _put(put, plan, known)
        if step.puts or step.deletes:
            yield step


def _deleted(ref: Ref, plan: Plan, known: KnownKeys) -> Step:
    key = layout.object_key(ref)
    step = Step([ref], {key: known.revision_of(key)}, deletes={key})
    if ref.kind == "Service":
        name = ObjectName(ref.namespace, ref.name)
        step.deletes.update(layout.claim_keys(plan.freed.get(name, Claims())))
        step.deletes.update(known.outside_keys_of(name))
        if known.revision_of(layout.dropped_key(ref)):
            step.deletes.add(layout.dropped_key(ref))
    return step


def _put(put: PlannedPut, plan: Plan, known: KnownKeys) -> Step:
    step = Step([put.ref])
    key = layout.object_key(put.ref)
    if put.action != "unchanged":
        step.depends[key] = known.revision_of(key)
        step.puts[key] = json.dumps(put.body, separators=(",", ":")).encode()
    if put.service is None:
        return step
    name = put.service.key
    if put.action != "unchanged":
        before, now = plan.freed.get(name, Claims()), plan.taken[name]
        had, has = frozenset(layout.claim_keys(before)), layout.claim_keys(now)
        step.deletes.update(had.difference(has))
        for claim in (claim for claim in has if claim not in had):
            step.depends[claim] = known.revision_of(claim)
            step.puts[claim] = str(name).encode()
        for ip in now.cluster_ips - before.cluster_ips:
            step.unclaimed[layout.outside_prefix(ip)] = known.revision
        claims = {f"{layout.outside_prefix(text)}{name}" for text in claimed_from_outside(put.service)}
        claimed_before = known.outside_keys_of(name)
        step.deletes.update(claimed_before - claims)
        step.puts |= dict.fromkeys(sorted(claims - claimed_before), b"")
    dropped = layout.dropped_key(put.ref)
    if put.wanted.leftovers:
        step.puts[dropped] = json.dumps(spec_of(put.wanted.raw)).encode()
    elif known.revision_of(dropped):
        step.deletes.add(dropped)
    return step


def _grouped(steps: Iterable[Step]) -> Iterator[Step]:
    """Those that touch the same keys as one, in the order of their first."""
    first: dict[str, int] = {}
    groups: dict[int, Step] = {}
    for number, step in enumerate(steps):
        keys = step.puts.keys() | step.deletes
        joined = sorted({first[key] for key in keys if key in first})
        whole = Step()
        for each in joined:
            whole = whole.joined(groups.pop(each))
        whole = whole.joined(step)
        at = joined[0] if joined else number
        groups[at] = whole
        first |= dict.fromkeys((*whole.puts, *whole.deletes), at)
    for at in sorted(groups):
        yield groups[at]
