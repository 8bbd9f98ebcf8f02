"""A graph as SVG, in columns from the client to the nodes; it needs no script, and no style but that of the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tornado.escape import xhtml_escape

from nodeport_nft.graph import Edge, Graph, Kind, Vertex
from nodeport_nft.terminal import visible

_COLUMNS = {
    Kind.CLIENT: 0,
    Kind.SERVICE: 0,
    Kind.FRONTEND: 1,
    Kind.PORT: 2,
    Kind.MORE: 2,
    Kind.ENDPOINT: 3,
    Kind.NODE: 4,
}
_WIDTH, _HEIGHT = 192, 42  # of a box, in pixels
_ACROSS, _DOWN = 46, 14  # between two boxes
_MARGIN = 8
_LETTERS = 24  # that fit into a box


def draw(graph: Graph, title: str) -> str:
    """The drawing as an element of a page; ``title`` is read to those who do not see it."""
    places: dict[str, tuple[int, int]] = {}
    heights: dict[int, int] = defaultdict(int)
    for vertex in graph.vertices:
        column = _COLUMNS[vertex.kind]
        x, y = _MARGIN + column * (_WIDTH + _ACROSS), _MARGIN + heights[column] * (_HEIGHT + _DOWN)
        places[vertex.id] = x, y
        heights[column] += 1
    width = 2 * _MARGIN + (max(heights, default=0) + 1) * (_WIDTH + _ACROSS) - _ACROSS
    height = 2 * _MARGIN + max(heights.values(), default=1) * (_HEIGHT + _DOWN) - _DOWN
    parts = [
        f'<svg class="graph" role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>{_text(title)}</title>",
        *(_edge(edge, places) for edge in graph.edges),
        *(part for vertex in graph.vertices for part in _box(vertex, *places[vertex.id])),
        "</svg>",
    ]
    return "\n".join(parts)


def _edge(edge: Edge, places: dict[str, tuple[int, int]]) -> str:
    (x, y), (end_x, end_y) = places[edge.start], places[edge.end]
    x, y, end_y = x + _WIDTH, y + _HEIGHT // 2, end_y + _HEIGHT // 2
    middle = (x + end_x) // 2
    name = f"<title>{_text(edge.label)}</title>" if edge.label else ""
    kind = "edge" if edge.in_use else "edge idle"
    return f'<path class="{kind}" d="M{x},{y} C{middle},{y} {middle},{end_y} {end_x},{end_y}">{name}</path>'


def _box(vertex: Vertex, x: int, y: int) -> Iterator[str]:
    kind = f"box {vertex.kind.value}{'' if vertex.in_use else ' idle'}"
    whole = " ".join(filter(None, (vertex.label, vertex.detail)))
    yield f'<g class="{kind}"><title>{_text(whole)}</title>'
    yield f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
    first = y + (18 if vertex.detail else 26)
    yield f'<text x="{x + 10}" y="{first}">{_text(_clipped(vertex.label))}</text>'
    if vertex.detail:
        yield f'<text class="detail" x="{x + 10}" y="{y + 34}">{_text(_clipped(vertex.detail))}</text>'
    yield "</g>"


def _clipped(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def _text(text: str) -> str:
    return xhtml_escape(visible(text))
