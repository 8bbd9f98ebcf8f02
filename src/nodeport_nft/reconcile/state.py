"""What a node should be like, kept up to date object by object; pure.

``put`` takes an object as it is now and remembers which services that touches; ``compile`` compiles those and no
others. What a change costs does not depend on how many services there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from heapq import merge
from ipaddress import ip_address
from itertools import islice
from operator import itemgetter

from msgspec import Struct, field

from nodeport_nft.model import (
    MEMBER,
    TOGETHER,
    Family,
    Member,
    NodeFacts,
    ObjectName,
    Parsed,
    ProbeFailure,
    Ref,
    Service,
    Snapshot,
    Value,
)
from nodeport_nft.plan import ListedTable
from nodeport_nft.reconcile.kept import Kept, Listed, Wants, cluster_ips
from nodeport_nft.reconcile.node_tables import NodeTables, service_problems
from nodeport_nft.reconcile.own_dns import REF as DNS_REF
from nodeport_nft.reconcile.own_dns import OwnDNS, own_dns_problems
from nodeport_nft.resolve import Claimable, Frontend, FrontendKind, Index, Resolved, Resolver
from nodeport_nft.resolve.index import by_object
from nodeport_nft.ruleset import Contender


class NodeState:
    """The objects, and the tables of the node that ``facts`` describe.

    ``touched`` are the services to compile. ``starving`` counts those that policy Local leaves without an endpoint on
    this node while there are some elsewhere, by family and ``"internal"`` or ``"external"``. ``idle`` counts those
    that refuse connections to an address of theirs for want of any usable endpoint, by family (F5). ``served`` are
    those that have a frontend. ``renamed`` are those whose addresses may have changed; who keeps names empties it.
    ``kept`` is what the kernel had of objects that could not be read at the start.
    """

    def __init__(self, facts: NodeFacts, listed: Mapping[Family, ListedTable | None] | None = None) -> None:
        """``listed`` is what the kernel holds: endpoints keep the slots they have there."""
        self.index = Index()
        self.kept = Kept()
        self.touched: set[ObjectName] = set()
        self.renamed: set[ObjectName] = set()
        self.starving: Counter[tuple[Family, str]] = Counter()
        self.idle: Counter[Family] = Counter()
        self.served: set[ObjectName] = set()
        self._own_dns = OwnDNS(self.index)
        self._idling: dict[ObjectName, frozenset[Family]] = {}  # those of longest standing first
        self._starved: dict[ObjectName, frozenset[tuple[Family, str]]] = {}
        self.refit(facts, listed or {})

    @classmethod
    def of(
        cls,
        facts: NodeFacts,
        listed: Mapping[Family, ListedTable | None],
        objects: Iterable[Parsed],
        unreadable: Collection[Ref] = (),
    ) -> NodeState:
        """The state that all these objects want, still to be compiled; the order of them does not matter.

        Objects that are ``unreadable`` keep what the kernel, which holds ``listed``, has of them.
        """
        state = cls(facts, listed)
        touched: set[ObjectName] = set()
        for ref, values in objects:
            touched |= state.index.put(ref, () if state._is_own(ref) else values)
        # The index's own names where there are: each is kept in many places, and is one object then.
        state.touched |= {*state.index.services, *touched}
        state.renamed |= state.touched
        state.keep(unreadable, listed)
        return state

    def refit(self, facts: NodeFacts, listed: Mapping[Family, ListedTable | None]) -> None:
        """Begin anew for other facts; every service is touched."""
        self.facts = facts
        self.tables = NodeTables(facts, listed)
        self._resolver = Resolver(self.index, facts.name, facts.zone, Claimable.of(facts))
        self._problems: dict[ObjectName, tuple[str, ...]] = {}
        self._prepared = _Prepared()
        self.touched |= self.index.services.keys()
        for key, wants in self.kept.services.items():
            self.tables.restore(key, wants)
        self._settle_dns(self.kept.refs)

    @property
    def resolver(self) -> Resolver:
        """Joins the services with their endpoints, as they are now."""
        return self._resolver

    def put(self, ref: Ref, values: tuple[Value, ...]) -> set[ObjectName]:
        """Let an object have these values, none if it is gone; the services that this touches."""
        if self._is_own(ref):
            values = ()
        touched = self.kept.release(ref)
        for key in tuple(touched):
            touched |= self.index.hold(key, ())
        touched |= self.index.put(ref, values)
        if ref.kind == "Service":
            touched |= self._settle_dns(self.kept.refs)
        self.touched |= touched
        self.renamed |= touched
        self._prepared.drop(touched)
        return touched

    def _is_own(self, ref: Ref) -> bool:
        """Whether it is this node's registration: whatever became of that, the node and its endpoints are here."""
        return ref.kind == MEMBER and ref.name == self.facts.name

    def _settle_dns(self, unreadable: Collection[Ref]) -> set[ObjectName]:
        """Offer the cluster's DNS, or give way to whom the store has in its place; the services that this touches."""
        touched = self._own_dns.settle(self.facts, withheld=DNS_REF in unreadable)
        self.touched |= touched
        self.renamed |= touched
        return touched

    def keep(self, unreadable: Collection[Ref], listed: Listed) -> None:
        """Let objects that cannot be read keep what the kernel, which holds ``listed``, has of them.

        All others have been put in before.
        """
        self._settle_dns(unreadable)  # one that cannot be read is not to be mistaken for ours
        self.kept = Kept.of(unreadable, self.index, self.tables.schemas, listed)
        for key, wants in self.kept.services.items():
            self.tables.restore(key, wants)
            self.touched |= self.index.hold(key, cluster_ips(wants))
        self.touched |= self.kept.endpoints.keys()

    def compile(self, keys: Iterable[ObjectName]) -> dict[ObjectName, Wants]:
        """Compile these services, which are sorted; what each wanted until now, for ``NodeTables.restore``."""
        prepared, self._prepared = self._prepared, _Prepared()
        before = {}
        others = self._wanted([key for key in keys if key not in prepared.keys])
        # In one order, whatever was prepared: it has a say in the slots of a frontend that several services want.
        for key, wants in merge(prepared.items(), others, key=itemgetter(0)):
            before[key] = self.tables.wants(key)
            self.tables.serve(key, wants)
        return before

    def prepare(self) -> None:
        """Compile what is touched as far as nobody need know what the kernel holds; ``compile`` does the rest."""
        self._prepared = _Prepared()
        for key, wants in self._wanted(sorted(self.touched)):
            self._prepared.put(key, wants)

    def _wanted(self, keys: Iterable[ObjectName]) -> Iterator[tuple[ObjectName, Wants]]:
        """What each of these services is to want; it is taken note of, and no more."""
        keys = iter(keys)
        while some := list(islice(keys, TOGETHER)):
            services = [self.index.services.get(key) for key in some]
            resolved = [self._resolver.resolved(service) if service else Resolved() for service in services]
            frontends = [
                self.kept.completed(service, found.frontends) if service else ()
                for service, found in zip(services, resolved, strict=True)
            ]
            for key, service, own, found in zip(some, services, frontends, resolved, strict=True):
                if service or key not in self.kept.services:
                    self._note(key, service, own, found)
            yield from [
                (key, self._wants(key, service, own))
                for key, service, own in zip(some, services, frontends, strict=True)
            ]

    def _wants(self, key: ObjectName, service: Service | None, frontends: Iterable[Frontend]) -> Wants:
        if service:
            return self.tables.wanted(service, frontends)  # also without any: another proxy's has clusterIPs in a set
        return self.tables.wants(key) if key in self.kept.services else {}

    def problems(self) -> tuple[str, ...]:
        """What of the services an operator should mend."""
        own = (problem for key in sorted(self._problems) for problem in self._problems[key])
        return (*own, *self.tables.problems(), *own_dns_problems(self.facts, self.index))

    def contested(self) -> Iterator[tuple[ObjectName, str]]:
        """Each frontend that a service wants and another one has (F10): who lost it, and to whom, with the remedy."""
        return self.tables.contested()

    def service_problems(self) -> Iterator[tuple[ObjectName, str]]:
        """What an operator should mend of a service, on its own: addresses it does not get, and what is too many."""
        for key in sorted(self._problems):
            for problem in self._problems[key]:
                yield key, problem.removeprefix(f"Service/{key}: ")

    def idle_services(self, most: int) -> tuple[int, tuple[ObjectName, ...]]:
        """How many Services have an address without any usable endpoint, and the first few; whatever their number."""
        return len(self._idling), tuple(islice(self._idling, most))

    def snapshot(self, keys: Collection[ObjectName] | None = None) -> Snapshot:
        """These services (None: all) as values, with all that may be endpoints of theirs, and what has failed."""
        wanted = self.index.services.keys() if keys is None else keys
        services = [self.index.services[key] for key in wanted if key in self.index.services]
        slices = [piece for service in services for piece in self.index.slices(service)]
        pods = {
            (pod.namespace, pod.name): pod
            for service in (services if self.index.has_pods else ())
            if service.selector
            for pod in self.index.selected(service)
        }
        index = self.index
        return Snapshot(
            tuple(services),
            tuple(slices),
            tuple(pods.values()),
            tuple(index.nodes.values()),
            tuple(Member(name, at) for name, at in index.lost.items()),
            tuple(ProbeFailure(space, ip_address(ip), since) for (space, ip), since in index.failing.items()),
        )

    def _note(
        self, key: ObjectName, service: Service | None, frontends: Collection[Frontend], resolved: Resolved
    ) -> None:
        self._problems.pop(key, None)
        (self.served.add if frontends else self.served.discard)(key)
        self._note_idling(key, {frontend.family for frontend in frontends if not frontend.backends})
        if starved := self._starved.pop(key, None):
            self.starving.subtract(starved)
        if service is None:
            return
        if problems := service_problems(service, frontends, resolved):
            self._problems[key] = problems
        starved = frozenset(
            [
                (frontend.family, where)
                for frontend in frontends
                if frontend.backends and frontend.local_backends == ()
                for where, policy in (_policy_of(service, frontend),)
                if policy == "Local"
            ]
        )
        if starved:
            self._starved[key] = starved
            self.starving.update(starved)

    def _note_idling(self, key: ObjectName, idling: Collection[Family]) -> None:
        if before := self._idling.get(key):
            self.idle.subtract(before)
        if idling:
            self.idle.update(idling)
            self._idling[key] = frozenset(idling)
        elif before:
            del self._idling[key]


class _Prepared(Struct):
    """What services are to want, by family: a small dict for each would leave holes among what stays, 20 MB of them
    at 100,000 Services.
    """

    keys: dict[ObjectName, None] = field(default_factory=dict)
    by_family: dict[Family, dict[ObjectName, Contender]] = field(default_factory=lambda: {f: {} for f in Family})

    def put(self, key: ObjectName, wants: Wants) -> None:
        self.keys[key] = None
        for family, contender in wants.items():
            if contender is not None:
                self.by_family[family][key] = contender

    def drop(self, keys: Iterable[ObjectName]) -> None:
        for key in keys if self.keys else ():
            self.keys.pop(key, None)
            for contenders in self.by_family.values():
                contenders.pop(key, None)

    def items(self) -> Iterator[tuple[ObjectName, Wants]]:
        for key in self.keys:
            yield key, {family: contenders.get(key) for family, contenders in self.by_family.items()}


def _policy_of(service: Service, frontend: Frontend) -> tuple[str, str]:
    if frontend.kind is FrontendKind.CLUSTER_IP:
        return "internal", service.internal_traffic_policy
    return "external", service.external_traffic_policy


def compile_snapshot(
    snapshot: Snapshot,
    facts: NodeFacts,
    listed: Mapping[Family, ListedTable | None] | None = None,
    unreadable: Collection[Ref] = (),
) -> NodeState:
    """The state that all objects of a snapshot want, compiled."""
    state = NodeState.of(facts, listed or {}, by_object(snapshot), unreadable)
    keys, state.touched = state.touched, set()
    state.compile(sorted(keys))
    return state
