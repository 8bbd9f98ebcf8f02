"""Who holds which number and which clusterIP while a write is under way."""

from __future__ import annotations

import sqlite3

from nodeport_nft.allocate import Claims
from nodeport_nft.model import IPAddress, ObjectName
from nodeport_nft.store.outside import Outside


class Holders:
    """Who holds what while a write is under way: the store's rows, and over them what this write changed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._ports: dict[int, ObjectName | None] = {}
        self._ips: dict[IPAddress, ObjectName | None] = {}

    def port(self, port: int) -> ObjectName | None:
        """Whose a number of the nodePort range is."""
        if port not in self._ports:
            self._ports[port] = self._owner("SELECT namespace, name FROM node_ports WHERE port = ?", port)
        return self._ports[port]

    def ip(self, ip: IPAddress) -> ObjectName | None:
        """Whose a clusterIP is."""
        if ip not in self._ips:
            self._ips[ip] = self._owner("SELECT namespace, name FROM cluster_ips WHERE ip = ?", str(ip))
        return self._ips[ip]

    def release(self, held: Claims) -> None:
        """Lets this be free."""
        self._ports.update(dict.fromkeys(held.node_ports))
        self._ips.update(dict.fromkeys(held.cluster_ips))

    def take(self, claimed: Claims, key: ObjectName) -> None:
        """Gives to ``key`` what is free of this; what is not stays with its holder."""
        for port in claimed.node_ports:
            if self.port(port) is None:
                self._ports[port] = key
        for ip in claimed.cluster_ips:
            if self.ip(ip) is None:
                self._ips[ip] = key

    def _owner(self, query: str, value: int | str) -> ObjectName | None:
        row = self._db.execute(query, (value,)).fetchone()
        return None if row is None else ObjectName(*row)


def claimant(holders: Holders, outside: Outside, key: ObjectName, ip: IPAddress) -> ObjectName | None:
    """Who keeps a Service from an address by claiming it from outside.

    One that names it as its clusterIP has more right than one that comes with the same write, but for what was
    claimed before.
    """
    return outside.claimant(ip, key, stored=holders.ip(ip) == key)
