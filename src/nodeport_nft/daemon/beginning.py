"""What the daemon begins with: all that the store and the kernel hold."""

from __future__ import annotations

import asyncio

from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.model import Node, NodeFacts, Ref, ServiceCIDR
from nodeport_nft.reconcile import Listed, NodeState
from nodeport_nft.store import StoreError
from nodeport_nft.store.api import Changes, Source


def take_told(source: Source, reporter: Reporter) -> Changes:
    """What the source has to tell; its problems and warnings are told to whom they concern. Raises StoreError."""
    changes = source.take()
    reporter.problems("store", source.problems())
    reporter.doubts(changes.warnings)
    return changes


async def until_listed(source: Source, woken: asyncio.Event) -> None:
    """Return when the source may have something to tell, or ``woken`` was set, which then is cleared."""
    waits = [asyncio.create_task(source.changed()), asyncio.create_task(woken.wait())]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
    woken.clear()
    for wait in done:
        wait.result()


def own_node(changes: Changes, name: str, before: Node | None = None) -> Node | None:
    """This node's object among all there is; what it was ``before`` where it cannot be read.

    Raises StoreError where nothing else is known of it.
    """
    ref = Ref("Node", "", name)
    known = next((change.values for change in changes.changes if change.ref == ref), None)
    if known is None and ref in changes.unreadable:
        if before is None:
            raise StoreError(f"{ref} cannot be read, and without it nothing is known of this node; apply it again")
        return before
    return next((value for value in known or () if isinstance(value, Node)), None)


def service_cidrs(changes: Changes) -> tuple[ServiceCIDR, ...]:
    """What an API server gives clusterIPs from, among all there is."""
    values = (value for change in changes.changes for value in change.values)
    return tuple(value for value in values if isinstance(value, ServiceCIDR))


def begun(changes: Changes, facts: NodeFacts, tables: KernelTables) -> tuple[NodeState, Listed]:
    """The state that all there is wants, and what the tables hold. Raises KernelError, MemoryError."""
    objects = ((change.ref, change.values) for change in changes.changes)
    if changes.unreadable:
        known = tables.read(facts)
        return NodeState.of(facts, known, objects, changes.unreadable), known
    state = NodeState.of(facts, {}, objects)
    state.prepare()
    # Only now: another process may be at it still. And what is listed is soon given up again; among values that stay,
    # its memory could not be given back.
    known = tables.read(facts)
    state.tables.adopt(known)
    return state, known
