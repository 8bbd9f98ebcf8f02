"""``store.copying`` for a file: read at one moment, and written as a whole before it is put in its place."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from nodeport_nft.kube import Object
from nodeport_nft.model import Ref
from nodeport_nft.store.checking import Outside
from nodeport_nft.store.copying import Image, body_of, image_of
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.sqlite import dropped, outside, writers
from nodeport_nft.store.sqlite.checking import read_contents
from nodeport_nft.store.sqlite.errors import translated
from nodeport_nft.store.sqlite.opening import place
from nodeport_nft.store.sqlite.schema import LAST_VERSION, create_schema, has_table, read_version


def read_image(db: sqlite3.Connection, path: object) -> Image:
    """All of a file, within a transaction."""
    contents = read_contents(db)
    of_manifests = frozenset(note.ref for note in contents.notes if note.what == "of_manifests")
    specs: dict[Ref, bytes] = {}
    if has_table(db, "leftovers"):
        rows = db.execute("SELECT kind, namespace, name, CAST(spec AS BLOB) FROM leftovers")
        specs = {Ref(*key): spec for *key, spec in rows}
    try:
        version = read_version(db, path)
    except StoreError:
        if not contents.objects:  # a file that was emptied is no backup
            raise
        version = 0  # the objects have their own
    return image_of(contents, specs, version, of_manifests)


def write_image(path: Path, image: Image) -> None:
    """A new file with all of it, or none. Raises StoreError, also where there is a file already."""
    with translated(path), closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        create_schema(db)
        for each in (outside, writers, dropped):
            each.prepare(db)
        db.execute("BEGIN")
        _fill(db, image)
        db.execute("COMMIT")
        place(path, db.serialize())


def _fill(db: sqlite3.Connection, image: Image) -> None:
    latest = image.version
    rows = []
    for version, each in _numbered(image.objects):
        rows.append((*each.ref, version, body_of(each).decode()))
        latest = max(latest, version)
    db.executemany("INSERT INTO objects (kind, namespace, name, resource_version, body) VALUES (?, ?, ?, ?, ?)", rows)
    ports = [(claim, *name) for claim, name in image.claims.items() if isinstance(claim, int)]
    ips = [(str(claim), *name) for claim, name in image.claims.items() if not isinstance(claim, int)]
    db.executemany("INSERT INTO node_ports (port, namespace, name) VALUES (?, ?, ?)", ports)
    db.executemany("INSERT INTO cluster_ips (ip, namespace, name) VALUES (?, ?, ?)", ips)
    db.executemany("INSERT INTO outside_ips (ip, namespace, name) VALUES (?, ?, ?)", map(_outside, image.outside))
    notes = [(ref.namespace, ref.name, json.dumps(spec)) for ref, spec in image.dropped.items()]
    db.executemany("INSERT INTO leftovers (namespace, name, spec) VALUES (?, ?, ?)", notes)
    writers.note(db, image.of_manifests, by_manifests=True)
    if latest > LAST_VERSION:
        raise StoreError(f"version {latest} is larger than any that a file can have")
    db.execute("UPDATE meta SET value = ? WHERE key = 'resource_version'", (latest,))


def _outside(each: Outside) -> tuple[str, str, str]:
    return (each.ip, *each.name)


def _numbered(objects: tuple[Object, ...]) -> Iterator[tuple[int, Object]]:
    """Each object with a version of its own, in the order of those it had: the same as far as no other has it."""
    last = 0
    for each in sorted(objects, key=lambda one: (int(one.version), one.ref)):
        last = max(last + 1, int(each.version))
        yield last, each
