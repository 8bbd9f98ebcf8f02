"""A decoded EndpointSlice → that of the model; ``None`` is what ``kube.endpoints`` has anything to say about."""

from __future__ import annotations

import sys
from functools import lru_cache

from nodeport_nft.kube.endpoints import HEADLESS_LABEL, SERVICE_NAME_LABEL
from nodeport_nft.kube.typed import shapes, texts
from nodeport_nft.model import Endpoint, EndpointPort, EndpointSlice
from nodeport_nft.notation import label_fault

_VERSIONS = {"IPv4": 4, "IPv6": 6}
_NO_CONDITIONS = shapes.EndpointConditions()


def endpoint_slice(found: shapes.EndpointSlice, namespace: str, name: str) -> EndpointSlice | None:
    """The slice of this name, which the caller has looked at, as its metadata."""
    labels = found.metadata.labels
    service = labels.get(SERVICE_NAME_LABEL) if labels else None
    version = _VERSIONS.get(found.address_type or "")
    entries = found.ports or ()
    ports = _shared_ports(entries) if len(entries) <= shapes.MOST else _ports(entries)
    if not service or version is None or ports is None:
        return None
    endpoints = []
    for each in found.endpoints or ():
        made = _endpoint(each, version)
        if made is None:
            return None
        endpoints.append(made)
    is_headless = labels is not None and HEADLESS_LABEL in labels
    return EndpointSlice(namespace, name, service, ports, tuple(endpoints), is_headless)


def _endpoint(found: shapes.Endpoint, version: int) -> Endpoint | None:
    addresses = found.addresses
    if not addresses:
        return None
    address = texts.endpoint_address(addresses[0])
    if address is None or address.version != version:
        return None
    if len(addresses) > 1:  # none of the others is used, and all of them have to be right
        others = map(texts.endpoint_address, addresses[1:])
        if any(other is None or other.version != version for other in others):
            return None
    conditions = found.conditions or _NO_CONDITIONS
    hints = found.hints
    return Endpoint(
        address,
        conditions.ready is not False,
        conditions.serving is not False,
        conditions.terminating is True,
        sys.intern(found.node_name or ""),  # a few names, in very many endpoints
        _names(hints.for_zones) if hints and hints.for_zones else (),
        _names(hints.for_nodes) if hints and hints.for_nodes else (),
    )


@lru_cache(1024)
def _names(hints: tuple[shapes.Named, ...]) -> tuple[str, ...]:
    """The same in very many endpoints, and made once."""
    return tuple(hint.name for hint in hints if hint.name)


def _ports(entries: tuple[shapes.SlicePort, ...]) -> tuple[EndpointPort, ...] | None:
    """The ports that have a number."""
    ports: dict[str, EndpointPort | None] = {}
    for entry in entries:
        name, protocol = sys.intern(entry.name or ""), texts.PROTOCOLS.get(entry.protocol)
        if protocol is None or name in ports or (name and label_fault(name)):
            return None
        if entry.port is not None and not 1 <= entry.port <= 65535:
            return None
        ports[name] = None if entry.port is None else EndpointPort(name, protocol, entry.port)
    return tuple(port for port in ports.values() if port is not None)


_shared_ports = lru_cache(1024)(_ports)
"""The same ports are in very many slices, and made once."""
