"""Services and EndpointSlices as msgspec decodes them: every field that the API has, and no other.

A document with a field that is unknown, or of another type than the API gives it, is decoded into none of these: such
a one is for the parsers, which find words for it. So what is of no use here is named all the same. ``None`` is null,
which the API takes for absent. Source: ``api_fields.json``, as in ``unknown``.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

_Plain = str | int | float | bool | None
"""Of a field that is not read."""


def _in_json(name: str) -> str:
    """``cluster_ips`` is ``clusterIPs``."""
    first, *rest = name.split("_")
    return first + "".join({"ip": "IP", "ips": "IPs"}.get(word, word.capitalize()) for word in rest)


class Shape(msgspec.Struct, rename=_in_json, forbid_unknown_fields=True, frozen=True, gc=False):
    """A type of the API, called ``API`` there. Nothing in it is ever part of a cycle: no work for the collector."""

    API: ClassVar[str] = ""


class OwnerReference(Shape, frozen=True):
    API: ClassVar[str] = "V1OwnerReference"
    api_version: _Plain = None
    block_owner_deletion: _Plain = None
    controller: _Plain = None
    kind: _Plain = None
    name: _Plain = None
    uid: _Plain = None


class Metadata(Shape, frozen=True):
    """``managed_fields`` is passed over undecoded: an API server has more of it than of all the rest."""

    API: ClassVar[str] = "V1ObjectMeta"
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_grace_period_seconds: _Plain = None
    deletion_timestamp: str | None = None
    finalizers: list[str] | None = None
    generate_name: _Plain = None
    generation: _Plain = None
    labels: dict[str, str] | None = None
    managed_fields: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    name: str = ""
    namespace: str = ""
    owner_references: list[OwnerReference] | None = None
    resource_version: str = ""
    self_link: _Plain = None
    uid: str = ""


class Named(Shape, frozen=True):
    """A hint: a zone or a node that should use an endpoint."""

    API: ClassVar[str] = "V1ForZone"
    name: str | None = None


class Hints(Shape, frozen=True):
    API: ClassVar[str] = "V1EndpointHints"
    for_nodes: tuple[Named, ...] | None = None
    for_zones: tuple[Named, ...] | None = None


class EndpointConditions(Shape, frozen=True):
    API: ClassVar[str] = "V1EndpointConditions"
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ObjectReference(Shape, frozen=True):
    API: ClassVar[str] = "V1ObjectReference"
    api_version: _Plain = None
    field_path: _Plain = None
    kind: _Plain = None
    name: _Plain = None
    namespace: _Plain = None
    resource_version: _Plain = None
    uid: _Plain = None


class Endpoint(Shape, frozen=True):
    API: ClassVar[str] = "V1Endpoint"
    addresses: list[str] | None = None
    conditions: EndpointConditions | None = None
    deprecated_topology: dict[str, str] | None = None
    hints: Hints | None = None
    hostname: _Plain = None
    node_name: str | None = None
    target_ref: ObjectReference | None = None
    zone: _Plain = None


class SlicePort(Shape, frozen=True):
    API: ClassVar[str] = "DiscoveryV1EndpointPort"
    app_protocol: _Plain = None
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointSlice(Shape, frozen=True):
    API: ClassVar[str] = "V1EndpointSlice"
    metadata: Metadata
    address_type: str | None = None
    api_version: str | None = None
    endpoints: list[Endpoint] | None = None
    kind: str | None = None
    ports: tuple[SlicePort, ...] | None = None


class ServicePort(Shape, frozen=True):
    API: ClassVar[str] = "V1ServicePort"
    app_protocol: _Plain = None
    name: str | None = None
    node_port: int | None = None
    port: int = 0
    protocol: str | None = None
    target_port: int | str | None = None


class ClientIP(Shape, frozen=True):
    API: ClassVar[str] = "V1ClientIPConfig"
    timeout_seconds: int | None = None


class SessionAffinityConfig(Shape, frozen=True):
    API: ClassVar[str] = "V1SessionAffinityConfig"
    client_ip: ClientIP | None = None


class ServiceSpec(Shape, frozen=True):
    API: ClassVar[str] = "V1ServiceSpec"
    allocate_load_balancer_node_ports: bool | None = None
    cluster_ip: str | None = None
    cluster_ips: list[str] | None = None
    external_ips: list[str] | None = None
    external_name: str | None = None
    external_traffic_policy: str | None = None
    health_check_node_port: int | None = None
    internal_traffic_policy: str | None = None
    ip_families: tuple[str, ...] | None = None
    ip_family_policy: str | None = None
    load_balancer_class: _Plain = None
    load_balancer_ip: _Plain = None
    load_balancer_source_ranges: list[str] | None = None
    ports: tuple[ServicePort, ...] | None = None
    publish_not_ready_addresses: bool | None = None
    selector: dict[str, str] | None = None
    session_affinity: str | None = None
    session_affinity_config: SessionAffinityConfig | None = None
    traffic_distribution: str | None = None
    type: str | None = None


class Condition(Shape, frozen=True):
    API: ClassVar[str] = "V1Condition"
    last_transition_time: _Plain = None
    message: _Plain = None
    observed_generation: _Plain = None
    reason: _Plain = None
    status: _Plain = None
    type: _Plain = None


class PortStatus(Shape, frozen=True):
    API: ClassVar[str] = "V1PortStatus"
    error: _Plain = None
    port: _Plain = None
    protocol: _Plain = None


class Ingress(Shape, frozen=True):
    API: ClassVar[str] = "V1LoadBalancerIngress"
    hostname: _Plain = None
    ip: str | None = None
    ip_mode: str | None = None
    ports: list[PortStatus] | None = None


class LoadBalancerStatus(Shape, frozen=True):
    API: ClassVar[str] = "V1LoadBalancerStatus"
    ingress: list[Ingress] | None = None


class ServiceStatus(Shape, frozen=True):
    API: ClassVar[str] = "V1ServiceStatus"
    conditions: list[Condition] | None = None
    load_balancer: LoadBalancerStatus | None = None


class Service(Shape, frozen=True):
    API: ClassVar[str] = "V1Service"
    metadata: Metadata
    api_version: str | None = None
    kind: str | None = None
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class ContainerPort(Shape, frozen=True):
    API: ClassVar[str] = "V1ContainerPort"
    container_port: int = 0
    name: str | None = None
    protocol: str | None = None


class Container(Shape, frozen=True):
    API: ClassVar[str] = "V1Container"
    name: _Plain = None
    ports: tuple[ContainerPort, ...] | None = None
    restart_policy: str | None = None


class PodSpec(Shape, frozen=True):
    API: ClassVar[str] = "V1PodSpec"
    containers: tuple[Container, ...] | None = None
    host_network: _Plain = None
    init_containers: tuple[Container, ...] | None = None
    node_name: str | None = None


class PodIP(Shape, frozen=True):
    API: ClassVar[str] = "V1PodIP"
    ip: str | None = None


class PodCondition(Shape, frozen=True):
    API: ClassVar[str] = "V1PodCondition"
    reason: _Plain = None
    status: str | None = None
    type: str | None = None


class StateWaiting(Shape, frozen=True):
    API: ClassVar[str] = "V1ContainerStateWaiting"
    reason: _Plain = None


class ContainerState(Shape, frozen=True):
    API: ClassVar[str] = "V1ContainerState"
    waiting: StateWaiting | None = None


class ContainerStatus(Shape, frozen=True):
    API: ClassVar[str] = "V1ContainerStatus"
    name: _Plain = None
    ready: _Plain = None
    restart_count: _Plain = None
    state: ContainerState | None = None


class PodStatus(Shape, frozen=True):
    API: ClassVar[str] = "V1PodStatus"
    conditions: list[PodCondition] | None = None
    container_statuses: list[ContainerStatus] | None = None
    host_ip: _Plain = None
    phase: str | None = None
    pod_ip: str | None = None
    pod_ips: list[PodIP] | None = None
    reason: _Plain = None


class Pod(Shape, frozen=True):
    """As it is stored: without what only a kubelet needs (``store.trimming``), and without probes of ours."""

    API: ClassVar[str] = "V1Pod"
    metadata: Metadata
    api_version: str | None = None
    kind: str | None = None
    spec: PodSpec | None = None
    status: PodStatus | None = None
