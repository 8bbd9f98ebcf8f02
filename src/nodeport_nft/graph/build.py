"""From the desired state to the graph: as the cluster has it, so that traffic policies and hints are only named.

How it is bounded: of one Service at most ``most`` ports, frontends and endpoints are drawn, and a vertex says how
many more there are. Endpoints that get connections come before those that do not. Further Services are drawn while
there are at most ``MAX_EDGES`` edges; the first one is drawn in any case. So 1,000 endpoints are 20 boxes and one
that says "980 more endpoints", and 10,000 Services some dozens and a number that is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from nodeport_nft.graph.shape import Edge, Graph, Kind, Vertex
from nodeport_nft.model import ZONE_LABEL, IPAddress, Service, ServicePort, ServiceType
from nodeport_nft.notation import socket_address
from nodeport_nft.resolve import Claimable, FrontendKind, Index, Resolver, is_proxied
from nodeport_nft.resolve.candidate import Candidate
from nodeport_nft.resolve.claims import Claims
from nodeport_nft.resolve.join import Join

MOST_SHOWN = 20
"""Ports, frontends and endpoints of one Service, each."""

MAX_EDGES = 500
"""Of a graph of several Services: Mermaid draws no more unless it is told to (its setting ``maxEdges``)."""

_OUTSIDE = (FrontendKind.NODE_PORT, FrontendKind.EXTERNAL_IP, FrontendKind.LOAD_BALANCER)
_ID_LETTERS = {kind: kind.value[0] for kind in Kind}


def graph_of(
    services: Iterable[Service], index: Index, *, claimable: Claimable | None = None, most: int = MOST_SHOWN
) -> Graph:
    """The graph of these Services, in their order; ``most`` as the module says."""
    drawing = _Drawing(index, Claims(index, claimable or Claimable()), most)
    left_out = 0
    for service in services:
        if left_out or len(drawing.edges) >= MAX_EDGES:
            left_out += 1
            continue
        mark = drawing.mark()
        drawing.add(service)
        if len(drawing.edges) > MAX_EDGES and drawing.count > 1:
            drawing.back_to(mark)
            left_out += 1
    return Graph(tuple(drawing.vertices.values()), tuple(drawing.edges), left_out)


_Key = tuple[Kind, str]


class _Drawing(Struct):
    """What has been drawn so far. Nodes and the client are drawn once, by their key."""

    index: Index
    claims: Claims
    most: int
    vertices: dict[_Key, Vertex] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    count: int = 0  # of Services

    def mark(self) -> tuple[int, int, int]:
        """Where ``back_to`` can go back to."""
        return len(self.vertices), len(self.edges), self.count

    def back_to(self, mark: tuple[int, int, int]) -> None:
        """Take away what has been drawn since."""
        vertices, edges, self.count = mark
        for key in list(self.vertices)[vertices:]:
            del self.vertices[key]
        del self.edges[edges:]

    def add(self, service: Service) -> None:
        """Draw one Service with what belongs to it."""
        self.count += 1
        name = str(service.key)
        granted, _ = self.claims.judge(service)
        whole = self._vertex(Kind.SERVICE, name, name, _what(service))
        if service.type is ServiceType.EXTERNAL_NAME:
            return
        candidates = _Endpoints(self.index, service)
        proxied = is_proxied(service)
        frontends_left = endpoints_left = self.most
        frontends_more = endpoints_more = 0
        for number, port in enumerate(service.ports[: self.most]):
            place = f"{name} {number}"
            endpoints = candidates.of(port)
            used = any(in_use for _, in_use in endpoints)
            target = self._vertex(Kind.PORT, place, _port_label(port), in_use=used)
            every = _frontends(granted, port) if proxied else ()
            frontends = every[:frontends_left]
            for kind, address in frontends:
                self._frontend(whole, target, place, (service, port), (kind, address), used)
            if not frontends:
                self._edge(whole, target, in_use=used)
            for candidate, in_use in endpoints[:endpoints_left]:
                self._endpoint(target, place, candidate, candidates.state(candidate), in_use)
            frontends_more += len(every) - len(frontends)
            endpoints_more += max(len(endpoints) - endpoints_left, 0)
            frontends_left -= len(frontends)
            endpoints_left -= min(len(endpoints), endpoints_left)
        more = (
            (len(service.ports) - self.most, "port"),
            (frontends_more, "address"),
            (endpoints_more, "endpoint"),
        )
        for left, what in more:
            if left > 0:
                self._edge(whole, self._vertex(Kind.MORE, f"{name} {what}", _more(left, what)), in_use=False)

    def _frontend(
        self,
        whole: Vertex,
        target: Vertex,
        place: str,
        of: tuple[Service, ServicePort],
        at: tuple[FrontendKind, IPAddress | None],
        in_use: bool,
    ) -> None:
        service, port = of
        kind, address = at
        policy = _policy(service, kind)
        nodes = "chosen nodes" if service.node_port_nodes else "any node"
        label = f"{nodes}:{port.node_port}" if address is None else socket_address(address, port.port)
        frontend = self._vertex(Kind.FRONTEND, f"{place} {kind} {label}", label, kind.value, in_use=in_use)
        if kind in _OUTSIDE:
            self._edge(self._vertex(Kind.CLIENT, "", "Client (ext)"), frontend, in_use=in_use)
        self._edge(whole, frontend, in_use=in_use)
        self._edge(frontend, target, "" if policy == "Cluster" else policy, in_use=in_use)

    def _endpoint(self, target: Vertex, place: str, candidate: Candidate, state: str, in_use: bool) -> None:
        label = socket_address(candidate.address, candidate.port)
        endpoint = self._vertex(Kind.ENDPOINT, f"{place} {label}", label, state, in_use=in_use)
        self._edge(target, endpoint, in_use=in_use)
        if name := candidate.node_name:
            known = self.index.nodes.get(name)
            zone = known.labels.get(ZONE_LABEL, "") if known else ""
            states = [f"zone {zone}"] if zone else []
            states += ["drained"] if name in self.index.drained else []
            states += ["lost"] if name in self.index.lost else []
            self._edge(endpoint, self._vertex(Kind.NODE, name, name, ", ".join(states)), in_use=in_use)

    def _vertex(self, kind: Kind, key: str, label: str, detail: str = "", *, in_use: bool = True) -> Vertex:
        at = kind, key
        if at not in self.vertices:
            made = Vertex(f"{_ID_LETTERS[kind]}{len(self.vertices)}", kind, label, detail, in_use)
            self.vertices[at] = made
        return self.vertices[at]

    def _edge(self, start: Vertex, end: Vertex, label: str = "", *, in_use: bool = True) -> None:
        self.edges.append(Edge(start.id, end.id, label, in_use))


class _Endpoints:
    """The endpoints of one Service, port by port, and what is to be said of each."""

    def __init__(self, index: Index, service: Service) -> None:
        self._join = Join(index, service)
        used = Resolver(index, node_name="").endpoints(service)
        self._used = {found.port: {(b.address, b.port) for b in found.used} for found in used}

    def of(self, port: ServicePort) -> list[tuple[Candidate, bool]]:
        """A port's endpoints, each with whether it gets new connections: those that do come first, by address."""
        used = self._used[port]
        found = [(c, (c.address, c.port) in used) for c in self._join.candidates(port) or ()]
        return sorted(found, key=lambda f: (not f[1], f[0].address.version, int(f[0].address), f[0].port))

    def state(self, candidate: Candidate) -> str:
        """One word for its conditions."""
        if self._join.has_failed(candidate):
            return "failing"
        if candidate.is_drained:
            return "draining"
        if candidate.terminating:
            return "terminating"
        return "ready" if candidate.ready else "not ready"


def _frontends(service: Service, port: ServicePort) -> Sequence[tuple[FrontendKind, IPAddress | None]]:
    """What clients connect to, with what a cluster gives first; None is the address of a nodePort."""
    return [
        *((FrontendKind.CLUSTER_IP, ip) for ip in service.cluster_ips),
        *([(FrontendKind.NODE_PORT, None)] if port.node_port else []),
        *((FrontendKind.EXTERNAL_IP, ip) for ip in service.external_ips),
        *((FrontendKind.LOAD_BALANCER, ip) for ip in service.load_balancer_ips),
    ]


def _policy(service: Service, kind: FrontendKind) -> str:
    internal = kind is FrontendKind.CLUSTER_IP
    return service.internal_traffic_policy if internal else service.external_traffic_policy


def _what(service: Service) -> str:
    """The type, and why nothing is served where that is so."""
    if service.headless:
        return "headless: names alone"
    if service.type is ServiceType.EXTERNAL_NAME:
        return "ExternalName: a name alone"
    if service.proxy_name is not None:
        return f"{service.type}, of another proxy"
    return str(service.type)


def _port_label(port: ServicePort) -> str:
    name = f"{port.name} " if port.name else ""
    return f"{name}{port.port}/{port.protocol} → {port.target_port}"


def _more(count: int, what: str) -> str:
    plural = {"address": "addresses"}.get(what, f"{what}s")
    return f"{count:,} more {what if count == 1 else plural}"
