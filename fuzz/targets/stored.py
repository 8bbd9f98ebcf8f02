"""Rows of a store that somebody has damaged. An input is kind, namespace, name and body, with NULs between them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

from fuzz.engine import Target
from fuzz.targets import manifests
from fuzz.targets.common import EMPTY, FACTS, NOW, RANGES, check_commands, check_lines
from fuzz.targets.common import manifests as texts
from nodeport_nft.cli.columns import endpoints_rows, object_listing
from nodeport_nft.cli.description import describe_node, describe_pod, describe_service
from nodeport_nft.cli.listing import Look
from nodeport_nft.manifest import KINDS, Manifests, Problems, read_manifests
from nodeport_nft.reconcile import NodeState
from nodeport_nft.render import write_transaction
from nodeport_nft.resolve import Resolver
from nodeport_nft.resolve.absence import Around
from nodeport_nft.store import Store, StoreError
from nodeport_nft.terminal import printable

_SHOWN_AT = datetime(2026, 1, 31, 13, tzinfo=UTC)


def run(data: bytes) -> None:
    """Put the row beside a good one, then read it as each command and the daemon do, and apply over it."""
    *row, body = data.split(b"\0", 3)
    with Store(":memory:", ranges=RANGES) as store:
        store._db.deserialize(_good_store())
        # TEXT of bytes that may be none, as a bad disk or another program may leave it.
        store._db.execute(
            "INSERT OR REPLACE INTO objects VALUES"
            " (CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), 1000, CAST(? AS TEXT))",
            (*(row + [b""] * 3)[:3], body),
        )
        for use in (_follow, _show, _check, _apply_over):
            try:
                use(store)
            except (Problems, StoreError) as error:
                check_lines(str(error).split("\n"))


def _follow(store: Store) -> None:
    """As the daemon: what can be read is served, the rest is told."""
    state = NodeState(FACTS, EMPTY)
    for ref, values in store.values():
        if isinstance(values, tuple):
            state.put(ref, values)
        else:
            check_lines(str(values).split("\n"))
    state.compile(state.touched)
    check_lines(state.problems())
    for change in state.tables.transaction(state.tables.take_edits()):
        check_commands(write_transaction(change))
    store.changed_since(0)


def _check(store: Store) -> None:
    """As check, which mends what can be mended in one go, and says the rest."""
    check_lines([printable(str(each)) for each in store.check().findings])
    left = store.check(repair=True).findings
    assert store.check().findings == left
    assert not any(each.repair for each in left)


def _show(store: Store) -> None:
    """As get and describe, each object on its own; and what the whole of them is compiled into."""
    around = Around(store.snapshot(), store.objects)
    for kind in KINDS:
        for stored in store.objects(kind):
            json.dumps(stored.raw)
            try:
                if kind in ("Service", "Pod", "Node", "EndpointSlice"):
                    listing = object_listing(kind, [stored], wide=True, now=_SHOWN_AT)
                    listing.text(Look(namespaces=True, labels=True))
                if kind == "Service":
                    describe_service(stored, Resolver(around.index, node_name=""), around, _SHOWN_AT, "worker-1")
                elif kind == "Pod":
                    describe_pod(stored, {}, around.index, _SHOWN_AT)
                elif kind == "Node":
                    describe_node(stored)
            except Problems as error:
                check_lines(str(error).split("\n"))
    snapshot = store.snapshot()
    endpoints_rows(snapshot, store.objects("Endpoints"), None)


def _apply_over(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.apply(_good().objects, now=NOW)


def seeds() -> Sequence[bytes]:
    """The objects of all manifests, as they are stored."""
    found = []
    for text in texts():
        with Store(":memory:", ranges=RANGES) as store:
            with store.transaction() as transaction:
                transaction.apply(_read(text).objects, now=NOW)
            found += [
                b"\0".join(
                    part.encode() for part in (stored.kind, stored.namespace, stored.name, json.dumps(stored.raw))
                )
                for stored in store.objects()
            ]
    return found


def _read(text: bytes) -> Manifests:
    return read_manifests(["-"], ranges=RANGES, stdin=io.BytesIO(text))


@cache
def _good() -> Manifests:
    return _read(texts()[0])


@cache
def _good_store() -> bytes:
    with Store(":memory:", ranges=RANGES) as store:
        with store.transaction() as transaction:
            transaction.apply(_good().objects, now=NOW)
        return store._db.serialize()


TARGET = Target("stored", run, seeds, (*manifests.TOKENS, b"\0", b'"uid"', b'"creationTimestamp"', b'"\\ud800"'))
