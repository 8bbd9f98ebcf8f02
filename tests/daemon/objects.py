"""Documents as a person would apply them, and a store that a test writes to while a daemon follows it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from nodeport_nft.manifest import Object, parse_object
from nodeport_nft.model import Ranges, Snapshot
from nodeport_nft.store import Store

RANGES = Ranges()
NOW = "2026-01-01T00:00:00Z"
PORTS = (8080, 7001, 7002, 7003, 7004)
"""What the responders of all pods listen on; an endpoint is a pod and one of these."""

Backend = tuple[str, int]
"""A pod of the lab and a port that its responder listens on."""

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 20)
"""Numbers of endpoints on both sides of each power of two."""


def service(name: str, number: int, **spec: Any) -> dict[str, Any]:
    """A dual-stack NodePort Service: 10.96.0.NUMBER and fd00:10:96::NUMBER, nodePort 30000 + NUMBER."""
    ports = [{"port": 80, "targetPort": 8080, "nodePort": 30000 + number}]
    ips = [f"10.96.0.{number}", f"fd00:10:96::{number:x}"]
    body = {"type": "NodePort", "ports": ports, "clusterIP": ips[0], "clusterIPs": ips}
    families = {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {**body, **families, **spec}}


def slices(cluster: Cluster, name: str, ready: Iterable[Backend], others: Iterable[Backend] = ()) -> list[Any]:
    """All EndpointSlices of a service, one a port and family; ``others`` are in them, and are not ready."""
    conditions = dict.fromkeys(ready, True) | dict.fromkeys(others, False)
    found = []
    for family in (4, 6):
        for port in PORTS:
            endpoints = [
                {
                    "addresses": [str(cluster.address(pod, family))],
                    "nodeName": cluster.host(pod).node,
                    "conditions": {"ready": is_ready},
                }
                for (pod, where), is_ready in conditions.items()
                if where == port
            ]
            found.append(endpoint_slice(name, f"{name}-{family}-{port}", family, port, endpoints))
    return found


def endpoint_slice(of: str, name: str, family: int, port: int, endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of}},
        "addressType": f"IPv{family}",
        "ports": [{"port": port}],
        "endpoints": endpoints,
    }


def node(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


class Desired:
    """A store, in the test's own process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path, ranges=RANGES)

    def close(self) -> None:
        self.store.close()

    def apply(self, *documents: dict[str, Any]) -> None:
        """One write: what ``nodeport-nft apply`` does."""
        objects = [parsed(document) for document in documents]
        with self.store.transaction() as transaction:
            transaction.apply(objects, now=NOW)

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        with self.store.transaction() as transaction:
            assert transaction.delete(kind, namespace, name)

    def snapshot(self) -> Snapshot:
        return self.store.snapshot()


def parsed(document: dict[str, Any]) -> Object:
    return parse_object(document, ranges=RANGES)


class Changes:
    """An endless row of changes, each of which changes the tables; seeded, so that it can be had again.

    ``web`` always keeps its first endpoint, and all that are ever in it answer. ``others`` come and go at will.
    """

    def __init__(self, cluster: Cluster, desired: Desired, seed: int, others: int = 6) -> None:
        self._cluster = cluster
        self._desired = desired
        self._random = random.Random(seed)
        self._pool = [(pod, port) for port in PORTS for pod in ("web-1", "web-2", "web-3", "tester")]
        self._ready: dict[str, frozenset[Backend]] = {}
        self._others = {f"other-{i}": 20 + i for i in range(others)}

    def begin(self) -> None:
        """Write the first state."""
        documents = [service("web", 10), *(service(name, number) for name, number in self._others.items())]
        for name in ("web", *self._others):
            self._ready[name] = frozenset(self._pool[:3])
            documents += slices(self._cluster, name, self._pool[:3])
        self._desired.apply(*documents)

    def next(self, name: str = "") -> None:
        """Write the next change: in one transaction of the store, of ``web`` (or ``name``) or one of the others."""
        name = name or self._random.choice(["web", *self._others])
        if name in self._others and self._random.random() < 0.1:
            self._come_or_go(name)
            return
        before = self._ready[name]
        if name not in self._others or before:
            after = before
            while after == before:
                after = self._draw(name)
        else:
            after = frozenset(self._pool[:1])
        self._ready[name] = after
        rest = [backend for backend in self._pool if backend not in after and self._random.random() < 0.3]
        self._desired.apply(
            *([service(name, self._others[name])] if name in self._others else []),
            *slices(self._cluster, name, sorted(after), rest),
        )

    def _draw(self, name: str) -> frozenset[Backend]:
        size = self._random.choice(SIZES)
        if name in self._others:
            return frozenset(self._random.sample(self._pool, self._random.choice((0, size))))
        return frozenset([self._pool[0], *self._random.sample(self._pool[1:], size - 1)])

    def _come_or_go(self, name: str) -> None:
        """A service that is there goes; one that is not there comes back."""
        if self._desired.store.get("Service", "default", name):
            self._desired.delete("Service", name)
        else:
            self._desired.apply(service(name, self._others[name]))
