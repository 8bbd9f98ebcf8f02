"""Which flows the kernel has to forget once the tables are in force (K2): see ``flows``. Pure.

Of all frontends, at the start and where somebody else has changed the tables; else of those alone that a transaction
has changed, so that a change costs what it touches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from nodeport_nft.compile import LOCAL_SLOTS
from nodeport_nft.flows import FRONTENDS, Frontends, guarding_set, only_draining, read_frontends
from nodeport_nft.model import Family, IPAddress, IPNetwork, NodePortMode, ObjectName, Snapshot
from nodeport_nft.plan import Edits, ListedTable
from nodeport_nft.reconcile.node_tables import Edited, NodeTables
from nodeport_nft.reconcile.state import compile_snapshot
from nodeport_nft.ruleset import Element, Elements, Field, Key, Schema, Table


def stale_frontends(
    snapshot: Snapshot,
    tables: NodeTables,
    listed: Mapping[Family, ListedTable | None],
    local_ips: Iterable[IPAddress],
) -> dict[Family, Frontends]:
    """What tells stale flows from good ones, once ``tables`` are in force.

    ``listed`` is what the kernel held before, ``local_ips`` are the node's addresses.
    """
    before = {family: held.elements for family, held in listed.items() if held}
    now = {family: tables.table(family) for family in Family}
    foreign = [ip for service in snapshot.services if service.proxy_name is not None for ip in service.cluster_ips]
    return _frontends(snapshot, tables, now, before, local_ips, tables.facts.service_cidrs, foreign)


def changed_frontends(
    snapshot: Snapshot, tables: NodeTables, edits: Edited, local_ips: Iterable[IPAddress]
) -> dict[Family, Frontends]:
    """The same for what ``edits`` have changed, and for all that the touched services have.

    ``snapshot`` has the touched services and their endpoints.
    """
    now: dict[Family, Table] = {}
    before: dict[Family, Elements] = {}
    own_keys: dict[Family, set[Key]] = {}
    touched = {service.key for service in snapshot.services}
    for family, edited in edits.items():
        table = tables.table(family)
        own_keys[family] = set(_frontends_of(tables, family, touched, everything=bool(edited)))
        keys = own_keys[family] | set(_edited_keys(table.schema, edited))
        if not keys:
            continue
        own = {name: dict(held) for name, held in table.elements.items() if name == "node-port-ips"}
        narrowed = _narrowed(table, keys)
        values = [element.value for held in narrowed.values() for element in held.values()]
        guards = {guarding_set(value, table.chains) for value in values} & table.elements.keys()
        sources = {name: dict(table.elements[name]) for name in guards}
        now[family] = Table(table.schema, narrowed | own | sources, table.maps, table.chains)
        held = {
            name: {key: old for key, (old, _) in pairs.items() if old is not None}
            for name, pairs in edited.elements.items()
        }
        before[family] = held | own
    return _frontends(snapshot, tables, now, before, local_ips, own_keys=own_keys) if now else {}


def _frontends(
    snapshot: Snapshot,
    tables: NodeTables,
    now: Mapping[Family, Table],
    before: Mapping[Family, Elements],
    local_ips: Iterable[IPAddress],
    service_cidrs: Iterable[IPNetwork] = (),
    foreign: Iterable[IPAddress] = (),
    own_keys: Mapping[Family, set[Key]] | None = None,
) -> dict[Family, Frontends]:
    """``own_keys``: the frontends that the snapshot's services have, where it does not have all services."""
    everywhere = tables.facts.node_port_mode is NodePortMode.ALL
    local = [ip for ip in local_ips if everywhere and not ip.is_loopback]
    rest = only_draining(snapshot)
    draining = dict(zip(Family, compile_snapshot(rest, tables.facts).tables.tables(), strict=True)) if rest else {}
    if own_keys is not None:  # among themselves they may seem to have what in truth is another's
        draining = {f: replace(t, elements=_narrowed(t, own_keys.get(f, ()))) for f, t in draining.items()}
    return {
        family: read_frontends(
            table,
            before=before.get(family, {}),
            draining=draining.get(family),
            local_ips=[ip for ip in local if ip.version == family],
            service_cidrs=service_cidrs,
            foreign=foreign,
        )
        for family, table in now.items()
    }


def _edited_keys(schema: Schema, edits: Edits) -> Iterator[Key]:
    """The frontends of which an element has changed."""
    for declared in schema.maps:
        has_slots = declared.key[-1] is Field.SLOT
        if (declared.key[:-1] if has_slots else declared.key) in FRONTENDS:
            for key in edits.elements.get(declared.name, ()):
                yield key[:-1] if has_slots else key


def _frontends_of(
    tables: NodeTables, family: Family, services: Iterable[ObjectName], *, everything: bool
) -> Iterator[Key]:
    """The frontends that these services have. No element need have changed: the chains that it leads to may have,
    and an endpoint that drains has left the tables long before it is gone. The latter concerns UDP alone, so it is
    UDP alone where nothing is written.
    """
    desired = tables.desired[family]
    for service in services:
        contender = desired.contender(service)
        for pools in contender.frontends if contender else ():
            for pool in pools:
                if (everything or "udp" in pool.key) and desired.holder(pool.map, pool.key) == service:
                    yield pool.key


def _narrowed(table: Table, keys: Iterable[Key]) -> dict[str, dict[Key, Element]]:
    """Of a table's elements those of these frontends."""
    found: dict[str, dict[Key, Element]] = {}
    slot_maps = {declared.name for declared in table.schema.maps if declared.key[-1] is Field.SLOT}
    for declared in table.schema.maps:
        held, kept = table.elements.get(declared.name, {}), found.setdefault(declared.name, {})
        for key in keys:
            if declared.name not in slot_maps:
                kept.update({key: held[key]} if key in held else {})
                continue
            for slot in (0, LOCAL_SLOTS):
                while (element := held.get((*key, slot))) is not None:
                    kept[element.key] = element
                    slot += 1
    return found
