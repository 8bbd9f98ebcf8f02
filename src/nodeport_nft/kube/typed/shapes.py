"""Services and EndpointSlices as msgspec decodes them: every field that the API has, and no other.

A document with a field that is unknown, or of another type than the API gives it, is decoded into none of these: such
a one is for the parsers, which find words for it. So what is of no use here is named all the same. ``None`` is null,
which the API takes for absent. Source: ``api_fields.json``, as in ``unknown``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

_Plain = str | int | float | bool | None
"""Of a field that is not read."""

Text = Annotated[str, msgspec.Meta(max_length=317)]
"""Of a field that is looked at: as long as a label's key, which is the longest of what is right there.

What is longer goes the long way: texts and ports are remembered when the object is gone, and whoever writes to the
store is not to fill the memory with them.
"""

Short = Text | int | float | bool | None
"""Of a field that is not read, in what is remembered."""

MOST = 50
"""Items of the longest list that is remembered."""

_Few = msgspec.Meta(max_length=MOST)


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
    annotations: dict[Text, str] | None = None
    creation_timestamp: Text | None = None
    deletion_grace_period_seconds: _Plain = None
    deletion_timestamp: Text | None = None
    finalizers: list[Text] | None = None
    generate_name: _Plain = None
    generation: _Plain = None
    labels: dict[Text, Text] | None = None
    managed_fields: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    name: Text = ""
    namespace: Text = ""
    owner_references: list[OwnerReference] | None = None
    resource_version: Text = ""
    self_link: _Plain = None
    uid: Text = ""


class Named(Shape, frozen=True):
    """A hint: a zone or a node that should use an endpoint."""

    API: ClassVar[str] = "V1ForZone"
    name: Text | None = None


class Hints(Shape, frozen=True):
    API: ClassVar[str] = "V1EndpointHints"
    for_nodes: Annotated[tuple[Named, ...], _Few] | None = None
    for_zones: Annotated[tuple[Named, ...], _Few] | None = None


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
    addresses: list[Text] | None = None
    conditions: EndpointConditions | None = None
    deprecated_topology: dict[Text, Text] | None = None
    hints: Hints | None = None
    hostname: _Plain = None
    node_name: Text | None = None
    target_ref: ObjectReference | None = None
    zone: _Plain = None


class SlicePort(Shape, frozen=True):
    API: ClassVar[str] = "DiscoveryV1EndpointPort"
    app_protocol: Short = None
    name: Text | None = None
    port: int | None = None
    protocol: Text | None = None


class EndpointSlice(Shape, frozen=True):
    API: ClassVar[str] = "V1EndpointSlice"
    metadata: Metadata
    address_type: Text | None = None
    api_version: Text | None = None
    endpoints: list[Endpoint] | None = None
    kind: Text | None = None
    ports: tuple[SlicePort, ...] | None = None


class ServicePort(Shape, frozen=True):
    API: ClassVar[str] = "V1ServicePort"
    app_protocol: Short = None
    name: Text | None = None
    node_port: int | None = None
    port: int = 0
    protocol: Text | None = None
    target_port: int | Text | None = None


class ClientIP(Shape, frozen=True):
    API: ClassVar[str] = "V1ClientIPConfig"
    timeout_seconds: int | None = None


class SessionAffinityConfig(Shape, frozen=True):
    API: ClassVar[str] = "V1SessionAffinityConfig"
    client_ip: ClientIP | None = None


class ServiceSpec(Shape, frozen=True):
    API: ClassVar[str] = "V1ServiceSpec"
    allocate_load_balancer_node_ports: bool | None = None
    cluster_ip: Text | None = None
    cluster_ips: list[Text] | None = None
    external_ips: list[Text] | None = None
    external_name: Text | None = None
    external_traffic_policy: Text | None = None
    health_check_node_port: int | None = None
    internal_traffic_policy: Text | None = None
    ip_families: Annotated[tuple[Text, ...], _Few] | None = None
    ip_family_policy: Text | None = None
    load_balancer_class: _Plain = None
    load_balancer_ip: _Plain = None
    load_balancer_source_ranges: list[Text] | None = None
    ports: tuple[ServicePort, ...] | None = None
    publish_not_ready_addresses: bool | None = None
    selector: dict[Text, Text] | None = None
    session_affinity: Text | None = None
    session_affinity_config: SessionAffinityConfig | None = None
    traffic_distribution: Text | None = None
    type: Text | None = None


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
    ip: Text | None = None
    ip_mode: Text | None = None
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
    api_version: Text | None = None
    kind: Text | None = None
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class ContainerPort(Shape, frozen=True):
    API: ClassVar[str] = "V1ContainerPort"
    container_port: int = 0
    name: Text | None = None
    protocol: Text | None = None


class Container(Shape, frozen=True):
    API: ClassVar[str] = "V1Container"
    name: Short = None
    ports: Annotated[tuple[ContainerPort, ...], _Few] | None = None
    restart_policy: Text | None = None


class PodSpec(Shape, frozen=True):
    API: ClassVar[str] = "V1PodSpec"
    containers: Annotated[tuple[Container, ...], _Few] | None = None
    host_network: _Plain = None
    init_containers: Annotated[tuple[Container, ...], _Few] | None = None
    node_name: Text | None = None


class PodIP(Shape, frozen=True):
    API: ClassVar[str] = "V1PodIP"
    ip: Text | None = None


class PodCondition(Shape, frozen=True):
    API: ClassVar[str] = "V1PodCondition"
    reason: _Plain = None
    status: Text | None = None
    type: Text | None = None


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
    phase: Text | None = None
    pod_ip: Text | None = None
    pod_ips: list[PodIP] | None = None
    reason: _Plain = None


class Pod(Shape, frozen=True):
    """As it is stored: without what only a kubelet needs (``store.trimming``), and without probes of ours."""

    API: ClassVar[str] = "V1Pod"
    metadata: Metadata
    api_version: Text | None = None
    kind: Text | None = None
    spec: PodSpec | None = None
    status: PodStatus | None = None
