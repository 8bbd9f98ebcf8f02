"""Node facts: which addresses serve nodePorts (F2), and service CIDRs that collide (F7)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from nodeport_nft.config import load_config
from nodeport_nft.facts import Host, HostAddress, HostRoute, gather, overlaps
from nodeport_nft.model import Node

HOST = Host(
    addresses=(
        HostAddress(ip_address("127.0.0.1"), "lo"),
        HostAddress(ip_address("172.30.1.2"), "eth0"),
        HostAddress(ip_address("192.0.2.7"), "eth1"),
        HostAddress(ip_address("fd00:30:1::2"), "eth0"),
        HostAddress(ip_address("fd00:30:1::99"), "eth0", unstable=True),
        HostAddress(ip_address("fe80::1"), "eth0"),
    ),
    routes=(HostRoute(ip_network("172.30.1.0/24"), "eth0"),),
    sources=(ip_address("172.30.1.2"), ip_address("fd00:30:1::2")),
)
NODE = Node("worker-1", internal_ips=(ip_address("172.30.1.9"),))


@pytest.mark.proves("F2")
@pytest.mark.parametrize(
    ("which", "node", "flags", "expected"),
    [
        (None, None, (), ["172.30.1.2", "fd00:30:1::2"]),
        (None, NODE, (), ["172.30.1.9"]),
        (None, NODE, ("172.30.1.8",), ["172.30.1.8"]),
        (["192.0.2.0/24"], None, (), ["192.0.2.7"]),
        (["192.0.2.0/24,fd00::/8"], None, (), ["192.0.2.7", "fd00:30:1::2"]),
        (["0.0.0.0/0"], None, (), ["172.30.1.2", "192.0.2.7"]),
        (["::/0"], None, (), ["fd00:30:1::2"]),
    ],
    ids=[
        "default route",
        "Node object",
        "flag",
        "CIDR",
        "two CIDRs",
        "all of IPv4",
        "neither link-local nor temporary",
    ],
)
def test_node_port_addresses(
    which: list[str] | None, node: Node | None, flags: tuple[str, ...], expected: list[str]
) -> None:
    config = load_config("/dev/null", {"nodePortAddresses": which})
    node_ips = tuple(map(ip_address, flags))
    facts, _ = gather(config, name="worker-1", node=node, node_ips=node_ips, host=HOST)
    assert [str(ip) for ip in facts.node_port_ips] == expected


@pytest.mark.proves("F2")
def test_loopback_is_refused_with_a_warning() -> None:
    config = load_config("/dev/null", {"nodePortAddresses": ["127.0.0.0/8"]})
    facts, warnings = gather(config, name="worker-1", node=None, node_ips=(), host=HOST)
    assert facts.node_port_ips == ()
    assert warnings[0].startswith("nodePorts are not served on 127.0.0.1: ")


@pytest.mark.parametrize("address", ["239.1.1.1", "224.0.0.1", "255.255.255.255", "ff05::1", "ff02::1"])
def test_no_node_port_is_served_on_what_names_no_single_host(address: str) -> None:
    config = load_config("/dev/null", {})
    node = Node("worker-1", internal_ips=(ip_address(address),))
    facts, _ = gather(config, name="worker-1", node=node, node_ips=(), host=HOST)
    assert facts.node_port_ips == ()


@pytest.mark.proves("F2")
def test_an_unstable_source_is_not_a_primary_address() -> None:
    config = load_config("/dev/null", {})
    host = Host(addresses=HOST.addresses, sources=(ip_address("fd00:30:1::99"),))
    facts, warnings = gather(config, name="worker-1", node=None, node_ips=(), host=host)
    assert facts.node_port_ips == ()
    assert "--node-ip" in warnings[0]


@pytest.mark.proves("F7")
@pytest.mark.parametrize(
    ("cidr", "own", "named"),
    [
        ("10.96.0.0/12", [], []),
        ("172.30.0.0/16", [], ["172.30.1.2 (eth0)", "172.30.1.0/24 (eth0)"]),
        ("172.30.1.128/25", [], ["172.30.1.0/24 (eth0)"]),
        ("172.30.0.0/16", ["172.30.1.0/24"], []),
        ("fd00:30::/32", [], ["fd00:30:1::2 (eth0)", "fd00:30:1::99 (eth0)"]),
    ],
)
def test_f7_collisions_name_both_sides(cidr: str, own: list[str], named: list[str]) -> None:
    config = load_config("/dev/null", {"serviceCIDRs": [cidr], "ownRoutes": own})
    found = overlaps(config, HOST)
    assert len(found) == len(named)
    for message, other in zip(found, named, strict=True):
        assert cidr in message
        assert other in message
