"""What hands do to a store past this program, with sqlite3 or etcdctl, and what `check` has to say of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

from nodeport_nft.model import ObjectName, Ref
from nodeport_nft.store.checking import Claim, Outside

WEB, API, GONE = (ObjectName("default", name) for name in ("web", "api", "gone"))


def ref(name: ObjectName) -> Ref:
    return Ref("Service", *name)


class Hand(Protocol):
    """One that writes whatever it likes."""

    def claim(self, claim: Claim, holder: ObjectName | None) -> None:
        """Let a claim be kept for somebody; None: for nobody."""

    def outside(self, item: Outside, *, there: bool) -> None:
        """Note a claim from outside, or forget it."""

    def note(self, of: Ref) -> None:
        """Note that something of an object was dropped."""

    def body(self, of: Ref, body: str | None) -> None:
        """Put a document there; None: take the object away and nothing with it."""


class FileHand:
    """With sqlite3, whose foreign keys are off."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def claim(self, claim: Claim, holder: ObjectName | None) -> None:
        table, column = ("node_ports", "port") if isinstance(claim, int) else ("cluster_ips", "ip")
        value = claim if isinstance(claim, int) else str(claim)
        self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (value,))
        if holder:
            self._db.execute(f"INSERT INTO {table} ({column}, namespace, name) VALUES (?, ?, ?)", (value, *holder))

    def outside(self, item: Outside, *, there: bool) -> None:
        values = (item.ip, *item.name)
        self._db.execute("DELETE FROM outside_ips WHERE ip = ? AND namespace = ? AND name = ?", values)
        if there:
            self._db.execute("INSERT INTO outside_ips (ip, namespace, name) VALUES (?, ?, ?)", values)

    def note(self, of: Ref) -> None:
        self._db.execute("INSERT INTO leftovers (namespace, name, spec) VALUES (?, ?, '{}')", of[1:])

    def body(self, of: Ref, body: str | None) -> None:
        is_it = "kind = ? AND namespace = ? AND name = ?"
        if body is None:
            self._db.execute(f"DELETE FROM objects WHERE {is_it}", of)
        elif not self._db.execute(f"UPDATE objects SET body = ? WHERE {is_it}", (body, *of)).rowcount:
            version = "SELECT coalesce(max(resource_version), 0) + 1 FROM objects"
            self._db.execute(f"INSERT INTO objects VALUES (?, ?, ?, ({version}), ?)", (*of, body))


@contextmanager
def file_hand(path: Path) -> Iterator[FileHand]:
    with closing(sqlite3.connect(path)) as db, db:
        yield FileHand(db)


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit of the store of ``scene``: what is found, as (whose place, part of the text, whether it is mended)."""

    what: str
    edit: Callable[[Hand, dict[str, Any]], None]
    found: tuple[tuple[object, str, bool], ...]
    mended: tuple[tuple[object, str, bool], ...] | None = None
    """What a check finds after the repair; None: what was not to be mended."""


WEB_IP, API_IP, FREE_IP = (ip_address(f"10.96.0.{last}") for last in (10, 11, 12))
FOREIGN = "198.51.100.7"


def documents() -> list[dict[str, Any]]:
    """Two Services: web has 30001, 10.96.0.10 and claims 198.51.100.7 from outside; api 30002 and 10.96.0.11."""
    made = []
    for number, name, ip, more in ((30001, "web", WEB_IP, {"externalIPs": [FOREIGN]}), (30002, "api", API_IP, {})):
        spec = {"type": "NodePort", "clusterIP": str(ip), "ports": [{"port": 80, "nodePort": number}], **more}
        metadata = {"name": name, "namespace": "default"}
        made.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    return made


def _copied(hand: Hand, bodies: dict[str, Any], created: str = "") -> None:
    metadata = {**bodies["web"]["metadata"], "name": "copy"}
    if created:
        metadata["creationTimestamp"] = created
    spec = {key: value for key, value in bodies["web"]["spec"].items() if key != "externalIPs"}
    hand.body(Ref("Service", "default", "copy"), json.dumps({**bodies["web"], "metadata": metadata, "spec": spec}))


def _copied_and_orphaned(hand: Hand, bodies: dict[str, Any]) -> None:
    _copied(hand, bodies, created="2001-01-01T00:00:00Z")
    hand.claim(30001, GONE)
    hand.claim(WEB_IP, None)


def _swapped(hand: Hand, _: dict[str, Any]) -> None:
    hand.claim(30001, API)
    hand.claim(30002, WEB)


def _renamed(hand: Hand, bodies: dict[str, Any]) -> None:
    hand.body(ref(WEB), None)
    hand.body(Ref("Service", "default", "webb"), json.dumps(bodies["web"]))


COPY = Ref("Service", "default", "copy")
EDITS = (
    Edit("a claim of nobody's", lambda hand, _: hand.claim(30050, GONE), ((30050, "which is not there", True),)),
    Edit("an address of nobody's", lambda hand, _: hand.claim(FREE_IP, GONE), ((FREE_IP, "is not there", True),)),
    Edit("a claim that its holder has not", lambda hand, _: hand.claim(30050, API), ((30050, "has it not", True),)),
    Edit("no claim", lambda hand, _: hand.claim(30001, None), ((30001, "may be given twice", True),)),
    Edit("no address", lambda hand, _: hand.claim(API_IP, None), ((API_IP, "may be given twice", True),)),
    Edit(
        "a claim of another", lambda hand, _: hand.claim(30001, API), ((30001, "Service/default/web has it", True),)
    ),
    Edit("a claim of one that is gone", lambda hand, _: hand.claim(30001, GONE), ((30001, "web has it", True),)),
    Edit("two claims swapped", _swapped, ((30001, "web has it", True), (30002, "api has it", True))),
    Edit(
        "an object taken away",
        lambda hand, _: hand.body(ref(WEB), None),
        (
            (30001, "which is not there", True),
            (WEB_IP, "which is not there", True),
            (Outside(FOREIGN, WEB), "which is not there", True),
        ),
    ),
    Edit(
        "an object that cannot be read",
        lambda hand, _: hand.body(ref(WEB), "no json"),
        ((ref(WEB), "cannot be read: its body is not JSON", False),),
    ),
    Edit(
        "an object that says nonsense",
        lambda hand, bodies: hand.body(ref(WEB), json.dumps({**bodies["web"], "spec": {"ports": 7}})),
        ((ref(WEB), "cannot be read: spec.ports", False),),
    ),
    Edit("an object under another name", _renamed, ((Ref("Service", "default", "webb"), "is that of", False),)),
    Edit("a copy", _copied, ((COPY, "nodePort 30001 and clusterIP 10.96.0.10 as Service/default/web has", False),)),
    Edit(
        "an older copy, and nobody's claims",
        _copied_and_orphaned,
        (
            (ref(WEB), "30001 and clusterIP 10.96.0.10 as Service/default/copy has, which keeps them", False),
            (30001, "Service/default/copy has it", True),
            (WEB_IP, "Service/default/copy has it", True),
        ),
    ),
    Edit(
        "a claim from outside that is not noted",
        lambda hand, _: hand.outside(Outside(FOREIGN, WEB), there=False),
        ((Outside(FOREIGN, WEB), "which is not noted", True),),
    ),
    Edit(
        "a claim from outside that nobody makes",
        lambda hand, _: hand.outside(Outside(FOREIGN, API), there=True),
        ((Outside(FOREIGN, API), "which claims it not", True),),
    ),
    Edit(
        "a note of nobody",
        lambda hand, _: hand.note(ref(GONE)),
        ((ref(GONE), "is left over of Service/default/gone", True),),
    ),
    Edit("a note of somebody", lambda hand, _: hand.note(ref(WEB)), ()),
)
