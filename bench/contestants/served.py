"""Those that have everything from an API server: the program's daemon, and a kube-proxy."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from bench.cluster import Cluster
from bench.contestants.contestant import CHANGE_SECONDS, START_SECONDS, Contestant, Memory
from bench.contestants.program import Daemon
from bench.measuring import ChildrenPeak, NotDone, ended, memory, processor_seconds
from bench.node import Node
from bench.workload import NODE, POD_CIDR, Change, Workload, name_of

_SETTLE_SECONDS = 3.0
"""After its first transaction kube-proxy has more to do, of the other IP family."""

_POLL_SECONDS = 0.01
_QUIET_SECONDS = 0.5
_TABLE = "kube-proxy"


class Served(Contestant):
    """A change is a request; the clock starts just before it."""

    gives_ips = False

    def __init__(self, node: Node, cluster: Cluster) -> None:
        super().__init__(node)
        self.cluster = cluster
        cluster.attach(node)

    def fill(self, workload: Workload) -> None:
        self.workload = workload
        self.cluster.fill(workload)

    def change(self, change: Change) -> float:
        with self.node.listen(seconds=CHANGE_SECONDS) as commits:
            begin = time.perf_counter()
            self.cluster.write(change)
            answered = time.perf_counter()
            last = commits.last()
        self.after_answer = max(0.0, last - answered)
        return last - begin

    def cluster_ip(self, number: int) -> str:
        return self.cluster.cluster_ip(name_of(number) if number >= 0 else "datagrams")

    def close(self) -> None:
        self.stop()


class ServedProgram(Served):
    """The installed program's daemon."""

    name = "nodeport-nft, API server"

    def __init__(self, node: Node, directory: Path, cluster: Cluster) -> None:
        super().__init__(node, cluster)
        words = ["--store", "kubernetes:", "--kubeconfig", str(cluster.kubeconfig)]
        self._daemon = Daemon(node, words, state=directory / "state")

    def start(self) -> float:
        return self._daemon.start()

    def stop(self) -> None:
        self._daemon.stop()

    def memory(self) -> Memory:
        return self._daemon.memory()

    def processor_seconds(self) -> float:
        return self._daemon.processor_seconds()


class KubeProxy(Served):
    """A kube-proxy in mode nftables. It may sync as often as it can, not once a second as by default."""

    name = "kube-proxy"

    def __init__(self, node: Node, directory: Path, cluster: Cluster, program: Path) -> None:
        super().__init__(node, cluster)
        self._program, self._log = program, directory / "log"
        self._config = directory / "config.yaml"
        self._process: subprocess.Popen[bytes] | None = None
        self._children: ChildrenPeak | None = None
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": NODE,
            "clientConnection": {"kubeconfig": str(cluster.kubeconfig)},
            "nftables": {"minSyncPeriod": "10ms"},
            "clusterCIDR": POD_CIDR,
            "detectLocalMode": "ClusterCIDR",
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
        self._config.write_text(json.dumps(config), encoding="utf-8")

    def start(self) -> float:
        """Until the last transaction after which every Service is in its map.

        The generation is asked for again and again: for whoever listens the kernel writes a message an element.
        """
        generation, last = self.node.generation(), 0.0
        with self._log.open("wb") as log:
            begin = time.perf_counter()
            command = [str(self._program), f"--config={self._config}"]
            self._process = self.node.start(command, stdout=log, stderr=log)
        self._children = ChildrenPeak(self._process.pid)
        while self._process.poll() is None and time.perf_counter() - begin < START_SECONDS:
            time.sleep(_POLL_SECONDS)
            now = self.node.generation()
            if now != generation:
                generation, last = now, time.perf_counter()
                continue
            is_quiet = last and time.perf_counter() - last > _QUIET_SECONDS
            if is_quiet and self._has_all() and self.node.generation() == generation:
                time.sleep(_SETTLE_SECONDS)
                return last - begin
        self.stop()
        raise NotDone(f"kube-proxy is not ready: {self._log.read_text(errors='replace')[-2_000:]}")

    def stop(self) -> None:
        if self._process is not None:
            ended(self._process)
            self._process = None

    def memory(self) -> Memory:
        assert self._process is not None
        assert self._children is not None
        pid = self._process.pid
        return Memory(memory(pid, "VmRSS"), memory(pid, "VmHWM"), self._children.megabytes)

    def processor_seconds(self) -> float:
        assert self._process is not None
        return processor_seconds(self._process.pid)

    def _has_all(self) -> bool:
        try:
            text = self.node.run(["nft", "-j", "list", "map", "ip", _TABLE, "service-ips"], timeout=START_SECONDS)
        except subprocess.CalledProcessError:
            return False
        (found,) = (each["map"] for each in json.loads(text)["nftables"] if "map" in each)
        return len(found.get("elem", ())) >= self.workload.count
