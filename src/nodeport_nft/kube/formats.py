"""Formats that the API server asks for, of fields which mean nothing here or which are read more leniently.

A manifest that passes here is to pass there, too. As in ``limits``, all of it is checked where objects come in, and
not where they are read back out of a store. Sources, all of version 1.36: ValidateServiceCreate, ValidateEndpoints,
ValidateNode and validateContainerPorts (k8s.io/kubernetes, pkg/apis/core/validation), ValidateEndpointSlice
(pkg/apis/discovery/validation) and ValidateAnnotations (k8s.io/apimachinery, pkg/api/validation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nodeport_nft.kube.annotations import PREFIX
from nodeport_nft.kube.fields import Fields, mapping_in, mappings_in, strings_in
from nodeport_nft.kube.metadata import Metadata
from nodeport_nft.kube.workload import named_ports
from nodeport_nft.notation import (
    label_fault,
    label_key_fault,
    label_value_fault,
    parse_address,
    subdomain_fault,
)
from nodeport_nft.problems import Path, shown

_SPEC: Path = ("spec",)
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_ANNOTATIONS: Path = ("metadata", "annotations")


def check_formats(raw: dict[str, Any], kind: str, metadata: Metadata, fields: Fields) -> None:
    """Note what of an object the API server would not take, beyond what its parser has noted."""
    for key in metadata.annotations:
        if key.startswith(PREFIX):
            continue  # the known ones are right, and the others are told as such
        fields.problem((*_ANNOTATIONS, key), label_key_fault(key.lower(), "an annotation's key"))
    _CHECKS[kind](raw, fields)


def _check_service(raw: dict[str, Any], fields: Fields) -> None:
    spec = mapping_in(raw, "spec")
    for key in ("ipFamilyPolicy", "internalTrafficPolicy", "trafficDistribution"):
        _not_empty(spec, _SPEC, key, fields)
    if spec.get("type") == "LoadBalancer":
        _check_format(spec, _SPEC, "loadBalancerClass", _class_fault, fields)
    fields.text(spec, _SPEC, "loadBalancerIP")
    for path, port in mappings_in(spec, _SPEC, "ports"):
        _check_app_protocol(port, path, fields)


def _class_fault(name: str) -> str:
    return label_key_fault(name, "a load balancer class")


def _check_slice(raw: dict[str, Any], fields: Fields) -> None:
    for path, port in mappings_in(raw, (), "ports"):
        _not_empty(port, path, "protocol", fields)
        _check_app_protocol(port, path, fields)
    kind = raw.get("addressType")
    for path, endpoint in mappings_in(raw, (), "endpoints"):
        _check_format(endpoint, path, "nodeName", subdomain_fault, fields)
        _check_format(endpoint, path, "hostname", label_fault, fields)
        fields.text(endpoint, path, "zone")
        for where, text in strings_in(endpoint, path, "addresses"):
            if kind == "FQDN":
                fields.problem(where, _full_name_fault(text))
            elif kind == "IPv6":
                fields.problem(where, _canonical_fault(text))
        hints = mapping_in(endpoint, "hints")
        _check_hints(hints, (*path, "hints"), "forZones", label_value_fault, fields)
        _check_hints(hints, (*path, "hints"), "forNodes", subdomain_fault, fields)


def _check_hints(hints: dict[str, Any], path: Path, key: str, fault: Callable[[str], str], fields: Fields) -> None:
    names = set()
    for where, entry in mappings_in(hints, path, key):
        name = entry.get("name") or ""
        if not isinstance(name, str):
            continue
        fields.problem((*where, "name"), fault(name))
        if name in names:
            fields.problem((*where, "name"), f"{shown(name)} is given twice; leave one out")
        names.add(name)


def _check_endpoints(raw: dict[str, Any], fields: Fields) -> None:
    for path, subset in mappings_in(raw, (), "subsets"):
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            fields.problem(path, "has neither addresses nor notReadyAddresses; give some, or leave the subset out")
        ports = mappings_in(subset, path, "ports")
        for where, port in ports:
            _check_app_protocol(port, where, fields)
            if len(ports) > 1 and port.get("name") in (None, ""):
                fields.problem((*where, "name"), "is missing; name every port of a subset that has several")
        for key in ("addresses", "notReadyAddresses"):
            for where, address in mappings_in(subset, path, key):
                _check_format(address, where, "nodeName", subdomain_fault, fields)
                if address.get("hostname") != "":
                    _check_format(address, where, "hostname", label_fault, fields)


def _check_pod(raw: dict[str, Any], fields: Fields) -> None:
    """What a Pod's endpoints may come of. A Pod without containers, or without images, is as good as any here."""
    spec = mapping_in(raw, "spec")
    if spec.get("nodeName") != "":
        _check_format(spec, _SPEC, "nodeName", subdomain_fault, fields)
    for path, container in mappings_in(spec, _SPEC, "containers"):
        _check_host_ports(container, path, fields)
    for path, container in mappings_in(spec, _SPEC, "initContainers"):
        _check_host_ports(container, path, fields)
        _not_empty(container, path, "restartPolicy", fields)
        if fields.choice(container, path, "restartPolicy", _RESTART_POLICIES, "") != "Always":
            for _ in named_ports([(path, container)], fields):
                pass  # nobody's endpoints, and checked all the same


def _check_host_ports(container: dict[str, Any], path: Path, fields: Fields) -> None:
    for where, port in mappings_in(container, path, "ports"):
        fields.port(port, where, "hostPort", required=False)


def _check_node(raw: dict[str, Any], fields: Fields) -> None:
    spec = mapping_in(raw, "spec")
    for path, taint in mappings_in(spec, _SPEC, "taints"):
        fields.problem((*path, "key"), label_key_fault(fields.text(taint, path, "key"), "the key of a taint"))
        fields.problem((*path, "value"), label_value_fault(fields.text(taint, path, "value")))
        if not fields.choice(taint, path, "effect", _EFFECTS, ""):
            fields.problem((*path, "effect"), f"is missing; use {' or '.join(_EFFECTS)}")
    texts = strings_in(spec, _SPEC, "podCIDRs")
    if spec.get("podCIDR") and texts and texts[0][1] != spec["podCIDR"]:
        return  # then they do not count
    versions = set()
    for path, text in texts:
        version = 6 if ":" in text else 4
        if version in versions:
            fields.problem(path, f"{shown(text)} is a second IPv{version} network; a node has one of each family")
        versions.add(version)


def _check_app_protocol(port: dict[str, Any], path: Path, fields: Fields) -> None:
    _check_format(port, path, "appProtocol", lambda text: label_key_fault(text, "an application protocol"), fields)


def _check_format(parent: dict[str, Any], path: Path, key: str, fault: Callable[[str], str], fields: Fields) -> None:
    """Note what is wrong with a text that may be absent, but not empty."""
    text = _text(parent, path, key, fields)
    if text is not None:
        fields.problem((*path, key), fault(text))


def _not_empty(parent: dict[str, Any], path: Path, key: str, fields: Fields) -> None:
    if parent.get(key) == "":
        fields.problem((*path, key), '"" is not a value for it; leave it out')


def _canonical_fault(text: str) -> str:
    """Why the API does not take an address that is right, but written otherwise than RFC 5952 has it; or ""."""
    try:
        address = str(parse_address(text))
    except ValueError:
        return ""  # a problem already
    return "" if text == address else f"{shown(text)} is not written in the canonical form; write {address}"


def _full_name_fault(text: str) -> str:
    name = text.removesuffix(".")
    if "." in name:
        return subdomain_fault(name)
    return f"{shown(text)} is not a fully qualified domain name; write two labels at least, as web.example"


def _text(parent: dict[str, Any], path: Path, key: str, fields: Fields) -> str | None:
    """A text, "" too; None if it is absent, or wrong."""
    value = parent.get(key)
    fields.text(parent, path, key)
    return value if isinstance(value, str) else None


_CHECKS: dict[str, Callable[[dict[str, Any], Fields], None]] = {
    "Service": _check_service,
    "EndpointSlice": _check_slice,
    "Endpoints": _check_endpoints,
    "Pod": _check_pod,
    "Node": _check_node,
}
