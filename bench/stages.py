"""One measured process: ``python -m bench.stages read|program COUNT``, a JSON object on stdout.

Peak memory is the process's own high-water mark (``ru_maxrss``) when the stage ends, so each stage is measured with
all before it in the same process; children that load large transactions are told apart.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.workload import ENDPOINTS, FACTS, RANGES, make_service, make_slice, make_snapshot, write_manifests
from lab.namespaces import enter_private_namespaces
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.manifest import read_manifests
from nodeport_nft.model import Snapshot
from nodeport_nft.reconcile import compile_snapshot, read_tables
from nodeport_nft.render import write_transaction
from nodeport_nft.resolve import Resolver
from nodeport_nft.store import Store

CHANGES = 40

Figures = dict[str, dict[str, float]]


@contextmanager
def measured(figures: Figures, stage: str) -> Iterator[None]:
    gc.collect()
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    figures[stage] = {"seconds": seconds, "megabytes": _peak(resource.RUSAGE_SELF)}


def _peak(whose: int) -> float:
    return resource.getrusage(whose).ru_maxrss / 1024


def read(count: int) -> Figures:
    """Manifests from a file, and into an empty store."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "manifests.yaml")
        write_manifests(count, path)
        with measured(figures, "read manifests"):
            manifests = read_manifests([str(path)], ranges=RANGES)
        store = Store(Path(directory, "store.db"), ranges=RANGES)
        with measured(figures, "apply to the store"), store.transaction() as transaction:
            transaction.apply(manifests.objects, now="2026-01-01T00:00:00Z")
        store.close()
    return figures


def program(count: int) -> Figures:
    """A snapshot into the kernel, then one endpoint more and one less."""
    gc.disable()  # as the command line does: all of this lives until the process ends
    enter_private_namespaces()
    figures: Figures = {}
    snapshot = make_snapshot(count)
    nft = Nft()
    listed = read_tables(nft, FACTS)
    with measured(figures, "compile"):
        tables = compile_snapshot(snapshot, FACTS, listed).tables
        transactions = tables.first_transaction()
    with measured(figures, "render"):
        text = "".join(map(write_transaction, transactions))
    del text
    with measured(figures, "apply to an empty kernel"):
        nft.apply(transactions)
    loader = _peak(resource.RUSAGE_CHILDREN)
    if loader:
        figures["  its loader"] = {"megabytes": loader}
    changed = make_service(count // 2)
    for stage, sizes in (
        ("one endpoint more or less", (ENDPOINTS + 1, ENDPOINTS)),
        ("the same across a power of two", (ENDPOINTS + 2, ENDPOINTS)),
    ):
        times = []
        for i in range(CHANGES):
            piece = make_slice(count // 2, sizes[i % 2])
            resolver = Resolver(Snapshot((changed,), (piece,)), FACTS.name)
            start = time.perf_counter()
            tables.put(changed, resolver.resolved(changed).frontends)
            nft.apply(tables.transaction(tables.take_edits()))
            times.append(time.perf_counter() - start)
        figures[stage] = {"seconds": statistics.median(times), "megabytes": _peak(resource.RUSAGE_SELF)}
    with measured(figures, "read back, nothing to write"):
        again = compile_snapshot(snapshot, FACTS, read_tables(nft, FACTS)).tables
        assert again.first_transaction() == ()
    return figures


if __name__ == "__main__":
    print(json.dumps({"read": read, "program": program}[sys.argv[1]](int(sys.argv[2]))))
