"""What a write does to a store: (what is wanted, what is there, who holds what) → what is put and what is deleted.

Pure, and the same for every store. A store says what it knows (``Known``), gets a ``Plan``, and carries it out in its
own way: SQLite under its write lock and its constraints, a shared one on the condition that nothing of what was asked
about has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.allocate import AllocationError, Claims, allocate, draft, holdings
from nodeport_nft.kinds import reference
from nodeport_nft.kube import Object
from nodeport_nft.kube.annotations import DRAIN
from nodeport_nft.model import ObjectName, Ranges, Ref, Service, Value
from nodeport_nft.problems import Problem, Problems, Tally
from nodeport_nft.store import leftovers
from nodeport_nft.store.api import Action, Applied, Conflict, Superseded, Written
from nodeport_nft.store.body import completed
from nodeport_nft.store.drained import but_for_drain, still_drained
from nodeport_nft.store.held import held_before
from nodeport_nft.store.holders import Holders, KnownHolders, OutsideClaims, claimant
from nodeport_nft.store.objects import Damaged, parsed, with_resource_version
from nodeport_nft.store.versions import superseded

_MANY = 100
"""Objects from which on the short way from what is stored to values is worth what it takes to be read in."""


class Known(KnownHolders, Protocol):
    """What a store holds at one moment, as far as a write asks. Every method raises StoreError."""

    def find(self, ref: Ref) -> Object | Damaged | None:
        """The object of that name, None if there is none."""

    def held_by(self, key: ObjectName) -> Claims:
        """What a Service holds, as those know it who ask for a number; also of one that is damaged."""

    def dropped_spec(self, ref: Ref) -> Mapping[str, Any]:
        """The spec that came last with fields of an object's former type, which were dropped; empty if none were."""


class Put(Struct, frozen=True):
    """An object as it is to be stored: its ``body`` without a resource version, and its finished ``values``.

    ``version`` is that of what is there, "" where nothing is, or nothing that can be read. What is ``unchanged`` need
    not be written. ``only_drains``: it changes what is drained, and nothing else.
    """

    wanted: Object
    body: dict[str, Any]
    values: tuple[Value, ...]
    action: Action
    version: str = ""
    only_drains: bool = False

    @property
    def ref(self) -> Ref:
        """Which object it is."""
        return self.wanted.ref

    @property
    def service(self) -> Service | None:
        """The Service that it is, with all that it holds; None for other kinds."""
        return next((value for value in self.values if isinstance(value, Service)), None)

    def applied(self, version: str) -> Applied:
        """What became of it, with the version that it has then."""
        body = with_resource_version(self.body, version)
        wanted = self.wanted
        stored = Object(wanted.ref, body, self.values, wanted.source, version, notes=wanted.notes)
        return Applied(reference(stored.kind, stored.name), stored, self.action)


class Plan(Struct, frozen=True):
    """What a write does. What the ``deletes`` held, the ``puts`` may take.

    ``missing``: what was to be deleted and is not there. ``freed`` and ``taken``: what Services that are written or
    deleted held before, and hold then.
    """

    puts: tuple[Put, ...] = ()
    deletes: tuple[Ref, ...] = ()
    missing: tuple[Ref, ...] = ()
    freed: Mapping[ObjectName, Claims] = field(default_factory=dict)
    taken: Mapping[ObjectName, Claims] = field(default_factory=dict)

    @property
    def dropped(self) -> tuple[str, ...]:
        """What is to be said of fields that are dropped with a change of type."""
        return tuple(leftovers.dropped(put.wanted) for put in self.puts if put.wanted.leftovers)

    def outcome(self, applied: Sequence[Applied] | None = None) -> Written:
        """What is answered once it is carried out; before, objects have the versions that are there."""
        done = tuple(put.applied(put.version) for put in self.puts) if applied is None else tuple(applied)
        return Written(done, self.deletes, self.missing, self.dropped)


class _Before(Struct, frozen=True):
    """An object as it was stored before; ``body`` None: it cannot be read, or but for its ``metadata``."""

    version: str
    body: dict[str, Any] | None
    metadata: dict[str, Any]
    service: Service | None
    held: Claims


def plan(
    objects: Sequence[Object],
    deletes: Collection[Ref],
    known: Known,
    ranges: Ranges,
    *,
    now: str,
    only_new: bool = False,
) -> Plan:
    """Puts the objects, each in place of what has its name, and allocates what their Services need.

    ``now`` (RFC 3339, seconds) is the creation time of new objects, whatever they say themselves. The order of the
    objects decides on the order of the answer, never on what is given: what is held stays, then explicit claims are
    taken, then the rest is found for one Service after the other, sorted by namespace and name.

    Raises Problems with every object that is given twice, or with every field that a Service's type may not have and
    that is not left of its former one, or with every refused allocation of every Service; Superseded with every
    object that names a version which is not the stored one; with ``only_new``, Conflict where there is one of an
    object's name.
    """
    _refuse_twins(objects)
    doomed = {ref: known.find(ref) is not None for ref in deletes}
    gone = tuple(ref for ref, is_there in doomed.items() if is_there)
    before = {} if not objects else _all_before(objects, frozenset(gone), known, ranges)
    if only_new and before:
        raise Conflict(next(iter(before)), "it exists already")
    _refuse_touched(objects, before, known)
    wanted = {obj.ref: obj for obj in objects if obj.kind == "Service"}
    freed = {ObjectName(*ref[1:]): known.held_by(ObjectName(*ref[1:])) for ref in gone if ref.kind == "Service"}
    services = _allocated(wanted, before, freed, known, ranges, now)
    puts = tuple(_put(obj, services.get(obj.ref), before.get(obj.ref), now) for obj in objects)
    _refuse_superseded(puts, before, frozenset(gone))
    freed |= {ObjectName(*ref[1:]): before[ref].held for ref in wanted if ref in before}
    missing = tuple(ref for ref, is_there in doomed.items() if not is_there)
    return Plan(puts, gone, missing, freed, {service.key: holdings(service) for service in services.values()})


def _put(obj: Object, service: Service | None, before: _Before | None, now: str) -> Put:
    obj = still_drained(obj, before.metadata if before else {})
    body = completed(obj.raw, service, {"metadata": before.metadata} if before else None, now)
    values = obj.values if service is None else (service,)
    if before is None:
        return Put(obj, body, values, "created")
    if body == before.body:
        return Put(obj, body, values, "unchanged", before.version)
    only_drains = before.body is not None and but_for_drain(body) == but_for_drain(before.body)
    return Put(obj, body, values, "configured", before.version, only_drains)


def _all_before(
    objects: Collection[Object], gone: Collection[Ref], known: Known, ranges: Ranges
) -> dict[Ref, _Before]:
    values_of = _quickly if len(objects) > _MANY else parsed
    found = ((obj.ref, _before(obj, known, ranges, values_of)) for obj in objects if obj.ref not in gone)
    return {ref: before for ref, before in found if before is not None}


def _quickly(stored: Object) -> tuple[Value, ...] | Damaged:
    """As ``parsed``, in a fifth of the time where nothing is to be said of the object."""
    # Late: for few objects its shapes take longer to make than they save.
    from nodeport_nft.kube.typed import stored_document_values

    values = stored_document_values(stored.ref, stored.raw)
    return parsed(stored) if values is None else values


def _before(
    obj: Object, known: Known, ranges: Ranges, values_of: Callable[[Object], tuple[Value, ...] | Damaged]
) -> _Before | None:
    """The object of that name as it is stored, None if there is none. ``values_of``: what a stored one is made into.

    Where that cannot be read, what it holds is told by those who know the holders.
    """
    stored = known.find(obj.ref)
    if stored is None:
        return None
    if isinstance(stored, Object):
        metadata = {key: value for key, value in stored.raw["metadata"].items() if key != "resourceVersion"}
        values = values_of(stored) if obj.kind == "Service" else ()
        if not isinstance(values, Damaged):
            service = next((value for value in values if isinstance(value, Service)), None)
            held = holdings(service) if service is not None else Claims()
            return _Before(stored.version, {**stored.raw, "metadata": metadata}, metadata, service, held)
        stored = values
    rest = stored.raw or {}
    kept = _kept_metadata(rest)
    service, held = None, Claims()
    if obj.kind == "Service":
        wanted = _service(obj)
        held = known.held_by(wanted.key)
        service = held_before(held, wanted, rest, ranges.node_ports)
        service = replace(service, created=kept.get("creationTimestamp", "")) if service else None
    return _Before("", None, kept, service, held)


def _refuse_touched(objects: Iterable[Object], before: Mapping[Ref, _Before], known: Known) -> None:
    problems: list[Problem] = []
    for obj in objects:
        if obj.leftovers:
            old = before.get(obj.ref)
            problems += leftovers.touched(obj, old.body if old else None, known.dropped_spec(obj.ref))
    if problems:
        raise Problems(tuple(problems))


def _refuse_superseded(puts: Iterable[Put], before: Mapping[Ref, _Before], gone: Collection[Ref]) -> None:
    problems: list[Problem] = []
    for put in puts:
        old = before.get(put.ref)
        # What would not change anything overwrites nothing, and what cannot be read is there to be replaced.
        if put.action == "unchanged" or put.ref in gone or (old is not None and old.body is None):
            continue
        if why := superseded(put.wanted.raw, put.ref, old.body if old else None, put.version, put.body):
            problems.append(Problem(put.wanted.source, str(put.ref), "metadata.resourceVersion", why))
    if problems:
        raise Superseded(tuple(problems))


def _allocated(
    objects: Mapping[Ref, Object],
    before: Mapping[Ref, _Before],
    freed: Mapping[ObjectName, Claims],
    known: Known,
    ranges: Ranges,
    now: str,
) -> dict[Ref, Service]:
    holders = Holders(known)
    for claim in freed.values():
        holders.release(claim)
    outside = OutsideClaims(known, map(_service, objects.values()), freed)
    held = {ref: before[ref].service if ref in before else None for ref in sorted(objects)}
    wanted = {ref: _service(objects[ref]) for ref in held}
    owned = {ref: Claims() if service is None else holdings(service) for ref, service in held.items()}
    for own in owned.values():
        holders.release(own)
    keys = {ref: ObjectName(ref.namespace, ref.name) for ref in held}
    drawn = {ref: draft(wanted[ref], held[ref], ranges) for ref in held}
    claimed = {ref: each.claims for ref, each in drawn.items()}
    for ref, claim in claimed.items():
        own = owned[ref]
        holders.take(Claims(claim.node_ports & own.node_ports, claim.cluster_ips & own.cluster_ips), keys[ref])
    for ref, claim in claimed.items():
        holders.take(claim, keys[ref])
    allocated: dict[Ref, Service] = {}
    problems: Tally[Problem] = Tally()
    for ref, service in wanted.items():
        key, old = keys[ref], held[ref]
        try:
            allocated[ref] = allocate(
                service,
                old,
                ranges=ranges,
                port_holder=holders.port,
                ip_holder=holders.ip,
                claimant=partial(claimant, holders, outside, key),
                drawn=drawn[ref],
                created=(old.created if old else "") or now,
            )
        except AllocationError as error:
            obj = objects[ref]
            for no in error.refusals:
                problems.add(str(obj.ref), no.message, Problem(obj.source, str(obj.ref), no.field, no.message))
        else:
            holders.take(holdings(allocated[ref]), key)
    if problems:
        raise Problems(tuple(replace(problem, more=more) for _, problem, more in problems))
    return allocated


def _kept_metadata(rest: dict[str, Any]) -> dict[str, Any]:
    """What stays of the metadata of a document that cannot be read as a whole."""
    kept: dict[str, Any] = {}
    metadata = rest.get("metadata")
    match metadata:
        case {"uid": str(uid)}:
            kept["uid"] = uid
    match metadata:
        case {"creationTimestamp": str(created)} if _is_time(created):
            kept["creationTimestamp"] = created
    match metadata:
        case {"annotations": {**notes}} if isinstance(notes.get(DRAIN), str):
            kept["annotations"] = {DRAIN: notes[DRAIN]}
    return kept


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _service(obj: Object) -> Service:
    (value,) = obj.values
    assert isinstance(value, Service)
    return value


def _refuse_twins(objects: Iterable[Object]) -> None:
    first: dict[Ref, Object] = {}
    problems = []
    for obj in objects:
        twin = first.setdefault(obj.ref, obj)
        if twin is not obj:
            where = f" (first at {twin.source})" if twin.source else ""
            problems.append(Problem(obj.source, str(obj.ref), "metadata.name", f"is given twice{where}; keep one"))
    if problems:
        raise Problems(tuple(problems))
