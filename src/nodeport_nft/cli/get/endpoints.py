"""The endpoints of Services as objects: what a cluster's controller would write into Endpoints of their name.

They are worked out of whatever a Service gets its endpoints from. Nobody can apply them, or they would stay as they
are now; so they are for questions alone (JSONPath, columns, labels), and what is stored is for other forms.
Source: kubernetes, pkg/controller/endpoint, and core/v1 Endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nodeport_nft.cli.layout import mapping
from nodeport_nft.cli.resources import not_found
from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube import Object
from nodeport_nft.model import ObjectName, Ref, Service, ServiceType

if TYPE_CHECKING:
    from nodeport_nft.resolve import Resolver
    from nodeport_nft.store import Objects

_RESOURCE = BY_KIND["Endpoints"]
_METADATA = ("name", "namespace", "labels", "creationTimestamp")  # what they have of their Service


def endpoints_documents(services: Iterable[Object], stored: Iterable[Object]) -> dict[ObjectName, dict[str, Any]]:
    """The Endpoints of each Service without their addresses; those that are stored as they are stored."""
    documents = {}
    for service in services:
        metadata = {key: value for key, value in mapping(service.raw, "metadata").items() if key in _METADATA}
        documents[ObjectName(service.namespace, service.name)] = {
            "apiVersion": _RESOURCE.api_version,
            "kind": _RESOURCE.kind,
            "metadata": metadata,
        }
    return documents | {ObjectName(each.namespace, each.name): each.raw for each in stored}


def computed_endpoints(
    store: Objects, names: Iterable[str | None], namespace: str | None
) -> tuple[tuple[Object, ...], tuple[str, ...]]:
    """The Endpoints of these names (None: all), by namespace and name, and a message for each that is not there."""
    from nodeport_nft.resolve import Resolver

    snapshot = store.snapshot()
    resolver = Resolver(snapshot, node_name="")
    stored = store.objects(_RESOURCE.kind, namespace)
    documents = endpoints_documents(store.objects("Service", namespace), stored)
    for service in snapshot.services:
        if service.type is ServiceType.EXTERNAL_NAME:
            documents.pop(service.key, None)
        elif service.key in documents:
            documents[service.key] = {**documents[service.key], "subsets": _subsets(resolver, service)}
    found = [Object(Ref(_RESOURCE.kind, *name), raw) for name, raw in sorted(documents.items())]
    asked = list(names)
    if None in asked:
        return tuple(found), ()
    there = {each.name: each for each in found}
    missing = tuple(not_found(_RESOURCE, namespace or "", name) for name in asked if name and name not in there)
    return tuple(there[name] for name in asked if name in there), missing


def _subsets(resolver: Resolver, service: Service) -> list[dict[str, Any]]:
    """The usable endpoints: ports with the same addresses stand together, as the API has it."""
    ports_of: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for endpoints in resolver.endpoints(service):
        numbers: dict[int, list[str]] = {}  # a port by its name may be another one in each Pod
        for backend in endpoints.used:
            numbers.setdefault(backend.port, []).append(str(backend.address))
        for number, addresses in numbers.items():
            name = {"name": endpoints.port.name} if endpoints.port.name else {}
            port = {**name, "port": number, "protocol": str(endpoints.port.protocol)}
            ports_of.setdefault(tuple(addresses), []).append(port)
    return [{"addresses": [{"ip": ip} for ip in ips], "ports": ports} for ips, ports in ports_of.items()]
