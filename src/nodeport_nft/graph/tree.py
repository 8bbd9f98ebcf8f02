"""The graph as text: a tree for each Service, in which frontends and endpoints stand below the port they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec import Struct

from nodeport_nft.graph.shape import Edge, Graph, Kind, Vertex
from nodeport_nft.terminal import visible


def tree(graph: Graph) -> str:
    """The trees, an empty line between two."""
    walk = _Walk(graph)
    return "\n\n".join("\n".join(walk.service(service)) for service in graph.of(Kind.SERVICE))


class _Branch(Struct, frozen=True):
    """A line, and what stands below it."""

    line: str
    below: tuple[_Branch, ...] = ()


class _Walk:
    """The graph by what is asked of it: where the edges of a vertex lead, and where they come from."""

    def __init__(self, graph: Graph) -> None:
        vertices = {vertex.id: vertex for vertex in graph.vertices}
        self._after: dict[str, list[Vertex]] = defaultdict(list)
        self._before: dict[str, list[tuple[Edge, Vertex]]] = defaultdict(list)
        for edge in graph.edges:
            self._after[edge.start].append(vertices[edge.end])
            self._before[edge.end].append((edge, vertices[edge.start]))

    def service(self, service: Vertex) -> Iterator[str]:
        """The lines of a Service's tree."""
        yield _line(service)
        ports: dict[str, Vertex] = {}
        more = []
        for vertex in self._after[service.id]:
            if vertex.kind is Kind.MORE:
                more.append(_Branch(_line(vertex)))
            else:
                reached = (vertex,) if vertex.kind is Kind.PORT else self._after[vertex.id]
                ports |= {port.id: port for port in reached}
        yield from _lines((*map(self._port, ports.values()), *more))

    def _port(self, port: Vertex) -> _Branch:
        frontends = [
            _Branch(_line(vertex, f"policy {edge.label}" if edge.label else ""))
            for edge, vertex in self._before[port.id]
            if vertex.kind is Kind.FRONTEND
        ]
        endpoints = tuple(_Branch(self._endpoint(vertex)) for vertex in self._after[port.id])
        return _Branch(_line(port), (*frontends, _Branch("endpoints" if endpoints else "no endpoints", endpoints)))

    def _endpoint(self, endpoint: Vertex) -> str:
        return _line(endpoint, *(f"node {_line(node)}" for node in self._after[endpoint.id]))


def _lines(branches: Iterable[_Branch]) -> Iterator[str]:
    """The lines of these branches, with what joins them to the line above."""
    every = tuple(branches)
    for branch in every:
        last = branch is every[-1]
        yield f"{'└── ' if last else '├── '}{branch.line}"
        yield from (f"{'    ' if last else '│   '}{line}" for line in _lines(branch.below))


def _line(vertex: Vertex, *further: str) -> str:
    """What is said of a vertex, in one line; ``further`` texts behind it."""
    return "  ".join(filter(None, map(visible, (vertex.label, vertex.detail and f"({vertex.detail})", *further))))
