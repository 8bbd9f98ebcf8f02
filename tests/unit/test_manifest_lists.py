"""Lists of objects, as kubectl writes them and as an API server answers with them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from nodeport_nft.manifest import KINDS, Manifests, Problems, read_manifests
from nodeport_nft.model import Ranges

BODIES: dict[str, dict[str, Any]] = {
    "Service": {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}},
    "EndpointSlice": {
        "metadata": {"name": "web", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.2"]}],
    },
    "Endpoints": {"metadata": {"name": "web"}, "subsets": [{"addresses": [{"ip": "10.244.1.2"}]}]},
    "Pod": {"metadata": {"name": "web"}, "spec": {}, "status": {"podIP": "10.244.1.2"}},
    "Node": {"metadata": {"name": "web"}},
}
VERSIONS = {kind: "discovery.k8s.io/v1" if kind == "EndpointSlice" else "v1" for kind in KINDS}


def read(*documents: Any) -> Manifests:
    """JSON documents in a row, as ``kubectl cluster-info dump`` writes them."""
    text = "\n".join(json.dumps(document, indent=1) for document in documents)
    return read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(text.encode()))


def read_yaml(text: str) -> Manifests:
    return read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(text.encode()))


def problems(*documents: Any) -> list[str]:
    with pytest.raises(Problems) as caught:
        read(*documents)
    return [f"{problem.object}: {problem.field}: {problem.message}" for problem in caught.value.problems]


def listed(kind: str, *items: Any) -> dict[str, Any]:
    version = VERSIONS.get(kind.removesuffix("List"), "v1")
    return {"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "7"}, "items": list(items)}


@pytest.mark.parametrize("kind", KINDS)
def test_items_take_what_they_do_not_say_from_the_list_of_their_kind(kind: str) -> None:
    body, version = BODIES[kind], VERSIONS[kind]
    whole = {"apiVersion": version, "kind": kind, **body}
    expected = read(whole).objects[0]
    for item in (
        body,
        whole,
        {"kind": kind, **body},
        {"apiVersion": version, **body},
        {"apiVersion": None, "kind": "", **body},
    ):
        (made,) = read(listed(f"{kind}List", item)).objects
        assert (made.raw, made.values, made.ref) == (expected.raw, expected.values, expected.ref)
        assert read(listed("List", listed(f"{kind}List", item))).objects[0].raw == expected.raw


def test_lists_of_all_kinds_in_a_row_are_the_dump_of_a_cluster() -> None:
    dump = [listed(f"{kind}List", BODIES[kind]) for kind in KINDS]
    foreign = [listed("EventList", {"reason": "x"}), {"kind": "DeploymentList", "apiVersion": "apps/v1", "items": []}]
    made = read(*dump, *foreign)
    assert [one.kind for one in made.objects] == list(KINDS)
    assert [warning.partition(": ")[2] for warning in made.warnings] == [
        "EventList/default: kind EventList is not used here; skipped",
        "DeploymentList/default: kind DeploymentList is not used here; skipped",
    ]
    in_one = read(listed("List", *dump, *foreign))
    assert [one.raw for one in in_one.objects] == [one.raw for one in made.objects]
    assert len(in_one.warnings) == 2


def test_objects_in_the_logs_of_a_dump_are_nobodys() -> None:
    """Whoever runs a Pod may have it print what looks like the end of its logs, and a Service."""
    marks = "==== {} logs for container web of pod default/web-1 ====\n"
    service = json.dumps({"kind": "Service", "apiVersion": "v1", **BODIES["Service"]})
    text = f"{json.dumps(listed('PodList'))}\n{marks.format('START')}{marks.format('END')}{service}\n"
    with pytest.raises(
        Problems, match=r"^<stdin>:2: the logs of a container begin, .* --output-directory=DIR writes$"
    ):
        read_yaml(text)


@pytest.mark.parametrize("kind", [f"{kind}List" for kind in KINDS])
@pytest.mark.parametrize("items", [[], None])
def test_a_list_may_be_empty(kind: str, items: list[Any] | None) -> None:
    assert read({**listed(kind), "items": items}) == Manifests((), ())


def test_every_item_keeps_its_line() -> None:
    text = "kind: NodeList\napiVersion: v1\nitems:\n- metadata: {name: a}\n-\n  metadata: {name: b}\n"
    assert [(made.name, made.source) for made in read_yaml(text).objects] == [("a", "<stdin>:4"), ("b", "<stdin>:6")]
    with pytest.raises(Problems, match=r"^<stdin>:6: Node/B: metadata.name: "):
        read_yaml(text.replace("name: b", "name: B"))


@pytest.mark.parametrize("kind", ["List", *(f"{kind}List" for kind in KINDS)])
@pytest.mark.parametrize("items", ["none", {}, {"a": 1}, "x", 5, True])
def test_a_list_without_items_is_told(kind: str, items: Any) -> None:
    wrong = listed(kind)
    if items == "none":
        del wrong["items"]
    else:
        wrong["items"] = items
    where = "" if kind == "List" else kind
    (problem,) = problems(wrong)
    assert problem == f'{where}: items: is not a list; write "items:" and the objects below it, each after "- "'


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["apps/v1", "v1beta1", "discovery.k8s.io/v1beta1", None, "", 1])
def test_a_list_of_another_version_is_told_once(kind: str, version: Any) -> None:
    wrong = {**listed(f"{kind}List", BODIES[kind], BODIES[kind]), "apiVersion": version}
    (problem,) = problems(wrong)
    assert problem.startswith(f"{kind}List: apiVersion: ")


@pytest.mark.parametrize(
    ("kind", "item", "told"),
    [
        (
            "ServiceList",
            {"kind": "Pod"},
            'kind: "Pod" contradicts the ServiceList it stands in, which says Service; change one of them',
        ),
        ("PodList", {"kind": "Deployment"}, 'Deployment/default/web: kind: "Deployment" contradicts the PodList'),
        ("PodList", {"kind": 5}, "kind: 5 contradicts the PodList"),
        ("NodeList", {"apiVersion": "apps/v1"}, 'Node/web: apiVersion: "apps/v1" contradicts the NodeList'),
        (
            "ServiceList",
            {"apiVersion": "serving.knative.dev/v1", "kind": "Service"},
            '"serving.knative.dev/v1" contradicts the ServiceList it stands in, which says v1; change one of them',
        ),
        (
            "EndpointSliceList",
            {"apiVersion": "v1"},
            '"v1" contradicts the EndpointSliceList it stands in, which says discovery.k8s.io/v1',
        ),
        (
            "DeploymentList",
            {"kind": "Service", "apiVersion": "v1"},
            'kind: "Service" contradicts the DeploymentList it stands in, which says Deployment',
        ),
    ],
)
def test_what_contradicts_its_list_is_told_with_both(kind: str, item: dict[str, Any], told: str) -> None:
    found = problems(listed(kind, {"metadata": {"name": "web"}, **item}))
    assert told in found[0]
    assert len(found) == 1


def test_a_list_of_others_is_skipped_as_a_whole() -> None:
    items: list[Any] = [
        5,
        None,
        {"kind": "Deployment"},
        {"spec": {}},
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service"},
    ]
    for kind, version in (("DeploymentList", "apps/v1"), ("ServiceList", "serving.knative.dev/v1")):
        made = read({"kind": kind, "apiVersion": version, "items": items})
        assert made.objects == ()
        (warning,) = made.warnings
        assert warning.endswith("; skipped")


@pytest.mark.parametrize(
    ("kind", "version", "right"),
    [
        ("servicelist", "v1", "ServiceList"),
        ("Podlist", "v1", "PodList"),
        ("list", "v1", "List"),
        ("LIST", None, "List"),
        ("Services", "v1", "Service"),
        ("Sevice", None, "Service"),
        ("Endpoint", "v1", "Endpoints"),
        ("EndpointSlices", "discovery.k8s.io/v1", "EndpointSlice"),
        ("pods", "v1", "Pod"),
        ("node", "v1", "Node"),
    ],
)
def test_a_slip_in_a_kind_is_no_other_kind(kind: str, version: str | None, right: str) -> None:
    """Skipped, it would be lost among all that is skipped."""
    (problem,) = problems({"kind": kind, "apiVersion": version, "items": []})
    assert problem.endswith(f'kind: "{kind}" is unknown; write {right}')


CORE = (
    "Binding ComponentStatus ConfigMap Event LimitRange Namespace PersistentVolume PersistentVolumeClaim PodTemplate "
    "ReplicationController ResourceQuota Secret ServiceAccount Status Config Kustomization Eviction Scale Table"
)


@pytest.mark.parametrize("kind", [*CORE.split(), *(f"{kind}List" for kind in CORE.split())])
def test_kinds_of_the_core_group_are_no_slips_of_ours(kind: str) -> None:
    (warning,) = read({"kind": kind, "apiVersion": "v1", "metadata": {"name": "a"}}).warnings
    assert warning.endswith(f"kind {kind} is not used here; skipped")


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        ("SVC", "Service"), ("svc", "Service"), ("Svc", "Service"), ("po", "Pod"), ("ep", "Endpoints"),
        ("ServicesList", "ServiceList"), ("servicesList", "ServiceList"), ("PodsList", "PodList"),
        ("NodesList", "NodeList"), ("EndpointSlicesList", "EndpointSliceList"), ("SvcList", "ServiceList"),
    ],
)  # fmt: skip
def test_short_names_and_lists_of_plurals_are_slips(kind: str, right: str) -> None:
    with pytest.raises(Problems, match=f'kind: "{kind}" is unknown; write {right}$'):
        read({"apiVersion": "v1", "kind": kind, "metadata": {"name": "web"}, "items": []})
    made = read({"apiVersion": "example.org/v1", "kind": kind, "metadata": {"name": "web"}})
    assert made.objects == ()


@pytest.mark.parametrize("kind", ["Services", "Pods", "Nodes", "Endpoint"])
def test_other_groups_call_their_kinds_as_they_like(kind: str) -> None:
    (warning,) = read({"kind": kind, "apiVersion": "example.org/v1", "metadata": {"name": "a"}}).warnings
    assert warning.endswith(f"kind {kind} is not used here; skipped")


def test_lists_in_lists_without_end_are_bounded() -> None:
    value: Any = BODIES["Node"] | {"kind": "Node", "apiVersion": "v1"}
    for _ in range(40):
        value = listed("List", value)
    assert [str(made.ref) for made in read(value).objects] == ["Node/web"]
    for _ in range(40):
        value = listed("NodeList", value)
    assert all("nested more than 100 levels deep" in problem for problem in problems(value))
