"""What the lab's cluster looks like: addresses, networks and the sysctls of its hosts."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from lab.namespaces import Namespace

CLIENT, ROUTER = "client", "router"

# What a namespace of its own would otherwise do on its own account, or inherit from the machine.
HOST_SYSCTLS = {
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
    "net.ipv6.conf.all.accept_dad": "0",  # duplicate address detection makes an address wait for a second
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv4.icmp_ratelimit": "0",  # else the seventh refusal within a few seconds would be silence
    "net.ipv6.icmp.ratelimit": "0",
}
ROUTER_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.default.forwarding": "1",
    "net.ipv4.conf.all.send_redirects": "0",  # a node forwards from its uplink to its uplink all the time
    "net.ipv4.conf.default.send_redirects": "0",
}


@dataclass(frozen=True, slots=True)
class Host:
    """A machine or a pod of the cluster; ``node`` names the node that a pod runs on, and is "" for others."""

    name: str
    namespace: Namespace
    ipv4: IPv4Address
    ipv6: IPv6Address
    node: str = ""


def node_networks(number: int) -> tuple[IPv4Network, IPv6Network]:
    """The subnet between the router and node ``number`` (from 1; 0 is the client's)."""
    return IPv4Network(f"172.30.{number}.0/24"), IPv6Network(f"fd00:30:{number:x}::/64")


def pod_networks(number: int) -> tuple[IPv4Network, IPv6Network]:
    """The pod CIDRs of node ``number`` (from 1)."""
    return IPv4Network(f"10.244.{number}.0/24"), IPv6Network(f"fd00:244:{number:x}::/64")
