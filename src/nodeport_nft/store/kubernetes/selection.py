"""What a node programs of an API server: four kinds, and which of their objects. The one place that says it.

The daemon follows these, and commands that work out the desired state list them, so that both mean the same. Never
Endpoints, Pods or other Nodes: who serves a Service stands in EndpointSlices, as for kube-proxy.
Source: the labels of Services in the Kubernetes documentation ("Well-Known Labels, Annotations and Taints").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.model import SERVICE_CIDR

_OURS = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"
"""Neither what names a proxy of its own, nor what only DNS is to know. Both labels are copied to EndpointSlices."""

SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
"""Where an API server has its ServiceCIDRs; older ones than 1.33 have none there."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The objects of a ``kind`` that are asked for: ``path`` and ``query`` of a list, or of a watch.

    ``is_needed`` False: a server may not have this kind, or not let us see it, and all the rest is programmed.
    """

    kind: str
    path: str
    query: Mapping[str, str]
    is_needed: bool = True


def selected(node: str) -> tuple[Selected, ...]:
    """What the node of this name programs."""
    return (
        Selected("Service", BY_KIND["Service"].path(), {"labelSelector": _OURS}),
        Selected("EndpointSlice", BY_KIND["EndpointSlice"].path(), {"labelSelector": _OURS}),
        Selected("Node", BY_KIND["Node"].path(), {"fieldSelector": f"metadata.name={node}"}),
        Selected(SERVICE_CIDR, SERVICE_CIDRS, {}, is_needed=False),
    )


def missing_node(where: object, node: str) -> str:
    """What is told where there is no Node of this name: with a slip in it, it would be a node without pods."""
    return (
        f"{where}: there is no Node {node}, and what it says of this node is missing; "
        "give the name that kubectl get nodes has for it with --node-name"
    )
