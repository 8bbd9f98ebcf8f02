"""Who claims which address from outside (externalIPs, load-balancer addresses), so that none becomes a clusterIP.

A table beside the allocations: an address may have several claimants, and none of them holds it against the others.
A store of an earlier version has no such table; the first writer makes and fills it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress

from nodeport_nft.manifest import Problems, parse_object
from nodeport_nft.model import IPAddress, ObjectName, Service
from nodeport_nft.store.schema import made_anew

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


def claimed_from_outside(service: Service) -> frozenset[str]:
    """The addresses that a Service claims, as texts: of an IPv6 address, the author can choose the hash, too."""
    return frozenset(str(ip) for ip in (*service.external_ips, *service.load_balancer_ips))


def prepare(db: sqlite3.Connection) -> None:
    """Make the table where there is none, with what the stored Services claim. Within a write."""
    if not made_anew(db, "outside_ips", _TABLE, _INDEX):
        return
    found: dict[tuple[str, str, str], Service] = {}
    # As bytes: rows that somebody has damaged are passed over here, and told where they are read.
    query = (
        "SELECT CAST(namespace AS BLOB), CAST(name AS BLOB), CAST(body AS BLOB) FROM objects WHERE kind = 'Service'"
    )
    for namespace, name, body in db.execute(query):
        with suppress(ValueError, RecursionError, Problems):
            raw = json.loads(body)
            for value in parse_object(raw).values if isinstance(raw, dict) else ():
                if isinstance(value, Service):
                    found["Service", namespace.decode(), name.decode()] = value
    put(db, found)


def put(db: sqlite3.Connection, services: Mapping[tuple[str, str, str], Service]) -> None:
    """Let these stored Services claim what they say, and nothing else."""
    db.executemany("DELETE FROM outside_ips WHERE kind = ? AND namespace = ? AND name = ?", services.keys())
    db.executemany(
        "INSERT INTO outside_ips (ip, kind, namespace, name) VALUES (?, ?, ?, ?)",
        [(ip, *key) for key, service in services.items() for ip in sorted(claimed_from_outside(service))],
    )


class Outside:
    """Who claims an address while a write is under way: the store's rows, but for the Services that are written."""

    def __init__(self, db: sqlite3.Connection, written: Iterable[Service]) -> None:
        self._db = db
        self._written = {service.key: claimed_from_outside(service) for service in written}
        self._new: dict[str, list[ObjectName]] = {}
        for key in sorted(self._written):
            for ip in self._written[key]:
                self._new.setdefault(ip, []).append(key)
        self._is_empty = not db.execute("SELECT 1 FROM outside_ips LIMIT 1").fetchone()

    def claimant(self, ip: IPAddress, other_than: ObjectName, *, stored: bool) -> ObjectName | None:
        """Another Service that claims an address. ``stored``: one that did so before this write, and still does."""
        text = str(ip)
        found = [] if stored else [key for key in self._new.get(text, ()) if key != other_than]
        if not self._is_empty:
            rows = self._db.execute("SELECT namespace, name FROM outside_ips WHERE ip = ? ORDER BY 1, 2", (text,))
            keys = (ObjectName(*row) for row in rows)
            found += (key for key in keys if key != other_than and text in self._written.get(key, (text,)))
        return min(found, default=None)
