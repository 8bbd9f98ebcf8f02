"""What is true of a node: which of its addresses serve nodePorts, and what stands in the way.

Pure: what the kernel has (``Host``) and what the Node object says are arguments, so that ``render`` runs without a
kernel and tests without a machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.config import Config, DetectLocalMode
from nodeport_nft.model import ZONE_LABEL, Family, IPAddress, IPNetwork, Node, NodeFacts, NodePortMode, ServiceCIDR
from nodeport_nft.notation import each_once, group_fault, special_fault


class HostAddress(Struct, frozen=True):
    """An address of the host. ``unstable``: tentative, failed duplicate detection, or temporary (RFC 8981)."""

    address: IPAddress
    interface: str
    unstable: bool = False


class HostRoute(Struct, frozen=True):
    """A route of the main table that is not a default route."""

    prefix: IPNetwork
    interface: str


class Host(Struct, frozen=True):
    """The part of a host's network that matters here, read at one moment.

    ``sources`` are the addresses the host would send from along its default routes, at most one a family. ``links``
    are the names of its interfaces but for loopback, in the order in which they came.
    """

    addresses: tuple[HostAddress, ...] = ()
    routes: tuple[HostRoute, ...] = ()
    sources: tuple[IPAddress, ...] = ()
    bridges: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


def gather(
    config: Config,
    *,
    name: str,
    node: Node | None,
    node_ips: tuple[IPAddress, ...],
    host: Host,
    service_cidrs: tuple[IPNetwork, ...] = (),
) -> tuple[NodeFacts, tuple[str, ...]]:
    """The facts to compile with, and warnings for the operator.

    ``node_ips`` are given by flag and go before the Node object's InternalIPs, which go before the sources of the
    default routes (conformance F2). The first of these that says anything says it for both families, so that
    ``render``, which knows no routes, and ``sync`` agree about a node with an InternalIP of one family. Without a
    detector of pods nothing counts as outside (P5). ``service_cidrs``: those that an API server says, which count in
    place of the configuration's.
    """
    facts = NodeFacts(
        name=name,
        node_port_mode=config.node_port_mode,
        zone=node.labels.get(ZONE_LABEL, "") if node else "",
        pod_cidrs=_pod_cidrs(config, node),
        pod_interface=_pod_interface(config),
        service_cidrs=service_cidrs or config.ranges.service_cidrs,
        masquerade_bit=config.masquerade_bit,
        masquerade_all=config.masquerade_all,
        flowtable=config.flowtable,
        external_ips=config.external_ips,
        load_balancer_ips=config.load_balancer_ips,
    )
    facts, warnings = _with_dns(facts, config, host)
    internal = node.internal_ips if node else ()
    own = node_ips or internal or _primary_sources(host)
    facts = replace(facts, addresses=tuple(sorted(each_once(own), key=_order)))
    match config.node_port_mode:
        case NodePortMode.ALL:
            return facts, tuple(warnings)
        case NodePortMode.PRIMARY:
            wanted = [*own]
        case NodePortMode.CIDRS:
            held = [*node_ips, *internal, *(a.address for a in host.addresses if not a.unstable)]
            wanted = [ip for ip in held if any(ip in cidr for cidr in config.node_port_cidrs)]
    warnings += [
        f"nodePorts are not served on {ip}: a loopback address cannot be forwarded from; leave it out"
        for ip in each_once(wanted)
        if ip.is_loopback
    ]
    usable = [ip for ip in wanted if not (special_fault(ip) or group_fault(ip))]
    if config.node_port_mode is NodePortMode.PRIMARY:
        usable = _first_of_each_family(usable)
    usable = sorted(each_once(usable), key=_order)
    if not usable:
        warnings.append(
            f"node {name}: no address serves nodePorts; give --node-ip, a Node manifest of this name with an "
            "InternalIP, or --nodeport-addresses"
        )
    return replace(facts, node_port_ips=tuple(usable)), tuple(warnings)


def _with_dns(facts: NodeFacts, config: Config, host: Host) -> tuple[NodeFacts, list[str]]:
    """The facts with the clusterIPs of the cluster's DNS and this node's own servers, one a family, and warnings."""
    servers = {server.version: server for server in config.node_dns}
    pairs, warnings = [], []
    held = {each.address for each in host.addresses}
    for address in config.ranges.cluster_dns:
        server = servers.get(address.version)
        if server is None:
            text = f"nodeDNS names no server with an IPv{address.version} address; name one, or leave {address} out"
            warnings.append(f"clusterDNS {address} is not served: {text}")
            continue
        pairs.append((address, server))
        if held and server not in held:  # `render` knows no addresses
            text = f"this node does not have: give it to the loopback interface, as contrib/dns does ({server}/"
            warnings.append(f"clusterDNS {address} leads to {server}, which {text}{server.max_prefixlen} dev lo)")
    return replace(facts, cluster_dns=tuple(pairs)), warnings


def _pod_cidrs(config: Config, node: Node | None) -> tuple[IPNetwork, ...]:
    match config.detect_local_mode:
        case DetectLocalMode.CLUSTER_CIDR:
            return config.cluster_cidrs
        case DetectLocalMode.NODE_CIDR:
            return node.pod_cidrs if node else ()
        case _:
            return ()


def _pod_interface(config: Config) -> str:
    match config.detect_local_mode:
        case DetectLocalMode.BRIDGE_INTERFACE:
            return config.pod_interface
        case DetectLocalMode.INTERFACE_NAME_PREFIX:
            return f"{config.pod_interface}*"
        case _:
            return ""


KUBE_IPVS = "kube-ipvs0"
"""The link on which kube-proxy in its mode ipvs holds all clusterIPs."""


def overlaps(config: Config, host: Host, service_cidrs: tuple[IPNetwork, ...] = ()) -> tuple[str, ...]:
    """Service CIDRs that the node uses otherwise (conformance F7), both named; empty if there is none.

    ``service_cidrs`` as in ``gather``.
    """
    found = []
    for cidr in service_cidrs or config.ranges.service_cidrs:
        for held in host.addresses:
            if held.interface == KUBE_IPVS:
                continue  # clusterIPs of kube-proxy's, not another use of the network
            if held.address in cidr and not _own(config, held.address):
                found.append(f"service CIDR {cidr} holds this node's address {held.address} ({held.interface})")
        for route in host.routes:
            prefix = route.prefix
            if route.interface == KUBE_IPVS:
                continue
            if prefix.overlaps(cidr) and not _own(config, prefix.network_address):
                found.append(f"service CIDR {cidr} overlaps this node's route {prefix} ({route.interface})")
    return tuple(dict.fromkeys(found))


def collisions(config: Config, host: Host, service_cidrs: tuple[IPNetwork, ...] = ()) -> tuple[str, ...]:
    """The same, each with its remedy, and the place where the service CIDRs were given if they were."""
    if service_cidrs:
        remedy = "give the node another network, or list the prefix under ownRoutes in the configuration"
        return tuple(f"{overlap}; {remedy}" for overlap in overlaps(config, host, service_cidrs))
    place = f"{config.places['serviceCIDRs']}: " if "serviceCIDRs" in config.places else ""
    remedy = "choose another --service-cidr, or list the prefix under ownRoutes in the configuration"
    return tuple(f"{place}{overlap}; {remedy}" for overlap in overlaps(config, host))


def networks_of(service_cidrs: Iterable[ServiceCIDR]) -> tuple[IPNetwork, ...]:
    """All networks that an API server gives clusterIPs from, each once and in their order."""
    networks = {network for each in service_cidrs for network in each.networks}
    return tuple(
        sorted(networks, key=lambda network: (network.version, int(network.network_address), network.prefixlen))
    )


def served_on(facts: NodeFacts) -> str:
    """Where the node serves nodePorts, for people."""
    if facts.node_port_mode is NodePortMode.ALL:
        return "every local address"
    return ", ".join(map(str, facts.node_port_ips)) or "no address"


def _own(config: Config, address: IPAddress) -> bool:
    return any(address in cidr for cidr in config.own_routes)


def _primary_sources(host: Host) -> tuple[IPAddress, ...]:
    unstable = {held.address for held in host.addresses if held.unstable}
    return tuple(ip for ip in host.sources if ip not in unstable)


def _first_of_each_family(addresses: Iterable[IPAddress]) -> list[IPAddress]:
    chosen: dict[int, IPAddress] = {}
    for address in addresses:
        chosen.setdefault(address.version, address)
    return list(chosen.values())


def _order(address: IPAddress) -> tuple[Family, int]:
    return Family(address.version), int(address)
