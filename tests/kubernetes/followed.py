"""A KubernetesSource beside a test's API server: what it has told so far, put together as the daemon does."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import yaml

from nodeport_nft.model import Ref, Value
from nodeport_nft.store.api import Changes
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.follower import Timings
from nodeport_nft.store.kubernetes.source import KubernetesSource
from tests.kubernetes.running import ApiServer

SECONDS = 60.0
"""How long anything may take on a slow machine."""

NODE = "node-1"
QUICK = Timings(silence=SECONDS, answer=SECONDS, shortest=0.2)


class Told:
    """``objects``: all there is, by what was told. ``changes``: each time what was told, in that order."""

    def __init__(self, source: KubernetesSource) -> None:
        self.source = source
        self.objects: dict[Ref, tuple[Value, ...]] = {}
        self.changes: list[Changes] = []
        self.warnings: list[str] = []

    async def until(self, condition: Callable[[], Any]) -> None:
        """Take what comes until this is so."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                await self.source.changed()
                self.take()

    def take(self) -> None:
        """Take what there is."""
        changes = self.source.take()
        self.warnings += changes.warnings
        if not changes:
            return
        self.changes.append(changes)
        if changes.whole:
            kept = {ref: values for ref, values in self.objects.items() if ref in changes.unreadable}
            self.objects = kept
        for change in changes.changes:
            if change.values:
                self.objects[change.ref] = change.values
            else:
                self.objects.pop(change.ref, None)

    def value(self, kind: str, name: str, namespace: str = "default") -> Any:
        """The one value of an object, None where there is none."""
        (value,) = self.objects.get(Ref(kind, "" if kind in ("Node", "ServiceCIDR") else namespace, name), (None,))
        return value

    def names(self, kind: str) -> set[str]:
        return {ref.name for ref in self.objects if ref.kind == kind}

    def refs_since(self, count: int) -> set[str]:
        """Which objects were told of in what came after the first ``count`` times."""
        return {str(change.ref) for changes in self.changes[count:] for change in changes.changes}

    @property
    def problems(self) -> str:
        return "\n".join(self.source.problems())


def connection_to(server: ApiServer) -> Connection:
    """How to come to a test's server."""
    path = server.kubeconfig.with_suffix(".json")
    path.write_text(json.dumps(yaml.safe_load(server.kubeconfig.read_text())))
    path.chmod(0o600)
    return Connection(str(path))


@asynccontextmanager
async def following(server: ApiServer, timings: Timings = QUICK) -> AsyncIterator[Told]:
    """Follow a server within the block, for the node ``NODE``."""
    source = KubernetesSource(connection_to(server), NODE, timings)
    running = asyncio.create_task(source.run())
    try:
        yield Told(source)
        assert not running.done(), running.result()
    finally:
        running.cancel()
        await asyncio.wait([running])
        source.close()
        # TLS connections that were being ended wait for the server's word, and the loop does not wait for them.
        server.drop_connections()
        await asyncio.sleep(0.05)


def follow(server: ApiServer, scenario: Callable[[Told], Awaitable[None]], timings: Timings = QUICK) -> None:
    """Play a scenario with a source beside it."""

    broken: list[dict[str, Any]] = []

    async def play() -> None:
        # The daemon ends where a callback of its loop fails (daemon/loop.py).
        asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
        async with following(server, timings) as told:
            await scenario(told)
        gc.collect()

    asyncio.run(play())
    assert not broken


def service(name: str, port: int = 80, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A Service of one port, as somebody would create it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"port": port}], "selector": {"app": name}, **spec},
    }


def endpoint_slice(name: str, service_name: str, *addresses: str) -> dict[str, Any]:
    """The endpoints of a Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }


def node(name: str = NODE, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


def watches(server: ApiServer, resource: str = "services") -> list[dict[str, object]]:
    """The watches that were begun."""
    return server.requests(resource=resource, verb="watch")


def lists(server: ApiServer, resource: str = "services") -> list[dict[str, object]]:
    """The lists that were asked for, page by page."""
    return server.requests(resource=resource, verb="list")
