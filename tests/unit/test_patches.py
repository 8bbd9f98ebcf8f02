"""What patches make of documents: RFC 7396's own examples, and what an API server makes of strategic ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nodeport_nft.kube.patches import MERGE_KEYS, MERGED_VALUES, PatchError, merge_patch, strategic_merge
from nodeport_nft.kube.unknown import types_of_fields

pytestmark = pytest.mark.proves("U1")


@pytest.mark.parametrize(
    ("value", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_as_the_rfc_has_it(value: Any, patch: Any, result: Any) -> None:
    """RFC 7396, appendix A."""
    before = copy.deepcopy(value)
    assert merge_patch(value, patch) == result
    assert value == before, "what is patched is not changed"


HTTP, HTTPS, ADMIN = {"name": "http", "port": 80}, {"name": "https", "port": 443}, {"name": "admin", "port": 9000}


def ports(*given: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"ports": list(given)}}


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        pytest.param([{"port": 443, "nodePort": 30443}], [HTTP, {**HTTPS, "nodePort": 30443}], id="one of them"),
        pytest.param([ADMIN], [ADMIN, HTTP, HTTPS], id="a new one comes first"),
        pytest.param([HTTPS, ADMIN], [HTTP, HTTPS, ADMIN], id="and behind what the patch has before it"),
        pytest.param([HTTPS, HTTP], [HTTPS, HTTP], id="the patch says their order"),
        pytest.param([{"port": 80, "name": None}], [{"port": 80}, HTTPS], id="a field of one is taken away"),
        pytest.param([{"port": 80, "$patch": "delete"}], [HTTPS], id="one is taken away"),
        pytest.param([{"port": 81, "$patch": "delete"}], [HTTP, HTTPS], id="one that is not there"),
        pytest.param([{"port": 80, "$patch": "delete"}, ADMIN], [ADMIN, HTTPS], id="one for the other"),
        pytest.param([{"$patch": "replace"}, ADMIN], [ADMIN], id="all are replaced"),
        pytest.param([{"$patch": "replace"}], [], id="by none"),
        pytest.param([], [HTTP, HTTPS], id="nothing is named"),
    ],
)
def test_ports_are_merged_by_their_numbers(patch: list[Any], result: list[Any]) -> None:
    document = ports(HTTP, HTTPS)
    before = copy.deepcopy(document)
    assert strategic_merge("Service", document, ports(*patch)) == ports(*result)
    assert document == before, "what is patched is not changed"


def test_lists_without_a_key_are_replaced_and_mappings_are_merged() -> None:
    document = {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"externalIPs": ["192.0.2.1", "192.0.2.2"]}}
    patch = {"metadata": {"labels": {"a": None, "c": "3"}}, "spec": {"externalIPs": ["192.0.2.3"]}}
    assert strategic_merge("Service", document, patch) == {
        "metadata": {"labels": {"b": "2", "c": "3"}},
        "spec": {"externalIPs": ["192.0.2.3"]},
    }


def test_a_mapping_is_replaced_or_emptied_by_a_word() -> None:
    document = {"spec": {"selector": {"app": "web", "tier": "front"}}}
    replaced = strategic_merge("Service", document, {"spec": {"selector": {"$patch": "replace", "app": "new"}}})
    assert replaced == {"spec": {"selector": {"app": "new"}}}
    assert strategic_merge("Service", document, {"spec": {"selector": {"$patch": "delete"}}}) == {
        "spec": {"selector": {}}
    }


def test_what_is_not_there_is_not_emptied() -> None:
    patch = {"spec": {"selector": {"$patch": "delete"}, "sessionAffinityConfig": {"clientIP": {"$patch": "delete"}}}}
    assert strategic_merge("Service", {"spec": {}}, patch) == {"spec": {"sessionAffinityConfig": {}}}
    gone = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/1"]}}
    assert strategic_merge("Service", {"metadata": {}}, gone) == {"metadata": {}}


def test_values_of_a_list_come_and_go() -> None:
    document = {"metadata": {"finalizers": ["a/1", "b/2"]}}
    added = strategic_merge("Service", document, {"metadata": {"finalizers": ["c/3", "b/2"]}})
    assert added == {"metadata": {"finalizers": ["c/3", "a/1", "b/2"]}}
    gone = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/1"]}}
    assert strategic_merge("Service", document, gone) == {"metadata": {"finalizers": ["b/2"]}}


def test_what_is_not_retained_goes() -> None:
    document = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    volume = {"name": "v", "hostPath": {"path": "/v"}, "$retainKeys": ["name", "hostPath"]}
    patched = strategic_merge("Pod", document, {"spec": {"volumes": [volume]}})
    assert patched == {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/v"}}]}}
    without: dict[str, Any] = {"name": "v", "emptyDir": None, "$retainKeys": ["name"]}
    assert strategic_merge("Pod", document, {"spec": {"volumes": [without]}}) == {
        "spec": {"volumes": [{"name": "v"}]}
    }


@pytest.mark.parametrize(
    ("kind", "patch", "text"),
    [
        ("Service", ports({"nodePort": 30080}), "spec.ports[0]: has no port"),
        ("Service", ports({"$patch": "delete", "name": "http"}), "spec.ports[0]: has no port"),
        ("Service", {"spec": {"ports": [80]}}, "spec.ports[0]: is not a mapping"),
        ("Service", ports({"port": 80, "$patch": "merge"}), "'merge' is not known here"),
        ("Service", {"spec": {"$patch": "keep"}}, "'keep' is not known here"),
        ("Service", {"spec": {"$setElementOrder/ports": [{"port": 80}]}}, "is a directive that is not known here"),
        ("Service", {"spec": {"$retainKeys": ["type"], "selector": {}}}, "is not among $retainKeys"),
        ("Service", {"spec": {"$retainKeys": "type"}}, "is not a list"),
        ("Service", {"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}, "is not a list"),
        ("EndpointSlice", {"endpoints": [{"$patch": "delete"}]}, "taken as a whole"),
        ("Service", ports({"$patch": "replace"}, {"port": 80, "$odd": 1}), "taken as a whole"),
        ("Service", {"metadata": {"finalizers": [{"$patch": "replace"}, "a.io/b"]}}, "taken as a whole"),
        ("Node", {"spec": {"podCIDRs": [{"x": {"$patch": "delete"}}]}}, "taken as a whole"),
    ],
)
def test_what_cannot_be_meant_is_told(kind: str, patch: dict[str, Any], text: str) -> None:
    with pytest.raises(PatchError) as raised:
        strategic_merge(kind, ports(HTTP), patch)
    assert text in str(raised.value)


def test_every_merged_list_is_one_that_the_api_has() -> None:
    _, types = types_of_fields()
    for kind, lists in MERGE_KEYS.items():
        for name, key in lists.items():
            inner = types[kind][name]
            assert inner.startswith("["), (kind, name)
            assert key in types[inner.strip("[]")], (kind, name)
    assert all(types[kind][name] == "" for kind, names in MERGED_VALUES.items() for name in names)
