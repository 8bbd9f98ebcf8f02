"""``python -m bench.kubernetes [COUNT]``: the daemon over an API server of COUNT (10,000) Services, as a table.

The server is the one of the tests, in private namespaces, and it is slower than a real one. With ``--kubeconfig
PATH`` it is that of a cluster which is for nothing else: run this then by ``ip netns exec`` in a network namespace of
its own, from which the server can be reached. What is measured:

* *first sync*: from the start of the program until it tells the service manager READY=1, over an empty kernel, and
  over its own tables, where the ruleset's generation must not move.
* *change → kernel*: one endpoint of one Service moves. From just before the request, and from when the server has
  answered it, until the kernel says that a commit has been made. The watch tells of it at about that time.
* *memory*: of the daemon at rest, at its peak, and what it has used of the processors until it was ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.daemon import daemon, generation, ip, memory, processor_seconds, quantile
from lab.namespaces import enter_private_namespaces
from nodeport_nft.kernel.netlink.messages import NETFILTER, messages
from nodeport_nft.store.kubernetes.client import Blocking
from nodeport_nft.store.kubernetes.connection import Connection

COUNT = 10_000
ENDPOINTS = 3
WITH_NODE_PORT = 2_000
CHANGES = 200
ROUNDS = 3
AT_ONCE = 16

_SERVICES = "/api/v1/namespaces/default/services"
_SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
_NEWGEN = 10 << 8 | 15
_MOVED = 200 << 16 | int(time.time()) % 60_000
"""The first address that endpoints move to: another one at each run."""

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-0"}}


def main() -> None:
    words = sys.argv[1:]
    kubeconfig = words[words.index("--kubeconfig") + 1] if "--kubeconfig" in words else ""
    count = next((int(word) for word in words if word.isdigit()), COUNT)
    with contextlib.ExitStack() as stack:
        if kubeconfig:
            named = subprocess.run(["ip", "netns", "identify"], check=True, capture_output=True, text=True).stdout
            assert named.strip(), (
                "run this by `ip netns exec NAME`, in one of its own: it flushes the kernel's ruleset"
            )
        else:
            enter_private_namespaces()
            ip("link set lo up", "link add v0 type veth peer name v1", "address add 172.30.1.2/24 dev v0")
            ip("link set v0 up", "link set v1 up", "route add default via 172.30.1.1")
            kubeconfig = stack.enter_context(filled(count))
        with Blocking(Connection(kubeconfig)) as api:
            api.run(fill(api, count))
            measure(api, kubeconfig, count)


@contextlib.contextmanager
def filled(count: int) -> Iterator[str]:
    """The kubeconfig of an API server that has everything, and ends with the block."""
    from tests.kubernetes.running import apiserver

    with tempfile.TemporaryDirectory() as directory, apiserver(Path(directory)) as server:
        objects = [NODE, *map(service, range(count)), *map(piece, range(count))]
        for first in range(0, len(objects), 1_000):
            server.load(objects[first : first + 1_000])
        yield str(server.kubeconfig)


def measure(api: Blocking, kubeconfig: str, count: int) -> None:
    empty: list[float] = []
    own: list[float] = []
    used: list[float] = []
    rest: list[float] = []
    peak: list[float] = []
    changes: list[tuple[float, float]] = []
    words = ("kubernetes:", "--kubeconfig", kubeconfig)
    for turn in range(ROUNDS):
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        with daemon(*words) as (process, seconds):
            empty.append(seconds)
            used.append(processor_seconds(process))
            peak.append(memory(process.pid, "VmHWM"))
        before = generation()
        with daemon(*words) as (process, seconds):
            own.append(seconds)
            assert generation() == before, "the start over its own tables wrote something"
            each = CHANGES // ROUNDS
            changes += [change(api, count, number) for number in range(turn * each, (turn + 1) * each)]
            rest.append(memory(process.pid, "VmRSS"))
            peak.append(memory(process.pid, "VmHWM"))
    rows = {
        "first sync, empty kernel (s)": f"{statistics.median(empty):.2f}",
        "of it, processor of the daemon (s)": f"{statistics.median(used):.2f}",
        "first sync, own tables, nothing written (s)": f"{statistics.median(own):.2f}",
        "change → kernel, p50 (ms)": f"{quantile([whole for whole, _ in changes], 0.50) * 1000:.1f}",
        "change → kernel, p99 (ms)": f"{quantile([whole for whole, _ in changes], 0.99) * 1000:.1f}",
        "server's answer → kernel, p50 (ms)": f"{quantile([after for _, after in changes], 0.50) * 1000:.1f}",
        "server's answer → kernel, p99 (ms)": f"{quantile([after for _, after in changes], 0.99) * 1000:.1f}",
        "memory at rest (MB)": f"{max(rest):.0f}",
        "memory at its peak (MB)": f"{max(peak):.0f}",
    }
    print(f"| | {count:,} Services × {ENDPOINTS} |\n| --- | ---: |")
    for name, cell in rows.items():
        print(f"| {name} | {cell} |")


async def fill(api: Blocking, count: int) -> None:
    """Make the node, and the Services with their endpoints, unless they are there already."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def make(path: str, document: dict[str, Any]) -> None:
        async with turns:
            await api.client.request("POST", path, body=json.dumps(document).encode(), seconds=600)

    answer = await api.client.request("GET", _SERVICES, {"limit": "500", "labelSelector": "app=bench"})
    if json.loads(answer.body)["items"]:
        return
    await make("/api/v1/nodes", NODE)
    made = [make(_SERVICES, service(number)) for number in range(count)]
    await asyncio.gather(*made, *(make(_SLICES, piece(number)) for number in range(count)))


def service(number: int) -> dict[str, Any]:
    """As a Helm chart makes it: labels, an annotation, a selector."""
    name = f"service-{number}"
    spec: dict[str, Any] = {
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        "selector": {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": name},
        "type": "NodePort" if number < WITH_NODE_PORT else "ClusterIP",
    }
    labels = {"app": "bench", "app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"}
    metadata = {"name": name, "labels": labels, "annotations": {"meta.helm.sh/release-name": name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def piece(number: int, moved: int | None = None) -> dict[str, Any]:
    """As the endpoint slice controller makes it; ``moved``: the number of the last address, if it is not its own."""
    name, first = f"service-{number}", ENDPOINTS * number
    numbers = [first, first + 1, first + 2 if moved is None else moved]
    endpoints = [
        {
            "addresses": [address(which)],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{index}",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": f"{name}-{which}"},
        }
        for index, which in enumerate(numbers)
    ]
    labels = {
        "kubernetes.io/service-name": name,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-x", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def change(api: Blocking, count: int, number: int) -> tuple[float, float]:
    """One endpoint moves; the seconds until the kernel has it, from the request and from the server's answer."""
    which = number * 7919 % count
    body = json.dumps({"endpoints": piece(which, _MOVED + number)["endpoints"]}).encode()
    committed: list[float] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as events:
        events.bind((0, 1 << 6))
        events.settimeout(60)

        def listen() -> None:
            while all(kind != _NEWGEN for kind, _ in messages(events.recv(1 << 16))):
                pass
            committed.append(time.perf_counter())

        listening = threading.Thread(target=listen)
        listening.start()
        begin = time.perf_counter()
        path = f"{_SLICES}/service-{which}-x"
        api.run(api.client.request("PATCH", path, body=body, content_type="application/merge-patch+json"))
        answered = time.perf_counter()
        listening.join()
    time.sleep(0.12)  # so that the next one is a lone change again
    return committed[0] - begin, max(0.0, committed[0] - answered)


if __name__ == "__main__":
    main()
