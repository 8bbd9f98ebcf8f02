"""What a write of one object asks of the file does not grow with what is in it: nothing is looked for row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from nodeport_nft.kube import parse_object
from nodeport_nft.model import Ranges, Ref
from nodeport_nft.store import Store

NOW = "2026-01-31T12:00:00Z"
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"type": "NodePort", "ports": [{"port": 80}]},
}
OTHER = {**SERVICE, "metadata": {"name": "api", "namespace": "default"}, "spec": {"ports": [{"port": 81}]}}
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "ports": [{"port": 8080}],
    "endpoints": [{"addresses": ["10.1.0.1"]}],
}
CHANGED = {**SERVICE, "spec": {"type": "NodePort", "ports": [{"port": 8080}], "externalIPs": ["203.0.113.9"]}}
OBJECTS = [parse_object(each) for each in (SERVICE, OTHER, SLICE)]
REFS = [each.ref for each in OBJECTS]

WRITES: dict[str, Callable[[Store], object]] = {
    "again": lambda store: store.write(OBJECTS, now=NOW),
    "a change": lambda store: store.write([parse_object(CHANGED)], now=NOW),
    "a trial": lambda store: store.write([parse_object(CHANGED)], REFS[2:], now=NOW, dry_run=True),
    "a deletion": lambda store: store.write(deletes=REFS, now=NOW),
    "one object": lambda store: store.find(REFS[0]),
    "one that is not there": lambda store: store.find(Ref("Pod", "default", "web")),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_statement_finds_its_rows_by_an_index(tmp_path: Path, write: Callable[[Store], object]) -> None:
    with closing(Store(tmp_path / "store.db", ranges=Ranges())) as store:
        store.write([*OBJECTS, parse_object(CHANGED)][1:], now=NOW)
        stated: list[str] = []
        store._db.set_trace_callback(stated.append)
        write(store)
        store._db.set_trace_callback(None)
        told = {each: plan_of(store._db, each) for each in stated if each.startswith(("SELECT", "DELETE", "UPDATE"))}
    assert told
    # To see whether there is anything at all, the first row that comes will do.
    assert [each for each, plan in told.items() if "SCAN" in plan and not each.endswith("LIMIT 1")] == []


def plan_of(db: sqlite3.Connection, statement: str) -> str:
    if "sqlite_master" in statement:
        return ""  # the tables there are
    return "; ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}"))
