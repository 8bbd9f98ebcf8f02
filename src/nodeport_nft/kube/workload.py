"""Pods (core/v1), which a Service's selector finds, and Nodes (core/v1), which give a node's own facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nodeport_nft.kube.annotations import parse_drained, parse_node_drained, parse_weight
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.metadata import Metadata
from nodeport_nft.kube.probes import is_unwatched, parse_pod_probes
from nodeport_nft.model import ContainerPort, IPAddress, IPNetwork, Node, Pod
from nodeport_nft.notation import each_once, is_tolerable, service_name_fault
from nodeport_nft.problems import Path, shown

_SPEC: Path = ("spec",)
_STATUS: Path = ("status",)

_SCALED_DOWN = "ToBeDeletedByClusterAutoscaler"  # the taint of a node that cluster-autoscaler takes away


def parse_pod(raw: dict[str, Any], metadata: Metadata, fields: Fields) -> Pod:
    """A Pod (conformance E7). Its readiness is condition ``Ready``, true where no conditions are given at all.

    A pod without an address is fine: it is not running yet, and is nobody's endpoint.
    """
    spec = fields.mapping(raw, (), "spec")
    status = fields.mapping(raw, (), "status")
    phase = fields.text(status, _STATUS, "phase")
    ips = _pod_ips(status, fields)
    return Pod(
        metadata.namespace,
        metadata.name,
        metadata.labels,
        ips=ips,
        node_name=fields.text(spec, _SPEC, "nodeName"),
        ready=_ready(status, fields),
        terminating=metadata.deleted,
        finished=phase in ("Succeeded", "Failed"),
        ports=_container_ports(spec, fields),
        weight=parse_weight(metadata.annotations, fields),
        drained=parse_drained(metadata.annotations, fields),
        probes=parse_pod_probes(spec, fields) if ips and is_unwatched(status) else (),
    )


def _pod_ips(status: dict[str, Any], fields: Fields) -> tuple[IPAddress, ...]:
    """status.podIPs, or podIP where there are none; one of each family at most, podIP the first of them."""
    first = fields.text(status, _STATUS, "podIP")
    texts = [
        ((*path, "ip"), text)
        for path, entry in fields.mappings(status, _STATUS, "podIPs")
        if (text := fields.text(entry, path, "ip"))
    ]
    if first and not texts:
        texts = [((*_STATUS, "podIP"), first)]
    elif first and first != texts[0][1]:  # of the two, podIP counts, as the API converts them
        fields.note((*_STATUS, "podIP"), f"{shown(first)} is not the first of podIPs, which are not used therefore")
        texts = [((*_STATUS, "podIP"), first)]
    ips: list[IPAddress] = []
    for path, text in texts:
        ip = fields.reported(path, text, endpoint=True)
        if ip is None:
            continue
        if any(ip.version == other.version for other in ips):
            fields.note(path, f"{ip} is a second IPv{ip.version} address, and not used; a pod has one of each family")
        else:
            ips.append(ip)
    return tuple(ips)


def _ready(status: dict[str, Any], fields: Fields) -> bool:
    """Whether condition Ready is "True"; a pod with other conditions but this one has not come so far yet."""
    given = False
    ready = False
    for path, condition in fields.mappings(status, _STATUS, "conditions"):
        given = True
        state = fields.state(condition, path, "status", ("True", "False", "Unknown"), "Unknown")
        if fields.text(condition, path, "type") == "Ready":
            ready = state == "True"
    return ready or not given


def _container_ports(spec: dict[str, Any], fields: Fields) -> tuple[ContainerPort, ...]:
    """The named ports of the containers, then of the restartable init containers (native sidecars, KEP-753): E9.

    Of equal ones the first counts, so the order is the API's (FindPort). Other init containers have ended when a pod
    serves. Ephemeral containers have no ports.
    """
    ports = list(named_ports(fields.mappings(spec, _SPEC, "containers"), fields))
    # Earlier versions have stored what is in init containers unread.
    readable = fields if fields.incoming else Fields()
    every = readable.mappings(spec, _SPEC, "initContainers")
    sidecars = ((path, one) for path, one in every if one.get("restartPolicy") == "Always")
    ports += named_ports(sidecars, readable)
    return tuple(ports)


def named_ports(containers: Iterable[tuple[Path, dict[str, Any]]], fields: Fields) -> Iterator[ContainerPort]:
    """The ports that have a name of these containers, each given with its path; all of them are checked."""
    for container_path, container in containers:
        names = set()
        for path, entry in fields.mappings(container, container_path, "ports"):
            name = fields.text(entry, path, "name")
            protocol = fields.protocol(entry, path)
            number = fields.port(entry, path, "containerPort")
            if not name:
                continue
            if fault := service_name_fault(name):
                fields.problem((*path, "name"), fault)
                number = number if is_tolerable(name) else 0
            if name in names:
                fields.problem((*path, "name"), f"{shown(name)} is given twice in one container; rename one")
            names.add(name)
            if number and protocol is not None:
                yield ContainerPort(name, protocol, number)


def parse_node(raw: dict[str, Any], metadata: Metadata, fields: Fields) -> Node:
    """A Node: status.addresses of type InternalIP, spec.podCIDRs (or podCIDR), and whether it is to be left."""
    spec = fields.mapping(raw, (), "spec")
    status = fields.mapping(raw, (), "status")
    ips: list[IPAddress] = []
    for path, entry in fields.mappings(status, _STATUS, "addresses"):
        if fields.text(entry, path, "type") != "InternalIP":
            continue
        ip = fields.reported((*path, "address"), fields.text(entry, path, "address"))
        if ip is not None:
            ips.append(ip)
    doomed = any(
        fields.text(entry, path, "key") == _SCALED_DOWN for path, entry in fields.mappings(spec, _SPEC, "taints")
    )
    return Node(
        metadata.name,
        metadata.labels,
        each_once(ips),
        _pod_cidrs(spec, fields),
        deleted=metadata.deleted or doomed,
        drained=parse_node_drained(metadata.annotations, fields),
    )


def _pod_cidrs(spec: dict[str, Any], fields: Fields) -> tuple[IPNetwork, ...]:
    first = fields.text(spec, _SPEC, "podCIDR")
    texts = fields.strings(spec, _SPEC, "podCIDRs")
    if first and not texts:
        texts = [((*_SPEC, "podCIDR"), first)]
    elif first and first != texts[0][1]:  # of the two, podCIDR counts, as the API converts them
        fields.note((*_SPEC, "podCIDR"), f"{shown(first)} is not the first of podCIDRs, which are not used therefore")
        texts = [((*_SPEC, "podCIDR"), first)]
    networks = (fields.network(path, text) for path, text in texts)
    return tuple(network for network in networks if network is not None)
