"""What of a document is stored: what this program reads or shows, and nothing that only a kubelet needs.

A Pod's manifest holds passwords in its containers' environments, arguments and probes; the annotation in which
kubectl notes the last applied manifest holds all of it once more. None of that has a use here, so none of it is kept,
and what an earlier version has kept is erased. The one exception is what a readiness probe that we run has to send
(``kube.probes``); those of Pods that a kubelet watches are dropped with the rest. Services and endpoints are stored
as they were read.

Source: the Kubernetes API reference of core/v1 PodSpec, PodStatus, NodeSpec and NodeStatus.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodeport_nft.kube.annotations import PREFIX
from nodeport_nft.kube.probes import is_unwatched

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_Shape = Mapping[str, Any] | list[Any] | None
"""A mapping's keys to keep, each with the shape of its value; the shape of each item of a list; None: as it is."""

_METADATA: _Shape = dict.fromkeys(
    ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels", "annotations")
)
_CONDITIONS: _Shape = [dict.fromkeys(("type", "status", "reason"))]  # a word; messages may quote anything
_CONTAINER: Mapping[str, Any] = {
    "name": None,
    "restartPolicy": None,
    "ports": [dict.fromkeys(("name", "containerPort", "protocol"))],
}
_CONTAINERS: _Shape = [_CONTAINER]
_PROBED: _Shape = [
    {
        **_CONTAINER,
        "readinessProbe": {
            **dict.fromkeys(("initialDelaySeconds", "timeoutSeconds", "periodSeconds")),
            **dict.fromkeys(("successThreshold", "failureThreshold")),
            "tcpSocket": dict.fromkeys(("port", "host")),
            "httpGet": {
                **dict.fromkeys(("port", "host", "scheme", "path")),
                "httpHeaders": [dict.fromkeys(("name", "value"))],
            },
        },
    }
]
_SHAPES: dict[str, Mapping[str, Any]] = {
    "Pod": {
        "apiVersion": None,
        "kind": None,
        "metadata": _METADATA,
        "spec": {
            "nodeName": None,
            "hostNetwork": None,
            "containers": _CONTAINERS,
            "initContainers": _CONTAINERS,  # one with restartPolicy Always is a sidecar, with ports like any other
        },
        "status": {
            **dict.fromkeys(("phase", "reason", "hostIP", "podIP")),
            "podIPs": [{"ip": None}],
            "conditions": _CONDITIONS,
            "containerStatuses": [
                {**dict.fromkeys(("name", "ready", "restartCount")), "state": {"waiting": {"reason": None}}}
            ],
        },
    },
    "Node": {
        "apiVersion": None,
        "kind": None,
        "metadata": _METADATA,
        "spec": {
            **dict.fromkeys(("podCIDR", "podCIDRs", "unschedulable")),
            "taints": [dict.fromkeys(("key", "value", "effect"))],
        },
        "status": {"addresses": [dict.fromkeys(("type", "address"))], "conditions": _CONDITIONS},
    },
}


_POD = _SHAPES["Pod"]
_PROBED_POD = {**_POD, "spec": {**_POD["spec"], "containers": _PROBED, "initContainers": _PROBED}}


def trimmed(body: dict[str, Any]) -> dict[str, Any]:
    """What is stored of ``body``, which stays as it is. It parses to the same values."""
    kind = body.get("kind")
    shape = _SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is _POD and is_unwatched(body.get("status")):
        shape = _PROBED_POD
    kept = body if shape is None else _kept(body, shape)
    metadata = kept.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(annotations, dict):
        return kept
    ours = {
        key: value
        for key, value in annotations.items()
        if key != LAST_APPLIED and (shape is None or key.startswith(PREFIX))
    }
    return kept if len(ours) == len(annotations) else {**kept, "metadata": {**kept["metadata"], "annotations": ours}}


def _kept(value: Any, shape: _Shape) -> Any:
    if isinstance(shape, Mapping) and isinstance(value, dict):
        return {key: _kept(item, shape[key]) for key, item in value.items() if key in shape}
    if isinstance(shape, list) and isinstance(value, list):
        return [_kept(item, shape[0]) for item in value]
    if shape is not None and isinstance(value, dict | list):
        return type(value)()  # as wrong as it was, without what is in it
    return value
