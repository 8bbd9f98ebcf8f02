"""The rules of each kind but Services: defaults, what is refused, what is filled in at the end."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from tests.kubernetes.apiserver import services
from tests.kubernetes.apiserver.answers import Cause, invalid, required, unsupported
from tests.kubernetes.apiserver.formats import address_fault, label_fault, port_fault, subdomain_fault
from tests.kubernetes.apiserver.kinds import Kind

_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
    "kubeProxyVersion", "operatingSystem", "architecture",
)  # fmt: skip
_MOST_NOTE = 1024
_MOST_EVENT_TEXT = 128


def default(kind: Kind, value: dict[str, Any]) -> None:
    """The defaults that count as set by whoever wrote the object."""
    match kind.kind:
        case "Service":
            services.default(value)
        case "EndpointSlice":
            for port in value.get("ports") or ():
                port.setdefault("protocol", "TCP")
                port.setdefault("name", "")
            value.setdefault("endpoints", None)
        case "Node":
            value.setdefault("spec", {})
        case _:
            pass


def complete(kind: Kind, value: dict[str, Any], old: dict[str, Any] | None) -> None:
    """What is in every object of a kind, and counts as nobody's."""
    match kind.kind:
        case "Node":
            status = value.setdefault("status", {})
            status.setdefault("daemonEndpoints", {"kubeletEndpoint": {"Port": 0}})
            status.setdefault("nodeInfo", dict.fromkeys(_NODE_INFO, ""))
            if old is None and not any(
                taint["key"] == _NOT_READY["key"] for taint in value["spec"].get("taints") or ()
            ):
                value["spec"].setdefault("taints", []).append(dict(_NOT_READY))
        case "ServiceCIDR":
            value.setdefault("status", {})
        case "Namespace":
            value.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
            value.setdefault("status", {"phase": "Active"})
            value["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = value["metadata"]["name"]
        case "Pod":
            value.setdefault("status", {"phase": "Pending", "qosClass": "BestEffort"})
        case "Event":
            value.setdefault("deprecatedSource", {})
            value.setdefault("deprecatedFirstTimestamp", None)
            value.setdefault("deprecatedLastTimestamp", None)
        case _:
            pass


def faults(kind: Kind, value: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
    """Everything that is refused of an object in itself."""
    return [*_name_faults(kind, value), *_own_faults(kind, value, old)]


def _name_faults(kind: Kind, value: dict[str, Any]) -> Iterator[Cause]:
    name = value["metadata"]["name"]
    if kind.kind == "IPAddress":
        if why := address_fault(name, any_place=True):
            yield invalid("metadata.name", name, why)
    elif why := (label_fault(name) if kind.kind in ("Service", "Namespace") else subdomain_fault(name)):
        yield invalid("metadata.name", name, why)


def _own_faults(kind: Kind, value: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    match kind.kind:
        case "Service":
            yield from services.faults(value, old)
        case "EndpointSlice":
            yield from _slice_faults(value, old)
        case "Event":
            yield from _event_faults(value)
        case "ServiceCIDR":
            yield from _cidr_faults(value)
        case _:
            pass


def _slice_faults(value: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
    family = value.get("addressType")
    if not family:
        yield required("addressType", "must specify an address type")
    elif family not in ("FQDN", "IPv4", "IPv6"):
        yield unsupported("addressType", family, ("FQDN", "IPv4", "IPv6"))
    elif old is not None and old["addressType"] != family:
        yield invalid("addressType", family, "field is immutable")
    for index, endpoint in enumerate(value.get("endpoints") or ()):
        if not endpoint.get("addresses"):
            yield required(f"endpoints[{index}].addresses", "must contain at least 1 address")
        for place, text in enumerate(endpoint.get("addresses") or ()):
            field = f"endpoints[{index}].addresses[{place}]"
            if why := address_fault(text):
                yield invalid(field, text, why)
            elif family in ("IPv4", "IPv6") and (":" in text) != (family == "IPv6"):
                yield invalid(field, text, f"must be an {family} address")
    names: set[str] = set()
    for index, port in enumerate(value.get("ports") or ()):
        here = f"ports[{index}]"
        name = port.get("name") or ""
        if name in names:
            yield Cause("FieldValueDuplicate", f'Duplicate value: "{name}"', here)
        names.add(name)
        if name and (why := label_fault(name)):
            yield invalid(f"{here}.name", name, why)
        if port["protocol"] not in ("SCTP", "TCP", "UDP"):
            yield unsupported(f"{here}.protocol", port["protocol"], ("SCTP", "TCP", "UDP"))
        if port.get("port") is not None and (why := port_fault(port["port"])):
            yield invalid(f"{here}.port", port["port"], why)


def _event_faults(value: dict[str, Any]) -> Iterator[Cause]:
    namespace = value["metadata"]["namespace"]
    regarded = value.get("regarding", {}).get("namespace", "")
    if (regarded or "default") != namespace:
        yield invalid("involvedObject.namespace", regarded, "does not match event.namespace")
    if not value.get("eventTime"):
        yield required("eventTime")
    if value.get("type") not in ("Normal", "Warning"):
        yield invalid("type", value.get("type", ""), "has invalid value: ")
    for field in ("reportingController", "reportingInstance", "action", "reason"):
        text = value.get(field, "")
        if not text:
            yield required(field)
        elif len(text) > _MOST_EVENT_TEXT:
            yield invalid(field, "", f"can have at most {_MOST_EVENT_TEXT} characters")
    if len(value.get("note", "")) > _MOST_NOTE:
        yield invalid("message", "", f"can have at most {_MOST_NOTE} characters")


def _cidr_faults(value: dict[str, Any]) -> Iterator[Cause]:
    cidrs = value.get("spec", {}).get("cidrs") or []
    if not 1 <= len(cidrs) <= 2:
        yield required("spec.cidrs", "at least one CIDR required")
    for index, text in enumerate(cidrs):
        try:
            ip_network(text)
        except ValueError:
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            yield invalid(f"spec.cidrs[{index}]", text, why)
