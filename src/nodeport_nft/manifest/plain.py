"""Documents as most are, with nothing to be told of them: read by typed decoding, several times as fast.

Ten thousand Services and their slices look alike: names, numbers and addresses, all of them right. For these the
types below are enough. Whatever else a document has (a field that is wrong, unknown or null; a note to be told; a
type of Service, an annotation or a hint that asks for more than is understood here) is not plain, and nothing is said
of it here: it is read as a whole by the parsers of ``kube``, which are the ones to say what is wrong.

So there is one law: of a plain document both ways make the same object, and the parsers have nothing to tell.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, ValidationError, convert

from nodeport_nft.kube.annotations import PREFIX, note_unknown
from nodeport_nft.kube.endpoints import HEADLESS_LABEL, SERVICE_NAME_LABEL
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.foreign_keys import SOURCE_RANGES, check_foreign_keys
from nodeport_nft.kube.limits import MAX_ANNOTATIONS, MAX_ENDPOINTS
from nodeport_nft.kube.metadata import Metadata, parse_metadata
from nodeport_nft.kube.objects import Object
from nodeport_nft.kube.service import PROXY_NAME_LABEL
from nodeport_nft.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    IPAddress,
    Protocol,
    Ranges,
    Ref,
    Service,
    ServicePort,
    ServiceType,
)
from nodeport_nft.notation import (
    group_fault,
    label_fault,
    label_key_fault,
    label_value_fault,
    parse_address,
    service_name_fault,
    special_fault,
    subdomain_fault,
)

Claim = int | IPAddress
"""A nodePort or a clusterIP, of which the cluster has one each."""

_Port = Annotated[int, Meta(ge=1, le=65535)]
_Word = Literal["TCP", "UDP", "SCTP"]
_FamilyName = Literal["IPv4", "IPv6"]


class _Plain(Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """What has these fields and no others; null is none of their values."""


class _Owner(_Plain, frozen=True):
    apiVersion: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    blockOwnerDeletion: bool = False


class _Managed(_Plain, frozen=True):
    manager: str = ""
    operation: str = ""
    apiVersion: str = ""
    time: str = ""
    fieldsType: str = ""
    fieldsV1: dict[str, Any] = {}
    subresource: str = ""


class _Metadata(_Plain, frozen=True):
    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creationTimestamp: str | None = None
    generateName: str = ""
    generation: int = 0
    managedFields: list[_Managed] = []
    ownerReferences: list[_Owner] = []
    resourceVersion: str = ""
    uid: str = ""


class _ServicePort(_Plain, frozen=True):
    port: _Port
    name: str | None = None
    protocol: _Word = "TCP"
    targetPort: _Port | str | None = None
    nodePort: _Port | None = None
    appProtocol: str | None = None


class _Spec(_Plain, frozen=True):
    ports: Annotated[list[_ServicePort], Meta(min_length=1)]
    type: Literal["ClusterIP", "NodePort"] = "ClusterIP"
    clusterIP: str = ""
    clusterIPs: Annotated[list[str], Meta(max_length=1)] = []
    ipFamilies: Annotated[list[_FamilyName], Meta(max_length=1)] = []
    ipFamilyPolicy: Literal["SingleStack", "PreferDualStack"] | None = None
    selector: dict[str, str] = {}
    sessionAffinity: Literal["None"] = "None"
    internalTrafficPolicy: Literal["Cluster", "Local"] = "Cluster"
    externalTrafficPolicy: Literal["Cluster", "Local"] | None = None
    publishNotReadyAddresses: bool = False


class _NoBalancer(_Plain, frozen=True):
    pass


class _ServiceStatus(_Plain, frozen=True):
    loadBalancer: _NoBalancer = _NoBalancer()


class PlainService(_Plain, frozen=True):
    """A Service without anything that is seldom asked for. What its texts say is not checked by its types."""

    apiVersion: Literal["v1"]
    kind: Literal["Service"]
    metadata: _Metadata
    spec: _Spec
    status: _ServiceStatus = _ServiceStatus()


class _SlicePort(_Plain, frozen=True):
    port: _Port
    name: str | None = None
    protocol: _Word = "TCP"
    appProtocol: str | None = None


class _Conditions(_Plain, frozen=True):
    ready: bool = True
    serving: bool = True
    terminating: bool = False


_USUAL = _Conditions()


class _Target(_Plain, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class _Endpoint(_Plain, frozen=True):
    addresses: Annotated[list[str], Meta(min_length=1, max_length=1)]
    conditions: _Conditions = _USUAL
    nodeName: str | None = None
    hostname: str | None = None
    zone: str = ""
    targetRef: _Target = _Target()


class _Slice(_Plain, frozen=True):
    apiVersion: Literal["discovery.k8s.io/v1"]
    kind: Literal["EndpointSlice"]
    metadata: _Metadata
    addressType: _FamilyName
    ports: list[_SlicePort] = []
    endpoints: Annotated[list[_Endpoint], Meta(max_length=MAX_ENDPOINTS)] = []


_FAMILIES = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}
_PROTOCOLS: dict[str, Protocol] = {str(protocol): protocol for protocol in Protocol}
_TYPES = {"ClusterIP": ServiceType.CLUSTER_IP, "NodePort": ServiceType.NODE_PORT}
_ORDINARY = frozenset(range(1, 224)) - {127, 169}
"""First octets that no special address (``notation.special_fault``, ``group_fault``) begins with."""


class _Other(Exception):
    """The document is not plain."""


class PlainReader:
    """Reads plain documents; ``ranges`` and ``namespace`` as for ``read_manifests``."""

    def __init__(self, ranges: Ranges, namespace: str) -> None:
        self._namespace = "" if label_fault(namespace) else sys.intern(namespace)
        self._node_ports = ranges.node_ports
        self._cluster_ips: dict[int, tuple[int, int]] = {}
        for cidr in reversed(ranges.service_cidrs):
            first, last = int(cidr.network_address), int(cidr.broadcast_address)
            if cidr.num_addresses > 2:
                first, last = first + 1, last - (cidr.version == 4)
            self._cluster_ips[cidr.version] = first, last

    def read(self, raw: Any) -> tuple[Object, list[Claim]] | None:
        """The object of a document, without its source, and what it claims; None: it is not plain."""
        try:
            kind = raw["kind"]
            if kind == "EndpointSlice":
                return self._slice(raw, convert(raw, _Slice)), []
            if kind == "Service":
                return self._service(raw, convert(raw, PlainService))
        except (_Other, ValidationError, TypeError, KeyError, ValueError):
            pass
        return None

    def _service(self, raw: dict[str, Any], read: PlainService) -> tuple[Object, list[Claim]]:
        metadata, spec = read.metadata, read.spec
        kind = _TYPES[spec.type]
        _ask(not label_fault(metadata.name))
        namespace, created = self._check_metadata(metadata, "Service")
        claims: list[Claim] = []
        addresses, headless = self._addresses(spec, kind, claims)
        _ask(spec.externalTrafficPolicy is None or kind is ServiceType.NODE_PORT)
        _check_labels(spec.selector, "Service")
        service = Service(
            namespace,
            metadata.name,
            kind,
            self._ports(spec.ports, kind, claims),
            cluster_ips=addresses,
            headless=headless,
            ip_families=tuple([_FAMILIES[family] for family in spec.ipFamilies]),
            ip_family_policy=spec.ipFamilyPolicy or "",
            selector=spec.selector,
            publish_not_ready_addresses=spec.publishNotReadyAddresses,
            external_traffic_policy=sys.intern(spec.externalTrafficPolicy or "Cluster"),
            internal_traffic_policy=sys.intern(spec.internalTrafficPolicy),
            created=created,
            proxy_name=metadata.labels.get(PROXY_NAME_LABEL),
        )
        return _object(raw, service), claims

    def _addresses(self, spec: _Spec, kind: ServiceType, claims: list[Claim]) -> tuple[tuple[IPAddress, ...], bool]:
        """The clusterIP as far as it is given, and whether the Service is headless."""
        given = spec.clusterIPs[0] if spec.clusterIPs else spec.clusterIP
        _ask(not spec.clusterIP or spec.clusterIP == given)
        for family in spec.ipFamilies:
            _ask(_FAMILIES[family] in self._cluster_ips)
        if not given:
            _ask(not spec.clusterIPs)
            return (), False
        if given == "None":
            _ask(kind is ServiceType.CLUSTER_IP)
            return (), True
        ip = parse_address(given)
        _ask(not spec.ipFamilies or _FAMILIES[spec.ipFamilies[0]] == ip.version)
        first, last = self._cluster_ips[ip.version]
        _ask(first <= int(ip) <= last)
        claims.append(ip)
        return (ip,), False

    def _ports(self, given: list[_ServicePort], kind: ServiceType, claims: list[Claim]) -> tuple[ServicePort, ...]:
        ports = []
        for each in given:
            if each.name is not None:
                _ask(not label_fault(each.name))
            if each.appProtocol is not None:
                _ask(not label_key_fault(each.appProtocol))
            target = each.port if each.targetPort is None else each.targetPort
            if isinstance(target, str):
                _ask(not service_name_fault(target))
            if each.nodePort is not None:
                _ask(kind is ServiceType.NODE_PORT and each.nodePort in self._node_ports)
                claims.append(each.nodePort)
            protocol = _PROTOCOLS[each.protocol]
            ports.append(ServicePort(sys.intern(each.name or ""), protocol, each.port, target, each.nodePort or 0))
        if len(ports) > 1:
            _ask(all(port.name for port in ports) and len({port.name for port in ports}) == len(ports))
            _ask(len({(port.protocol, port.port) for port in ports}) == len(ports))
            numbers = [(port.protocol, port.node_port) for port in ports if port.node_port]
            _ask(len(set(numbers)) == len(numbers))
        return tuple(ports)

    def _slice(self, raw: dict[str, Any], read: _Slice) -> Object:
        metadata = read.metadata
        _ask(not subdomain_fault(metadata.name))
        namespace, _ = self._check_metadata(metadata, "EndpointSlice")
        service = metadata.labels.get(SERVICE_NAME_LABEL, "")
        _ask(service)
        family = _FAMILIES[read.addressType]
        ports = tuple(map(_slice_port, read.ports))
        _ask(len({port.name for port in ports}) == len(ports))
        made = EndpointSlice(
            namespace,
            metadata.name,
            service,
            ports,
            tuple([_endpoint(each, family) for each in read.endpoints]),
            headless=HEADLESS_LABEL in metadata.labels,
        )
        return _object(raw, made)

    def _check_metadata(self, metadata: _Metadata, kind: str) -> tuple[str, str]:
        """Its namespace and its creation time."""
        namespace = metadata.namespace
        if namespace:
            _ask(not label_fault(namespace))
        else:
            namespace = self._namespace
            _ask(namespace)
        if metadata.labels:
            _check_labels(metadata.labels, kind)
        if metadata.annotations:
            pairs = metadata.annotations.items()
            _ask(all(_is_plain_annotation(key, kind) for key in metadata.annotations))
            _ask(sum(len(key) + len(text) for key, text in pairs) * 4 <= MAX_ANNOTATIONS)  # UTF-8 has 4 bytes at most
        created = "" if metadata.creationTimestamp is None else _created(metadata.creationTimestamp)
        return sys.intern(namespace), created


def _ask(is_plain: object) -> None:
    if not is_plain:
        raise _Other


def _object(raw: dict[str, Any], value: Service | EndpointSlice) -> Object:
    given = raw["metadata"]
    if not given.get("namespace"):
        raw = {**raw, "metadata": {**given, "namespace": value.namespace}}
    return Object(Ref(raw["kind"], value.namespace, value.name), raw, (value,))


def _slice_port(given: _SlicePort) -> EndpointPort:
    if given.name is not None:
        _ask(not label_fault(given.name))
    if given.appProtocol is not None:
        _ask(not label_key_fault(given.appProtocol))
    return EndpointPort(sys.intern(given.name or ""), _PROTOCOLS[given.protocol], given.port)


def _endpoint(given: _Endpoint, family: Family) -> Endpoint:
    text = given.addresses[0]
    address = parse_address(text)
    _ask(address.version == family)
    if not (isinstance(address, IPv4Address) and int(address) >> 24 in _ORDINARY):
        _ask(not special_fault(address) and not group_fault(address) and text == str(address))
    if given.hostname is not None:
        _ask(not label_fault(given.hostname))
    node = given.nodeName
    if node is None:
        node = ""
    else:
        _ask(_is_node_name(node))
        node = sys.intern(node)
    conditions = given.conditions
    if conditions is _USUAL:
        return Endpoint(address, node_name=node)
    return Endpoint(address, conditions.ready, conditions.serving, conditions.terminating, node)


def _check_labels(labels: dict[str, str], kind: str) -> None:
    for key, value in labels.items():
        _ask(_is_plain_label(key, kind) and not label_value_fault(value))


@lru_cache(4096)
def _is_node_name(text: str) -> bool:
    return not subdomain_fault(text)


@lru_cache(4096)
def _is_plain_label(key: str, kind: str) -> bool:
    """Whether nothing is to be told of a label's key, whatever its value is and whatever others there are."""
    return not label_key_fault(key) and _nothing_told({key: ""}, {}, kind)


@lru_cache(4096)
def _is_plain_annotation(key: str, kind: str) -> bool:
    """The same of an annotation that has no meaning here."""
    if key.startswith(PREFIX) or key == SOURCE_RANGES or label_key_fault(key.lower()):
        return False
    return _nothing_told({}, {key: ""}, kind)


def _nothing_told(labels: dict[str, str], annotations: dict[str, str], kind: str) -> bool:
    fields = Fields()
    note_unknown(labels, annotations, kind, fields)
    check_foreign_keys({}, kind, Metadata("", "", labels, annotations, created="", deleted=False), fields)
    return not (fields.problems or fields.notes or fields.unknown)


@lru_cache(4096)
def _created(text: str) -> str:
    """A creation time as the model has it. Raises _Other."""
    fields = Fields()
    fields.incoming = True
    named = {"metadata": {"name": "any", "creationTimestamp": text}}
    created = parse_metadata(named, "Service", "any", fields).created
    _ask(not fields.problems)
    return created
