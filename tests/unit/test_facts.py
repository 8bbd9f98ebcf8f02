"""Node facts: which addresses serve nodePorts (F2), and service CIDRs that collide (F7)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from nodeport_nft.config import load_config
from nodeport_nft.facts import Host, HostAddress, HostRoute, collisions, gather, overlaps, served_on
from nodeport_nft.model import ZONE_LABEL, Node, NodePortMode

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


def test_f7_a_collision_is_told_once_with_the_place_and_the_remedy() -> None:
    """Twice the same address or route is one collision; another family's prefix is none, whatever its number."""
    remedy = "choose another --service-cidr, or list the prefix under ownRoutes in the configuration"
    twice = Host(
        addresses=(HostAddress(ip_address("10.96.0.1"), "eth0"),) * 2,
        routes=(HostRoute(ip_network("10.96.0.0/24"), "eth0"),) * 2 + (HostRoute(ip_network("::/96"), "eth0"),),
    )
    config = load_config("/dev/null", {})
    found = [
        "service CIDR 10.96.0.0/12 holds this node's address 10.96.0.1 (eth0)",
        "service CIDR 10.96.0.0/12 overlaps this node's route 10.96.0.0/24 (eth0)",
    ]
    assert list(overlaps(config, twice)) == found
    assert list(collisions(config, twice)) == [f"{each}; {remedy}" for each in found], "nobody gave this CIDR"
    given = load_config("/dev/null", {"serviceCIDRs": ["10.96.0.0/12"]})
    assert list(collisions(given, twice)) == [f"{given.places['serviceCIDRs']}: {each}; {remedy}" for each in found]
    own = load_config("/dev/null", {"ownRoutes": ["10.96.0.0/23"]})
    assert collisions(own, twice) == ()
    elsewhere = load_config("/dev/null", {"ownRoutes": ["10.97.0.0/24", "::/0"]})
    assert len(collisions(elsewhere, twice)) == 2


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (["all"], "every local address"),
        (None, "172.30.1.2, fd00:30:1::2"),
        (["192.0.2.0/24"], "192.0.2.7"),
        (["203.0.113.0/24"], "no address"),
    ],
)
def test_people_are_told_where_node_ports_are_served(which: list[str] | None, expected: str) -> None:
    config = load_config("/dev/null", {"nodePortAddresses": which})
    facts, warnings = gather(config, name="worker-1", node=None, node_ips=(), host=HOST)
    assert served_on(facts) == expected
    assert len(warnings) == (expected == "no address")
    assert (facts.node_port_ips == ()) == (expected in ("no address", "every local address"))


def test_what_a_node_is_known_by_is_sorted_once_each_and_told_in_every_mode() -> None:
    """Flags go before the Node object, whole; for CIDRs all that is held counts, and loopback is told once."""
    node = Node("worker-1", {ZONE_LABEL: "a"}, tuple(map(ip_address, ("fd00::9", "172.30.1.9", "172.30.1.9"))))
    for which, mode in ((None, NodePortMode.PRIMARY), (["all"], NodePortMode.ALL), (["::/0"], NodePortMode.CIDRS)):
        config = load_config("/dev/null", {"nodePortAddresses": which})
        facts, _ = gather(config, name="worker-1", node=node, node_ips=(), host=HOST)
        assert (facts.node_port_mode, facts.zone) == (mode, "a")
        assert list(map(str, facts.addresses)) == ["172.30.1.9", "fd00::9"]
        flag = (ip_address("172.30.1.8"),)
        assert gather(config, name="worker-1", node=node, node_ips=flag, host=HOST)[0].addresses == flag
    config = load_config("/dev/null", {"nodePortAddresses": ["172.30.1.0/24", "127.0.0.0/8"]})
    loopback = (ip_address("127.0.0.1"), ip_address("172.30.1.1"), ip_address("172.30.1.8"))
    facts, warnings = gather(config, name="worker-1", node=node, node_ips=loopback, host=HOST)
    assert list(map(str, facts.node_port_ips)) == ["172.30.1.1", "172.30.1.2", "172.30.1.8", "172.30.1.9"]
    assert [warning.partition(":")[0] for warning in warnings] == ["nodePorts are not served on 127.0.0.1"]
    config = load_config("/dev/null", {})
    facts, _ = gather(config, name="worker-1", node=None, node_ips=loopback[1:], host=HOST)
    assert list(map(str, facts.node_port_ips)) == ["172.30.1.1"], "the first one of a family"


@pytest.mark.parametrize(
    ("given", "cidrs", "interface"),
    [
        ({}, [], ""),
        ({"detectLocalMode": "ClusterCIDR", "clusterCIDRs": ["10.244.0.0/16"]}, ["10.244.0.0/16"], ""),
        ({"detectLocalMode": "NodeCIDR"}, ["10.244.1.0/24"], ""),
        ({"detectLocalMode": "BridgeInterface", "podInterface": "cni0"}, [], "cni0"),
        ({"detectLocalMode": "InterfaceNamePrefix", "podInterface": "veth"}, [], "veth*"),
    ],
)
def test_a_pod_is_told_by_what_the_mode_says(given: dict[str, object], cidrs: list[str], interface: str) -> None:
    config = load_config("/dev/null", given)
    node = Node("worker-1", pod_cidrs=(ip_network("10.244.1.0/24"),))
    facts, _ = gather(config, name="worker-1", node=node, node_ips=(), host=HOST)
    assert ([str(cidr) for cidr in facts.pod_cidrs], facts.pod_interface) == (cidrs, interface)
    without, _ = gather(config, name="worker-1", node=None, node_ips=(), host=HOST)
    assert without.pod_cidrs == (() if given.get("detectLocalMode") == "NodeCIDR" else facts.pod_cidrs)


def test_cluster_ips_on_kube_proxys_link_are_no_other_use_of_the_network() -> None:
    """In its mode ipvs they are addresses of the node, until what it has left is removed."""
    config = load_config("/dev/null", {"serviceCIDRs": ["10.96.0.0/12", "fd00:10:96::/112"]})

    def host(link: str) -> Host:
        """With both, as an IPv6 address brings a route."""
        held = tuple(HostAddress(ip_address(text), link) for text in ("10.96.0.10", "fd00:10:96::a"))
        return Host(addresses=held, routes=(HostRoute(ip_network("fd00:10:96::a/128"), link),))

    assert overlaps(config, host("kube-ipvs0")) == ()
    assert len(overlaps(config, host("eth0"))) == 3
