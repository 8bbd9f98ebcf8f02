"""What of a document is stored: what this program reads or shows, and nothing that only a kubelet needs.

A Pod's manifest holds passwords in its containers' environments, arguments and probes; the annotation in which
kubectl notes the last applied manifest holds all of it once more. None of that has a use here, so none of it is kept,
and what an earlier version has kept is erased. Services and endpoints are stored as they were read.

Source: the Kubernetes API reference of core/v1 PodSpec, PodStatus, NodeSpec and NodeStatus.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from nodeport_nft.manifest.annotations import PREFIX

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_Shape = Mapping[str, Any] | list[Any] | None
"""A mapping's keys to keep, each with the shape of its value; the shape of each item of a list; None: as it is."""

_METADATA: _Shape = dict.fromkeys(
    ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels", "annotations")
)
_CONDITIONS: _Shape = [dict.fromkeys(("type", "status", "reason"))]  # a word; messages may quote anything
_CONTAINERS: _Shape = [
    {"name": None, "restartPolicy": None, "ports": [dict.fromkeys(("name", "containerPort", "protocol"))]}
]
_SHAPES: dict[str, Mapping[str, Any]] = {
    "Pod": {
        "apiVersion": None,
        "kind": None,
        "metadata": _METADATA,
        "spec": {
            "nodeName": None,
            "hostNetwork": None,
            "containers": _CONTAINERS,
            "initContainers": _CONTAINERS,  # one with restartPolicy Always is a sidecar, with ports like any other
        },
        "status": {
            **dict.fromkeys(("phase", "reason", "hostIP", "podIP")),
            "podIPs": [{"ip": None}],
            "conditions": _CONDITIONS,
            "containerStatuses": [
                {**dict.fromkeys(("name", "ready", "restartCount")), "state": {"waiting": {"reason": None}}}
            ],
        },
    },
    "Node": {
        "apiVersion": None,
        "kind": None,
        "metadata": _METADATA,
        "spec": {
            **dict.fromkeys(("podCIDR", "podCIDRs", "unschedulable")),
            "taints": [dict.fromkeys(("key", "value", "effect"))],
        },
        "status": {"addresses": [dict.fromkeys(("type", "address"))], "conditions": _CONDITIONS},
    },
}

_TRIMMED = 1
"""The value of the key ``trimmed`` in a store without anything that this version would not keep."""


def trimmed(body: dict[str, Any]) -> dict[str, Any]:
    """What is stored of ``body``, which stays as it is. It parses to the same values."""
    kind = body.get("kind")
    shape = _SHAPES.get(kind) if isinstance(kind, str) else None
    kept = body if shape is None else _kept(body, shape)
    metadata = kept.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(annotations, dict):
        return kept
    ours = {
        key: value
        for key, value in annotations.items()
        if key != LAST_APPLIED and (shape is None or key.startswith(PREFIX))
    }
    return kept if len(ours) == len(annotations) else {**kept, "metadata": {**kept["metadata"], "annotations": ours}}


def _kept(value: Any, shape: _Shape) -> Any:
    if isinstance(shape, Mapping) and isinstance(value, dict):
        return {key: _kept(item, shape[key]) for key, item in value.items() if key in shape}
    if isinstance(shape, list) and isinstance(value, list):
        return [_kept(item, shape[0]) for item in value]
    if shape is not None and isinstance(value, dict | list):
        return type(value)()  # as wrong as it was, without what is in it
    return value


def trim_store(db: sqlite3.Connection, *, is_sound: Callable[[], bool]) -> None:
    """Erase from the store what an earlier version has kept, once; for watchers nothing has changed.

    Not only the bodies are written anew, but the whole file: what was deleted before is still in its free pages, and
    in the log. Where that cannot be done now (another writer is at work, a reader still needs the old log, the medium
    is read-only or full) nothing is amiss, and the next one who opens the store tries again. A store is marked last.
    One that is not sound is left as it is: whoever reads the pages of a damaged file may find rows missing.
    """
    timeout = db.execute("PRAGMA busy_timeout").fetchone()[0]
    db.execute("PRAGMA busy_timeout = 0")  # whoever only reads must not wait for a writer
    try:
        with suppress(sqlite3.DatabaseError):  # also of a damaged store, of which reading says more
            if _is_trimmed(db) or not is_sound():
                return
            _trim_bodies(db)
            db.execute("VACUUM")
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                mark_trimmed(db)
    finally:
        db.execute(f"PRAGMA busy_timeout = {timeout}")


def mark_trimmed(db: sqlite3.Connection) -> None:
    """Notes that there is nothing to erase, as in a new store."""
    db.execute(
        "INSERT INTO meta (key, value) VALUES ('trimmed', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_TRIMMED,),
    )


def _is_trimmed(db: sqlite3.Connection) -> bool:
    row = db.execute("SELECT value FROM meta WHERE key = 'trimmed'").fetchone()
    return row is not None and isinstance(row[0], int) and row[0] >= _TRIMMED


def _trim_bodies(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        rows = db.execute("SELECT rowid, CAST(body AS BLOB) FROM objects")  # text that is no UTF-8 would end the loop
        changed = [(text, row) for row, body in rows if (text := _trimmed_text(body)) is not None]
        db.executemany("UPDATE objects SET body = ? WHERE rowid = ?", changed)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _trimmed_text(text: bytes) -> str | None:
    """A stored body without what is not kept; None where that is all of it, or where somebody has damaged it."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    kept = trimmed(body)
    return None if kept == body else json.dumps(kept, separators=(",", ":"))
