"""One Service → its frontends on one node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from nodeport_nft.model import (
    HOSTNAME_LABEL,
    Family,
    IPAddress,
    Service,
    ServicePort,
    ServiceType,
    Snapshot,
)
from nodeport_nft.resolve.bounds import MAX_FRONTENDS
from nodeport_nft.resolve.candidate import Candidate
from nodeport_nft.resolve.claims import Claimable, Claims
from nodeport_nft.resolve.frontend import Backend, Frontend, FrontendKind, Place
from nodeport_nft.resolve.index import Index
from nodeport_nft.resolve.join import Join, families
from nodeport_nft.resolve.trouble import Failing


class Endpoints(Struct, frozen=True):
    """A port's endpoints of all families, sorted: those that are ``used``, and such as are only where others lack.

    ``draining`` terminate or are drained, and serve the connections that they have. ``failing``: their node is lost,
    or their readiness probe fails.
    """

    port: ServicePort
    used: tuple[Backend, ...] = ()
    draining: tuple[Backend, ...] = ()
    failing: tuple[Failing, ...] = ()


class Resolved(NamedTuple):
    """What a Service gets on one node: its ``frontends``, of the ``offered`` many that it may ask for.

    ``problems``: the addresses from outside that it claims and does not get, and endpoints that are used though they
    have failed, with the reason and the remedy.
    """

    frontends: tuple[Frontend, ...] = ()
    offered: int = 0
    problems: tuple[str, ...] = ()


_Serving = tuple[tuple[Backend, ...], Mapping[str, "tuple[Backend, ...] | None"]]
"""The endpoints of one family, and by traffic policy those of this node; None where that is no matter (Cluster)."""

_CLUSTER = {"Cluster"}
_ALL_OF_THEM: Mapping[str, tuple[Backend, ...] | None] = {"Cluster": None}
"""What there is by traffic policy where none of a Service's policies asks where endpoints are: nearly everywhere."""


def is_proxied(service: Service) -> bool:
    """Whether this program serves the Service at all (F8): not headless, not ExternalName, not another proxy's."""
    return service.type is not ServiceType.EXTERNAL_NAME and not service.headless and service.proxy_name is None


class Resolver:
    """Joins Services with their endpoints, for the node called ``node_name`` in ``zone`` ("": unknown)."""

    def __init__(
        self, objects: Snapshot | Index, node_name: str, zone: str = "", claimable: Claimable | None = None
    ) -> None:
        self._index = objects if isinstance(objects, Index) else Index.of(objects)
        self._node_name = node_name
        self._zone = zone
        self._claims = Claims(self._index, claimable or Claimable())

    def resolved(self, service: Service) -> Resolved:
        """The Service's frontends on this node, in the order of its ports; none if it is not proxied (F8).

        Those beyond ``bounds`` are left out: clusterIPs stay longest, then nodePorts, externalIPs and load-balancer
        addresses, each in the order of the ports and addresses.
        """
        if not is_proxied(service):
            return Resolved()
        granted, problems = self._claims.judge(service)
        join = Join(self._index, granted)
        offers = self._offers(granted)
        offered = sum([offer.count(granted) for _, own in offers for offer in own])
        frontends = tuple(self._frontends(granted, offers, join))
        if last := join.last_good:
            problems = (*problems, f"Service/{service.key}: {last.text}; {last.remedy}")
        return Resolved(frontends, offered, problems)

    def _frontends(
        self, service: Service, offers: Sequence[tuple[Family, Sequence[_Offer]]], join: Join
    ) -> Iterator[Frontend]:
        internal, external = service.internal_traffic_policy, service.external_traffic_policy
        versions, policies = [family for family, _ in offers], {internal, external}
        for port in service.ports:
            offered = [(family, o.kind, ip) for family, own in offers for o in own for ip in o.take(port)]
            serving = self._serving(join, port, versions, policies) if offered else None
            if serving is None:
                continue
            for family, kind, address in offered:
                everywhere, here = serving[family]
                policy = internal if kind is FrontendKind.CLUSTER_IP else external
                yield Frontend(
                    kind,
                    family,
                    address,
                    port.protocol,
                    port.node_port if address is None else port.port,
                    port.name,
                    everywhere,
                    here[policy],
                    policy == "PreferLocal",
                )

    def _serving(
        self, join: Join, port: ServicePort, versions: Iterable[Family], policies: Iterable[str]
    ) -> dict[Family, _Serving] | None:
        """The endpoints of a port by family; None where there are too many (``Join.candidates``)."""
        plain = join.plain(port, self._node_name)
        if plain is not None:
            return {family: self._as_they_are(plain, family, policies) for family in versions}
        candidates = join.candidates(port)
        if candidates is None:
            return None
        return {family: self._weighed(candidates, family, policies) for family in versions}

    def _as_they_are(self, plain: Iterable[Backend], family: Family, policies: Iterable[str]) -> _Serving:
        """What ``_weighed`` comes to where all are ready and none has hints."""
        everywhere = tuple([backend for backend in plain if backend.address.version == family])
        if policies == _CLUSTER:
            return everywhere, _ALL_OF_THEM
        here = tuple([backend for backend in everywhere if backend.place is Place.HERE])
        return everywhere, {policy: None if policy == "Cluster" else here for policy in policies}

    def _weighed(self, candidates: Iterable[Candidate], family: Family, policies: Iterable[str]) -> _Serving:
        own = [c for c in candidates if c.address.version == family]
        return self._usable(self._near(own)), {policy: self._here(own, policy) for policy in policies}

    def _offers(self, service: Service) -> list[tuple[Family, list[_Offer]]]:
        """On which addresses the ports are offered, in each family (F1, F2, F3), and on how many there may be."""
        node_ports: Sequence[None] = (None,) if self.serves_node_ports(service) else ()
        return [
            (family, _with_room(service, _family_offers(service, family, node_ports))) for family in families(service)
        ]

    def serves_node_ports(self, service: Service) -> bool:
        """Whether this node is one of those that are to serve the Service's nodePorts (X6)."""
        if not service.node_port_nodes:
            return True
        own = self._index.nodes.get(self._node_name)
        # What a kubelet puts on every Node, so that a node can be chosen by its name where there is no object of it.
        labels = {HOSTNAME_LABEL: self._node_name, **(own.labels if own else {})}
        return all(requirement.holds(labels) for requirement in service.node_port_nodes)

    def endpoints_by_port(self, service: Service) -> Iterator[tuple[ServicePort, tuple[Backend, ...]]]:
        """Each port with its usable endpoints, all families, sorted."""
        return ((found.port, found.used) for found in self.endpoints(service))

    def endpoints(self, service: Service) -> Iterator[Endpoints]:
        """The endpoints of each port: what a person asks for in ``describe``."""
        join = Join(self._index, service)
        for port in service.ports:
            candidates = join.candidates(port) or ()
            found = [join.failing(c) for c in candidates if join.has_failed(c)]
            failing = sorted(filter(None, found), key=lambda f: (f.address.version, int(f.address), f.port))
            draining = [c for c in candidates if c.terminating and c.serving and not join.has_failed(c)]
            # A family on its own, as frontends have them: the last endpoint of one is used, whatever the other has.
            families_own = ([c for c in candidates if c.address.version == family] for family in Family)
            used = tuple(backend for own in families_own for backend in self._usable(own))
            yield Endpoints(port, used, self._backends(draining), tuple(failing))

    def local_ready(self, service: Service) -> dict[Family, int]:
        """How many addresses on this node are ready on any of the ports, for each of the Service's families (H1)."""
        join = Join(self._index, service)
        candidates = (c for port in service.ports for c in join.candidates(port) or ())
        # By its packed form: whoever chooses an IPv6 address chooses its hash, too.
        here = {c.address.packed: c.address for c in candidates if c.ready and c.node_name == self._node_name}
        return {family: sum(ip.version == family for ip in here.values()) for family in families(service)}

    def _near(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Those that are meant for this node, if every ready endpoint says whom it is for (E6, KEP-2433, KEP-3015).

        Hints count among ready endpoints only: without any, the terminating ones are used wherever they are.
        """
        ready = [c for c in candidates if c.ready]
        for hints, ours in ((_node_hints, self._node_name), (_zone_hints, self._zone)):
            if ours and ready and all(hints(c) for c in ready):
                meant = [c for c in ready if ours in hints(c)]
                if meant:
                    return meant
        return candidates

    def _here(self, candidates: Iterable[Candidate], policy: str) -> tuple[Backend, ...] | None:
        """This node's own endpoints, as a traffic policy counts them; None where it does not.

        What serves while it terminates is better than nothing, but no reason to prefer this node.
        """
        if policy == "Cluster":
            return None
        own = (c for c in candidates if c.node_name == self._node_name)
        return self._usable(own if policy == "Local" else (c for c in own if c.ready))

    def _usable(self, candidates: Iterable[Candidate]) -> tuple[Backend, ...]:
        """Ready endpoints; if there is none, those that still serve while they terminate (E2)."""
        candidates = list(candidates)
        usable = [c for c in candidates if c.ready] or [c for c in candidates if c.is_usable]
        return self._backends(usable)

    def _backends(self, candidates: Iterable[Candidate]) -> tuple[Backend, ...]:
        backends = (Backend(c.address, c.port, Place.of(c.node_name, self._node_name), c.weight) for c in candidates)
        return tuple(sorted(backends, key=lambda b: (b.address.version, int(b.address), b.port)))


def _node_hints(candidate: Candidate) -> tuple[str, ...]:
    return candidate.nodes


def _zone_hints(candidate: Candidate) -> tuple[str, ...]:
    return candidate.zones


KEPT = (FrontendKind.CLUSTER_IP, FrontendKind.NODE_PORT, FrontendKind.EXTERNAL_IP, FrontendKind.LOAD_BALANCER)
"""Which frontends stay where a Service has too many: first what the cluster has given it."""


class _Offer(Struct):
    """The addresses of one kind and family, which every port has; None is that of a nodePort.

    ``room`` is how many frontends there may still be of them.
    """

    kind: FrontendKind
    addresses: Sequence[IPAddress | None]
    room: int = MAX_FRONTENDS

    def count(self, service: Service) -> int:
        """How many frontends all ports have on these addresses."""
        if self.kind is FrontendKind.NODE_PORT:
            return len(self.addresses) * sum(port.node_port > 0 for port in service.ports)
        return len(self.addresses) * len(service.ports)

    def take(self, port: ServicePort) -> Sequence[IPAddress | None]:
        """Where one port is served, for which there is less room then."""
        if self.kind is FrontendKind.NODE_PORT and not port.node_port:
            return ()
        taken = self.addresses[: self.room]
        self.room -= len(taken)
        return taken


def _family_offers(service: Service, family: Family, node_ports: Sequence[None]) -> list[_Offer]:
    claimed = (
        (FrontendKind.CLUSTER_IP, service.cluster_ips),
        (FrontendKind.EXTERNAL_IP, service.external_ips),
        (FrontendKind.LOAD_BALANCER, service.load_balancer_ips),
    )
    offers = [
        _Offer(kind, own)
        for kind, addresses in claimed
        if addresses and (own := [ip for ip in addresses if ip.version == family])
    ]
    return [*offers, _Offer(FrontendKind.NODE_PORT, node_ports)] if node_ports else offers


def _with_room(service: Service, offers: list[_Offer]) -> list[_Offer]:
    """These offers, with room for what there may be of each kind (``MAX_FRONTENDS`` of all together)."""
    if len(service.ports) * sum(len(offer.addresses) for offer in offers) > MAX_FRONTENDS:
        left = MAX_FRONTENDS
        for offer in sorted(offers, key=lambda offer: KEPT.index(offer.kind)):
            offer.room = min(offer.count(service), left)
            left -= offer.room
    return offers
