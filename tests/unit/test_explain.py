"""explain: every field that a parser reads, every annotation and every setting has an explanation."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from nodeport_nft.cli import app
from nodeport_nft.cli.explain import _complete, text_of
from nodeport_nft.explain import ANNOTATIONS, FIELDS, explained
from nodeport_nft.kinds import KINDS, RESOURCES
from nodeport_nft.kube import annotations as ours
from nodeport_nft.kube import unknown
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.objects import read_object
from nodeport_nft.kube.unknown import field_names
from nodeport_nft.model import Ranges
from nodeport_nft.settings import KEYS, SETTINGS

pytestmark = pytest.mark.proves("U3")

# --- what is read --------------------------------------------------------------------------------------------------


class Watched(dict[str, Any]):
    """A mapping that notes which of its keys are asked for, as paths without the numbers of lists."""

    def __init__(self, values: dict[str, Any], path: str, seen: set[str]) -> None:
        super().__init__(values)
        self._path, self._seen = path, seen

    def __bool__(self) -> bool:
        return True  # an empty one is passed over, and another one looked at in its place

    def _note(self, key: str) -> None:
        self._seen.add(f"{self._path}.{key}" if self._path else key)

    def get(self, key: str, default: Any = None) -> Any:
        self._note(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self._note(key)
        return super().__getitem__(key)


def filled(type_name: str, path: str, seen: set[str], given: dict[str, Any], above: tuple[str, ...] = ()) -> Watched:
    """An object of the API's type in which every object and list of objects is there; plain values are ``given``."""
    _, types = unknown._known()
    values: dict[str, Any] = {}
    for name, inner in types[type_name].items():
        place = f"{path}.{name}" if path else name
        bare = inner.strip("[]")
        if place in given:
            values[name] = given[place]
        elif bare and bare not in above:
            value = filled(bare, place, seen, given, (*above, bare))
            values[name] = [value] if inner.startswith("[") else value
    return Watched(values, path, seen)


COMMON = {"metadata.name": "x", "metadata.namespace": "default", "metadata.labels": {}, "metadata.annotations": {}}
GIVEN: dict[str, list[dict[str, Any]]] = {
    "Service": [
        {
            "spec.type": kind,
            "spec.ports.port": 80,
            "spec.externalIPs": ["203.0.113.7"],
            "spec.sessionAffinity": "ClientIP",
            "status.loadBalancer.ingress.ip": "198.51.100.4",
        }
        for kind in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
    ],
    "EndpointSlice": [{"addressType": "IPv4", "endpoints.addresses": ["10.244.1.2"]}],
    "Endpoints": [{}],
    "Pod": [
        {"status.podIP": "10.244.1.2", "spec.initContainers.restartPolicy": "Always", "status.conditions": conditions}
        for conditions in (list[Any](), None)
    ],
    "Node": [{"status.addresses.type": "InternalIP"}],
}


def read_paths(kind: str) -> set[str]:
    """The paths of the fields that the parser of a kind asks for."""
    kinds, _ = unknown._known()
    seen: set[str] = set()
    for given in GIVEN[kind]:
        own = {**COMMON, "kind": kind, **{path: value for path, value in given.items() if value is not None}}
        read_object(filled(kinds[kind], "", seen, own), Fields(), Ranges(), "default")
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_each_field_that_a_parser_reads_is_explained(kind: str) -> None:
    seen = read_paths(kind)
    assert len(seen) > 15  # it was indeed watched
    known = {field.path for field in FIELDS[kind]}
    assert sorted(seen - known) == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_field_that_acts_is_read(kind: str) -> None:
    """A row that says a field has an effect here, when nobody asks for it, would be a lie."""
    acting = {field.path for field in FIELDS[kind] if field.acts}
    by_store = {"metadata.resourceVersion"}  # asked for by whoever writes the object
    assert sorted(acting - read_paths(kind) - by_store) == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_a_field_of_the_api(kind: str) -> None:
    paths = [field.path for field in FIELDS[kind]]
    assert len(set(paths)) == len(paths)
    for path in paths:
        parent, _, name = path.rpartition(".")
        assert name in field_names(kind, parent), path
        assert parent in ("", *paths), path


def test_each_annotation_is_explained_on_the_kinds_that_it_is_for() -> None:
    told = {kind: {each.key for each in ANNOTATIONS if kind in each.kinds} for kind in KINDS}
    assert told == {kind: set(keys) for kind, keys in ours._KNOWN.items()}


# --- what is said --------------------------------------------------------------------------------------------------


def said(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["explain", *words])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_each_field_can_be_asked_for(kind: str) -> None:
    for field in FIELDS[kind]:
        found = explained(kind, field.path)
        assert found.field is field
        assert found.path == field.path
    everything = text_of(kind.lower(), recursive=True)
    assert everything.count("\t<") == len(FIELDS[kind])


def test_a_field_says_what_it_is_its_default_and_what_it_may_be() -> None:
    assert said("svc.spec.ports[].protocol") == (
        0,
        """\
KIND:       Service
VERSION:    v1

FIELD: protocol <string>

DESCRIPTION:
    The protocol. Ports of several protocols may share a number.

DEFAULT:    TCP
ALLOWED:    TCP, UDP, SCTP
""",
        "",
    )


def test_of_an_object_the_fields_are_listed_and_those_without_effect_are_named() -> None:
    code, out, err = said("pods.spec")
    assert (code, err) == (0, "")
    assert "  nodeName\t<string>\n" in out
    start, _, end = out.partition("WITHOUT EFFECT HERE:\n")
    assert "volumes" not in start
    assert "volumes" in end


@pytest.mark.parametrize("path", ["pods.spec.volumes", "pods.spec.volumes.name", "nodes.status.nodeInfo"])
def test_a_field_that_kubernetes_alone_knows_says_so(path: str) -> None:
    code, out, err = said(path)
    assert (code, err) == (0, "")
    assert "has no effect" in out


def test_a_field_that_is_checked_alone_says_so() -> None:
    assert "checked and kept, and has no effect" in said("service.spec.loadBalancerClass")[1]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("service.spec.prots", 'service.spec has no field "prots"; did you mean ports?'),
        ("service.spec.ports.nodeport", 'service.spec.ports has no field "nodeport"; did you mean nodePort?'),
        ("pods.spec.volums", 'pod.spec has no field "volums"; did you mean volumes?'),
        ("nodes.x", 'node has no field "x"; it has apiVersion, kind, metadata, spec, status'),
        ("svc.spec.type.x", 'service.spec.type has no fields, and so no "x"'),
        ("svc.spec.selector.app", "service.spec.selector has keys of your own choice, and no fields"),
        ("svcs", '"svcs" is nothing that is explained; did you mean svc?'),
        ("annotations.wieghts", 'there is no annotation "wieghts"; did you mean weights?'),
        ("nodeport-nft/wieghts", 'there is no annotation "wieghts"; did you mean weights?'),
        ("annotations.zzz", 'there is no annotation "zzz"; nodeport-nft explain annotations lists them'),
        ("svc.name", 'service has no field "name"; did you mean service.metadata.name or service.spec.ports.name?'),
        ("statuspage", '"statuspage" is nothing that is explained; did you mean config.statusPage?'),
        ("config.stroe", 'there is no setting "stroe"; did you mean store?'),
    ],
)
def test_a_slip_is_told_with_the_near_name(word: str, message: str) -> None:
    assert said(word) == (2, "", f"error: {message}\n")


def test_each_annotation_can_be_asked_for_by_both_of_its_names() -> None:
    listed = said("annotations")[1]
    for each in ANNOTATIONS:
        out = text_of(f"annotations.{each.name}")
        assert out == text_of(f"annotations.{each.key}")
        assert each.text.split()[0] in out
        assert each.key in listed
        assert all(f"  {each.key}\n" in text_of(f"{kind.lower()}.metadata.annotations") for kind in each.kinds)


def test_each_setting_can_be_asked_for() -> None:
    listed = said("config")[1]
    for each in SETTINGS:
        out = text_of(f"config.{each.key}")
        assert out == text_of(each.key)  # no kind has its name
        assert f"SETTING: {each.key} <" in out
        assert f"DEFAULT:    {each.default or 'none'}"[:40] in out
        assert f"  {each.key}\t<" in listed
        assert "`" not in out


def test_nothing_is_wider_than_a_terminal_and_no_line_ends_in_blanks() -> None:
    words = [*(each.plural for each in RESOURCES), "annotations", "config", *(f"config.{key}" for key in KEYS)]
    words += [f"{kind.lower()}.{field.path}" for kind in KINDS for field in FIELDS[kind]]
    words += [f"annotations.{each.name}" for each in ANNOTATIONS]
    for word in words:
        for line in text_of(word).splitlines():
            assert len(line) <= 84, word  # an example may be a little longer
            assert line == line.rstrip(), word


def test_kinds_and_fields_are_completed() -> None:
    assert _complete("endp") == ["endpoints", "endpointslices"]
    assert _complete("svc.spec.ports.n") == ["svc.spec.ports.name", "svc.spec.ports.nodePort"]
    assert _complete("config.etcdC") == ["config.etcdCAFile", "config.etcdCertFile"]
    assert _complete("annotations.we") == ["annotations.weights", "annotations.weight"]
    assert _complete("nonsense.x") == []
