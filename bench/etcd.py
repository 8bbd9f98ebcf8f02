"""A member of etcd for a benchmark alone, filled with Services, and what it costs."""

from __future__ import annotations

import contextlib
import json
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
from nodeport_nft.model import Ranges, Ref
from nodeport_nft.store import Objects, StoreError, open_objects
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.values import MOST_OPERATIONS, Put

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
    """Bring the Services from some to more, with their endpoints: the first 2,001 as somebody applies them."""
    for first in range(before, min(count, WITH_NODE_PORT + 1), 500):
        numbers = range(first, min(first + 500, count, WITH_NODE_PORT + 1))
        store.write([each for number in numbers for each in (service(number), piece(number))], now=NOW)
    if count > WITH_NODE_PORT + 1:
        _copy(store, max(before, WITH_NODE_PORT + 1), count)


def _copy(store: Any, before: int, count: int) -> None:
    """Copies of the last one that was applied, under other names and with free clusterIPs: that takes no planning."""
    etcd, model = store._etcd, f"service-{WITH_NODE_PORT}"
    refs = (Ref("Service", "default", model), Ref("EndpointSlice", "default", f"{model}-x"))
    bodies = {ref: store.find(ref).raw for ref in refs}
    taken = {found.key for found in etcd.run(etcd.client.list_all(layout.IPS)).keys}
    ips = map(ip_address, range(int(ip_address("10.97.0.1")), int(ip_address("10.111.255.255"))))
    free = (ip for ip in ips if layout.ip_key(ip) not in taken)
    puts: list[Put] = []
    for number, ip in zip(range(before, count), free, strict=False):
        name, held = f"service-{number}", bodies[refs[0]]["spec"]["clusterIP"]
        for ref, body in bodies.items():
            text = json.dumps(body, separators=(",", ":")).replace(model, name).replace(held, str(ip))
            puts.append(Put(layout.object_key(ref).replace(model, name), text.encode()))
        puts.append(Put(layout.ip_key(ip), f"default/{name}".encode()))
        if len(puts) > MOST_OPERATIONS - 3 or number == count - 1:
            etcd.run(etcd.client.commit((), puts))
            puts.clear()
