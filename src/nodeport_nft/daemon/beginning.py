"""What the daemon begins with: all that the store and the kernel hold."""

from __future__ import annotations

from concurrent.futures import Executor, wait

from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.model import NodeFacts
from nodeport_nft.reconcile import Listed, NodeState
from nodeport_nft.sources.store import StoreSource
from nodeport_nft.store import StoreError


def read_all(
    facts: NodeFacts, tables: KernelTables, source: StoreSource, reporter: Reporter, workers: Executor
) -> tuple[NodeState, Listed]:
    """The state that the store wants, and what the tables hold. Raises KernelError, StoreError, MemoryError."""
    # A child lists the tables: meanwhile we can read the store.
    listing = workers.submit(tables.read, facts)
    try:
        changes = source.read()
    finally:
        wait([listing])  # nobody else may be at nftables before it is done
    known = listing.result()
    if source.fault:  # nothing read is not the same as nothing there
        raise StoreError(source.fault)
    reporter.problems("store", source.problems())
    reporter.doubts(source.take_doubts())
    objects = ((change.ref, change.values) for change in changes.changes)
    return NodeState.of(facts, known, objects, changes.unreadable), known
