"""Weights and consistent hashing (X7) in the kernel: shares, and one choice on every node."""

from __future__ import annotations

import socket
from collections import Counter
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from lab.probe import connect_many, parse_answer
from nodeport_nft.model import LoadBalancing, Snapshot
from nodeport_nft.reconcile import compile_snapshot
from nodeport_nft.trace import Packet, trace
from tests.builders import make_port, make_service
from tests.netns.kernel import facts, slices_of, sync

PODS = ("web-1", "web-2", "web-3")
WEB = make_service("web", make_port(80, node_port=30080))
HASHED = replace(WEB, load_balancing=LoadBalancing.MAGLEV)
CONNECTIONS = 1200

pytestmark = pytest.mark.proves("X7")


@pytest.mark.parametrize("balancing", LoadBalancing)
def test_connections_are_shared_by_weight(cluster: Cluster, balancing: LoadBalancing) -> None:
    weights = {"web-1": 1, "web-2": 2, "web-3": 5}
    by_address = {str(cluster.address(pod)): weight for pod, weight in weights.items()}
    service = replace(WEB, load_balancing=balancing, weights=by_address)
    slices = (slices_of(cluster, PODS),)
    sync(cluster, (service,), slices)
    (table, _) = compile_snapshot(Snapshot((service,), slices), facts(cluster)).tables.tables()
    told = trace(table, Packet(str(cluster.address("client")), "172.30.1.2", "tcp", 30080), {"172.30.1.2"})
    outcomes = connect_many(cluster, "client", (ip_address("172.30.1.2"), 30080), "TCP", CONNECTIONS)
    found = Counter(outcome.to for outcome in outcomes)
    for outcome in told.outcomes:
        share = float(outcome.probability)
        address = ip_address(outcome.destination)
        assert abs(share - by_address[outcome.destination] / 8) < 0.02, "the tracer's shares are the weights"
        deviation = (CONNECTIONS * share * (1 - share)) ** 0.5
        assert abs(found[address] - CONNECTIONS * share) < 7 * deviation, (found, share)


def test_every_node_leads_a_connection_to_the_same_endpoint(cluster: Cluster) -> None:
    slices = (slices_of(cluster, PODS),)
    for node in ("worker-1", "worker-2"):
        sync(cluster, (HASHED,), slices, node=node)
    by_node = {ip: reached(cluster, ip, range(40000, 40040)) for ip in ("172.30.1.2", "172.30.2.2")}
    assert by_node["172.30.1.2"] == by_node["172.30.2.2"]
    assert set(by_node["172.30.1.2"].values()) == set(PODS)


def test_connections_stay_with_their_endpoints_when_another_leaves(cluster: Cluster) -> None:
    sync(cluster, (HASHED,), (slices_of(cluster, (*PODS, "tester")),))
    before = reached(cluster, "172.30.1.2", range(41000, 41040))
    sync(cluster, (HASHED,), (slices_of(cluster, PODS),))
    cluster.run("worker-1", ["conntrack", "-F"])
    after = reached(cluster, "172.30.1.2", range(41000, 41040))
    stayed = sum(before[port] == after[port] for port in before if before[port] != "tester")
    assert stayed >= sum(name != "tester" for name in before.values()) * 0.7
    assert "tester" in before.values()


def reached(cluster: Cluster, ip: str, ports: range) -> dict[int, str]:
    """Who answers connections from these source ports of the client."""
    found = {}
    for port in ports:
        with cluster.socket("client", socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.settimeout(60)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Closed by a reset, so that the port is free for the next connection at once.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.bind((str(cluster.address("client")), port))
            connection.connect((ip, 30080))
            found[port] = parse_answer(connection.recv(4096)).name
    return found
