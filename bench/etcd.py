"""A member of etcd for a benchmark alone, filled with Services, and what it costs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from nodeport_nft.config import Config
from nodeport_nft.kube import parse_object
from nodeport_nft.model import Ranges
from nodeport_nft.store import Objects, StoreError, open_objects

URL = "etcd://127.0.0.1:2379/bench"
NOW = "2026-01-01T00:00:00Z"
RANGES = Ranges()
WITH_NODE_PORT = 2_000
ENDPOINTS = 3

_READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Member:
    """The process of the one member there is."""

    pid: int
    directory: Path

    def processor_seconds(self) -> float:
        """What it has used of the processors."""
        return processor_seconds(self.pid)

    def megabytes(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024

    def database_megabytes(self) -> float:
        """Its database on the disk."""
        return (self.directory / "member" / "snap" / "db").stat().st_size / 2**20


def processor_seconds(pid: int) -> float:
    """What a process has used of the processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def member() -> Iterator[Member]:
    """One on the loopback of this network namespace, with nothing in it; it ends with the block."""
    with tempfile.TemporaryDirectory() as directory:
        urls = {"client": "http://127.0.0.1:2379", "peer": "http://127.0.0.1:2380"}
        command = ["etcd", "--data-dir", directory, "--logger", "zap", "--initial-cluster", f"default={urls['peer']}"]
        command += ["--listen-client-urls", urls["client"], "--advertise-client-urls", urls["client"]]
        command += ["--listen-peer-urls", urls["peer"], "--initial-advertise-peer-urls", urls["peer"]]
        command += ["--quota-backend-bytes", str(8 << 30)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + _READY_SECONDS
            while True:
                with opened() as store, contextlib.suppress(StoreError):
                    store.objects("Node")
                    break
                assert time.monotonic() < deadline, "etcd does not start"
                time.sleep(0.2)
            yield Member(process.pid, Path(directory))
        finally:
            process.kill()
            process.wait()


def opened() -> Objects:
    """The store in it."""
    return open_objects(Config(store=URL, ranges=RANGES))


def service(number: int, name: str = "") -> Any:
    """A Service as somebody applies it, with free numbers: the first 2,000 with a nodePort."""
    spec: dict[str, Any] = {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    if number < WITH_NODE_PORT:
        spec["type"] = "NodePort"
    document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name or f"service-{number}"},
        "spec": spec,
    }
    return parse_object(document, ranges=RANGES)


def piece(number: int, version: int = 0, *, name: str = "") -> Any:
    """The endpoints of a Service; each version has others."""
    first = int(ip_address("10.0.0.1")) + ENDPOINTS * (number + 1_000_000 * (version % 2))
    endpoints = [{"addresses": [str(ip_address(first + i))], "nodeName": f"node-{i}"} for i in range(ENDPOINTS)]
    name = name or f"service-{number}"
    metadata = {"name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}}
    document: dict[str, Any] = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata}
    document |= {"addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints}
    return parse_object(document, ranges=RANGES)


def fill(store: Objects, before: int, count: int) -> None:
    """Bring the Services from some to more, with their endpoints."""
    for first in range(before, count, 1_000):
        numbers = range(first, min(first + 1_000, count))
        store.write([each for number in numbers for each in (service(number), piece(number))], now=NOW)
