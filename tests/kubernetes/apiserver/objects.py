"""The rules of each kind but Services: defaults, what is refused, what is filled in at the end."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface
from typing import Any

from tests.kubernetes.apiserver import service_faults, services
from tests.kubernetes.apiserver.answers import (
    Cause,
    duplicate,
    forbidden_field,
    invalid,
    required,
    too_many,
    unsupported,
)
from tests.kubernetes.apiserver.formats import (
    address_fault,
    key_faults,
    label_fault,
    selector_faults,
    subdomain_fault,
)
from tests.kubernetes.apiserver.kinds import Kind

_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
    "kubeProxyVersion", "operatingSystem", "architecture",
)  # fmt: skip
_MOST_ENDPOINTS = 1000
_MOST_ADDRESSES = 100
_MOST_NOTE = 1024
_MOST_EVENT_TEXT = 128
_FIXED_OF_EVENTS = {"note": "message"} | {
    name: name
    for name in ("eventTime", "reportingController", "reportingInstance", "action", "reason", "regarding", "type")
}
"""What of an Event cannot be changed, and how it is told: all but its series."""


def default(kind: Kind, value: dict[str, Any]) -> None:
    """The defaults that count as set by whoever wrote the object."""
    match kind.kind:
        case "Service":
            services.default(value)
        case "EndpointSlice":
            for port in value.get("ports") or ():
                port.setdefault("protocol", "TCP")
                port.setdefault("name", "")
        case "Node":
            value.setdefault("spec", {})
        case "Namespace":
            value["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = value["metadata"]["name"]
        case _:
            pass


def complete(kind: Kind, value: dict[str, Any], old: dict[str, Any] | None) -> None:
    """What is in every object of a kind, and counts as nobody's."""
    match kind.kind:
        case "EndpointSlice":
            value.setdefault("endpoints", None)
            value.setdefault("ports", None)
            for endpoint in value["endpoints"] or ():
                endpoint.setdefault("conditions", {})
        case "Node":
            status = value.setdefault("status", {})
            status.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
            status.setdefault("nodeInfo", dict.fromkeys(_NODE_INFO, ""))
            for condition in status.get("conditions") or ():
                condition.setdefault("lastHeartbeatTime", None)
                condition.setdefault("lastTransitionTime", None)
            if old is None and not any(
                taint["key"] == _NOT_READY["key"] for taint in value["spec"].get("taints") or ()
            ):
                value["spec"].setdefault("taints", []).append(dict(_NOT_READY))
        case "ServiceCIDR":
            value.setdefault("status", {})
        case "Namespace":
            value.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
            value.setdefault("status", {"phase": "Active"})
        case "Pod":
            value.setdefault("status", {"phase": "Pending", "qosClass": "BestEffort"})
        case "Event":
            value.setdefault("deprecatedSource", {})
            value.setdefault("deprecatedFirstTimestamp", None)
            value.setdefault("deprecatedLastTimestamp", None)
        case _:
            pass


def without_empty(kind: Kind, value: dict[str, Any]) -> None:
    """Take out what the API does not write where it is empty."""
    metadata = value["metadata"]
    for name in ("annotations", "finalizers", "labels", "ownerReferences"):
        if name in metadata and not metadata[name]:
            del metadata[name]
    if kind.kind == "Service":
        spec = value["spec"]
        for name in [name for name, held in spec.items() if held in (None, "", [], {}, 0) and held is not True]:
            if name != "allocateLoadBalancerNodePorts" or spec[name] is None:
                del spec[name]


def faults(kind: Kind, value: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
    """Everything that is refused of an object in itself."""
    return [*_name_faults(kind, value), *_metadata_faults(value), *_own_faults(kind, value, old)]


def _name_faults(kind: Kind, value: dict[str, Any]) -> Iterator[Cause]:
    name = value["metadata"]["name"]
    if kind.kind == "IPAddress":
        if why := address_fault(name, any_place=True):
            yield invalid("metadata.name", name, why)
    elif why := (label_fault(name) if kind.kind in ("Service", "Namespace") else subdomain_fault(name)):
        yield invalid("metadata.name", name, why)


def _metadata_faults(value: dict[str, Any]) -> Iterator[Cause]:
    metadata = value["metadata"]
    yield from selector_faults("metadata.labels", metadata.get("labels") or {})
    for key in metadata.get("annotations") or {}:
        for why in key_faults(key.lower()):
            yield invalid("metadata.annotations", key, why)


def _own_faults(kind: Kind, value: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    match kind.kind:
        case "Service":
            yield from service_faults.faults(value, old)
        case "EndpointSlice":
            yield from _slice_faults(value, old)
        case "Event":
            yield from _event_faults(value, old)
        case "ServiceCIDR":
            yield from _cidr_faults(value)
        case "Node":
            before = old["spec"].get("podCIDRs") if old is not None else None
            if before and value["spec"].get("podCIDRs") != before:
                yield forbidden_field("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
        case _:
            pass


def _slice_faults(value: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    family = value.get("addressType")
    if not family:
        yield required("addressType")
        return
    if family not in ("FQDN", "IPv4", "IPv6"):
        yield unsupported("addressType", family, ("FQDN", "IPv4", "IPv6"))
        return
    if old is not None and old["addressType"] != family:
        yield invalid("addressType", family, "field is immutable")
        return
    names: set[str] = set()
    for index, port in enumerate(value.get("ports") or ()):
        here = f"ports[{index}]"
        name = port.get("name") or ""
        if name and (why := label_fault(name)):
            yield invalid(f"{here}.name", name, why)
        if name in names:
            yield duplicate(f"{here}.name", name)
        names.add(name)
        if port["protocol"] not in ("SCTP", "TCP", "UDP"):
            yield unsupported(f"{here}.protocol", port["protocol"], ("SCTP", "TCP", "UDP"))
    endpoints = value.get("endpoints") or []
    if len(endpoints) > _MOST_ENDPOINTS:
        yield too_many("endpoints", len(endpoints), _MOST_ENDPOINTS)
        return
    for index, endpoint in enumerate(endpoints):
        yield from _endpoint_faults(f"endpoints[{index}]", endpoint, family)


def _endpoint_faults(here: str, endpoint: dict[str, Any], family: str) -> Iterator[Cause]:
    if not endpoint.get("addresses"):
        yield required(f"{here}.addresses", "must contain at least 1 address")
    elif len(endpoint["addresses"]) > _MOST_ADDRESSES:
        yield too_many(f"{here}.addresses", len(endpoint["addresses"]), _MOST_ADDRESSES)
        return
    for place, text in enumerate(endpoint.get("addresses") or ()):
        field = f"{here}.addresses[{place}]"
        if family == "FQDN":
            if why := subdomain_fault(text):
                yield invalid(field, text, why)
        elif why := address_fault(text):
            yield invalid(field, text, why)
        elif (":" in text) != (family == "IPv6"):
            yield invalid(f"{here}.addresses", text, f"must be an {family} address")
        elif str(ip_address(text)) != text:
            yield invalid(field, text, f'must be in canonical form ("{ip_address(text)}")')
    if endpoint.get("nodeName") and (why := subdomain_fault(endpoint["nodeName"])):
        yield invalid(f"{here}.nodeName", endpoint["nodeName"], why)
    if endpoint.get("hostname") and (why := label_fault(endpoint["hostname"])):
        yield invalid(f"{here}.hostname", endpoint["hostname"], why)


def _event_faults(value: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    namespace = value["metadata"]["namespace"]
    regarded = value.get("regarding", {}).get("namespace", "")
    if not regarded and namespace not in ("default", "kube-system"):
        yield invalid("involvedObject.namespace", regarded, "does not match event.namespace")
    if not value.get("eventTime"):
        yield required("eventTime")
    controller = value.get("reportingController", "")
    if not controller:
        yield required("reportingController")
    for why in key_faults(controller):
        yield invalid("reportingController", controller, why)
    for field in ("reportingInstance", "action", "reason"):
        text = value.get(field, "")
        if not text:
            yield required(field)
        elif len(text) > _MOST_EVENT_TEXT:
            yield invalid(field, "", f"can have at most {_MOST_EVENT_TEXT} characters")
    if len(value.get("note", "")) > _MOST_NOTE:
        yield invalid("message", "", f"can have at most {_MOST_NOTE} characters")
    if value.get("type") not in ("Normal", "Warning"):
        yield invalid("type", "", f"has invalid value: {value.get('type', '')}")
    for field, told in _FIXED_OF_EVENTS.items():
        if old is not None and value.get(field) != old.get(field):
            yield invalid(told, value.get(field, ""), "field is immutable")


def _cidr_faults(value: dict[str, Any]) -> Iterator[Cause]:
    cidrs = value.get("spec", {}).get("cidrs") or []
    if not cidrs:
        yield required("spec.cidrs", "at least one CIDR required")
        return
    if len(cidrs) > 2:
        yield invalid("spec.cidrs", {"CIDRs": cidrs}, "may only hold up to 2 values")
        return
    families: list[bool] = []
    for index, text in enumerate(cidrs):
        try:
            network = ip_interface(text).network
        except ValueError:
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            yield invalid(f"spec.cidrs[{index}]", text, why)
            continue
        families.append(network.version == 6)
        if str(network) != text:
            yield invalid(f"spec.cidrs[{index}]", text, "must not have bits set beyond the prefix length")
    if len(set(families)) < len(families):
        why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        yield invalid("spec.cidrs", cidrs, why)
