"""One write: objects applied, deleted or pruned, and what Services hold given and taken with them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal

from nodeport_nft.allocate import AllocationError, Claims, allocate, claims, holdings
from nodeport_nft.manifest import Object, Problem, Problems
from nodeport_nft.model import Ranges, Ref, Service
from nodeport_nft.problems import Tally
from nodeport_nft.store import leftovers, outside, writers
from nodeport_nft.store.body import completed
from nodeport_nft.store.errors import LOST, StoreError
from nodeport_nft.store.held import held_in_rows
from nodeport_nft.store.holders import Holders, claimant
from nodeport_nft.store.outside import Outside, put
from nodeport_nft.store.records import (
    Damaged,
    StoredObject,
    parsed,
    read_row,
    reference,
    with_resource_version,
)
from nodeport_nft.store.schema import LAST_VERSION

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one object: ``ref`` as kubectl writes it ("service/web"), and the object as stored.

    Its values are finished: those that whoever reads it back from the store makes of it.
    """

    ref: str
    object: Object
    action: Literal["created", "configured", "unchanged"]


@dataclass(frozen=True, slots=True)
class _Old:
    """An object as it was stored before; ``body`` None: it cannot be read, or but for its ``metadata``."""

    version: int
    body: dict[str, Any] | None
    metadata: dict[str, Any]
    service: Service | None


def read_version(db: sqlite3.Connection, path: object) -> int:
    """The number of the latest change. Raises StoreError where the store at ``path`` has lost it."""
    row = db.execute("SELECT value FROM meta WHERE key = 'resource_version'").fetchone()
    if row is None:
        raise StoreError(f"{path}: {LOST}")
    if not (isinstance(row[0], int) and 0 <= row[0] <= LAST_VERSION):
        raise StoreError(f"{path}: its resource version is damaged ({row[0]!r:.40}); restore it from a copy")
    return row[0]


class Transaction:
    """A write in progress; ``Store.write`` begins it, and commits it when its block ends."""

    def __init__(self, db: sqlite3.Connection, ranges: Ranges, path: object) -> None:
        """Raises StoreError."""
        self._db = db
        self._path = path
        self._ranges = ranges
        outside.prepare(db)
        writers.prepare(db)
        leftovers.prepare(db)
        self._rolled_back = False
        self.dropped: list[str] = []
        """What is to be said of fields that were dropped with a change of type."""
        # A number is never given twice, even if the counter was set back.
        given = [read_version(db, path)]
        for table in ("objects", "tombstones"):
            query = f"SELECT max(resource_version) FROM {table} WHERE resource_version < ?"  # noqa: S608 (no input)
            given.append(db.execute(query, (LAST_VERSION // 2,)).fetchone()[0] or 0)
        self._version = max(given)

    @property
    def rolled_back(self) -> bool:
        """Whether nothing is to be written when the block ends."""
        return self._rolled_back

    def rollback(self) -> None:
        """Writes nothing when the block ends, whatever was applied in it (a dry run)."""
        self._rolled_back = True

    def apply(self, objects: Iterable[Object], *, now: str, by_manifests: bool = False) -> tuple[Applied, ...]:
        """Stores the objects, each in place of what had its name, and allocates what their Services need.

        ``by_manifests``: they come from manifests that are the whole state, and are theirs from now on; else they are
        not, even where nothing about them changes.

        ``now`` (RFC 3339, seconds) is the creation time of new objects, whatever they say themselves. The order
        of the objects decides on the order of the answer and of the resource versions, never on what is given: what
        is held stays, then explicit claims are taken, then the rest is found for one Service after the other, sorted
        by namespace and name.

        Raises Problems with every field that a Service's type may not have and that is not left of its former one, or
        with every refused allocation of every Service; nothing is written then.
        """
        objects = tuple(objects)
        _refuse_twins(objects)
        old = {_key(obj): found for obj in objects if (found := self._old(obj)) is not None}
        self._refuse_touched(objects, old)
        services = self._allocated({_key(obj): obj for obj in objects if obj.kind == "Service"}, old)
        applied: list[Applied] = []
        changed: list[tuple[_Key, int, str]] = []
        for obj in objects:
            key = _key(obj)
            before, service = old.get(key), services.get(key)
            body = completed(obj.raw, service, {"metadata": before.metadata} if before else None, now)
            text = json.dumps(body, separators=(",", ":"))
            action: Literal["created", "configured", "unchanged"]
            if before is None:
                action = "created"
            elif body == before.body:
                action = "unchanged"
            else:
                action = "configured"
            if before is not None and action == "unchanged":
                version = before.version
            else:
                self._version += 1
                version = self._version
                changed.append((key, version, text))
            values = obj.values
            if service is not None:
                created = (before.service.created if before and before.service else "") or now
                values = (replace(service, created=created),)
            stored = replace(obj, raw=with_resource_version(body, version), values=values, leftovers=())
            applied.append(Applied(reference(obj.kind, obj.name), stored, action))
        self._write(changed, services, old)
        writers.note(self._db, map(_key, objects), by_manifests=by_manifests)
        leftovers.remember(self._db, objects)
        self.dropped += [leftovers.dropped(obj) for obj in objects if obj.leftovers]
        return tuple(applied)

    def delete(self, kind: str, namespace: str, name: str) -> bool:
        """Deletes an object and gives back what it held; False if there is none of that name."""
        found = self.exists(Ref(kind, namespace, name))
        if found:
            self._delete([(kind, namespace, name)])
        return found

    def exists(self, ref: Ref) -> bool:
        """Whether there is an object of that name, which may be damaged."""
        query = "SELECT 1 FROM objects WHERE kind = ? AND namespace = ? AND name = ?"
        return self._db.execute(query, ref).fetchone() is not None

    def of_others(self, keep: Iterable[Object] = ()) -> tuple[Ref, ...]:
        """The objects that are none of ``keep`` and that manifests did not write."""
        kept = {_key(obj) for obj in keep}
        return tuple(Ref(*key) for key in writers.of_others(self._db) if key not in kept)

    def is_of_manifests(self, ref: Ref) -> bool:
        """Whether manifests wrote that object last."""
        return writers.is_of_manifests(self._db, ref)

    def any_of_manifests(self) -> bool:
        """Whether manifests have written anything of what is stored."""
        return writers.any_of_manifests(self._db)

    def refuse_others(self, keep: Iterable[Object]) -> None:
        """Raises OthersObjects if manifests that hold ``keep`` alone would delete what they did not write."""
        if others := self.of_others(keep):
            raise writers.OthersObjects(self._path, others)

    def prune(self, keep: Iterable[Object], *, of_others: bool = True) -> tuple[str, ...]:
        """Deletes every object that is not one of ``keep`` (by kind, namespace and name); their references.

        ``of_others`` False: only those that manifests wrote. Called before ``apply``, it lets the applied Services
        claim what the deleted ones held.
        """
        kept = {_key(obj) for obj in keep}
        if not of_others:
            kept.update(writers.of_others(self._db))
        rows = self._db.execute("SELECT kind, namespace, name FROM objects ORDER BY kind, namespace, name")
        doomed = [key for key in rows.fetchall() if key not in kept]
        self._delete(doomed)
        return tuple(reference(str(kind), str(name)) for kind, _, name in doomed)

    def held(self) -> dict[Ref, set[int | str]]:
        """What every object holds: nodePorts, and clusterIPs as text."""
        found: dict[Ref, set[int | str]] = {}
        for table, column in (("node_ports", "port"), ("cluster_ips", "ip")):
            rows = self._db.execute(f"SELECT {column}, kind, namespace, name FROM {table}")  # noqa: S608 (constants)
            for claim, *key in rows:
                found.setdefault(Ref(*key), set()).add(claim)
        return found

    def _old(self, obj: Object) -> _Old | None:
        """The object of that name as it is stored, None if there is none.

        Where that cannot be read, what it holds is told from the rows of holders.
        """
        row = read_row(self._db, Ref(*_key(obj)))
        if row is None:
            return None
        if isinstance(row, StoredObject):
            metadata = {key: value for key, value in row.raw["metadata"].items() if key != "resourceVersion"}
            values = parsed(row) if obj.kind == "Service" else ()
            if not isinstance(values, Damaged):
                service = next((value for value in values if isinstance(value, Service)), None)
                return _Old(row.resource_version, {**row.raw, "metadata": metadata}, metadata, service)
            row = values
        rest = row.raw or {}
        kept = _kept_metadata(rest)
        before = None
        if obj.kind == "Service":
            before = held_in_rows(self._db, _service(obj), rest, self._ranges.node_ports)
            before = replace(before, created=kept.get("creationTimestamp", "")) if before else None
        return _Old(0, None, kept, before)

    def _refuse_touched(self, objects: Iterable[Object], old: Mapping[_Key, _Old]) -> None:
        problems: list[Problem] = []
        for obj in objects:
            if obj.leftovers:
                before = old.get(_key(obj))
                problems += leftovers.touched(self._db, obj, before.body if before else None)
        if problems:
            raise Problems(tuple(problems))

    def _allocated(self, objects: Mapping[_Key, Object], old: Mapping[_Key, _Old]) -> dict[_Key, Service]:
        holders = Holders(self._db)
        outside = Outside(self._db, map(_service, objects.values()))
        held = {key: old[key].service if key in old else None for key in sorted(objects)}
        wanted = {key: _service(objects[key]) for key in held}
        owned = {key: Claims() if service is None else holdings(service) for key, service in held.items()}
        for own in owned.values():
            holders.release(own)
        claimed = {key: claims(wanted[key], held[key], ranges=self._ranges) for key in held}
        for key, claim in claimed.items():
            own = owned[key]
            kept = Claims(claim.node_ports & own.node_ports, claim.cluster_ips & own.cluster_ips)
            holders.take(kept, wanted[key].key)
        for key, claim in claimed.items():
            holders.take(claim, wanted[key].key)
        allocated: dict[_Key, Service] = {}
        problems: Tally[Problem] = Tally()
        for key, service in wanted.items():
            try:
                allocated[key] = allocate(
                    service,
                    held[key],
                    ranges=self._ranges,
                    port_holder=holders.port,
                    ip_holder=holders.ip,
                    claimant=partial(claimant, holders, outside, service.key),
                )
            except AllocationError as error:
                obj = objects[key]
                for no in error.refusals:
                    problems.add(obj.ref, no.message, Problem(obj.source, obj.ref, no.field, no.message))
            else:
                holders.take(holdings(allocated[key]), service.key)
        if problems:
            raise Problems(tuple(replace(problem, more=more) for _, problem, more in problems))
        return allocated

    def _write(
        self,
        changed: list[tuple[_Key, int, str]],
        services: Mapping[_Key, Service],
        old: Mapping[_Key, _Old],
    ) -> None:
        changed_keys = {key for key, _, _ in changed}
        moved = {key: holdings(service) for key, service in services.items() if key in changed_keys}
        freed = [key for key in moved if key in old]
        # All is given back before anything is given: a number may go from one Service to another.
        self._db.executemany("DELETE FROM node_ports WHERE kind = ? AND namespace = ? AND name = ?", freed)
        self._db.executemany("DELETE FROM cluster_ips WHERE kind = ? AND namespace = ? AND name = ?", freed)
        self._db.executemany(
            "DELETE FROM tombstones WHERE kind = ? AND namespace = ? AND name = ?",
            [key for key, _, _ in changed if key not in old],
        )
        self._db.executemany(
            "INSERT INTO objects (kind, namespace, name, resource_version, body) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (kind, namespace, name)"
            " DO UPDATE SET resource_version = excluded.resource_version, body = excluded.body",
            [(*key, version, text) for key, version, text in changed],
        )
        self._db.executemany(
            "INSERT INTO node_ports (port, kind, namespace, name) VALUES (?, ?, ?, ?)",
            [(port, *key) for key, holding in moved.items() for port in holding.node_ports],
        )
        put(self._db, {key: service for key, service in services.items() if key in changed_keys})
        self._db.executemany(
            "INSERT INTO cluster_ips (ip, kind, namespace, name) VALUES (?, ?, ?, ?)",
            [(str(ip), *key) for key, holding in moved.items() for ip in holding.cluster_ips],
        )
        self._store_version()

    def _delete(self, keys: list[_Key]) -> None:
        bound = [tuple(map(_bound, key)) for key in keys]
        is_it = "kind IS CAST(? AS TEXT) AND namespace IS CAST(? AS TEXT) AND name IS CAST(? AS TEXT)"
        self._db.executemany(f"DELETE FROM objects WHERE {is_it}", bound)  # noqa: S608 (no input)
        graves = [(*key, self._version + i) for i, key in enumerate(bound, 1) if None not in key]
        self._db.executemany(
            "INSERT OR REPLACE INTO tombstones (kind, namespace, name, resource_version)"
            " VALUES (CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?)",
            graves,
        )
        self._version += len(keys)
        self._store_version()

    def _store_version(self) -> None:
        if self._version > LAST_VERSION:
            raise StoreError(f"{self._path}: its resource versions are used up; export the objects into a new store")
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'resource_version'", (self._version,))


def _bound(part: object) -> bytes | None:
    """A name for a query, which may be no text where a row is damaged."""
    return part.encode("utf-8", "surrogateescape") if isinstance(part, str) else None


def _kept_metadata(rest: dict[str, Any]) -> dict[str, str]:
    """What stays of the metadata of a document that cannot be read as a whole."""
    kept: dict[str, str] = {}
    metadata = rest.get("metadata")
    match metadata:
        case {"uid": str(uid)}:
            kept["uid"] = uid
    match metadata:
        case {"creationTimestamp": str(created)} if _is_time(created):
            kept["creationTimestamp"] = created
    return kept


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _key(obj: Object) -> _Key:
    return obj.kind, obj.namespace, obj.name


def _service(obj: Object) -> Service:
    (value,) = obj.values
    assert isinstance(value, Service)
    return value


def _refuse_twins(objects: tuple[Object, ...]) -> None:
    first: dict[_Key, Object] = {}
    problems = []
    for obj in objects:
        twin = first.setdefault(_key(obj), obj)
        if twin is not obj:
            where = f" (first at {twin.source})" if twin.source else ""
            problems.append(Problem(obj.source, obj.ref, "metadata.name", f"is given twice{where}; keep one"))
    if problems:
        raise Problems(tuple(problems))
