"""What is read out of the store: objects as documents, and all of them as a Snapshot of the model."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from nodeport_nft.manifest import Problem, Problems, parse_object
from nodeport_nft.model import EndpointSlice, Node, Pod, Ref, Service, Snapshot, Value

_REFS = {"EndpointSlice": "endpointslice.discovery.k8s.io"}


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is stored; ``raw`` has its ``metadata.resourceVersion`` filled in."""

    kind: str
    namespace: str
    name: str
    resource_version: int
    raw: dict[str, Any]


def reference(kind: str, name: str) -> str:
    """An object as kubectl names it in its answers: "service/web"."""
    return f"{_REFS.get(kind, kind.lower())}/{name}"


def with_resource_version(body: dict[str, Any], version: int) -> dict[str, Any]:
    """A stored body as a reader sees it."""
    metadata = body.get("metadata")
    own = metadata if isinstance(metadata, dict) else {}
    return {**body, "metadata": {**own, "resourceVersion": str(version)}}


def _document(text: str) -> dict[str, Any]:
    """A stored body; empty, and so no object, where somebody has damaged it."""
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def read_objects(
    db: sqlite3.Connection, kind: str | None = None, namespace: str | None = None
) -> Iterator[StoredObject]:
    """The objects of a kind and a namespace (None: of all), sorted by kind, namespace and name."""
    rows = db.execute(
        "SELECT kind, namespace, name, resource_version, body FROM objects"
        " WHERE (:kind IS NULL OR kind = :kind) AND (:namespace IS NULL OR namespace = :namespace)"
        " ORDER BY kind, namespace, name",
        {"kind": kind, "namespace": namespace},
    )
    for found, space, name, version, body in rows:
        yield StoredObject(found, space, name, version, with_resource_version(_document(body), version))


def read_object(db: sqlite3.Connection, kind: str, namespace: str, name: str) -> StoredObject | None:
    """One object, None if there is none of that name."""
    row = db.execute(
        "SELECT resource_version, body FROM objects WHERE kind = ? AND namespace = ? AND name = ?",
        (kind, namespace, name),
    ).fetchone()
    if row is None:
        return None
    return StoredObject(kind, namespace, name, row[0], with_resource_version(_document(row[1]), row[0]))


def read_values(db: sqlite3.Connection) -> Iterator[tuple[Ref, tuple[Value, ...] | Problems]]:
    """Every object parsed into the model, or what is wrong with it; no ranges are checked (see ``read_snapshot``)."""
    for stored in read_objects(db):
        # Of a hundred thousand objects each names its kind and namespace: one object for all of them.
        yield Ref(sys.intern(stored.kind), sys.intern(stored.namespace), stored.name), parsed(stored)


def parsed(stored: StoredObject) -> tuple[Value, ...] | Problems:
    """What a stored object is made into, or what is wrong with it."""
    try:
        return parse_object(stored.raw, ranges=None).values
    except Problems as error:
        return error


def read_snapshot(db: sqlite3.Connection) -> Snapshot:
    """Every object parsed into the model, sorted by namespace and name.

    No ranges are checked: what was given stays good when they change. Raises Problems with all that is wrong.
    """
    services: list[Service] = []
    slices: list[EndpointSlice] = []
    pods: list[Pod] = []
    nodes: list[Node] = []
    problems: list[Problem] = []
    for _, values in read_values(db):
        if isinstance(values, Problems):
            problems.extend(values.problems)
            continue
        for value in values:
            match value:
                case Service():
                    services.append(value)
                case EndpointSlice():
                    slices.append(value)
                case Pod():
                    pods.append(value)
                case Node():
                    nodes.append(value)
    if problems:
        raise Problems(tuple(problems))
    by_name = attrgetter("namespace", "name")  # slices come from two kinds, the rest is in this order already
    return Snapshot(tuple(services), tuple(sorted(slices, key=by_name)), tuple(pods), tuple(nodes))
