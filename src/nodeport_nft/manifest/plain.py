"""Documents as most are, with nothing to be told of them: read by typed decoding, several times as fast.

Ten thousand Services and their slices look alike: names, numbers and addresses, all of them right. ``kube.typed``
makes values of such; what comes in from a manifest has a few rules more than what is stored, and these are here.
Whatever else a document has (something wrong, a note to be told, a type of Service or a field that asks for more than
is understood here) is not plain, and nothing is said of it: it is read by the parsers of ``kube``, which have words.

So there is one law: of a plain document both ways make the same object, and the parsers have nothing to tell.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from msgspec import ValidationError, convert

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube.annotations import PREFIX, note_unknown
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.foreign_keys import SOURCE_RANGES, check_foreign_keys
from nodeport_nft.kube.limits import MAX_ANNOTATIONS, MAX_ENDPOINTS, MAX_PORTS
from nodeport_nft.kube.metadata import Metadata
from nodeport_nft.kube.objects import Object
from nodeport_nft.kube.typed import shapes, values_of
from nodeport_nft.model import EndpointSlice, IPAddress, Ranges, Ref, Service
from nodeport_nft.notation import label_fault, label_key_fault, label_value_fault, subdomain_fault

Claim = int | IPAddress
"""A nodePort or a clusterIP, of which the cluster has one each."""

_SHAPES = {"Service": shapes.Service, "EndpointSlice": shapes.EndpointSlice}


class PlainReader:
    """Reads plain documents; ``ranges`` and ``namespace`` as for ``read_manifests``."""

    def __init__(self, ranges: Ranges, namespace: str) -> None:
        self._namespace = "" if label_fault(namespace) else sys.intern(namespace)
        self._node_ports = ranges.node_ports
        self._cluster_ips: dict[int, tuple[int, int]] = {}  # by family, the first and the last that can be one
        for cidr in reversed(ranges.service_cidrs):
            first, last = int(cidr.network_address), int(cidr.broadcast_address)
            if cidr.num_addresses > 2:
                first, last = first + 1, last - (cidr.version == 4)
            self._cluster_ips[cidr.version] = first, last

    def read(self, raw: Any) -> tuple[Object, list[Claim]] | None:
        """The object of a document, without its source, and what it claims; None: it is not plain."""
        try:
            kind = raw["kind"]
            document: shapes.Service | shapes.EndpointSlice = convert(raw, _SHAPES[kind])
        except (ValidationError, TypeError, KeyError):
            return None
        metadata = document.metadata
        namespace = metadata.namespace or self._namespace
        if not namespace or document.api_version != BY_KIND[kind].api_version:
            return None
        is_plain = _is_plain_service(document) if isinstance(document, shapes.Service) else _is_plain_slice(document)
        if not (is_plain and _is_plain_metadata(metadata, kind)):
            return None
        values = values_of(Ref(kind, namespace, metadata.name), document)
        if values is None:
            return None
        (value,) = values
        claims: list[Claim] = []
        if isinstance(value, Service):
            claims += value.cluster_ips
            claims += [port.node_port for port in value.ports if port.node_port]
            if not self._in_ranges(value):
                return None
        elif isinstance(document, shapes.EndpointSlice) and document.address_type != "IPv4":
            given = [each.addresses for each in document.endpoints or ()]
            assert isinstance(value, EndpointSlice)
            if given != [[str(each.address)] for each in value.endpoints]:  # the API wants the canonical form
                return None
        if not metadata.namespace:
            raw = {**raw, "metadata": {**raw["metadata"], "namespace": namespace}}
        return Object(Ref(kind, namespace, metadata.name), raw, values), claims

    def _in_ranges(self, service: Service) -> bool:
        for family in service.ip_families:
            if family not in self._cluster_ips:
                return False
        for ip in service.cluster_ips:
            first, last = self._cluster_ips.get(ip.version, (1, 0))
            if not first <= int(ip) <= last:
                return False
        return all(port.node_port in self._node_ports for port in service.ports if port.node_port)


def _is_plain_metadata(metadata: shapes.Metadata, kind: str) -> bool:
    if metadata.deletion_timestamp is not None or metadata.creation_timestamp == "":
        return False
    if metadata.labels and not _are_plain_labels(metadata.labels, kind):
        return False
    annotations = metadata.annotations
    if not annotations:
        return True
    size = sum(len(key) + len(text) for key, text in annotations.items()) * 4  # bytes of UTF-8 at most
    return size <= MAX_ANNOTATIONS and all(_is_plain_annotation(key, kind) for key in annotations)


def _is_plain_service(document: shapes.Service) -> bool:
    spec, status = document.spec, document.status
    if spec is None or (status is not None and status.load_balancer is not None and status.load_balancer.ingress):
        return False
    ports = spec.ports or ()
    if spec.type != "NodePort" and (
        spec.type not in (None, "", "ClusterIP")
        or spec.external_traffic_policy
        or any(port.node_port for port in ports)
    ):
        return False
    if spec.external_ips or spec.load_balancer_source_ranges or spec.health_check_node_port:
        return False
    if not (
        spec.external_name is None
        and spec.allocate_load_balancer_node_ports is None
        and spec.load_balancer_class is None
        and spec.load_balancer_ip is None
        and spec.session_affinity != "ClientIP"
        and spec.session_affinity_config is None
    ):
        return False
    if "" in (spec.ip_family_policy, spec.internal_traffic_policy, spec.traffic_distribution):
        return False
    # Two families ask for more than is looked at here.
    if len(spec.cluster_ips or ()) > 1 or len(spec.ip_families or ()) > 1 or spec.ip_family_policy == _BOTH:
        return False
    if spec.selector and not _are_plain_labels(spec.selector, "Service"):
        return False
    return all(port.app_protocol is None or _is_key(port.app_protocol) for port in ports)


_BOTH = "RequireDualStack"


def _is_plain_slice(document: shapes.EndpointSlice) -> bool:
    endpoints, ports = document.endpoints or (), document.ports or ()
    if len(endpoints) > MAX_ENDPOINTS or len(ports) > MAX_PORTS:
        return False
    for port in ports:
        if port.protocol == "" or not (port.app_protocol is None or _is_key(port.app_protocol)):
            return False
    for each in endpoints:
        if not each.addresses or len(each.addresses) > 1 or each.hints is not None:
            return False
        if each.node_name is not None and not _is_node_name(each.node_name):
            return False
        if each.hostname is not None and (not isinstance(each.hostname, str) or label_fault(each.hostname)):
            return False
        if not isinstance(each.zone, str | None):
            return False
    return True


def _is_key(given: object) -> bool:
    return isinstance(given, str) and not label_key_fault(given)


def _are_plain_labels(labels: dict[str, str], kind: str) -> bool:
    return not [key for key, value in labels.items() if not _is_plain_label(key, kind) or label_value_fault(value)]


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
