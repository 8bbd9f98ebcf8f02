"""Reading manifests for names alone, as ``delete -f`` does: kind, namespace and name count, and nothing else."""

from __future__ import annotations

import io

import pytest

from nodeport_nft.manifest import KINDS, Manifests, Problems, read_manifests
from nodeport_nft.model import Ranges

HEAD = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"


def named(text: str) -> Manifests:
    return read_manifests(["-"], ranges=Ranges(), names_only=True, stdin=io.BytesIO(text.encode()))


def names(text: str) -> list[tuple[str, str, str]]:
    return [(made.kind, made.namespace, made.name) for made in named(text).objects]


REFUSED = {
    "metadata alone": HEAD,
    "nothing but kind and name": "kind: Service\nmetadata: {name: web}\n",
    "an unknown field": f"{HEAD}spec: {{prots: []}}\nsatus: {{}}\n",
    "a field of another type": f"{HEAD}spec: {{type: ClusterIP, externalName: a.b}}\n",
    "the wrong shape": f"{HEAD}spec: 5\nstatus: []\n",
    "a number out of range": f"{HEAD}spec: {{type: NodePort, ports: [{{port: 99999, nodePort: 1}}]}}\n",
    "an address out of range": f"{HEAD}spec: {{clusterIP: 8.8.8.8, ports: [{{port: 80}}]}}\n",
    "no address": f"{HEAD}spec: {{clusterIP: nonsense, ports: [{{port: 80}}]}}\n",
    "a version of long ago": "apiVersion: v1beta3\nkind: Service\nmetadata: {name: web}\n",
    "a version that is not text": "apiVersion: 1\nkind: Service\nmetadata: {name: web}\n",
    "labels that are none": "kind: Service\nmetadata: {name: web, labels: [a], annotations: {b: 5}}\n",
    "a time that is none": "apiVersion: v1\nkind: Service\nmetadata: {name: web, creationTimestamp: today}\n",
    "a selector far too long": f"{HEAD}spec: {{selector: {{{'k' * 100}: {'v' * 300}}}}}\n",
    "a tag": f"{HEAD}spec: {{ports: [!!binary aGk=]}}\n",
    "a template not filled in": f"{HEAD}spec:\n  ports:\n  - nodePort: {{{{ .Values.port }}}}\n",
    "an alias without an anchor": f"{HEAD}spec: *missing\n",
    "what is nested too deep": f"{HEAD}spec: {'[' * 200}{']' * 200}\n",
    "no number of JSON": '{"kind": "Service", "metadata": {"name": "web"}, "spec": NaN}',
    "half a character": '{"kind": "Service", "metadata": {"name": "web"}, "spec": "\\ud800"}',
    "an item without a version": "apiVersion: v1\nkind: List\nitems: [{kind: Service, metadata: {name: web}}]\n",
    "an item that contradicts its list": (
        "apiVersion: v1\nkind: ServiceList\nitems:\n- {apiVersion: v2, kind: Service, metadata: {name: web}}\n"
    ),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_an_object_says_beside_its_name_does_not_matter(text: str) -> None:
    with pytest.raises(Problems):
        read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(text.encode()))
    assert names(text) == [("Service", "default", "web")]
    assert named(text).warnings == ()


@pytest.mark.parametrize("kind", KINDS)
def test_objects_of_each_kind_are_named_by_metadata_alone(kind: str) -> None:
    text = f"kind: {kind}\nmetadata: {{name: web, namespace: prod}}\nspec: nonsense\n"
    assert names(text) == [(kind, "" if kind == "Node" else "prod", "web")]


@pytest.mark.parametrize("name", ["No_Name", "a/b", "x" * 300, "web\\u001b[2J"])
def test_a_name_that_no_object_can_have_is_a_name(name: str) -> None:
    """It is not found, as the API would say: stores of other versions have had other rules."""
    read = names(f'kind: Service\nmetadata: {{name: "{name}", namespace: "Not One"}}\n')
    assert read == [("Service", "Not One", name.replace("\\u001b", "\x1b"))]


def test_two_objects_that_want_the_same_are_both_named() -> None:
    text = "---\n".join(
        f"kind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.96.0.9}}\n" for name in ("a", "b", "a")
    )
    assert [name for _, _, name in names(text)] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("metadata: {name: web}\n", "<stdin>:1: kind: is missing; "),
        ("kind: 5\nmetadata: {name: web}\n", "kind: 5 is a number, not a string; "),
        ("apiVersion: v1\nkind: Servcie\nmetadata: {name: web}\n", '"Servcie" is unknown; write Service'),
        ("kind: Service\n", "metadata.name: is missing; "),
        ("kind: Service\nmetadata: {generateName: web-}\n", "metadata.name: is missing; "),
        ("kind: Service\nmetadata: web\n", "metadata: "),
        ("kind: Service\nmetadata: {name: 5}\n", "metadata.name: 5 is a number, not a string; "),
        ("kind: Service\nmetadata: {name: {{ .Values.name }}}\n", "a mapping or list stands for a key"),
        ("kind: Service\nmetadata: {name: !!binary d2Vi}\n", "tag "),
        ("kind: Service\nmetadata: {name: *gone}\n", "alias *gone has no anchor"),
        ("kind: Service\nmetadata: {<<: 5, name: web}\n", "merges something that is not a mapping"),
        ("kind: !Service Service\nmetadata: {name: web}\n", "tag "),
        ("apiVersion: *gone\nkind: Service\nmetadata: {name: web}\n", "alias *gone has no anchor"),
        ("kind: Service\nmetadata: {name: web, namespace: 5}\n", "metadata.namespace: 5 is a number, not a string; "),
        ('{"kind": "Service", "metadata": {"name": "web\\ud800"}}', "half of a surrogate pair"),
        ("kind: Service\nmetadata: {name: web\n", "not YAML: "),
        ("kind: List\napiVersion: v1\n", "items: is not a list; "),
        ("kind: List\napiVersion: v1\nitems: [5]\n", "5 is not an object; "),
        ("kind: List\napiVersion: v1\nitems:\n- *gone\n", "alias *gone has no anchor"),
        ("kind: ServiceList\napiVersion: v9\nitems: []\n", 'apiVersion: "v9" has no ServiceList for us; '),
        ("kind: ServiceList\napiVersion: v1\nitems: [{kind: Pod, metadata: {name: a}}]\n", "contradicts the "),
        ("[]\n", "an empty list is not an object; "),
        ("web\n", '"web" is not an object; '),
    ],
)
def test_what_has_no_kind_or_name_is_an_error(text: str, told: str) -> None:
    with pytest.raises(Problems) as caught:
        named(HEAD + "---\n" + text if not text.startswith("{") else text)
    (problem,) = caught.value.problems
    assert told in str(problem).replace("<stdin>:5:", "<stdin>:1:")


def test_what_others_call_by_our_kinds_is_skipped() -> None:
    """Knative has Services, too; one of its manifests must not name one of ours."""
    theirs = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\n"
    read = named(f"{theirs}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: *gone\n")
    assert read.objects == ()
    assert len(read.warnings) == 3  # two that are skipped, and the alias
    items = (
        "apiVersion: v1\nkind: ServiceList\nitems:\n- {apiVersion: serving.knative.dev/v1, metadata: {name: web}}\n"
    )
    assert names(items) == []
