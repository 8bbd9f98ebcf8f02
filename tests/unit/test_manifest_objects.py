"""Good documents and what is made of them: defaults, conditions, families, lists, skipped kinds, warnings."""

from __future__ import annotations

import io
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest

from nodeport_nft.manifest import Manifests, parse_object, read_manifests
from nodeport_nft.model import (
    ContainerPort,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    Node,
    Pod,
    Protocol,
    Ranges,
    Service,
    ServicePort,
    ServiceType,
    Value,
)


def read(text: str, namespace: str = "default") -> Manifests:
    return read_manifests(["-"], ranges=Ranges(), namespace=namespace, stdin=io.BytesIO(text.encode()))


def value_of(text: str) -> Value:
    """The one value of the one object in ``text``."""
    (made,) = read(text).objects
    (value,) = made.values
    return value


def service(spec: str, metadata: str = "name: web") -> Service:
    value = value_of(f"apiVersion: v1\nkind: Service\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n")
    assert isinstance(value, Service)
    return value


def test_a_service_has_the_defaults_of_the_api() -> None:
    assert service("ports: [{port: 80}]") == Service(
        "default", "web", ServiceType.CLUSTER_IP, (ServicePort("", Protocol.TCP, 80, 80),)
    )


def test_a_service_is_read_as_it_is_written() -> None:
    assert service(
        "type: NodePort, clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, 'fd00:10:96::9'], ipFamilies: [IPv4, IPv6], "
        "ipFamilyPolicy: RequireDualStack, publishNotReadyAddresses: true, externalTrafficPolicy: Cluster, "
        "selector: {app: web}, ports: [{name: dns, port: 53, protocol: UDP, targetPort: dns-udp, nodePort: 30053}, "
        "{name: dns-tcp, port: 53, targetPort: 5353, nodePort: 30053}]",
        "name: dns, namespace: kube-system, labels: {service.kubernetes.io/service-proxy-name: other}, "
        "creationTimestamp: 2026-01-31T14:00:00.5+02:00",
    ) == Service(
        "kube-system",
        "dns",
        ServiceType.NODE_PORT,
        (
            ServicePort("dns", Protocol.UDP, 53, "dns-udp", 30053),
            ServicePort("dns-tcp", Protocol.TCP, 53, 5353, 30053),
        ),
        cluster_ips=(IPv4Address("10.96.0.9"), IPv6Address("fd00:10:96::9")),
        ip_families=(Family.IPV4, Family.IPV6),
        ip_family_policy="RequireDualStack",
        selector={"app": "web"},
        publish_not_ready_addresses=True,
        created="2026-01-31T12:00:00Z",
        proxy_name="other",
    )


def test_a_load_balancer_may_do_without_node_ports() -> None:
    made = service(
        "type: LoadBalancer, allocateLoadBalancerNodePorts: false, externalTrafficPolicy: Local, "
        "healthCheckNodePort: 30001, ports: [{port: 80}]"
    )
    assert not made.allocate_node_ports
    assert made.health_check_node_port == 30001
    assert made.external_traffic_policy == "Local"


@pytest.mark.parametrize(
    ("spec", "headless"), [("clusterIP: None", True), ("type: ExternalName, externalName: a.example.", False)]
)
def test_services_without_addresses_need_no_ports(spec: str, headless: bool) -> None:
    made = service(spec)
    assert made.headless is headless
    assert made.cluster_ips == made.ports == ()


@pytest.mark.parametrize("ip", ["10.96.0.1", "10.111.255.254", "fd00:10:96::1", "fd00:10:96::ffff"])
def test_the_first_and_the_last_usable_cluster_ip_may_be_chosen(ip: str) -> None:
    assert [str(address) for address in service(f"clusterIP: '{ip}', ports: [{{port: 1}}]").cluster_ips] == [ip]


def test_empty_and_null_fields_are_absent_ones() -> None:
    assert service(
        "type: null, clusterIP: '', clusterIPs: [], ipFamilies: null, selector: {app: null}, sessionAffinity: None, "
        "externalIPs: [], ports: [{port: 80, name: '', targetPort: null, nodePort: 0, protocol: null}]",
        "name: web, labels: null, creationTimestamp: null",
    ) == Service("default", "web", ports=(ServicePort("", Protocol.TCP, 80, 80),), selector={"app": ""})


@pytest.mark.proves("E1")
def test_conditions_of_endpoints_have_their_defaults() -> None:
    text = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}, {name: any, port: null}]
endpoints:
- addresses: [10.1.0.1, 10.1.0.9]
- {addresses: [10.1.0.2], conditions: {ready: null, serving: null, terminating: null}}
- {addresses: [10.1.0.3], conditions: {ready: false, serving: true, terminating: true}, nodeName: worker-1}
"""
    assert value_of(text) == EndpointSlice(
        "default",
        "web-1",
        "web",
        (EndpointPort("http", Protocol.TCP, 80), EndpointPort("dns", Protocol.UDP, 53)),
        (
            Endpoint(IPv4Address("10.1.0.1")),
            Endpoint(IPv4Address("10.1.0.2")),
            Endpoint(IPv4Address("10.1.0.3"), ready=False, terminating=True, node_name="worker-1"),
        ),
    )


@pytest.mark.proves("E1")
@pytest.mark.parametrize(
    ("labels", "kind", "address", "values", "warnings"),
    [
        ("kubernetes.io/service-name: web", "IPv4", "10.1.0.1", 1, 0),
        ("kubernetes.io/service-name: web", "FQDN", "a.example", 0, 0),
        ("app: web", "IPv6", "fd00::1", 0, 1),
    ],
)
def test_slices_that_no_service_can_use_give_no_value(
    labels: str, kind: str, address: str, values: int, warnings: int
) -> None:
    made = read(
        f"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a, labels: {{{labels}}}}}\n"
        f"addressType: {kind}\nendpoints: [{{addresses: ['{address}']}}]\n"
    )
    assert len(made.objects) == 1
    assert len(made.objects[0].values) == values
    assert len(made.warnings) == warnings


@pytest.mark.proves("F8")
@pytest.mark.parametrize("label", ["", ", service.kubernetes.io/headless: ''"])
def test_a_slice_labelled_headless_says_so(label: str) -> None:
    made = value_of(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        f"metadata: {{name: a, labels: {{kubernetes.io/service-name: web{label}}}}}\naddressType: IPv6\nendpoints: []"
    )
    assert isinstance(made, EndpointSlice)
    assert made.headless is bool(label)


@pytest.mark.proves("E7")
def test_endpoints_become_a_slice_for_each_subset_and_family() -> None:
    (made,) = read("""
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets:
- addresses: [{ip: 10.1.0.1, nodeName: worker-1}, {ip: 'fd00::1'}]
  notReadyAddresses: [{ip: 10.1.0.2}]
  ports: [{port: 80}]
- notReadyAddresses: [{ip: 10.1.0.3}]
  ports: [{name: a, port: 81}, {name: b, port: 82, protocol: SCTP}]
""").objects
    http = (EndpointPort("", Protocol.TCP, 80),)
    assert made.values == (
        EndpointSlice(
            "default",
            "web-0-ipv4",
            "web",
            http,
            (
                Endpoint(IPv4Address("10.1.0.1"), node_name="worker-1"),
                Endpoint(IPv4Address("10.1.0.2"), ready=False, serving=False),
            ),
            mirrored=True,
        ),
        EndpointSlice("default", "web-0-ipv6", "web", http, (Endpoint(IPv6Address("fd00::1")),), mirrored=True),
        EndpointSlice(
            "default",
            "web-1-ipv4",
            "web",
            (EndpointPort("a", Protocol.TCP, 81), EndpointPort("b", Protocol.SCTP, 82)),
            (Endpoint(IPv4Address("10.1.0.3"), ready=False, serving=False),),
            mirrored=True,
        ),
    )


def pod(rest: str = "", metadata: str = "") -> Pod:
    value = value_of(f"{{apiVersion: v1, kind: Pod, metadata: {{name: web-1, {metadata}}}, {rest}}}")
    assert isinstance(value, Pod)
    return value


def test_a_pod_is_read_with_its_addresses_and_named_ports() -> None:
    assert pod(
        "spec: {nodeName: worker-1, initContainers: [{ports: [{name: init, containerPort: 1}]}], "
        "containers: [{ports: [{name: http, containerPort: 80}, {containerPort: 81}]}, {name: sidecar}, "
        "{ports: [{name: dns, containerPort: 53, protocol: UDP}]}]}, "
        "status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}",
        "labels: {app: web}",
    ) == Pod(
        "default",
        "web-1",
        {"app": "web"},
        (IPv4Address("10.1.0.1"), IPv6Address("fd00::1")),
        "worker-1",
        ports=(ContainerPort("http", Protocol.TCP, 80), ContainerPort("dns", Protocol.UDP, 53)),
    )


@pytest.mark.proves("E7")
@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ("", True),
        ("conditions: []", True),
        ("conditions: [{type: Ready, status: 'True'}]", True),
        ("conditions: [{type: Ready, status: 'False'}]", False),
        ("conditions: [{type: Ready, status: Unknown}]", False),
        ("conditions: [{type: PodScheduled, status: 'True'}]", False),
        ("conditions: [{type: Initialized, status: 'False'}, {type: Ready, status: 'True'}]", True),
    ],
)
def test_a_pod_is_ready_by_its_condition_or_for_want_of_any(status: str, ready: bool) -> None:
    assert pod(f"status: {{podIP: 10.1.0.1, {status}}}").ready is ready


def test_pods_come_and_go() -> None:
    assert pod().ips == ()
    assert pod("status: {podIP: 10.1.0.1}").ips == (IPv4Address("10.1.0.1"),)
    assert pod(metadata="deletionTimestamp: 2026-01-31T12:00:00Z").terminating
    assert not pod("status: {phase: Running}").finished
    assert pod("status: {phase: Succeeded}").finished
    assert pod("status: {phase: Failed}").finished


def test_a_node_has_its_internal_addresses_and_no_namespace() -> None:
    (made,) = read(
        "{apiVersion: v1, kind: Node, metadata: {name: worker-1.example, labels: {zone: a}}, "
        "spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}, status: {addresses: ["
        "{type: Hostname, address: worker-1}, {type: InternalIP, address: 172.30.1.2}, "
        "{type: InternalIP, address: 'fd00::2'}, {type: ExternalIP, address: 192.0.2.1}]}}"
    ).objects
    assert (str(made.ref), made.namespace) == ("Node/worker-1.example", "")
    assert "namespace" not in made.raw["metadata"]
    assert made.values == (
        Node(
            "worker-1.example",
            {"zone": "a"},
            (IPv4Address("172.30.1.2"), IPv6Address("fd00::2")),
            (IPv4Network("10.1.0.0/24"), IPv6Network("fd00:1::/64")),
        ),
    )
    assert value_of("{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDR: 10.1.0.0/24}}") == Node(
        "a", pod_cidrs=(IPv4Network("10.1.0.0/24"),)
    )


def test_lists_are_unfolded_and_every_item_keeps_its_line() -> None:
    made = read(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: a}}\n"
        "- kind: List\n  items:\n  - {apiVersion: v1, kind: Node, metadata: {name: b}}\n"
        "---\nkind: List\nitems: null\n"
    )
    assert [(str(item.ref), item.source) for item in made.objects] == [
        ("Node/a", "<stdin>:4"),
        ("Node/b", "<stdin>:7"),
    ]


def test_unknown_fields_are_kept_and_the_namespace_filled_in() -> None:
    raw: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "finalizers": ["a/b"]},
        "spec": {"ports": [{"port": 80, "appProtocol": "http"}], "novelty": {"x": [1]}},
        "status": {"loadBalancer": {}},
    }
    made = parse_object(raw, namespace="team", source="here")
    assert made.raw == {**raw, "metadata": {"name": "web", "finalizers": ["a/b"], "namespace": "team"}}
    assert "namespace" not in raw["metadata"]
    assert (made.namespace, str(made.ref), made.source) == ("team", "Service/team/web", "here")
    assert parse_object(made.raw).raw == made.raw


def test_unknown_kinds_are_skipped_with_a_warning() -> None:
    made = read(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: team}\n---\n"
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\n---\n"
        "kind: DeploymentList\nitems: [5]\n---\nkind: 'X\\'\n"
    )
    assert made.objects == ()
    assert made.warnings == (
        "<stdin>:1: Deployment/team/web: kind Deployment is not used here; skipped",
        "<stdin>:5: Service/default/web: a Service of serving.knative.dev is not one of Kubernetes' own; skipped",
        "<stdin>:9: DeploymentList/default: kind DeploymentList is not used here; skipped",
        "<stdin>:12: X\\/default: kind X\\ is not used here; skipped",
    )


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ("", 0),
        ("sessionAffinity: None", 0),
        ("sessionAffinity: null, sessionAffinityConfig: {}", 0),
        ("sessionAffinity: ClientIP", 10800),
        ("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: null}}", 10800),
        ("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}", 1),
        ("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}", 86400),
    ],
)
def test_session_affinity_lasts_as_long_as_the_api_has_it(spec: str, seconds: int) -> None:
    assert service(f"ports: [{{port: 80}}], {spec}").session_affinity_seconds == seconds


@pytest.mark.parametrize(
    ("given", "networks"),
    [
        ("[]", []),
        ("null", []),
        ("[10.0.0.0/8, 'fd00::/8']", ["10.0.0.0/8", "fd00::/8"]),
        ("[' 192.0.2.0/24 ', '10.0.0.1/8  ', 10.0.0.0/8, 192.0.2.9/24]", ["192.0.2.0/24", "10.0.0.0/8"]),
    ],
)
def test_a_load_balancer_serves_its_addresses_to_its_source_ranges(given: str, networks: list[str]) -> None:
    value = value_of(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
        f"spec: {{type: LoadBalancer, ports: [{{port: 80}}], loadBalancerSourceRanges: {given}}}\n"
        "status: {loadBalancer: {ingress: [{ip: 192.0.2.9}, {ip: 'fd00::9', ipMode: VIP}, "
        "{ip: 192.0.2.10, ipMode: Proxy}, {hostname: lb.example}]}}\n"
    )
    assert isinstance(value, Service)
    assert [str(network) for network in value.load_balancer_source_ranges] == networks
    assert value.load_balancer_ips == (IPv4Address("192.0.2.9"), IPv6Address("fd00::9"))
    assert value.node_port_source_ranges == ()


def test_fields_that_are_acted_on_bring_no_warning() -> None:
    made = read(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: 80}]\n"
        "  type: LoadBalancer\n  publishNotReadyAddresses: true\n  sessionAffinity: ClientIP\n"
        "  loadBalancerSourceRanges: [10.0.0.0/8]\n  trafficDistribution: PreferClose\n"
    )
    assert made.warnings == ()


def test_services_of_one_name_in_two_namespaces_are_two() -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: web%s}\nspec: {ports: [{port: 80}]}\n---\n"
    made = read(text % "" + text % ", namespace: other", namespace="team")
    assert [str(item.ref) for item in made.objects] == ["Service/team/web", "Service/other/web"]
