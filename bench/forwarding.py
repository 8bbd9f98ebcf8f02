"""An API server of the machine, reached from namespaces that have no way to it.

A child that was forked before its parent left the machine's network accepts on listening sockets of any namespace,
and leads each connection to the server. The server's address is the same inside and outside: certificates stay
right.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from lab.namespaces import PR_SET_PDEATHSIG, libc

_CONNECT_SECONDS = 10.0
_CHUNK = 1 << 18


class Forwarder:
    """Make it in the namespace from which the server can be reached, before there are threads."""

    def __init__(self, server: str) -> None:
        """``server``: the URL that a kubeconfig has, with an IPv4 address. Raises ValueError."""
        parts = urlsplit(server)
        self.address, self.port = parts.hostname or "", parts.port or 443
        socket.inet_aton(self.address)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ours
        self._pid = os.fork()
        if self._pid == 0:
            try:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                ours.close()
                asyncio.run(_serve(theirs, self.address, self.port))
            finally:
                os._exit(0)
        theirs.close()

    def listen(self) -> None:
        """In the network namespace of this thread, which has the server's address."""
        with socket.create_server((self.address, self.port), backlog=128) as listening:
            socket.send_fds(self._channel, [b"listen"], [listening.fileno()])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


async def _serve(channel: socket.socket, address: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    servers = []  # or they would end with their last reference

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connecting = asyncio.open_connection(address, port)
            there, to_there = await asyncio.wait_for(connecting, _CONNECT_SECONDS)
        except (OSError, TimeoutError):
            writer.close()
            return
        await asyncio.gather(_pump(reader, to_there), _pump(there, writer))

    while True:
        data, descriptors, *_ = await loop.run_in_executor(None, socket.recv_fds, channel, 32, 1)
        if not data:
            return
        servers.append(await asyncio.start_server(lead, sock=socket.socket(fileno=descriptors[0])))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
