"""The settings: one row for each, and everything that is said of it anywhere comes from there.

Of a row come the key in the file, the flag of commands and its help (``cli/flags.py``), the fields of ``Config`` that
take the value (``config/keys.py``), the place that messages name, and the table of docs/configuration.md. A setting
more is a row here, in the order of that table and ``--help``, and the field of ``Config`` that it fills.

This is data alone, since ``--help`` is to come at once; ``config/keys.py`` has the parser of each ``Kind``.
"""

from __future__ import annotations

import enum

from msgspec import Struct

_YEAR = 365 * 86400.0


class DetectLocalMode(enum.StrEnum):
    """How a pod of this node is told from the outside (P5), named as in KubeProxyConfiguration."""

    CLUSTER_CIDR = "ClusterCIDR"
    NODE_CIDR = "NodeCIDR"
    BRIDGE_INTERFACE = "BridgeInterface"
    INTERFACE_NAME_PREFIX = "InterfaceNamePrefix"
    NONE = "None"


class Validate(enum.StrEnum):
    """What becomes of fields that the API does not know, by kubectl's names: an error, a warning, or nothing."""

    strict = "strict"
    warn = "warn"
    ignore = "ignore"


class Plain(enum.Enum):
    """Kinds of values of which there is nothing more to say."""

    SWITCH = enum.auto()
    PORTS = enum.auto()
    NETWORKS = enum.auto()
    SERVICE_NETWORKS = enum.auto()  # one a family, with room for clusterIPs
    NODE_PORT_ADDRESSES = enum.auto()  # primary, all, or networks
    CLAIMABLE = enum.auto()  # any, deny, or networks
    BIND_ADDRESS = enum.auto()
    INTERFACE = enum.auto()
    CHAINS = enum.auto()
    DOMAIN = enum.auto()
    SERVERS = enum.auto()  # addresses, at most one a family
    USER = enum.auto()
    TEXT = enum.auto()
    NODE_NAME = enum.auto()
    NODE_ADDRESSES = enum.auto()


class PathTo(Struct, frozen=True):
    """A path, to ``what``: "a file"."""

    what: str


class Whole(Struct, frozen=True):
    """A whole number from ``low`` to ``high``; ``what`` it is, for messages."""

    low: int
    high: int
    what: str


class Seconds(Struct, frozen=True):
    """A duration from ``low`` to ``high``."""

    low: float
    high: float


class Choice(Struct, frozen=True):
    """One of these words; ``what`` they are, for messages."""

    words: type[enum.StrEnum]
    what: str


Kind = Plain | PathTo | Whole | Seconds | Choice


class Group(enum.StrEnum):
    """Flags that commands have together."""

    NUMBERS = "what is allocated"
    TABLES = "what the tables say"
    DAEMON = "the daemon"


class Setting(Struct, frozen=True):
    """One row.

    ``fields`` of ``Config`` take the value, several one part of it each ("ranges.node_ports": a field of its ranges).
    ``default`` is written as in the file, "" for none; ``meaning`` is the table's, in Markdown. ``restart``: a new
    value waits until the daemon is started again.

    ``flag`` "" if there is none; ``metavar`` and ``help`` are that one's, and ``{default}`` in it is the default.
    Commands ask for a flag by its key, or for all of its ``group``.
    """

    key: str
    fields: tuple[str, ...]
    kind: Kind
    default: str
    meaning: str
    flag: str = ""
    metavar: str = ""
    help: str = ""
    group: Group | None = None
    restart: bool = False


SETTINGS = (
    Setting(
        "store",
        ("store",),
        PathTo("a file"),
        default="/var/lib/nodeport-nft/store.db",
        meaning="where the objects are: a file of SQLite's, `etcd://HOST:PORT,HOST:PORT/PREFIX` for a cluster, "
        "or `kubernetes:` for its API server",
        flag="--store",
        metavar="PATH",
        help="Store: a file, etcd://HOST:PORT/PREFIX or kubernetes:; default {default}.",
        restart=True,
    ),
    Setting(
        "etcdCAFile",
        ("etcd_ca_file",),
        PathTo("a file"),
        default="",
        meaning="PEM certificates of those who may sign etcd's; with it, connections to etcd are TLS",
        restart=True,
    ),
    Setting(
        "etcdCertFile",
        ("etcd_cert_file",),
        PathTo("a file"),
        default="",
        meaning="our own certificate for etcd (PEM)",
        restart=True,
    ),
    Setting(
        "etcdKeyFile",
        ("etcd_key_file",),
        PathTo("a file"),
        default="",
        meaning="its key (PEM); a secret",
        restart=True,
    ),
    Setting(
        "etcdUser",
        ("etcd_user",),
        Plain.USER,
        default="",
        meaning="the user to log in to etcd as",
        restart=True,
    ),
    Setting(
        "etcdPasswordFile",
        ("etcd_password_file",),
        PathTo("a file"),
        default="",
        meaning="the file with this user's password; a secret",
        restart=True,
    ),
    Setting(
        "kubeconfig",
        ("kubeconfig",),
        PathTo("a file"),
        default="",
        meaning="with the store `kubernetes:`, how to reach the API server; without it, `$KUBECONFIG`, "
        "the token of the pod that this is, or `~/.kube/config`",
        flag="--kubeconfig",
        metavar="PATH",
        help="How to reach the API server, with --store kubernetes:.",
        restart=True,
    ),
    Setting(
        "context",
        ("context",),
        Plain.TEXT,
        default="",
        meaning="which context of the kubeconfig to use; without it, its current one",
        flag="--context",
        metavar="NAME",
        help="Which context of the kubeconfig to use.",
        restart=True,
    ),
    Setting(
        "stateDir",
        ("state_dir",),
        PathTo("a directory"),
        default="/var/lib/nodeport-nft",
        meaning="where it is noted which hosts file and sysctls `cleanup` has to undo; nobody else may write there",
        flag="--state-dir",
        metavar="PATH",
        help="Where it is noted what cleanup has to undo; default {default}.",
        restart=True,
    ),
    Setting(
        "runDir",
        ("run_dir",),
        PathTo("a directory"),
        default="/run/nodeport-nft",
        meaning="where the locks are that keep processes from programming a node at once: the same for all of them; "
        "nobody else may write there",
        restart=True,
    ),
    Setting(
        "serviceCIDRs",
        ("ranges.service_cidrs",),
        Plain.SERVICE_NETWORKS,
        default="10.96.0.0/12, fd00:10:96::/112",
        meaning="where clusterIPs come from; one a family, the first family is the default",
        flag="--service-cidr",
        metavar="CIDR",
        help="Where clusterIPs come from; one a family.",
        group=Group.NUMBERS,
    ),
    Setting(
        "nodePortRange",
        ("ranges.node_ports",),
        Plain.PORTS,
        default="30000-32767",
        meaning="where nodePorts come from",
        flag="--node-port-range",
        metavar="FIRST-LAST",
        help="Where nodePorts come from.",
        group=Group.NUMBERS,
    ),
    Setting(
        "nodeName",
        ("node_name",),
        Plain.NODE_NAME,
        default="",
        meaning="which node this is, where `--node-name` does not say so; without either, the host name",
        restart=True,
    ),
    Setting(
        "nodeIPs",
        ("node_ips",),
        Plain.NODE_ADDRESSES,
        default="",
        meaning="the node's primary addresses, at most one a family, where `--node-ip` does not say so",
        restart=True,
    ),
    Setting(
        "nodePortAddresses",
        ("node_port_mode", "node_port_cidrs"),
        Plain.NODE_PORT_ADDRESSES,
        default="primary",
        meaning="which addresses serve nodePorts: `primary`, `all`, or networks",
        flag="--nodeport-addresses",
        metavar="WHICH",
        help="{default} (default), all, or CIDRs.",
        group=Group.TABLES,
    ),
    Setting(
        "clusterCIDRs",
        ("cluster_cidrs",),
        Plain.NETWORKS,
        default="",
        meaning="the pod network; connections to a clusterIP from outside it are masqueraded; without a network of a "
        "family, none of that family are",
        flag="--cluster-cidr",
        metavar="CIDR",
        help="The pod network; sources outside are masqueraded.",
        group=Group.TABLES,
    ),
    Setting(
        "detectLocalMode",
        ("detect_local_mode",),
        Choice(DetectLocalMode, "mode"),
        default="ClusterCIDR",
        meaning="how pods of this node are told from the outside: `ClusterCIDR`, `NodeCIDR` (the Node's podCIDRs), "
        "`BridgeInterface`, `InterfaceNamePrefix`, or `None`",
    ),
    Setting(
        "podInterface",
        ("pod_interface",),
        Plain.INTERFACE,
        default="",
        meaning="the interface for `BridgeInterface`, or the beginning of the names for `InterfaceNamePrefix`",
    ),
    Setting(
        "masqueradeAll",
        ("masquerade_all",),
        Plain.SWITCH,
        default="false",
        meaning="masquerade every connection to a clusterIP",
    ),
    Setting(
        "externalIPs",
        ("external_ips",),
        Plain.CLAIMABLE,
        default="any",
        meaning="which addresses Services may claim as externalIPs: `any`, `deny`, or networks",
        flag="--external-ips",
        metavar="WHICH",
        help="Which externalIPs Services may claim: {default} (default), deny, or CIDRs.",
        group=Group.TABLES,
    ),
    Setting(
        "loadBalancerIPs",
        ("load_balancer_ips",),
        Plain.CLAIMABLE,
        default="any",
        meaning="the same for load-balancer addresses (`status.loadBalancer.ingress`)",
        flag="--load-balancer-ips",
        metavar="WHICH",
        help="Which load-balancer addresses Services may claim: {default} (default), deny, or CIDRs.",
        group=Group.TABLES,
    ),
    Setting(
        "masqueradeBit",
        ("masquerade_bit",),
        Whole(0, 31, "bit of the packet mark"),
        default="14",
        meaning="bit of the packet mark to use, 0 to 31",
        flag="--masquerade-bit",
        metavar="BIT",
        help="Bit of the packet mark to use; default {default}.",
        group=Group.TABLES,
    ),
    Setting(
        "flowtable",
        ("flowtable",),
        Plain.SWITCH,
        default="false",
        meaning="established connections take the kernel's fast path",
        flag="--flowtable",
        help="Let established connections take the kernel's fast path; default no.",
        group=Group.TABLES,
    ),
    Setting(
        "trustedChains",
        ("trusted_chains",),
        Plain.CHAINS,
        default="",
        meaning="chains of others that are known to let Services through, as `ip filter FORWARD`",
    ),
    Setting(
        "ownRoutes",
        ("own_routes",),
        Plain.NETWORKS,
        default="",
        meaning="networks whose overlap with a service CIDR is wanted: routes and addresses of the node inside them "
        "are no collision",
    ),
    Setting(
        "clusterDomain",
        ("cluster_domain",),
        Plain.DOMAIN,
        default="cluster.local",
        meaning="the last part of the names in hosts files",
        flag="--cluster-domain",
        metavar="DOMAIN",
        help="Default {default}.",
    ),
    Setting(
        "dnsHostsDir",
        ("dns_hosts_dir",),
        PathTo("a directory"),
        default="",
        meaning="a directory with a hosts file for each namespace, which the daemon keeps for dnsmasq's `--hostsdir` "
        "(contrib/dns); nobody else may write there",
        flag="--dns-hosts-dir",
        metavar="PATH",
        help="Keep a hosts file for each namespace there, for dnsmasq's --hostsdir.",
        group=Group.DAEMON,
        restart=True,
    ),
    Setting(
        "clusterDNS",
        ("ranges.cluster_dns",),
        Plain.SERVERS,
        default="",
        meaning="the clusterIPs of Service kube-system/kube-dns, one a family: with it, each node leads them to its "
        "own DNS server, and no other Service gets them",
        flag="--cluster-dns",
        metavar="IP",
        help="The clusterIPs of kube-dns, which leads to the node's own DNS server; one a family.",
        group=Group.NUMBERS,
    ),
    Setting(
        "nodeDNS",
        ("node_dns",),
        Plain.SERVERS,
        default="169.254.20.10, fd00:169:254:20::10",
        meaning="where the DNS server of each node listens, one address a family, port 53",
    ),
    Setting(
        "maxDocumentBytes",
        ("max_document_bytes",),
        Whole(1, 1 << 32, "size in bytes"),
        default="67108864",
        meaning="the largest file that is read, in bytes",
    ),
    Setting(
        "validate",
        ("validate",),
        Choice(Validate, "level"),
        default="strict",
        meaning="fields in manifests that the API does not know: `strict` (an error), `warn` or `ignore`",
        flag="--validate",
        metavar="LEVEL",
        help="Unknown fields: {default} (an error, the default), warn, ignore.",
    ),
    Setting(
        "healthzBindAddress",
        ("healthz_address",),
        Plain.BIND_ADDRESS,
        default="127.0.0.1:10256",
        meaning="where `/healthz` and `/livez` answer; `none`: nowhere",
        flag="--healthz-bind-address",
        metavar="ADDRESS:PORT",
        help="Where /healthz and /livez answer; none: nowhere. Default {default}.",
        group=Group.DAEMON,
        restart=True,
    ),
    Setting(
        "metricsBindAddress",
        ("metrics_address",),
        Plain.BIND_ADDRESS,
        default="127.0.0.1:10249",
        meaning="where `/metrics` and `/status` answer; `none`: nowhere",
        flag="--metrics-bind-address",
        metavar="ADDRESS:PORT",
        help="Where the daemon's /metrics and /status answer; none: nowhere. Default {default}.",
        group=Group.DAEMON,
        restart=True,
    ),
    Setting(
        "statusPage",
        ("status_page",),
        Plain.SWITCH,
        default="false",
        meaning="show a page to look at where `/metrics` answers, at `/`: Services, endpoints, their connections, "
        "problems, a trace. It changes nothing, and whoever reaches the port can read it",
        flag="--status-page",
        help="Show a read-only page at / where /metrics answers; default no.",
        group=Group.DAEMON,
        restart=True,
    ),
    Setting(
        "minSyncPeriod",
        ("min_sync_period",),
        Seconds(0, 60),
        default="50ms",
        meaning="the daemon gathers changes that come closer to each other than that",
        flag="--min-sync-period",
        metavar="DURATION",
        help="Changes closer to each other are gathered; default {default}, without a unit it is seconds.",
        group=Group.DAEMON,
    ),
    Setting(
        "syncPeriod",
        ("sync_period",),
        Seconds(1, _YEAR),
        default="30s",
        meaning="the node is unhealthy once a change has waited for twice this long; also the longest pause before a "
        "failed sync is tried again. Durations are seconds, or texts such as `1h30m`",
        flag="--sync-period",
        metavar="DURATION",
        help="Unhealthy once a change has waited twice as long; default {default}.",
        group=Group.DAEMON,
    ),
    Setting(
        "fullCheckPeriod",
        ("full_check_period",),
        Seconds(1, _YEAR),
        default="1h",
        meaning="how often the daemon compares the kernel's tables as a whole",
        flag="--full-check-period",
        metavar="DURATION",
        help="How often the kernel's tables are compared in full; default {default}.",
        group=Group.DAEMON,
    ),
    Setting(
        "nodeMonitorGracePeriod",
        ("node_monitor_grace_period",),
        Seconds(1, _YEAR),
        default="40s",
        meaning="in a cluster: how long after the end of a node's registration its endpoints count as not ready; the "
        "same on all nodes",
        flag="--node-monitor-grace-period",
        metavar="DURATION",
        help="How long a node of a cluster may be away before it counts as lost; default {default}.",
        group=Group.DAEMON,
        restart=True,
    ),
    Setting(
        "replaceKubeProxy",
        ("replace_kube_proxy",),
        Plain.SWITCH,
        default="false",
        meaning="remove what kube-proxy has left on the node, once our own tables are in force",
        flag="--replace-kube-proxy",
        help="Remove what kube-proxy has left, once our tables are in force; default no.",
        group=Group.DAEMON,
    ),
    Setting(
        "conntrackMaxPerCore",
        ("conntrack_max_per_core",),
        Whole(0, 2**31 - 1, "number of connections"),
        default="32768",
        meaning="connections that can be tracked, for each core (`nf_conntrack_max`, which is raised and never "
        "lowered); 0: whatever it is. This and the five below as kube-proxy's: with the store `kubernetes:` in any "
        "case, else where they are given; `--set-sysctls` sets them",
    ),
    Setting(
        "conntrackMin",
        ("conntrack_min",),
        Whole(0, 2**31 - 1, "number of connections"),
        default="131072",
        meaning="the least that it is raised to, unless conntrackMaxPerCore is 0",
    ),
    Setting(
        "conntrackTCPEstablishedTimeout",
        ("conntrack_tcp_established_timeout",),
        Seconds(0, _YEAR),
        default="24h",
        meaning="how long an idle TCP connection is tracked; 0: whatever it is",
    ),
    Setting(
        "conntrackTCPCloseWaitTimeout",
        ("conntrack_tcp_close_wait_timeout",),
        Seconds(0, _YEAR),
        default="1h",
        meaning="the same of one that the other side has closed",
    ),
    Setting(
        "conntrackUDPTimeout",
        ("conntrack_udp_timeout",),
        Seconds(0, _YEAR),
        default="0",
        meaning="the same of UDP that nobody has answered",
    ),
    Setting(
        "conntrackUDPStreamTimeout",
        ("conntrack_udp_stream_timeout",),
        Seconds(0, _YEAR),
        default="0",
        meaning="the same of UDP that goes both ways",
    ),
)

KEYS = {setting.key: setting for setting in SETTINGS}
