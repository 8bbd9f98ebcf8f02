"""Source ranges (F4, X5) in the kernel: any list of prefixes becomes any other in one transaction."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import ANSWER_SECONDS, connect
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, IPNetwork, ServiceType
from nodeport_nft.plan import Replace
from nodeport_nft.reconcile import read_tables
from tests.builders import make_port, make_service
from tests.netns.kernel import facts, slices_of, sync

NODE = "worker-1"
WEB = replace(
    make_service("web", make_port(80, node_port=30080)),
    type=ServiceType.LOAD_BALANCER,
    load_balancer_ips=(ip_address("192.0.2.7"),),
)
MINE, ELSEWHERE = ip_network("10.244.1.3/32"), ip_network("198.51.100.0/24")
PATIENCE = {Kind.REACHED: ANSWER_SECONDS, Kind.SILENT: 0.4}
"""Seconds: an answer is waited for, and silence does not last for ever."""


def random_prefixes(chance: random.Random) -> tuple[IPNetwork, ...]:
    """Prefixes close to each other: many overlap, touch or hold one another."""
    start = int(ip_address("10.0.0.0"))
    return tuple(
        ip_network((start + chance.randrange(256), chance.choice((24, 26, 28, 30, 31, 32))), strict=False)
        for _ in range(chance.randrange(6))
    )


@pytest.mark.proves("F4", "X5")
def test_any_list_of_prefixes_becomes_any_other(cluster: Cluster) -> None:
    chance = random.Random(7)
    known, endpoints = facts(cluster), slices_of(cluster, ("web-1",))
    sync(cluster, (WEB,), (endpoints,))
    for _ in range(40):
        lists = random_prefixes(chance), random_prefixes(chance)
        service = replace(WEB, load_balancer_source_ranges=lists[0], node_port_source_ranges=lists[1])
        for transaction in sync(cluster, (service,), (endpoints,)):
            assert not any(isinstance(operation, Replace) for operation in transaction.operations)
        assert sync(cluster, (service,), (endpoints,)) == ()
        table = cluster.call(NODE, lambda: read_tables(Nft(), known))[Family.IPV4]
        assert table is not None
        for prefixes, name in zip(lists, ("firewall/default/web", "firewall-node-ports/default/web"), strict=True):
            held = [ip_network(str(key[0])) for key in table.elements.get(name, {})]
            assert addresses(held) == addresses(prefixes)
            assert (name in table.own_chains) == bool(prefixes)


def addresses(prefixes: list[IPNetwork] | tuple[IPNetwork, ...]) -> set[str]:
    return {str(ip) for prefix in prefixes for ip in prefix}


@pytest.mark.proves("F4", "X5")
def test_ranges_guard_from_the_transaction_on_that_brings_them(cluster: Cluster) -> None:
    endpoints = slices_of(cluster, ("web-1", "web-3"))

    def fate(address: str, port: int, expected: Kind) -> Kind:
        return connect(cluster, "web-2", (ip_address(address), port), timeout=PATIENCE[expected]).kind

    guarded = {(MINE,): Kind.REACHED, (ELSEWHERE,): Kind.SILENT, (): Kind.REACHED, (ELSEWHERE, MINE): Kind.REACHED}
    for ranges, expected in guarded.items():
        service = replace(WEB, load_balancer_source_ranges=ranges, node_port_source_ranges=ranges)
        sync(cluster, (service,), (endpoints,))
        assert fate("192.0.2.7", 80, expected) is expected
        assert fate("172.30.1.2", 30080, expected) is expected
        assert fate("10.96.0.10", 80, Kind.REACHED) is Kind.REACHED, "a clusterIP is guarded by neither"


@pytest.mark.proves("F4")
def test_a_node_that_has_the_vip_may_use_it_where_its_own_address_may(cluster: Cluster) -> None:
    """Some load balancers give nodes the VIP; what the node then sends there comes from the VIP itself."""
    endpoints = slices_of(cluster, ("web-1", "web-3"))
    vip = ip_address("192.0.2.7"), 80
    cluster.run(NODE, ["ip", "address", "add", "192.0.2.7/32", "dev", "lo"])
    try:
        for ranges, expected in (("172.30.1.0/24", Kind.REACHED), ("172.30.2.0/24", Kind.SILENT)):
            service = replace(WEB, load_balancer_source_ranges=(ip_network(ranges),))
            sync(cluster, (service,), (endpoints,))
            assert connect(cluster, NODE, vip, timeout=PATIENCE[expected]).kind is expected
    finally:
        cluster.run(NODE, ["ip", "address", "del", "192.0.2.7/32", "dev", "lo"])
