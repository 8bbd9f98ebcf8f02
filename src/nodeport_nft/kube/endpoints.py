"""EndpointSlices (discovery.k8s.io/v1) and Endpoints (core/v1), both read as slices (conformance E1, E7)."""

from __future__ import annotations

import sys
from typing import Any

from nodeport_nft.kube.annotations import parse_drained, parse_weight
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.metadata import Metadata
from nodeport_nft.kube.probes import parse_annotated_probe
from nodeport_nft.model import Endpoint, EndpointPort, EndpointSlice, IPAddress
from nodeport_nft.notation import is_tolerable, label_fault
from nodeport_nft.problems import Path, field_text, shown

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"

_INT32 = range(-(2**31), 2**31)  # what the API can read there at all, and it asks for no more
_ADDRESS_TYPES = {"IPv4": 4, "IPv6": 6, "FQDN": 0}


def parse_slice(raw: dict[str, Any], metadata: Metadata, fields: Fields) -> EndpointSlice | None:
    """An EndpointSlice; None if no Service can use it: an FQDN slice, or one without the label of its Service.

    Absent conditions have their default (ready and serving true, terminating false), the first address of an
    endpoint counts, and a port without a number is left out: E1.
    """
    service = metadata.labels.get(SERVICE_NAME_LABEL, "")
    if not service:
        fields.note(
            ("metadata", "labels"),
            f"has no {SERVICE_NAME_LABEL}, so no service uses this slice; label it with the service's name",
        )
    if raw.get("addressType") is None or (fields.incoming and raw["addressType"] == ""):
        fields.problem(("addressType",), "is missing; use IPv4 or IPv6")
    kind = fields.choice(raw, (), "addressType", tuple(_ADDRESS_TYPES), "")
    ports = _ports(raw, (), fields, of_slice=True)
    weight = parse_weight(metadata.annotations, fields)
    drained = parse_drained(metadata.annotations, fields)
    probe = parse_annotated_probe(metadata.annotations, ports, "the slice", fields)
    endpoints = []
    for path, entry in fields.mappings(raw, (), "endpoints"):
        conditions = fields.mapping(entry, path, "conditions")
        here = (*path, "conditions")
        flags = {
            key: fields.flag(conditions, here, key, default)
            for key, default in (("ready", True), ("serving", True), ("terminating", False))
        }
        node = sys.intern(fields.text(entry, path, "nodeName"))  # a few names, in very many endpoints
        hints = fields.mapping(entry, path, "hints")
        zones, nodes = (_hints(hints, (*path, "hints"), key, fields) for key in ("forZones", "forNodes"))
        addresses = fields.strings(entry, path, "addresses")
        if entry.get("addresses") in (None, []):
            fields.problem((*path, "addresses"), "is missing; give the endpoint's address")
        if kind in ("", "FQDN"):
            continue
        for index, (where, text) in enumerate(addresses):
            ip = fields.address(where, text, endpoint=True)
            if ip is None:
                continue
            if ip.version != _ADDRESS_TYPES[kind]:
                fields.problem(
                    where, f"{ip} is not an {kind} address, as addressType says; make a slice for each family"
                )
            elif index == 0:
                endpoints.append(Endpoint(ip, node_name=node, zones=zones, nodes=nodes, **flags))
    if not service or kind == "FQDN":
        return None
    return EndpointSlice(
        metadata.namespace,
        metadata.name,
        service,
        ports,
        tuple(endpoints),
        headless=HEADLESS_LABEL in metadata.labels,
        weight=weight,
        drained=drained,
        probe=probe,
    )


def _hints(hints: dict[str, Any], path: Path, key: str, fields: Fields) -> tuple[str, ...]:
    """The names under ``forZones`` or ``forNodes``."""
    names = (fields.text(entry, here, "name") for here, entry in fields.mappings(hints, path, key))
    return tuple(name for name in names if name)


def parse_endpoints(raw: dict[str, Any], metadata: Metadata, fields: Fields) -> tuple[EndpointSlice, ...]:
    """An Endpoints object as ``mirrored`` slices, one for each subset and family, of the service of its name."""
    slices = []
    headless = HEADLESS_LABEL in metadata.labels
    weight = parse_weight(metadata.annotations, fields)
    drained = parse_drained(metadata.annotations, fields)
    for number, (path, subset) in enumerate(fields.mappings(raw, (), "subsets")):
        ports = _ports(subset, path, fields, of_slice=False)
        probe = parse_annotated_probe(metadata.annotations, ports, field_text(path), fields)
        endpoints = [
            Endpoint(ip, ready=ready, serving=ready, node_name=fields.text(entry, here, "nodeName"))
            for key, ready in (("addresses", True), ("notReadyAddresses", False))
            for here, entry in fields.mappings(subset, path, key)
            if (ip := _endpoint_ip(entry, here, fields)) is not None
        ]
        for family in (4, 6):
            members = tuple(endpoint for endpoint in endpoints if endpoint.address.version == family)
            if members:
                slices.append(
                    EndpointSlice(
                        metadata.namespace,
                        f"{metadata.name}-{number}-ipv{family}",
                        metadata.name,
                        ports,
                        members,
                        headless=headless,
                        mirrored=True,
                        weight=weight,
                        drained=drained,
                        probe=probe,
                    )
                )
    return tuple(slices)


def _endpoint_ip(entry: dict[str, Any], path: Path, fields: Fields) -> IPAddress | None:
    """The field ``ip`` of an address of an Endpoints object, None after a problem."""
    text = fields.text(entry, path, "ip")
    if text:
        return fields.address((*path, "ip"), text, endpoint=True)
    if entry.get("ip") in (None, ""):
        fields.problem((*path, "ip"), "is missing; give the endpoint's address")
    return None


def _ports(parent: dict[str, Any], path: Path, fields: Fields, *, of_slice: bool) -> tuple[EndpointPort, ...]:
    """The ports of a slice or subset that have a number.

    A slice's names tell its ports apart, so one may have none. A subset may give one name to ports of several
    protocols. A number that is none is refused in a subset, and in a slice it is as if there were none (E1).
    """
    ports: list[EndpointPort] = []
    names = set()
    for here, entry in fields.mappings(parent, path, "ports"):
        name = fields.text(entry, here, "name")
        protocol = fields.protocol(entry, here)
        number = _slice_port(entry, here, fields) if of_slice else fields.port(entry, here, "port")
        if protocol is None:
            continue
        if name and (fault := label_fault(name)):
            fields.problem((*here, "name"), fault)
            number = number if is_tolerable(name) else 0
        if of_slice and name in names and isinstance(entry.get("name"), str | None):
            what = f"{shown(name)} is given twice" if name else "is missing on more than one port"
            fields.problem((*here, "name"), f"{what}; give each port its own name")
            number = 0 if fields.lenient else number
        names.add(name)
        if number:
            ports.append(EndpointPort(sys.intern(name), protocol, number))  # see parse_metadata
    return tuple(ports)


def _slice_port(entry: dict[str, Any], path: Path, fields: Fields) -> int:
    number = fields.integer(entry, path, "port")
    if number is None or 1 <= number <= 65535:
        return number or 0
    if number in _INT32:
        fields.note((*path, "port"), f"{shown(number)} is outside 1-65535; this port is not served")
    else:
        fields.problem((*path, "port"), f"{shown(number)} is outside 1-65535; choose a port number inside")
    return 0
