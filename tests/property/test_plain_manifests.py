"""The law of plain documents: read the fast way, they make what the parsers make, with nothing to be told of them."""

from __future__ import annotations

import builtins
import copy
import itertools
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport_nft.cli.columns import services_listing
from nodeport_nft.cli.listing import Look
from nodeport_nft.kube import Object, parse_object
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.objects import foreign, read_object
from nodeport_nft.kube.unknown import note_unknown_fields
from nodeport_nft.manifest.lists import unfold
from nodeport_nft.manifest.plain import PlainReader
from nodeport_nft.model import PortRange, Ranges
from nodeport_nft.problems import Problems
from nodeport_nft.store import Damaged, Store
from nodeport_nft.store.api import Made
from nodeport_nft.store.bodies import Body, document_of
from nodeport_nft.text.document import Document
from nodeport_nft.text.json_text import read_documents

NOW = "2026-01-31T12:00:00Z"
ROOT = Path(__file__).parents[2]
RANGES = Ranges(node_ports=PortRange(30000, 32767))
READER = PlainReader(RANGES, "default")

METADATA = {
    "name": "web",
    "namespace": "shop",
    "labels": {"app": "web", "example.org/tier": ""},
    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
    "creationTimestamp": "2026-01-31T12:00:00Z",
    "generateName": "web-",
    "generation": 3,
    "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "1", "controller": True}],
    "resourceVersion": "17",
    "uid": "2a0c",
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": METADATA,
    "spec": {
        "type": "NodePort",
        "clusterIP": "10.96.1.2",
        "clusterIPs": ["10.96.1.2"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Local",
        "sessionAffinity": "None",
        "publishNotReadyAddresses": True,
        "selector": {"app": "web"},
        "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080, "appProtocol": "kubernetes.io/h2c"},
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353, "nodePort": 30080},
        ],
    },
    "status": {"loadBalancer": {}},
}
SHORT_SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"ports": [{"port": 80}]},
}
SLICE: dict[str, Any] = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {**METADATA, "name": "web.x1", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}, {"port": 9090}],
    "endpoints": [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": False, "serving": True, "terminating": True},
            "nodeName": "worker-1",
            "zone": "a",
            "hostname": "web-0",
            "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "shop", "uid": "3"},
        },
        {"addresses": ["10.0.0.2"]},
    ],
}
SIX: dict[str, Any] = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "six", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv6",
    "endpoints": [{"addresses": ["fd00::1"]}],
}
PLAIN = (SERVICE, SHORT_SERVICE, SLICE, SIX)

ODD: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 80, 1.0, 80.0, 30080, 29999, 65535, 65536, 2**63, 10**400),
    *("", "None", "a", "A", "a-", "a.b", "80", "http", "x" * 15, "x" * 16, "x" * 63, "x" * 64, "x" * 254, "ä", "a\n"),
    *("10.96.0.0", "10.96.0.1", "10.111.255.255", "10.112.0.1", "fd00:10:96::1", "fd00:10:96::", "fd00::0001"),
    *("127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "10.0.0.01"),
    *("::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "fd00::1%eth0", "1.2.3.4/8"),
    *("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "TCP", "tcp", "SCTP", "IPv4", "IPv6", "FQDN"),
    *("Cluster", "Local", "ClientIP", "SingleStack", "PreferDualStack", "RequireDualStack"),
    *("2026-01-31T12:00:00+02:00", "2026-02-30T12:00:00Z", "v1", "v2", "discovery.k8s.io/v1beta1", "Service"),
    *([], {}, [None], ["10.96.1.2"], ["10.96.1.2", "fd00:10:96::1"], ["None"], ["IPv4", "IPv6"], [{}], {"a": "b"}),
    *({"port": 81}, [{"port": 81}], {"ingress": [{"ip": "192.0.2.1"}]}, {"addresses": ["10.0.0.9"]}),
    {"forZones": [{"name": "a"}]},
)
KEYS = (
    *("name", "namespace", "labels", "annotations", "port", "ports", "nodePort", "protocol", "clusterIP", "type"),
    *("clusterIPs", "ipFamilies", "selector", "externalIPs", "loadBalancerIP", "healthCheckNodePort"),
    "trafficDistribution",
    *("allocateLoadBalancerNodePorts", "externalName", "endpoints", "addresses", "conditions", "hints", "zone"),
    *(
        "deletionTimestamp",
        "finalizers",
        "managedFields",
        "unknown",
        "Ports",
        "nodeport-nft/weight",
        "nodeport-nft/drain",
    ),
    *("nodeport-nft/weights", "nodeport-nftt/weights", "kubernetes.io/service-name", "kubernetes.io/service-nam"),
    *("service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name", "a b", "example.org/x"),
    "service.beta.kubernetes.io/load-balancer-source-ranges",
)


def parsed(raw: Any) -> tuple[Any, list[Any], list[Any]]:
    """What the parsers make of a document, what they have to tell of it, and what it claims."""
    fields = Fields()
    made = read_object(raw, fields, RANGES, "default")
    if made.values:
        note_unknown_fields(raw, made.kind, fields)
    told = [*fields.problems, *fields.notes, *fields.leftovers, *fields.unknown]
    return made, told, [claim for _, claim in fields.claims]


def check_law(raw: Any) -> bool:
    """Whether the document is plain; the law holds for it."""
    read = READER.read(raw)
    if read is None:
        return False
    assert isinstance(raw, dict)
    assert not foreign(raw)
    made, told, claims = parsed(raw)
    assert not told
    assert read[0] == made
    assert sorted(map(str, read[1])) == sorted(map(str, claims))
    return True


@pytest.mark.parametrize("raw", PLAIN, ids=lambda raw: raw["metadata"]["name"])
def test_what_is_plain_is_read_so(raw: dict[str, Any]) -> None:
    assert check_law(raw)


def test_manifests_as_people_and_kubectl_write_them_are_plain() -> None:
    documents = read_documents((ROOT / "examples/my-ser.yaml").read_text())
    items = [item.raw for each in documents if isinstance(each, Document) for item in unfold(each.value)]
    assert all(check_law(raw) for raw in items if raw["kind"] in ("Service", "EndpointSlice"))


def test_the_law_holds_for_every_manifest_of_the_cases() -> None:
    paths = sorted(ROOT.glob("tests/cases/*/manifests.yaml"))
    texts = [path.read_text() for path in paths]
    documents = (each for text in texts for each in read_documents(text) if isinstance(each, Document))
    plain = [check_law(item.raw) for document in documents for item in unfold(document.value)]
    assert any(plain)
    assert not all(plain)


def test_one_odd_value_anywhere() -> None:
    """Every field of every plain document, with every odd value in its place, and left out."""
    for raw in PLAIN:
        for *within, last in list(_paths(raw)):
            for odd in ODD:
                changed = copy.deepcopy(raw)
                _at(changed, within)[last] = odd
                check_law(changed)
            changed = copy.deepcopy(raw)
            del _at(changed, within)[last]
            check_law(changed)


CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(KEYS), st.integers(0, len(ODD) - 1)), max_size=4)


@settings(max_examples=500)
@given(st.sampled_from(PLAIN), CHANGES)
def test_any_fields_with_odd_values(raw: dict[str, Any], changes: list[tuple[int, str, int]]) -> None:
    changed = copy.deepcopy(raw)
    for place, key, odd in changes:
        mappings = [changed, *(inner for path in _paths(changed) if isinstance(inner := _at(changed, path), dict))]
        mappings[place % len(mappings)][key] = copy.deepcopy(ODD[odd])
    check_law(changed)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> itertools.chain[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return itertools.chain.from_iterable(((*path, key), *_paths(child, (*path, key))) for key, child in inner)


def _at(value: Any, path: Any) -> Any:
    for part in path:
        value = value[part]
    return value


class BothWays(Store):
    """Compares what is made of each body with what is made of its object."""

    def made_of_each(
        self,
        kind: str,
        namespace: str | None,
        of_body: Callable[[str, str, bytes], Made | None],
        of_object: Callable[[Object], Made],
    ) -> builtins.list[Made]:
        made = []
        for row in self.bodies(kind, namespace):
            quick = of_body(row.ref.namespace, row.ref.name, row.text) if isinstance(row, Body) else None
            stored = document_of(row)
            if isinstance(stored, Damaged):
                assert quick is None
            elif quick is not None:
                assert quick == of_object(stored)
                made.append(quick)
        return made


def test_a_fault_of_what_a_list_does_not_show_is_told(tmp_path: Path) -> None:
    """As of each Service by itself: whoever lists them is not to take a Service for right that nobody can serve."""
    path = tmp_path / "store.db"
    with Store(path, ranges=RANGES) as store:
        store.write([parse_object(SERVICE, ranges=RANGES)], now=NOW)
    with closing(sqlite3.connect(path)) as db, db:
        changed = "UPDATE objects SET body = json_set(body, '$.metadata.annotations', json(?))"
        db.execute(changed, (json.dumps({"nodeport-nft/weights": "x"}),))
    with Store(path, ranges=RANGES) as store, pytest.raises(Problems, match="is not an address with a weight"):
        services_listing(store, None, wide=False, now=datetime(2026, 2, 1, tzinfo=UTC))


def test_a_service_is_listed_from_its_body_as_from_its_object(tmp_path: Path) -> None:
    """Of stored Services, and of these with every odd value in the place of every field."""
    path = tmp_path / "store.db"
    others = {
        "short": {"ports": [{"port": 80}]},
        "headless": {"clusterIP": "None"},
        "balanced": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        "external": {"type": "ExternalName", "externalName": "example.org"},
        "outside": {"ports": [{"port": 80, "protocol": "SCTP"}], "externalIPs": ["192.0.2.1"]},
    }
    documents = [
        SERVICE,
        *({**SERVICE, "metadata": {**METADATA, "name": name}, "spec": spec} for name, spec in others.items()),
    ]
    with Store(path, ranges=RANGES) as store:
        store.write([parse_object({**raw, "status": {}}, ranges=RANGES) for raw in documents], now=NOW)
        found = store.objects("Service")
    bodies = []
    for stored in found:
        bodies.append(stored.raw)
        for (*within, last), odd in itertools.product(_paths(stored.raw), ODD):
            bodies.append(copy.deepcopy(stored.raw))
            _at(bodies[-1], within)[last] = odd
    rows = []
    for version, body in enumerate(bodies, 100):
        if isinstance(body["metadata"], dict) and body["metadata"].get("name") in ("web", *others):
            body["metadata"]["name"] = f"web-{version}"
        rows.append(("shop", f"web-{version}", version, json.dumps(body)))
    db = sqlite3.connect(path)
    query = "INSERT INTO objects (kind, namespace, name, resource_version, body) VALUES ('Service', ?, ?, ?, ?)"
    with closing(db), db:
        db.executemany(query, rows)
    with BothWays(path, ranges=RANGES) as store:
        wide = services_listing(store, None, wide=True, now=datetime(2026, 2, 1, tzinfo=UTC)).text(Look())
        short = services_listing(store, "shop", wide=False, now=datetime(2026, 2, 1, tzinfo=UTC)).text(Look())
    assert "NodePort    10.96.1.2 " in wide
    assert "80:30080/TCP,53:30080/UDP" in short
    assert len(short.splitlines()) > 300


@pytest.mark.parametrize("raw", [None, [], "Service", 7, {}, {"kind": ["Service"]}, {"kind": "List", "items": []}])
def test_what_is_no_object_is_not_plain(raw: Any) -> None:
    assert READER.read(raw) is None
