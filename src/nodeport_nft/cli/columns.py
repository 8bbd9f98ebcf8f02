"""The rows of ``get``: one function a kind, with the columns of kubectl's printers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nodeport_nft.cli.layout import (
    NONE,
    UNKNOWN,
    UNSET,
    age,
    equations,
    few,
    joined,
    mapping,
    records,
    string,
    strings,
)
from nodeport_nft.cli.listing import Listing, Row
from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube import Object, parse_object
from nodeport_nft.kube.annotations import DRAIN
from nodeport_nft.model import EndpointSlice, ObjectName, Parsed, Pod, Ref, Service, ServiceType, Snapshot
from nodeport_nft.notation import socket_address

if TYPE_CHECKING:
    from nodeport_nft.resolve import Index, Resolver
    from nodeport_nft.store import Objects

_ROLE = "node-role.kubernetes.io/"


def object_listing(
    kind: str, objects: Iterable[Object], *, wide: bool, now: datetime, heard: Iterable[Parsed] = ()
) -> Listing:
    """Objects of one kind. Raises Problems.

    ``heard``: what a cluster's store says besides its objects: a Pod that it says to have failed is not ready.
    """
    header, extra, row = _COLUMNS[kind]
    cluster = _troubled(heard)
    rows, documents = [], []
    for stored in objects:
        cells, more = row(stored)
        if kind == "Pod" and cluster is not None and _has_failed(pod_of(stored), cluster):
            cells = (f"0/{cells[0].partition('/')[2]}", *cells[1:])
        created = string(stored.raw, "metadata", "creationTimestamp")
        rows.append((stored.namespace, stored.name, *cells, age(created, now), *(more if wide else ())))
        documents.append(stored.raw)
    return Listing(BY_KIND[kind], (*header, "AGE", *(extra if wide else ())), rows, documents)


def services_listing(store: Objects, namespace: str | None, *, wide: bool, now: datetime) -> Listing:
    """All Services of a namespace (None: of all), as ``object_listing`` but without documents. Raises Problems.

    Nearly all are read the short way from their bodies: ten thousand in a tenth of the time.
    """
    # Late: who asks for one by its name does without, and its shapes take as long to make as hundreds of rows.
    from nodeport_nft.kube.typed import stored_values

    header, extra, row = _COLUMNS["Service"]
    ages: dict[str, str] = {}

    def line(name: str, where: str, cells: Row, more: Row, created: str) -> Row:
        if (old := ages.get(created)) is None:
            old = ages[created] = age(created, now)
        return (where, name, *cells, old, *more) if wide else (where, name, *cells, old)

    def of_object(stored: Object) -> Row:
        cells, more = row(stored)
        return line(stored.name, stored.namespace, cells, more, string(stored.raw, "metadata", "creationTimestamp"))

    def of_body(where: str, name: str, body: bytes) -> Row | None:
        values = stored_values(Ref("Service", where, name), body)
        if values is None:
            return None
        (service,) = values
        assert isinstance(service, Service)
        # What else has external addresses shows them as they were written.
        if service.type not in (ServiceType.CLUSTER_IP, ServiceType.NODE_PORT) or service.external_ips:
            return None
        more = (_selector(service),) if wide else ()
        return line(name, where, _service_cells(service, NONE), more, service.created)

    rows = store.made_of_each("Service", namespace, of_body, of_object)
    return Listing(BY_KIND["Service"], (*header, "AGE", *(extra if wide else ())), rows)


def endpoints_listing(
    rows: Iterable[tuple[ObjectName, str, str]], documents: Mapping[ObjectName, dict[str, Any]], *, now: datetime
) -> Listing:
    """``endpoints_rows`` as ``get`` lists them, with the ``documents`` that they are about."""
    rows = tuple(rows)
    lines: list[Row] = [(*name, shown, age(created, now)) for name, shown, created in rows]
    return Listing(
        BY_KIND["Endpoints"], ("ENDPOINTS", "AGE"), lines, [documents.get(name, {}) for name, _, _ in rows]
    )


def endpoints_rows(
    snapshot: Snapshot, stored: Iterable[Object], namespace: str | None
) -> list[tuple[ObjectName, str, str]]:
    """Name, usable endpoints and creation time, of each Service and of each Endpoints object without a Service.

    Those of a Service are computed, so that what a selector selects is shown as well. Raises Problems.
    """
    from nodeport_nft.resolve import Resolver

    resolver = Resolver(snapshot, node_name="")
    rows = {
        service.key: (_service_endpoints(resolver, service), service.created)
        for service in snapshot.services
        if service.type is not ServiceType.EXTERNAL_NAME and namespace in (None, service.namespace)
    }
    for lone in stored:
        shown = few(_own_endpoints(lone)), string(lone.raw, "metadata", "creationTimestamp")
        rows.setdefault(ObjectName(lone.namespace, lone.name), shown)
    return [(name, *rest) for name, rest in sorted(rows.items())]


def _service_endpoints(resolver: Resolver, service: Service) -> str:
    """The usable endpoints of all ports, in their order, and how many get no new connections for a while."""
    found = list(resolver.endpoints(service))
    used = few([socket_address(backend.address, backend.port) for each in found for backend in each.used])
    counts = ((sum(len(e.draining) for e in found), "draining"), (sum(len(e.failing) for e in found), "failing"))
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    return f"{used} ({told})" if told else used


def _own_endpoints(stored: Object) -> list[str]:
    pieces = (value for value in parse_object(stored.raw).values if isinstance(value, EndpointSlice))
    return [
        socket_address(endpoint.address, port.port)
        for piece in pieces
        for port in piece.ports
        for endpoint in piece.endpoints
        if endpoint.ready and endpoint.address not in piece.drained
    ]


def pod_status(pod: Pod, raw: Mapping[str, Any]) -> str:
    """A Pod's status in one word, as kubectl has it; a Pod that states no phase runs if it has an address."""
    if pod.terminating:
        return "Terminating"
    stated = string(raw, "status", "reason") or string(raw, "status", "phase")
    return stated or pod_phase(pod)


def pod_phase(pod: Pod) -> str:
    """The phase of a Pod that states none."""
    return "Running" if pod.ips else "Pending"


def node_roles(raw: Mapping[str, Any]) -> str:
    """A Node's roles, which its labels hold."""
    labels = mapping(raw, "metadata", "labels")
    return joined(sorted(label.removeprefix(_ROLE) for label in labels if label.startswith(_ROLE)))


def _troubled(heard: Iterable[Parsed]) -> Index | None:
    """The cluster, for those who ask which Pods have failed; None: nothing has, and none need be read for it."""
    told = tuple(heard)
    if not told:
        return None
    from nodeport_nft.resolve import Index  # late: it is half of what a list takes to be printed

    cluster = Index()
    for ref, values in told:
        cluster.put(ref, values)
    return cluster if cluster.lost or cluster.failing else None


def _has_failed(pod: Pod, cluster: Index) -> bool:
    from nodeport_nft.resolve.trouble import failing_at

    return any(failing_at(cluster, pod.namespace, pod.node_name, ip) for ip in pod.ips)


def pod_of(stored: Object) -> Pod:
    """The Pod of a stored document. Raises Problems."""
    (pod,) = parse_object(stored.raw).values
    assert isinstance(pod, Pod)
    return pod


def service_of(stored: Object) -> Service:
    """The Service of a stored document. Raises Problems."""
    (service,) = parse_object(stored.raw).values
    assert isinstance(service, Service)
    return service


def _service(stored: Object) -> tuple[Row, Row]:
    service = service_of(stored)
    return _service_cells(service, _external_ip(stored.raw, service.type)), (_selector(service),)


def _service_cells(service: Service, external_ip: str) -> Row:
    ip = str(service.cluster_ips[0]) if service.cluster_ips else "None" if service.headless else NONE
    ports = [
        f"{port.port}:{port.node_port}/{port.protocol}" if port.node_port else f"{port.port}/{port.protocol}"
        for port in service.ports
    ]
    return str(service.type), ip, external_ip, joined(ports)


def _selector(service: Service) -> str:
    return joined(equations(service.selector))


def _external_ip(raw: dict[str, Any], kind: ServiceType) -> str:
    if kind is ServiceType.EXTERNAL_NAME:
        return string(raw, "spec", "externalName") or NONE
    given = strings(raw, "spec", "externalIPs")
    if kind is ServiceType.LOAD_BALANCER:
        ingress = records(raw, "status", "loadBalancer", "ingress")
        found = [string(entry, "ip") or string(entry, "hostname") for entry in ingress]
        return ",".join([*filter(None, found), *given]) or "<pending>"
    return joined(given)


def _pod(stored: Object) -> tuple[Row, Row]:
    pod = pod_of(stored)
    states = records(stored.raw, "status", "containerStatuses")
    total = len(records(stored.raw, "spec", "containers")) or 1
    ready = sum(state.get("ready") is True for state in states) if states else total * (pod.ready and bool(pod.ips))
    restarts = sum(count for state in states if type(count := state.get("restartCount")) is int)
    ip = str(pod.ips[0]) if pod.ips else NONE
    return (f"{ready}/{total}", pod_status(pod, stored.raw), str(restarts)), (ip, pod.node_name or NONE)


def node_cells(stored: Object) -> tuple[Row, Row]:
    """The cells of a Node, without and with more columns."""
    conditions = records(stored.raw, "status", "conditions")
    ready = next((string(c, "status") for c in conditions if c.get("type") == "Ready"), "")
    status = {"True": "Ready", "": "Unknown"}.get(ready, "NotReady")
    if mapping(stored.raw, "spec").get("unschedulable") is True:
        status += ",SchedulingDisabled"
    if mapping(stored.raw, "metadata", "annotations").get(DRAIN) == "true":
        status += ",Drained"
    addresses = records(stored.raw, "status", "addresses")
    wide = tuple(
        next((string(a, "address") for a in addresses if a.get("type") == kind), "") or NONE
        for kind in ("InternalIP", "ExternalIP")
    )
    return (status, node_roles(stored.raw)), wide


def _slice(stored: Object) -> tuple[Row, Row]:
    pieces = [value for value in parse_object(stored.raw).values if isinstance(value, EndpointSlice)]
    ports = [str(port.port) for piece in pieces for port in piece.ports]
    addresses = [str(endpoint.address) for piece in pieces for endpoint in piece.endpoints]
    kind = string(stored.raw, "addressType") or UNKNOWN
    return (kind, few(ports, UNSET), few(addresses, UNSET)), ()


_COLUMNS: dict[str, tuple[Row, Row, Callable[[Object], tuple[Row, Row]]]] = {
    "Service": (("TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)"), ("SELECTOR",), _service),
    "EndpointSlice": (("ADDRESSTYPE", "PORTS", "ENDPOINTS"), (), _slice),
    "Pod": (("READY", "STATUS", "RESTARTS"), ("IP", "NODE"), _pod),
    "Node": (("STATUS", "ROLES"), ("INTERNAL-IP", "EXTERNAL-IP"), node_cells),
}
