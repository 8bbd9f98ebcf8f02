"""The fields of Pods and Nodes."""

from __future__ import annotations

from nodeport_nft.explain.common import NAME, PORT, PROBE, head
from nodeport_nft.explain.field import Field, below

_CONTAINER_PORT = (
    Field("name", "string", "A name that a Service's targetPort may say.", default="none"),
    Field("containerPort", "integer", "The port's number.", allowed=PORT),
    Field("protocol", "string", "The protocol.", default="TCP", allowed="TCP, UDP, SCTP"),
    Field(
        "hostPort", "integer", "A port of the node's own; nothing is opened for it here.", allowed=PORT, acts=False
    ),
)
_PROBED = (
    "What the endpoint must pass to be ready. It is run by a daemon here if the Pod has an address and no "
    "status.conditions, which are a kubelet's word."
)
_CONTAINER = (
    Field("ports", "[]Object", "The ports of the container; those with a name are used."),
    *below("ports", _CONTAINER_PORT),
    Field("readinessProbe", "Object", _PROBED),
    *below("readinessProbe", PROBE),
)

POD = (
    *head(
        "v1",
        "What a Service's selector asks for.",
        deleted="A Pod that is being deleted terminates: it is used only where nothing else is ready.",
    ),
    Field("spec", "Object", "What runs, and where. Nothing is started here: a Pod tells of endpoints."),
    Field("spec.nodeName", "string", "The node that the Pod runs on.", default="none: on no node", allowed=NAME),
    Field("spec.containers", "[]Object", "The containers, of which ports and probes are read."),
    *below("spec.containers", _CONTAINER),
    Field("spec.initContainers", "[]Object", "Those with restartPolicy Always count as containers do."),
    Field(
        "spec.initContainers.restartPolicy",
        "string",
        "Always makes a sidecar of it, which runs as long as the Pod does.",
        allowed="Always, Never, OnFailure",
    ),
    *below("spec.initContainers", _CONTAINER),
    Field("status", "Object", "How the Pod is: written by a kubelet, or in a manifest."),
    Field(
        "status.phase",
        "string",
        "A Pod that has Succeeded or Failed is no endpoint; others are shown with it.",
        default="Running, once there is an address",
        allowed="Pending, Running, Succeeded, Failed, Unknown",
    ),
    Field("status.podIP", "string", "The Pod's address; without one it is no endpoint."),
    Field("status.podIPs", "[]Object", "Its addresses; the first is podIP.", allowed="one a family"),
    Field("status.podIPs.ip", "string", "An address."),
    Field("status.conditions", "[]Object", "What a kubelet says of it; without any, the Pod is ready."),
    Field("status.conditions.type", "string", "Ready is read, and no other one."),
    Field(
        "status.conditions.status",
        "string",
        "Whether it is so.",
        default="Unknown",
        allowed="True, False, Unknown",
    ),
)

NODE = (
    *head(
        "v1",
        "topology.kubernetes.io/zone is the node's zone, for hints and trafficDistribution. The annotation "
        "nodeport-nft/node-port-nodes of a Service chooses nodes by labels.",
        namespaced=False,
        deleted="A Node that is being deleted tells load balancers to leave it (healthz).",
    ),
    Field("spec", "Object", "What is wanted of the node."),
    Field("spec.podCIDR", "string", "The network of its pods; with podCIDRs, the first of them."),
    Field(
        "spec.podCIDRs",
        "[]string",
        "The networks of its pods. With detectLocalMode NodeCIDR, what comes from them is local.",
        allowed="one a family",
    ),
    Field("spec.taints", "[]Object", "Marks for schedulers; one is read."),
    Field(
        "spec.taints.key",
        "string",
        "ToBeDeletedByClusterAutoscaler: load balancers are told to leave the node.",
    ),
    Field("spec.taints.value", "string", "More about the key; checked.", acts=False),
    Field(
        "spec.taints.effect",
        "string",
        "What a scheduler does; checked.",
        allowed="NoSchedule, PreferNoSchedule, NoExecute",
        acts=False,
    ),
    Field("status", "Object", "How the node is."),
    Field("status.addresses", "[]Object", "The node's addresses."),
    Field("status.addresses.type", "string", "InternalIP is read: nodePorts are served there."),
    Field("status.addresses.address", "string", "The address."),
)
