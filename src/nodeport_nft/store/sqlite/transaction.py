"""One write: objects applied, deleted or pruned, and what Services hold given and taken with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from nodeport_nft.allocate import holdings
from nodeport_nft.kinds import reference
from nodeport_nft.kube import Object
from nodeport_nft.model import Ranges, Ref
from nodeport_nft.store.api import Applied
from nodeport_nft.store.body import encoded
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.sqlite import dropped, outside, writers
from nodeport_nft.store.sqlite.known import KnownRows
from nodeport_nft.store.sqlite.schema import LAST_VERSION, has_rows, read_version
from nodeport_nft.store.versions import without_version
from nodeport_nft.store.writing import Plan, Put, plan


class Transaction:
    """A write in progress; ``Store.transaction`` begins it, and commits it when its block ends."""

    def __init__(self, db: sqlite3.Connection, ranges: Ranges, path: object) -> None:
        """Raises StoreError."""
        self._db = db
        self._path = path
        self._ranges = ranges
        outside.prepare(db)
        writers.prepare(db)
        dropped.prepare(db)
        self.dropped: list[str] = []
        """What is to be said of fields that were dropped with a change of type."""
        # A number is never given twice, even if the counter was set back.
        given = [read_version(db, path)]
        for table in ("objects", "tombstones"):
            query = f"SELECT max(resource_version) FROM {table} WHERE resource_version < ?"  # noqa: S608 (no input)
            given.append(db.execute(query, (LAST_VERSION // 2,)).fetchone()[0] or 0)
        self._version = max(given)

    def apply(self, objects: Iterable[Object], *, now: str, by_manifests: bool = False) -> tuple[Applied, ...]:
        """Stores the objects, each in place of what had its name, and allocates what their Services need (``plan``).

        ``by_manifests``: they come from manifests that are the whole state, and are theirs from now on; else they are
        not, even where nothing about them changes. Resource versions are given in the order of the objects. Those
        that such manifests name count for nothing: they are what is wanted, today and with every start.

        Raises Problems as ``plan`` does; nothing is written then.
        """
        if by_manifests:
            objects = map(without_version, objects)
        planned = plan(tuple(objects), (), KnownRows(self._db), self._ranges, now=now)
        return self.carry_out(planned, by_manifests=by_manifests)

    def carry_out(self, planned: Plan, *, by_manifests: bool = False) -> tuple[Applied, ...]:
        """Writes what was planned within this transaction, as ``apply`` has it."""
        self._delete(list(planned.deletes))
        applied: list[Applied] = []
        changed: list[tuple[Put, int]] = []
        for put in planned.puts:
            version = int(put.version) if put.version else 0
            if put.action != "unchanged":
                self._version += 1
                version = self._version
                changed.append((put, version))
            applied.append(put.applied(str(version)))
        self._write(changed)
        # Who drains a node does not take it over from the manifests that it is in.
        theirs = (put.ref for put in planned.puts if by_manifests or not put.only_drains)
        writers.note(self._db, theirs, by_manifests=by_manifests)
        dropped.remember(self._db, [put.wanted for put in planned.puts])
        self.dropped += planned.dropped
        return tuple(applied)

    def delete(self, kind: str, namespace: str, name: str) -> bool:
        """Deletes an object and gives back what it held; False if there is none of that name."""
        found = self.exists(Ref(kind, namespace, name))
        if found:
            self._delete([Ref(kind, namespace, name)])
        return found

    def exists(self, ref: Ref) -> bool:
        """Whether there is an object of that name, which may be damaged."""
        query = "SELECT 1 FROM objects WHERE kind = ? AND namespace = ? AND name = ?"
        return self._db.execute(query, ref).fetchone() is not None

    def of_others(self, keep: Iterable[Object] = ()) -> tuple[Ref, ...]:
        """The objects that are none of ``keep`` and that manifests did not write."""
        kept = {obj.ref for obj in keep}
        return tuple(ref for ref in writers.of_others(self._db) if ref not in kept)

    def is_of_manifests(self, ref: Ref) -> bool:
        """Whether manifests wrote that object last."""
        return writers.is_of_manifests(self._db, ref)

    def any_of_manifests(self) -> bool:
        """Whether manifests have written anything of what is stored."""
        return writers.any_of_manifests(self._db)

    def refuse_others(self, keep: Iterable[Object]) -> None:
        """Raises OthersObjects if manifests that hold ``keep`` alone would delete what they did not write."""
        writers.refuse_others(self._db, self._path, (obj.ref for obj in keep))

    def prune(self, keep: Iterable[Object], *, of_others: bool = True) -> tuple[str, ...]:
        """Deletes every object that is not one of ``keep`` (by kind, namespace and name); their references.

        ``of_others`` False: only those that manifests wrote. Called before ``apply``, it lets the applied Services
        claim what the deleted ones held.
        """
        kept: set[tuple[str, str, str]] = {obj.ref for obj in keep}
        if not of_others:
            kept.update(writers.of_others(self._db))
        rows = self._db.execute("SELECT kind, namespace, name FROM objects ORDER BY kind, namespace, name")
        doomed = [Ref(*key) for key in rows.fetchall() if key not in kept]
        self._delete(doomed)
        return tuple(reference(str(kind), str(name)) for kind, _, name in doomed)

    def holdings(self) -> dict[Ref, set[int | str]]:
        """What every object holds: nodePorts, and clusterIPs as text."""
        found: dict[Ref, set[int | str]] = {}
        for table, column in (("node_ports", "port"), ("cluster_ips", "ip")):
            rows = self._db.execute(f"SELECT {column}, kind, namespace, name FROM {table}")  # noqa: S608 (constants)
            for claim, *key in rows:
                found.setdefault(Ref(*key), set()).add(claim)
        return found

    def _write(self, changed: list[tuple[Put, int]]) -> None:
        services = {put.ref: service for put, _ in changed if (service := put.service) is not None}
        moved = {ref: holdings(service) for ref, service in services.items()}
        is_it = "kind = ? AND namespace = ? AND name = ?"
        # All is given back before anything is given: a number may go from one Service to another.
        freed = [put.ref for put, _ in changed if put.action != "created" and put.ref in moved]
        self._db.executemany(f"DELETE FROM node_ports WHERE {is_it}", freed)  # noqa: S608 (constants)
        self._db.executemany(f"DELETE FROM cluster_ips WHERE {is_it}", freed)  # noqa: S608
        created = [put.ref for put, _ in changed if put.action == "created"]
        if has_rows(self._db, "tombstones"):
            self._db.executemany(f"DELETE FROM tombstones WHERE {is_it}", created)  # noqa: S608
        self._db.executemany(
            "INSERT INTO objects (kind, namespace, name, resource_version, body) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (kind, namespace, name)"
            " DO UPDATE SET resource_version = excluded.resource_version, body = excluded.body",
            [(*put.ref, version, encoded(put.body).decode()) for put, version in changed],
        )
        self._db.executemany(
            "INSERT INTO node_ports (port, kind, namespace, name) VALUES (?, ?, ?, ?)",
            [(port, *ref) for ref, holding in moved.items() for port in holding.node_ports],
        )
        outside.put(self._db, services)
        self._db.executemany(
            "INSERT INTO cluster_ips (ip, kind, namespace, name) VALUES (?, ?, ?, ?)",
            [(str(ip), *ref) for ref, holding in moved.items() for ip in holding.cluster_ips],
        )
        self._store_version()

    def _delete(self, keys: list[Ref]) -> None:
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
