"""The kernel's tables and the desired ones as values that can be compared.

Which slot an endpoint has depends on history, so what a frontend's slots hold is compared as a multiset; that
they are filled from the first one on without a hole is part of reading them. Elements that may linger count where
they are missing, and not where they are too many.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from lab.cluster import Cluster
from nodeport_nft.compile import LOCAL_SLOTS
from nodeport_nft.config import Config
from nodeport_nft.facts import gather
from nodeport_nft.kernel.host.addresses import read_host
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, NodeFacts, Snapshot
from nodeport_nft.reconcile import compile_snapshot, read_tables
from nodeport_nft.ruleset import Field, Table

Items = frozenset[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class State:
    """Both tables. ``whole`` is all but what may linger; a table that is absent or of another schema has nothing."""

    whole: Items
    lingering: Items

    def agrees(self, other: State) -> bool:
        """Whether the kernel, which holds this, may be said to be in the other state."""
        return self.whole == other.whole and self.lingering >= other.lingering


ABSENT = State(frozenset(), frozenset())


def wanted(snapshot: Snapshot, facts: NodeFacts) -> State:
    """What the tables should hold."""
    programme = compile_snapshot(snapshot, facts)
    return _merged([_items(family, programme.tables.table(family)) for family in Family])


def node_facts(cluster: Cluster, config: Config, snapshot: Snapshot, node: str = "worker-1") -> NodeFacts:
    """What the daemon knows of its node."""

    def find() -> NodeFacts:
        own = next((found for found in snapshot.nodes if found.name == node), None)
        return gather(config, name=node, node=own, node_ips=(), host=read_host())[0]

    return cluster.call(node, find)


def held(cluster: Cluster, facts: NodeFacts, node: str = "worker-1") -> State:
    """What the kernel's tables hold."""

    def read() -> State:
        found = []
        for family, listed in read_tables(Nft(), facts).items():
            if listed is None:
                continue
            if listed.differences:
                found.append((frozenset({("differs", family, listed.differences)}), frozenset[tuple[Any, ...]]()))
            else:
                schema = compile_snapshot(Snapshot(), facts).tables.schemas[family]
                found.append(_items(family, listed.table(schema)))
        return _merged(found)

    return cluster.call(node, read, timeout=120)


def _items(family: Family, table: Table) -> tuple[Items, Items]:
    whole: set[tuple[Any, ...]] = {(family, "map", name, declared) for name, declared in table.maps.items()}
    whole |= {(family, "chain", name, chain.rules) for name, chain in table.chains.items()}
    whole.add((family, "schema", table.schema.name))
    lingering: set[tuple[Any, ...]] = set()
    declared = {found.name: found for found in (*table.schema.maps, *table.maps.values())}
    for name, elements in table.elements.items():
        if declared[name].key[-1] is Field.SLOT:
            whole |= _pools(family, name, elements)
        else:
            target = lingering if declared[name].lingers else whole
            target |= {(family, name, key, element.value) for key, element in elements.items()}
    return frozenset(whole), frozenset(lingering)


def _pools(family: Family, name: str, elements: Any) -> set[tuple[Any, ...]]:
    """What each frontend's slots hold, in both pools it may have."""
    pools: dict[tuple[Any, ...], dict[int, Any]] = defaultdict(dict)
    for key, element in elements.items():
        first = LOCAL_SLOTS if key[-1] >= LOCAL_SLOTS else 0
        pools[(*key[:-1], first)][key[-1] - first] = element.value
    for key, slots in pools.items():
        assert sorted(slots) == list(range(len(slots))), f"{name}: the slots of {key} have a hole: {sorted(slots)}"
    return {(family, name, key, tuple(sorted(slots.values()))) for key, slots in pools.items()}


def _merged(found: list[tuple[Items, Items]]) -> State:
    return State(
        frozenset().union(*(whole for whole, _ in found)), frozenset().union(*(lingering for _, lingering in found))
    )
