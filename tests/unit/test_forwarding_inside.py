"""Where clients are not: the networks of this host that no uplink leads to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from nodeport_nft.facts import Host, HostAddress, HostRoute
from nodeport_nft.kernel.host.foreign_chains import Question, _inside
from nodeport_nft.model import Family, NodeFacts, NodePortMode


def inside(*routes: str, pods: str = "10.244.0.0/16") -> set[str]:
    """The networks of IPv4, with these routes."""
    held = {"172.30.0.2": "eth0", "172.17.0.1": "docker0", "10.8.0.6": "tun0", "10.9.0.1": "br0"}
    parted = [route.split() for route in routes]
    host = Host(
        addresses=tuple(HostAddress(ip_address(address), device) for address, device in held.items()),
        routes=tuple(HostRoute(ip_network(prefix), device) for prefix, device in parted),
    )
    facts = NodeFacts(name="n", node_port_mode=NodePortMode.PRIMARY, pod_cidrs=(ip_network(pods),))
    found = {str(network) for network in _inside(Question((), False, facts, host), Family.IPV4, ("eth0",))}
    assert {"127.0.0.0/8", pods} <= found
    return found - {"127.0.0.0/8", pods}


def test_networks_of_other_devices_hold_no_client() -> None:
    assert inside("172.30.0.0/24 eth0", "172.17.0.0/16 docker0") == {"172.17.0.0/16"}
    assert inside("10.244.1.2/32 pod2") == {"10.244.1.2/32"}
    assert inside("fd00::/64 docker0") == set()


def test_what_is_wide_or_behind_a_router_may_hold_some() -> None:
    assert inside("192.168.0.0/16 docker0") == set()  # by a router there
    assert inside("0.0.0.0/1 tun0", "128.0.0.0/1 tun0") == set()
    assert inside("10.0.0.0/8 br0", "10.1.0.0/16 eth0") == set()
    assert inside("10.0.0.0/8 br0") == {"10.0.0.0/8"}
