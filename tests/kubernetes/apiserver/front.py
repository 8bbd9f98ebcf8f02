"""The servers behind an address: each with its listener, its connections, and its watch cache."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from aiohttp import web

from tests.kubernetes.apiserver.serving import Api, State

_MOST = 64 << 20
"""Bytes of a request's body."""


class Front:
    """One server of several. Those with the same address share it by SO_REUSEPORT: the kernel spreads connections.

    A socket that is bound and does not listen keeps the port for them while none of them serves; whoever connects
    then is refused.
    """

    def __init__(self, state: State, replica: int, address: tuple[str, int], context: ssl.SSLContext) -> None:
        self.api = Api(state, replica)
        self._state = state
        self._context = context
        self._place = _bound(address)
        self.address: tuple[str, int] = self._place.getsockname()[:2]
        self._runner: web.AppRunner | None = None
        self._has_served = False

    async def start(self) -> None:
        """Serve. A server that begins later has nothing in its cache of what was before."""
        if self._runner is not None:
            return
        if self._has_served:
            self.api.horizon = self._state.storage.revision
        self._has_served = True
        self._runner = await served(self.api)
        listener = _bound(self.address)
        await web.SockSite(self._runner, listener, ssl_context=self._context).start()

    async def stop(self) -> None:
        """Serve no more: the listener and all connections are closed, in the middle of what they are at."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for site in tuple(runner.sites):
            await site.stop()
        self._drop(runner)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(runner.cleanup(), 5)

    def drop(self) -> None:
        """Close all connections, and go on."""
        if self._runner is not None:
            self._drop(self._runner)

    def _drop(self, runner: web.AppRunner) -> None:
        assert runner.server is not None
        for connection in tuple(runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    @property
    def serves(self) -> bool:
        return self._runner is not None


async def served(api: Api) -> web.AppRunner:
    """An application that answers everything by this API."""
    application = web.Application(client_max_size=_MOST)
    application.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    return runner


def _bound(address: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(address)
    return made
