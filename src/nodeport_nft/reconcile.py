"""From desired state to the kernel: the one place where the pure rooms and the kernel meet.

``NodeTables`` holds what this node's two tables should be, a service at a time, and says what must be written.
``sync`` makes it so once: read back what the kernel holds, write the difference, in one transaction for both
families. A table of another schema (an older version of ours, a damaged one, one that somebody else made under our
name) is replaced as a whole in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from nodeport_nft.compile import (
    MAGLEV_SLOTS,
    MAX_ENDPOINTS,
    TABLE,
    compile_node,
    compile_schema,
    compile_service,
    nft_family,
)
from nodeport_nft.flows import UDPFrontends, only_draining, read_frontends
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import (
    Family,
    IPAddress,
    LoadBalancing,
    NodeFacts,
    NodePortMode,
    ObjectName,
    Service,
    Snapshot,
)
from nodeport_nft.plan import (
    Desired,
    Remove,
    Transaction,
    diff,
    plan_edits,
    plan_replacement,
)
from nodeport_nft.render import ListedTable, schema_differences
from nodeport_nft.resolve import Frontend, Resolver
from nodeport_nft.ruleset import Contender, Schema, Table


@dataclass(slots=True)
class NodeTables:
    """Both families' tables as they should be on the node that ``facts`` describe.

    ``listed`` is what the kernel held at the start, None for an absent table. Where its schema is ours, endpoints
    keep the slots they have there; ``differences`` names what of it is not, and has the table replaced.
    """

    facts: NodeFacts
    listed: Mapping[Family, ListedTable | None] = field(default_factory=dict)
    schemas: dict[Family, Schema] = field(default_factory=dict)
    desired: dict[Family, Desired] = field(default_factory=dict)
    differences: dict[Family, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for family in Family:
            schema = compile_schema(family, self.facts)
            listed = self.listed.get(family)
            differences = schema_differences(listed, schema) if listed else ()
            adopted = listed.elements if listed and not differences else {}
            self.schemas[family], self.differences[family] = schema, differences
            self.desired[family] = Desired(adopted=adopted)
            self.desired[family].put(compile_node(family, self.facts))

    def put(self, service: Service, frontends: Iterable[Frontend]) -> None:
        """Serve ``service`` by these frontends, and by no others it may have had."""
        wanted: dict[Family, Contender] = dict(compile_service(service, frontends, self.facts, self.schemas))
        for family, desired in self.desired.items():
            desired.update(service.key, wanted.get(family))

    def remove(self, key: ObjectName) -> None:
        """Serve this Service no longer."""
        for desired in self.desired.values():
            desired.update(key, None)

    def first_transaction(self) -> tuple[Transaction, ...]:
        """What turns the kernel's tables as they were at the start into the desired ones."""
        transactions: list[Transaction] = []
        for family, schema in self.schemas.items():
            listed, wanted = self.listed.get(family), self.table(family)
            self.desired[family].take_edits()
            self.desired[family].adopted = {}
            if listed is not None and not self.differences[family]:
                transactions += plan_edits(schema, diff(listed.table(schema), wanted))
            else:
                transactions.append(plan_replacement(wanted, listed.memories if listed else {}))
        return tuple(transactions)

    def next_transaction(self) -> tuple[Transaction, ...]:
        """What turns the tables as of the last transaction into the desired ones; costs what has changed."""
        edits = ((schema, self.desired[family].take_edits()) for family, schema in self.schemas.items())
        return tuple(transaction for schema, changed in edits for transaction in plan_edits(schema, changed))

    def tables(self) -> tuple[Table, ...]:
        """The desired tables as values."""
        return tuple(self.table(family) for family in self.schemas)

    def table(self, family: Family) -> Table:
        """One of the desired tables as a value."""
        desired = self.desired[family]
        return Table(self.schemas[family], desired.elements, desired.maps, desired.chains)

    def problems(self) -> tuple[str, ...]:
        """Contested frontends (F10), by who lost them to whom."""
        return tuple(
            f"Service/{contest.loser[1]}/{contest.loser[2]}: {' '.join(map(str, contest.key))} is held by "
            f"Service/{contest.holder[1]}/{contest.holder[2]}, which is older; change one of them"
            for desired in self.desired.values()
            for contest in desired.contests()
        )


@dataclass(frozen=True, slots=True)
class Programme:
    """A node's desired tables with everything an operator should hear about them."""

    tables: NodeTables
    services: int
    families: frozenset[Family]
    problems: tuple[str, ...]


def compile_snapshot(
    snapshot: Snapshot, facts: NodeFacts, listed: Mapping[Family, ListedTable | None] | None = None
) -> Programme:
    """Compile the whole desired state for one node. Pure; the order of the snapshot's objects does not matter."""
    tables = NodeTables(facts, listed or {})
    resolver = Resolver(snapshot, facts.name, facts.zone)
    problems: list[str] = []
    families: set[Family] = set()
    served = 0
    for service in sorted(snapshot.services, key=lambda s: s.key):
        frontends = resolver.resolve(service)
        tables.put(service, frontends)
        served += bool(frontends)
        families.update(frontend.family for frontend in frontends)
        problems += _too_many(service, frontends)
    return Programme(tables, served, frozenset(families), (*problems, *tables.problems()))


def _too_many(service: Service, frontends: Collection[Frontend]) -> Iterable[str]:
    hashed = service.load_balancing is LoadBalancing.MAGLEV
    room = MAGLEV_SLOTS if hashed else MAX_ENDPOINTS
    counts = (len(f.backends) if hashed else sum(b.weight for b in f.backends) for f in frontends)
    worst = max(counts, default=0)
    if worst > room:
        what = "endpoints" if worst == max(len(f.backends) for f in frontends) else "endpoints, counted by weight"
        yield f"Service/{service.key}: {worst} {what}, of which the first {room} are used; split the Service"


def read_tables(nft: Nft, facts: NodeFacts, *, bulk: bool = False) -> dict[Family, ListedTable | None]:
    """What the kernel holds of our two tables, None for one that it does not have. ``bulk``: they may be large."""
    return {family: nft.list_table(compile_schema(family, facts), bulk=bulk) for family in Family}


def udp_frontends(
    snapshot: Snapshot,
    programme: Programme,
    listed: Mapping[Family, ListedTable | None],
    local_ips: Iterable[IPAddress],
) -> dict[Family, UDPFrontends]:
    """What tells stale UDP flows from good ones, once ``programme`` is in force (K2). Pure.

    ``listed`` is what the kernel held before, ``local_ips`` are the node's addresses.
    """
    tables, facts = programme.tables, programme.tables.facts
    everywhere = facts.node_port_mode is NodePortMode.ALL
    rest = only_draining(snapshot)
    draining = dict(zip(Family, compile_snapshot(rest, facts).tables.tables(), strict=True)) if rest else {}
    foreign = [ip for service in snapshot.services if service.proxy_name is not None for ip in service.cluster_ips]
    found = {}
    for family, table in zip(Family, tables.tables(), strict=True):
        before = listed.get(family)
        found[family] = read_frontends(
            table,
            before=before.elements if before else {},
            draining=draining.get(family),
            local_ips=[ip for ip in local_ips if everywhere and ip.version == family and not ip.is_loopback],
            service_cidrs=facts.service_cidrs,
            foreign=foreign,
        )
    return found


def removal(nft: Nft) -> tuple[Transaction, ...]:
    """What removes those of our tables that are there (K5)."""
    families = [nft_family(family) for family in Family]
    present = [family for family in families if nft.has_table(family, TABLE)]
    return tuple(Transaction(family, TABLE, (Remove(family, TABLE),)) for family in present)
