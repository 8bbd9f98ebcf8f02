"""The graph in Graphviz' language DOT, which ``dot`` makes pictures of.

A label stands in quotes. In it a quote or a backslash has another backslash before it, and ``&`` begins no entity, so
that it shows what it says (Graphviz, "escString"). Ids are ours alone.
"""

from __future__ import annotations

from nodeport_nft.graph.shape import Edge, Graph, Kind, Vertex
from nodeport_nft.terminal import visible

_LOOKS = {
    Kind.CLIENT: 'shape=box, style="filled", fillcolor="#eceff1"',
    Kind.SERVICE: 'shape=hexagon, style="filled", fillcolor="#bbdefb"',
    Kind.FRONTEND: 'shape=box, style="rounded,filled", fillcolor="#e3f2fd"',
    Kind.PORT: 'shape=ellipse, style="filled", fillcolor="#fff8e1"',
    Kind.ENDPOINT: 'shape=box, style="filled", fillcolor="#c8e6c9"',
    Kind.NODE: 'shape=cylinder, style="filled", fillcolor="#eceff1"',
    Kind.MORE: 'shape=plaintext, fontcolor="#546e7a"',
}
_IDLE = {Kind.ENDPOINT: ', style="dashed"', Kind.FRONTEND: ', style="rounded,dashed"', Kind.PORT: ', style="dashed"'}

_HEAD = """\
digraph services {
    charset="UTF-8"
    rankdir=LR
    bgcolor="white"
    node [fontname="sans-serif", fontsize=11]
    edge [fontname="sans-serif", fontsize=10]"""


def dot(graph: Graph) -> str:
    """The text of the graph, without a newline at the end."""
    lines = [_HEAD, *(f"    {_vertex(v)}" for v in graph.of(Kind.CLIENT)), "    subgraph cluster_services {"]
    lines.append('        label="cluster"')
    lines.append('        fontname="sans-serif"')
    lines += [f"        {_vertex(vertex)}" for vertex in graph.vertices if vertex.kind is not Kind.CLIENT]
    lines += ["    }", *(f"    {_edge(edge)}" for edge in graph.edges), "}"]
    return "\n".join(lines)


def _vertex(vertex: Vertex) -> str:
    label = "\\n".join(_escaped(text) for text in (vertex.label, vertex.detail) if text)
    idle = "" if vertex.in_use else _IDLE.get(vertex.kind, "")
    return f'{vertex.id} [label="{label}", {_LOOKS[vertex.kind]}{idle}]'


def _edge(edge: Edge) -> str:
    looks = [f'label="{_escaped(edge.label)}"'] if edge.label else []
    looks += [] if edge.in_use else ["style=dashed"]
    joined = ", ".join(looks)
    return f"{edge.start} -> {edge.end} [{joined}]" if looks else f"{edge.start} -> {edge.end}"


def _escaped(text: str) -> str:
    return visible(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
