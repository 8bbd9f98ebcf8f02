"""The API server as a source: everything of four kinds once, and from then on what changes."""

from __future__ import annotations

import asyncio

from nodeport_nft.store.api import Changes
from nodeport_nft.store.kubernetes.connection import Connection


class KubernetesSource:
    """One API server, on the thread of its event loop (``store.api.Source``)."""

    def __init__(self, connection: Connection, node: str) -> None:
        """Connects to nothing yet; ``node`` is whose Node object is followed."""

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        await asyncio.Event().wait()

    async def changed(self) -> None:
        """Return when there may be something to take, or when the problems are others."""
        await asyncio.Event().wait()

    def take(self) -> Changes:
        """What has come since the last time."""
        return Changes()

    def forget(self) -> None:
        """List everything once more."""

    def problems(self) -> tuple[str, ...]:
        """What is wrong now."""
        return ()

    def close(self) -> None:
        """Nothing: connections end with ``run``."""
