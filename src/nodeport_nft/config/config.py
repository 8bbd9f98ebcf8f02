"""What an operator can choose, as values; the rows of ``settings`` say which key fills which field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from nodeport_nft.model import IPAddress, IPNetwork, NodePortMode, Ranges
from nodeport_nft.settings import DetectLocalMode, Validate

DEFAULT_PATH = "/etc/nodeport-nft/config.yaml"
"""Where the configuration is looked for; it need not exist."""


class ConfigError(Exception):
    """Every problem of the configuration, one a line, each with its file and line or its flag, value and remedy.

    ``right``: what could be taken of it, with defaults for the rest. ``wrong``: the keys that have a problem.
    """

    def __init__(self, message: str, right: Config, wrong: Collection[str] = ()) -> None:
        super().__init__(message)
        self.right = right
        self.wrong = wrong


@dataclass(frozen=True, slots=True)
class Config:
    """What an operator can choose. Sizes in bytes, times in seconds.

    ``state_dir``: where it is noted what is left on the node beside the tables; ``run_dir``: where the locks are.
    ``own_routes``: prefixes inside the service CIDRs that the node has addresses or routes for on purpose (F7).
    ``node_port_cidrs`` count in the mode CIDRS alone. ``validate``: what becomes of unknown fields in manifests.
    ``detect_local_mode`` says how pods are told from the outside;
    ``pod_interface`` is what it looks for in the modes BRIDGE_INTERFACE and INTERFACE_NAME_PREFIX. ``flowtable``:
    established connections take the kernel's fast path (X11). ``trusted_chains``: forward chains of others ("FAMILY
    TABLE CHAIN") that are known to let Services through. ``external_ips`` and ``load_balancer_ips``: the networks of
    the addresses that Services may claim (CVE-2020-8554), None: any, empty: none. ``dns_hosts_dir`` "": the cluster's
    names are kept nowhere. ``node_dns``: where each node's own DNS server listens, at most one address a family.
    ``healthz_address`` and ``metrics_address`` None: not served. ``status_page``: a page to look at is at the latter.
    Syncs begin ``min_sync_period`` apart at least; the daemon is unhealthy once a change has waited for twice the
    ``sync_period`` (H2). Each ``full_check_period`` the kernel's tables are compared in full. A node of a cluster
    whose registration has ended counts as lost ``node_monitor_grace_period`` later. ``node_name`` and ``node_ips``
    count where no flag says otherwise. ``replace_kube_proxy``: what kube-proxy has left on the node is removed.
    ``conntrack_…``: limits of connection tracking, 0 for whatever they are.

    ``places`` says by key where what is not the default was given: "FILE:LINE", or a flag. ``warnings`` are what was
    told of the file and is no error. Two configurations that differ in nothing else are the same.
    """

    store: str = "/var/lib/nodeport-nft/store.db"
    etcd_ca_file: str = ""
    etcd_cert_file: str = ""
    etcd_key_file: str = ""
    etcd_user: str = ""
    etcd_password_file: str = ""
    kubeconfig: str = ""
    context: str = ""
    state_dir: str = "/var/lib/nodeport-nft"
    run_dir: str = "/run/nodeport-nft"
    ranges: Ranges = Ranges()
    cluster_cidrs: tuple[IPNetwork, ...] = ()
    node_port_mode: NodePortMode = NodePortMode.PRIMARY
    node_port_cidrs: tuple[IPNetwork, ...] = ()
    detect_local_mode: DetectLocalMode = DetectLocalMode.CLUSTER_CIDR
    pod_interface: str = ""
    masquerade_bit: int = 14
    masquerade_all: bool = False
    flowtable: bool = False
    trusted_chains: tuple[str, ...] = ()
    external_ips: tuple[IPNetwork, ...] | None = None
    load_balancer_ips: tuple[IPNetwork, ...] | None = None
    cluster_domain: str = "cluster.local"
    dns_hosts_dir: str = ""
    node_dns: tuple[IPAddress, ...] = (IPv4Address("169.254.20.10"), IPv6Address("fd00:169:254:20::10"))
    max_document_bytes: int = 64 << 20
    validate: Validate = Validate.strict
    own_routes: tuple[IPNetwork, ...] = ()
    healthz_address: tuple[IPAddress, int] | None = (IPv4Address("127.0.0.1"), 10256)
    metrics_address: tuple[IPAddress, int] | None = (IPv4Address("127.0.0.1"), 10249)
    status_page: bool = False
    sync_period: float = 30.0
    min_sync_period: float = 0.05
    full_check_period: float = 3600.0
    node_monitor_grace_period: float = 40.0
    node_name: str = ""
    node_ips: tuple[IPAddress, ...] = ()
    replace_kube_proxy: bool = False
    conntrack_max_per_core: int = 32768
    conntrack_min: int = 131072
    conntrack_tcp_established_timeout: float = 86400.0
    conntrack_tcp_close_wait_timeout: float = 3600.0
    conntrack_udp_timeout: float = 0.0
    conntrack_udp_stream_timeout: float = 0.0
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    warnings: tuple[str, ...] = field(default=(), compare=False, repr=False)
