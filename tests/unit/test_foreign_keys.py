"""Keys of Kubernetes' own, and of ours, that nearly are the right ones; and the source ranges that nobody reads."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from nodeport_nft.manifest import Problems, Validate, parse_object, read_manifests
from nodeport_nft.model import Ranges

RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
BODIES: dict[str, dict[str, Any]] = {
    "Service": {"apiVersion": "v1", "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}},
    "EndpointSlice": {"apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4", "endpoints": []},
    "Endpoints": {"apiVersion": "v1"},
    "Node": {"apiVersion": "v1"},
    "Pod": {"apiVersion": "v1"},
}
PROXY, OF_SERVICE = "service.kubernetes.io/service-proxy-name", "kubernetes.io/service-name"
HEADLESS, ZONE = "service.kubernetes.io/headless", "topology.kubernetes.io/zone"


def raw(kind: str, *, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    made = {"kind": kind, **BODIES[kind], "metadata": {"name": "web", **metadata}}
    return made if spec is None else {**made, "spec": {"ports": [{"port": 80}], **spec}}


def warnings(document: dict[str, Any], validate: Validate = Validate.strict) -> list[str]:
    stdin = io.BytesIO(json.dumps(document).encode())
    told = read_manifests(["-"], ranges=Ranges(), stdin=stdin, validate=validate).warnings
    return [line for line in told if "so no service uses this slice" not in line]


SLIPS = [
    ("Service", "service.kubernetes.io/service-proxy", PROXY),
    ("Service", "service.kubernetes.io/serviceproxyname", PROXY),
    ("Service", "service.k8s.io/service-proxy-name", PROXY),
    ("Service", "services.kubernetes.io/service-proxy-name", PROXY),
    ("EndpointSlice", "kubernetes.io/servicename", OF_SERVICE),
    ("EndpointSlice", "kubernetes.io/Service-Name", OF_SERVICE),
    ("EndpointSlice", "k8s.io/service-name", OF_SERVICE),
    ("EndpointSlice", "kuberntes.io/service-name", OF_SERVICE),
    ("EndpointSlice", "kubernetes.io.service-name", OF_SERVICE),
    ("EndpointSlice", "service.kubernetes.io/headles", HEADLESS),
    ("Endpoints", "services.kubernetes.io/headless", HEADLESS),
    ("Node", "topology.kubernetes.io/zoen", ZONE),
    ("Node", "topolgy.kubernetes.io/zone", ZONE),
    ("Node", "topology.k8s.io/zone", ZONE),
    ("Node", "topology.kubernetes.io/Zone", ZONE),
    ("Node", "kubernetes.io/host-name", "kubernetes.io/hostname"),
]


@pytest.mark.parametrize(("kind", "key", "right"), SLIPS)
def test_a_slip_of_a_label_that_is_read_is_a_warning(kind: str, key: str, right: str) -> None:
    (told,) = warnings(raw(kind, labels={key: "web"}))
    assert told.endswith(f'metadata.labels["{key}"]: is not read; did you mean {right}?')
    (told,) = warnings(raw(kind, annotations={key: "web"}))
    assert told.endswith(
        f'metadata.annotations["{key}"]: is not read as an annotation; did you mean the label {right}?'
    )
    assert not warnings(raw(kind, labels={key: "web", right: "web"})), "the right one is there"
    assert not warnings(raw("Pod", labels={key: "web"})), "where it is not read"


@pytest.mark.parametrize(("kind", "right"), [("Service", PROXY), ("Endpoints", HEADLESS), ("Node", ZONE)])
def test_a_label_that_stands_among_the_annotations_is_a_warning(kind: str, right: str) -> None:
    (told,) = warnings(raw(kind, annotations={right: "web"}))
    assert told.endswith(f"is not read as an annotation; did you mean the label {right}?")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("Service", "app.kubernetes.io/name"),
        ("Service", HEADLESS),
        ("Service", OF_SERVICE),
        ("Service", "service.kubernetes.io/topology-mode"),
        ("EndpointSlice", "endpointslice.kubernetes.io/managed-by"),
        ("EndpointSlice", PROXY),
        ("Node", "topology.kubernetes.io/region"),
        ("Node", "topology.ebs.csi.aws.com/zone"),
        ("Node", "kubernetes.io/os"),
        ("Node", "node.kubernetes.io/instance-type"),
        ("Node", "zone"),
    ],
)
def test_other_labels_are_none_of_ours(kind: str, key: str) -> None:
    assert not warnings(raw(kind, labels={key: "web"}))


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("nodeport-nfft/weights", "did you mean nodeport-nft/weights?"),
        ("NODEPORT-NFT/weights", "did you mean nodeport-nft/weights?"),
        ("nodeport_nft/Weight", "did you mean nodeport-nft/weights?"),
        ("nodeport.nft/node-port-node", "did you mean nodeport-nft/node-port-nodes?"),
        (
            "Nodeport-nft/nodes",
            "did you mean the prefix nodeport-nft/? known annotations are nodeport-nft/node-port-",
        ),
        ("nodeportnft/nodes", "did you mean the prefix nodeport-nft/? known annotations are nodeport-nft/node-port-"),
        ("nodeport-nft.node-port-nodes", "did you mean nodeport-nft/node-port-nodes?"),
        ("node-port-source-ranges", "did you mean nodeport-nft/node-port-source-ranges?"),
    ],
)
def test_a_slip_of_our_prefix_is_an_unknown_annotation_of_ours(key: str, told: str) -> None:
    document = raw("Service", annotations={key: "10.0.0.0/8"})
    with pytest.raises(Problems, match="unknown annotation; ") as caught:
        warnings(document)
    assert f"unknown annotation; {told}" in str(caught.value)
    document = raw("Service", labels={"nodeport-nfft/weights": "a"})
    (warning,) = warnings(document, Validate.warn)
    assert warning.endswith("unknown label; is the annotation nodeport-nft/weights meant?")
    assert not warnings(document, Validate.ignore)


@pytest.mark.parametrize("key", ["nodes.example/weights", "nft/weights", "node.kubernetes.io/weight", "weights"])
def test_a_prefix_that_is_less_like_ours_is_that_of_others(key: str) -> None:
    assert not warnings(raw("Service", annotations={key: "1"}))


@pytest.mark.parametrize("text", ["10.0.0.0/8", " 10.0.0.0/8 ,fd00::/8 ", "10.0.0.1/8"])
def test_source_ranges_in_the_annotation_are_told_not_to_be_read(text: str) -> None:
    (told,) = warnings(raw("Service", annotations={RANGES: text}))
    assert told.endswith("is not read here; write spec.loadBalancerSourceRanges, or everybody is let in")
    assert not warnings(raw("Pod", annotations={RANGES: text}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("10.0.0.0", '"10.0.0.0" has no prefix length; write 10.0.0.0/8 (or 10.0.0.0/32 for this one address)'),
        ("10.0.0.0/8,", "a prefix is missing beside a comma; give it, or leave out the comma"),
        ("10.0.0.0/33", '"10.0.0.0/33" is not a CIDR; write an address and a prefix length'),
        ("office", '"office" is not an IP address'),
    ],
)
def test_wrong_source_ranges_in_the_annotation_are_a_problem_as_the_api_has_it(text: str, told: str) -> None:
    with pytest.raises(Problems) as caught:
        warnings(raw("Service", annotations={RANGES: text}))
    assert f'metadata.annotations["{RANGES}"]: {told}' in str(caught.value)
    field = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}
    assert not warnings(raw("Service", spec=field, annotations={RANGES: text})), "the field alone counts"
    parse_object(raw("Service", annotations={RANGES: text}))  # out of a store


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "ExternalName"])
def test_source_ranges_in_the_annotation_are_for_load_balancers(kind: str) -> None:
    spec = {"type": kind, **({"externalName": "example.org"} if kind == "ExternalName" else {})}
    with pytest.raises(Problems, match=f"is for type LoadBalancer only, not {kind}; leave it out"):
        warnings(raw("Service", spec=spec, annotations={RANGES: "10.0.0.0/8"}))


def test_an_empty_annotation_with_source_ranges_is_nothing() -> None:
    assert not warnings(raw("Service", annotations={RANGES: " "}))


@pytest.mark.parametrize(
    ("text", "likely"),
    [
        ("10.244.0.0", "10.244.0.0/16 (or 10.244.0.0/32 for this one address)"),
        ("0.0.0.0", "0.0.0.0/0 (or 0.0.0.0/32 for this one address)"),
        ("::", "::/0 (or ::/128 for this one address)"),
        ("fd00:244::", "fd00:244::/32 (or fd00:244::/128 for this one address)"),
        ("192.0.2.7", "192.0.2.7/32"),
    ],
)
def test_a_network_without_a_prefix_length_is_given_one_wherever_it_stands(text: str, likely: str) -> None:
    documents = [
        raw("Node", spec={"podCIDR": text}),
        raw("Node", spec={"podCIDRs": [text]}),
        raw("Service", spec={"type": "LoadBalancer", "loadBalancerSourceRanges": [text]}),
        raw("Service", annotations={"nodeport-nft/node-port-source-ranges": text}),
        raw("Service", annotations={RANGES: text}),
    ]
    for document in documents:
        if document["kind"] == "Node":
            document["spec"].pop("ports")
        with pytest.raises(Problems) as caught:
            warnings(document)
        (told,) = str(caught.value).splitlines()
        assert told.endswith(f'"{text}" has no prefix length; write {likely}')


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_who_makes_a_headless_service_a_node_port_is_told_what_helps(kind: str) -> None:
    with pytest.raises(Problems) as caught:
        warnings(raw("Service", spec={"type": kind, "clusterIP": "None"}))
    assert f"None may not be set on a service of type {kind}; leave it out" in str(caught.value)
    assert "if the service is there and headless, delete it and create it anew" in str(caught.value)
