"""The table of kinds: what an API server says of them, and that each kind has all that is keyed by it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from nodeport_nft.cli.columns import endpoints_listing, object_listing
from nodeport_nft.kinds import BY_KIND, BY_WORD, KINDS, RESOURCES, Resource, is_namespaced, reference
from nodeport_nft.kube import parse_object
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.formats import check_formats
from nodeport_nft.kube.metadata import Metadata
from nodeport_nft.kube.objects import PARSERS
from nodeport_nft.kube.unknown import note_unknown_fields

# Of /api/v1 and /apis/discovery.k8s.io/v1, as an API server 1.36 answers, without what is of no use here.
CORE: list[dict[str, Any]] = [
    {"name": "endpoints", "singularName": "endpoints", "namespaced": True, "kind": "Endpoints", "shortNames": ["ep"]},
    {"name": "nodes", "singularName": "node", "namespaced": False, "kind": "Node", "shortNames": ["no"]},
    {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "shortNames": ["po"]},
    {"name": "services", "singularName": "service", "namespaced": True, "kind": "Service", "shortNames": ["svc"]},
]
DISCOVERY: list[dict[str, Any]] = [
    {"name": "endpointslices", "singularName": "endpointslice", "namespaced": True, "kind": "EndpointSlice"}
]


@pytest.mark.parametrize(
    ("group_version", "told"),
    [("v1", one) for one in CORE] + [("discovery.k8s.io/v1", one) for one in DISCOVERY],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_the_table_says_what_an_api_server_says(group_version: str, told: dict[str, Any]) -> None:
    resource = BY_KIND[told["kind"]]
    assert resource.api_version == group_version
    assert (resource.plural, resource.singular, resource.namespaced) == (
        told["name"],
        told["singularName"],
        told["namespaced"],
    )
    assert [resource.short] == told.get("shortNames", [""])
    assert is_namespaced(told["kind"]) is told["namespaced"]


def test_the_table_has_no_other_kinds() -> None:
    assert set(KINDS) == {told["kind"] for told in CORE + DISCOVERY}
    assert [resource.kind for resource in RESOURCES] == list(KINDS) == list(BY_KIND)


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "path"),
    [
        ("Service", None, "", "/api/v1/services"),
        ("Service", "default", "", "/api/v1/namespaces/default/services"),
        ("Service", "default", "my-ser", "/api/v1/namespaces/default/services/my-ser"),
        ("EndpointSlice", None, "", "/apis/discovery.k8s.io/v1/endpointslices"),
        ("EndpointSlice", "a", "b", "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices/b"),
        ("Node", None, "", "/api/v1/nodes"),
        ("Node", "", "node-1", "/api/v1/nodes/node-1"),
        ("Node", "default", "node-1", "/api/v1/nodes/node-1"),
    ],
)
def test_where_an_api_server_has_them(kind: str, namespace: str | None, name: str, path: str) -> None:
    assert BY_KIND[kind].path(namespace, name) == path


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("Service", "service/x"),
        ("Endpoints", "endpoints/x"),
        ("EndpointSlice", "endpointslice.discovery.k8s.io/x"),
        ("Pod", "pod/x"),
        ("Node", "node/x"),
        ("Gateway", "gateway/x"),  # in a store of a later version
    ],
)
def test_objects_are_named_as_kubectl_names_them(kind: str, named: str) -> None:
    assert reference(kind, "x") == named


def test_no_word_means_two_kinds_and_each_kind_answers_to_all_of_its_words() -> None:
    words = [word for resource in RESOURCES for word in resource.words]
    assert len(words) == len(set(words)) == len(BY_WORD)
    for resource in RESOURCES:
        for word in (resource.plural, resource.singular, resource.full, resource.short or resource.plural):
            assert BY_WORD[word] is resource


def test_kinds_that_are_not_known_and_what_is_no_kind_stand_in_a_namespace() -> None:
    unknown: tuple[object, ...] = ("Gateway", "", None, 7, {}, [])
    assert all(map(is_namespaced, unknown))


@pytest.mark.parametrize("resource", RESOURCES, ids=KINDS)
def test_each_kind_has_what_is_keyed_by_it(resource: Resource) -> None:
    """A parser, the checks of what comes in, the API's fields and columns: a new row is not forgotten in any."""
    kind = resource.kind
    needed = {"addressType": "IPv4"} if kind == "EndpointSlice" else {}
    spec = {"ports": [{"port": 80}]} if kind == "Service" else {}
    raw = {"apiVersion": resource.api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec, **needed}
    made = parse_object(raw)
    assert (made.kind, made.name, made.namespace) == (kind, "x", "default" if resource.namespaced else "")
    fields = Fields()
    check_formats(raw, kind, Metadata(made.namespace, "x", {}, {}, "", deleted=False), fields)
    note_unknown_fields({**raw, "colour": "blue"}, kind, fields)
    assert ("colour",) in [path for path, _ in fields.unknown]
    assert not list(fields.problems)
    now = datetime(2026, 1, 31, tzinfo=UTC)
    if kind == "Endpoints":  # computed for Services too, and so in a table of their own
        shown = endpoints_listing((), {}, now=now)
    else:
        shown = object_listing(kind, (), wide=True, now=now)
    assert shown.resource is resource
    assert "AGE" in shown.titles


def test_nothing_is_keyed_by_kinds_that_the_table_lacks() -> None:
    assert set(PARSERS) == set(KINDS)
