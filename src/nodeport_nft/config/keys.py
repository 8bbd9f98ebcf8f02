"""Which keys there are: for each the flag that means the same, and what it makes of a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from nodeport_nft.config.given import Given, as_choice, as_text, each
from nodeport_nft.config.settings import Config, DetectLocalMode
from nodeport_nft.config.values import bind_address, flag, integer, networks, port_range, seconds, word_or_networks
from nodeport_nft.manifest.unknown import Validate
from nodeport_nft.model import IPNetwork, NodePortMode
from nodeport_nft.notation import subdomain_fault
from nodeport_nft.problems import clipped, shown

_YEAR = 365 * 86400.0
_FAMILIES = ("ip", "ip6", "inet")  # of tables whose forward hook IP packets pass


@dataclass(frozen=True, slots=True)
class Key:
    """``take`` gives the configuration with a value in it, or raises ValueError; ``flag`` is "" if there is none."""

    take: Callable[[Config, Given], Config]
    flag: str = ""


def _path(given: Given, what: str) -> str:
    def parse(text: str) -> str:
        if not text:
            raise ValueError(f"is empty; name {what}")
        return text

    return as_text(given, parse, "a path", f"name {what}")


def _service_cidrs(config: Config, given: Given) -> Config:
    cidrs = networks(given)
    if not cidrs or len({cidr.version for cidr in cidrs}) != len(cidrs):
        told = clipped(", ".join(map(str, cidrs))) or "nothing"
        raise ValueError(f"{told} is given; give one network, or one of each family")
    small = [str(cidr) for cidr in cidrs if cidr.max_prefixlen - cidr.prefixlen < 2]
    if small:
        raise ValueError(f"{', '.join(small)} has no room for clusterIPs; use at least a /30 or a /126")
    return replace(config, ranges=replace(config.ranges, service_cidrs=cidrs))


def _node_port_addresses(config: Config, given: Given) -> Config:
    found = word_or_networks(given, ("primary", "all"))
    if isinstance(found, str):
        return replace(config, node_port_mode=NodePortMode(found), node_port_cidrs=())
    return replace(config, node_port_mode=NodePortMode.CIDRS, node_port_cidrs=found)


def _claimable(given: Given) -> tuple[IPNetwork, ...] | None:
    """The networks of the external addresses that Services may claim: any (None), none at all, or these."""
    found = word_or_networks(given, ("any", "deny"))
    if isinstance(found, str):
        return None if found == "any" else ()
    return found


def _interface(given: Given) -> str:
    def parse(text: str) -> str:
        if not re.fullmatch(r"[!-~]{1,15}", text) or set(text) & set('"*/\\'):
            raise ValueError(
                f"{shown(text)} is no interface name; use at most 15 printable characters, without blanks"
            )
        return text

    return as_text(given, parse, "an interface name", "write one name, such as cni0")


def _trusted_chains(given: Given) -> tuple[str, ...]:
    remedy = "write FAMILY TABLE CHAIN, such as ip filter FORWARD"

    def parse(text: str) -> str:
        words = text.split()
        if len(words) != 3:
            raise ValueError(f"{shown(text)} is no chain; {remedy}")
        if words[0] not in _FAMILIES:
            raise ValueError(
                f"{shown(text)} is no chain; {remedy}: {shown(words[0])} is no family, "
                f"which is one of {', '.join(_FAMILIES)}"
            )
        return " ".join(words)

    return each(given.items(), lambda item: as_text(item, parse, "a chain", remedy))


def _cluster_domain(given: Given) -> str:
    def parse(text: str) -> str:
        domain = text.removesuffix(".")
        if fault := subdomain_fault(domain):
            raise ValueError(fault)
        return domain

    return as_text(given, parse, "a domain", "write one, such as cluster.local")


KEYS: dict[str, Key] = {
    "store": Key(lambda c, g: replace(c, store=_path(g, "a file")), "--store"),
    "stateDir": Key(lambda c, g: replace(c, state_dir=_path(g, "a directory")), "--state-dir"),
    "runDir": Key(lambda c, g: replace(c, run_dir=_path(g, "a directory"))),
    "nodePortRange": Key(
        lambda c, g: replace(c, ranges=replace(c.ranges, node_ports=port_range(g))), "--node-port-range"
    ),
    "serviceCIDRs": Key(_service_cidrs, "--service-cidr"),
    "clusterCIDRs": Key(lambda c, g: replace(c, cluster_cidrs=networks(g)), "--cluster-cidr"),
    "nodePortAddresses": Key(_node_port_addresses, "--nodeport-addresses"),
    "masqueradeBit": Key(
        lambda c, g: replace(c, masquerade_bit=integer(g, 0, 31, "bit of the packet mark")), "--masquerade-bit"
    ),
    "detectLocalMode": Key(
        lambda c, g: replace(c, detect_local_mode=DetectLocalMode(as_choice(g, tuple(DetectLocalMode), "mode")))
    ),
    "podInterface": Key(lambda c, g: replace(c, pod_interface=_interface(g))),
    "masqueradeAll": Key(lambda c, g: replace(c, masquerade_all=flag(g))),
    "trustedChains": Key(lambda c, g: replace(c, trusted_chains=_trusted_chains(g))),
    "flowtable": Key(lambda c, g: replace(c, flowtable=flag(g)), "--flowtable"),
    "externalIPs": Key(lambda c, g: replace(c, external_ips=_claimable(g)), "--external-ips"),
    "loadBalancerIPs": Key(lambda c, g: replace(c, load_balancer_ips=_claimable(g)), "--load-balancer-ips"),
    "clusterDomain": Key(lambda c, g: replace(c, cluster_domain=_cluster_domain(g)), "--cluster-domain"),
    "maxDocumentBytes": Key(lambda c, g: replace(c, max_document_bytes=integer(g, 1, 1 << 32, "size in bytes"))),
    "validate": Key(lambda c, g: replace(c, validate=Validate(as_choice(g, tuple(Validate), "level"))), "--validate"),
    "ownRoutes": Key(lambda c, g: replace(c, own_routes=networks(g))),
    "healthzBindAddress": Key(lambda c, g: replace(c, healthz_address=bind_address(g)), "--healthz-bind-address"),
    "metricsBindAddress": Key(lambda c, g: replace(c, metrics_address=bind_address(g)), "--metrics-bind-address"),
    "syncPeriod": Key(lambda c, g: replace(c, sync_period=seconds(g, 1, _YEAR)), "--sync-period"),
    "minSyncPeriod": Key(lambda c, g: replace(c, min_sync_period=seconds(g, 0, 60)), "--min-sync-period"),
    "fullCheckPeriod": Key(lambda c, g: replace(c, full_check_period=seconds(g, 1, _YEAR)), "--full-check-period"),
}
