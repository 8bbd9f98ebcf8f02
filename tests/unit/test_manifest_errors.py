"""Bad documents and what is said about them: place, object, field, what is wrong, remedy."""

from __future__ import annotations

import io
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from nodeport_nft.manifest import Problem, Problems, parse_object, read_manifests
from nodeport_nft.model import Ranges
from nodeport_nft.problems import MOST_TOLD, Tally, counted


def problems_of(text: str | bytes, *, ranges: Ranges | None = None, limit: int = 1 << 20) -> list[str]:
    """What reading ``text`` from standard input complains of, without the file's name."""
    content = text.encode() if isinstance(text, str) else text
    try:
        read_manifests(["-"], ranges=ranges or Ranges(), stdin=io.BytesIO(content), max_document_bytes=limit)
    except Problems as error:
        return [line.removeprefix("<stdin>:") for line in str(error).splitlines()]
    return []


def service(spec: str, name: str = "web") -> str:
    """A Service on four lines, and then ``spec``, whose first line is therefore the fifth."""
    head = f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n"
    return head + "".join(f"  {line}\n" for line in spec.splitlines())


SERVICES = {
    "no ports": (
        "type: NodePort",
        "4: Service/default/web: spec.ports: a NodePort service needs at least one port; "
        "give it one, or clusterIP: None",
    ),
    "empty ports": ("type: LoadBalancer\nports: []", "6: …spec.ports: a LoadBalancer service needs at least"),
    "port 0": ("ports:\n- port: 0", "6: …spec.ports[0].port: 0 is outside 1-65535; choose a port"),
    "port 65536": ("ports:\n- {port: 65536}", "6: …spec.ports[0].port: 65536 is outside 1-65535"),
    "negative port": ("ports:\n- port: -1", "6: …spec.ports[0].port: -1 is outside 1-65535"),
    "huge port": (f"ports:\n- port: 1{'0' * 100}", "6: …spec.ports[0].port: a huge number is outside 1-65535"),
    "no port": ("ports:\n- name: http", "6: …spec.ports[0].port: is missing; give a port number, 1-65535"),
    "bool port": ("ports:\n- port: true", "6: …spec.ports[0].port: true is not a whole number"),
    "float port": ("ports:\n- port: 80.0", "6: …spec.ports[0].port: 80.0 is not a whole number"),
    "quoted port": (
        'ports:\n- port: "80"',
        '6: …spec.ports[0].port: "80" is a string, not a number; leave out the quotes',
    ),
    "ports a string": (
        "ports: http",
        '5: …spec.ports: "http" stands where a list belongs; begin each item with "- "',
    ),
    "ports a mapping": ("ports: {port: 80}", "5: …spec.ports: a mapping stands where a list belongs"),
    "port a number": ("ports:\n- 80", "6: …spec.ports[0]: 80 stands where a mapping belongs"),
    "protocol": (
        "ports:\n- port: 80\n  protocol: ICMP",
        '7: …spec.ports[0].protocol: "ICMP" is unknown; use TCP or UDP or SCTP',
    ),
    "protocol case": ("ports:\n- port: 80\n  protocol: tcp", '7: …spec.ports[0].protocol: "tcp" is unknown'),
    "port name": (
        "ports:\n- {port: 80, name: Http_}",
        '6: …spec.ports[0].name: "Http_" is not an RFC 1123 label; use at most 63 characters',
    ),
    "long port name": (f"ports:\n- {{port: 80, name: {'a' * 64}}}", "6: …spec.ports[0].name: "),
    "several ports without names": (
        "ports:\n- {port: 80, name: a}\n- {port: 81}",
        "7: …spec.ports[1].name: is missing; name every port of a service that has several",
    ),
    "duplicate port names": (
        "ports:\n- {port: 80, name: a}\n- {port: 81, name: a}",
        '7: …spec.ports[1].name: "a" is that of ports[0] already; give each port its own name',
    ),
    "duplicate port numbers": (
        "ports:\n- {port: 80, name: a}\n- {port: 80, name: b}",
        "7: …spec.ports[1].port: 80/TCP is that of ports[0] already; leave one of them out",
    ),
    "targetPort name": (
        "ports:\n- {port: 80, targetPort: much-too-long-a-name}",
        '6: …spec.ports[0].targetPort: "much-too-long-a-name" is not a port name (IANA_SVC_NAME)',
    ),
    "targetPort number": ("ports:\n- {port: 80, targetPort: 70000}", "6: …spec.ports[0].targetPort: 70000 is outs"),
    "quoted targetPort": (
        "ports:\n- {port: 80, targetPort: '80'}",
        '6: …spec.ports[0].targetPort: "80" is a string, not a number; leave out the quotes',
    ),
    "nodePort outside": (
        "type: NodePort\nports:\n- port: 80\n  nodePort: 99",
        "8: …spec.ports[0].nodePort: 99 is outside the nodePort range 30000-32767; choose one inside, or leave",
    ),
    "nodePort of a ClusterIP": (
        "ports:\n- {port: 80, nodePort: 30080}",
        "6: …spec.ports[0].nodePort: 30080 may not be set on a service of type ClusterIP; leave it out",
    ),
    "nodePort twice in one service": (
        "type: NodePort\nports:\n- {port: 80, nodePort: 30080, name: a}\n- {port: 81, nodePort: 30080, name: b}",
        "8: …spec.ports[1].nodePort: 30080/TCP is that of ports[0] already; choose another for one of them",
    ),
    "type": ("type: nodeport\nports: [{port: 80}]", '5: …spec.type: "nodeport" is unknown; use ClusterIP or NodePo'),
    "clusterIP outside": (
        "clusterIP: 10.0.0.1\nports: [{port: 80}]",
        "5: …spec.clusterIP: 10.0.0.1 is outside the service CIDR 10.96.0.0/12; choose one inside, leave it "
        "out, or configure --service-cidr 10.0.0.0/16 (key serviceCIDRs)",
    ),
    "clusterIP network": (
        "clusterIP: 10.96.0.0\nports: [{port: 80}]",
        "5: …spec.clusterIP: 10.96.0.0 is the network address of the service CIDR 10.96.0.0/12; choose another",
    ),
    "clusterIP broadcast": ("clusterIP: 10.111.255.255\nports: [{port: 80}]", "5: …is the broadcast address"),
    "clusterIP text": (
        "clusterIP: none\nports: [{port: 80}]",
        '5: …spec.clusterIP: "none" is not an IP address; write it as 10.0.0.1 or fd00::1',
    ),
    "leading zeros": (
        "clusterIP: 10.096.0.1\nports: [{port: 80}]",
        '5: …spec.clusterIP: "10.096.0.1" has leading zeros, which read as octal; leave them out',
    ),
    "IPv4-mapped": (
        "clusterIP: '::ffff:10.96.0.1'\nports: [{port: 80}]",
        '5: …spec.clusterIP: "::ffff:10.96.0.1" is an IPv4-mapped IPv6 address; write 10.96.0.1',
    ),
    "zone": (
        "clusterIP: 'fd00:10:96::1%eth0'\nports: [{port: 80}]",
        "5: …has a zone; leave out what follows the '%'",
    ),
    "clusterIPs disagree": (
        "clusterIP: 10.96.0.1\nclusterIPs: [10.96.0.2]\nports: [{port: 80}]",
        '6: …spec.clusterIPs: the first is not the clusterIP "10.96.0.1"; make them equal, or leave one out '
        "(neither changes while the Service exists)",
    ),
    "two of one family": (
        "clusterIPs: [10.96.0.1, 10.96.0.2]\nports: [{port: 80}]",
        "5: …spec.clusterIPs[1]: 10.96.0.2 is a second IPv4 address; give one of each family at most",
    ),
    "three clusterIPs": (
        "clusterIPs: [10.96.0.1, 'fd00:10:96::1', 10.96.0.2]\nports: [{port: 80}]",
        "5: …spec.clusterIPs: has more than two addresses",
    ),
    "wrong family": (
        "clusterIP: 10.96.0.1\nipFamilies: [IPv6]\nports: [{port: 80}]",
        "5: …spec.clusterIP: 10.96.0.1 is not an IPv6 address, which ipFamilies[0] says it is; change one",
    ),
    "unknown family": (
        "ipFamilies: [ipv4]\nports: [{port: 80}]",
        '5: …spec.ipFamilies[0]: "ipv4" is unknown; use IPv4',
    ),
    "a family twice": ("ipFamilies: [IPv4, IPv4]\nports: [{port: 80}]", "5: …IPv4 is given twice; leave one out"),
    "family policy": (
        "ipFamilyPolicy: Dual\nports: [{port: 80}]",
        '5: …spec.ipFamilyPolicy: "Dual" is unknown; use S',
    ),
    "single stack of two": (
        "ipFamilyPolicy: SingleStack\nipFamilies: [IPv4, IPv6]\nports: [{port: 80}]",
        "5: …spec.ipFamilyPolicy: SingleStack contradicts the two families given; use PreferDualStack",
    ),
    "headless NodePort": (
        "type: NodePort\nclusterIP: None\nports: [{port: 80}]",
        "6: …spec.clusterIP: None may not be set on a service of type NodePort; leave it out",
    ),
    "None and more": (
        "clusterIPs: [None, 10.96.0.1]\nports: [{port: 80}]",
        "5: …spec.clusterIPs[0]: None stands for no address at all; leave out the others",
    ),
    "ExternalName without": (
        "type: ExternalName",
        "4: …spec.externalName: is missing; give the DNS name the service stands for",
    ),
    "ExternalName wrong": (
        "type: ExternalName\nexternalName: a_b",
        '6: …spec.externalName: "a_b" is not an RFC 1123',
    ),
    "ExternalName with an address": (
        "type: ExternalName\nexternalName: a.example\nclusterIP: 10.96.0.1",
        "7: …spec.clusterIP: may not be set on a service of type ExternalName; leave it out",
    ),
    "external policy": (
        "externalTrafficPolicy: Local\nports: [{port: 80}]",
        "5: …spec.externalTrafficPolicy: may not be set on a service of type ClusterIP without externalIPs",
    ),
    "external policy value": (
        "type: NodePort\nexternalTrafficPolicy: local\nports: [{port: 80}]",
        '6: …spec.externalTrafficPolicy: "local" is unknown; use Cluster or Local',
    ),
    "internal policy value": (
        "internalTrafficPolicy: L\nports: [{port: 80}]",
        '5: …spec.internalTrafficPolicy: "L" is',
    ),
    "allocateLoadBalancerNodePorts": (
        "type: NodePort\nallocateLoadBalancerNodePorts: false\nports: [{port: 80}]",
        "6: …spec.allocateLoadBalancerNodePorts: is for type LoadBalancer only, not NodePort; leave it out",
    ),
    "allocateLoadBalancerNodePorts text": (
        "type: LoadBalancer\nallocateLoadBalancerNodePorts: 'no'\nports: [{port: 80}]",
        '6: …spec.allocateLoadBalancerNodePorts: "no" is not a boolean; write true or false without quotes',
    ),
    "healthCheckNodePort": (
        "type: NodePort\nhealthCheckNodePort: 30001\nports: [{port: 80}]",
        "6: …spec.healthCheckNodePort: is for type LoadBalancer with externalTrafficPolicy: Local only",
    ),
    "healthCheckNodePort range": (
        "type: LoadBalancer\nexternalTrafficPolicy: Local\nhealthCheckNodePort: 1\nports: [{port: 80}]",
        "7: …spec.healthCheckNodePort: 1 is outside the nodePort range 30000-32767",
    ),
    "healthCheckNodePort is a nodePort": (
        "type: LoadBalancer\nexternalTrafficPolicy: Local\nhealthCheckNodePort: 30001\n"
        "ports: [{port: 80, nodePort: 30001}]",
        "7: …spec.healthCheckNodePort: 30001 is a nodePort of this service already; choose another",
    ),
    "externalIPs": (
        "externalIPs: [127.0.0.1]\nports: [{port: 80}]",
        "5: …spec.externalIPs[0]: 127.0.0.1 is a loopback",
    ),
    "source ranges": (
        "type: LoadBalancer\nloadBalancerSourceRanges: [10.0.0.0]\nports: [{port: 80}]",
        '6: …spec.loadBalancerSourceRanges[0]: "10.0.0.0" has no prefix length; write 10.0.0.0/8 (or 10.0.0.0/32 ',
    ),
    "an empty source range": (
        "type: LoadBalancer\nloadBalancerSourceRanges: ['']\nports: [{port: 80}]",
        '6: …spec.loadBalancerSourceRanges[0]: "" is not an IP address; write it as 10.0.0.1 or fd00::1',
    ),
    "a null source range": (
        "type: LoadBalancer\nloadBalancerSourceRanges:\n- 10.0.0.0/8\n-\nports: [{port: 80}]",
        "8: …spec.loadBalancerSourceRanges[1]: null is null, not a string; put it in quotes",
    ),
    "source ranges as text": (
        "type: LoadBalancer\nloadBalancerSourceRanges: 10.0.0.0/8\nports: [{port: 80}]",
        '6: …spec.loadBalancerSourceRanges: "10.0.0.0/8" stands where a list belongs; begin each item with "- "',
    ),
    "empty source ranges as text": (
        "type: LoadBalancer\nloadBalancerSourceRanges: ''\nports: [{port: 80}]",
        '6: …spec.loadBalancerSourceRanges: "" stands where a list belongs',
    ),
    "source ranges without a load balancer": (
        "type: NodePort\nloadBalancerSourceRanges: [10.0.0.0/8]\nports: [{port: 80}]",
        "6: …spec.loadBalancerSourceRanges: is for type LoadBalancer only, not NodePort",
    ),
    "affinity timeout": (
        "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}\nports: [{port: 80}]",
        "6: …spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is outside 1-86400",
    ),
    "affinity timeout 0": (
        "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}\nports: [{port: 80}]",
        "6: …spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is outside 1-86400; give a number of seconds",
    ),
    "affinity": (
        "sessionAffinity: clientIP\nports: [{port: 80}]",
        '5: …spec.sessionAffinity: "clientIP" is unknown; use None or ClientIP',
    ),
    "selector": (
        "selector: {app: 1}\nports: [{port: 80}]",
        "5: …spec.selector.app: 1 is a number, not a string; put",
    ),
    "selector a list": (
        "selector: [a]\nports: [{port: 80}]",
        "5: …spec.selector: a list stands where a mapping belo",
    ),
    "selector odd key": (
        "selector:\n  k8s.io/app: true\nports: [{port: 80}]",
        '6: …spec.selector["k8s.io/app"]: true is a boolean, not a string; put it in quotes',
    ),
}


def matches(line: str, expected: str) -> bool:
    """Whether ``line`` begins as ``expected``, in which an ellipsis stands for anything."""
    start, dots, rest = expected.partition("…")
    return line.startswith(start) and (rest in line[len(start) :] if dots else True)


@pytest.mark.proves("E8")
@pytest.mark.parametrize(("spec", "expected"), SERVICES.values(), ids=SERVICES)
def test_a_wrong_service_is_told_its_line_its_field_and_the_remedy(spec: str, expected: str) -> None:
    problems = problems_of(service(spec))
    assert len(problems) == 1
    assert matches(problems[0], expected), problems[0]


SLICE = """apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: %s
ports: [{name: http, port: 80}]
endpoints:
- addresses: [%s]
"""
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1}\n"
NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: worker-1}\n"
ENDPOINTS = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\nsubsets:\n"
PORT = "spec: {ports: [{port: 80}]}\n"

OTHERS = {
    "service name": (
        service("ports: [{port: 80}]", "Web_1"),
        '3: Service/default/Web_1: metadata.name: "Web_1" is not an RFC 1123 label; use at most 63 characters',
    ),
    "long service name": (service("ports: [{port: 80}]", "a" * 64), "3: …is not an RFC 1123 label"),
    "name a number": (
        service("ports: [{port: 80}]", "12"),
        "3: …metadata.name: 12 is a number, not a string; put it in",
    ),
    "no name": (
        "apiVersion: v1\nkind: Service\nmetadata: {}\n" + PORT,
        "3: Service/default: metadata.name: is missing; name the object",
    ),
    "no metadata": ("apiVersion: v1\nkind: Service\n" + PORT, "1: Service/default: metadata.name: is missing"),
    "metadata a list": (
        "apiVersion: v1\nkind: Service\nmetadata: [a]\n" + PORT,
        "3: Service/default: metadata: a list stands where a mapping belongs",
    ),
    "namespace": (
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: a.b\n" + PORT,
        '5: Service/a.b/web: metadata.namespace: "a.b" is not an RFC 1123 label',
    ),
    "label a number": (
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    a: b\n    v: 1.5\n" + PORT,
        "7: Service/default/web: metadata.labels.v: 1.5 is a number, not a string; put it in quotes",
    ),
    "annotation a mapping": (
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations: {a: {}}\n" + PORT,
        "5: …metadata.annotations.a: an empty mapping stands where a string belongs",
    ),
    "creationTimestamp": (
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  creationTimestamp: 2026-02-30T00:00:00Z\n" + PORT,
        '5: …metadata.creationTimestamp: "2026-02-30T00:00:00Z" is not an RFC 3339 time; write 2026-01-31T12',
    ),
    "no kind": (
        "apiVersion: v1\nmetadata: {name: web}",
        "1: kind: is missing; say what the object is, as kind: Service",
    ),
    "kind a number": ("apiVersion: v1\nkind: 5", "2: …kind: 5 is a number, not a string; put it in quotes"),
    "kind's case": ("apiVersion: v1\nkind: service\n", '2: …kind: "service" is unknown; write Service'),
    "no apiVersion": (
        "kind: Service\nmetadata: {name: web}\n" + PORT,
        "1: …apiVersion: is missing; write apiVersion: v1",
    ),
    "wrong apiVersion": (
        "apiVersion: apps/v1\nkind: Service\nmetadata: {name: web}\n" + PORT,
        '1: Service/default/web: apiVersion: "apps/v1" has no Service for us; write v1',
    ),
    "old apiVersion": (
        (SLICE % ("IPv4", "10.1.0.1")).replace("k8s.io/v1", "k8s.io/v1beta1"),
        '1: EndpointSlice/default/web-1: apiVersion: "discovery.k8s.io/v1beta1" has no EndpointSlice for us; write',
    ),
    "text": (
        "Hello, world",
        '1: "Hello, world" is not an object; write a mapping with apiVersion, kind and metadata',
    ),
    "JSON list": ('[{"kind": "Service"}]', "1: a list is not an object; write a mapping"),
    "List without items": ("apiVersion: v1\nkind: List\n", '1: items: is not a list; write "items:" and the objects'),
    "List of a number": ("kind: List\nitems:\n- 5\n", "3: 5 is not an object"),
    "no addressType": (
        (SLICE % ("", "10.1.0.1")),
        "4: EndpointSlice/default/web-1: addressType: is missing; use IPv4 or IPv6",
    ),
    "addressType": (SLICE % ("IP", "10.1.0.1"), '4: …addressType: "IP" is unknown; use IPv4 or IPv6 or FQDN'),
    "wrong family": (
        SLICE % ("IPv6", "10.1.0.1"),
        "7: …endpoints[0].addresses[0]: 10.1.0.1 is not an IPv6 address, as addressType says; make a slice for each",
    ),
    "no address": (SLICE % ("IPv4", ""), "7: …endpoints[0].addresses: is missing; give the endpoint's address"),
    "second address": (SLICE % ("IPv4", "10.1.0.1, x"), '7: …endpoints[0].addresses[1]: "x" is not an IP address'),
    "leading zeros": (SLICE % ("IPv4", "10.01.0.1"), '7: …"10.01.0.1" has leading zeros'),
    "loopback": (
        SLICE % ("IPv4", "127.0.0.1"),
        "7: …127.0.0.1 is a loopback address; give one that every node can r",
    ),
    "loopback 6": (SLICE % ("IPv6", "'::1'"), "7: …::1 is a loopback address"),
    "link-local": (SLICE % ("IPv4", "169.254.169.254"), "7: …169.254.169.254 is a link-local address"),
    "link-local 6": (SLICE % ("IPv6", "'fe80::1'"), "7: …fe80::1 is a link-local address"),
    "link-local multicast": (SLICE % ("IPv4", "224.0.0.255"), "7: …224.0.0.255 is a link-local multicast address"),
    "link-local multicast 6": (SLICE % ("IPv6", "'ff12::1'"), "7: …ff12::1 is a link-local multicast address"),
    "unspecified": (SLICE % ("IPv4", "0.0.0.0"), "7: …0.0.0.0 is the unspecified address"),
    "condition": (
        SLICE % ("IPv4", "10.1.0.1") + "  conditions:\n    ready: 'yes'\n",
        '9: …endpoints[0].conditions.ready: "yes" is not a boolean; write true or false without quotes',
    ),
    "slice port names": (
        (SLICE % ("IPv4", "10.1.0.1")).replace("{name: http, port: 80}", "{port: 80}, {port: 81}"),
        "5: …ports[1].name: is missing on more than one port; give each port its own name",
    ),
    "slice port names twice": (
        (SLICE % ("IPv4", "10.1.0.1")).replace("80}", "80}, {name: http, port: 81}"),
        '5: …ports[1].name: "http" is given twice; give each port its own name',
    ),
    "endpoints ip": (
        ENDPOINTS + "- addresses:\n  - ip: 127.0.0.1\n",
        "6: Endpoints/default/web: subsets[0].addresses[0].ip: 127.0.0.1 is a loopback address",
    ),
    "endpoints without ip": (
        ENDPOINTS + "- notReadyAddresses:\n  - hostname: a\n",
        "6: …subsets[0].notReadyAddresses[0].ip: is missing; give the endpoint's address",
    ),
    "pod name": (
        POD.replace("web-1", "web_1"),
        '3: Pod/default/web_1: metadata.name: "web_1" is not an RFC 1123 subdomain',
    ),
    "pod condition": (
        POD + "status:\n  conditions:\n  - type: Ready\n    status: True\n",
        "7: …status.conditions[0].status: true is a boolean, not a string; put it in quotes",
    ),
    "container port": (
        POD + "spec:\n  containers:\n  - ports:\n    - name: http\n      containerPort: 0\n",
        "8: …spec.containers[0].ports[0].containerPort: 0 is outside 1-65535",
    ),
    "container port name": (
        POD + "spec:\n  containers:\n  - ports:\n    - name: this-is-too-long\n      containerPort: 1\n",
        '7: …spec.containers[0].ports[0].name: "this-is-too-long" is not a port name (IANA_SVC_NAME); use at most',
    ),
    "container port name without a letter": (
        POD + "spec:\n  containers:\n  - ports:\n    - {name: '80', containerPort: 80}\n",
        '7: …spec.containers[0].ports[0].name: "80" is not a port name',
    ),
    "container port names": (
        POD
        + "spec:\n  containers:\n  - ports:\n    - {name: a, containerPort: 1}\n    - {name: a, containerPort: 2}\n",
        '8: …spec.containers[0].ports[1].name: "a" is given twice in one container; rename one',
    ),
    "node pod CIDR": (
        NODE + "spec:\n  podCIDRs:\n  - 10.1.1.1/24\n",
        '6: Node/worker-1: spec.podCIDRs[0]: "10.1.1.1/24" has bits set behind its prefix; write 10.1.1.0/24',
    ),
    "node pod CIDR netmask": (NODE + "spec: {podCIDR: 10.0.0.0/255.0.0.0}", '4: …"10.0.0.0/255.0.0.0" is not a CIDR'),
}


@pytest.mark.proves("E8")
@pytest.mark.parametrize(("text", "expected"), OTHERS.values(), ids=OTHERS)
def test_a_wrong_object_is_told_its_line_its_field_and_the_remedy(text: str, expected: str) -> None:
    problems = problems_of(text)
    assert len(problems) == 1, problems
    assert matches(problems[0], expected), problems[0]


def test_every_problem_of_every_file_comes_out_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [1,\n---\n" + service("type: X\nports: []"))
    (tmp_path / "b.json").write_text('{"kind": "Service",\n"apiVersion": "v1",\n"metadata": {"name":\n"B"}}')
    (tmp_path / "c.yml").write_bytes(b"\n\xff\xfe")
    (tmp_path / "d.yaml").write_text(service("ports: [{port: 80}]", "good"))
    missing = str(tmp_path / "missing.yaml")
    with pytest.raises(Problems) as caught:
        read_manifests([missing, str(tmp_path)], ranges=Ranges())
    lines = [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]
    assert [line.split(": ")[0] for line in lines] == [
        "missing.yaml", "a.yaml:2", "a.yaml:7", "a.yaml:8", "b.json:1", "b.json:3", "c.yml:2",
    ]  # fmt: skip
    assert "No such file" in lines[0]
    assert "byte 0xff is not UTF-8" in lines[-1]
    assert len(caught.value.problems) == len(lines)


def test_objects_that_conflict_name_both_places(tmp_path: Path) -> None:
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    spec = "type: NodePort\nclusterIP: 10.96.0.9\nports:\n- {port: 80, nodePort: 30080}"
    one.write_text(service(spec, "api"))
    two.write_text(service(spec) + "---\n" + service("ports: [{port: 80}]", "api"))
    with pytest.raises(Problems) as caught:
        read_manifests([str(one), str(two)], ranges=Ranges())
    assert str(caught.value).splitlines() == [
        f"{two}:6: Service/default/web: spec.clusterIP: 10.96.0.9 is asked for by Service/default/api at {one}:1 "
        "too; choose another, or leave it out",
        f"{two}:8: Service/default/web: spec.ports[0].nodePort: 30080 is asked for by Service/default/api at "
        f"{one}:1 too; choose another, or leave it out",
        f"{two}:12: Service/default/api: metadata.name: api is given twice, first at {one}:1; remove one",
    ]


def test_an_object_in_a_json_list_is_told_its_own_line() -> None:
    text = '{"kind": "List", "items": [\n{"kind": "Node", "apiVersion": "v1",\n\t"metadata": {"name": "A"}}]}'
    assert problems_of(text)[0].startswith("3: Node/A: metadata.name: ")


def test_families_without_a_service_cidr_are_refused() -> None:
    ranges = Ranges(service_cidrs=(IPv4Network("10.96.0.0/12"),))
    port = "\nports: [{port: 80}]"
    for spec, expected in (
        (
            "clusterIP: 'fd00::1'",
            "spec.clusterIP: fd00::1 cannot be served: there is no IPv6 service CIDR; configure",
        ),
        ("ipFamilies: [IPv6]", "spec.ipFamilies[0]: there is no IPv6 service CIDR; configure one, or leave it out"),
        ("ipFamilyPolicy: RequireDualStack", "spec.ipFamilyPolicy: RequireDualStack needs service CIDRs of both"),
    ):
        (problem,) = problems_of(service(spec + port), ranges=ranges)
        assert expected in problem
    assert problems_of(service("clusterIP: None\nipFamilies: [IPv6]"), ranges=ranges) == []


def test_an_object_out_of_a_store_is_not_held_against_the_ranges() -> None:
    raw = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "clusterIP": "192.0.2.1", "ports": [{"port": 80, "nodePort": 99}]},
    }
    assert str(parse_object(raw).ref) == "Service/default/web"
    with pytest.raises(Problems) as caught:
        parse_object(raw, ranges=Ranges(), source="store")
    assert [problem.field for problem in caught.value.problems] == ["spec.clusterIP", "spec.ports[0].nodePort"]
    assert str(caught.value).startswith("store: Service/default/web: spec.clusterIP: 192.0.2.1 is outside")


def test_a_problem_is_one_printable_line_whatever_is_in_it() -> None:
    problem = Problem("a\x1b[2J.yaml:1", "Service/default/\u202eweb", "", "first\nsecond\u2028third\ud800 ü")
    assert str(problem) == "a\ufffd[2J.yaml:1: Service/default/\ufffdweb: first\ufffdsecond\ufffdthird\ufffd ü"
    spaces = Problem("a", "Service/default/\xa0web\u3000", "", "a \u2003b")
    assert str(spaces) == "a: Service/default/\ufffdweb\ufffd: a \ufffdb"
    (line,) = problems_of(service("ports: [{port: 80}]", '"\\e]0;title\\a' + "x" * 10_000 + '"'))
    assert line.isprintable()
    assert len(line) < 500


MANY = 3000
MANY_MISTAKES = {
    "items of one list": (service("ports: [" + "1," * MANY + "1]"), "Service/default/web", MANY + 1),
    "fields of many items": (
        service("ports:\n" + "".join(f"- {{name: P{n}, port: {n + 1}}}\n" for n in range(MANY))),
        "Service/default/web",
        MANY,
    ),
    "keys of one mapping": (
        service("selector:\n" + "".join(f"  k{n}: [{n}]\n" for n in range(MANY)) + "ports: [{port: 80}]"),
        "Service/default/web",
        MANY,
    ),
    "numbers asked for twice": (
        service("type: NodePort\nports:\n" + "".join(f"- {{name: p{n}, port: 80}}\n" for n in range(MANY + 1))),
        "Service/default/web",
        MANY,
    ),
    "items that are no objects": ("kind: List\nitems: [" + "1," * (MANY - 1) + "1]\n", "", MANY),
    "documents that are no objects": ("---\n1\n" * MANY, "", MANY),
    "one object, again and again": (
        "---\n".join([service("ports: [{port: 80}]")] * (MANY // 10 + 1)),
        "Service/default/web",
        MANY // 10,
    ),
}


@pytest.mark.parametrize("case", MANY_MISTAKES)
def test_mistakes_of_a_kind_in_one_object_are_told_ten_times_and_counted(case: str) -> None:
    """Two megabytes hold a million of them, and a message of each would be a gigabyte."""
    text, where, count = MANY_MISTAKES[case]
    problems = problems_of(text)
    assert len(problems) == MOST_TOLD + 1
    assert problems[-1].endswith(f": … and {count - MOST_TOLD:,} more of this kind{f' in {where}' * bool(where)}")
    assert problems[-1].partition(":")[0].isdecimal()  # the line of the first that is not told
    lines = [int(problem.partition(":")[0]) for problem in problems]
    assert lines == sorted(lines)


def test_each_object_and_each_kind_has_its_own_ten() -> None:
    wrong = "ports:\n" + "- {port: 0}\n" * 20 + "- {port: yes}\n" * 20
    problems = problems_of(service(wrong, "one") + "---\n" + service(wrong, "two"))
    for name in ("one", "two"):
        own = [problem for problem in problems if f"/{name}" in problem]
        for words, least in (("is outside", MOST_TOLD), ("is not a whole number", MOST_TOLD), ("is missing", 0)):
            assert sum(words in problem for problem in own) >= least
        assert sum("more of this kind" in problem for problem in own) == 3  # their names are missing, too


def test_nothing_is_counted_that_can_be_told() -> None:
    problems = problems_of(service("ports: [" + "1," * (MOST_TOLD - 1) + "1]"))
    assert len(problems) == MOST_TOLD
    assert not any("more of this kind" in problem for problem in problems)


def test_what_is_found_of_an_author_with_many_words_is_bounded_too() -> None:
    """Where each message has another word of the author's in it, they look like as many kinds."""
    tally: Tally[int] = Tally()
    for n in range(10_000):
        tally.add("Service/default/web", f"the word {'x' * (n % 5_000)} is wrong", n)
    told = list(tally)
    assert len(told) < 1200
    assert sum(more or 1 for _, _, more in told) == 10_000
    assert [number for _, number, _ in told] == sorted(number for _, number, _ in told)


def test_tallies_of_tallies_add_up() -> None:
    """A file's objects are tallied one by one, and then together: a count that is passed on stays one."""
    tally: Tally[str] = Tally()
    for _ in range(3):
        tally.add("a", "1 is wrong", "told", 0)
        tally.add("a", "2 is wrong", "summed up", 40)
    assert list(tally) == [("a", "told", 0), ("a", "summed up", 122)]
    assert counted([("a", f"{n} is wrong") for n in range(12)])[-1] == "… and 2 more of this kind in a"


def test_a_count_keeps_its_object_and_tells_its_place() -> None:
    with pytest.raises(Problems) as caught:
        parse_object({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {"ports": [1] * 30}})
    last = caught.value.problems[-1]
    assert (last.object, last.field, last.more) == ("Service/default/a", "spec.ports[10]", 20)
    assert str(last) == "… and 20 more of this kind in Service/default/a"
