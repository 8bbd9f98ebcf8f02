"""Who claims which address from outside (externalIPs, load-balancer addresses), so that none becomes a clusterIP.

A table beside the allocations: an address may have several claimants, and none of them holds it against the others.
A store of an earlier version has no such table; the first writer makes and fills it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress

from nodeport_nft.kube import parse_object
from nodeport_nft.model import IPAddress, ObjectName, Ref, Service
from nodeport_nft.problems import Problems
from nodeport_nft.store.holders import claimed_from_outside
from nodeport_nft.store.sqlite.schema import has_rows, has_table, made_anew

_TABLE = """
CREATE TABLE outside_ips (
    ip TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'Service' CHECK (kind = 'Service'),
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (ip, kind, namespace, name),
    FOREIGN KEY (kind, namespace, name) REFERENCES objects ON DELETE CASCADE
) STRICT, WITHOUT ROWID
"""
_INDEX = "CREATE INDEX outside_ips_by_owner ON outside_ips (kind, namespace, name)"


def prepare(db: sqlite3.Connection) -> None:
    """Make the table where there is none, with what the stored Services claim. Within a write."""
    if made_anew(db, "outside_ips", _TABLE, _INDEX):
        put(db, _stored_services(db))


def _stored_services(db: sqlite3.Connection) -> dict[Ref, Service]:
    """Every Service that can be read; rows that somebody has damaged are told where objects are read."""
    services: dict[Ref, Service] = {}
    query = (
        "SELECT CAST(namespace AS BLOB), CAST(name AS BLOB), CAST(body AS BLOB) FROM objects WHERE kind = 'Service'"
    )
    for namespace, name, body in db.execute(query):
        with suppress(ValueError, RecursionError, Problems):
            raw = json.loads(body)
            for value in parse_object(raw).values if isinstance(raw, dict) else ():
                if isinstance(value, Service):
                    services[Ref("Service", namespace.decode(), name.decode())] = value
    return services


def put(db: sqlite3.Connection, services: Mapping[Ref, Service]) -> None:
    """Let these stored Services claim what they say, and nothing else."""
    if has_rows(db, "outside_ips"):
        db.executemany("DELETE FROM outside_ips WHERE kind = ? AND namespace = ? AND name = ?", services.keys())
    db.executemany(
        "INSERT INTO outside_ips (ip, kind, namespace, name) VALUES (?, ?, ?, ?)",
        [(ip, *key) for key, service in services.items() for ip in sorted(claimed_from_outside(service))],
    )


class OutsideRows:
    """Who claims an address; where a store of an earlier version is only read, told by its Services themselves."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._claimants: dict[str, list[ObjectName]] | None = None
        if not has_table(db, "outside_ips"):
            self._claimants = {}
            for service in _stored_services(db).values():
                for ip in claimed_from_outside(service):
                    self._claimants.setdefault(ip, []).append(service.key)
        elif not has_rows(db, "outside_ips"):
            self._claimants = {}

    def claimants(self, ip: IPAddress) -> Collection[ObjectName]:
        """The Services that claim it."""
        if self._claimants is not None:
            return self._claimants.get(str(ip), ()) if self._claimants else ()
        rows = self._db.execute("SELECT namespace, name FROM outside_ips WHERE ip = ?", (str(ip),))
        return [ObjectName(*row) for row in rows]
