"""A member of etcd for a benchmark alone, filled with Services, and what it costs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bench.measuring import ended, memory, processor_seconds
from bench.workload import NOW, Workload, name_of
from nodeport_nft.config import Config
from nodeport_nft.kube import Object, parse_object
from nodeport_nft.model import Ranges, Ref
from nodeport_nft.store import Objects, StoreError, open_objects
from nodeport_nft.store.etcd import layout
from nodeport_nft.store.etcd.values import MOST_OPERATIONS, Put

URL = "etcd://127.0.0.1:2379/bench"
RANGES = Ranges()
WITH_NODE_PORT = 2_000

_WORKLOAD = Workload(WITH_NODE_PORT + 1, 3, WITH_NODE_PORT, given_ips=False)
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
        return memory(self.pid, "VmRSS")

    def database_megabytes(self) -> float:
        """Its database on the disk."""
        return (self.directory / "member" / "snap" / "db").stat().st_size / 2**20


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
            ended(process)


def opened() -> Objects:
    """The store in it."""
    return open_objects(Config(store=URL, ranges=RANGES))


def service(number: int, name: str = "") -> Object:
    """A Service as somebody applies it, with free numbers: the first 2,000 with a nodePort."""
    document = _WORKLOAD.service(number)
    for port in document["spec"]["ports"]:
        port.pop("nodePort", None)
    document["metadata"]["name"] = name or name_of(number)
    return parse_object(document, ranges=RANGES)


def piece(number: int, version: int = 0, *, name: str = "") -> Object:
    """The endpoints of a Service; each version has others."""
    name = name or name_of(number)
    document = _WORKLOAD.piece(number + 1_000_000 * (version % 2))
    document["metadata"]["name"] = f"{name}-x"
    document["metadata"]["labels"]["kubernetes.io/service-name"] = name
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
