"""JSONPath templates: what each finds of a list of Services is what kubectl 1.36 printed of the same list."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeport_nft.cli.get.custom_columns import column_cells, parse_column_lines, parse_columns
from nodeport_nft.cli.get.jsonpath import PathError, relaxed
from nodeport_nft.cli.get.sorting import order
from nodeport_nft.cli.get.template import Template


def service(name: str, spec: dict[str, Any], **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


WEB = service(
    "web",
    {
        "type": "NodePort",
        "ports": [
            {"name": "http", "port": 8000, "targetPort": 80, "nodePort": 31482},
            {"name": "https", "port": 443, "nodePort": 31483},
        ],
    },
    app="web",
    tier="front",
)
WEB["metadata"]["labels"]["app.kubernetes.io/name"] = "shop"
ITEMS = [
    service("api", {"type": "ClusterIP", "ports": [{"port": 80}]}, app="api", tier="back"),
    service("plain", {"type": "ClusterIP", "clusterIP": "None", "ports": [{"port": 9}]}),
    WEB,
]
LIST = {"apiVersion": "v1", "items": ITEMS, "kind": "List", "metadata": {"resourceVersion": ""}}

FOUND = {
    "{.items[*].metadata.name}": "api plain web",
    '{range .items[*]}{.metadata.name}{"\\t"}{.spec.ports[0].port}{"\\n"}{end}': "api\t80\nplain\t9\nweb\t8000\n",
    r"{.items[2].metadata.labels.app\.kubernetes\.io/name}": "shop",
    r"{.items[2].metadata.labels['app\.kubernetes\.io/name']}": "shop",
    "{.items[*].metadata.labels['app','tier']}": "api web back front",
    "{.items[*]['metadata.name', 'spec.type']}": "api plain web ClusterIP ClusterIP NodePort",
    "{.items[*].metadata['name']}": "api plain web",
    '{.items[?(@.metadata.name=="web")].spec.ports[*].name}': "http https",
    "{.items[?(@.metadata.name=='web')].kind}": "Service",
    '{.items[?(@.metadata.name!="web")].metadata.name}': "api plain",
    '{.items[?(@.metadata.name>="plain")].metadata.name}': "plain web",
    "{.items[?(@.spec.ports[0].port>80)].metadata.name}": "web",
    "{.items[?(80==@.spec.ports[0].port)].metadata.name}": "api",
    '{.items[?(@.metadata.labels.nope!="x")].metadata.name}': "",
    "{.items[?(@.metadata.labels.tier)].metadata.name}": "api web",
    '{.items[?(@.metadata.name=="w)b")].kind}': "",
    '{.items[*].spec.ports[?(@.name=="http")].port}': "8000",
    "{..nodePort}": "31482 31483",
    "{.items[2]..port}": "8000 443",
    "{..ports[0].port}": "80 9 8000",
    "{..ports[*].port}": "80 9 8000 443",
    "{.items[0:2].metadata.name}": "api plain",
    "{.items[:1].metadata.name}": "api",
    "{.items[-1:].metadata.name}": "web",
    "{.items[-1].metadata.name}": "web",
    "{.items[0,1].metadata.name}": "api plain",
    "{.items[2].spec.ports[0:2:2].port}": "8000",
    "{.items[0].spec.ports}": '[{"port":80}]',
    "{.items[0].metadata.labels}": '{"app":"api","tier":"back"}',
    "{.items[0].nope.nope}": "",
    "{.items.metadata}": "",
    "{.items[*].spec.ports.port}": "",
    "{.items[0].metadata.name.x}": "",
    "{.metadata.resourceVersion}": "",
    "{.}": "",
    "{$.items[1].metadata.name}": "plain",
    "{@.items[1].metadata.name}": "plain",
    "{ .kind }": "List",
    "{.items[0].metadata.labels.tier }": "back",
    "text": "text",
    "a{.kind}b{.apiVersion}c": "aListbv1c",
    "{'x'}{\"a}b\"}{'it\\'s'}{\"\\u00e4\"}": "xa}bit'sä",
    "{1}{true}{-1.5}": "1true-1.5",
    '{range .items[?(@.spec.type=="NodePort")]}{.metadata.name}: {range .spec.ports[*]}{.port},{end};{end}': (
        "web: 8000,443,;"
    ),
    "{range .items[*].spec.ports[*]}[{.port}]{end}": "[80][9][8000][443]",
    "{range .nope[*]}x{end}y": "y",
    "{range .items[*]}{range .nope}z{end}{.metadata.name}{end}": "apiplainweb",
    '{range .items[*]}{.metadata.name}{" "}{end}tail {.kind}': "api plain web tail List",
}


@pytest.mark.parametrize("text", FOUND)
def test_a_template_finds_what_kubectl_finds(text: str) -> None:
    assert Template(text).text(LIST) == FOUND[text]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{.x", "unclosed action"),
        ("{'x}", "unclosed action"),
        ("{foo}", "unrecognized identifier"),
        ("{end}", "there is no {range} to end"),
        ("{.items[a]}", "invalid array index"),
        ('{.items["kind"]}', "invalid array index"),
        ("{.items[?@.kind]}", "invalid array index"),
        ("{.items[0}", "a ] is missing"),
        ("{.items[?(@.kind}", "the filter has no end"),
        ("{.items[?(@.kind)x]}", "a ] belongs behind"),
        ('{.items[?(@.kind=="a" && @.kind=="b")]}', "the quotes do not match"),
        ("{.items[?(@.ports['a','b']==1)]}", "leave out the comma"),
        ("{..}", "name what is looked for"),
        ("{.a b}", "is not a path"),
        ('{"\\q"}', "means nothing"),
        ("{.items[?(@.a==)]}", "compares two things"),
        ("{.items[?(@.a[*]==1)]}", "; write a path as"),
    ],
)
def test_what_is_no_template_is_told_with_what_to_write(text: str, told: str) -> None:
    with pytest.raises(PathError, match=told.replace("[", "\\[").replace("{", "\\{").replace("?", "\\?")):
        Template(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{.items[9].kind}", "array index out of bounds: index 9, length 3"),
        ("{.items[0].spec.ports[-2]}", "array index out of bounds: index -2, length 1"),
        ("{.kind[0]}", "what it is asked of is not a list"),
    ],
)
def test_an_element_that_is_not_there_is_an_error_as_with_kubectl(text: str, told: str) -> None:
    with pytest.raises(PathError) as error:
        Template(text).text(LIST)
    assert told in str(error.value)


def test_what_a_template_finds_as_json() -> None:
    parts = Template("{.items[*].metadata.name}{.items[0].spec.ports[0]}").json(LIST).split("]\n")
    assert [json.loads(f"{part}]") for part in parts if part] == [["api", "plain", "web"], [{"port": 80}]]


@pytest.mark.parametrize("text", ["metadata.name", ".metadata.name", "{metadata.name}", "{.metadata.name}"])
def test_a_path_may_lack_its_braces_and_its_dot(text: str) -> None:
    assert relaxed(text).values(WEB) == ["web"]


@pytest.mark.parametrize("text", ["", "{}", "{.a}{.b}", "{.a"])
def test_what_is_no_single_path_is_told(text: str) -> None:
    with pytest.raises(PathError):
        relaxed(text)


def test_columns_have_kubectls_cells() -> None:
    columns = parse_columns(
        "N:.metadata.name,P:.spec.ports[*].port,B:.metadata.labels['app','tier'],L:.metadata.labels,M:.spec.ports,X:.x"
    )
    assert [column.title for column in columns] == ["N", "P", "B", "L", "M", "X"]
    assert column_cells(columns, ITEMS[0]) == (
        *("api", "80", "api,back", "map[app:api tier:back]", "[map[port:80]]", "<none>"),
    )
    odd = {"a": True, "b": None, "c": [1, None]}
    assert column_cells(parse_columns("A:a,B:b,C:c"), odd) == ("true", "<nil>", "[1 <nil>]")
    assert parse_column_lines("N T\n.metadata.name {kind}\n")[1].path.values(WEB) == ["Service"]


@pytest.mark.parametrize("text", ["", "N", "N:", ":.a", "N:.a,"])
def test_what_are_no_columns_is_told(text: str) -> None:
    with pytest.raises(PathError, match="write"):
        parse_columns(text)


@pytest.mark.parametrize("text", ["", "N\n", "N T\n.a\n", "N\n.a\n.b\n"])
def test_what_is_no_file_of_columns_is_told(text: str) -> None:
    with pytest.raises(PathError, match="write"):
        parse_column_lines(text)


def test_documents_are_sorted_with_those_first_that_lack_the_field() -> None:
    assert order(ITEMS, relaxed(".spec.ports[0].port")) == [1, 0, 2]
    assert order(ITEMS, relaxed("{.metadata.labels.tier}")) == [1, 0, 2]
    assert order(ITEMS, relaxed(".spec.type")) == [0, 1, 2], "those that are alike stay in their order"
    for path, told in (
        (".spec.nope", "couldn't find any field"),
        (".spec.ports", "is neither a number nor text"),
    ):
        with pytest.raises(PathError, match=told):
            order(ITEMS, relaxed(path))
    with pytest.raises(PathError, match="have no order"):
        order([{"a": 1}, {"a": "x"}], relaxed("a"))
    assert order([], relaxed(".a")) == []


_PIECES = [
    *"{}[]().@$?'\"=<>!&|*:,\\ \n-01a~#",
    "range ",
    "end",
    ".items",
    "[?(",
    "..",
    "[*]",
    "==",
    '"a"',
    "true",
    "1e9",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=14).map("".join))
def test_whatever_somebody_writes_is_a_template_or_is_told_as_none(text: str) -> None:
    for made in (text, f"{{{text}}}", f"{{.items{text}}}"):
        with suppress(PathError):
            Template(made).text(LIST)
    with suppress(PathError):
        order(ITEMS, relaxed(text))
    with suppress(PathError):
        column_cells(parse_columns(text), LIST)
