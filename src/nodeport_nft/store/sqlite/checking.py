"""``store.checking`` in a file: all of its tables at one moment, and repairs within the transaction that found them.

SQLite's own constraints keep all this, so what is found was written by a program that does without them (foreign keys
are off unless a connection wants them), or is left of a damaged page.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from ipaddress import ip_address

from nodeport_nft.model import IPAddress, ObjectName, Ref
from nodeport_nft.store.bodies import document_of
from nodeport_nft.store.checking import Checked, Claim, Contents, Finding, Item, Note, Outside, Repair, findings
from nodeport_nft.store.sqlite.rows import read_rows
from nodeport_nft.store.sqlite.schema import has_table
from nodeport_nft.terminal import printable

_NOTES = ("leftovers", "of_manifests")
_NAMED = "kind IS CAST(? AS TEXT) AND namespace IS CAST(? AS TEXT) AND name IS CAST(? AS TEXT)"


class RowWords:
    """How sqlite3 calls it (``checking.Words``)."""

    def item(self, item: Item) -> str:
        """A claim or a note."""
        match item:
            case Outside(ip, name):
                return f"outside_ips {ip} {name}"
            case Note(table, ref):
                return f"{table} {ref}"
            case int():
                return f"node_ports {item}"
            case _:
                return f"cluster_ips {item}"

    def object(self, ref: Ref) -> str:
        """An object."""
        return str(ref)

    def removal(self, ref: Ref) -> str:
        """How to get rid of it."""
        return f"restore the store from a copy, or delete that row of objects ({ref.kind}, {ref.name})"


def check(db: sqlite3.Connection, *, repair: bool) -> Checked:
    """What is wrong; within a transaction, which has to be a writing one to ``repair``."""
    found = findings(read_contents(db), RowWords())
    if not repair:
        return Checked(found)
    mended = tuple(each for each in found if each.repair)
    for each in mended:
        if each.repair:
            _mend(db, each.repair)
    return Checked(tuple(each for each in found if not each.repair), mended)


def read_contents(db: sqlite3.Connection) -> Contents:
    """Everything that is stored."""
    claims: dict[Claim, ObjectName | None] = dict(_ports(db))
    strange: list[Finding] = []
    for text, *key in db.execute("SELECT ip, namespace, name FROM cluster_ips"):
        if (ip := _address(text)) is None:
            where = f"cluster_ips {printable(text)}"
            strange.append(Finding(where, "is not an address as it is written here", "delete that row with sqlite3"))
        else:
            claims[ip] = ObjectName(*key)
    outside = None
    if has_table(db, "outside_ips"):
        rows = db.execute("SELECT ip, namespace, name FROM outside_ips")
        outside = frozenset(Outside(ip, ObjectName(*key)) for ip, *key in rows)
    return Contents(tuple(map(document_of, read_rows(db))), claims, outside, frozenset(_notes(db)), tuple(strange))


def _ports(db: sqlite3.Connection) -> Iterator[tuple[int, ObjectName]]:
    for port, *key in db.execute("SELECT port, namespace, name FROM node_ports"):
        yield port, ObjectName(*key)


def _notes(db: sqlite3.Connection) -> Iterator[Note]:
    for table in _NOTES:
        if has_table(db, table):
            for key in db.execute(f"SELECT kind, namespace, name FROM {table}"):  # noqa: S608 (constants)
                yield Note(table, Ref(*key))


def _address(text: str) -> IPAddress | None:
    try:
        ip: IPAddress = ip_address(text)
    except ValueError:
        return None
    return ip if str(ip) == text else None


def _mend(db: sqlite3.Connection, repair: Repair) -> None:
    item, holder = repair.item, repair.holder
    match item:
        case Note(table, ref):
            db.execute(f"DELETE FROM {table} WHERE {_NAMED}", tuple(map(_bound, ref)))  # noqa: S608 (constants)
        case Outside(ip, name) if holder is None:
            where = "ip IS CAST(? AS TEXT) AND namespace IS CAST(? AS TEXT) AND name IS CAST(? AS TEXT)"
            values = tuple(map(_bound, (ip, *name)))
            db.execute(f"DELETE FROM outside_ips WHERE {where}", values)  # noqa: S608 (constants)
        case Outside(ip, name):
            db.execute("INSERT INTO outside_ips (ip, namespace, name) VALUES (?, ?, ?)", (ip, *name))
        case _:
            table, column = ("node_ports", "port") if isinstance(item, int) else ("cluster_ips", "ip")
            value = item if isinstance(item, int) else str(item)
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (value,))  # noqa: S608 (constants)
            if holder is not None:
                insert = f"INSERT INTO {table} ({column}, namespace, name) VALUES (?, ?, ?)"  # noqa: S608
                db.execute(insert, (value, *holder))


def _bound(part: str) -> bytes:
    """A name for a query, which may be no text where a row is damaged."""
    return part.encode("utf-8", "surrogateescape")
