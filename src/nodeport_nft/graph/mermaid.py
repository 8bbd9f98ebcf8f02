"""The graph as Mermaid's flowchart: clients outside, a box for the cluster, and in it Services, addresses and nodes.

A label stands in quotes, and each character that is no letter, digit or plain punctuation as its number (``#34;``),
as Mermaid decodes it: so no label can end its quotes, begin Markdown, HTML or a directive. Source: Mermaid,
"Flowcharts - Basic Syntax", special characters and entity codes. Ids are ours alone.
"""

from __future__ import annotations

import re

from nodeport_nft.graph.shape import Edge, Graph, Kind, Vertex
from nodeport_nft.terminal import visible

_PLAIN = frozenset(" .,/:()[]_-→")
_DIRECTION = re.compile("d(?=irection)", re.IGNORECASE)  # with a blank behind it a statement, wherever in a line

_SHAPES = {
    Kind.CLIENT: ("[", "]"),
    Kind.SERVICE: ("{{", "}}"),
    Kind.FRONTEND: ("(", ")"),
    Kind.PORT: ("([", "])"),
    Kind.ENDPOINT: ("[", "]"),
    Kind.NODE: ("[(", ")]"),
    Kind.MORE: ("[", "]"),
}


def mermaid(graph: Graph) -> str:
    """The flowchart's text, without a newline at the end."""
    lines = ["flowchart TD"]
    lines += [f"    {_vertex(vertex)}" for vertex in graph.of(Kind.CLIENT)]
    lines.append("    subgraph cluster")
    lines += [f"        {_vertex(vertex)}" for vertex in graph.vertices if vertex.kind is not Kind.CLIENT]
    clients = {vertex.id for vertex in graph.of(Kind.CLIENT)}
    lines += [f"        {_edge(edge)}" for edge in graph.edges if edge.start not in clients]
    lines.append("    end")
    lines += [f"    {_edge(edge, '--o')}" for edge in graph.edges if edge.start in clients]
    idle = [vertex.id for vertex in graph.vertices if not vertex.in_use]
    if idle:
        lines += ["    classDef idle stroke-dasharray:4", f"    class {','.join(idle)} idle"]
    return "\n".join(lines)


def _vertex(vertex: Vertex) -> str:
    start, end = _SHAPES[vertex.kind]
    lines = [_escaped(text) for text in (vertex.label, vertex.detail) if text]
    label = "<br>".join(lines) or " "  # nothing at all in the quotes is a syntax error
    return f'{vertex.id}{start}"{label}"{end}'


def _edge(edge: Edge, arrow: str = "-->") -> str:
    label = f'|"{_escaped(edge.label)}"|' if edge.label else ""
    return f"{edge.start} {arrow if edge.in_use else '-.->'}{label} {edge.end}"


def _escaped(text: str) -> str:
    plain = "".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in visible(text))
    return _DIRECTION.sub(lambda found: f"#{ord(found[0])};", plain)
