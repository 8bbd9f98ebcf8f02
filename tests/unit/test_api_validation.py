"""The API's own validation, field by field, for the kinds that are read here: E9, E10.

The tables beside this file say what an API server makes of each field of a Service, EndpointSlice, Endpoints, Pod and
Node, and every row is tried here. They can be read as documentation: a row is one line,

    given | field | values, with ; between them | what becomes of it | why

where ``given`` is one of the objects below, ``field`` is set to each of the values (YAML; ``absent`` takes it away),
and what becomes of it is one of

    accepted               nothing is said, whatever it means
    x.y = value            accepted, and this is what the model has then: what it is defaulted to
    ignored                accepted, and as if the field were not there
    warned                 accepted, and told that it is of no use
    refused [FIELD]        refused, naming this field, or the one that FIELD says

``differs:`` at the beginning of the last column: an API server does otherwise, and why we do not.

Source: the API reference, and the validation and defaulting code of Kubernetes 1.36 (pkg/apis/core,
pkg/apis/discovery, pkg/registry/core/service), as facts.
"""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeport_nft.allocate import AllocationError, allocate
from nodeport_nft.manifest import Manifests, Problem, Problems, parse_object, read_manifests
from nodeport_nft.model import Ranges, Service, Value

TABLES = Path(__file__).parent / "api_validation"
ABSENT = "absent"


def _service(**spec: Any) -> dict[str, Any]:
    spec = {"ports": [{"name": "http", "port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


def _slice(family: str, address: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": family,
        "ports": [{"name": "http", "port": 80}],
        "endpoints": [{"addresses": [address]}],
    }


LOAD_BALANCER = _service(type="LoadBalancer")
EXTERNAL_NAME = _service(type="ExternalName", externalName="a.example")
GIVEN: dict[str, dict[str, Any]] = {
    "ClusterIP": _service(),
    "NodePort": _service(type="NodePort"),
    "LoadBalancer": LOAD_BALANCER,
    "LB Local": _service(type="LoadBalancer", externalTrafficPolicy="Local"),
    "LB status": {**LOAD_BALANCER, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}},
    "ExternalName": EXTERNAL_NAME,
    "headless": _service(clusterIP="None"),
    "externalIP": _service(externalIPs=["192.0.2.1"]),
    "ClientIP": _service(sessionAffinity="ClientIP"),
    "two ports": _service(type="NodePort", ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}]),
    "slice": _slice("IPv4", "10.244.1.2"),
    "IPv6 slice": _slice("IPv6", "fd00::1"),
    "FQDN slice": _slice("FQDN", "web.example"),
    "Endpoints": {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "web"},
        "subsets": [{"addresses": [{"ip": "10.244.1.2"}], "ports": [{"name": "http", "port": 80}]}],
    },
    "Pod": {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1"},
        "spec": {
            "containers": [{"name": "c", "image": "x", "ports": [{"name": "http", "containerPort": 80}]}],
            "initContainers": [
                {"name": "i", "image": "x", "ports": [{"name": "setup", "containerPort": 1}]},
                {
                    "name": "s",
                    "image": "x",
                    "restartPolicy": "Always",
                    "ports": [{"name": "tls", "containerPort": 443}],
                },
            ],
        },
        "status": {"podIP": "10.244.1.2"},
    },
    "Node": {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.0.0/24"}},
}


@dataclass(frozen=True)
class Row:
    """One line of a table, with one of its values."""

    given: str
    field: str
    value: Any
    result: str
    why: str

    def document(self) -> dict[str, Any]:
        """The object of the row."""
        made = copy.deepcopy(GIVEN[self.given])
        parts = _parts(self.field)
        parent: Any = made
        for part, following in pairwise(parts):
            if isinstance(parent, dict):
                parent = parent.setdefault(part, [] if isinstance(following, int) else {})
            else:
                parent.extend({} for _ in range(part + 1 - len(parent)))
                parent = parent[part]
        if isinstance(parent, list):
            parent[parts[-1] :] = [] if self.value is ABSENT else [self.value]
        elif self.value is ABSENT:
            parent.pop(parts[-1], None)
        else:
            parent[parts[-1]] = self.value
        return made


def _parts(field: str) -> list[Any]:
    return [int(number) if number else name for name, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", field)]


def _rows() -> Iterator[Row]:
    for path in sorted(TABLES.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "|" not in line or line.startswith("#"):
                continue
            given, field, values, result, why = (cell.strip() for cell in line.split("|"))
            for value in values.split(" ; "):
                yield Row(given, field, ABSENT if value.strip() == ABSENT else yaml.safe_load(value), result, why)


ROWS = [pytest.param(row, id=f"{row.given}-{row.field}={json.dumps(row.value)[:60]}") for row in _rows()]


def read(document: dict[str, Any]) -> Manifests:
    return read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(json.dumps(document).encode()))


def problems_of(document: dict[str, Any]) -> tuple[str, ...]:
    """The fields that the object is refused for, when it is read or when it is allocated."""
    try:
        values_of(document)
    except Problems as error:
        return tuple(problem.field for problem in error.problems)
    except AllocationError as error:
        return tuple(refusal.field for refusal in error.refusals)
    return ()


def values_of(document: dict[str, Any]) -> tuple[Value, ...]:
    """What the object is made into, a Service with its allocations. Raises Problems, AllocationError."""
    (made,) = read(document).objects
    return tuple(_allocated(value) if isinstance(value, Service) else value for value in made.values)


def _allocated(service: Service) -> Service:
    return allocate(service, None, ranges=Ranges(), port_holder=lambda _: None, ip_holder=lambda _: None)


def _at(value: Any, path: str) -> str:
    for part in _parts(path):
        value = value[part] if isinstance(part, int) else getattr(value, part)
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


@pytest.mark.proves("E9", "E10")
@pytest.mark.parametrize("row", ROWS)
def test_a_field_is_taken_as_the_api_server_takes_it(row: Row) -> None:
    document = row.document()
    refused = problems_of(document)
    verdict, _, where = row.result.partition(" ")
    if verdict == "refused":
        assert (where or row.field) in refused
        return
    assert refused == ()
    warnings = [text for text in read(document).warnings if "addressType" not in text]
    if verdict == "warned":
        assert len(warnings) == 1
        return
    if verdict == "ignored":
        plain = Row(row.given, row.field, ABSENT, "", "").document()
        assert values_of(document) == values_of(plain)
    elif verdict != "accepted":
        path, _, wanted = row.result.partition(" =")
        assert _at(values_of(document)[0], path) == wanted.strip()
    assert warnings == []


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("V1ServiceSpec", "spec"),
        ("V1ServicePort", "spec.ports"),
        ("V1ServiceStatus", "status"),
        ("DiscoveryV1EndpointPort", "ports"),
        ("V1Endpoint", "endpoints"),
        ("V1EndpointSubset", "subsets"),
        ("CoreV1EndpointPort", "subsets.ports"),
        ("V1EndpointAddress", "subsets.addresses"),
        ("V1ContainerPort", "spec.containers.ports"),
    ],
)
def test_every_field_that_the_api_has_there_has_a_row(kind: str, path: str) -> None:
    fields = {re.sub(r"\[\d+\]", "", row.field) for row in _rows()} | {"subsets.addresses.ip", "status.loadBalancer"}
    types = json.loads(files("nodeport_nft.kube").joinpath("api_fields.json").read_text())["types"]
    assert {f"{path}.{name}" for name in types[kind]} - fields == set()


STORED = [row for row in _rows() if row.result == "warned" or row.why.startswith("format")]


def test_what_earlier_versions_have_stored_stays_readable() -> None:
    """A warning, and a format that was not checked before, make no object out of a store unreadable."""
    assert len(STORED) > 100
    assert [row for row in STORED if _problems_stored(row.document())] == []


def _problems_stored(document: dict[str, Any]) -> tuple[Problem, ...]:
    try:
        parse_object(document)
    except Problems as error:
        return error.problems
    return ()
