"""What the API refuses of a Service in itself, in its words."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from tests.kubernetes.apiserver.answers import Cause, duplicate, forbidden_field, invalid, required, unsupported
from tests.kubernetes.apiserver.formats import (
    address_fault,
    label_fault,
    port_fault,
    selector_faults,
    service_name_faults,
    subdomain_fault,
)
from tests.kubernetes.apiserver.services import WITH_NODE_PORTS, is_external, needs_health

_MOST_SECONDS = 86400


def faults(value: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    """What the API refuses of a Service in itself."""
    spec = value["spec"]
    yield from _port_faults(spec)
    for name, known in (
        ("sessionAffinity", ("ClientIP", "None")),
        ("type", ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")),
        ("externalTrafficPolicy", ("Cluster", "Local")),
        ("internalTrafficPolicy", ("Cluster", "Local")),
        ("ipFamilyPolicy", ("PreferDualStack", "RequireDualStack", "SingleStack")),
        ("trafficDistribution", ("PreferClose", "PreferSameZone", "PreferSameNode")),
    ):
        if name in spec and spec[name] not in known:
            yield unsupported(f"spec.{name}", spec[name], known)
    if spec.get("sessionAffinity") == "ClientIP":
        seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        if not 0 < seconds <= _MOST_SECONDS:
            field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            yield invalid(field, seconds, f"must be greater than 0 and less than {_MOST_SECONDS}")
    if spec["type"] == "ExternalName":
        name = spec.get("externalName", "").removesuffix(".")
        if not name:
            yield required("spec.externalName")
        elif why := subdomain_fault(name):
            yield invalid("spec.externalName", spec["externalName"], why)
    yield from selector_faults("spec.selector", spec.get("selector") or {})
    for index, text in enumerate(spec.get("externalIPs") or ()):
        if why := address_fault(text):
            yield invalid(f"spec.externalIPs[{index}]", text, why)
    if spec.get("loadBalancerSourceRanges") and spec["type"] != "LoadBalancer":
        yield forbidden_field("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'")
    for index, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        try:
            ip_network(text.strip(), strict=False)
        except ValueError:
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            yield invalid(f"spec.LoadBalancerSourceRanges[{index}]", text, why)
    for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if spec.get(name) is not None and spec["type"] != "LoadBalancer":
            yield forbidden_field(f"spec.{name}", "may only be used when `type` is 'LoadBalancer'")
    if spec.get("externalTrafficPolicy") and not is_external(spec):
        why = "may only be set for externally-accessible services"
        yield invalid("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], why)
    if spec.get("healthCheckNodePort") and not needs_health(spec):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"], why)
    yield from address_faults(spec, old)
    yield from _ingress_faults(value)


def _port_faults(spec: dict[str, Any]) -> Iterator[Cause]:
    ports = spec.get("ports") or []
    headless = spec.get("clusterIP") == "None"
    if not ports and spec["type"] != "ExternalName" and not headless:
        yield required("spec.ports")
    names: set[str] = set()
    numbers: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        name = port.get("name", "")
        if not name and len(ports) > 1:
            yield required(f"{here}.name")
        elif name:
            if why := label_fault(name):
                yield invalid(f"{here}.name", name, why)
            if name in names:
                yield duplicate(f"{here}.name", name)
            names.add(name)
        if why := port_fault(port.get("port", 0)):
            yield invalid(f"{here}.port", port.get("port", 0), why)
        if port["protocol"] not in ("SCTP", "TCP", "UDP"):
            yield unsupported(f"{here}.protocol", port["protocol"], ("SCTP", "TCP", "UDP"))
        target = port["targetPort"]
        for why in service_name_faults(target) if isinstance(target, str) else filter(None, [port_fault(target)]):
            yield invalid(f"{here}.targetPort", target, why)
        key = (port["protocol"], port.get("port", 0))
        if key in numbers:
            whole = {
                "Name": "",
                "Protocol": key[0],
                "AppProtocol": None,
                "Port": key[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            yield duplicate(here, whole)
        numbers.add(key)
        if port.get("nodePort") and spec["type"] not in WITH_NODE_PORTS:
            yield forbidden_field(f"{here}.nodePort", f"may not be used when `type` is '{spec['type']}'")


def address_faults(spec: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    """What is refused of a Service's clusterIPs and families, which are looked at before they are allocated."""
    families = spec.get("ipFamilies") or []
    for index, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            yield unsupported(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6"))
        elif family in families[:index]:
            yield duplicate(f"spec.ipFamilies[{index}]", family)
    ips = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    if spec["type"] == "ExternalName":
        if ips:
            yield forbidden_field("spec.clusterIPs", "may not be set for ExternalName services")
        return
    if spec.get("clusterIPs") and not spec.get("clusterIP"):
        yield invalid("spec.clusterIPs", spec["clusterIPs"], "must be empty when `clusterIP` is not specified")
    if spec.get("clusterIP") and spec.get("clusterIPs") and spec["clusterIP"] != spec["clusterIPs"][0]:
        yield invalid("spec.clusterIPs", spec["clusterIPs"], "first value must match `clusterIP`")
    if "None" in ips and spec["type"] != "ClusterIP":
        yield invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {spec['type']} services")
    for index, text in enumerate(ips):
        if text != "None" and (why := address_fault(text, any_place=True)):
            yield invalid(f"spec.clusterIPs[{index}]", text, why)
            return
    versions = [f"IPv{ip_address(text).version}" for text in ips if text != "None"]
    if len(set(versions)) < len(versions):
        yield invalid("spec.clusterIPs", ips, "may specify no more than one IP for each IP family")
    for index, (version, family) in enumerate(zip(versions, spec.get("ipFamilies") or (), strict=False)):
        if version != family:
            why = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            yield invalid(f"spec.clusterIPs[{index}]", ips[index], why)
    before = (old or {}).get("spec", {}).get("clusterIPs") or []
    if before and ips and before[0] != ips[0] and old is not None and old["spec"]["type"] != "ExternalName":
        yield invalid("spec.clusterIPs[0]", ips, "may not change once set")


def _ingress_faults(value: dict[str, Any]) -> Iterator[Cause]:
    ingress = value.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    if ingress and value["spec"]["type"] != "LoadBalancer":
        why = "may only be used when `spec.type` is 'LoadBalancer'"
        yield forbidden_field("status.loadBalancer.ingress", why)
        return
    for index, entry in enumerate(ingress):
        if entry.get("ip") and (why := address_fault(entry["ip"], any_place=True)):
            yield invalid(f"status.loadBalancer.ingress[{index}].ip", entry["ip"], why)
