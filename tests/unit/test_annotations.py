"""Our own annotations: what is made of good ones, what is said about bad ones, and that none opens a Service."""

from __future__ import annotations

import io
import json
import pathlib
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nodeport_nft.kube.selector import parse_selector
from nodeport_nft.manifest import Problems, Validate, parse_object, read_manifests
from nodeport_nft.model import EndpointSlice, LoadBalancing, Node, Pod, Ranges, Requirement, Service, Value

NODE_PORT = {"type": "NodePort", "ports": [{"port": 80}]}
CLUSTER_IP = {"ports": [{"port": 80}]}
SELECTOR_SYNTAX = "write a=b, a!=b, a in (b,c), a notin (b,c), a or !a, and commas between them"
LETTERS = "use at most 63 characters: letters, digits, '-', '_' and '.', a letter or digit at both ends"
REST: dict[str, dict[str, Any]] = {
    "Service": {"spec": NODE_PORT},
    "Pod": {"status": {"podIP": "10.1.0.1"}},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.1"]}]},
    "Endpoints": {"subsets": [{"addresses": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]}]},
    "Node": {},
}


def raw_object(kind: str, annotations: Mapping[str, object], **rest: object) -> dict[str, Any]:
    """An object of ``kind`` with annotations, whose keys are given without our prefix."""
    metadata = {
        "name": "web",
        "labels": {"kubernetes.io/service-name": "web"},
        "annotations": {f"nodeport-nft/{key}": value for key, value in annotations.items()},
    }
    version = "discovery.k8s.io/v1" if kind == "EndpointSlice" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **REST[kind], **rest}


def values_of(kind: str, annotations: Mapping[str, object]) -> tuple[Value, ...]:
    return parse_object(raw_object(kind, annotations)).values


def service(spec: Mapping[str, Any] = NODE_PORT, /, **annotations: object) -> Service:
    """A Service; underscores in the names of annotations stand for hyphens."""
    given = {key.replace("_", "-"): value for key, value in annotations.items()}
    (value,) = parse_object(raw_object("Service", given, spec=spec)).values
    assert isinstance(value, Service)
    return value


def problems_of(raw: dict[str, Any]) -> list[str]:
    """What is said about an object, which must be refused."""
    with pytest.raises(Problems) as caught:
        parse_object(raw)
    return str(caught.value).splitlines()


def test_a_service_without_annotations_has_none_of_their_restrictions() -> None:
    made = service()
    assert (made.node_port_source_ranges, made.node_port_nodes, dict(made.weights)) == ((), (), {})
    assert (made.external_traffic_policy, made.internal_traffic_policy) == ("Cluster", "Cluster")
    assert made.load_balancing is LoadBalancing.RANDOM


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        (" 10.0.0.0/8 ,\n\tfd00::/8 ", ["10.0.0.0/8", "fd00::/8"]),
        ("192.0.2.0/24,10.0.0.0/8", ["192.0.2.0/24", "10.0.0.0/8"]),
        ("10.1.2.3/8, 10.0.0.0/8, fd00::1/64", ["10.0.0.0/8", "fd00::/64"]),
        ("0.0.0.0/0, ::/0", ["0.0.0.0/0", "::/0"]),
    ],
)
@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_source_ranges_of_node_ports_are_read(kind: str, text: str, networks: list[str]) -> None:
    made = service({**NODE_PORT, "type": kind}, node_port_source_ranges=text)
    assert made.node_port_source_ranges == tuple(map(ip_network, networks))
    assert made.load_balancer_source_ranges == ()


SELECTORS: dict[str, tuple[Requirement, ...]] = {
    "disk=ssd": (Requirement("disk", "In", ("ssd",)),),
    "disk == ssd": (Requirement("disk", "In", ("ssd",)),),
    "disk!=ssd": (Requirement("disk", "NotIn", ("ssd",)),),
    "disk in (ssd,hdd)": (Requirement("disk", "In", ("ssd", "hdd")),),
    "disk notin ( ssd , hdd , ssd )": (Requirement("disk", "NotIn", ("ssd", "hdd")),),
    "disk in(ssd)": (Requirement("disk", "In", ("ssd",)),),
    "disk": (Requirement("disk", "Exists"),),
    "! disk": (Requirement("disk", "DoesNotExist"),),
    "disk=": (Requirement("disk", "In", ("",)),),
    "disk!=,a": (Requirement("disk", "NotIn", ("",)), Requirement("a", "Exists")),
    "disk in (,ssd)": (Requirement("disk", "In", ("", "ssd")),),
    "in in (in,notin)": (Requirement("in", "In", ("in", "notin")),),
    "notin=in": (Requirement("notin", "In", ("in",)),),
    "\tkubernetes.io/hostname in (worker-2, worker-3),\n!example.org/a.B_c,edge": (
        Requirement("kubernetes.io/hostname", "In", ("worker-2", "worker-3")),
        Requirement("example.org/a.B_c", "DoesNotExist"),
        Requirement("edge", "Exists"),
    ),
    f"{'a' * 63}={'b' * 63}": (Requirement("a" * 63, "In", ("b" * 63,)),),
}


@pytest.mark.parametrize(("text", "requirements"), SELECTORS.items(), ids=SELECTORS)
def test_node_port_nodes_is_a_selector_as_kubectl_has_it(text: str, requirements: tuple[Requirement, ...]) -> None:
    assert service(node_port_nodes=text).node_port_nodes == requirements


def test_policies_prefer_local_endpoints_where_the_spec_lets_them() -> None:
    made = service({**NODE_PORT, "externalTrafficPolicy": "Cluster"}, external_traffic_policy="PreferLocal")
    assert (made.external_traffic_policy, made.internal_traffic_policy) == ("PreferLocal", "Cluster")
    made = service(
        {**CLUSTER_IP, "internalTrafficPolicy": "Cluster"}, internal_traffic_policy="PreferLocal"
    )  # of a type without an external policy
    assert (made.external_traffic_policy, made.internal_traffic_policy) == ("Cluster", "PreferLocal")
    made = service({**CLUSTER_IP, "externalIPs": ["192.0.2.1"]}, external_traffic_policy="PreferLocal")
    assert made.external_traffic_policy == "PreferLocal"
    made = service({**NODE_PORT, "internalTrafficPolicy": "Local"}, external_traffic_policy="PreferLocal")
    assert (made.external_traffic_policy, made.internal_traffic_policy) == ("PreferLocal", "Local")


def test_load_balancing_is_random_or_maglev() -> None:
    assert service(load_balancing="maglev").load_balancing is LoadBalancing.MAGLEV
    sticky = service({**NODE_PORT, "sessionAffinity": "ClientIP"}, load_balancing="random")
    assert (sticky.load_balancing, sticky.session_affinity_seconds) == (LoadBalancing.RANDOM, 10800)
    assert service({**NODE_PORT, "sessionAffinity": "None"}, load_balancing="maglev").session_affinity_seconds == 0


def test_weights_are_those_of_addresses_of_both_families() -> None:
    made = service(CLUSTER_IP, weights=" 10.244.1.2=3, 10.244.2.2 = 0,fd00::0:1=100 ")
    assert made.weights == {"10.244.1.2": 3, "10.244.2.2": 0, "fd00::1": 100}


@pytest.mark.parametrize("kind", ["Pod", "EndpointSlice", "Endpoints"])
@pytest.mark.parametrize("weight", [0, 1, 3, 100])
def test_pods_and_slices_have_a_weight(kind: str, weight: int) -> None:
    given = values_of(kind, {"weight": str(weight)})
    assert len(given) == (2 if kind == "Endpoints" else 1)  # a slice of each family
    for value, plain in zip(given, values_of(kind, {}), strict=True):
        assert isinstance(value, Pod | EndpointSlice)
        assert isinstance(plain, Pod | EndpointSlice)
        assert (value.weight, plain.weight) == (weight, 1)


LOCAL = {**NODE_PORT, "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}
TYPES = "is for types NodePort and LoadBalancer only, not "
BAD: dict[str, tuple[Mapping[str, Any], str, object, str]] = {
    # spec, key, value, what is said
    "no prefixes": (
        NODE_PORT,
        "node-port-source-ranges",
        "",
        "is empty; list prefixes, as 10.0.0.0/8, or leave the annotation out",
    ),
    "null prefixes": (NODE_PORT, "node-port-source-ranges", None, "is empty; list prefixes, as 10.0.0.0/8, or leave"),
    "blank prefixes": (NODE_PORT, "node-port-source-ranges", " \n", "is empty; list prefixes"),
    "an address": (
        NODE_PORT,
        "node-port-source-ranges",
        "10.0.0.0",
        '"10.0.0.0" has no prefix length; write 10.0.0.0/8 (or 10.0.0.0/32 for this one address)',
    ),
    "a netmask": (NODE_PORT, "node-port-source-ranges", "10.0.0.0/255.0.0.0", '"10.0.0.0/255.0.0.0" is not a CIDR'),
    "a long prefix": (NODE_PORT, "node-port-source-ranges", "10.0.0.0/33", '"10.0.0.0/33" is not a CIDR; write'),
    "no address": (
        NODE_PORT,
        "node-port-source-ranges",
        "10.0.0.0/8, lan/8",
        '"lan" is not an IP address; write it as 10.0.0.1 or fd00::1',
    ),
    "prefixes apart by blanks": (NODE_PORT, "node-port-source-ranges", "10.0.0.0/8 fd00::/8", " is not a CIDR; wri"),
    "a comma too many": (
        NODE_PORT,
        "node-port-source-ranges",
        "10.0.0.0/8,",
        "a prefix is missing beside a comma; give it, or leave out the comma",
    ),
    "prefixes as a list": (
        NODE_PORT,
        "node-port-source-ranges",
        ["10.0.0.0/8"],
        "a list stands where a string belongs",
    ),
    "prefixes of a ClusterIP": (
        CLUSTER_IP,
        "node-port-source-ranges",
        "10.0.0.0/8",
        f"{TYPES}ClusterIP; leave it out",
    ),
    "prefixes of an ExternalName": (
        {"type": "ExternalName", "externalName": "a.example"},
        "node-port-source-ranges",
        "10.0.0.0/8",
        f"{TYPES}ExternalName; leave it out",
    ),
    "an empty selector": (
        NODE_PORT,
        "node-port-nodes",
        " ",
        "is empty; write a label selector, as disk=ssd, or leave the annotation out",
    ),
    "a selector of a ClusterIP": (CLUSTER_IP, "node-port-nodes", "disk=ssd", f"{TYPES}ClusterIP; leave it out"),
    "no key": (NODE_PORT, "node-port-nodes", "=ssd", f'"=" stands where a label key belongs; {SELECTOR_SYNTAX}'),
    "nothing behind a comma": (
        NODE_PORT,
        "node-port-nodes",
        "disk,",
        f"the end stands where a label key belongs; {SELECTOR_SYNTAX}",
    ),
    "nothing behind a !": (NODE_PORT, "node-port-nodes", "!", "the end stands where a label key belongs; write a=b"),
    "two commas": (NODE_PORT, "node-port-nodes", "disk,,zone", '"," stands where a label key belongs; write a=b'),
    "no comma": (
        NODE_PORT,
        "node-port-nodes",
        "disk ssd",
        f'"ssd" stands where an operator or a comma belongs; {SELECTOR_SYNTAX}',
    ),
    "no comma after a value": (
        NODE_PORT,
        "node-port-nodes",
        "disk=ssd zone=a",
        f'"zone" stands where a comma belongs; {SELECTOR_SYNTAX}',
    ),
    "! and a value": (NODE_PORT, "node-port-nodes", "!disk=ssd", '"=" stands where a comma belongs; write a=b'),
    "three =": (NODE_PORT, "node-port-nodes", "disk===ssd", '"=" stands where a comma belongs; write a=b'),
    "greater": (NODE_PORT, "node-port-nodes", "cores>4", '">" stands where an operator or a comma belongs; write'),
    "less": (NODE_PORT, "node-port-nodes", "cores < 4", '"<" stands where an operator or a comma belongs; write'),
    "in without brackets": (NODE_PORT, "node-port-nodes", "disk in ssd", '"ssd" stands where "(" belongs; write a=b'),
    "in and nothing": (NODE_PORT, "node-port-nodes", "disk in", 'the end stands where "(" belongs; write a=b'),
    "an open bracket": (
        NODE_PORT,
        "node-port-nodes",
        "disk in (ssd",
        f'the end stands where ")" or a comma belongs; {SELECTOR_SYNTAX}',
    ),
    "blanks in brackets": (
        NODE_PORT,
        "node-port-nodes",
        "disk in (ssd hdd)",
        '"hdd" stands where ")" or a comma belongs',
    ),
    "empty brackets": (NODE_PORT, "node-port-nodes", "disk in ()", '")" stands where a label value belongs; write'),
    "IN": (NODE_PORT, "node-port-nodes", "disk IN (ssd)", '"IN" stands where an operator or a comma belongs; write'),
    "a bad key": (
        NODE_PORT,
        "node-port-nodes",
        "-disk=ssd",
        f"\"-disk\" is not a label key; {LETTERS}; before them, if you like, an RFC 1123 subdomain and '/'",
    ),
    "a bad prefix": (NODE_PORT, "node-port-nodes", "Example.org/disk", '"Example.org/disk" is not a label key; use'),
    "an empty prefix": (NODE_PORT, "node-port-nodes", "/disk", '"/disk" is not a label key; use at most 63'),
    "two prefixes": (NODE_PORT, "node-port-nodes", "a/b/c", '"a/b/c" is not a label key; use at most 63'),
    "a long key": (NODE_PORT, "node-port-nodes", "a" * 64, f'"{"a" * 64}" is not a label key; use at most 63'),
    "a quoted value": (NODE_PORT, "node-port-nodes", 'disk="ssd"', f'""ssd"" is not a label value; {LETTERS}'),
    "a long value": (
        NODE_PORT,
        "node-port-nodes",
        f"a={'b' * 64}",
        f'"{"b" * 64}" is not a label value; use at most',
    ),
    "a bad value in a set": (NODE_PORT, "node-port-nodes", "a in (b,c_)", '"c_" is not a label value; use at most'),
    "a blank of another kind": (
        NODE_PORT,
        "node-port-nodes",
        "disk\u00a0=ssd",
        '"disk\ufffd" is not a label key; use',
    ),
    "an external policy": (
        NODE_PORT,
        "external-traffic-policy",
        "Local",
        '"Local" is unknown; use PreferLocal, or leave it out',
    ),
    "no external policy": (
        NODE_PORT,
        "external-traffic-policy",
        "",
        '"" is unknown; use PreferLocal, or leave it out',
    ),
    "an external policy of a ClusterIP": (
        CLUSTER_IP,
        "external-traffic-policy",
        "PreferLocal",
        "may not be set on a service of type ClusterIP without externalIPs; leave it out",
    ),
    "an external policy besides Local": (
        LOCAL,
        "external-traffic-policy",
        "PreferLocal",
        "PreferLocal contradicts spec.externalTrafficPolicy: Local; leave one of them out",
    ),
    "an internal policy": (
        NODE_PORT,
        "internal-traffic-policy",
        "preferlocal",
        '"preferlocal" is unknown; use PreferLocal, or leave it out',
    ),
    "an internal policy besides Local": (
        LOCAL,
        "internal-traffic-policy",
        "PreferLocal",
        "PreferLocal contradicts spec.internalTrafficPolicy: Local; leave one of them out",
    ),
    "a way of balancing": (
        NODE_PORT,
        "load-balancing",
        "Maglev",
        '"Maglev" is unknown; use random or maglev, or leave it out',
    ),
    "no way of balancing": (NODE_PORT, "load-balancing", "", '"" is unknown; use random or maglev, or leave it out'),
    "hashing and affinity": (
        {**NODE_PORT, "sessionAffinity": "ClientIP"},
        "load-balancing",
        "maglev",
        "maglev cannot be had together with spec.sessionAffinity: ClientIP; choose one, and leave the other out",
    ),
    "no weights": (
        NODE_PORT,
        "weights",
        "",
        "is empty; list addresses, as 10.244.1.2=3, or leave the annotation out",
    ),
    "a weight alone": (
        NODE_PORT,
        "weights",
        "3",
        '"3" is not an address with a weight; write 10.244.1.2=3, a comma between two',
    ),
    "weights and a comma": (NODE_PORT, "weights", "10.244.1.2=3,", '"" is not an address with a weight; write'),
    "a weight of a name": (NODE_PORT, "weights", "web-1=3", '"web-1" is not an IP address; write it as 10.0.0.1'),
    "a weight of a loopback address": (
        NODE_PORT,
        "weights",
        "127.0.0.1=3",
        "127.0.0.1 is a loopback address; give one that every node can reach",
    ),
    "a weight above": (
        NODE_PORT,
        "weights",
        "10.244.1.2=101",
        '"10.244.1.2=101" is not a weight; write an address, = and a whole number, 0-100',
    ),
    "a weight below": (
        NODE_PORT,
        "weights",
        "10.244.1.2=-1",
        '"10.244.1.2=-1" is not a weight; write an address, = and a whole number',
    ),
    "an empty weight": (
        NODE_PORT,
        "weights",
        "10.244.1.2=",
        '"10.244.1.2=" is not a weight; write an address, = and a whole number',
    ),
    "two =": (
        NODE_PORT,
        "weights",
        "10.244.1.2=1=2",
        '"10.244.1.2=1=2" is not a weight; write an address, = and a whole number',
    ),
    "a weight with a zero": (
        NODE_PORT,
        "weights",
        "fd00::1=01",
        '"fd00::1=01" is not a weight; write an address, = and a whole number',
    ),
    "an Arabic weight": (
        NODE_PORT,
        "weights",
        "fd00::1=\u0663",
        '"fd00::1=\u0663" is not a weight; write an address, = and a whole number',
    ),
    "two weights": (
        NODE_PORT,
        "weights",
        "fd00::1=1, fd00:0::1=1",
        "fd00::1 is given twice; leave one of them out",
    ),
    "weights as a mapping": (NODE_PORT, "weights", {"a": 1}, "a mapping stands where a string belongs"),
}


@pytest.mark.parametrize(("spec", "key", "value", "expected"), BAD.values(), ids=BAD)
def test_a_wrong_annotation_is_a_problem_with_its_remedy(
    spec: Mapping[str, Any], key: str, value: object, expected: str
) -> None:
    (problem,) = problems_of(raw_object("Service", {key: value}, spec=spec))
    start = f'Service/default/web: metadata.annotations["nodeport-nft/{key}"]: '
    assert problem.startswith(start)
    assert expected in problem.removeprefix(start)


@pytest.mark.parametrize("kind", ["Pod", "EndpointSlice", "Endpoints"])
@pytest.mark.parametrize("text", ["", "-1", "101", "1000000", "+1", " 1", "1.5", "01", "one", "\u0663", "9" * 5000])
def test_a_wrong_weight_is_a_problem_with_its_remedy(kind: str, text: str) -> None:
    (problem,) = problems_of(raw_object(kind, {"weight": text}))
    start = f'{kind}/default/web: metadata.annotations["nodeport-nft/weight"]: "{text[:79]}'
    assert problem.startswith(start)
    assert problem.endswith(" is not a weight; write a whole number, 0-100")
    assert len(problem) < 250


@pytest.mark.parametrize("kind", ["Pod", "EndpointSlice", "Endpoints"])
@pytest.mark.parametrize(
    ("text", "drained"),
    [
        ("10.244.1.2", ["10.244.1.2"]),
        (" 10.244.1.2 ,fd00::0:1,10.244.1.2", ["10.244.1.2", "fd00::1"]),
        ("", []),
        (None, []),
    ],
)
def test_addresses_of_pods_and_slices_are_drained(kind: str, text: str | None, drained: list[str]) -> None:
    for value in values_of(kind, {} if text is None else {"drain": text}):
        assert isinstance(value, Pod | EndpointSlice)
        assert list(map(str, value.drained)) == drained


@pytest.mark.parametrize("kind", ["Pod", "EndpointSlice", "Endpoints"])
@pytest.mark.parametrize(
    "text", ["true", "10.244.1.2,", "10.244.1.2 fd00::1", "10.244.1.0/24", "10.244.1.2:80", "1" * 5000]
)
def test_what_is_drained_is_told_if_it_is_no_address(kind: str, text: str) -> None:
    problems = problems_of(raw_object(kind, {"drain": text}))
    assert problems
    for problem in problems:
        assert problem.startswith(f'{kind}/default/web: metadata.annotations["nodeport-nft/drain"]: "')
        assert len(problem) < 300


def test_a_node_is_drained_if_it_says_true_and_nothing_else() -> None:
    for said, drained in (({"drain": "true"}, True), ({"drain": ""}, False), ({}, False)):
        (node,) = values_of("Node", said)
        assert isinstance(node, Node)
        assert node.drained is drained
    for text in ("false", "True", "yes", " true", "10.244.1.2"):
        (problem,) = problems_of(raw_object("Node", {"drain": text}))
        assert problem == (
            f'Node/web: metadata.annotations["nodeport-nft/drain"]: "{text}" is unknown; use true, or leave the '
            "annotation out"
        )


def test_a_weight_that_is_a_number_is_told_to_wear_quotes() -> None:
    (problem,) = problems_of(raw_object("Pod", {"weight": 3}))
    assert problem.endswith(
        'metadata.annotations["nodeport-nft/weight"]: 3 is a number, not a string; put it in quotes'
    )


def test_a_slice_that_no_service_uses_is_still_told_of_its_weight() -> None:
    raw = raw_object("EndpointSlice", {"weight": "x"})
    raw["metadata"]["labels"] = {}
    assert len(problems_of(raw)) == 1


def test_all_problems_of_all_annotations_are_told_at_once() -> None:
    raw = raw_object(
        "Service",
        {
            "node-port-source-ranges": "a, 10.0.0.0/8, b",
            "node-port-nodes": "-a=b, c in (_d, e, f_)",
            "external-traffic-policy": "x",
            "load-balancing": "y",
            "weights": "1.2.3.4=1, z, 1.2.3.4=2",
        },
    )
    fields = [line.split('"')[1].removeprefix("nodeport-nft/") for line in problems_of(raw)]
    assert sorted(fields) == [
        "external-traffic-policy",
        "load-balancing",
        *["node-port-nodes"] * 3,
        *["node-port-source-ranges"] * 2,
        *["weights"] * 2,
    ]


def test_a_prefix_that_can_be_read_in_two_ways_is_told(tmp_path: pathlib.Path) -> None:
    raw = raw_object("Service", {"node-port-source-ranges": "10.1.2.3/8, 10.0.0.0/8"})
    raw["spec"] = {"type": "NodePort", "ports": [{"port": 80}]}
    (tmp_path / "web.json").write_text(json.dumps(raw))
    (warning,) = read_manifests([str(tmp_path)], ranges=Ranges()).warnings
    assert warning.endswith('"10.1.2.3/8" lets in all of 10.0.0.0/8; write that, or 10.1.2.3/32')


@pytest.mark.parametrize("key", ["node-port-source-ranges", "node-port-nodes", "weights"])
@pytest.mark.parametrize("text", ["," * 200_000, "\x1b[2J," * 20_000, "a(" * 100_000, "x" * (1 << 20), "!" * 200_000])
def test_what_is_said_of_a_huge_annotation_is_bounded(key: str, text: str) -> None:
    problems = problems_of(raw_object("Service", {key: text}))
    assert 1 <= len(problems) <= 12  # ten of a kind and their number, and one of another kind
    assert all(line.isprintable() and len(line) < 500 for line in problems)


def test_only_the_first_faults_of_an_annotation_are_told_and_how_many_more_there_are() -> None:
    problems = problems_of(
        raw_object("Service", {"node-port-nodes": f"a in ({','.join(f'_{n}' for n in range(50))})"})
    )
    assert len(problems) == 11
    assert problems[-1].endswith("… and 40 more of this kind in Service/default/web")


def test_an_annotation_may_not_be_longer_than_the_api_has_it() -> None:
    text = ",".join(["10.0.0.0/8"] * 23_000)
    assert service(node_port_source_ranges=text).node_port_source_ranges == (IPv4Network("10.0.0.0/8"),)
    (problem,) = problems_of(raw_object("Service", {"node-port-source-ranges": text + " " * (256 * 1024)}))
    assert problem.endswith(" is longer than 262144 characters; shorten it")


def warnings_of(kind: str, key: str) -> tuple[str, ...]:
    rest = {
        "Service": "spec: {ports: [{port: 80}]}",
        "EndpointSlice": "addressType: IPv4",
    }.get(kind, "")
    version = "discovery.k8s.io/v1" if kind == "EndpointSlice" else "v1"
    text = (
        f"apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: web\n"
        f"  labels: {{kubernetes.io/service-name: web}}\n  annotations:\n    other/weight: x\n    {key}: x\n{rest}\n"
    )
    stdin = io.BytesIO(text.encode())
    return read_manifests(["-"], ranges=Ranges(), stdin=stdin, validate=Validate.warn).warnings


OF_A_SERVICE = (
    "nodeport-nft/node-port-source-ranges, nodeport-nft/node-port-nodes, nodeport-nft/external-traffic-policy, "
    "nodeport-nft/internal-traffic-policy, nodeport-nft/load-balancing, nodeport-nft/weights"
)

OF_ENDPOINTS = "nodeport-nft/weight, nodeport-nft/drain, nodeport-nft/readiness-probe"


@pytest.mark.parametrize(
    ("kind", "key", "remedy"),
    [
        ("Service", "nodeport-nft/wieghts", "did you mean nodeport-nft/weights?"),
        ("Service", "nodeport-nft/loadBalancing", "did you mean nodeport-nft/load-balancing?"),
        ("Service", "nodeport-nft/", f"known annotations are {OF_A_SERVICE}"),
        ("Service", "nodeport-nft/zone", f"known annotations are {OF_A_SERVICE}"),
        ("Service", "nodeport-nft/weight", "did you mean nodeport-nft/weights?"),
        ("Pod", "nodeport-nft/weights", "did you mean nodeport-nft/weight?"),
        ("Pod", "nodeport-nft/Weight", "did you mean nodeport-nft/weight?"),
        ("EndpointSlice", "nodeport-nft/load-balancing", f"known annotations are {OF_ENDPOINTS}"),
        ("Endpoints", "nodeport-nft/node-port-nodes", f"known annotations are {OF_ENDPOINTS}"),
        ("Node", "nodeport-nft/weight", "known annotations are nodeport-nft/drain"),
        ("Node", "nodeport-nft/drained", "did you mean nodeport-nft/drain?"),
    ],
)
def test_an_unknown_or_misplaced_annotation_is_a_warning_that_names_the_known_ones(
    kind: str, key: str, remedy: str
) -> None:
    ref = "Node/web" if kind == "Node" else f"{kind}/default/web"
    told = f'<stdin>:8: {ref}: metadata.annotations["{key}"]: unknown annotation; {remedy}'
    assert warnings_of(kind, key) == (told,)


@pytest.mark.parametrize("key", ["nodeport-nft", "nodeport-nft.example/weights", "example.org/weights"])
def test_annotations_of_others_are_none_of_ours(key: str) -> None:
    assert warnings_of("Service", key) == ()


def test_a_warning_about_a_hostile_key_is_bounded() -> None:
    (warning,) = warnings_of("Pod", f'"nodeport-nft/\\e[2J{"x" * 900}"')
    assert warning.isprintable()
    assert len(warning) < 300


def test_warnings_about_many_keys_are_bounded() -> None:
    raw = raw_object("Pod", {f"x{n}": "" for n in range(1000)})
    stdin = io.BytesIO(json.dumps(raw).encode())
    warnings = read_manifests(["-"], ranges=Ranges(), stdin=stdin, validate=Validate.warn).warnings
    assert len(warnings) == 11
    assert warnings[-1].endswith(
        "metadata.annotations: 990 more are unknown; known annotations are nodeport-nft/weight, nodeport-nft/drain"
    )


def test_a_wrong_annotation_is_told_its_line() -> None:
    text = (
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n"
        "  annotations:\n    nodeport-nft/weights: 10.1.0.1=1\n    nodeport-nft/node-port-nodes: a b\n"
        "spec: {type: NodePort, ports: [{port: 80}]}\n"
    )
    with pytest.raises(Problems) as caught:
        read_manifests(["-"], ranges=Ranges(), stdin=io.BytesIO(text.encode()))
    start = (
        '<stdin>:7: Service/default/web: metadata.annotations["nodeport-nft/node-port-nodes"]: "b" stands where an '
    )
    assert str(caught.value).startswith(start)


@given(st.text(alphabet="ab-_./=!(),<> \t\n\x00é\ud800inot", max_size=30) | st.text())
@example("")
@example("(" * 2000)
def test_any_text_is_a_selector_or_has_faults(text: str) -> None:
    requirements, faults = parse_selector(text)
    assert bool(requirements) != bool(faults)
    assert all(len(fault) < 400 for fault in faults)


WORDS = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,10}[A-Za-z0-9])?", fullmatch=True)
KEYS = WORDS | st.builds("{}/{}".format, st.from_regex(r"[a-z0-9]{1,5}(\.[a-z]{1,3})?", fullmatch=True), WORDS)
BLANKS = st.sampled_from(["", " ", "\n\t"])


@st.composite
def selectors(draw: st.DrawFn) -> tuple[str, tuple[Requirement, ...]]:
    """A selector as somebody may write it, and what it means."""
    parts, requirements = [], []
    for _ in range(draw(st.integers(1, 4))):
        key, values = draw(KEYS), draw(st.lists(WORDS, min_size=1, max_size=3, unique=True))
        a, b, c = draw(BLANKS), draw(BLANKS), draw(BLANKS)
        comma = f"{a},{b}"
        operator = draw(st.sampled_from(["=", "==", "!=", "in", "notin", "", "!"]))
        if operator in ("=", "==", "!="):
            values = values[:1]
            part = f"{a}{key}{b}{operator}{c}{values[0]}"
        elif operator:
            part = f"{a}!{b}{key}{c}" if operator == "!" else f"{key} {operator}{a}({b}{comma.join(values)}{c})"
        else:
            part = f"{a}{key}{b}"
        kinds = {
            "=": "In",
            "==": "In",
            "in": "In",
            "!=": "NotIn",
            "notin": "NotIn",
            "": "Exists",
            "!": "DoesNotExist",
        }
        parts.append(part)
        requirements.append(Requirement(key, kinds[operator], () if operator in ("", "!") else tuple(values)))
    return ",".join(parts), tuple(requirements)


@given(selectors())
def test_every_selector_means_what_it_was_made_of(selector: tuple[str, tuple[Requirement, ...]]) -> None:
    text, requirements = selector
    assert parse_selector(text) == (requirements, ())


KEYS_THAT_RESTRICT = ("node-port-source-ranges", "node-port-nodes")


@given(st.sampled_from(KEYS_THAT_RESTRICT), st.text(alphabet="10./8,:fa =!()\n", max_size=20) | st.text() | st.none())
def test_no_value_of_an_annotation_that_restricts_leaves_a_service_open(key: str, text: str | None) -> None:
    try:
        made = service(**{key: text})
    except Problems:
        return
    assert made.node_port_source_ranges if key == "node-port-source-ranges" else made.node_port_nodes
