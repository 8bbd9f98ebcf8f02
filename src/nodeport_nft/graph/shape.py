"""The graph itself: vertices and edges, and no word of how they are drawn."""

from __future__ import annotations

import enum

from msgspec import Struct


class Kind(enum.Enum):
    """What a vertex stands for."""

    CLIENT = "client"  # somebody outside the cluster
    SERVICE = "service"
    FRONTEND = "frontend"  # an address and a port that a client connects to
    PORT = "port"  # of a Service: what its frontends have in common
    ENDPOINT = "endpoint"
    NODE = "node"  # of the cluster
    MORE = "more"  # what is left out, as a number


class Vertex(Struct, frozen=True):
    """``id`` is ours: a letter and a number, unique in its graph. ``label`` and ``detail`` may say anything.

    ``in_use``: an endpoint gets new connections, a frontend has at least one such endpoint.
    """

    id: str
    kind: Kind
    label: str
    detail: str = ""
    in_use: bool = True


class Edge(Struct, frozen=True):
    """From one vertex to another, by their ids. ``in_use``: new connections go this way."""

    start: str
    end: str
    label: str = ""
    in_use: bool = True


class Graph(Struct, frozen=True):
    """``left_out``: how many Services there was no room for."""

    vertices: tuple[Vertex, ...] = ()
    edges: tuple[Edge, ...] = ()
    left_out: int = 0

    def of(self, kind: Kind) -> tuple[Vertex, ...]:
        """The vertices of one kind, in their order."""
        return tuple(vertex for vertex in self.vertices if vertex.kind is kind)
