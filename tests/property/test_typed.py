"""The short way from bytes to values says what the parsers say, or nothing: for any document, and for any bytes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport_nft.kube import Object, typed
from nodeport_nft.kube.typed import shapes, stored_document_values, stored_values, texts, values_of
from nodeport_nft.manifest import read_manifests
from nodeport_nft.model import Ranges, Ref
from nodeport_nft.notation import group_fault, parse_address, special_fault
from nodeport_nft.problems import Problems
from nodeport_nft.store.bodies import Body
from nodeport_nft.store.kubernetes.decoding import read_item
from nodeport_nft.store.kubernetes.known import Known
from nodeport_nft.store.memory import MemoryStore
from nodeport_nft.store.objects import parsed, read_document
from nodeport_nft.store.strange import strange_fields
from tests.kubernetes.recorded import recordings
from tests.unit.test_api_validation import _rows

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "tests" / "cases").glob("*/manifests.yaml")) + sorted((ROOT / "examples").glob("*.yaml"))
TYPED = ("Service", "EndpointSlice", "Pod")

METADATA = {
    "namespace": "default",
    "uid": "8fffdf8d-cbde-4fd5-8f2b-1ae37740361f",
    "resourceVersion": "7",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "annotations": {"example.org/note": "ä"},
}
PLAIN: dict[str, dict[str, Any]] = {
    "NodePort": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**METADATA, "name": "web", "labels": {"app": "web"}},
        "spec": {
            "type": "NodePort",
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web", "nodePort": 30080},
                {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353, "nodePort": 30053},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "appProtocol": "example.org/dns"},
            ],
            "selector": {"app": "web"},
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10", "fd00:10:96::a"],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Cluster",
            "externalIPs": ["192.0.2.7", "2001:db8::7"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
            "trafficDistribution": "PreferClose",
        },
        "status": {"loadBalancer": {}, "conditions": [{"type": "x", "status": "True", "observedGeneration": 1}]},
    },
    "LoadBalancer": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**METADATA, "name": "balanced"},
        "spec": {
            "type": "LoadBalancer",
            "ports": [{"port": 443}],
            "clusterIPs": ["10.96.0.11"],
            "allocateLoadBalancerNodePorts": False,
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32000,
            "loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"],
            "loadBalancerClass": "example.org/lb",
            "publishNotReadyAddresses": True,
        },
        "status": {
            "loadBalancer": {
                "ingress": [
                    {"ip": "203.0.113.10", "ipMode": "VIP", "ports": [{"port": 443, "protocol": "TCP"}]},
                    {"ip": "203.0.113.11", "ipMode": "Proxy"},
                    {"hostname": "lb.example.org"},
                ]
            }
        },
    },
    "headless": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": "headless"},
        "spec": {"clusterIP": "None"},
    },
    "EndpointSlice": {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            **METADATA,
            "name": "web-1.a",
            "labels": {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "x"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "1", "controller": True}
            ],
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}, {"name": "none"}],
        "endpoints": [
            {
                "addresses": ["10.244.1.2", "10.244.1.3"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": "node-1",
                "zone": "a",
                "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "node-1"}]},
                "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-1", "uid": "2"},
            },
            {"addresses": ["10.244.2.2"], "conditions": {"ready": False, "terminating": True}, "hostname": "h"},
            {"addresses": ["10.244.1.2"]},
        ],
    },
    "IPv6 slice": {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": "web-2",
            "labels": {"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": ""},
        },
        "addressType": "IPv6",
        "endpoints": [{"addresses": ["fd00:10:244::2"]}, {"addresses": ["2001:DB8:0:1:a:b:c:FF"]}],
    },
    "Pod": {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**METADATA, "name": "web-1.a", "labels": {"app": "web", "hash": "5d"}},
        "spec": {
            "nodeName": "node-1",
            "hostNetwork": False,
            "containers": [
                {"name": "web", "ports": [{"name": "web", "containerPort": 8080}, {"containerPort": 9090}]},
                {"name": "dns", "ports": [{"name": "dns", "containerPort": 5353, "protocol": "UDP"}]},
            ],
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always", "ports": [{"name": "tls", "containerPort": 443}]},
                {"name": "setup", "ports": [{"name": "none", "containerPort": 1}]},
            ],
        },
        "status": {
            "phase": "Running",
            "hostIP": "192.0.2.1",
            "podIP": "10.244.1.2",
            "podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00:10:244::2"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}],
            "containerStatuses": [
                {"name": "web", "ready": True, "restartCount": 0, "state": {"waiting": {"reason": "x"}}}
            ],
        },
    },
    "Pod without conditions": {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": "by-hand"},
        "status": {"podIP": "10.244.1.3"},
    },
}

ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        80,
        80.0,
        1e400,
        65535,
        65536,
        2**70,
        "",
        " ",
        "80",
        "a",
        "A",
        "None",
        "TCP",
        "SCTP",
    ),
    *("Succeeded", "True", "Always", "Ready", "web", {"ip": "10.244.1.2"}, {"tcpSocket": {"port": 80}}),
    *("Local", "Cluster", "SingleStack", "ClientIP", "IPv4", "IPv6", "FQDN", "ExternalName", "ClusterIP", "Proxy"),
    *("10.0.0.1", "10.0.0.01", "10.0.0.1/8", "10.0.0.0/8", "0.0.0.0", "127.0.0.1", "169.254.0.1", "224.0.0.1"),
    *(
        "255.255.255.255",
        "1.2.3",
        "::",
        "::1",
        "fd00::1",
        "FD00::1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "ff02::1",
        "fe80::1%1",
        "fd00::0x1",
    ),
    *("2026-01-01T00:00:00.5+01:00", "2026-02-30T00:00:00Z", "a" * 64, "a" * 254, "a.b", "é", "\ud800"),
    *([], {}, [None], [{}], ["10.0.0.2"], ["IPv6"], {"name": "a"}, {"a": None}, {"a": 1}, [[[]]]),
    *({"nodeport-nft/weight": "0"}, {"nodeport-nft/weights": "x"}, {"nodport-nft/drain": "1"}, {"app": "b"}),
    # Addresses, networks and times that some take for right, and names that others may have.
    *(
        "::",
        "1::",
        "fd00::00001",
        "fd00::1.2.3.4",
        "64:ff9b::1.2.3.4",
        "2001:DB8::A",
        "::a00:1",
        "0:0:0:0:0:ffff:a00:1",
    ),
    *(" 10.0.0.1", "10.0.0.1 ", "10.0.0.0x1", "010.0.0.1", "10.0.0.٣", "10.0.0.0/08", "10.0.0.0/33", " 10.0.0.0/8"),
    *("FD00::/8", "::/0", "0.0.0.0/0", "2026-01-01t00:00:00z", "0001-01-01T00:00:00+14:00", "WEB", "-a", "a_b", "00"),
    *("clientip", "tcp", "None ", "PreferLocal", "a\0", -0.0, 1.5, 2**63, 2**64, 86400, 86401),
    *(["None"], ["None", "None"], ["None", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["fd00::1", "10.0.0.1"], [""]),
    *(["IPv4", "IPv6"], ["IPv4", "IPv4"], ["IPv6", "IPv4"], ["IPv4", "IPv6", "IPv4"]),
    # Whole ports, affinities, statuses and labels.
    *([{"port": 80}, {"port": 81}], [{"port": 80, "protocol": "SCTP"}], [{"port": 0}], [{"name": "a.b", "port": 80}]),
    [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}],
    [{"port": 80, "name": "a"}, {"port": 80, "name": "b", "protocol": "UDP"}],
    [{"port": 80, "protocol": None, "targetPort": None, "nodePort": None, "name": None}],
    [{"name": ""}, {"name": None}],
    *([{"port": 80, "targetPort": target}] for target in ("80", "", "http", 0, True, 80.0)),
    *([{"port": 80, "nodePort": number}] for number in (30080, 0, True, "30080")),
    *(
        {"clientIP": inner}
        for inner in (None, {"timeoutSeconds": None}, {"timeoutSeconds": 0}, {"timeoutSeconds": 86401})
    ),
    *(
        {"ingress": inner}
        for inner in (None, [None], [{"ip": "", "ipMode": "x"}], [{"ip": "10.0.0.1", "ipMode": ""}])
    ),
    *({"loadBalancer": inner} for inner in (None, {"ingress": [{"ip": "::1"}]})),
    *({"service.kubernetes.io/service-proxy-name": text} for text in ("", "x", None)),
    *({"kubernetes.io/service-name": text} for text in ("", None, "A B")),
    *({"service.kubernetes.io/headless": None}, {"node-port-nft/x": ""}, {"nodeport-nft/node-port-nodes": ""}),
]
NAMES = [
    *("extra", "spec", "status", "kind", "managedFields", "labels", "annotations", "deletionTimestamp", "clusterIP"),
    *("clusterIPs", "nodePort", "protocol", "name", "hints", "conditions", "ready", "zone", "healthCheckNodePort"),
    *("service.kubernetes.io/service-proxy-name", "nodeport-nft/weight", "type", "subsets", "timeoutSeconds"),
    *("podIP", "podIPs", "phase", "status", "readinessProbe", "restartPolicy", "ports", "containerPort"),
]


def parents(value: Any) -> Iterator[dict[str, Any] | list[Any]]:
    """Every mapping and list of a document."""
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from parents(inner)


def edited(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The document with each one thing in it another one, gone, or given twice; and with one that is new."""
    document = copy.deepcopy(document)
    for parent in list(parents(document)):
        places: list[Any] = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        for place in places:
            before: Any = parent[place]
            for value in (*ODD, *(parent if isinstance(parent, list) else ())):
                parent[place] = value
                yield document
            parent[place] = before
        if isinstance(parent, list):
            for item in parent[:]:
                parent.append(item)
                yield document
                parent.pop()
            first = parent.pop(0)
            yield document
            parent.insert(0, first)
            continue
        for name in places:
            before = parent.pop(name)
            yield document
            parent[name] = before
        for name in set(NAMES) - set(places):
            parent[name] = None
            is_known_there = agrees(ref_of(document), in_json(document))
            for value in ODD if is_known_there else ():
                parent[name] = value
                yield document
            del parent[name]


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Documents in which nothing is the matter, and in which one thing or several are."""
    document: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(list(PLAIN.values()))))
    for _ in range(draw(st.integers(0, 3))):
        parent: Any = draw(st.sampled_from(list(parents(document))))
        value = copy.deepcopy(draw(st.sampled_from(ODD)))
        if isinstance(parent, list):
            is_twin: bool = draw(st.booleans())
            if parent and is_twin:
                value = copy.deepcopy(draw(st.sampled_from(parent)))
            parent[draw(st.integers(0, len(parent))) :] = [value]
            continue
        name = draw(st.sampled_from([*parent, *NAMES]))
        if draw(st.integers(0, 3)):
            parent[name] = value
        else:
            parent.pop(name, None)
    return document


def ref_of(document: dict[str, Any]) -> Ref:
    metadata = document.get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    parts = (document.get("kind"), found.get("namespace"), found.get("name"))
    return Ref(*(part if isinstance(part, str) else "" for part in parts))


def agrees(ref: Ref, text: bytes) -> bool:
    """Hold the short way against the long one; whether it said anything."""
    body = Body(ref, "7", text)
    values = body.plain_values()
    stored = read_document(*body)
    if isinstance(stored, Object) and (quick := stored_document_values(ref, stored.raw)) is not None:
        assert repr(quick) == repr(parsed(stored))
    if values is None:
        return False
    assert isinstance(stored, Object), stored
    # As text: 80 and 80.0 are equal, and so are 1 and true.
    assert repr(values) == repr(parsed(stored))
    assert strange_fields(ref.kind, stored.raw) == ()
    return True


def in_json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode(errors="surrogatepass")


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_document_goes_the_short_way(name: str) -> None:
    assert agrees(ref_of(PLAIN[name]), in_json(PLAIN[name]))


def test_a_number_that_is_given_twice_is_not_passed_over() -> None:
    document = copy.deepcopy(PLAIN["LoadBalancer"])
    document["spec"]["ports"][0]["nodePort"] = document["spec"]["healthCheckNodePort"]
    assert not agrees(ref_of(document), in_json(document))


@pytest.mark.parametrize("name", PLAIN)
def test_a_document_with_one_thing_changed_is_read_as_by_the_parsers_or_not_at_all(name: str) -> None:
    said = sum(agrees(ref_of(document), in_json(document)) for document in edited(PLAIN[name]))
    assert said > 20


def test_half_of_a_surrogate_pair_is_read_as_by_the_parsers_or_not_at_all() -> None:
    """Escaped, as JSON can have it: in its place it would be no UTF-8."""
    for plain in PLAIN.values():
        document = copy.deepcopy(plain)
        for parent in list(parents(document)):
            places: list[Any] = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            for place in places:
                before, parent[place] = parent[place], "a\ud800"
                agrees(ref_of(document), json.dumps(document).encode())
                parent[place] = before


@settings(max_examples=300, deadline=None)
@given(documents())
def test_any_document_is_read_as_by_the_parsers_or_not_at_all(document: dict[str, Any]) -> None:
    agrees(ref_of(document), in_json(document))


@settings(max_examples=300, deadline=None)
@given(documents())
def test_any_object_of_a_server_is_told_as_by_the_parsers(document: dict[str, Any]) -> None:
    """Leniently: it has more kinds of names, and fields that are told nowhere. Whichever way it went, all is one."""
    kind = ref_of(document).kind
    if kind in TYPED:
        assert told_of(kind, document, typed=True) == told_of(kind, document, typed=False)


@pytest.mark.parametrize("name", PLAIN)
def test_an_object_of_a_server_with_one_thing_changed_is_told_as_by_the_parsers(name: str) -> None:
    kind, typed = PLAIN[name]["kind"], 0
    for document in edited(PLAIN[name]):
        if read_item(msgspec.Raw(in_json(document)), kind).document is not None:  # else both are one
            assert told_of(kind, document, typed=True) == told_of(kind, document, typed=False)
            typed += 1
    assert typed > 20


def test_what_a_server_was_recorded_to_say_is_told_as_by_the_parsers_and_goes_the_short_way() -> None:
    """Metadata that servers manage, and lists whose items do not say their kind."""
    said = 0
    for kind, plural in (("Service", "/services"), ("EndpointSlice", "/endpointslices")):
        answers = [each.answer for each in recordings() if each.target.partition("?")[0].endswith(plural)]
        items = [item for answer in answers if answer.value for item in answer.value.get("items") or ()]
        items += [event["object"] for answer in answers for event in answer.events]
        for item in items:
            assert told_of(kind, item, typed=True) == told_of(kind, item, typed=False)
            found = read_item(msgspec.Raw(in_json(item)), kind)
            ref = Ref(kind, found.namespace, found.name)
            said += found.document is not None and values_of(ref, found.document) is not None
    assert said > 10


def told_of(kind: str, document: object, *, typed: bool) -> tuple[object, ...]:
    """What whoever follows a server has to tell of an object that is listed."""
    known = Known(kind)
    listing = known.begin()
    known.note(listing, [read_item(msgspec.Raw(in_json(document)), kind if typed else "")])
    known.adopt(listing, "9")
    return repr(known.pending), known.damaged, known.untold, listing.versions


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(PLAIN)), st.data())
def test_any_bytes_are_read_as_by_the_parsers_or_not_at_all(name: str, data: st.DataObject) -> None:
    text = in_json(PLAIN[name])
    for _ in range(data.draw(st.integers(1, 2))):
        first = data.draw(st.integers(0, len(text)))
        text = text[:first] + data.draw(st.binary(max_size=3)) + text[first + data.draw(st.integers(0, 3)) :]
    agrees(ref_of(PLAIN[name]), text)


@pytest.mark.parametrize("damage", [b'{"a":' * 300 + b"0" + b"}" * 300, b"[" * 99 + b"]" * 99, b"1" * 5000, b"NaN"])
def test_what_only_a_store_cannot_hold_is_not_passed_over(damage: bytes) -> None:
    """In a field that is not read, and in what is not even decoded."""
    for parent in (b'"metadata": {', b'"spec": {', b""):
        for field in (b"managedFields", b"generation", b"loadBalancerClass", b"extra", b"status"):
            text = in_json(PLAIN["NodePort"])
            at = text.index(parent) + len(parent or b"{")
            agrees(ref_of(PLAIN["NodePort"]), text[:at] + b'"' + field + b'":' + damage + b"," + text[at:])


def test_the_tables_of_the_api_hold() -> None:
    """Every value of every field that the API's validation knows, as it would have been stored."""
    said = 0
    for row in _rows():
        document = row.document()
        document["metadata"] = {"namespace": "default", **(document.get("metadata") or {})}
        said += agrees(ref_of(document), in_json(document))
    assert said > 100


def test_all_manifests_hold_and_nearly_all_go_the_short_way() -> None:
    plain = said = 0
    for path in MANIFESTS:
        for body in stored_bodies(path):
            is_said = agrees(body.ref, body.text)
            if body.ref.kind in TYPED and b"nodeport-nft/" not in body.text:
                plain, said = plain + 1, said + is_said
    assert plain > 100
    assert said / plain > 0.9


def stored_bodies(manifests: Path) -> Iterator[Body]:
    """What a store holds of them, where these ranges do."""
    store = MemoryStore(Ranges())
    for obj in read_manifests([str(manifests)], ranges=Ranges.of_anybody(), to_store=True).objects:
        with suppress(Problems):
            store.write([obj], now="2026-01-31T12:00:00Z")
    return (body for body in store.bodies() if isinstance(body, Body))


def remembered() -> list[int]:
    """How much each cache of the short way holds."""
    modules = (typed.pods, typed.services, typed.slices, typed.texts)
    caches = [each for module in modules for each in vars(module).values() if hasattr(each, "cache_info")]
    assert len(caches) >= 8
    return [cache.cache_info().currsize for cache in caches]


def test_nothing_long_is_remembered() -> None:
    """Of objects that are gone texts and ports are kept, and whoever writes is not to fill the memory with them."""
    long = "a" * 400
    for plain in PLAIN.values():
        document = copy.deepcopy(plain)
        stored_values(ref_of(document), in_json(document))
        before = remembered()
        for parent in list(parents(document)):
            if isinstance(parent, list) and parent:
                items = parent[:]
                parent += [items[0]] * 60
                stored_values(ref_of(document), in_json(document))
                parent[:] = items
                assert remembered() == before
            if not isinstance(parent, dict):
                continue
            for place, given_there in list(parent.items()):
                for name, value in ((place, long), (long, given_there)):
                    fields = dict(parent)
                    del parent[place]
                    parent[name] = value
                    stored_values(Ref(plain["kind"], "default", plain["metadata"]["name"]), in_json(document))
                    parent.clear()
                    parent.update(fields)
                    assert remembered() == before, (place, name[:20])


def test_another_name_or_version_is_no_plain_document() -> None:
    document = PLAIN["NodePort"]
    for ref in (
        Ref("Service", "default", "api"),
        Ref("Service", "other", "web"),
        Ref("EndpointSlice", "default", "web"),
    ):
        assert stored_values(ref, in_json(document)) is None
    assert stored_values(ref_of(document), in_json({**document, "apiVersion": "v2"})) is None
    assert not Body(ref_of(document), "x", in_json(document), "its resource version x is none").plain_values()


@settings(max_examples=800, deadline=None)
@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.ip_addresses(v=6).map(lambda ip: ip.exploded.upper()),
        st.text(alphabet="0123456789abcdefABCDEFgxX.:%/_+ ٣", max_size=20),
        st.builds("{}.{}.{}.{}".format, *(st.integers(-1, 300) for _ in range(4))),
        st.sampled_from(ODD).filter(lambda value: isinstance(value, str)),
    )
)
def test_an_address_is_read_as_by_the_library_or_not_at_all(text: str) -> None:
    address = texts.endpoint_address(text)
    if address is not None:
        assert address == parse_address(text)
        assert not special_fault(address)
        assert not group_fault(address)


@pytest.mark.parametrize("tail", ["0x1", "0XF", "0x", "x1", "-1", "+1", "1_0", " 1", "1 ", "1\n", "٣", "00001", "g"])
@pytest.mark.parametrize("head", ["fd00::", "fd00:0:0:0:0:0:0:", "10.0.0."])
def test_what_only_python_reads_as_a_number_is_no_part_of_an_address(head: str, tail: str) -> None:
    with pytest.raises(ValueError, match=r"is not an IP address|has leading zeros"):
        parse_address(head + tail)
    assert texts.endpoint_address(head + tail) is None


def test_what_is_plainly_an_address_is_one() -> None:
    for text in ("10.0.0.0", "10.0.0.255", "192.0.2.1", "fd00::1", "fd00:1:2:3:4:5:6:7", "2001:db8::ffff"):
        assert texts.endpoint_address(text) == (IPv6Address if ":" in text else IPv4Address)(text)


def test_the_shapes_have_all_fields_of_the_api() -> None:
    """One too many hides an unknown field; one too few makes every document with it a slow one.

    Of Pods they have what is stored.
    """
    types = json.loads(files("nodeport_nft.kube").joinpath("api_fields.json").read_text())["types"]
    classes = [each for each in vars(shapes).values() if isinstance(each, type) and issubclass(each, shapes.Shape)]
    named = {each.API: {field.encode_name for field in msgspec.structs.fields(each)} for each in classes if each.API}
    assert len(named) > 15
    stored = {name: fields for name, fields in named.items() if re.match("V1(Pod|Container)", name)}
    assert [name for name, fields in stored.items() if not fields <= set(types[name])] == []
    assert named == {name: named[name] if name in stored else set(types[name]) for name in named}
