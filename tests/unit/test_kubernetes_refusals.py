"""Refusals of an API server as problems: each recorded one, and those that no recording has. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from nodeport_nft.kube import Object
from nodeport_nft.model import Ref
from nodeport_nft.store import StoreError
from nodeport_nft.store.kubernetes import refusals
from nodeport_nft.store.kubernetes.answers import refusal
from nodeport_nft.store.kubernetes.documents import cluster_ips
from nodeport_nft.store.kubernetes.errors import Refused
from nodeport_nft.store.kubernetes.refusals import Around, is_absent
from tests.kubernetes.recorded import Recorded, recordings

pytestmark = pytest.mark.proves("W7")

WEB = Object(Ref("Service", "default", "web"), {}, source="web.yaml:1")
AROUND = Around(
    {"31000": Ref("Service", "default", "fixed"), "10.96.7.7": Ref("Service", "default", "fixed")},
    ("10.96.0.0/14", "fd00:10:96::/112"),
)
PLACE = "web.yaml:1: Service/default/web: "
HELD = "is already allocated, to Service/default/fixed; choose another or leave it out"

RECORDED = {
    "14": [f"spec.ports[0].nodePort: Invalid value: 31000: provided port {HELD}"],
    "15": [
        "spec.ports[0].nodePort: Invalid value: 99: provided port is not in the valid range. The range of valid "
        "ports is 30000-32767; choose one of these, or leave it out and one is found"
    ],
    "16": [f'spec.clusterIPs: Invalid value: ["10.96.7.7"]: failed to allocate IP 10.96.7.7: provided IP {HELD}'],
    "17": [
        'spec.clusterIPs: Invalid value: ["192.0.2.77"]: failed to allocate IP 192.0.2.77: the provided network does '
        "not match the current range; choose one in 10.96.0.0/14, fd00:10:96::/112, or leave it out and one is found"
    ],
    "20": ["spec.externalTraficPolicy: is unknown to this API server; leave it out"],
    "33": [
        'spec.selector: another field manager has set it: conflict with "unknown" using v1; give it the same value, '
        "leave it out, or take it over with --force-conflicts"
    ],
    "36": [
        'spec.clusterIPs[0]: Invalid value: ["10.96.8.8"]: may not change once set; leave it as it is, or delete the '
        "object and create it anew"
    ],
}


def recorded(number: str) -> Refused:
    [found] = [each for each in recordings() if each.name.startswith(number)]
    return said(found)


def said(found: Recorded) -> Refused:
    return refusal(found.answer.status, found.answer.text.encode(), found.answer.headers)


def made(code: int, message: str, **status: Any) -> Refused:
    return refusal(code, json.dumps({"kind": "Status", "message": message, "code": code, **status}).encode(), {})


def told(refused: Refused, around: Around = AROUND) -> list[str]:
    return [str(each) for each in refusals.problems_of(refused, WEB, "kubernetes", around)]


@pytest.mark.parametrize("number", RECORDED)
def test_a_recorded_refusal_names_object_field_value_and_remedy(number: str) -> None:
    assert told(recorded(number)) == [PLACE + text for text in RECORDED[number]]


def test_each_of_many_causes_is_a_problem_with_its_field() -> None:
    found = told(recorded("18"))
    assert len(found) == 9
    assert f"{PLACE}spec.ports[1].name: Required value; add it" in found
    assert all(each.startswith(PLACE) for each in found)


@pytest.mark.parametrize("number", ["14", "16", "17"])
def test_who_cannot_look_around_is_told_all_the_same(number: str) -> None:
    [problem] = told(recorded(number), Around())
    assert "leave it out" in problem


def test_what_a_conflict_is_about_is_told_apart() -> None:
    fields, version, exists, absent = (recorded(number) for number in ("33", "35", "13", "30"))
    assert [refusals.is_held_by_others(each) for each in (fields, version, exists, absent)] == [True, *[False] * 3]
    assert [refusals.is_outdated(each) for each in (fields, version, exists, absent)] == [False, True, False, False]
    assert [refusals.is_absent(each) for each in (fields, version, exists, absent)] == [*[False] * 3, True]


@pytest.mark.parametrize(
    ("managers", "is_ours"),
    [(["nodeport-nft"], True), (["nodeport-nft", "argocd"], False), (["argocd"], False), ([], False)],
)
def test_only_what_we_alone_hold_is_ours(managers: list[str], is_ours: bool) -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{name}"{after}', "field": ".spec.type"}
        for name, after in zip(managers, (" using v1", ""), strict=False)
    ]
    assert refusals.is_own(made(409, "Apply failed", reason="Conflict", details={"causes": causes})) == is_ours


TYPED = "failed to create typed patch object (default/web; /v1, Kind=Service): "


@pytest.mark.parametrize(
    ("code", "message", "status", "problems"),
    [
        (
            500,
            f"{TYPED}.spec.colour: field not declared in schema",
            {},
            ["spec.colour: is unknown to this API server; leave it out"],
        ),
        (
            500,
            f"{TYPED}errors:\n  .spec.a: field not declared in schema\n  .spec.selector.b: expected string, got 1",
            {},
            ["spec.a: is unknown to this API server; leave it out", "spec.selector.b: expected string, got 1"],
        ),
        (
            404,
            'namespaces "no" not found',
            {"reason": "NotFound", "details": {"name": "no", "kind": "namespaces"}},
            ['metadata.namespace: namespaces "no" not found; create it first, with kubectl create namespace default'],
        ),
        (
            500,
            "Internal error occurred: failed to allocate a serviceIP: range is full",
            {"reason": "InternalError", "details": {"causes": []}},
            [
                "Internal error occurred: failed to allocate a serviceIP: range is full; delete what is no longer "
                "needed, or let the cluster's administrator widen the range"
            ],
        ),
        (413, "Request entity too large: limit is 3145728", {}, ["Request entity too large: limit is 3145728"]),
        (
            403,
            'services "web" is forbidden: exceeded quota: few',
            {"reason": "Forbidden"},
            ['services "web" is forbidden: exceeded quota: few'],
        ),
    ],
)
def test_what_is_said_without_causes_is_a_problem_too(
    code: int, message: str, status: Mapping[str, Any], problems: list[str]
) -> None:
    assert told(made(code, message, **status)) == [PLACE + each for each in problems]


@pytest.mark.parametrize(
    ("refused", "text"),
    [
        (made(401, "the server does not know who we are; renew it"), "the server does not know who we are; renew it"),
        (made(404, "the server could not find the requested resource", reason="NotFound", details={}), "no services"),
        (made(429, "too many requests"), "try again"),
        (made(503, "the server is currently unable to handle the request"), "try again"),
        (recorded("39"), 'resources: ["services"], verbs: ["list"], bound to nobody'),
        (
            made(
                403,
                'nodes "n" is forbidden: User "me" cannot get resource "nodes" in API group "" at the cluster scope',
            ),
            'a ClusterRole with apiGroups: [""], resources: ["nodes"], verbs: ["get"], bound to me',
        ),
    ],
)
def test_what_is_none_of_the_objects_faults_is_one_of_the_store(refused: Refused, text: str) -> None:
    with pytest.raises(StoreError) as caught:
        told(refused)
    assert text in str(caught.value)
    assert str(caught.value).startswith("kubernetes: Service/default/web: ")


def test_a_message_cannot_steer_a_terminal_or_bury_the_rest() -> None:
    [problem] = told(
        made(422, "x", details={"causes": [{"field": "spec.\x1b[2J", "message": "\x1b]0;a" + "b" * 9999}]})
    )
    assert "\x1b" not in problem
    assert len(problem) <= 1000


@pytest.mark.parametrize(
    ("spec", "addresses"),
    [
        ({"clusterIP": "010.096.000.07"}, ("10.96.0.7",)),
        ({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "FD00:0:0::0007"]}, ("10.96.0.7", "fd00::7")),
        ({"clusterIPs": ["None"]}, ()),
        ({"clusterIP": ""}, ()),
        ({}, ()),
    ],
)
def test_addresses_of_old_services_are_those_of_their_ip_addresses(
    spec: dict[str, Any], addresses: tuple[str, ...]
) -> None:
    assert cluster_ips({"kind": "Service", "metadata": {"name": "web"}, "spec": spec}) == addresses


@pytest.mark.parametrize(
    "details", [None, 7, "x", [], {}, {"name": "web"}, {"name": "web", "kind": 7}, {"kind": "services"}]
)
def test_details_of_any_shape_make_no_object_absent_and_are_no_defect(details: object) -> None:
    body = json.dumps({"kind": "Status", "code": 404, "message": "not here", "details": details}).encode()
    assert is_absent(refusal(404, body, {})) is (details == {"name": "web", "kind": 7})
