"""Readiness probes in a cluster on etcd: each node probes its own, and all of them act on what it finds (X9)."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.probe import connect_many
from tests.cli.program import SCRIPT
from tests.daemon.objects import service
from tests.daemon.running import wait_for
from tests.daemon.test_etcd import NODES, SECONDS, Nodes

PORT = 7100
PODS = ("web-1", "web-3")  # one on each worker


@pytest.fixture
def nodes(cluster: Cluster, tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(cluster, tmp_path)
    made.start_etcd()
    for node in NODES:
        made.start(node, "--node-monitor-grace-period", "10m")  # nobody counts as lost here
    yield made
    made.close()


def pod(cluster: Cluster, name: str) -> dict[str, object]:
    host = cluster.host(name)
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 30}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": host.node, "containers": [{"name": "web", "readinessProbe": probe}]},
        "status": {"podIP": str(host.ipv4)},
    }


def reached(cluster: Cluster, *nodes: str) -> dict[str, set[str]]:
    """Who answers on these nodes' nodePort (none named: on each), over many connections; "" stands for nobody."""
    return {
        node: {outcome.name for outcome in connect_many(cluster, "client", (NODES[node], 30010), count=20)}
        for node in nodes or NODES
    }


@pytest.mark.proves("X9")
def test_what_one_node_finds_dead_no_node_sends_to(cluster: Cluster, nodes: Nodes) -> None:
    """The backend on worker-2 dies and comes back; worker-2 finds it, worker-1 acts on it, too.

    Once more, and worker-2's daemon with it: worker-1 takes over what was found before it finds anything itself.
    """
    running = {name: cluster.start_responder(name, [PORT]) for name in PODS}
    try:
        ports = [{"port": 80, "targetPort": PORT, "nodePort": 30010}]
        spec = {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"]}
        web = service("web", 10, ports=ports, selector={"app": "web"}, ipFamilyPolicy="SingleStack", **spec)
        manifests = {"apiVersion": "v1", "kind": "List", "items": [web, *(pod(cluster, name) for name in PODS)]}
        nodes.run("worker-1", "apply", "-f", "-", text=json.dumps(manifests))
        both = {node: set(PODS) for node in NODES}
        wait_for(lambda: reached(cluster) == both, "both pods answer on both nodes", SECONDS)
        wait_for(lambda: probes(nodes) == dict.fromkeys(NODES, 1), "each node probes its own pod", SECONDS)
        cluster.stop(running.pop("web-3"))
        alone = {node: {"web-1"} for node in NODES}
        wait_for(lambda: reached(cluster) == alone, "the dead one is out on both nodes", SECONDS)
        failed = "endpoint fails its readiness probe"
        assert not nodes.events("worker-1", failed)
        assert [event["why"] for event in nodes.events("worker-2", failed)] == ["connection refused"]
        running["web-3"] = cluster.start_responder("web-3", [PORT])
        wait_for(lambda: reached(cluster) == both, "it is back on both nodes", SECONDS)

        cluster.stop(running.pop("web-3"))
        wait_for(lambda: reached(cluster) == alone, "the dead one is out again", SECONDS)
        nodes.end("worker-2", signal.SIGKILL)
        wait_for(
            lambda: probes(nodes)["worker-1"] == 2, "worker-1 probes both, long before the other is lost", SECONDS
        )
        wait_for(lambda: reached(cluster, "worker-1")["worker-1"] == {"web-1"}, "the dead one is out", SECONDS)
        running["web-3"] = cluster.start_responder("web-3", [PORT])
        wait_for(lambda: reached(cluster, "worker-1")["worker-1"] == set(PODS), "worker-1 finds it back", SECONDS)
        assert not nodes.events("worker-1", failed), "it was out as worker-2 had found"
    finally:
        for process in running.values():
            cluster.stop(process)


def probes(nodes: Nodes) -> dict[str, int]:
    """How many probes each node runs."""
    argv = [str(SCRIPT), "status", "-o", "json"]
    told = {node: nodes.cluster.run(node, argv, check=False).stdout or "{}" for node in NODES}
    return {node: json.loads(text).get("probes", 0) for node, text in told.items()}
