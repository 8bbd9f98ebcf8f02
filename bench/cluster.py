"""An API server that is for the benchmark alone: filled with a workload, changed, and reached from each node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bench.forwarding import Forwarder
from bench.measuring import NotDone
from bench.node import Node
from bench.workload import NAMESPACE, NODE, NODE_ADDRESS, Change, Document, Workload
from nodeport_nft.store.kubernetes.client import Blocking
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.errors import Refused, Unreachable

SELECTOR = {"labelSelector": "app=bench"}

_AT_ONCE = 16
_SECONDS = 600.0
_BATCH = 1_000
_PATHS = {
    "Service": f"/api/v1/namespaces/{NAMESPACE}/services",
    "EndpointSlice": f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices",
}
_MERGE = "application/merge-patch+json"
_STATUS: Document = {"status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]}}
_NODE: Document = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}} | _STATUS


class Cluster:
    """What stands on the server is the workload it was filled with last, and what was changed since.

    Raises NotDone where the server refuses or is silent.
    """

    def __init__(self, kubeconfig: Path, forwarder: Forwarder, load: Callable[[list[Document]], None] | None) -> None:
        """``load``: a way to bring many objects at once that is shorter than requests."""
        self.kubeconfig = kubeconfig
        self._forwarder, self._load = forwarder, load
        self._workload: Workload | None = None
        self._api = Blocking(Connection(str(kubeconfig)))

    def attach(self, node: Node) -> None:
        """The server can be reached from the node from now on, by its own address."""
        with node.node.entered():
            self.attach_here()

    def attach_here(self) -> None:
        """Likewise from the network namespace of this thread."""
        if not ip_address(self._forwarder.address).is_loopback:
            command = ["ip", "address", "add", f"{self._forwarder.address}/32", "dev", "lo"]
            subprocess.run(command, check=True, timeout=_SECONDS)
        self._forwarder.listen()

    def fill(self, workload: Workload) -> None:
        """Take away what an earlier run or scenario has left, and bring the workload. Two of the same are one."""
        if workload == self._workload:
            return
        with _told():
            self._api.run(self._fill(workload))
        self._workload = workload

    def write(self, change: Change) -> None:
        kind, _, name = change.key
        if change.creates:
            self._request("POST", _PATHS[kind], change.document)
        elif change.deletes:
            self._request("DELETE", f"{_PATHS[kind]}/{name}")
        else:
            part = "spec" if kind == "Service" else "endpoints"
            patch = {part: change.document[part]}
            if part == "spec" and patch["spec"]["sessionAffinity"] == "None":
                patch["spec"] = patch["spec"] | {"sessionAffinityConfig": None}  # what the server has filled in
            self._request("PATCH", f"{_PATHS[kind]}/{name}", patch, _MERGE)

    def cluster_ip(self, name: str) -> str:
        return str(self._request("GET", f"{_PATHS['Service']}/{name}")["spec"]["clusterIP"])

    def close(self) -> None:
        self._api.close()

    def _request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        data = None if body is None else json.dumps(body).encode()
        with _told():
            answer = self._api.run(self._api.client.request(method, path, body=data, content_type=content_type))
        return json.loads(answer.body)

    async def _fill(self, workload: Workload) -> None:
        client = self._api.client
        turns = asyncio.Semaphore(_AT_ONCE)
        for path in _PATHS.values():
            await self._empty(path, turns)
        if not json.loads((await client.request("GET", "/api/v1/nodes", SELECTOR)).body)["items"]:
            node = _NODE | {"metadata": {"name": NODE, "labels": {"app": "bench"}}}
            await client.request("POST", "/api/v1/nodes", body=json.dumps(node).encode())
            await client.request(
                "PATCH", f"/api/v1/nodes/{NODE}/status", body=json.dumps(_STATUS).encode(), content_type=_MERGE
            )
        documents = list(workload.documents())
        if self._load is not None:
            for first in range(0, len(documents), _BATCH):
                self._load(documents[first : first + _BATCH])
            return

        async def make(document: Document) -> None:
            async with turns:
                path = _PATHS[document["kind"]]
                await client.request("POST", path, body=json.dumps(document).encode(), seconds=_SECONDS)

        await asyncio.gather(*map(make, documents))

    async def _empty(self, path: str, turns: asyncio.Semaphore) -> None:
        """Delete what an earlier workload has there, one by one: not every server deletes collections."""

        async def delete(name: str) -> None:
            async with turns:
                await self._api.client.request("DELETE", f"{path}/{name}", seconds=_SECONDS)

        answer = await self._api.client.request("GET", path, SELECTOR, seconds=_SECONDS)
        await asyncio.gather(*(delete(each["metadata"]["name"]) for each in json.loads(answer.body)["items"]))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """A server that refuses is one that cannot carry the load: NotDone."""
    try:
        yield
    except (Refused, Unreachable) as error:
        raise NotDone(f"the API server: {error}") from None


def server_of(kubeconfig: Path) -> str:
    """The URL of the server that a kubeconfig leads to."""
    with Blocking(Connection(str(kubeconfig))) as api:
        return api.client.server


@contextlib.contextmanager
def tests_own_server() -> Iterator[tuple[Path, Callable[[list[Document]], None]]]:
    """The API server of the tests, in this namespace, until the block ends: its kubeconfig, and how it is loaded."""
    from tests.kubernetes.running import apiserver

    with tempfile.TemporaryDirectory() as directory, apiserver(Path(directory)) as server:
        yield Path(server.kubeconfig), server.load
