"""Addresses and routes: whether packets can come to this node's Services, and go on to their endpoints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from nodeport_nft.doctor.examination import Examination
from nodeport_nft.doctor.finding import Check, Finding, State, failed, of_text, ok, skipped, warning
from nodeport_nft.facts import collisions, served_on
from nodeport_nft.kernel.host.foreign_chains import Served, served_endpoints
from nodeport_nft.kernel.host.routes import devices_to
from nodeport_nft.kernel.host.sysctl import find_service_routes
from nodeport_nft.model import Family, IPAddress, IPNetwork, NodePortMode

_NAMED = 5  # addresses that a finding names


def _addresses(examination: Examination) -> Iterator[Finding]:
    facts = examination.state.facts
    for text in examination.facts_warnings:
        yield of_text(State.FAILED, text, "clients of nodePorts, or of the cluster's DNS, find nobody on this node")
    if not examination.facts_warnings:
        yield ok(f"node {facts.name}: nodePorts on {served_on(facts)}{_unserved(examination)}")
    held = {each.address for each in examination.host.addresses}
    for address in facts.node_port_ips:
        if address not in held:
            yield warning(
                f"this machine does not have {address}, on which node {facts.name} serves nodePorts",
                "clients that connect to it come to another machine, or to nobody",
                "give the right name with --node-name, or the address with --node-ip",
            )
    if facts.name not in examination.state.index.nodes and len(examination.state.index.nodes) > 0:
        known = ", ".join(sorted(examination.state.index.nodes)[:_NAMED])
        yield warning(
            f"no Node is called {facts.name} (there are {known})",
            "endpoints on this machine do not count as local, and policy Local finds none",
            "give the Node's name with --node-name, or nodeName in the configuration",
        )


def _unserved(examination: Examination) -> str:
    """Which family the node has addresses of and serves no nodePorts in, where nobody has chosen its addresses."""
    facts, host = examination.state.facts, examination.host
    node = examination.state.index.nodes.get(facts.name)
    if examination.has_node_ips or (node and node.internal_ips) or facts.node_port_mode is NodePortMode.ALL:
        return ""
    known = {each.version for each in (*facts.node_port_ips, *host.sources)}
    idle = [held.address for held in host.addresses if not (held.address.is_loopback or held.address.is_link_local)]
    lacking = {each.version: each for each in idle if each.version not in known}
    return "".join(
        f"; no IPv{version}, as no default route leads out from {each}: to serve it, set nodeIPs"
        for version, each in sorted(lacking.items())
    )


def _collisions(examination: Examination) -> Iterator[Finding]:
    facts = examination.state.facts
    own = facts.service_cidrs if facts.service_cidrs != examination.config.ranges.service_cidrs else ()
    found = collisions(examination.config, examination.host, own)
    for text in found:
        yield of_text(State.FAILED, text, "what is behind that address or route cannot be reached from here")
    if not found:
        yield ok(f"service CIDRs {_listed(map(str, facts.service_cidrs))} are used for nothing else")


def _service_routes(examination: Examination) -> Iterator[Finding]:
    families = examination.families
    cidrs = tuple(cidr for cidr in examination.state.facts.service_cidrs if Family(cidr.version) in families)
    if not families:
        yield skipped("there is no Service yet")
        return
    found = find_service_routes(examination.host, families, cidrs)
    for each in found:
        yield of_text(State.FAILED, each.reason, "connect() there fails with ENETUNREACH before any translation")
    if not found:
        yield ok(f"there are routes to {_listed(map(str, cidrs))}, or default ones")


def _endpoint_routes(examination: Examination) -> Iterator[Finding]:
    state, host = examination.state, examination.host
    served = Served(state.tables.desired, state.facts, host)
    addresses = sorted({each.address for each in served_endpoints(served) if each.address})
    if not addresses:
        yield skipped("there is no endpoint yet")
        return
    devices = devices_to(addresses)
    lost = [address for address in addresses if address not in devices]
    if lost:
        yield failed(
            f"no route leads to {_count(lost)}: {_listed(lost)}",
            "connections to these endpoints are dropped, or answered with an ICMP error",
            f"ip route add {_network(lost[0])} via NODE-OR-GATEWAY (the network of the pods on the other node)",
        )
        return
    known = _Networks(route.prefix for route in host.routes)
    ways = Counter(_way(address, devices[address], known) for address in addresses)
    yield ok(f"{_count(addresses)}: {', '.join(f'{count:,} {way}' for way, count in sorted(ways.items()))}")


class _Networks:
    """Whether an address is in any of many networks, whatever their number."""

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._starts: dict[tuple[int, int], set[int]] = defaultdict(set)
        for each in networks:
            bits = each.max_prefixlen - each.prefixlen
            self._starts[each.version, bits].add(int(each.network_address) >> bits)

    def __contains__(self, address: IPAddress) -> bool:
        number = int(address)
        return any(
            number >> bits in starts for (version, bits), starts in self._starts.items() if version == address.version
        )


def _way(address: str, device: str, known: _Networks) -> str:
    """How packets leave for an address. That a router has to know pods is how many clouds have it, and no fault."""
    if not device:
        return "on this node itself"
    return (
        f"via {device}"
        if ip_address(address) in known
        else f"via {device} by the default route (the router there has to know it)"
    )


def _network(address: str) -> str:
    return f"{address}/{ip_address(address).max_prefixlen}"


def _count(addresses: list[str]) -> str:
    return f"{len(addresses):,} address{'es' * (len(addresses) != 1)}"


def _listed(texts: Iterable[str]) -> str:
    all_of_them = list(texts)
    more = len(all_of_them) - _NAMED
    return ", ".join(all_of_them[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


CHECKS = (
    Check("node-addresses", "addresses for nodePorts", _addresses),
    Check("collisions", "service CIDRs alone", _collisions),
    Check("service-routes", "routes to clusterIPs", _service_routes),
    Check("endpoint-routes", "routes to endpoints", _endpoint_routes),
)
