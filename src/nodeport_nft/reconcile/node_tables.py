"""A node's two tables: as they should be, and what makes the kernel's so.

``NodeTables`` holds what this node's two tables should be, a service at a time, and says what must be written.
``sync`` makes it so once: read back what the kernel holds, write the difference, in one transaction for both
families. A table of another schema (an older version of ours, a damaged one, one that somebody else made under our
name) is replaced as a whole in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain

from msgspec import Struct, field

from nodeport_nft.compile import (
    MAX_ENDPOINTS,
    TABLE,
    are_few,
    compile_node,
    compile_schema,
    compile_service,
    most_endpoints,
    nft_family,
    within_bounds,
)
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import (
    Family,
    LoadBalancing,
    NodeFacts,
    ObjectName,
    Service,
)
from nodeport_nft.plan import (
    Contest,
    Desired,
    Edits,
    ListedTable,
    Remove,
    Transaction,
    diff,
    plan_edits,
    plan_replacement,
)
from nodeport_nft.problems import counted
from nodeport_nft.reconcile.kept import Wants
from nodeport_nft.resolve import Backend, Frontend, Resolved
from nodeport_nft.ruleset import Schema, Table

Edited = Mapping[Family, Edits]

_NOTHING: Wants = dict.fromkeys(Family)
"""What a Service wants that is new, as all are at the start."""


class NodeTables(Struct):
    """Both families' tables as they should be on the node that ``facts`` describe.

    ``listed`` is what the kernel held at the start, None for an absent table. Where its schema is ours, endpoints
    keep the slots they have there; ``differences`` names what of it is not, and has the table replaced.
    """

    facts: NodeFacts
    listed: Mapping[Family, ListedTable | None] = field(default_factory=dict)
    schemas: dict[Family, Schema] = field(default_factory=dict)
    desired: dict[Family, Desired] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for family in Family:
            listed = self.listed.get(family)
            adopted = listed.elements if listed and not listed.differences else {}
            self.schemas[family] = compile_schema(family, self.facts)
            self.desired[family] = Desired(adopted=adopted, is_noting=False)
            self.desired[family].put((name, element.key) for name, element in compile_node(family, self.facts))

    @property
    def differences(self) -> dict[Family, tuple[str, ...]]:
        """What of the tables the kernel held is not as it should be, for people."""
        return {family: listed.differences for family, listed in self.listed.items() if listed}

    def put(self, service: Service, frontends: Iterable[Frontend]) -> None:
        """Serve ``service`` by these frontends, and by no others it may have had."""
        self.serve(service.key, self.wanted(service, frontends))

    def wanted(self, service: Service, frontends: Iterable[Frontend]) -> Wants:
        """What ``service`` is to want in order to be served by these frontends, for ``serve``."""
        return dict(compile_service(service, frontends, self.facts, self.schemas))

    def serve(self, key: ObjectName, wants: Wants) -> None:
        """Serve a Service by what it is to want, and by nothing else that it may have had.

        ``key`` is the Service's, as one object wherever it is kept, to save memory.
        """
        for family, desired in self.desired.items():
            desired.update(key, wants.get(family))

    def remove(self, key: ObjectName) -> None:
        """Serve this Service no longer."""
        self.serve(key, {})

    def forget(self) -> None:
        """Forget what the kernel held at the start: all endpoints have their slots."""
        self.listed = {}
        for desired in self.desired.values():
            desired.adopted = {}

    def adopt(self, listed: Mapping[Family, ListedTable | None]) -> None:
        """Let endpoints of restored services have the slots that they have in these tables, until ``forget``."""
        for family, desired in self.desired.items():
            held = listed.get(family)
            desired.adopted = held.elements if held and not held.differences else {}

    def wants(self, key: ObjectName) -> Wants:
        """What this Service is served by now, for ``restore``."""
        wants = {family: desired.contender(key) for family, desired in self.desired.items()}
        return wants if any(wants.values()) else _NOTHING

    def restore(self, key: ObjectName, wants: Wants) -> None:
        """Serve this Service as it was once served, in slots that do not depend on what was in between."""
        for family, desired in self.desired.items():
            desired.update(key, None)
            desired.update(key, wants[family])

    def first_transaction(self) -> tuple[Transaction, ...]:
        """What turns the kernel's tables as they were at the start into the desired ones."""
        listed = self.listed
        self.forget()
        return self.transaction_over(listed)

    def transaction_over(self, listed: Mapping[Family, ListedTable | None]) -> tuple[Transaction, ...]:
        """What turns these tables, all that the kernel holds, into the desired ones; costs what they hold."""
        transactions: list[Transaction] = []
        for family, schema in self.schemas.items():
            held, wanted = listed.get(family), self.table(family)
            self.desired[family].take_edits()
            if held is not None and not held.differences:
                transactions += plan_edits(schema, diff(held.table(schema), wanted))
            else:
                transactions.append(plan_replacement(wanted, held.memories if held else {}))
        return tuple(transactions)

    def take_edits(self) -> Edited:
        """What has changed since the last transaction, by family."""
        return {family: desired.take_edits() for family, desired in self.desired.items()}

    def edits(self) -> Edited:
        """What ``take_edits`` would give."""
        return {family: desired.edits() for family, desired in self.desired.items()}

    def transaction(self, edits: Edited) -> tuple[Transaction, ...]:
        """What carries out these edits."""
        return tuple(
            transaction for f, schema in self.schemas.items() for transaction in plan_edits(schema, edits[f])
        )

    def tables(self) -> tuple[Table, ...]:
        """The desired tables as values."""
        return tuple(self.table(family) for family in self.schemas)

    def table(self, family: Family) -> Table:
        """One of the desired tables as a value."""
        desired = self.desired[family]
        return Table(self.schemas[family], desired.elements, desired.maps, desired.chains)

    def problems(self) -> tuple[str, ...]:
        """Contested frontends (F10), by who lost them to whom; those of one loser are counted from some number on."""
        return counted((f"Service/{loser}", f"Service/{loser}: {text}") for loser, text in self.contested())

    def contested(self) -> Iterator[tuple[ObjectName, str]]:
        """Each contested frontend: who lost it, and to whom, with the remedy."""
        for desired in self.desired.values():
            for contest in desired.contests():
                yield ObjectName(*contest.loser[1:]), _told(contest)


def _told(contest: Contest) -> str:
    reason = "is older" if contest.holder[0] != contest.loser[0] else "is as old and comes first by its name"
    return (
        f"{' '.join(map(str, contest.key))} is held by Service/{contest.holder[1]}/{contest.holder[2]}, "
        f"which {reason}; change one of them"
    )


def service_problems(service: Service, frontends: Collection[Frontend], resolved: Resolved) -> tuple[str, ...]:
    """What an operator should mend of one service, on its own; those of one kind are counted from some number on."""
    if len(frontends) >= resolved.offered and not resolved.problems and are_few(frontends) and _are_light(frontends):
        return ()  # nearly all of them
    found = chain(_too_many(service, frontends, resolved.offered), resolved.problems)
    return counted((f"Service/{service.key}", text) for text in found)


def _are_light(frontends: Iterable[Frontend]) -> bool:
    """Whether the endpoints have the weight that nobody gave them."""
    before: tuple[Backend, ...] = ()
    for frontend in frontends:
        if frontend.backends is not before:  # a port's frontends have them in common
            before = frontend.backends
            if any(backend.weight != 1 for backend in before):
                return False
    return True


def _too_many(service: Service, frontends: Iterable[Frontend], offered: int) -> Iterable[str]:
    """The problems of a service that asks for more than is served (see ``resolve.bounds``).

    ``frontends`` are those that it has of the ``offered`` ones that it asks for.
    """
    kept = within_bounds(service, frontends)
    if len(kept) < offered:
        yield (
            f"Service/{service.key}: {len(kept)} of its {offered} addresses with a port are served, clusterIPs "
            "first, then nodePorts, externalIPs and load-balancer addresses: with the endpoints behind them they are "
            "more than one Service may have; split the Service"
        )
    room = most_endpoints(service)
    worst, what = max((len(f.backends) for f in kept), default=0), "endpoints"
    if worst <= room and service.load_balancing is not LoadBalancing.MAGLEV:
        room, worst = MAX_ENDPOINTS, max((sum(b.weight for b in f.backends) for f in kept), default=0)
        what = "endpoints, counted by weight"
    if worst > room:
        yield f"Service/{service.key}: {worst} {what}, of which the first {room} are used; split the Service"


def read_tables(nft: Nft, facts: NodeFacts) -> dict[Family, ListedTable | None]:
    """What the kernel holds of our two tables, None for one that it does not have."""
    return {family: nft.list_table(compile_schema(family, facts)) for family in Family}


def removal(nft: Nft) -> tuple[Transaction, ...]:
    """What removes those of our tables that are there (K5)."""
    families = [nft_family(family) for family in Family]
    present = [family for family in families if nft.has_table(family, TABLE)]
    return tuple(Transaction(family, TABLE, (Remove(family, TABLE),)) for family in present)
