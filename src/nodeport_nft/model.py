"""The vocabulary: Services, their endpoints and the nodes they are served from.

Every value here is frozen and has been checked where it entered the program (``manifest``). Those with ``gc=False``,
of which there may be hundreds of thousands, hold nothing that leads back to them. The names are those of the
Kubernetes API (``core/v1`` Service, Pod and Node, ``discovery.k8s.io/v1`` EndpointSlice). Nothing here knows of
files, databases, nftables or time.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from msgspec import Struct, field

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

TOGETHER = 64
"""Of very many objects, how many are taken from one step to the next at a time.

A processor that does the same again and again does it in three quarters of the time that it takes to do, for each
object, one thing after the other.
"""


ZONE_LABEL = "topology.kubernetes.io/zone"
"""The label of a Node that names its zone."""


HOSTNAME_LABEL = "kubernetes.io/hostname"
"""The label of a Node that a kubelet sets to its name."""


class Protocol(enum.StrEnum):
    """Layer 4 protocols a Service port may have (core/v1 ServicePort.protocol)."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class Family(enum.IntEnum):
    """An IP family, numbered as ``IPv4Address.version`` is."""

    IPV4 = 4
    IPV6 = 6


class ServiceType(enum.StrEnum):
    """core/v1 ServiceSpec.type."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_NAME = "ExternalName"


class LoadBalancing(enum.StrEnum):
    """How a new connection's endpoint is chosen (conformance X7); weights count in both."""

    RANDOM = "random"
    MAGLEV = "maglev"


class ObjectName(NamedTuple):
    """Namespace and name of an object, which order and identify it among its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


CLUSTER_DNS = ObjectName("kube-system", "kube-dns")
"""The Service that pods ask for names; kubeadm and kubelet know it by this name."""


class PortRange(NamedTuple):
    """Port numbers ``first`` to ``last``, both included."""

    first: int
    last: int

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class Ranges(Struct, frozen=True):
    """What allocation may draw on; the defaults are the Kubernetes API server's.

    ``service_cidrs`` holds at most one network of each family; the first one's family is the cluster's
    primary family. ``cluster_dns``: addresses that are set aside for Service ``CLUSTER_DNS``.
    """

    node_ports: PortRange = PortRange(30000, 32767)
    service_cidrs: tuple[IPNetwork, ...] = (IPv4Network("10.96.0.0/12"), IPv6Network("fd00:10:96::/112"))
    cluster_dns: tuple[IPAddress, ...] = ()

    @classmethod
    def of_anybody(cls) -> Ranges:
        """What any cluster may draw on: for those who do not allocate, and leave it to one who says no."""
        return cls(PortRange(1, 65535), (IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))


def likely_service_cidr(ip: IPAddress) -> IPNetwork:
    """The network that a clusterIP probably comes from, for those who have not told which one: a /16 or a /112."""
    return IPv4Network((int(ip), 16), strict=False) if ip.version == 4 else IPv6Network((int(ip), 112), strict=False)


class Requirement(Struct, frozen=True):
    """One condition of a label selector (meta/v1 LabelSelectorRequirement).

    ``operator`` is In, NotIn, Exists or DoesNotExist. As in Kubernetes, NotIn holds where the label is absent too.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
        raise ValueError(f"{self.operator!r} is not an operator of a label selector")


class ServicePort(Struct, frozen=True, gc=False):
    """One port of a Service. ``node_port`` 0 stands for none; ``target_port`` is a number or a port's name."""

    name: str
    protocol: Protocol
    port: int
    target_port: int | str
    node_port: int = 0


class Service(Struct, frozen=True, gc=False):
    """A Service with the fields this program acts on.

    ``cluster_ips`` is empty for headless services, for ExternalName, and before allocation;
    ``headless`` tells these apart. ``load_balancer_ips`` are those of ``status.loadBalancer.ingress`` that this
    program is to serve (ipMode VIP). ``ip_families`` is empty where the manifest leaves the choice open.
    ``created`` is ``metadata.creationTimestamp`` (RFC 3339) or "". ``proxy_name`` is the value of the label
    ``service.kubernetes.io/service-proxy-name``, None without it.

    A traffic policy is Cluster, Local, or PreferLocal (X10). ``session_affinity_seconds`` is how long a client keeps
    its endpoint after its last connection; 0: not at all (P7). Source ranges are prefixes that may connect to the
    load-balancer addresses (F4) and to the nodePorts (X5); empty: everybody. All requirements of ``node_port_nodes``
    must hold for a node's labels if it is to serve the nodePorts (X6). ``weights`` are those of single endpoints,
    by the text of their addresses; they go before what their Pods or slices say (X7).
    """

    namespace: str
    name: str
    type: ServiceType = ServiceType.CLUSTER_IP
    ports: tuple[ServicePort, ...] = ()
    cluster_ips: tuple[IPAddress, ...] = ()
    headless: bool = False
    ip_families: tuple[Family, ...] = ()
    ip_family_policy: str = ""
    selector: Mapping[str, str] = field(default_factory=dict)
    publish_not_ready_addresses: bool = False
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    traffic_distribution: str = ""
    external_ips: tuple[IPAddress, ...] = ()
    load_balancer_ips: tuple[IPAddress, ...] = ()
    allocate_node_ports: bool = True
    health_check_node_port: int = 0
    created: str = ""
    proxy_name: str | None = None
    session_affinity_seconds: int = 0
    load_balancer_source_ranges: tuple[IPNetwork, ...] = ()
    node_port_source_ranges: tuple[IPNetwork, ...] = ()
    node_port_nodes: tuple[Requirement, ...] = ()
    load_balancing: LoadBalancing = LoadBalancing.RANDOM
    weights: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> ObjectName:
        return ObjectName(self.namespace, self.name)


class EndpointPort(Struct, frozen=True, gc=False):
    """A port of an EndpointSlice; it serves the Service port of the same name."""

    name: str
    protocol: Protocol
    port: int


class Endpoint(Struct, frozen=True, gc=False):
    """One backend of a slice. Conditions are resolved: absent ones have their default already (E1).

    ``zones`` and ``nodes`` are its hints: who should use it (EndpointSlice ``hints``); empty where there are none.
    """

    address: IPAddress
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node_name: str = ""
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class HttpGet(Struct, frozen=True):
    """A readiness probe that asks over HTTP/1.1; an answer of 200 to 399 is a success (core/v1 HTTPGetAction).

    ``target`` is the path with its query, as it is sent. ``host`` "" stands for the endpoint's own address. With
    ``tls`` the certificate is not looked at.
    """

    port: int
    target: str = "/"
    host: str = ""
    tls: bool = False
    headers: tuple[tuple[str, str], ...] = ()


class TcpSocket(Struct, frozen=True):
    """A readiness probe that opens a connection, and no more (core/v1 TCPSocketAction)."""

    port: int
    host: str = ""


class Probe(Struct, frozen=True):
    """A readiness probe that this program runs itself (core/v1 Probe, conformance X9). Times are in seconds."""

    action: HttpGet | TcpSocket
    initial_delay: int = 0
    timeout: int = 1
    period: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3


class EndpointSlice(Struct, frozen=True, gc=False):
    """A slice of the endpoints of ``service``; all its addresses are of one family.

    An ``Endpoints`` object becomes one slice per subset and family, with ``mirrored`` set: slices made as such
    take precedence over it. ``weight`` is that of each of its endpoints (X7), ``probe`` is run for each of them (X9).
    ``drained`` are addresses that count as terminating (``drain endpoint``), be they among the endpoints or not.
    """

    namespace: str
    name: str
    service: str
    ports: tuple[EndpointPort, ...]
    endpoints: tuple[Endpoint, ...]
    headless: bool = False
    mirrored: bool = False
    weight: int = 1
    drained: tuple[IPAddress, ...] = ()
    probe: Probe | None = None


class ContainerPort(Struct, frozen=True, gc=False):
    """A named container port of a Pod, which a Service may name as its targetPort."""

    name: str
    protocol: Protocol
    port: int


class Pod(Struct, frozen=True, gc=False):
    """A Pod as a selector sees it. ``finished`` is phase Succeeded or Failed: never an endpoint.

    A ``weight`` of 0 takes no new connection (X7). ``drained`` are addresses that count as terminating. All
    ``probes`` must pass, which are run at its first address (X9).
    """

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ips: tuple[IPAddress, ...] = ()
    node_name: str = ""
    ready: bool = True
    terminating: bool = False
    finished: bool = False
    ports: tuple[ContainerPort, ...] = ()
    weight: int = 1
    drained: tuple[IPAddress, ...] = ()
    probes: tuple[Probe, ...] = ()


class Node(Struct, frozen=True):
    """A Node object: its InternalIP addresses, podCIDRs and labels. Its namespace is always "".

    ``deleted``: it is being deleted, or its machine is about to be taken away. ``drained``: what runs on it counts as
    terminating.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    internal_ips: tuple[IPAddress, ...] = ()
    pod_cidrs: tuple[IPNetwork, ...] = ()
    deleted: bool = False
    drained: bool = False


class Member(Struct, frozen=True):
    """A node that has registered with a shared store; no object, but what the store says of the cluster.

    ``is_live``: whether its registration stands. ``lost_at``: when that was noticed to have ended (Unix time,
    seconds); 0.0 until the node has been away for so long that it counts as lost.
    """

    name: str
    lost_at: float = 0.0
    is_live: bool = True

    @property
    def ref(self) -> Ref:
        """What it is filed under, beside the objects."""
        return Ref(MEMBER, "", self.name)


class ProbeFailure(Struct, frozen=True):
    """The endpoint at ``address`` of some object of ``namespace`` does not pass its readiness probe.

    ``since``: when the first probe of those that failed in a row was begun (Unix time, seconds), so that what fails
    for one cause has nearly one time; 0.0: it has never passed.
    """

    namespace: str
    address: IPAddress
    since: float = 0.0

    @property
    def ref(self) -> Ref:
        """What it is filed under, beside the objects."""
        return Ref(PROBE_FAILURE, self.namespace, str(self.address))


class ServiceCIDR(Struct, frozen=True):
    """Networks that an API server gives clusterIPs from (networking.k8s.io/v1 ServiceCIDR); one a family at most.

    Where there are any, they count in place of the configuration's ``serviceCIDRs``.
    """

    name: str
    networks: tuple[IPNetwork, ...]

    @property
    def ref(self) -> Ref:
        """What it is filed under."""
        return Ref(SERVICE_CIDR, "", self.name)


MEMBER = "Member"
PROBE_FAILURE = "ProbeFailure"
SERVICE_CIDR = "ServiceCIDR"

Value = Service | EndpointSlice | Pod | Node | Member | ProbeFailure | ServiceCIDR
"""What an object of the desired state is made into, or what a shared store says of the cluster besides."""


class Ref(NamedTuple):
    """Which object it is. Endpoints are an object of several slices."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """``Service/default/web``; ``Node/worker-1``, which has no namespace."""
        return "/".join(part for part in self if part)


Parsed = tuple[Ref, tuple[Value, ...]]
"""An object and what it is made into; nothing, if that is of no use here."""


class Snapshot(Struct, frozen=True):
    """The desired state at one moment, every object parsed and checked; and what a shared store says besides."""

    services: tuple[Service, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()
    pods: tuple[Pod, ...] = ()
    nodes: tuple[Node, ...] = ()
    members: tuple[Member, ...] = ()
    probe_failures: tuple[ProbeFailure, ...] = ()
    service_cidrs: tuple[ServiceCIDR, ...] = ()


class NodePortMode(enum.StrEnum):
    """Which of a node's addresses serve nodePorts (conformance F2)."""

    PRIMARY = "primary"
    ALL = "all"
    CIDRS = "cidrs"


class NodeFacts(Struct, frozen=True):
    """What the compiler must know of the node it compiles for; gathered once, at the edge.

    ``node_port_ips`` are the addresses that serve nodePorts in the modes PRIMARY and CIDRS, ``addresses`` are those
    the node is known by. A pod is told from the outside by its address in ``pod_cidrs``, or by the interface its
    packets come in on (``pod_interface``, a name or a prefix followed by ``*``); with neither, nothing counts as a
    pod and nothing as outside (P5). ``flowtable``: established connections go the kernel's fast path (X11).
    ``external_ips`` and ``load_balancer_ips`` are the networks of the addresses that Services may claim, None: any.
    ``cluster_dns`` are clusterIPs of Service ``CLUSTER_DNS``, each with the address at which this node's own DNS
    server listens.
    """

    name: str
    node_port_mode: NodePortMode = NodePortMode.PRIMARY
    node_port_ips: tuple[IPAddress, ...] = ()
    addresses: tuple[IPAddress, ...] = ()
    zone: str = ""
    pod_cidrs: tuple[IPNetwork, ...] = ()
    pod_interface: str = ""
    service_cidrs: tuple[IPNetwork, ...] = ()
    masquerade_bit: int = 14
    masquerade_all: bool = False
    flowtable: bool = False
    external_ips: tuple[IPNetwork, ...] | None = None
    load_balancer_ips: tuple[IPNetwork, ...] | None = None
    cluster_dns: tuple[tuple[IPAddress, IPAddress], ...] = ()
