"""Services: the API's defaults, and what an update carries over or drops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WITH_NODE_PORTS = ("NodePort", "LoadBalancer")
WITH_ADDRESSES = ("ClusterIP", "NodePort", "LoadBalancer")
_OF_ADDRESSES = ("clusterIP", "clusterIPs", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy")


def default(value: dict[str, Any]) -> None:
    """What the API fills in before anything else; the fields count as set by whoever wrote the object."""
    spec = value.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if is_external(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] in WITH_ADDRESSES:
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    status = value.setdefault("status", {}).setdefault("loadBalancer", {})
    for ingress in status.get("ingress") or ():
        if ingress.get("ip"):
            ingress.setdefault("ipMode", "VIP")


def carry(new: dict[str, Any], old: dict[str, Any]) -> None:
    """What an update leaves out stays as it was allocated, where the type still has a use for it."""
    spec, before = new["spec"], old["spec"]
    if spec["type"] in WITH_ADDRESSES and before["type"] in WITH_ADDRESSES:
        if spec.get("clusterIP") != before.get("clusterIP") and spec.get("clusterIPs") == before.get("clusterIPs"):
            spec.pop("clusterIPs", None)  # who knows the one field alone means both
            if spec.get("clusterIP"):
                spec["clusterIPs"] = [spec["clusterIP"]]
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            for name in ("clusterIP", "clusterIPs"):
                if name in before:
                    spec[name] = before[name]
        for name in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(name) and name in before:
                spec[name] = before[name]
    if spec["type"] in WITH_NODE_PORTS and before["type"] in WITH_NODE_PORTS:
        held = {(port["protocol"], port["port"]): port.get("nodePort") for port in before.get("ports") or ()}
        taken = {port.get("nodePort") for port in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            number = held.get((port["protocol"], port.get("port")))
            if not port.get("nodePort") and number and number not in taken:
                port["nodePort"] = number
    if needs_health(spec) and needs_health(before):
        spec.setdefault("healthCheckNodePort", before.get("healthCheckNodePort", 0))
    _drop_of_another_type(spec, before)
    if spec["type"] != "LoadBalancer" and before["type"] == "LoadBalancer":
        new["status"]["loadBalancer"] = {}


def _drop_of_another_type(spec: dict[str, Any], before: dict[str, Any]) -> None:
    """What the old type had a use for and the new one has not, and what is not changed, goes."""
    if spec["type"] not in WITH_NODE_PORTS:
        numbers = {port.get("nodePort") for port in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in numbers:
                port.pop("nodePort", None)
    useless = {
        "healthCheckNodePort": not needs_health(spec),
        "externalTrafficPolicy": not is_external(spec),
        "allocateLoadBalancerNodePorts": spec["type"] != "LoadBalancer",
        "loadBalancerClass": spec["type"] != "LoadBalancer",
        **dict.fromkeys(_OF_ADDRESSES, spec["type"] == "ExternalName"),
    }
    for name, is_useless in useless.items():
        if is_useless and name in spec and spec[name] == before.get(name):
            del spec[name]


def is_external(spec: dict[str, Any]) -> bool:
    return spec["type"] in WITH_NODE_PORTS or (spec["type"] == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health(spec: dict[str, Any]) -> bool:
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def warnings(value: dict[str, Any]) -> Iterator[str]:
    """What the API takes, and says that it does nothing."""
    spec = value["spec"]
    if spec["type"] != "ExternalName" and spec.get("externalName"):
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'

    if spec.get("externalIPs"):
        yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
