"""Nodes of a cluster see each other: who is there, who is not, and who has programmed what is stored (C5, C6)."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.probe import connect
from tests.cli.program import SCRIPT
from tests.daemon.running import CIDRS, wait_for
from tests.daemon.test_etcd import ETCD, MANIFESTS, NODES, SECONDS, Nodes

ON_BOTH = """
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  type: NodePort
  ports: [{port: 80, targetPort: 8080, nodePort: 30020}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: both}
subsets:
- addresses: [{ip: 10.244.1.2, nodeName: worker-1}, {ip: 10.244.2.2, nodeName: worker-2}]
  ports: [{port: 8080}]
"""
GRACE = ("--node-monitor-grace-period", "3s")


@pytest.fixture
def nodes(cluster: Cluster, tmp_path: Path, answering: None) -> Iterator[Nodes]:  # noqa: ARG001
    """etcd, and a daemon on each worker, both registered."""
    made = Nodes(cluster, tmp_path)
    made.start_etcd()
    for node in NODES:
        made.start(node, *GRACE)
    until_seen(made, {"worker-1": "Ready", "worker-2": "Ready"})
    yield made
    made.close()


def seen(nodes: Nodes) -> dict[str, str]:
    """The status of each node, as another sees it."""
    lines = nodes.run("worker-1", "get", "nodes", check=False).stdout.splitlines()[1:]
    return {line.split()[0]: line.split()[1] for line in lines}


def until_seen(nodes: Nodes, status: dict[str, str]) -> None:
    until(lambda: seen(nodes) == status, f"nodes are {status}")


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what takes some seconds, and as many processes to be asked for."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {what}"
        time.sleep(1)


def waited(nodes: Nodes, seconds: int) -> subprocess.CompletedProcess[str]:
    return nodes.run("worker-1", "wait", "--for=synced", "--timeout", f"{seconds}s", check=False)


@pytest.mark.proves("C5", "C6")
def test_nodes_are_seen_waited_for_and_missed(nodes: Nodes) -> None:
    """Registered; waited for; frozen; killed; back. Of one that is not there nobody waits.

    Its endpoints leave the kernels of others until it is back, and who starts meanwhile knows since when it is lost.
    """
    applied = nodes.run("worker-2", "apply", "-f", "-", "--wait", text=f"{MANIFESTS}---{ON_BOTH}")
    created = [f"{kind}/{name} created" for name in ("web", "both") for kind in ("service", "endpoints")]
    assert applied.stdout.splitlines() == [*created, "node/worker-1 synced", "node/worker-2 synced"]
    assert [nodes.answers(node, 30010) for node in NODES] == [True, True], "it is in each kernel by then"
    until_reached(nodes, {"web-1", "web-3"})
    for node, address in NODES.items():
        told = nodes.run("worker-1", "get", "node", node, "-o", "wide").stdout.splitlines()[1].split()
        assert told[:2] == [node, "Ready"]
        assert told[5:] == ["0s", address, "<none>", "<none>"]
    described = nodes.run("worker-1", "describe", "node", "worker-2").stdout
    assert "172.30.2.2" in described
    assert "Ready:" in described

    for _ in range(5):
        nodes.signal("worker-2", signal.SIGSTOP)
        late = waited(nodes, 6)
        nodes.signal("worker-2", signal.SIGCONT)
        if "is not ready" not in late.stderr:
            break
        until_seen(nodes, {"worker-1": "Ready", "worker-2": "Ready"})  # to ask took longer than its lease
    assert (late.returncode, late.stdout) == (1, "node/worker-1 synced\n")
    assert "node/worker-2 is not synced after 6 s" in late.stderr
    assert waited(nodes, 60).returncode == 0

    nodes.end("worker-2", signal.SIGKILL)
    until_seen(nodes, {"worker-1": "Ready", "worker-2": "NotReady"})
    without = waited(nodes, 60)
    assert (without.returncode, without.stdout) == (0, "node/worker-1 synced\n")
    assert "node/worker-2 is not ready" in without.stderr
    assert "False (its daemon" in nodes.run("worker-1", "describe", "nodes", "worker-2").stdout
    until_reached(nodes, {"web-1"})
    assert nodes.end("worker-1") == 0
    nodes.start("worker-1", *GRACE)
    wait_for(lambda: len(nodes.events("worker-1", "starting")) == 2, "it is started again", SECONDS)
    wait_for(lambda: "synced" in waited(nodes, 5).stdout, "it is synced", SECONDS)
    assert reached(nodes) == {"web-1"}, "it knows since when the other is lost"
    kept = nodes.run("worker-1", "delete", "node", "worker-2", "worker-1", check=False)
    assert kept.returncode == 1
    assert kept.stderr.splitlines() == [
        "worker-2: stays registered, as a lost node, while Endpoints/default/both would be in use again without it; "
        "delete what ran there, and the node once more",
        "worker-1: its daemon runs, and its registration stays",
    ]
    assert reached(nodes) == {"web-1"}, "nobody is led to what is lost because it was tidied up"
    nodes.start("worker-2", *GRACE)
    until_seen(nodes, {"worker-1": "Ready", "worker-2": "Ready"})
    until_reached(nodes, {"web-1", "web-3"})
    assert (
        nodes.run("worker-1", "get", "node", "worker-3", check=False).stderr == 'error: node "worker-3" not found\n'
    )


@pytest.mark.proves("C5")
def test_a_name_is_one_daemons(nodes: Nodes, cluster: Cluster, tmp_path: Path) -> None:
    """The second is told who has it; the first is restarted without being missed, and keeps it."""
    words = [str(SCRIPT), "sync", "--store", ETCD, "--node-name", "worker-1", "--state-dir", str(tmp_path / "other")]
    log = tmp_path / "other.json"
    with log.open("w") as file:
        other = cluster.popen(
            "client",
            [*words, "--cluster-cidr", CIDRS, "--log-format", "json"],
            stdout=subprocess.DEVNULL,
            stderr=file.fileno(),
        )
    try:
        wait_for(lambda: "has that name" in log.read_text(), "the second is told", SECONDS)
        assert "172.30.1.2" in next(line for line in log.read_text().splitlines() if "has that name" in line)
        assert nodes.end("worker-1") == 0
        nodes.start("worker-1", *GRACE)
        nodes.until_told("worker-1", "sync")
        assert waited(nodes, 60).stdout == "node/worker-1 synced\nnode/worker-2 synced\n"
        assert "172.30.1.2" in nodes.run("worker-2", "get", "nodes", "worker-1", "-o", "wide").stdout
        assert not nodes.events("worker-1", "problem"), "it has its name, and was never without it"
    finally:
        cluster.stop(other)


def reached(nodes: Nodes) -> set[str]:
    """Whom many connections to worker-1's nodePort reach."""
    return {connect(nodes.cluster, "client", (NODES["worker-1"], 30020)).name for _ in range(20)}


def until_reached(nodes: Nodes, names: set[str]) -> None:
    until(lambda: reached(nodes) == names, f"connections reach {names}")
