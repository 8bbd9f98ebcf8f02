"""Services (core/v1), checked as the API server checks them (ValidateService), so that what passes here would
pass there too, and nothing later meets a Service that contradicts itself.

Ranges are checked only where they are given: an object out of a store was checked when it came in, and must
stay readable when the ranges are changed afterwards.
"""

from __future__ import annotations

import sys
from typing import Any

from msgspec.structs import replace

from nodeport_nft.kube.annotations import (
    NODE_PORT_NODES,
    NODE_PORT_SOURCE_RANGES,
    NODE_PORT_TYPES,
    parse_annotations,
)
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.metadata import Metadata
from nodeport_nft.kube.service_ips import IPs, parse_ips
from nodeport_nft.model import IPAddress, IPNetwork, Protocol, Ranges, Service, ServicePort, ServiceType
from nodeport_nft.notation import each_once, is_tolerable, label_fault, service_name_fault, subdomain_fault
from nodeport_nft.problems import Path, shown

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"

_SPEC: Path = ("spec",)
DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")  # KEP-3015
DEFAULT_AFFINITY = 10800  # seconds: the default of sessionAffinityConfig.clientIP.timeoutSeconds, core/v1
LONGEST_AFFINITY = 86400  # seconds


def parse_service(raw: dict[str, Any], metadata: Metadata, fields: Fields, ranges: Ranges | None = None) -> Service:
    """A Service with the API's defaults filled in: type ClusterIP, protocol TCP, targetPort = port."""
    spec = fields.mapping(raw, (), "spec")
    kind = ServiceType(fields.choice(spec, _SPEC, "type", tuple(ServiceType), "ClusterIP"))
    ips = parse_ips(spec, kind, fields, ranges)
    ports = _ports(spec, kind, ips, fields, ranges)
    own = parse_annotations(metadata.annotations, spec, kind, fields)
    external = fields.choice(spec, _SPEC, "externalTrafficPolicy", ("Cluster", "Local"), "Cluster")
    allocate = fields.flag(spec, _SPEC, "allocateLoadBalancerNodePorts", True)
    if kind is not ServiceType.LOAD_BALANCER:
        allocate = True
        for key in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(key) is not None:
                fields.leftover((*_SPEC, key), f"is for type LoadBalancer only, not {kind}; leave it out")
    internal = fields.choice(spec, _SPEC, "internalTrafficPolicy", ("Cluster", "Local"), "Cluster")
    _check_rest(spec, kind, fields)
    service = Service(
        metadata.namespace,
        metadata.name,
        kind,
        ports,
        cluster_ips=ips.addresses,
        headless=ips.headless,
        ip_families=ips.families,
        ip_family_policy=ips.policy,
        selector=fields.labels(spec, _SPEC, "selector"),
        publish_not_ready_addresses=fields.flag(spec, _SPEC, "publishNotReadyAddresses", False),
        external_traffic_policy=own.external_traffic_policy or external,
        internal_traffic_policy=own.internal_traffic_policy or internal,
        traffic_distribution=fields.choice(spec, _SPEC, "trafficDistribution", DISTRIBUTIONS, ""),
        external_ips=_external_ips(spec, fields),
        load_balancer_ips=_load_balancer_ips(raw, kind, fields),
        allocate_node_ports=allocate,
        health_check_node_port=_health_check_node_port(spec, kind, external, fields, ranges),
        created=metadata.created,
        proxy_name=metadata.labels.get(PROXY_NAME_LABEL),
        session_affinity_seconds=_affinity_seconds(spec, fields),
        load_balancer_source_ranges=_source_ranges(spec, kind, fields),
        node_port_source_ranges=own.node_port_source_ranges,
        node_port_nodes=own.node_port_nodes,
        load_balancing=own.load_balancing,
        weights=own.weights,
    )
    return _closed(service, fields) if fields.lenient else service


def _closed(service: Service, fields: Fields) -> Service:
    """A Service without the frontends whose restrictions are not understood: nobody is let in for that reason."""
    sources = fields.passed_over(("metadata", "annotations", NODE_PORT_SOURCE_RANGES))
    if fields.passed_over(("metadata", "annotations", NODE_PORT_NODES)) or (
        sources and not service.node_port_source_ranges
    ):
        fields.note(_SPEC, "nodePorts are not served, for it is not understood who may use them")
        ports = tuple(replace(port, node_port=0) for port in service.ports)
        service = replace(service, ports=ports, allocate_node_ports=False)
    if fields.passed_over((*_SPEC, "loadBalancerSourceRanges")) and not service.load_balancer_source_ranges:
        fields.note(("status", "loadBalancer"), "is not served, for it is not understood who may use it")
        service = replace(service, load_balancer_ips=())
    return service


def _ports(
    spec: dict[str, Any], kind: ServiceType, ips: IPs, fields: Fields, ranges: Ranges | None
) -> tuple[ServicePort, ...]:
    path: Path = (*_SPEC, "ports")
    entries = tuple(fields.mappings(spec, _SPEC, "ports"))
    needed = kind is not ServiceType.EXTERNAL_NAME and not ips.headless
    if needed and spec.get("ports") in (None, []):
        fields.problem(path, f"a {kind} service needs at least one port; give it one, or clusterIP: None")
    ports: list[ServicePort] = []
    names: dict[str, int] = {}
    numbers: dict[tuple[Protocol, int], int] = {}
    node_ports: dict[tuple[Protocol, int], int] = {}
    for index, (here, entry) in enumerate(entries):
        name = fields.text(entry, here, "name")
        protocol = fields.protocol(entry, here)
        port = fields.port(entry, here, "port")
        target = _target_port(entry, here, port, fields)
        node_port = _node_port(entry, here, kind, fields, ranges)
        if protocol is None:
            continue
        usable = port and target
        if name:
            fault = label_fault(name)
            fields.problem((*here, "name"), fault)
            remedy = "give each port its own name"
            usable = (not fault or is_tolerable(name)) and usable
            usable = _once(names, name, index, (*here, "name"), shown(name), remedy, fields) and usable
        elif len(entries) > 1:
            if entry.get("name") in (None, ""):
                fields.problem((*here, "name"), "is missing; name every port of a service that has several")
            usable = names.setdefault("", index) == index and usable
        if port:
            what = f"{port}/{protocol}"
            remedy = "leave one of them out"
            usable = _once(numbers, (protocol, port), index, (*here, "port"), what, remedy, fields) and usable
        if node_port:
            what = f"{node_port}/{protocol}"
            remedy = "choose another for one of them"
            fields.claims.append(((*here, "nodePort"), node_port))
            if not _once(node_ports, (protocol, node_port), index, (*here, "nodePort"), what, remedy, fields):
                node_port = 0
        if usable:
            ports.append(ServicePort(sys.intern(name), protocol, port, target, node_port))  # see parse_metadata
    return tuple(ports)


def _once(seen: dict[Any, int], key: object, index: int, path: Path, what: str, remedy: str, fields: Fields) -> bool:
    """Whether no earlier port of the service has the same ``key``; a problem is noted if one has."""
    first = seen.setdefault(key, index)
    if first != index:
        fields.problem(path, f"{what} is that of ports[{first}] already; {remedy}")
    return first == index


def _target_port(entry: dict[str, Any], path: Path, port: int, fields: Fields) -> int | str:
    """A number, a port's name, or the port itself where it is absent; 0 after a problem."""
    target = entry.get("targetPort")
    if target in (None, "", 0) and not isinstance(target, bool):
        return port  # 0, too: the API makes no difference between that and nothing
    if not isinstance(target, str):
        return fields.port(entry, path, "targetPort")
    if target.isascii() and target.isdecimal():
        fields.problem((*path, "targetPort"), f"{shown(target)} is a string, not a number; leave out the quotes")
        return 0
    fields.problem((*path, "targetPort"), service_name_fault(target))
    return target


def _node_port(entry: dict[str, Any], path: Path, kind: ServiceType, fields: Fields, ranges: Ranges | None) -> int:
    """An explicit nodePort, 0 if there is none or it is wrong."""
    if kind is ServiceType.EXTERNAL_NAME:  # where it does nothing, and the API lets any number stand
        fields.integer(entry, path, "nodePort")
        return 0
    number = fields.port(entry, path, "nodePort", required=False)
    if not number:
        return 0
    if kind not in NODE_PORT_TYPES:
        fields.leftover(
            (*path, "nodePort"),
            f"{number} may not be set on a service of type {kind}; leave it out, or set type: NodePort",
        )
        return 0
    return number if _in_range(number, (*path, "nodePort"), fields, ranges) else 0


def _in_range(number: int, path: Path, fields: Fields, ranges: Ranges | None) -> bool:
    if ranges is None or number in ranges.node_ports:
        return True
    fields.problem(
        path, f"{number} is outside the nodePort range {ranges.node_ports}; choose one inside, or leave it out"
    )
    return False


def _health_check_node_port(
    spec: dict[str, Any], kind: ServiceType, external: str, fields: Fields, ranges: Ranges | None
) -> int:
    """healthCheckNodePort: for type LoadBalancer with external policy Local, out of the nodePorts' range."""
    path: Path = (*_SPEC, "healthCheckNodePort")
    number = fields.port(spec, _SPEC, "healthCheckNodePort", required=False)
    if not number:
        return 0
    if kind is not ServiceType.LOAD_BALANCER or external != "Local":
        fields.leftover(
            path, "is for type LoadBalancer with externalTrafficPolicy: Local only; leave it out, or set both"
        )
        return 0
    if not _in_range(number, path, fields, ranges):
        return 0
    if any(number == claimed for _, claimed in fields.claims):
        fields.problem(path, f"{number} is a nodePort of this service already; choose another")
        if fields.lenient:
            return 0
    fields.claims.append((path, number))
    return number


def _external_ips(spec: dict[str, Any], fields: Fields) -> tuple[IPAddress, ...]:
    found = (fields.address(path, text, endpoint=True) for path, text in fields.strings(spec, _SPEC, "externalIPs"))
    return each_once(ip for ip in found if ip is not None)


def _load_balancer_ips(raw: dict[str, Any], kind: ServiceType, fields: Fields) -> tuple[IPAddress, ...]:
    """Addresses of status.loadBalancer.ingress that are ours to serve: not those of ipMode Proxy (F3, KEP-1860)."""
    here: Path = ("status", "loadBalancer")
    status = fields.mapping(fields.mapping(raw, (), "status"), ("status",), "loadBalancer")
    addresses: list[IPAddress] = []
    for path, entry in fields.mappings(status, here, "ingress"):
        text = fields.text(entry, path, "ip")
        if kind is not ServiceType.LOAD_BALANCER or not text:
            continue
        mode = fields.state(entry, path, "ipMode", ("VIP", "Proxy"), "VIP")
        ip = fields.reported((*path, "ip"), text, endpoint=True)
        if ip is not None and mode == "VIP":
            addresses.append(ip)
    return each_once(addresses)


def is_external(spec: dict[str, Any], kind: ServiceType) -> bool:
    """Whether traffic from outside is for a Service of this type, so that a policy for it makes sense."""
    return kind in NODE_PORT_TYPES or (kind is ServiceType.CLUSTER_IP and bool(spec.get("externalIPs")))


def _check_rest(spec: dict[str, Any], kind: ServiceType, fields: Fields) -> None:
    """The fields that only have to be right: they mean something to other programs, or to other fields."""
    if spec.get("externalTrafficPolicy") and not is_external(spec, kind):
        without = " without externalIPs" if kind is ServiceType.CLUSTER_IP else ""
        fields.leftover(
            (*_SPEC, "externalTrafficPolicy"), f"may not be set on a service of type {kind}{without}; leave it out"
        )
    name = fields.text(spec, _SPEC, "externalName")
    if kind is ServiceType.EXTERNAL_NAME:
        if name:
            fields.problem((*_SPEC, "externalName"), subdomain_fault(name.removesuffix(".")))
        elif spec.get("externalName") in (None, ""):
            fields.problem((*_SPEC, "externalName"), "is missing; give the DNS name the service stands for")


def _source_ranges(spec: dict[str, Any], kind: ServiceType, fields: Fields) -> tuple[IPNetwork, ...]:
    """loadBalancerSourceRanges (F4). As the API reads them: blanks around a prefix and bits behind it do not count.

    A wrong one is a problem, so that it never comes to a Service that lets in more than was meant.
    """
    path: Path = (*_SPEC, "loadBalancerSourceRanges")
    found = (
        fields.network(here, text.strip(), host_bits=True)
        for here, text in fields.strings(spec, _SPEC, "loadBalancerSourceRanges")
    )
    networks = each_once(network for network in found if network is not None)
    if spec.get("loadBalancerSourceRanges") and kind is not ServiceType.LOAD_BALANCER:
        fields.problem(path, f"is for type LoadBalancer only, not {kind}; leave it out")
    return networks


def _affinity_seconds(spec: dict[str, Any], fields: Fields) -> int:
    """How long a client keeps its endpoint (P7); 0: not at all."""
    affinity = fields.choice(spec, _SPEC, "sessionAffinity", ("None", "ClientIP"), "None")
    path: Path = (*_SPEC, "sessionAffinityConfig")
    config = fields.mapping(spec, _SPEC, "sessionAffinityConfig")
    client = fields.mapping(config, path, "clientIP")
    seconds = fields.integer(client, (*path, "clientIP"), "timeoutSeconds")
    if affinity != "ClientIP":
        return 0  # and the API drops the configuration of what is not asked for
    if seconds is None:
        seconds = DEFAULT_AFFINITY
    elif not 1 <= seconds <= LONGEST_AFFINITY:
        fields.problem(
            (*path, "clientIP", "timeoutSeconds"),
            f"{shown(seconds)} is outside 1-{LONGEST_AFFINITY}; give a number of seconds inside",
        )
        seconds = DEFAULT_AFFINITY
    return seconds
