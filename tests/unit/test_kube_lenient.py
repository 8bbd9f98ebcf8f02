"""Objects that a server has validated: nothing unknown in them hides what is known, and nothing of it opens a door.

The objects are as an API server 1.36 prints them.
"""

from __future__ import annotations

import json
from copy import deepcopy
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodeport_nft.kube import Object, parse_object
from nodeport_nft.model import EndpointSlice, LoadBalancing, Node, Pod, Protocol, Service, ServiceType
from nodeport_nft.notation import is_tolerable, label_fault, subdomain_fault
from nodeport_nft.problems import Problems

SERVICE: dict[str, Any] = json.loads("""
{"kind":"Service","apiVersion":"v1","metadata":{"name":"my-ser","namespace":"default","resourceVersion":"210",
"uid":"ce01467f-4fba-4ecf-b1dc-7d723c80bbb0","creationTimestamp":"2026-11-28T01:15:55Z","labels":{"app":"my-ser"},
"managedFields":[{"manager":"unknown","operation":"Update","apiVersion":"v1","time":"2026-11-28T01:15:55Z",
"fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:type":{},"k:{\\"port\\":8000}":{".":{}}}}}]},
"spec":{"ports":[{"name":"http","protocol":"TCP","port":8000,"targetPort":80,"nodePort":30669},
{"name":"dns","protocol":"UDP","port":53,"targetPort":"dns","nodePort":30053}],
"selector":{"app":"my-ser"},"clusterIP":"10.99.71.109","clusterIPs":["10.99.71.109"],"type":"LoadBalancer",
"sessionAffinity":"None","externalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack",
"allocateLoadBalancerNodePorts":true,"internalTrafficPolicy":"Cluster"},
"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.10","ipMode":"VIP"}]}}}""")
SLICE: dict[str, Any] = json.loads("""
{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":"my-ser-1","namespace":"default",
"resourceVersion":"243","generation":1,"creationTimestamp":"2026-11-28T01:15:55Z",
"labels":{"kubernetes.io/service-name":"my-ser"}},"addressType":"IPv4",
"endpoints":[{"addresses":["10.244.1.2"],"conditions":{"ready":true},"nodeName":"node-1"},
{"addresses":["10.244.1.3"],"conditions":{"ready":true},"nodeName":"node-1"}],
"ports":[{"name":"http","protocol":"TCP","port":80},{"name":"dns","protocol":"UDP","port":53}]}""")
ENDPOINTS: dict[str, Any] = json.loads("""
{"kind":"Endpoints","apiVersion":"v1","metadata":{"name":"my-ser","namespace":"default"},
"subsets":[{"addresses":[{"ip":"10.244.1.2","nodeName":"node-1"},{"ip":"10.244.1.3"}],
"ports":[{"name":"http","port":80,"protocol":"TCP"},{"name":"dns","port":53,"protocol":"UDP"}]}]}""")
POD: dict[str, Any] = json.loads("""
{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-1","namespace":"default","labels":{"app":"my-ser"}},
"spec":{"nodeName":"node-1","containers":[{"name":"nginx","ports":[{"name":"http","containerPort":80,"protocol":"TCP"},
{"name":"dns","containerPort":53,"protocol":"UDP"}]}]},
"status":{"phase":"Running","podIP":"10.244.1.2","podIPs":[{"ip":"10.244.1.2"}],
"conditions":[{"type":"Ready","status":"True"}]}}""")
NODE: dict[str, Any] = json.loads("""
{"kind":"Node","apiVersion":"v1","metadata":{"name":"node-1","labels":{"kubernetes.io/hostname":"node-1"}},
"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24"]},
"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.11"}]}}""")
ALL = (SERVICE, SLICE, ENDPOINTS, POD, NODE)
KINDS = [raw["kind"] for raw in ALL]


def changed(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """``raw`` with another value at ``path`` ("spec.ports.0.port"), or none for Ellipsis."""
    copy: dict[str, Any] = deepcopy(raw)
    *ahead, last = [int(key) if key.isdecimal() else key for key in path.split("/")]
    parent: Any = copy
    for key in ahead:
        parent = parent.setdefault(key, {}) if isinstance(parent, dict) else parent[key]
    if value is ...:
        del parent[last]
    else:
        parent[last] = value
    return copy


def read(raw: dict[str, Any]) -> Object:
    return parse_object(raw, lenient=True)


def service(raw: dict[str, Any]) -> Service:
    (made,) = read(raw).values
    assert isinstance(made, Service)
    return made


@pytest.mark.parametrize("raw", ALL, ids=KINDS)
def test_what_nothing_is_wrong_with_is_read_alike_and_nothing_is_told(raw: dict[str, Any]) -> None:
    made = read(raw)
    assert made.values
    assert made.notes == ()
    assert made.values == parse_object(raw).values


@pytest.mark.parametrize("raw", ALL, ids=KINDS)
def test_fields_of_a_newer_server_do_nothing(raw: dict[str, Any]) -> None:
    newer = deepcopy(raw)
    for part in (newer, newer["metadata"], newer.setdefault("spec", {}), newer.setdefault("status", {})):
        part["colour"] = {"of": ["the", {"next": None}], "release": 2.5}
    for key in ("ports", "endpoints", "subsets"):
        for holder in (newer, newer["spec"]):
            for entry in holder.get(key, ()):
                entry["colour"] = "blue"
    made = read(newer)
    assert made.values == parse_object(raw).values
    assert made.notes == ()


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        *((raw, f"metadata/{key}") for raw in ALL for key in ("labels", "annotations", "creationTimestamp", "uid")),
        *((SERVICE, f"spec/{key}") for key in ("externalIPs", "selector", "sessionAffinityConfig", "ipFamilies")),
        *((SERVICE, f"spec/ports/0/{key}") for key in ("protocol", "targetPort", "nodePort", "appProtocol")),
        (SERVICE, "spec/internalTrafficPolicy"),
        (SERVICE, "spec/sessionAffinity"),
        (SERVICE, "status"),
        (SERVICE, "status/loadBalancer"),
        (SERVICE, "status/loadBalancer/ingress"),
        (SERVICE, "status/loadBalancer/ingress/0/ipMode"),
        (SLICE, "ports"),
        (SLICE, "ports/0/port"),
        (SLICE, "ports/0/protocol"),
        (SLICE, "endpoints"),
        (SLICE, "endpoints/0/conditions"),
        (SLICE, "endpoints/0/conditions/ready"),
        (SLICE, "endpoints/0/nodeName"),
        (ENDPOINTS, "subsets"),
        (ENDPOINTS, "subsets/0/ports/0/protocol"),
        (POD, "status/podIPs"),
        (POD, "status/conditions"),
        (POD, "spec/containers/0/ports"),
        (NODE, "spec"),
        (NODE, "status/addresses"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["kind"],
)
def test_null_is_as_good_as_nothing_and_neither_is_told(raw: dict[str, Any], path: str) -> None:
    """Go prints a nil list or pointer that its type does not omit as null, and leaves out the others."""
    null = read(changed(raw, path, None))
    absent = read(changed(null.raw, path, ...))
    assert null.values == absent.values
    service_less = raw is SLICE and path == "metadata/labels"  # nobody's slice, as before
    assert [note.message for note in null.notes if not service_less] == []


@pytest.mark.parametrize("raw", [SERVICE, SLICE, ENDPOINTS, POD], ids=KINDS[:4])
@pytest.mark.parametrize("protocol", ["QUIC", "tcp", "", "TCP ", 6, ["TCP"]])
def test_a_port_of_a_protocol_that_is_not_known_is_left_out_and_no_other(
    raw: dict[str, Any], protocol: object
) -> None:
    where = {
        "Service": "spec/ports/0",
        "EndpointSlice": "ports/0",
        "Endpoints": "subsets/0/ports/0",
        "Pod": "spec/containers/0/ports/0",
    }[raw["kind"]]
    made = read(changed(raw, f"{where}/protocol", protocol))
    (value,) = made.values
    assert isinstance(value, Service | EndpointSlice | Pod)
    if protocol == "":  # the same as none
        assert made.values == parse_object(raw).values
        return
    assert [(port.name, port.protocol) for port in value.ports] == [("dns", Protocol.UDP)]
    (note,) = made.notes
    assert note.field == f"{where}/protocol".replace("/0", "[0]").replace("/", ".")
    assert note.message.endswith("; passed over")


@pytest.mark.parametrize(
    ("path", "value", "attribute", "expected"),
    [
        ("spec/type", "Anycast", "type", ServiceType.CLUSTER_IP),
        ("spec/externalTrafficPolicy", "Nearest", "external_traffic_policy", "Cluster"),
        ("spec/internalTrafficPolicy", "PreferSomething", "internal_traffic_policy", "Cluster"),
        ("spec/sessionAffinity", "Cookie", "session_affinity_seconds", 0),
        ("spec/trafficDistribution", "PreferSameRack", "traffic_distribution", ""),
        ("spec/ipFamilyPolicy", "TripleStack", "ip_family_policy", ""),
        ("spec/ipFamilies", ["IPv8"], "ip_families", ()),
        ("spec/externalIPs", ["2001:db8::1", "no address"], "external_ips", (ip_address("2001:db8::1"),)),
        ("status/loadBalancer/ingress/0/ipMode", "Tunnel", "load_balancer_ips", ()),
        ("status/loadBalancer/ingress/0/ip", "none", "load_balancer_ips", ()),
    ],
)
def test_a_word_that_is_not_known_counts_as_absent_and_is_told(
    path: str, value: object, attribute: str, expected: object
) -> None:
    made = read(changed(SERVICE, path, value))
    (service,) = made.values
    assert getattr(service, attribute) == expected
    assert made.notes
    assert all(note.object == "Service/default/my-ser" for note in made.notes)
    assert isinstance(service, Service)
    assert service.cluster_ips == (ip_address("10.99.71.109"),)
    assert [port.port for port in service.ports] == [8000, 53]


@pytest.mark.parametrize("kind", ["IPv7", "Anything", ""])
def test_a_slice_of_addresses_that_are_not_known_has_none(kind: str) -> None:
    (made,) = read(changed(SLICE, "addressType", kind)).values
    assert isinstance(made, EndpointSlice)
    assert made.endpoints == ()


@pytest.mark.parametrize(
    ("raw", "told"), [(changed(raw, "apiVersion", f"{raw['apiVersion'][:-1]}9"), 1) for raw in ALL], ids=KINDS
)
def test_a_newer_version_of_the_api_is_read_as_far_as_it_is_known(raw: dict[str, Any], told: int) -> None:
    made = read(raw)
    assert made.values
    assert [note.field for note in made.notes] == ["apiVersion"] * told


@pytest.mark.parametrize("raw", ALL, ids=KINDS)
def test_what_stands_in_a_servers_list_need_not_say_its_version(raw: dict[str, Any]) -> None:
    made = read(changed(raw, "apiVersion", ...))
    assert made.values == parse_object(raw).values
    assert made.notes == ()


@pytest.mark.parametrize(
    ("raw", "path", "value", "attribute"),
    [
        (SERVICE, "spec/clusterIP", "010.099.071.109", "cluster_ips"),
        (SERVICE, "spec/clusterIPs", ["010.99.071.0109"], "cluster_ips"),
        (SERVICE, "spec/externalIPs", ["0198.051.100.007"], "external_ips"),
        (SERVICE, "spec/loadBalancerSourceRanges", ["010.010.000.000/08"], "load_balancer_source_ranges"),
        (SERVICE, "status/loadBalancer/ingress/0/ip", "203.000.113.010", "load_balancer_ips"),
        (SLICE, "endpoints/0/addresses", ["010.244.001.010"], "endpoints"),
        (ENDPOINTS, "subsets/0/addresses/0/ip", "010.244.001.010", "endpoints"),
        (POD, "status/podIP", "010.244.001.010", "ips"),
        (NODE, "status/addresses/0/address", "192.000.002.011", "internal_ips"),
        (NODE, "spec/podCIDR", "010.244.001.000/024", "pod_cidrs"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.proves("E8")
def test_leading_zeros_are_read_as_decimal_from_a_server_alone(
    raw: dict[str, Any], path: str, value: Any, attribute: str
) -> None:
    """ParseIPSloppy and ParseCIDRSloppy of Kubernetes; octal they never are."""

    def decimal(text: str) -> str:
        address, slash, length = text.partition("/")
        return ".".join(str(int(octet)) for octet in address.split(".")) + (f"/{int(length)}" if slash else "")

    plain = [decimal(text) for text in value] if isinstance(value, list) else decimal(value)
    other = {"spec/clusterIP": "spec/clusterIPs", "status/podIP": "status/podIPs", "spec/podCIDR": "spec/podCIDRs"}
    base = changed(raw, "spec/clusterIP", ...) if path == "spec/clusterIPs" else raw
    base = changed(base, other[path], ...) if path in other else base
    (old,) = read(changed(base, path, value)).values
    (new,) = read(changed(base, path, plain)).values
    assert getattr(old, attribute) == getattr(new, attribute) != ()
    wrong = changed(base, path, value)
    if not path.startswith("status"):  # which programs write, and which is a warning everywhere
        with pytest.raises(Problems):
            parse_object(wrong)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("node-port-source-ranges", "inside"),
        ("node-port-source-ranges", ""),
        ("node-port-source-ranges", ","),
        ("node-port-source-ranges", "10.0.0.0/33"),
        ("node-port-nodes", "disk in (ssd"),
        ("node-port-nodes", "disk=ssd,=x"),
        ("node-port-nodes", " "),
    ],
)
def test_node_ports_whose_restriction_is_not_understood_are_closed(key: str, text: str) -> None:
    raw = changed(SERVICE, "metadata/annotations", {f"nodeport-nft/{key}": text})
    made = service(raw)
    assert [port.node_port for port in made.ports] == [0, 0]
    assert [port.port for port in made.ports] == [8000, 53]
    assert made.load_balancer_ips
    assert any("nodePorts are not served" in note.message for note in read(raw).notes)


@pytest.mark.parametrize("ranges", [["inside"], [7], "10.0.0.0/8", {"from": "10.0.0.0/8"}, ["10.0.0.0/33", ""]])
def test_a_load_balancer_whose_restriction_is_not_understood_is_closed(ranges: object) -> None:
    raw = changed(SERVICE, "spec/loadBalancerSourceRanges", ranges)
    assert service(raw).load_balancer_ips == ()
    assert [port.node_port for port in service(raw).ports] == [30669, 30053]
    assert any("is not served" in note.message for note in read(raw).notes)


def test_what_is_understood_of_a_restriction_lets_in_no_more_than_that() -> None:
    raw = changed(SERVICE, "spec/loadBalancerSourceRanges", ["inside", "192.0.2.0/24"])
    raw = changed(raw, "metadata/annotations", {"nodeport-nft/node-port-source-ranges": "192.0.2.0/24, inside"})
    made = service(raw)
    assert made.load_balancer_source_ranges == made.node_port_source_ranges == (ip_network("192.0.2.0/24"),)
    assert made.load_balancer_ips
    assert [port.node_port for port in made.ports] == [30669, 30053]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kind", "Gateway"),
        ("kind", ...),
        ("kind", 7),
        ("apiVersion", "serving.knative.dev/v1"),
        ("metadata", None),
        ("metadata", []),
        ("metadata/name", ...),
        ("metadata/name", ""),
        ("metadata/name", 7),
        ("metadata/name", "a/b"),
        ("metadata/name", 'x" ; drop'),
        ("metadata/name", "x\n10.0.0.1 bank.example"),
        ("metadata/namespace", "a b"),
        ("metadata/namespace", 7),
    ],
)
def test_of_which_object_it_is_nothing_is_guessed(path: str, value: object) -> None:
    with pytest.raises(Problems):
        read(changed(SERVICE, path, value))


@pytest.mark.parametrize("name", ["1-service", "with.dots"])
def test_names_that_servers_have_let_in_or_will_are_read(name: str) -> None:
    assert read(changed(SERVICE, "metadata/name", name)).name == name


@pytest.mark.parametrize(
    ("name", "kept"), [("HTTP", True), ("http_metrics", True), ("h" * 100, True), ('a"b', False), ("a\nb", False)]
)
def test_a_ports_name_may_break_rules_but_not_where_it_is_written(name: str, kept: bool) -> None:
    for raw, path in (
        (SERVICE, "spec/ports/0/name"),
        (SLICE, "ports/0/name"),
        (ENDPOINTS, "subsets/0/ports/0/name"),
        (POD, "spec/containers/0/ports/0/name"),
    ):
        (value,) = read(changed(raw, path, name)).values
        assert isinstance(value, Service | EndpointSlice | Pod)
        assert [port.name for port in value.ports] == ([name, "dns"] if kept else ["dns"])


@pytest.mark.parametrize("path", ["spec/ports/1/name", "spec/ports/1/port", "spec/ports/1/nodePort"])
def test_of_ports_that_contradict_each_other_the_first_holds(path: str) -> None:
    first = SERVICE["spec"]["ports"][0]
    raw = changed(changed(SERVICE, "spec/ports/1/protocol", "TCP"), path, first[path.rpartition("/")[2]])
    made = service(raw)
    if path.endswith("nodePort"):  # the Service's other address is none of its contradiction
        assert [(port.port, port.node_port) for port in made.ports] == [(8000, 30669), (53, 0)]
    else:
        assert [port.port for port in made.ports] == [8000]


def test_of_a_slices_ports_with_one_name_the_first_holds() -> None:
    (made,) = read(changed(SLICE, "ports/1/name", "http")).values
    assert isinstance(made, EndpointSlice)
    assert [port.port for port in made.ports] == [80]


def test_what_cannot_be_had_together_is_left_out_and_the_spec_holds() -> None:
    raw = changed(SERVICE, "spec/sessionAffinity", "ClientIP")
    raw = changed(raw, "spec/externalTrafficPolicy", "Local")
    own = {"nodeport-nft/load-balancing": "maglev", "nodeport-nft/external-traffic-policy": "PreferLocal"}
    made = service(changed(raw, "metadata/annotations", own))
    assert made.load_balancing is LoadBalancing.RANDOM
    assert made.external_traffic_policy == "Local"
    assert made.session_affinity_seconds == 10800


@pytest.mark.parametrize("seconds", [0, -1, 86401, 2**40, "60", 1.5])
def test_a_time_that_is_none_is_the_usual_one(seconds: object) -> None:
    raw = changed(SERVICE, "spec/sessionAffinity", "ClientIP")
    raw = changed(raw, "spec/sessionAffinityConfig", {"clientIP": {"timeoutSeconds": seconds}})
    assert service(raw).session_affinity_seconds == 10800


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.sampled_from(["", "0", "None", "TCP", "http", "10.0.0.1", "010.0.0.1", "::", "65536", 'a"b', "a\nb", "Local"]),
    st.text(max_size=5),
    st.sampled_from([[], {}, [None], [{}], [[]], {"": {}}, ["10.0.0.1", "10.0.0.2"], ["::1"]]),
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, child in inner for path in paths(child, (*at, key)))]


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    raw: dict[str, Any] = deepcopy(draw(st.sampled_from(ALL)))
    for path in draw(st.lists(st.sampled_from(paths(raw)[1:]), min_size=1, max_size=3)):
        parent: Any = raw
        try:
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = draw(JUNK)
        except (LookupError, TypeError):  # an earlier change has taken that away
            continue
    return raw


@settings(max_examples=300, deadline=None)
@given(damaged())
@example(changed(changed(SERVICE, "spec/ports/1/name", "http"), "spec/ports/1/protocol", "TCP"))
@example(changed(changed(SERVICE, "spec/ports/1/port", 8000), "spec/ports/1/protocol", "TCP"))
@example(changed(changed(SERVICE, "spec/ports/1/nodePort", 30669), "spec/ports/1/protocol", "TCP"))
@example(changed(changed(SERVICE, "spec/ports/1/name", None), "spec/ports/0/name", None))
def test_nothing_hides_an_object_but_its_name_and_its_values_are_sound(raw: dict[str, Any]) -> None:
    try:
        made = read(raw)
    except Problems as problems:
        told = {problem.field for problem in problems.problems}
        assert told <= {"kind", "apiVersion", "metadata.name", "metadata.namespace"}, told
        return
    assert subdomain_fault(made.name) == ""
    assert not made.namespace or label_fault(made.namespace) == ""
    for value in made.values:
        if isinstance(value, Service | EndpointSlice | Pod):
            assert all(port.protocol in Protocol and is_tolerable(port.name or "x") for port in value.ports)
        if isinstance(value, Service):
            for keys in (
                [port.name for port in value.ports],
                [(port.protocol, port.port) for port in value.ports],
                [(port.protocol, port.node_port) for port in value.ports if port.node_port],
            ):
                assert len(keys) == len(set(keys)), keys
            assert all(0 < port.port < 65536 and 0 <= port.node_port < 65536 for port in value.ports)
            assert len({ip.version for ip in value.cluster_ips}) == len(value.cluster_ips)
            assert 0 <= value.session_affinity_seconds <= 86400
        assert not isinstance(value, Node) or value.name == made.name
