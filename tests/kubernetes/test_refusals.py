"""What the tests' API server takes and refuses: each row as a real one (v1.36) was seen to answer it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubernetes.asking import ask
from tests.kubernetes.recorded import Answer
from tests.kubernetes.running import ApiServer, apiserver

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"

PORT = {"name": "h", "port": 80}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with apiserver(tmp_path_factory.mktemp("refusals"), service_cidrs=("10.96.0.0/16", "fd00:10:96::/112")) as one:
        yield one


def told(answer: Answer) -> list[str]:
    causes = (answer.value.get("details") or {}).get("causes") or []
    return [cause.get("field", "") for cause in causes]


NODE_PORT = {"type": "NodePort"}
BALANCER = {"type": "LoadBalancer"}
LOCAL = {"externalTrafficPolicy": "Local"}


@pytest.mark.parametrize(
    ("spec", "status", "fields"),
    [
        ({"ports": []}, 422, ["spec.ports"]),
        ({"type": "Foo"}, 422, ["spec.type"]),
        (LOCAL, 422, ["spec.externalTrafficPolicy"]),
        ({**LOCAL, "externalIPs": ["10.0.0.1"]}, 201, []),
        ({**NODE_PORT, "externalTrafficPolicy": "Foo"}, 422, ["spec.externalTrafficPolicy"]),
        ({"internalTrafficPolicy": "Foo"}, 422, ["spec.internalTrafficPolicy"]),
        ({"trafficDistribution": "Foo"}, 422, ["spec.trafficDistribution"]),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}, 422,
         ["spec.sessionAffinityConfig.clientIP.timeoutSeconds"]),
        ({"externalIPs": ["127.0.0.1", "x", "10.1.1.1", "0.0.0.0", "169.254.1.1", "fe80::1", "010.1.1.1"]}, 422,
         [f"spec.externalIPs[{index}]" for index in (0, 1, 3, 4, 5, 6)]),
        ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, 422, ["spec.LoadBalancerSourceRanges"]),
        ({**BALANCER, "loadBalancerSourceRanges": ["1.2.3.4/33", " 10.0.0.0/8 "]}, 422,
         ["spec.LoadBalancerSourceRanges[0]"]),
        ({"allocateLoadBalancerNodePorts": True}, 422, ["spec.allocateLoadBalancerNodePorts"]),
        ({"loadBalancerClass": "x.io/y"}, 422, ["spec.loadBalancerClass"]),
        ({**NODE_PORT, "healthCheckNodePort": 31234}, 422, ["spec.healthCheckNodePort"]),
        ({**BALANCER, **LOCAL, "healthCheckNodePort": 99}, 500, [""]),
        ({"ports": [{"port": 80, "nodePort": 31111}]}, 422, ["spec.ports[0].nodePort"]),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}, 422, ["spec.ports[1].name"]),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}, 422, ["spec.ports[1]"]),
        ({**NODE_PORT, "ports": [{**PORT, "nodePort": 31112}, {"port": 81, "name": "b", "nodePort": 31112}]},
         422, ["spec.ports[1].nodePort"]),
        ({"ports": [{"port": 80, "targetPort": "80"}]}, 422, ["spec.ports[0].targetPort"]),
        ({"ports": [{"port": 80, "targetPort": "UPPER_toolongtoolong"}]}, 422, ["spec.ports[0].targetPort"] * 2),
        ({**NODE_PORT, "clusterIP": "None"}, 422, ["spec.clusterIPs[0]"]),
        ({"clusterIP": "x"}, 422, ["spec.clusterIPs[0]"]),
        ({"clusterIP": "10.96.5.5", "clusterIPs": ["10.96.5.6"]}, 422, ["spec.clusterIPs"]),
        ({"clusterIPs": ["10.96.5.5", "fd00:10:96::5"]}, 422, ["spec.clusterIPs"]),
        ({"clusterIP": "10.96.9.5", "clusterIPs": ["10.96.9.5", "fd00:10:96::5"]}, 422, ["spec.ipFamilyPolicy"]),
        ({"clusterIP": "10.96.9.5", "ipFamilies": ["IPv6"]}, 422, ["spec.clusterIPs[0]"]),
        ({"ipFamilies": ["IPv5"]}, 422, ["spec.ipFamilies[0]"]),
        ({"ipFamilies": ["IPv4", "IPv4"]}, 422, ["spec.ipFamilies[1]"]),
        ({"ipFamilies": ["IPv6", "IPv4"]}, 422, ["spec.ipFamilyPolicy"]),
        ({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}, 201, []),
        ({"ipFamilies": ["IPv6"]}, 201, []),
        ({"type": "ExternalName"}, 422, ["spec.externalName"]),
        ({"type": "ExternalName", "externalName": "Foo_bar"}, 422, ["spec.externalName"]),
        ({"type": "ExternalName", "externalName": "x.y", "clusterIP": "10.96.6.6"}, 422, ["spec.clusterIPs"]),
        ({"selector": {"a b": "c", "d": "e f"}}, 422, ["spec.selector", "spec.selector"]),
    ],
)  # fmt: skip
def test_services(server: ApiServer, spec: dict[str, Any], status: int, fields: list[str]) -> None:
    sent = {"metadata": {"generateName": "a-"}, "spec": {"ports": [PORT], **spec}}
    answer = ask(server, "POST", SERVICES, sent)
    assert (answer.status, told(answer)) == (status, fields)


def test_what_is_there_already(server: ApiServer) -> None:
    """What a Service names is allocated before anybody looks for its name, or at its other fields."""
    port = {**PORT, "nodePort": 31777}
    held = {**NODE_PORT, "ports": [port], "clusterIP": "10.96.77.77"}
    assert ask(server, "POST", SERVICES, {"metadata": {"name": "there"}, "spec": held}).status == 201
    for spec, query, status, fields in (
        (held, "", 422, ["spec.clusterIPs"]),
        ({**held, "ports": [{**port, "port": 0}]}, "", 422, ["spec.clusterIPs"]),
        ({**NODE_PORT, "ports": [port]}, "", 422, ["spec.ports[0].nodePort"]),
        (held, "?dryRun=All", 422, ["spec.ports[0].nodePort"]),
        ({**NODE_PORT, "ports": [{**PORT, "port": 0}]}, "", 422, ["spec.ports[0].port", "spec.ports[0].targetPort"]),
        ({**NODE_PORT, "ports": [PORT]}, "", 409, []),
    ):
        answer = ask(server, "POST", SERVICES + query, {"metadata": {"name": "there"}, "spec": spec})
        assert (answer.status, told(answer)) == (status, fields)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"ports": [{"port": "80"}]}, "string into Go struct field ServicePort.spec.ports.port of type int32"),
        ({"ports": [{"port": 80.5}]}, "number 80.5 into Go struct field ServicePort.spec.ports.port of type int32"),
        ({"ports": {"a": 1}}, "object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort"),
        ({"selector": ["a"]}, "array into Go struct field ServiceSpec.spec.selector of type map[string]string"),
        ({"externalIPs": "x"}, "string into Go struct field ServiceSpec.spec.externalIPs of type []string"),
        ({"publishNotReadyAddresses": "x"},
         "string into Go struct field ServiceSpec.spec.publishNotReadyAddresses of type bool"),
    ],
)  # fmt: skip
def test_values_of_a_wrong_type(server: ApiServer, spec: dict[str, Any], message: str) -> None:
    answer = ask(server, "POST", SERVICES, {"metadata": {"name": "a"}, "spec": {"ports": [PORT], **spec}})
    whole = f'Service in version "v1" cannot be handled as a Service: json: cannot unmarshal {message}'
    assert (answer.status, answer.value["message"]) == (400, whole)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"foo": "x", "bar": 1}, ".spec.bar: field not declared in schema"),
        ({"type": 5}, ".spec.type: expected string, got &value.valueUnstructured{Value:5}"),
        ({"ports": "x"}, ".spec.ports: expected list, got &{x}"),
        ({"selector": "x"}, ".spec.selector: expected map, got &{x}"),
        ({"publishNotReadyAddresses": 5}, ".spec.publishNotReadyAddresses: expected boolean, got &{5}"),
        ({"ports": [PORT, PORT]}, '.spec.ports: duplicate entries for key [port=80,protocol="TCP"]'),
    ],
)
def test_an_apply_of_what_does_not_fit_the_schema(server: ApiServer, spec: dict[str, Any], message: str) -> None:
    """It is a 500 without a reason, where a create warns or answers 400."""
    sent = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"ports": [PORT], **spec}}
    headers = {"content-type": "application/apply-patch+yaml"}
    answer = ask(server, "PATCH", f"{SERVICES}/b?fieldManager=m", sent, headers=headers)
    what = "failed to create typed patch object (/b; /v1, Kind=Service)"
    assert (answer.status, answer.value["message"]) == (500, f"{what}: {message}")
    assert "reason" not in answer.value


def test_each_warning_is_a_header_of_its_own(server: ApiServer) -> None:
    sent = {
        "metadata": {"name": "warned"}, "foo": 1,
        "spec": {"ports": [{**PORT, "bar": 1}], "externalIPs": ["10.0.0.1"], "externalName": "x.y"},
    }  # fmt: skip
    answer = ask(server, "POST", SERVICES, sent)
    assert answer.status == 201
    assert sorted(answer.headers["warning"].split(", 299 - ")) == [
        '"spec.externalIPs is deprecated and may no longer be implemented in some clusters"',
        '"spec.externalName is ignored when spec.type is not \\"ExternalName\\""',
        '"unknown field \\"spec.ports[0].bar\\""',
        '299 - "unknown field \\"foo\\""',
    ]


@pytest.mark.parametrize(
    ("value", "status", "fields"),
    [
        ({"addressType": "Foo"}, 422, ["addressType"]),
        ({"endpoints": []}, 422, ["addressType"]),
        ({"addressType": "IPv4"}, 201, []),
        ({"addressType": "IPv4", "endpoints": [{"addresses": []}, {"addresses": ["fd00::1"]}]}, 422,
         ["endpoints[0].addresses", "endpoints[1].addresses"]),
        ({"addressType": "IPv6", "endpoints": [{"addresses": ["FD00::1"]}, {"addresses": ["::ffff:1.2.3.4"]}]}, 422,
         ["endpoints[0].addresses[0]", "endpoints[1].addresses[0]"]),
        ({"addressType": "IPv4", "endpoints": [{"addresses": [f"{n}.2.3.4" for n in range(1, 102)]}]}, 422,
         ["endpoints[0].addresses"]),
        ({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}] * 1001}, 422, ["endpoints"]),
        ({"addressType": "IPv4", "ports": [{"port": 80}, {"protocol": "UDP"}]}, 422, ["ports[1].name"]),
        ({"addressType": "IPv4", "ports": [{"name": "A_", "port": 0, "protocol": "X"}]}, 422,
         ["ports[0].name", "ports[0].protocol"]),
    ],
)  # fmt: skip
def test_endpoint_slices(server: ApiServer, value: dict[str, Any], status: int, fields: list[str]) -> None:
    answer = ask(server, "POST", SLICES, {"metadata": {"generateName": "a-"}, **value})
    assert (answer.status, told(answer)) == (status, fields)


EVENT = {
    "eventTime": "2026-11-28T00:00:00.000000Z", "action": "A", "reason": "R", "type": "Normal", "note": "n",
    "reportingController": "x.io/y", "reportingInstance": "i", "regarding": {"kind": "Node", "name": "n"},
}  # fmt: skip


def test_events(server: ApiServer) -> None:
    """One that regards nothing in a namespace is made in "default", and nothing but its series can be changed."""
    faulty = {
        **EVENT, "reportingInstance": "", "action": "", "reason": "", "type": "Foo", "note": "x" * 1025,
    }  # fmt: skip
    answer = ask(server, "POST", EVENTS.replace("default", "kube-public"), {"metadata": {"name": "e"}, **faulty})
    assert answer.status == 422
    assert told(answer) == ["involvedObject.namespace", "reportingInstance", "action", "reason", "message", "type"]
    assert answer.value["details"]["kind"] == "Event"
    assert "group" not in answer.value["details"]
    assert ask(server, "POST", EVENTS, {"metadata": {"name": "e"}, **EVENT}).status == 201
    merge = {"content-type": "application/merge-patch+json"}
    series = {"series": {"count": 2, "lastObservedTime": "2026-11-28T00:00:01.000000Z"}}
    assert ask(server, "PATCH", f"{EVENTS}/e", series, headers=merge).status == 200
    assert told(ask(server, "PATCH", f"{EVENTS}/e", {"note": "other"}, headers=merge)) == ["message"]


@pytest.mark.parametrize(
    ("cidrs", "fields"),
    [
        ([], ["spec.cidrs"]),
        (["x"], ["spec.cidrs[0]"]),
        (["10.0.0.1/8", "10.1.0.0/16"], ["spec.cidrs[0]", "spec.cidrs"]),
        (["10.0.0.0/8", "10.1.0.0/16", "fd00::/64"], ["spec.cidrs"]),
    ],
)
def test_service_cidrs(server: ApiServer, cidrs: list[str], fields: list[str]) -> None:
    answer = ask(server, "POST", CIDRS, {"metadata": {"name": "a"}, "spec": {"cidrs": cidrs}})
    assert (answer.status, told(answer)) == (422, fields)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/api/v1/foos", 404),
        ("GET", "/apis/foo.io/v1/bars", 404),
        ("GET", "/api/v1/services/kubernetes", 404),
        ("GET", f"{SERVICES}/kubernetes/foo", 404),
        ("GET", f"{SERVICES}/kubernetes/status", 200),
        ("POST", "/api/v1/services", 405),
        ("PUT", SERVICES, 405),
        ("PUT", f"{SERVICES}/made-by-put", 201),
        ("PUT", f"{SLICES}/not-made-by-put", 404),
        ("POST", f"{SERVICES}?dryRun=Foo", 422),
        ("POST", f"{SERVICES}?fieldValidation=Foo", 422),
        ("GET", f"{SERVICES}?fieldSelector=foo=a", 400),
        ("GET", f"{SERVICES}?labelSelector=a+in+b", 400),
        ("GET", f"{SERVICES}?limit=x", 400),
        ("GET", f"{SERVICES}?resourceVersion=x", 400),
        ("GET", f"{SERVICES}?watch=1&resourceVersionMatch=NotOlderThan", 422),
        ("GET", f"{SERVICES}?watch=1&sendInitialEvents=true", 422),
    ],
)
def test_methods_paths_and_options(server: ApiServer, method: str, target: str, status: int) -> None:
    name = target.rpartition("/")[2] if method == "PUT" else "a"
    sent: dict[str, Any] = {"metadata": {"name": name}, "spec": {"ports": [PORT]}}
    if "endpointslices" in target:
        sent = {"metadata": {"name": name}, "addressType": "IPv4"}
    assert ask(server, method, target, sent if method != "GET" else None).status == status
