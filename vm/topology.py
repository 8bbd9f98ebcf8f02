"""The machines and pods of the lab, and the objects that describe them to nodeport-nft.

::

    client 192.168.56.100 ──┬── worker-1 192.168.56.11 ── pods 10.244.1.x
           fd00:56::64      ├── worker-2 192.168.56.12 ── pods 10.244.2.x
                            └── worker-N                  (IPv6: fd00:56::b…, fd00:244:N::x)

Addresses, names and labels are those of ``lab`` and of ``examples/`` where both have them. The machines run this
file, too, with nothing but Python's standard library: ``topology.py 2`` prints the Nodes and Pods of two workers.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

CLIENT = "client"
CLIENT_ADDRESSES = ("192.168.56.100", "fd00:56::64")
CLUSTER_CIDRS = ("10.244.0.0/16", "fd00:244::/32")
MOST_WORKERS = 9


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod: a network namespace on a worker. ``app`` is the label by which Services select it."""

    name: str
    app: str
    ipv4: str
    ipv6: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A machine that serves nodePorts."""

    number: int

    @property
    def name(self) -> str:
        """Its host name, and its Node's."""
        return f"worker-{self.number}"

    @property
    def ipv4(self) -> str:
        """Its address on the network that it shares with the other machines."""
        return f"192.168.56.{10 + self.number}"

    @property
    def ipv6(self) -> str:
        """The same, IPv6."""
        return f"fd00:56::{10 + self.number:x}"

    @property
    def pods(self) -> tuple[Pod, Pod]:
        """One that serves, and one to look at Services from."""
        n = self.number
        return (
            Pod(f"web-{n}", "my-ser", f"10.244.{n}.2", f"fd00:244:{n:x}::2"),
            Pod(f"tester-{n}", "tester", f"10.244.{n}.3", f"fd00:244:{n:x}::3"),
        )


def objects(workers: int) -> list[dict[str, Any]]:
    """The Nodes and Pods of the first ``workers`` workers."""
    return [each for number in range(1, workers + 1) for each in objects_of(Worker(number))]


def objects_of(worker: Worker) -> list[dict[str, Any]]:
    """The Node and the Pods of one worker."""
    return [_node(worker), *(_pod(worker, pod) for pod in worker.pods)]


def _node(worker: Worker) -> dict[str, Any]:
    n = worker.number
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": worker.name, "labels": {"kubernetes.io/hostname": worker.name}},
        "spec": {"podCIDRs": [f"10.244.{n}.0/24", f"fd00:244:{n:x}::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": ip} for ip in (worker.ipv4, worker.ipv6)]},
    }


def _pod(worker: Worker, pod: Pod) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": "default", "labels": {"app": pod.app, "on": worker.name}},
        "spec": {"nodeName": worker.name},
        "status": {"podIP": pod.ipv4, "podIPs": [{"ip": pod.ipv4}, {"ip": pod.ipv6}]},
    }


if __name__ == "__main__":
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(int(sys.argv[1]))}, indent=2))
