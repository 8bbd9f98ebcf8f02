"""What is read of a host and of its sysctls, in the lab's hosts (F2, F7, K6)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lab.cluster import Cluster
from nodeport_nft.facts import HostAddress, HostRoute
from nodeport_nft.kernel.host.addresses import read_host
from nodeport_nft.kernel.host.sysctl import find_missing
from nodeport_nft.kernel.nft import too_old
from nodeport_nft.model import Family

POD_CIDRS = (ip_network("10.244.1.0/24"),)
SERVICE_CIDRS = (ip_network("10.96.0.0/12"), ip_network("fd00:10:96::/112"))
BOTH = frozenset(Family)


def missing(cluster: Cluster, host: str, families: frozenset[Family] = BOTH) -> list[str]:
    return cluster.call(host, lambda: [str(m) for m in find_missing(read_host(), families, POD_CIDRS, SERVICE_CIDRS)])


def test_addresses_routes_and_sources(cluster: Cluster) -> None:
    host = cluster.call("worker-1", read_host)
    held = {address.address for address in host.addresses}
    assert {ip_address("172.30.1.2"), ip_address("fd00:30:1::2"), ip_address("127.0.0.1")} <= held
    assert set(host.sources) == {ip_address("172.30.1.2"), ip_address("fd00:30:1::2")}
    uplink = next(address.interface for address in host.addresses if address.address == ip_address("172.30.1.2"))
    assert HostRoute(ip_network("172.30.1.0/24"), uplink) in host.routes
    assert all(route.prefix.prefixlen > 0 for route in host.routes)


def test_a_tentative_address_is_unstable(cluster: Cluster) -> None:
    cluster.run("tester", ["ip", "link", "add", "veth-a", "type", "veth", "peer", "name", "veth-b"])
    try:
        # Its peer is down, so duplicate address detection cannot end.
        cluster.run("tester", ["sysctl", "-w", "net.ipv6.conf.all.accept_dad=1", "net.ipv6.conf.veth-a.accept_dad=1"])
        cluster.run("tester", ["ip", "link", "set", "veth-a", "up"])
        cluster.run("tester", ["ip", "address", "add", "fd00:ffff::1/64", "dev", "veth-a"])
        found = cluster.call("tester", read_host).addresses
        assert HostAddress(ip_address("fd00:ffff::1"), "veth-a", unstable=True) in found
    finally:
        cluster.run("tester", ["ip", "link", "del", "veth-a"])
        cluster.sysctl("tester", {"net.ipv6.conf.all.accept_dad": "0"})


@pytest.mark.proves("F2")
def test_a_deprecated_address_is_a_stable_one(cluster: Cluster) -> None:
    """As keepalived sets a virtual address; the source of connections is another one."""
    options = ["dev", "eth0", "nodad", "preferred_lft", "0"]
    cluster.run("tester", ["ip", "address", "add", "fd00:ffff::1/64", *options])
    try:
        found = cluster.call("tester", read_host).addresses
        assert [held.unstable for held in found if held.address == ip_address("fd00:ffff::1")] == [False]
    finally:
        cluster.run("tester", ["ip", "address", "del", "fd00:ffff::1/64", "dev", "eth0"])


@pytest.mark.proves("K6")
def test_k6_a_node_that_forwards_misses_nothing(cluster: Cluster) -> None:
    assert missing(cluster, "worker-1") == []


@pytest.mark.proves("K6")
@pytest.mark.parametrize(
    ("family", "setting"),
    [(Family.IPV4, "net.ipv4.ip_forward"), (Family.IPV6, "net.ipv6.conf.all.forwarding")],
)
def test_k6_forwarding_is_missed_for_the_families_in_use(cluster: Cluster, family: Family, setting: str) -> None:
    cluster.sysctl("worker-1", {setting: "0"})
    try:
        (found,) = missing(cluster, "worker-1")
        assert f"sysctl -w {setting}=1" in found
        assert missing(cluster, "worker-1", BOTH - {family}) == []
    finally:
        cluster.sysctl("worker-1", {setting: "1"})


@pytest.mark.proves("K6")
def test_k6_a_host_without_a_route_for_the_service_cidr(cluster: Cluster) -> None:
    def found() -> list[str]:
        return [m for m in missing(cluster, "client", frozenset({Family.IPV4})) if "no route" in m]

    _, *route = cluster.run("client", ["ip", "-4", "route", "show", "default"]).stdout.split()
    cluster.run("client", ["ip", "route", "del", "default"])
    try:
        (only,) = found()
        assert "ip route add 10.96.0.0/12 dev INTERFACE" in only
        cluster.run("client", ["ip", "route", "add", "10.0.0.0/8", *route])
        assert found() == []
        cluster.run("client", ["ip", "route", "del", "10.0.0.0/8"])
    finally:
        cluster.run("client", ["ip", "route", "add", "default", *route])


@pytest.mark.proves("K6")
def test_k6_pods_that_share_a_bridge(cluster: Cluster) -> None:
    knob = "net.bridge.bridge-nf-call-iptables"
    loaded = Path("/proc/sys", *knob.split(".")).exists()

    def found() -> list[str]:
        return [m for m in missing(cluster, "tester", frozenset({Family.IPV4})) if "bridge cbr0" in m]

    cluster.run("tester", ["ip", "link", "add", "cbr0", "type", "bridge"])
    try:
        cluster.run("tester", ["ip", "address", "add", "10.244.1.250/24", "dev", "cbr0"])
        if loaded:
            assert found() == []
            cluster.sysctl("tester", {knob: "0"})
        (only,) = found()
        assert (f"sysctl -w {knob}=1" if loaded else "modprobe br_netfilter") in only
    finally:
        cluster.run("tester", ["ip", "link", "del", "cbr0"])
        if loaded:
            cluster.sysctl("tester", {knob: "1"})


@pytest.mark.proves("K6")
def test_k6_an_old_kernel_is_named() -> None:
    assert too_old("6.1.0-18-cloud-amd64") == ()
    assert too_old("5.4.0-generic") == ("Linux 5.4.0-generic is older than 5.13, which our tables need; upgrade it",)
