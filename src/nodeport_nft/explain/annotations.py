"""Our annotations: on which kinds they stand, and what they may say."""

from __future__ import annotations

from msgspec import Struct

from nodeport_nft.kube import annotations as ours


class Annotation(Struct, frozen=True):
    """One annotation, by its whole ``key``."""

    key: str
    kinds: tuple[str, ...]
    text: str
    allowed: str
    default: str
    example: str

    @property
    def name(self) -> str:
        """The key without our prefix."""
        return self.key.removeprefix(ours.PREFIX)


_ENDPOINT_KINDS = ("EndpointSlice", "Endpoints")

ANNOTATIONS = (
    Annotation(
        ours.NODE_PORT_SOURCE_RANGES,
        ("Service",),
        "Who may connect to the Service's nodePorts. For types NodePort and LoadBalancer.",
        allowed="networks, separated by commas",
        default="everybody",
        example="10.0.0.0/8, fd00::/8",
    ),
    Annotation(
        ours.NODE_PORT_NODES,
        ("Service",),
        "Which nodes serve the Service's nodePorts, by the labels of their Node objects. For types NodePort and "
        "LoadBalancer.",
        allowed="a label selector, as get -l takes it",
        default="all nodes",
        example="disk=ssd, zone in (a, b)",
    ),
    Annotation(
        ours.EXTERNAL_TRAFFIC_POLICY,
        ("Service",),
        "What comes from outside goes to endpoints of the node if there are ready ones, else to all. Not together "
        "with spec.externalTrafficPolicy Local.",
        allowed=ours.PREFER_LOCAL,
        default="what the spec says",
        example=ours.PREFER_LOCAL,
    ),
    Annotation(
        ours.INTERNAL_TRAFFIC_POLICY,
        ("Service",),
        "The same of connections to the clusterIP. Not together with spec.internalTrafficPolicy Local.",
        allowed=ours.PREFER_LOCAL,
        default="what the spec says",
        example=ours.PREFER_LOCAL,
    ),
    Annotation(
        ours.LOAD_BALANCING,
        ("Service",),
        "How the endpoint of a new connection is chosen. maglev goes by a hash of the client's address and port, so "
        "that all nodes choose alike; not together with sessionAffinity.",
        allowed="random, maglev",
        default="random",
        example="maglev",
    ),
    Annotation(
        ours.WEIGHTS,
        ("Service",),
        "The shares of single endpoints, by address. They go before the weights of Pods and slices. An endpoint of "
        "weight 0 gets no new connections.",
        allowed="ADDRESS=0 to ADDRESS=100, separated by commas",
        default="what weight says",
        example="10.244.1.2=3, fd00::1=0",
    ),
    Annotation(
        ours.WEIGHT,
        ("Pod", *_ENDPOINT_KINDS),
        "The share of new connections that the Pod gets, or each endpoint of the object. With 0 it gets none.",
        allowed="0-100",
        default="1",
        example="3",
    ),
    Annotation(
        ours.DRAIN,
        ("Pod", *_ENDPOINT_KINDS, "Node"),
        "What counts as terminating: it keeps its connections, and gets new ones only where nothing else is left. "
        "The commands drain and uncordon write it.",
        allowed="addresses of the object, separated by commas; on a Node: true",
        default="nothing",
        example="10.244.1.2",
    ),
    Annotation(
        ours.READINESS_PROBE,
        _ENDPOINT_KINDS,
        "What each endpoint must pass to be ready; a daemon runs it. Its fields: explain pods.spec.containers."
        "readinessProbe.",
        allowed="a container's readinessProbe in JSON, with httpGet or tcpSocket",
        default="none",
        example='{"httpGet": {"path": "/healthz", "port": 8080}}',
    ),
)
