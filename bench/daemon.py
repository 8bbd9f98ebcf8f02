"""``python -m bench.daemon [COUNT …]``: the daemon at work, as a table in Markdown.

The installed program runs in private namespaces over a store of COUNT services: 2,000 of them with a nodePort, the
others with a clusterIP alone; 1 to 20 endpoints, 3 on average. What is measured:

* *change → kernel*: one endpoint of one service changes. From just before the store's COMMIT, its fsync included,
  until the kernel says that a commit has been made (``NFT_MSG_NEWGEN``). One change at a time, nothing else going on.
* *start*: from the start of the program until it tells the service manager READY=1, over an empty kernel and over
  its own tables, where the ruleset's generation must not move.
* *memory*: of the daemon at rest and at its peak, and the peak of the child that runs bulk loads and listings.
* *idle*: processor time of a minute in which nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lab.namespaces import enter_private_namespaces
from nodeport_nft.kernel.netlink.messages import NETFILTER, messages
from nodeport_nft.manifest import Object, parse_object
from nodeport_nft.model import PortRange, Ranges
from nodeport_nft.store import Store

COUNTS = (1_000, 10_000, 100_000)
WITH_NODE_PORT = 2_000
CHANGES = 200
IDLE_SECONDS = float(os.environ.get("IDLE_SECONDS", "60"))
RANGES = Ranges(node_ports=PortRange(20000, 60000))
SIZES = (1,) * 45 + (2,) * 25 + (3,) * 12 + (4,) * 6 + (6,) * 4 + (10,) * 4 + (15,) * 2 + (20,) * 2
"""Endpoints of a hundred services: 289."""

_NEWGEN = 10 << 8 | 15
_PROGRAM = Path(sys.executable).with_name("nodeport-nft")


@dataclass
class Figures:
    """What was measured with one number of services; seconds and megabytes."""

    start_empty: list[float] = field(default_factory=list)
    start_own: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    rest: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    child: list[float] = field(default_factory=list)
    idle_percent: list[float] = field(default_factory=list)


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or list(COUNTS)
    enter_private_namespaces()
    ip("link set lo up", "link add v0 type veth peer name v1", "address add 172.30.1.2/24 dev v0", "link set v0 up")
    ip("link set v1 up", "route add default via 172.30.1.1")
    found = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as directory:
            found[count] = measure(count, Path(directory, "store.db"), rounds=3 if count <= 10_000 else 1)
    rows: dict[str, Any] = {
        "change → kernel, p50 (ms)": lambda f: f"{quantile(f.changes, 0.50) * 1000:.1f}",
        "change → kernel, p99 (ms)": lambda f: f"{quantile(f.changes, 0.99) * 1000:.1f}",
        "start, empty kernel (s)": lambda f: f"{statistics.median(f.start_empty):.2f}",
        "start, own tables, nothing written (s)": lambda f: f"{statistics.median(f.start_own):.2f}",
        "memory at rest (MB)": lambda f: f"{max(f.rest):.0f}",
        "memory at its peak (MB)": lambda f: f"{max(f.peak):.0f}",
        "bulk child's peak (MB)": lambda f: f"{max(f.child):.0f}",
        "processor, idle (%)": lambda f: f"{max(f.idle_percent):.3f}",
    }
    print("| | " + " | ".join(f"{count:,} services" for count in counts) + " |")
    print("| --- |" + " ---: |" * len(counts))
    for name, cell in rows.items():
        print(f"| {name} | " + " | ".join(cell(found[count]) for count in counts) + " |")


def measure(count: int, path: Path, rounds: int) -> Figures:
    figures = Figures()
    with Store(path, ranges=RANGES) as store:
        with store.transaction() as transaction:
            transaction.apply(list(objects(count)), now="2026-01-01T00:00:00Z")
        for first in range(0, CHANGES, CHANGES // rounds):
            subprocess.run(["nft", "flush", "ruleset"], check=True)  # of this private namespace
            with daemon(path) as (process, seconds):
                figures.start_empty.append(seconds)
                sample(figures, process)
            before = generation()
            with daemon(path) as (process, seconds):
                figures.start_own.append(seconds)
                assert generation() == before, "the start over its own tables wrote something"
                figures.changes += [
                    change(store, count, number) for number in range(first, first + CHANGES // rounds)
                ]
                sample(figures, process)
        with daemon(path) as (process, _):
            time.sleep(2)
            begin, used = time.monotonic(), processor_seconds(process)
            time.sleep(IDLE_SECONDS)
            figures.idle_percent.append(100 * (processor_seconds(process) - used) / (time.monotonic() - begin))
    return figures


def objects(count: int) -> Iterator[Object]:
    pod = int(ip_address("10.0.0.1"))
    for number in range(count):
        yield parse_object(service(number), ranges=RANGES)
        size = SIZES[number % len(SIZES)]
        yield parse_object(piece(number, pod, size), ranges=RANGES)
        pod += size


def service(number: int) -> dict[str, Any]:
    port: dict[str, Any] = {"name": "http", "port": 80, "targetPort": 8080}
    spec: dict[str, Any] = {"ports": [port], "clusterIP": str(ip_address("10.96.1.0") + number)}
    if number < WITH_NODE_PORT:
        spec["type"] = "NodePort"
        port["nodePort"] = RANGES.node_ports.first + number
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"service-{number}"}, "spec": spec}


def piece(number: int, first: int, size: int) -> dict[str, Any]:
    endpoints = [{"addresses": [str(ip_address(first + i))], "nodeName": f"node-{i % 50}"} for i in range(size)]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"service-{number}-x",
            "labels": {"kubernetes.io/service-name": f"service-{number}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints,
    }


def change(store: Store, count: int, number: int) -> float:
    """One endpoint of a service moves to an address that nobody has; the seconds until the kernel has it."""
    which = number * 7919 % count
    size = SIZES[which % len(SIZES)]
    body = piece(which, int(ip_address("10.200.0.1")) + 32 * number, size)
    old = store.get("EndpointSlice", "default", f"service-{which}-x")
    assert old is not None
    body["endpoints"] = [*old.raw["endpoints"][:-1], body["endpoints"][-1]]
    changed = parse_object(body, ranges=RANGES)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as events:
        events.bind((0, 1 << 6))
        events.settimeout(60)
        with store.transaction() as transaction:
            transaction.apply([changed], now="2026-01-01T00:00:00Z")
            begin = time.perf_counter()
        while all(kind != _NEWGEN for kind, _ in messages(events.recv(1 << 16))):
            pass
        seconds = time.perf_counter() - begin
    time.sleep(0.12)  # so that the next one is a lone change again
    return seconds


@contextlib.contextmanager
def daemon(store: Path | str, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """The daemon over a store, with ``more`` words, as soon as it is ready, and the seconds that took."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, tempfile.TemporaryDirectory() as directory:
        address = f"{directory}/notify"
        manager.bind(address)
        manager.settimeout(600)
        command = [str(_PROGRAM), "sync", "--store", str(store)]
        command += ["--node-name", "node-0", "--cluster-cidr", "10.0.0.0/8", *more]
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, "NOTIFY_SOCKET": address},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        peaks = threading.Thread(target=watch_children, args=(process,), daemon=True)
        peaks.start()
        try:
            while b"READY=1" not in manager.recv(4096):
                pass
            yield process, time.perf_counter() - begin
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


CHILD_PEAK: dict[int, float] = {}


def watch_children(process: subprocess.Popen[bytes]) -> None:
    """Note the largest that a child of the daemon ever was."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with contextlib.suppress(OSError):
        while process.poll() is None:
            for child in children.read_text().split():
                with contextlib.suppress(OSError, StopIteration):  # it has just ended
                    CHILD_PEAK[process.pid] = max(CHILD_PEAK.get(process.pid, 0.0), memory(int(child), "VmHWM"))
            time.sleep(0.02)


def sample(figures: Figures, process: subprocess.Popen[bytes]) -> None:
    figures.rest.append(memory(process.pid, "VmRSS"))
    figures.peak.append(memory(process.pid, "VmHWM"))
    figures.child.append(CHILD_PEAK.get(process.pid, 0.0))


def memory(pid: int, what: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) / 1024


def processor_seconds(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def generation() -> int:
    from nodeport_nft.kernel.netlink.events import TableEvents

    events = TableEvents()
    try:
        return events.generation()
    finally:
        events.close()


def quantile(samples: list[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]


def ip(*commands: str) -> None:
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


if __name__ == "__main__":
    main()
