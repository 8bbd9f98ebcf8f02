"""Manifests: text → objects → store → endpoints → tables → nft's text, and back out of that text."""

from __future__ import annotations

import io

from fuzz.engine import Target
from fuzz.targets.common import NOW, RANGES, check_lines, manifests, serve, small
from nodeport_nft.manifest import Problems, read_manifests
from nodeport_nft.model import Ref
from nodeport_nft.plan import plan_replacement
from nodeport_nft.render import to_json, write_transaction
from nodeport_nft.store import Store
from tests.listings.read import read_table


def run(data: bytes) -> None:
    """``nodeport-nft delete -f -`` and ``nodeport-nft render -f -``, in this process."""
    try:
        read_manifests(["-"], ranges=RANGES, names_only=True, stdin=io.BytesIO(data))
    except Problems as error:
        check_lines(str(error).split("\n"))
    try:
        read = read_manifests(["-"], ranges=RANGES, stdin=io.BytesIO(data))
        check_lines(read.warnings)
        with Store(":memory:", ranges=RANGES) as store:
            with store.transaction() as transaction:
                transaction.apply(read.objects, now=NOW)
                applied = transaction.apply(read.objects, now=NOW)
            stored = dict(store.readable())
            snapshot = store.snapshot()
    except Problems as error:
        check_lines(str(error).split("\n"))
        return
    answered = {Ref(obj.kind, obj.namespace, obj.name): obj.values for obj in (each.object for each in applied)}
    assert answered == stored, "what is applied is not what is read back"
    if not snapshot.services:
        return
    for table in small(serve(snapshot)):
        written = write_transaction(plan_replacement(table, {}))
        listed = read_table(written.split("\n", 2)[2], table.schema)
        assert not listed.differences, f"what is written is not read back: {listed.differences}"
        assert not listed.unreadable, f"what is written is not read back: {listed.unreadable}"
        to_json([table])


TOKENS = (
    *b"Service EndpointSlice Endpoints Pod Node List v1 discovery.k8s.io/v1 NodePort LoadBalancer ClusterIP".split(),
    *b"ExternalName Local Cluster PreferLocal ClientIP SCTP TCP UDP IPv4 IPv6 PreferDualStack None ports".split(),
    *b"nodeport-nft/weights nodeport-nft/weight nodeport-nft/load-balancing maglev 10.244.1.1=3 zone,!spot".split(),
    *b"nodeport-nft/node-port-source-ranges nodeport-nft/node-port-nodes 31000 nodePort targetPort".split(),
)

TARGET = Target("manifests", run, manifests, TOKENS)
