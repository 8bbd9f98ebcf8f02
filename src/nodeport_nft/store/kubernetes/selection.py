"""What a node programs of an API server: four kinds, and which of their objects. The one place that says it.

The daemon follows these, and commands that work out the desired state list them, so that both mean the same. Never
Endpoints, Pods or other Nodes: who serves a Service stands in EndpointSlices, as for kube-proxy.
Source: the labels of Services in the Kubernetes documentation ("Well-Known Labels, Annotations and Taints"), and what
kube-proxy 1.36 asks for (cmd/kube-proxy/app/server.go).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.model import SERVICE_CIDR

_SERVICES = {
    "labelSelector": "!service.kubernetes.io/service-proxy-name",
    "fieldSelector": "spec.clusterIP!=None",
}
"""Neither those that name a proxy of their own, nor those that only DNS is to know. What is headless says so in its
spec: the label is the slices' own, and means nothing on a Service."""

_SLICES = {"labelSelector": "!service.kubernetes.io/headless"}
"""Not by the label that names another proxy, as with kube-proxy. A controller copies the labels of a Service to its
slices, later than the Service has them, and others may write them: a slice counts whose Service is ours."""

SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
"""Where an API server has its ServiceCIDRs; older ones than 1.33 have none there."""


class Selected(Struct, frozen=True):
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
        Selected("Service", BY_KIND["Service"].path(), _SERVICES),
        Selected("EndpointSlice", BY_KIND["EndpointSlice"].path(), _SLICES),
        Selected("Node", BY_KIND["Node"].path(), {"fieldSelector": f"metadata.name={node}"}),
        Selected(SERVICE_CIDR, SERVICE_CIDRS, {}, is_needed=False),
    )


def missing_node(where: object, node: str) -> str:
    """What is told where there is no Node of this name: with a slip in it, it would be a node without pods."""
    return (
        f"{where}: there is no Node {node}, and what it says of this node is missing; "
        "give the name that kubectl get nodes has for it with --node-name"
    )
