"""What others see of the daemon while it serves: load balancers, probes, Prometheus."""

from __future__ import annotations

import json
import re
import socket
from http.client import HTTPConnection
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect
from tests.daemon.objects import Desired, endpoint_slice, node, service
from tests.daemon.running import Daemon, wait_for

HEALTH_CHECK_PORT = 32123


def get(cluster: Cluster, host: str, address: str, port: int, path: str = "/") -> tuple[int, str]:
    """Status and body of an answer; 0 where nobody answers."""
    with cluster.socket(host, socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.settimeout(60)
        connection = HTTPConnection(address, port)
        connection.sock = opened
        try:
            opened.connect((address, port))
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (ConnectionRefusedError, ConnectionResetError):  # reset: the port was closed just then
            return 0, ""


def balanced(number: int, policy: str) -> dict[str, Any]:
    more = {"healthCheckNodePort": HEALTH_CHECK_PORT} if policy == "Local" else {}
    return service("web", number, type="LoadBalancer", externalTrafficPolicy=policy, **more)


def endpoints(cluster: Cluster, *pods: str) -> dict[str, Any]:
    found = [{"addresses": [str(cluster.address(pod))], "nodeName": cluster.host(pod).node} for pod in pods]
    return endpoint_slice("web", "web-4", 4, 8080, found)


@pytest.mark.proves("H1")
def test_load_balancers_learn_where_endpoints_are(cluster: Cluster, desired: Desired, daemon: Daemon) -> None:
    desired.apply(balanced(10, "Local"), endpoints(cluster, "web-1", "web-2", "web-3"))
    daemon.start()
    address = str(cluster.address("worker-1"))

    def answer() -> tuple[int, str]:
        return get(cluster, "client", address, HEALTH_CHECK_PORT)

    status, body = wait_for(lambda: (found := answer())[0] == 200 and found, "200 from a node with endpoints")
    assert (status, json.loads(body)["localEndpoints"]) == (200, 2)
    desired.apply(endpoints(cluster, "web-3"))  # which is on the other node
    wait_for(lambda: answer()[0] == 503, "503 from a node without endpoints")
    desired.apply(balanced(10, "Cluster"))
    wait_for(lambda: answer()[0] == 0, "a port that is closed again")


@pytest.mark.proves("H2")
def test_a_node_that_is_being_deleted_is_not_healthy_but_alive(
    cluster: Cluster, desired: Desired, daemon: Daemon
) -> None:
    desired.apply(service("web", 10), node("worker-1"))
    daemon.start()
    wait_for(lambda: get(cluster, "worker-1", "127.0.0.1", 10256, "/healthz")[0] == 200, "200 of /healthz")
    doomed = node("worker-1")
    doomed["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    desired.apply(doomed)
    wait_for(lambda: get(cluster, "worker-1", "127.0.0.1", 10256, "/healthz")[0] == 503, "503 of /healthz")
    assert get(cluster, "worker-1", "127.0.0.1", 10256, "/livez")[0] == 200


@pytest.mark.proves("H3", "X3")
def test_connections_are_counted_over_changes_and_syncs_too(
    cluster: Cluster, desired: Desired, daemon: Daemon
) -> None:
    desired.apply(service("web", 10), endpoints(cluster, "web-1", "web-2"))
    daemon.start("--min-sync-period", "0")

    def metric(name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", daemon.ask("/metrics"), re.MULTILINE)
        assert found, name
        return float(found[1])

    def connections() -> float:
        return metric(r'nodeport_nft_service_connections_total\{namespace="default",service="web"\}')

    counted = r'kubeproxy_sync_proxy_rules_duration_seconds_count\{ip_family="IPv4"\}'
    syncs = metric(counted)
    for round_number, pods in enumerate([("web-1", "web-2", "web-3"), ("web-1",), ("web-1", "web-2")], start=1):
        assert connect(cluster, "client", (cluster.address("worker-1"), 30010)).kind is Kind.REACHED
        desired.apply(endpoints(cluster, *pods))  # another power of two: the counted element is replaced
        daemon.settle()
        # What is in the kernel may not be told yet; each connection is counted once, however often it is asked.
        wait_for(lambda count=round_number: connections() >= count, "the connection counted")  # type: ignore[misc]
        assert connections() == round_number
    wait_for(lambda: metric(counted) >= syncs + 3, "the syncs counted")
    assert metric(counted) == syncs + 3
    assert metric(r'kubeproxy_sync_proxy_rules_nftables_sync_failures_total\{ip_family="IPv4"\}') == 0
    assert metric("nodeport_nft_services") == 1
