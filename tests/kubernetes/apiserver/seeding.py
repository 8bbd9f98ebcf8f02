"""What there is in a cluster that nobody has done anything with: namespaces, a ServiceCIDR, the API's own Service."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.apiserver import managed
from tests.kubernetes.apiserver.kinds import NAMESPACE, SERVICE, SERVICE_CIDR
from tests.kubernetes.apiserver.serving import State
from tests.kubernetes.apiserver.writing import How, now

CIDRS = ("10.96.0.0/14", "fd00:10:96::/112")
_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_REVISION = 200
"""About as far as a new cluster's revisions are when its first objects can be made."""


def begin(state: State, revision: int | None = None, cidrs: tuple[str, ...] = CIDRS) -> None:
    """Make it, so that revisions end a little behind ``revision``."""
    writer, storage = state.writer, state.storage
    server = How(manager="kube-apiserver")
    cidr: dict[str, Any] = {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": list(cidrs)}}
    writer.create(SERVICE_CIDR, "", cidr, server)
    _say_ready(state)
    for name in _NAMESPACES:
        writer.create(NAMESPACE, "", {"metadata": {"name": name}}, server)
    storage.bump(max(0, (revision or _REVISION) - storage.revision))
    first = "10.96.0.1" if cidrs[0] == CIDRS[0] else ""
    service = {
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": first, "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "port": 443, "targetPort": 6443}],
        },
    }  # fmt: skip
    writer.create(SERVICE, "default", service, server)
    storage.bump()


def _say_ready(state: State) -> None:
    kind = SERVICE_CIDR
    held = state.storage.all(kind)["", "kubernetes"].value
    ready = {
        "type": "Ready", "status": "True", "lastTransitionTime": now(), "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
    }  # fmt: skip
    value = {**held, "status": {"conditions": [ready]}}
    key = ("f:status", "f:conditions", 'k:{"type":"Ready"}')
    fields = [key, *((*key, f"f:{name}") for name in ("lastTransitionTime", "message", "status", "type"))]
    manager = "kubernetes-service-cidr-controller"
    entry = managed.entry(manager, "Apply", kind.api_version, "status", fields, now())
    value["metadata"] = {**held["metadata"], "managedFields": [entry, *held["metadata"]["managedFields"]]}
    state.storage.put(kind, ("", "kubernetes"), value)
