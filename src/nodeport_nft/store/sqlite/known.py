"""What the file knows of what a write asks about (``store.writing.Known``)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from nodeport_nft.allocate import Claims
from nodeport_nft.kube import Object
from nodeport_nft.model import IPAddress, ObjectName, Ref
from nodeport_nft.store.bodies import document_of
from nodeport_nft.store.objects import Damaged
from nodeport_nft.store.sqlite.dropped import dropped_spec
from nodeport_nft.store.sqlite.outside import OutsideRows
from nodeport_nft.store.sqlite.rows import read_row
from nodeport_nft.store.sqlite.schema import has_rows


class KnownRows:
    """The rows, within a transaction: all of one moment."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._outside = OutsideRows(db)
        self._filled = {table for table in ("objects", "node_ports", "cluster_ips") if has_rows(db, table)}

    def find(self, ref: Ref) -> Object | Damaged | None:
        """The object of that name, None if there is none."""
        found = read_row(self._db, ref) if "objects" in self._filled else None
        return None if found is None else document_of(found)

    def held_by(self, key: ObjectName) -> Claims:
        """What a Service holds; rows that somebody has damaged say nothing."""
        # With the kind, which is the same in all rows: the index by owner begins with it.
        owner = "kind = 'Service' AND namespace = ? AND name = ?"
        rows = self._db.execute(f"SELECT port FROM node_ports WHERE {owner}", key)  # noqa: S608 (constants)
        numbers = frozenset(port for (port,) in rows if isinstance(port, int) and 0 < port < 1 << 16)
        ips: list[IPAddress] = []
        for (text,) in self._db.execute(f"SELECT ip FROM cluster_ips WHERE {owner}", key):  # noqa: S608
            with suppress(ValueError):
                ips.append(ip_address(text))
        return Claims(numbers, frozenset(ips))

    def port_holder(self, port: int) -> ObjectName | None:
        """Whose a number of the nodePort range is."""
        return self._holder("node_ports", "port", port)

    def ip_holder(self, ip: IPAddress) -> ObjectName | None:
        """Whose a clusterIP is."""
        return self._holder("cluster_ips", "ip", str(ip))

    def outside_claimants(self, ip: IPAddress) -> Collection[ObjectName]:
        """Which Services claim an address from outside."""
        return self._outside.claimants(ip)

    def dropped_spec(self, ref: Ref) -> Mapping[str, Any]:
        """The spec that came last with what was dropped of it."""
        return dropped_spec(self._db, ref)

    def _holder(self, table: str, column: str, value: int | str) -> ObjectName | None:
        if table not in self._filled:
            return None
        query = f"SELECT namespace, name FROM {table} WHERE {column} = ?"  # noqa: S608 (constants)
        row = self._db.execute(query, (value,)).fetchone()
        return None if row is None else ObjectName(*row)
