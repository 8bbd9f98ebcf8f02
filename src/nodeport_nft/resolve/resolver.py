"""One Service → its frontends on one node."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nodeport_nft.model import (
    HOSTNAME_LABEL,
    ZONE_LABEL,
    Endpoint,
    EndpointSlice,
    Family,
    IPAddress,
    Pod,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
    Snapshot,
)
from nodeport_nft.resolve.claims import Claimable, Claims
from nodeport_nft.resolve.index import Index


class FrontendKind(enum.Enum):
    """How a client reaches a frontend."""

    CLUSTER_IP = "clusterIP"
    EXTERNAL_IP = "externalIP"
    LOAD_BALANCER = "loadBalancer"
    NODE_PORT = "nodePort"


class Place(enum.Enum):
    """Where an endpoint runs, by its ``nodeName`` (E1)."""

    HERE = "here"
    ELSEWHERE = "elsewhere"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Backend:
    """One endpoint of a frontend: where packets go, in proportion to its ``weight`` (X7)."""

    address: IPAddress
    port: int
    place: Place
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Frontend:
    """One thing a client can connect to. ``address`` is None for a nodePort: every nodePort address serves it.

    ``backends`` are the usable endpoints, sorted, each once. None at all: connections are refused (F5).
    ``local_backends`` is None unless the traffic policy is Local; then it holds those that run on this node (P2, P3).
    ``prefer_local``: the policy is PreferLocal; where there is none on this node, all of them serve (X10).
    """

    kind: FrontendKind
    family: Family
    address: IPAddress | None
    protocol: Protocol
    port: int
    port_name: str
    backends: tuple[Backend, ...]
    local_backends: tuple[Backend, ...] | None = None
    prefer_local: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An endpoint of one Service port, before its conditions are weighed."""

    address: IPAddress
    port: int
    ready: bool
    serving: bool
    terminating: bool
    node_name: str
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    weight: int = 1


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

    def resolve(self, service: Service) -> tuple[Frontend, ...]:
        """The Service's frontends on this node, in the order of its ports; none if it is not proxied (F8)."""
        if not is_proxied(service):
            return ()
        service = self._claims.granted(service)
        frontends = []
        for port in service.ports:
            candidates = self._weighted(service, port)
            for family in _families(service):
                own = [c for c in candidates if c.address.version == family]
                everywhere = self._usable(self._near(own))
                here = {policy: self._here(own, policy) for policy in _policies(service)}
                for kind, address, number in _offers(service, port, family):
                    if kind is FrontendKind.NODE_PORT and not self.serves_node_ports(service):
                        continue
                    policy = _policy(service, kind)
                    frontends.append(
                        Frontend(
                            kind,
                            family,
                            address,
                            port.protocol,
                            number,
                            port.name,
                            everywhere,
                            here[policy],
                            prefer_local=policy == "PreferLocal",
                        )
                    )
        return tuple(frontends)

    def problems(self, service: Service) -> Iterable[str]:
        """The addresses from outside that the Service claims and does not get, with the reason and the remedy."""
        return self._claims.problems(service) if is_proxied(service) else ()

    def serves_node_ports(self, service: Service) -> bool:
        """Whether this node is one of those that are to serve the Service's nodePorts (X6)."""
        if not service.node_port_nodes:
            return True
        own = self._index.nodes.get(self._node_name)
        # What a kubelet puts on every Node, so that a node can be chosen by its name where there is no object of it.
        labels = {HOSTNAME_LABEL: self._node_name, **(own.labels if own else {})}
        return all(requirement.holds(labels) for requirement in service.node_port_nodes)

    def endpoints(self, service: Service, port: ServicePort) -> tuple[Backend, ...]:
        """The usable endpoints of one port, all families, sorted: what a person asks for in ``describe``."""
        return self._usable(self._weighted(service, port))

    def local_ready(self, service: Service) -> dict[Family, int]:
        """How many addresses on this node are ready on any of the ports, for each of the Service's families (H1)."""
        candidates = (c for port in service.ports for c in self._weighted(service, port))
        here = {c.address for c in candidates if c.ready and c.node_name == self._node_name}
        return {family: sum(ip.version == family for ip in here) for family in _families(service)}

    def _weighted(self, service: Service, port: ServicePort) -> tuple[_Candidate, ...]:
        """Candidates for new connections: one of weight 0 is none (X7)."""
        return tuple(c for c in _once_each(self._candidates(service, port)) if c.weight)

    def _candidates(self, service: Service, port: ServicePort) -> Iterable[_Candidate]:
        slices = [piece for piece in self._index.slices(service) if not piece.headless]
        own = [s for s in slices if not s.mirrored] or slices
        if own:
            return _from_slices(own, service, port)
        if service.selector:
            return self._from_pods(service, port)
        return ()

    def _from_pods(self, service: Service, port: ServicePort) -> Iterable[_Candidate]:
        """Selected Pods as endpoints, with what the EndpointSlice controller would say of them (E5, E6, E7)."""
        for pod in self._index.selected(service):
            number = _target(pod, port)
            if pod.finished or number is None:
                continue
            ready = service.publish_not_ready_addresses or (pod.ready and not pod.terminating)
            zone = self._zone_of(pod.node_name) if service.traffic_distribution else ""
            nodes = (pod.node_name,) if service.traffic_distribution == "PreferSameNode" and pod.node_name else ()
            for family in _families(service):
                first = next((ip for ip in pod.ips if ip.version == family), None)
                if first is not None:
                    zones = (zone,) if zone else ()
                    conditions = ready, pod.ready, pod.terminating
                    weight = service.weights.get(first, pod.weight)
                    yield _Candidate(first, number, *conditions, pod.node_name, zones, nodes, weight)

    def _zone_of(self, node_name: str) -> str:
        node = self._index.nodes.get(node_name)
        return node.labels.get(ZONE_LABEL, "") if node else ""

    def _near(self, candidates: Sequence[_Candidate]) -> Sequence[_Candidate]:
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

    def _here(self, candidates: Iterable[_Candidate], policy: str) -> tuple[Backend, ...] | None:
        """This node's own endpoints, as a traffic policy counts them; None where it does not.

        What serves while it terminates is better than nothing, but no reason to prefer this node.
        """
        if policy == "Cluster":
            return None
        own = (c for c in candidates if c.node_name == self._node_name)
        return self._usable(own if policy == "Local" else (c for c in own if c.ready))

    def _usable(self, candidates: Iterable[_Candidate]) -> tuple[Backend, ...]:
        """Ready endpoints; if there is none, those that still serve while they terminate (E2)."""
        candidates = list(candidates)
        usable = [c for c in candidates if c.ready] or [c for c in candidates if c.serving and c.terminating]
        backends = (Backend(c.address, c.port, self._place(c.node_name), c.weight) for c in usable)
        return tuple(sorted(backends, key=lambda b: (b.address.version, int(b.address), b.port)))

    def _place(self, node_name: str) -> Place:
        if not node_name:
            return Place.UNKNOWN
        return Place.HERE if node_name == self._node_name else Place.ELSEWHERE


def _node_hints(candidate: _Candidate) -> tuple[str, ...]:
    return candidate.nodes


def _zone_hints(candidate: _Candidate) -> tuple[str, ...]:
    return candidate.zones


def _offers(
    service: Service, port: ServicePort, family: Family
) -> Iterable[tuple[FrontendKind, IPAddress | None, int]]:
    """Where one port is offered in one family: kind, address and port number (F1, F2, F3)."""
    for kind, addresses in (
        (FrontendKind.CLUSTER_IP, service.cluster_ips),
        (FrontendKind.EXTERNAL_IP, service.external_ips),
        (FrontendKind.LOAD_BALANCER, service.load_balancer_ips),
    ):
        yield from ((kind, ip, port.port) for ip in addresses if ip.version == family)
    if port.node_port:
        yield FrontendKind.NODE_PORT, None, port.node_port


def _policy(service: Service, kind: FrontendKind) -> str:
    internal = kind is FrontendKind.CLUSTER_IP
    return service.internal_traffic_policy if internal else service.external_traffic_policy


def _policies(service: Service) -> set[str]:
    return {service.internal_traffic_policy, service.external_traffic_policy}


def _families(service: Service) -> tuple[Family, ...]:
    return service.ip_families or tuple(Family(ip.version) for ip in service.cluster_ips)


def _from_slices(slices: Iterable[EndpointSlice], service: Service, port: ServicePort) -> Iterable[_Candidate]:
    """Slice ports match by name (E4), so a name may stand for different numbers in different slices."""
    for piece in slices:
        numbers = [p.port for p in piece.ports if p.name == port.name and p.protocol is port.protocol]
        for number in numbers:
            for endpoint in piece.endpoints:
                yield _candidate(endpoint, number, service.weights.get(endpoint.address, piece.weight))


def _candidate(endpoint: Endpoint, port: int, weight: int) -> _Candidate:
    return _Candidate(
        endpoint.address,
        port,
        endpoint.ready,
        endpoint.serving,
        endpoint.terminating,
        endpoint.node_name,
        endpoint.zones,
        endpoint.nodes,
        weight,
    )


def _target(pod: Pod, port: ServicePort) -> int | None:
    """The number behind a targetPort in this Pod; None if the Pod has no port of that name (E4)."""
    if isinstance(port.target_port, int):
        return port.target_port
    matches = (c.port for c in pod.ports if c.name == port.target_port and c.protocol is port.protocol)
    return next(matches, None)


def _once_each(candidates: Iterable[_Candidate]) -> tuple[_Candidate, ...]:
    """Each address and port once; the copy that is not terminating wins, then the ready one (E3)."""
    best: dict[tuple[IPAddress, int], _Candidate] = {}
    for candidate in candidates:
        place = candidate.address, candidate.port
        held = best.get(place)
        if held is None or _preference(candidate) > _preference(held):
            best[place] = candidate
    return tuple(best.values())


def _preference(candidate: _Candidate) -> tuple[object, ...]:
    c = candidate  # all of it, so that the order of the slices makes no difference
    return not c.terminating, c.ready, c.serving, c.node_name, c.weight, c.zones, c.nodes
