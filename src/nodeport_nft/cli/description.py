"""What ``describe`` prints: kubectl's field names in kubectl's order and layout, every value in one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nodeport_nft.cli.columns import node_roles, pod_of, pod_status, service_of
from nodeport_nft.cli.layout import (
    MOST_SHOWN,
    NONE,
    UNSET,
    equations,
    few,
    joined,
    mapping,
    records,
    string,
    strings,
    when,
)
from nodeport_nft.kube import Object
from nodeport_nft.kube.annotations import PREFER_LOCAL
from nodeport_nft.model import LoadBalancing, Node, Pod, Protocol, Requirement, ServiceType
from nodeport_nft.notation import socket_address
from nodeport_nft.resolve import Index, Resolver
from nodeport_nft.resolve.absence import Around, Cause, why_none
from nodeport_nft.resolve.trouble import Failing, failing_at
from nodeport_nft.terminal import visible

Field = tuple[str, str | Sequence[str]]
"""A name with its value; several values stand under each other."""


def describe_service(stored: Object, resolver: Resolver, around: Around, now: datetime, node: str = "") -> str:
    """A Service: what it is reached at, the endpoints that may answer now, and why there is none. Raises Problems.

    ``node``: the node of whose traffic policy Local is told, "": none.
    """
    service, spec = service_of(stored), mapping(stored.raw, "spec")
    ips = ["None"] if service.headless else [str(ip) for ip in service.cluster_ips]
    fields = [
        *_metadata(stored.raw),
        ("Selector", joined(equations(service.selector))),
        ("Type", str(service.type)),
        *_present("IP Family Policy", service.ip_family_policy),
        ("IP Families", joined(f"IPv{family.value}" for family in service.ip_families)),
        ("IP", ips[0] if ips else ""),
        ("IPs", joined(ips)),
        *_present("External IPs", ",".join(strings(spec, "externalIPs"))),
        *_present("Desired LoadBalancer IP", string(spec, "loadBalancerIP")),
        *_present("External Name", string(spec, "externalName")),
    ]
    if service.type is ServiceType.LOAD_BALANCER:
        ingress = records(stored.raw, "status", "loadBalancer", "ingress")
        found = [string(entry, "ip") or string(entry, "hostname") for entry in ingress]
        fields += _present("LoadBalancer Ingress", ", ".join(filter(None, found)))
    for endpoints in resolver.endpoints(service):
        port = endpoints.port
        name = port.name or UNSET
        backends = [socket_address(b.address, b.port) for b in endpoints.used]
        fields.append(("Port", f"{name}  {port.port}/{port.protocol}"))
        fields.append(("TargetPort", f"{port.target_port}/{port.protocol}"))
        if port.node_port:
            fields.append(("NodePort", f"{name}  {port.node_port}/{port.protocol}"))
        fields.append(("Endpoints", few(backends)))
        if endpoints.draining:
            fields.append(("Draining", few([socket_address(b.address, b.port) for b in endpoints.draining])))
        if endpoints.failing:
            fields.append(("Failing", _failing(endpoints.failing, now)))
    seconds = service.session_affinity_seconds
    fields.append(("Session Affinity", f"ClientIP (timeout {seconds}s)" if seconds else "None"))
    fields += _policy(
        "External Traffic Policy", string(spec, "externalTrafficPolicy"), service.external_traffic_policy
    )
    fields += _policy(
        "Internal Traffic Policy", string(spec, "internalTrafficPolicy"), service.internal_traffic_policy
    )
    if service.health_check_node_port:
        fields.append(("HealthCheck NodePort", str(service.health_check_node_port)))
    fields += _present("LoadBalancer Source Ranges", ",".join(map(str, service.load_balancer_source_ranges)))
    fields += _present("NodePort Source Ranges", ",".join(map(str, service.node_port_source_ranges)))
    fields += _present("NodePort Nodes", ",".join(map(_requirement, service.node_port_nodes)))
    if service.load_balancing is not LoadBalancing.RANDOM:
        fields.append(("Load Balancing", str(service.load_balancing)))
    fields += _present("Weights", ",".join(f"{ip}={weight}" for ip, weight in service.weights.items()))
    causes = why_none(service, around, node)
    if not causes:
        fields.append(("Events", NONE))
    return "\n".join([*_aligned(fields), *_events(causes)])


def _events(causes: Sequence[Cause]) -> list[str]:
    """What a cluster's controllers tell kubectl, and we work out from the objects: of its age nothing is known."""
    if not causes:
        return []
    rows = [("Type", "Reason", "Message"), ("----", "------", "-------")]
    rows += [("Normal" if cause.expected else "Warning", cause.reason, visible(str(cause))) for cause in causes]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return ["Events:", *(f"  {row[0]:<{first}}  {row[1]:<{second}}  {row[2]}" for row in rows)]


def _failing(failing: Sequence[Failing], now: datetime) -> list[str]:
    """Endpoints that have failed, each with the reason; how many more there are beyond ``MOST_SHOWN``."""
    shown = [f"{socket_address(f.address, f.port)}  {why_failing(f, now)}" for f in failing[:MOST_SHOWN]]
    more = len(failing) - MOST_SHOWN
    return [*shown, f"+ {more} more..."] if more > 0 else shown


def why_failing(failing: Failing, now: datetime) -> str:
    """Why an endpoint has failed, and since when."""
    why = []
    if failing.lost_node:
        why.append(f"node {failing.lost_node} is lost since {when(failing.lost_at, now)}")
    if failing.probe_since is not None:
        since = f"fails since {when(failing.probe_since, now)}" if failing.probe_since else "has never passed"
        why.append(f"readiness probe {since}")
    return "; ".join(why)


def describe_pod(stored: Object, nodes: Mapping[str, Node], index: Index, now: datetime) -> str:
    """A Pod: where it runs, its addresses, why it has failed, and its containers' ports. Raises Problems."""
    pod = pod_of(stored)
    host = string(stored.raw, "status", "hostIP")
    if not host:
        node = nodes.get(pod.node_name)
        host = str(node.internal_ips[0]) if node and node.internal_ips else ""
    fields: list[Field] = [
        *_metadata(stored.raw, ("Node", f"{pod.node_name or NONE}{f'/{host}' if host else ''}")),
        ("Status", pod_status(pod, stored.raw)),
        *_present("Ready", _unready(pod, index, now)),
        ("IP", str(pod.ips[0]) if pod.ips else ""),
    ]
    lines = _aligned(fields)
    lines += ["IPs:", *_aligned([("IP", str(ip)) for ip in pod.ips], 2)] if pod.ips else [f"IPs:  {NONE}"]
    lines.append("Containers:")
    for container in records(stored.raw, "spec", "containers"):
        ports = [_container_port(port) for port in records(container, "ports")]
        title = "Ports" if len(ports) > 1 else "Port"
        facts: list[Field] = [(title, ", ".join(ports) or NONE)]
        lines += [f"  {string(container, 'name') or UNSET}:", *_aligned(facts, 4)]
    return "\n".join([*lines, f"Events:  {NONE}"])


def _unready(pod: Pod, index: Index, now: datetime) -> str:
    """That a cluster's store knows a Pod to have failed, and why; "" where it does not."""
    why = [
        why_failing(failing, now)
        for ip in pod.ips
        if (failing := failing_at(index, pod.namespace, pod.node_name, ip))
    ]
    return f"False ({'; '.join(dict.fromkeys(why))})" if why else ""


def describe_node(stored: Object, registration: Sequence[Field] = ()) -> str:
    """A Node: its labels, addresses and pod networks, and what is known of its ``registration``."""
    lines = _aligned(_metadata(stored.raw, ("Roles", node_roles(stored.raw)), namespaced=False))
    addresses = records(stored.raw, "status", "addresses")
    lines += ["Addresses:", *_aligned([(string(a, "type"), string(a, "address")) for a in addresses], 2)]
    cidrs = strings(stored.raw, "spec", "podCIDRs") or [string(stored.raw, "spec", "podCIDR")]
    lines += _aligned([("PodCIDR", cidrs[0] or NONE), ("PodCIDRs", ",".join(cidrs) or NONE)])
    if registration:
        lines += ["Registration:", *_aligned(registration, 2)]
    return "\n".join([*lines, f"Events:  {NONE}"])


def _metadata(raw: dict[str, Any], *between: Field, namespaced: bool = True) -> list[Field]:
    """Name, Namespace, what stands ``between``, Labels and Annotations."""
    metadata = mapping(raw, "metadata")
    notes = mapping(metadata, "annotations")
    return [
        ("Name", string(metadata, "name")),
        *([("Namespace", string(metadata, "namespace"))] if namespaced else []),
        *between,
        ("Labels", equations(mapping(metadata, "labels")) or NONE),
        ("Annotations", [f"{k}: {'' if v is None else v}" for k, v in sorted(notes.items())] or NONE),
    ]


def _present(name: str, value: str) -> list[Field]:
    return [(name, value)] if value else []


def _policy(name: str, given: str, actual: str) -> list[Field]:
    """A traffic policy where the spec has one, or where an annotation goes before the spec."""
    return [(name, actual)] if given or actual == PREFER_LOCAL else []


def _requirement(requirement: Requirement) -> str:
    """One condition of a label selector, as kubectl's ``-l`` takes it."""
    key, values = requirement.key, requirement.values
    match requirement.operator:
        case "Exists":
            return key
        case "DoesNotExist":
            return f"!{key}"
        case "In":
            return f"{key}={values[0]}" if len(values) == 1 else f"{key} in ({','.join(values)})"
        case _:
            return f"{key}!={values[0]}" if len(values) == 1 else f"{key} notin ({','.join(values)})"


def _container_port(port: dict[str, Any]) -> str:
    name = string(port, "name")
    number = f"{port.get('containerPort')}/{string(port, 'protocol') or Protocol.TCP}"
    return f"{number} ({name})" if name else number


def _aligned(fields: Sequence[Field], indent: int = 0) -> list[str]:
    """``Name:  value`` lines, values two spaces right of the longest name; further values below the first."""
    start = max((len(name) for name, _ in fields), default=0) + 3
    lines = []
    for name, value in fields:
        # A value may hold newlines (annotations): each line of it stands in the column too.
        values = [line for text in ([value] if isinstance(value, str) else value) for line in text.split("\n")]
        titles = [f"{name}:", *[""] * (len(values) - 1)]
        lines += [f"{'':{indent}}{title:{start}}{line}".rstrip() for title, line in zip(titles, values, strict=True)]
    return lines
