"""A decoded Pod → the Pod of the model; ``None`` is what ``workload`` or ``probes`` has anything to say about."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache

from nodeport_nft.kube.typed import shapes, texts
from nodeport_nft.model import ContainerPort, IPAddress, Pod
from nodeport_nft.notation import service_name_fault

_STATES = (None, "", "True", "False", "Unknown")
_FINISHED = ("Succeeded", "Failed")
_NO_LABELS: dict[str, str] = {}
_NOTHING = shapes.PodStatus()
_NOWHERE = shapes.PodSpec()


def pod(found: shapes.Pod, namespace: str, name: str) -> Pod | None:
    """The Pod of this name, which the caller has looked at, as its metadata."""
    spec, status = found.spec or _NOWHERE, found.status or _NOTHING
    ips, ports = _ips(status), _ports(spec.containers or (), spec.init_containers or ())
    conditions = status.conditions or ()
    if ips is None or ports is None or any(each.status not in _STATES for each in conditions):
        return None
    ready = not conditions
    for each in conditions:
        if each.type == "Ready":
            ready = each.status == "True"
    return Pod(
        namespace,
        name,
        _labels(tuple(found.metadata.labels.items())) if found.metadata.labels else _NO_LABELS,
        ips,
        sys.intern(spec.node_name or ""),
        ready,
        bool(found.metadata.deletion_timestamp),
        status.phase in _FINISHED,
        ports,
    )


@lru_cache(1024)
def _labels(pairs: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """The same in all Pods of a Deployment, and kept once; nobody writes to what is in a value of the model."""
    return dict(pairs)


def _ips(status: shapes.PodStatus) -> tuple[IPAddress, ...] | None:
    given = [each.ip for each in status.pod_ips or () if each.ip] or ([status.pod_ip] if status.pod_ip else [])
    if status.pod_ip and status.pod_ip != given[0]:
        return None
    ips = [ip for ip in map(texts.endpoint_address, given) if ip is not None]
    if len(ips) != len(given) or len({ip.version for ip in ips}) != len(ips):
        return None
    return tuple(ips)


@lru_cache(1024)
def _ports(
    containers: tuple[shapes.Container, ...], before: tuple[shapes.Container, ...]
) -> tuple[ContainerPort, ...] | None:
    """The named ports of the containers and of the sidecars among those ``before``; the same in very many Pods."""
    ports: list[ContainerPort] = []
    for container in (*containers, *(each for each in before if each.restart_policy == "Always")):
        names = set()
        for entry in container.ports or ():
            protocol = texts.PROTOCOLS.get(entry.protocol)
            if protocol is None or not 1 <= entry.container_port <= 65535 or entry.name in names:
                return None
            if not entry.name:
                continue
            if service_name_fault(entry.name):
                return None
            names.add(entry.name)
            ports.append(ContainerPort(entry.name, protocol, entry.container_port))
    return tuple(ports)
