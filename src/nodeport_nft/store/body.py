"""The document as it is stored: what is of use of it, with the API server's defaults and the allocations filled in.

Source: the Kubernetes API reference of core/v1 ServiceSpec and meta/v1 ObjectMeta.
"""

from __future__ import annotations

import json
import os
from typing import Any

import msgspec

from nodeport_nft.kube.service import is_external
from nodeport_nft.model import Family, Service, ServiceType
from nodeport_nft.store.trimming import trimmed

_JSON = msgspec.json.Encoder()
_ALLOCATED = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort")


def completed(raw: dict[str, Any], service: Service | None, old: dict[str, Any] | None, now: str) -> dict[str, Any]:
    """The body to store for the document ``raw``; ``service`` is its allocated Service, None for other kinds.

    The creation time and the uid of the body stored before (``old``) stay; a new object gets ``now`` and a uid of its
    own, whatever it brings: a creation time decides who has a contested address. The resource version is a column,
    not part of the body.
    """
    metadata = dict(raw["metadata"])
    metadata.pop("resourceVersion", None)
    kept = {} if old is None else old["metadata"]  # a damaged one may have neither
    metadata["uid"] = kept.get("uid") or _new_uid()
    metadata["creationTimestamp"] = kept.get("creationTimestamp") or now
    body = trimmed({**raw, "metadata": metadata})
    if service is not None:
        body["spec"] = _spec(dict(raw.get("spec") or {}), service)
        status = raw.get("status")
        if service.type is not ServiceType.LOAD_BALANCER and isinstance(status, dict) and status.get("loadBalancer"):
            body["status"] = {**status, "loadBalancer": {}}  # there is none any more
    return body


def encoded(body: dict[str, Any]) -> bytes:
    """The body as JSON."""
    try:
        return _JSON.encode(body)
    except (OverflowError, ValueError):  # an integer of more than 64 bits, half of a surrogate pair
        return json.dumps(body, separators=(",", ":")).encode()


def _new_uid() -> str:
    """A random UUID (RFC 9562, section 5.4), in a third of the time that Python's ``uuid`` takes."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _spec(spec: dict[str, Any], service: Service) -> dict[str, Any]:
    spec["type"] = str(service.type)
    spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    for field in _ALLOCATED:
        spec.pop(field, None)
    # Left of another type: that nothing else is dropped was made sure before (``leftovers``).
    if service.type is not ServiceType.LOAD_BALANCER:
        spec.pop("allocateLoadBalancerNodePorts", None)
        spec.pop("loadBalancerClass", None)
    if not is_external(spec, service.type):
        spec.pop("externalTrafficPolicy", None)
    if service.type is not ServiceType.EXTERNAL_NAME:
        ips = ["None"] if service.headless else [str(ip) for ip in service.cluster_ips]
        spec["clusterIP"], spec["clusterIPs"] = ips[0], ips
        spec["ipFamilies"] = ["IPv4" if family is Family.IPV4 else "IPv6" for family in service.ip_families]
        spec["ipFamilyPolicy"] = service.ip_family_policy
        spec["internalTrafficPolicy"] = spec.get("internalTrafficPolicy") or "Cluster"
    if service.type in (ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER):
        spec["externalTrafficPolicy"] = spec.get("externalTrafficPolicy") or "Cluster"
    if service.type is ServiceType.LOAD_BALANCER:
        spec["allocateLoadBalancerNodePorts"] = service.allocate_node_ports
    if service.health_check_node_port:
        spec["healthCheckNodePort"] = service.health_check_node_port
    if service.ports:
        ports = []
        for raw, port in zip(spec["ports"], service.ports, strict=True):
            filled = {**raw, "protocol": str(port.protocol), "targetPort": port.target_port}
            filled.pop("nodePort", None)
            if port.node_port:
                filled["nodePort"] = port.node_port
            ports.append(filled)
        spec["ports"] = ports
    return spec
