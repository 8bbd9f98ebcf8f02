"""Readiness probes, by a real daemon, of real servers: who does not pass gets no connections until it does (X9)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.nginx import start_nginx
from tests.daemon.objects import Desired, endpoint_slice, service
from tests.daemon.running import Daemon, wait_for

PODS = ("web-1", "web-2", "web-3")
PORT = 8000
TARGET = {"port": 80, "targetPort": PORT, "nodePort": 30010}
PATIENCE = 60.0
QUICK = {"periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 30}  # of a machine that is busy otherwise


class Webs:
    """A web server in each pod, each of which can be told to be ill."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self._cluster = cluster
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, pod: str) -> None:
        argv = [sys.executable, str(Path(__file__).with_name("web.py")), pod, str(PORT), str(self.file(pod))]
        process = self._cluster.popen(pod, argv, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self._processes[pod] = process

    def file(self, pod: str) -> Path:
        return self._directory / f"{pod}.status"

    def send(self, pod: str, number: signal.Signals) -> None:
        os.kill(self._processes[pod].pid, number)

    def stop(self, pod: str) -> None:
        self._cluster.stop(self._processes.pop(pod))

    def close(self) -> None:
        for pod in tuple(self._processes):
            self.stop(pod)


@pytest.fixture
def webs(cluster: Cluster, tmp_path: Path) -> Iterator[Webs]:
    found = Webs(cluster, tmp_path)
    yield found
    found.close()


def pod(cluster: Cluster, name: str, probe: dict[str, Any]) -> dict[str, Any]:
    """A Pod as a person writes it whose containers no kubelet runs."""
    host = cluster.host(name)
    container = {"name": "web", "ports": [{"name": "http", "containerPort": PORT}], "readinessProbe": probe}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": host.node, "containers": [container]},
        "status": {"podIP": str(host.ipv4), "podIPs": [{"ip": str(host.ipv4)}, {"ip": str(host.ipv6)}]},
    }


def asked(cluster: Cluster, seconds: float = 60.0) -> str:
    """Who answers on the nodePort of worker-1; "" if nobody does."""
    address = str(cluster.address("worker-1"))
    connection = HTTPConnection(address, 30010)
    connection.sock = cluster.socket("client", socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(seconds)
        connection.sock.connect((address, 30010))
        connection.request("GET", "/", headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.getheader("Served-By") or answer.read().decode()
    except (OSError, HTTPException):
        return ""
    finally:
        connection.close()


def reached(cluster: Cluster, times: int = 30) -> set[str]:
    """Who answers, over many connections, each of which has to be answered by somebody."""
    found = {asked(cluster) for _ in range(times)}
    assert "" not in found
    return found


def until_reached(cluster: Cluster, *pods: str) -> None:
    """Wait until these are the ones who answer."""
    wait_for(lambda: reached(cluster) == set(pods), f"{pods} answer and no others", PATIENCE)


def failing(daemon: Daemon) -> list[str]:
    """The pods that the daemon says do not pass, by their addresses."""
    return sorted(line.split(": ")[0].split("/")[1] for line in daemon.status().failing)


def noted(cluster: Cluster, daemon: Daemon) -> list[Any]:
    """What a restart of the daemon would know."""
    inode = cluster.call(daemon.node, lambda: Path("/proc/thread-self/ns/net").stat().st_ino)
    path = Path(daemon.config.run_dir) / f"netns-{inode}.probes.json"
    return list(json.loads(path.read_text())["failing"]) if path.exists() else []


def until_failing(cluster: Cluster, daemon: Daemon, *pods: str) -> None:
    """Wait until exactly these pods do not pass, and the kernel knows it."""
    addresses = sorted(str(cluster.address(pod)) for pod in pods)
    wait_for(lambda: failing(daemon) == addresses, f"{pods} fail and no others", PATIENCE)
    wait_for(lambda: not daemon.status().pending, "a sync", PATIENCE)


def kill(webs: Webs) -> None:
    webs.stop("web-2")


def refuse(webs: Webs) -> None:
    webs.file("web-2").write_text("500")


def hang(webs: Webs) -> None:
    webs.send("web-2", signal.SIGSTOP)


def restart(webs: Webs) -> None:
    webs.start("web-2")


def relent(webs: Webs) -> None:
    webs.file("web-2").write_text("200")


def go_on(webs: Webs) -> None:
    webs.send("web-2", signal.SIGCONT)


@pytest.mark.proves("X9")
def test_who_does_not_pass_gets_no_connections_until_it_passes(
    cluster: Cluster, daemon: Daemon, desired: Desired, webs: Webs
) -> None:
    """However a backend is ill. No connection fails once it is known."""
    for name in PODS:
        webs.start(name)
    probe: dict[str, Any] = {"httpGet": {"path": "/healthz", "port": "http"}, **QUICK}
    impatient = {**probe, "timeoutSeconds": 3}  # of the one who hangs
    desired.apply(service("web", 10, ports=[TARGET], selector={"app": "web"}))
    desired.apply(*(pod(cluster, name, impatient if name == "web-2" else probe) for name in PODS))
    daemon.start(seconds=PATIENCE)
    wait_for(lambda: daemon.status().probes == 3, "probes of all pods", PATIENCE)
    until_reached(cluster, *PODS)
    ways: list[tuple[Callable[[Webs], None], Callable[[Webs], None], str]] = [
        (kill, restart, "connection refused"),
        (refuse, relent, "HTTP status 500"),
        (hang, go_on, "no answer within 3 s"),
    ]
    for fall_ill, recover, why in ways:
        fall_ill(webs)
        until_failing(cluster, daemon, "web-2")
        assert daemon.status().failing == (f"default/{cluster.address('web-2')}: {why}",)
        assert reached(cluster) == {"web-1", "web-3"}
        recover(webs)
        until_failing(cluster, daemon)
        until_reached(cluster, *PODS)
    told = daemon.ask("/metrics")
    assert "\nnodeport_nft_readiness_probes 3.0\n" in told
    assert "\nnodeport_nft_readiness_probes_failing 0.0\n" in told
    assert daemon.status().problems == ()


def test_endpoints_without_a_pod_are_probed_by_an_annotation(
    cluster: Cluster, daemon: Daemon, desired: Desired, tmp_path: Path
) -> None:
    """Real nginx behind slices. The probe names a port of theirs, and is gone with the annotation."""
    running = {name: start_nginx(cluster, name, tmp_path / name, PORT) for name in ("web-1", "web-3")}
    try:
        endpoints = [{"addresses": [str(cluster.address(name))]} for name in running]
        piece = endpoint_slice("web", "web-4", 4, PORT, endpoints)
        piece["ports"] = [{"name": "http", "port": PORT}]
        bare = json.loads(json.dumps(piece))
        probe = {"tcpSocket": {"port": "http"}, **QUICK}
        piece["metadata"]["annotations"] = {"nodeport-nft/readiness-probe": json.dumps(probe)}
        desired.apply(service("web", 10, ports=[{**TARGET, "name": "http"}]), piece)
        daemon.start(seconds=PATIENCE)
        wait_for(lambda: daemon.status().probes == 2, "probes of all endpoints", PATIENCE)
        assert reached(cluster) == {"web-1", "web-3"}
        cluster.stop(running.pop("web-3"))
        until_failing(cluster, daemon, "web-3")
        assert reached(cluster) == {"web-1"}
        desired.apply(bare)
        wait_for(lambda: daemon.status().probes == 0, "no probes", PATIENCE)
        wait_for(lambda: asked(cluster, 1.0) == "", "the dead one is used again, now that nobody probes", PATIENCE)
    finally:
        for process in running.values():
            cluster.stop(process)


def test_a_restart_keeps_verdicts_and_what_comes_dead_stays_out(
    cluster: Cluster, daemon: Daemon, desired: Desired, webs: Webs
) -> None:
    for name in ("web-1", "web-3"):
        webs.start(name)
    probe = {
        "httpGet": {"port": PORT},
        "periodSeconds": 1,
        "failureThreshold": 30,
        "timeoutSeconds": 3,
    }  # half a minute, where it counts
    desired.apply(service("web", 10, ports=[TARGET], selector={"app": "web"}))
    desired.apply(*(pod(cluster, name, probe) for name in ("web-1", "web-3")))
    daemon.start(seconds=PATIENCE)
    desired.apply(pod(cluster, "web-2", probe))  # a new one, and nobody listens there
    until_failing(cluster, daemon, "web-2")
    assert reached(cluster) == {"web-1", "web-3"}
    wait_for(lambda: len(noted(cluster, daemon)) == 2, "a note of both addresses", PATIENCE)
    daemon.kill()
    daemon.start(seconds=PATIENCE)
    assert reached(cluster) == {"web-1", "web-3"}
    assert failing(daemon) == [str(cluster.address("web-2"))]
    webs.start("web-2")
    until_failing(cluster, daemon)
    assert reached(cluster) == set(PODS)
