"""Kubeconfigs of tests, and clients that use them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from nodeport_nft.store.kubernetes import open_client
from nodeport_nft.store.kubernetes.client import Client
from nodeport_nft.store.kubernetes.connection import Connection
from tests.kubernetes.scripted import SECONDS

Result = TypeVar("Result")


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    """A file as whoever renews one should write it: whole, or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content.encode() if isinstance(content, str) else content)
    new.chmod(mode)
    os.replace(new, path)  # noqa: PTH105
    return path


def kubeconfig(path: Path, server: str, user: Mapping[str, Any], **cluster: Any) -> Path:
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }  # fmt: skip
    return write(path, yaml.safe_dump(document, sort_keys=False))


def asking(path: Path, work: Callable[[Client], Awaitable[Result]]) -> Result:
    """What becomes of this work of a client of the kubeconfig."""

    async def run() -> Result:
        return await with_client(path, work)

    return asyncio.run(run())


async def with_client(path: Path, work: Callable[[Client], Awaitable[Result]]) -> Result:
    client = open_client(Connection(str(path)))
    try:
        async with asyncio.timeout(SECONDS):
            return await work(client)
    finally:
        await client.close()
