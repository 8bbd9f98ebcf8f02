"""A cluster on one etcd: what is applied on one node is in every node's kernel, and stays there without etcd."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.probe import connect
from tests.cli.program import SCRIPT
from tests.daemon.running import CIDRS, untraced, wait_for

pytestmark = pytest.mark.proves("C1")

SECONDS = 60.0
ETCD = "etcd://172.30.1.2:2379/lab"
NODES = {"worker-1": "172.30.1.2", "worker-2": "172.30.2.2"}


class Nodes:
    """etcd on worker-1, and a daemon on each worker."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start_etcd(self) -> None:
        peers = "http://127.0.0.1:2380"
        words = [
            "etcd",
            "--data-dir",
            str(self._directory / "etcd"),
            "--listen-client-urls",
            "http://172.30.1.2:2379",
        ]
        words += ["--advertise-client-urls", "http://172.30.1.2:2379", "--listen-peer-urls", peers]
        words += ["--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}", "--logger", "zap"]
        with (self._directory / "etcd.log").open("a") as log:
            self._processes["etcd"] = self.cluster.popen("worker-1", words, stdout=log.fileno(), stderr=log.fileno())

    def start(self, node: str, *more: str) -> None:
        """Start a daemon, and wait for nothing."""
        words = [
            str(SCRIPT),
            "sync",
            "--store",
            ETCD,
            "--node-name",
            node,
            "--state-dir",
            str(self._directory / node),
        ]
        words += ["--cluster-cidr", CIDRS, "--log-format", "json", *more]
        with self.log(node).open("a") as log:
            self._processes[node] = self.cluster.popen(
                node, words, env=untraced(), stdout=subprocess.DEVNULL, stderr=log.fileno()
            )

    def log(self, node: str) -> Path:
        return self._directory / f"{node}.json"

    def events(self, node: str, name: str) -> list[dict[str, object]]:
        lines = self.log(node).read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may not be whole yet
        return [event for event in events if event["event"] == name]

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            return process.wait(SECONDS)
        finally:
            self.cluster.stop(process)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Freeze it, or let it go on."""
        self._processes[name].send_signal(number)

    def close(self) -> None:
        for name in list(self._processes):
            with suppress(ProcessLookupError):
                self.end(name, signal.SIGKILL)

    def run(self, node: str, *words: str, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command on a node."""
        argv = [str(SCRIPT), *words, "--store", ETCD]
        return self.cluster.run(node, argv, text=text, check=check, timeout=SECONDS)

    def answers(self, node: str, port: int) -> bool:
        """Whether a client from outside is answered at the nodePort of a node."""
        return connect(self.cluster, "client", (NODES[node], port)).name in ("web-1", "web-2", "web-3")

    def until_told(self, node: str, event: str) -> None:
        wait_for(lambda: self.events(node, event), f"{node} logs {event}", SECONDS)

    def until_served(self, node: str, port: int, *, served: bool = True) -> None:
        wait_for(lambda: self.answers(node, port) is served, f"{node}:{port} is served: {served}", SECONDS)


@pytest.fixture
def nodes(cluster: Cluster, tmp_path: Path, answering: None) -> Iterator[Nodes]:  # noqa: ARG001
    made = Nodes(cluster, tmp_path)
    yield made
    made.close()


MANIFESTS = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ports: [{port: 80, targetPort: 8080, nodePort: 30010}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets: [{addresses: [{ip: 10.244.1.2}], ports: [{port: 8080}]}]
"""


def test_what_is_applied_on_one_node_is_served_by_every_node(nodes: Nodes) -> None:
    """Daemons that begin before etcd, an apply, a change, etcd's end and return, a deletion."""
    for node in NODES:
        nodes.start(node)
    nodes.start_etcd()
    for node in NODES:
        nodes.until_told(node, "sync")
    wait_for(lambda: nodes.run("worker-1", "get", "svc", check=False).returncode == 0, "etcd", SECONDS)
    applied = nodes.run("worker-2", "apply", "-f", "-", text=MANIFESTS).stdout
    assert applied == "service/web created\nendpoints/web created\n"
    for node in NODES:
        nodes.until_served(node, 30010)
    assert "30010/TCP" in nodes.run("worker-1", "get", "svc").stdout
    traced = nodes.run("worker-1", "trace", "svc/web", "--node-name", "worker-1").stdout
    assert traced.startswith("answer      reaches default/web, 10.244.1.2:8080\n")
    traced = nodes.run(
        "worker-1", "trace", "node/worker-2:30010", "--cluster-cidr", CIDRS
    ).stdout  # without an object
    assert traced.startswith("answer      reaches default/web, 10.244.1.2:8080\n")
    assert " → 172.30.2.2 " in traced
    looked = ("doctor", "--connect", "-o", "json", "--node-name", "worker-1", "--cluster-cidr", CIDRS)
    found = json.loads(nodes.run("worker-1", *looked, check=False).stdout)["checks"]
    states = {each["id"]: each["state"] for each in found}
    for check in ("store", "store-integrity", "tables", "daemon", "sync"):
        assert states[check] == "ok", found
    reached = [each["seen"] for each in found if (each["id"], each["state"]) == ("connect", "ok")]
    assert [sum(f"{address}:30010 answered" in seen for seen in reached) for address in NODES.values()] == [1, 1]

    created = nodes.run("worker-1", "create", "service", "nodeport", "more", "--tcp", "80:8080").stdout
    assert created == "service/more created\n"
    refused = nodes.run("worker-2", "create", "service", "nodeport", "more", "--tcp", "80", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert 'service "more" already exists' in refused.stderr

    nodes.end("etcd", signal.SIGKILL)
    for node in NODES:
        assert nodes.answers(node, 30010), "the kernel keeps the last state"
        nodes.until_told(node, "problem")
    away = nodes.run("worker-2", "get", "svc", check=False)
    assert away.returncode == 1
    assert "172.30.1.2:2379" in away.stderr
    nodes.start_etcd()
    wait_for(lambda: nodes.run("worker-2", "get", "svc", check=False).returncode == 0, "etcd is back", SECONDS)
    gone = nodes.run("worker-2", "delete", "svc", "web").stdout
    assert gone == 'service "web" deleted\n'
    for node in NODES:
        nodes.until_served(node, 30010, served=False)
        assert nodes.end(node) == 0


def test_a_node_is_programmed_once_from_etcd(nodes: Nodes) -> None:
    nodes.start_etcd()
    wait_for(lambda: nodes.run("worker-1", "get", "svc", check=False).returncode == 0, "etcd", SECONDS)
    nodes.run("worker-1", "apply", "-f", "-", text=MANIFESTS)
    nodes.run("worker-2", "sync", "--once", "--node-name", "worker-2", "--cluster-cidr", CIDRS)
    assert nodes.answers("worker-2", 30010)
    assert not nodes.run("worker-2", "diff", "--node-name", "worker-2", "--cluster-cidr", CIDRS).stdout
    manifests = nodes.log("worker-2").with_name("manifests.yaml")
    manifests.write_text(MANIFESTS)
    for how in ((), ("--once",), ("--dry-run",)):
        refused = nodes.run("worker-2", "sync", "-f", str(manifests), *how, check=False)
        assert refused.returncode == 1
        assert "apply -f adds them" in refused.stderr
    kept = nodes.run("worker-2", "cleanup", "--delete-store", check=False)
    assert (kept.returncode, kept.stdout) == (2, "")
    assert "not one node's to delete" in kept.stderr
    assert nodes.answers("worker-2", 30010)
    nodes.run("worker-2", "cleanup")
    assert not nodes.answers("worker-2", 30010)


def test_what_the_configuration_says_of_etcd_is_told_with_its_keys(nodes: Nodes, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"etcdCertFile: {tmp_path}/none.pem\netcdUser: me\n")
    wrong = nodes.run("worker-1", "get", "svc", "--config", str(config), check=False)
    assert wrong.returncode == 2
    for key in ("etcdKeyFile", "etcdPasswordFile"):
        assert f"{key}: is missing" in wrong.stderr
