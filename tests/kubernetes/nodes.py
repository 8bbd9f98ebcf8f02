"""A node of the lab over a test's API server: the server on the router, the installed daemon on worker-1."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from lab.probe import connect
from tests.cli.program import SCRIPT
from tests.daemon.running import CIDRS, untraced, wait_for
from tests.kubernetes.running import ApiServer, apiserver

SECONDS = 60.0
NODE = "worker-1"
PODS = ("web-1", "web-2", "web-3")


class Node:
    """The daemon on worker-1; ``server`` is what it follows."""

    def __init__(self, cluster: Cluster, server: ApiServer, directory: Path) -> None:
        self.cluster = cluster
        self.server = server
        self._directory = directory
        self._log = directory / "log.json"
        self._process: subprocess.Popen[str] | None = None
        self._begin = 0

    def words(self, *more: str) -> list[str]:
        """A sync of this node over the server."""
        argv = [str(SCRIPT), "sync", "--store", "kubernetes:", "--kubeconfig", str(self.server.kubeconfig)]
        argv += ["--node-name", NODE, "--state-dir", str(self._directory)]
        return [*argv, *(more or ("--cluster-cidr", CIDRS))]

    def spawn(self, *more: str) -> None:
        """Start a daemon, and wait for nothing."""
        self._log.touch()
        self._begin = self._log.stat().st_size
        with self._log.open("a") as log:
            self._process = self.cluster.popen(
                NODE,
                [*self.words(*more), "--log-format", "json"],
                env=untraced(),
                stdout=subprocess.DEVNULL,
                stderr=log.fileno(),
                cwd=self._directory,
            )

    def start(self, *more: str) -> None:
        """Start a daemon; on return its first sync is done."""
        self.spawn(*more)
        self.until_told("sync")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(SECONDS)
        self.cluster.stop(self._process)
        self._process = None

    def close(self) -> None:
        if self._process is not None:
            self.cluster.stop(self._process)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What this process has logged, oldest first."""
        with self._log.open("rb") as log:
            log.seek(self._begin)
            lines = log.read().decode().splitlines(keepends=True)
        assert not any("Traceback" in line for line in lines), "".join(lines)
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in found if not name or event["event"] == name]

    def until_told(self, name: str) -> None:
        def is_told() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()
            return bool(self.events(name))

        wait_for(is_told, f"the daemon logs {name}", SECONDS)

    def answers(self, port: int) -> bool:
        """Whether a client from outside is answered at the node's nodePort."""
        return connect(self.cluster, "client", ("172.30.1.2", port)).name in PODS

    def until_served(self, port: int, *, served: bool = True) -> None:
        wait_for(lambda: self.answers(port) is served, f"nodePort {port} is served: {served}", SECONDS)

    def held(self, name: str, family: str = "ip") -> str:
        """What the kernel has in a set or a map of ours."""
        table = "ip6 nodeport-nft" if family == "ip6" else "ip nodeport-nft"
        listed = self.cluster.run(NODE, ["nft", "list", "set", *table.split(), name], check=False)
        return listed.stdout

    # --- what the cluster wants -----------------------------------------------------------------------------

    def publish(self, name: str, node_port: int, *cluster_ips: str, pods: tuple[str, ...] = PODS) -> None:
        """A Service of both families in front of pods."""
        addresses = {"clusterIP": cluster_ips[0], "clusterIPs": list(cluster_ips)} if cluster_ips else {}
        self.server.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "type": "NodePort",
                    "ipFamilyPolicy": "PreferDualStack",
                    "ports": [{"port": 80, "targetPort": 8080, "nodePort": node_port}],
                    **addresses,
                },
            }
        )
        for family, kind in ((4, "IPv4"), (6, "IPv6")):
            self.server.create(
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "name": f"{name}-{family}",
                        "namespace": "default",
                        "labels": {"kubernetes.io/service-name": name},
                    },
                    "addressType": kind,
                    "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
                    "endpoints": [
                        {"addresses": [str(self.cluster.address(pod, family))], "conditions": {"ready": True}}
                        for pod in pods
                    ],
                }
            )


@contextmanager
def node(cluster: Cluster, directory: Path, *, replicas: int = 1) -> Iterator[Node]:
    """An API server with the node's object and the Service ``web`` of ``tests.daemon.traffic``; no daemon yet."""

    def popen(argv: list[str], **words: Any) -> Any:
        return cluster.popen("router", argv, **words)

    with apiserver(
        directory / "server",
        listen="172.30.1.1:6443",
        replicas=replicas,
        service_cidrs=["10.96.0.0/16", "fd00:10:96::/112"],
        popen=popen,
    ) as server:
        made = Node(cluster, server, directory)
        server.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        addresses = [{"type": "InternalIP", "address": str(cluster.address(NODE, family))} for family in (4, 6)]
        server.patch_status("Node", "", NODE, {"addresses": addresses})
        made.publish("web", 30010, "10.96.0.10", "fd00:10:96::a")
        try:
            yield made
        finally:
            made.close()
