"""The graph of Services: what is drawn, what is left out, and that no label is ever more than a label.

The goldens in ``graphs/`` are one small case in each format; ``UPDATE_GOLDENS=1`` writes them anew.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from ipaddress import ip_address
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.graph import MAX_EDGES, MOST_SHOWN, Edge, Graph, Kind, Vertex, dot, graph_of, mermaid, tree
from nodeport_nft.model import (
    ZONE_LABEL,
    EndpointSlice,
    Member,
    Node,
    ObjectName,
    Requirement,
    Service,
    ServiceType,
    Snapshot,
)
from nodeport_nft.resolve import Index
from nodeport_nft.terminal import visible
from tests.builders import make_endpoint, make_port, make_service, make_slice

pytestmark = pytest.mark.proves("U2")

GOLDENS = Path(__file__).parent / "graphs"
SVG = "{http://www.w3.org/2000/svg}"


def drawn(
    *services: Service, slices: tuple[EndpointSlice, ...] = (), most: int = MOST_SHOWN, **more: object
) -> Graph:
    snapshot = Snapshot(services=services, slices=slices, **more)  # type: ignore[arg-type]
    return graph_of(services, Index.of(snapshot), most=most)


def labels(graph: Graph, kind: Kind) -> list[str]:
    return [vertex.label for vertex in graph.of(kind)]


def small_case() -> Graph:
    service = replace(
        make_service(
            "web",
            make_port(80, name="http", node_port=30080),
            make_port(53, name="dns", target="dns", protocol="UDP"),
            ips=("10.96.0.10", "fd00:10:96::a"),
        ),
        external_ips=(ip_address("203.0.113.7"),),
        external_traffic_policy="Local",
    )
    pieces = (
        make_slice(
            make_endpoint("10.244.1.2", node="worker-1"),
            make_endpoint("10.244.2.2", ready=False, terminating=True),
            make_endpoint("10.244.2.3", ready=False, serving=False, node=""),
            port_name="http",
        ),
        make_slice(make_endpoint("fd00:244::2"), name="web-6", port_name="http"),
    )
    nodes = (Node("worker-1", {ZONE_LABEL: "a"}), Node("worker-2", drained=False))
    return drawn(service, slices=pieces, nodes=nodes)


@pytest.mark.parametrize(("write", "name"), [(mermaid, "web.mmd"), (dot, "web.dot"), (tree, "web.txt")])
def test_a_small_case_in_each_format(write: object, name: str) -> None:
    golden = GOLDENS / name
    assert callable(write)
    text = f"{write(small_case())}\n"
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text)
    assert text == golden.read_text(), "UPDATE_GOLDENS=1 pytest tests/unit/test_graph.py"


# --- what is drawn ----------------------------------------------------------------


def test_an_address_that_a_service_does_not_get_is_not_drawn() -> None:
    thief = replace(make_service("thief", ips=("10.96.0.11",)), external_ips=(ip_address("10.96.0.10"),))
    assert labels(drawn(thief, make_service("web")), Kind.FRONTEND) == ["10.96.0.11:80", "10.96.0.10:80"]


@pytest.mark.parametrize(
    ("service", "detail"),
    [
        (make_service(headless=True, ips=()), "headless: names alone"),
        (replace(make_service(ips=()), type=ServiceType.EXTERNAL_NAME), "ExternalName: a name alone"),
        (make_service(proxy_name="another"), "ClusterIP, of another proxy"),
    ],
)
def test_what_is_not_served_has_no_frontend_and_says_why(service: Service, detail: str) -> None:
    graph = drawn(service, slices=(make_slice("10.244.1.2"),))
    assert graph.of(Kind.FRONTEND) == ()
    assert [vertex.detail for vertex in graph.of(Kind.SERVICE)] == [detail]


def test_of_nodes_that_serve_a_node_port_only_some_is_said() -> None:
    service = make_service("web", make_port(node_port=30080))
    chosen = replace(service, node_port_nodes=(Requirement("disk", "Exists"),))
    assert "any node:30080" in labels(drawn(service), Kind.FRONTEND)
    assert "chosen nodes:30080" in labels(drawn(chosen), Kind.FRONTEND)


def test_each_endpoint_says_how_it_is_and_those_in_use_come_first() -> None:
    piece = make_slice(
        make_endpoint("10.244.1.1", ready=False, serving=False),
        make_endpoint("10.244.1.2", ready=False, terminating=True),
        make_endpoint("10.244.1.3", node="gone"),
        make_endpoint("10.244.1.4"),
        make_endpoint("10.244.1.5"),
        make_endpoint("10.244.1.6", node="empty"),
    )
    piece = replace(piece, drained=(ip_address("10.244.1.4"),))
    nodes = (Node("empty", drained=True),)
    graph = drawn(make_service(), slices=(piece,), nodes=nodes, members=(Member("gone", 1.0, is_live=False),))
    told = {vertex.label.removesuffix(":8080"): (vertex.detail, vertex.in_use) for vertex in graph.of(Kind.ENDPOINT)}
    assert told == {
        "10.244.1.1": ("not ready", False),
        "10.244.1.2": ("terminating", False),
        "10.244.1.3": ("failing", False),
        "10.244.1.4": ("draining", False),
        "10.244.1.5": ("ready", True),
        "10.244.1.6": ("draining", False),
    }
    assert next(iter(told)) == "10.244.1.5"
    assert {vertex.label: vertex.detail for vertex in graph.of(Kind.NODE)} == {
        "worker-2": "",
        "gone": "lost",
        "empty": "drained",
    }


# --- bounds ---------------------------------------------------------------------------


def test_of_a_thousand_endpoints_twenty_are_drawn_and_the_others_counted() -> None:
    piece = make_slice(*(f"10.244.{i // 250}.{i % 250}" for i in range(1000)))
    graph = drawn(make_service(), slices=(piece,))
    assert len(graph.of(Kind.ENDPOINT)) == MOST_SHOWN
    assert labels(graph, Kind.MORE) == ["980 more endpoints"]
    assert labels(drawn(make_service(), slices=(piece,), most=999), Kind.MORE) == ["1 more endpoint"]
    assert labels(drawn(make_service(), slices=(piece,), most=1000), Kind.MORE) == []


def test_of_many_ports_and_addresses_some_are_drawn_and_the_others_counted() -> None:
    service = make_service("web", *(make_port(1 + i, name=f"p{i}", node_port=30000 + i) for i in range(30)))
    graph = drawn(service)
    assert len(graph.of(Kind.PORT)) == len(graph.of(Kind.FRONTEND)) == MOST_SHOWN
    # Of the 20 ports that are drawn: 40 addresses.
    assert labels(graph, Kind.MORE) == ["10 more ports", "20 more addresses"]


def test_services_beyond_what_can_be_drawn_are_counted_and_leave_nothing_behind() -> None:
    services = tuple(make_service(f"s{i:04}", ips=(f"10.96.{i // 250}.{i % 250}",)) for i in range(2000))
    pieces = tuple(make_slice("10.244.1.2", service=s.name, name=s.name) for s in services)
    graph = drawn(*services, slices=pieces)
    shown = len(graph.of(Kind.SERVICE))
    assert shown + graph.left_out == 2000
    assert MAX_EDGES - 4 < len(graph.edges) <= MAX_EDGES
    ids = {vertex.id for vertex in graph.vertices}
    assert len(ids) == len(graph.vertices)
    assert {end for edge in graph.edges for end in (edge.start, edge.end)} == ids
    assert graph_of(services[:shown], Index.of(Snapshot(services=services, slices=pieces))) == replace(
        graph, left_out=0
    )


# --- hostile labels -----------------------------------------------------------------------

HOSTILE = st.text(
    st.one_of(
        st.sampled_from(list('"\\#;&<>[](){}|`%-=~\n\r\t\x00\x1b\u202e\u2028')),
        st.characters(),
    ),
    max_size=20,
)
ESCAPES = (
    '"]\n  click e0 href "javascript:alert(1)"',
    '"]; end; x[("',
    "#quot;]",
    "&quot;",
    "%%{init: {}}%%",
    "\\",
    '\\"',
    "direction LR",
)
MERMAID_LINE = re.compile(
    r"flowchart TD|\s+subgraph cluster|\s+end|\s+classDef idle stroke-dasharray:4|\s+class [a-z0-9,]+ idle"
    r'|\s+[a-z][0-9]+(?:\[|\{\{|\(|\(\[|\[\()"(?P<label>(?:[^"#&<>;`%\\\n]|#[0-9]+;|<br>)*)"(?:\]|\}\}|\)|\]\)|\)\])'
    r'|\s+[a-z][0-9]+ (?:--o|-->|-\.->)(?:\|"(?P<policy>(?:[^"#&<>;`%\\\n]|#[0-9]+;)*)"\|)? [a-z][0-9]+'
)


def hostile_graph(texts: list[str]) -> Graph:
    vertices = [
        Vertex(f"e{i}", kind, text, text, in_use=i % 2 == 0)
        for i, (text, kind) in enumerate(zip(texts, list(Kind) * len(texts), strict=False))
    ]
    edges = [Edge(one.id, other.id, one.label) for one, other in itertools.pairwise(vertices)]
    return Graph(tuple(vertices), tuple(edges))


def decoded(text: str) -> str:
    return re.sub(r"#([0-9]+);", lambda found: chr(int(found[1])), text)


@given(st.lists(HOSTILE, min_size=1, max_size=20))
@example(list(ESCAPES))
def test_no_label_is_more_than_a_label_in_mermaid(texts: list[str]) -> None:
    graph = hostile_graph(texts)
    found = [MERMAID_LINE.fullmatch(line) for line in mermaid(graph).split("\n")]
    assert all(found), mermaid(graph)
    assert "direction" not in mermaid(graph).lower()  # which Mermaid takes for a statement, wherever in a line
    shown = [decoded(each["label"]) for each in found if each and each["label"] is not None]
    expected = ["<br>".join([visible(v.label)] * 2) if v.label else " " for v in graph.vertices]
    assert sorted(shown) == sorted(expected)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(HOSTILE, min_size=1, max_size=20))
@example(list(ESCAPES))
def test_no_label_is_more_than_a_label_in_dot(texts: list[str]) -> None:
    graph = hostile_graph(texts)
    done = subprocess.run(["dot", "-Tsvg"], input=dot(graph).encode(), capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    root = ElementTree.fromstring(done.stdout)
    assert not [one for one in root.iter() if one.tag.removeprefix(SVG) not in SVG_TAGS]
    by_id = {}
    for group in root.iter(f"{SVG}g"):
        if group.get("class") == "node":
            lines = ["".join(text.itertext()).replace("\xa0", " ") for text in group.iter(f"{SVG}text")]
            by_id[group.findtext(f"{SVG}title")] = [line for line in lines if line.strip()]
    assert by_id == {
        v.id: [line for line in [visible(v.label)] * 2 if line.strip()] if v.label else [] for v in graph.vertices
    }


SVG_TAGS = {"svg", "g", "title", "polygon", "ellipse", "path", "polyline", "text"}


@given(st.lists(HOSTILE, min_size=1, max_size=10))
@example(list(ESCAPES))
def test_in_text_each_vertex_is_one_line(texts: list[str]) -> None:
    service = make_service("x", *(make_port(1 + i, name=text) for i, text in enumerate(texts)))
    pieces = tuple(
        make_slice(make_endpoint("10.244.1.2", node=text), port_name=text, name=f"s{i}")
        for i, text in enumerate(texts)
    )
    graph = drawn(service, slices=pieces, most=100)
    lines = tree(graph).split("\n")
    assert len(lines) == 1 + len(texts) + len(graph.of(Kind.FRONTEND)) + len(texts) + len(graph.of(Kind.ENDPOINT))
    assert all(line.isprintable() for line in lines)


def test_a_service_is_told_by_its_namespace_and_name() -> None:
    assert labels(drawn(make_service()), Kind.SERVICE) == [str(ObjectName("default", "web"))]


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 30)), max_size=12),
    most=st.integers(1, 25),
)
def test_a_graph_is_whole_and_bounded_whatever_there_is(sizes: list[tuple[int, int]], most: int) -> None:
    services, pieces = [], []
    for number, (ports, endpoints) in enumerate(sizes):
        name = f"s{number:02}"
        own = [make_port(80 + i, name=f"p{i}", node_port=30000 + number * 10 + i) for i in range(ports)]
        services.append(make_service(name, *own, ips=(f"10.96.1.{number}",)))
        addresses = [f"10.244.{number}.{i}" for i in range(endpoints)]
        pieces += [make_slice(*addresses, service=name, name=f"{name}-{i}", port_name=f"p{i}") for i in range(ports)]
    graph = drawn(*services, slices=tuple(pieces), most=most)
    ids = [vertex.id for vertex in graph.vertices]
    assert len(set(ids)) == len(ids)
    assert {end for edge in graph.edges for end in (edge.start, edge.end)} <= set(ids)
    shown = len(graph.of(Kind.SERVICE))
    assert shown + graph.left_out == len(sizes)
    assert shown == 1 or len(graph.edges) <= MAX_EDGES
    for kind in (Kind.PORT, Kind.FRONTEND, Kind.ENDPOINT):
        assert len(graph.of(kind)) <= shown * most
    more = sum(int(vertex.label.split()[0]) for vertex in graph.of(Kind.MORE) if "endpoint" in vertex.label)
    there = sum(min(ports, most) * endpoints for ports, endpoints in sizes[:shown])
    assert len(graph.of(Kind.ENDPOINT)) + more == there  # what is not drawn is counted
