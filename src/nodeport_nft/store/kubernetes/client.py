"""Requests to an API server over one connection pool: who we are, what was refused, what is tried again.

HTTP/1.1: each watch has a connection of its own, so that one that hangs holds up no other, and several servers behind
one address share the load. A peer that is gone without a word is noticed by the kernel (``_watched_socket``).
"""

from __future__ import annotations

import asyncio
import math
import os
import platform
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakSet

import aiohttp
from multidict import CIMultiDict

from nodeport_nft import __version__
from nodeport_nft.store.blocking import BlockingClient
from nodeport_nft.store.kubernetes.answers import Answer, is_page, page, refusal, warnings
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.errors import Refused, Unreachable
from nodeport_nft.store.kubernetes.faults import BROKEN_OFF, unreachable
from nodeport_nft.store.kubernetes.identity import Credentials, Identity
from nodeport_nft.store.kubernetes.proxies import proxy_fault, proxy_of

__all__ = ["Answer", "Blocking", "Client", "refusal"]

_SECONDS = 30.0
"""How long one answer may take, and the beginning of a stream."""

_CONNECT_SECONDS = 5.0
"""How long a connection may take, TLS and all: then the next address of the name is tried."""

_DEAD_SECONDS = 30
"""After how long without an answer of its kernel a peer counts as gone."""

_LOOK_SECONDS = 5.0
"""How often the connection of a silent stream is looked at."""

_MOST_LOOKS = 100  # at connections that are closing, 0.01 s apart
_PAUSE = 1.0  # seconds, where a server that is busy does not say how long
_MOST_BYTES = 256 << 20  # of an answer, or of a line of a stream: what is more is nothing of Kubernetes'
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Go calls them

Result = TypeVar("Result")


class Client:
    """One API server, on the thread of one event loop."""

    def __init__(self, connection: Connection) -> None:
        """Connects with the first request. Raises KubeconfigWrong."""
        self.connection = connection
        self._identity = Identity(connection)
        self._session: aiohttp.ClientSession | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be told of the kubeconfig and is no error."""
        return self._identity.access.warnings

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return self._identity.access.cluster.server

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        *,
        seconds: float = _SECONDS,
    ) -> Answer:
        """The answer to one request. Raises Refused where it is one of failure, Unreachable where there is none.

        What the server asks to try again (429 or 5xx with Retry-After) is tried again for as long as ``seconds``
        allow. Credentials that it does not take (401) are renewed once.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        is_renewed = False
        while True:
            credentials = await self._identity.credentials()
            left = max(0.1, deadline - loop.time())
            timeout = aiohttp.ClientTimeout(total=left, sock_connect=_CONNECT_SECONDS)
            headers = {"Content-Type": content_type} if body is not None else {}
            try:
                return await self._ask(credentials, method, path, query, body, headers, timeout)
            except Refused as refused:
                if refused.code == 401:
                    if is_renewed or not await self._identity.renewed(credentials):
                        raise self._unknown(refused) from None
                    is_renewed = True
                    continue
                pause = _pause(refused)
                if not pause or loop.time() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, silent_seconds: float | None = None
    ) -> AsyncIterator[AsyncIterator[list[bytes]]]:
        """The lines of a watch, each an event, until the server ends it: those that have come, and so on.

        What there is at its begin comes by the hundred: to wait for each line took longer than to read it. Raises as
        ``request`` does, also in between.

        An answer that breaks off in the middle of a line is Unreachable, and so is one of which no byte comes for
        ``silent_seconds``. Whoever asks tries again (429) himself.
        """
        response = await self._begun(path, query, silent_seconds)
        try:
            yield self._lines(response, silent_seconds)
        finally:
            # There is no end to wait for, and a server that hangs would not answer the end of TLS either.
            if response.connection is not None and response.connection.transport is not None:
                response.connection.transport.abort()
            response.close()

    async def close(self) -> None:
        """Hang up."""
        if self._session:
            await self._session.close()
            self._session = None
        # TLS has an end of its own, which the session does not wait for; a loop that ends before it leaves sockets.
        for _ in range(_MOST_LOOKS):
            if all(each.fileno() < 0 for each in self._sockets):
                return
            await asyncio.sleep(0.01)

    async def _ask(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> Answer:
        try:
            async with await self._send(credentials, method, path, query, body, headers, timeout) as response:
                content = await self._read(response)
                if response.status >= 300:
                    raise refusal(response.status, content, response.headers)
                if is_page(response.headers):
                    raise Refused(page(response.status, content), response.status, body=content)
                told = warnings(response.headers.getall("Warning", ()))
                return Answer(response.status, content, told, dict(response.headers))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error, credentials) from error

    async def _begun(
        self, path: str, query: Mapping[str, str], silent_seconds: float | None
    ) -> aiohttp.ClientResponse:
        """A stream that has begun with success."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        is_renewed = False
        while True:
            credentials = await self._identity.credentials()
            try:
                # Compressed, an event might wait for the next one.
                headers = {"Accept-Encoding": "identity"}
                async with asyncio.timeout(min(_SECONDS, silent_seconds or _SECONDS)):
                    response = await self._send(credentials, "GET", path, query, None, headers, timeout)
                    if response.status < 300 and not is_page(response.headers):
                        return response
                    async with response:
                        content = await self._read(response)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._unreachable(error, credentials) from error
            if response.status < 300:
                raise Refused(page(response.status, content), response.status, body=content)
            refused = refusal(response.status, content, response.headers)
            if refused.code != 401:
                raise refused
            if is_renewed or not await self._identity.renewed(credentials):
                raise self._unknown(refused)
            is_renewed = True

    async def _send(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        cluster = credentials.cluster
        said: CIMultiDict[str] = CIMultiDict({"Accept": "application/json"})
        if not cluster.is_compressed:
            said["Accept-Encoding"] = "identity"
        said.update(headers)
        said.extend(credentials.headers)
        proxy = proxy_of(cluster, os.environ)
        if fault := proxy_fault(proxy):
            raise Unreachable(f"{self._where()}: {fault}")
        try:
            return await self._open().request(
                method,
                cluster.server + path,
                params=query or {},
                data=body,
                headers=said,
                timeout=timeout,
                ssl=credentials.tls if credentials.tls is not None else True,
                server_hostname=cluster.tls_server_name or None,
                proxy=proxy or None,
                # Who is led elsewhere would take his token there.
                allow_redirects=False,
            )
        except ValueError as error:
            if isinstance(error, aiohttp.ClientError | OSError):
                raise
            # A name that nobody can be asked by, say; not quoted, since it may be of a header.
            told = "cannot be asked by what is said of it; compare its cluster and user in the kubeconfig"
            raise Unreachable(f"{self._where()}: {told}") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of an answer, in memory once and no more of it than can be."""
        parts, size = [], 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > _MOST_BYTES:
                raise Unreachable(f"{self._where()}: an answer has more than {_MOST_BYTES >> 20} MiB", is_sent=True)
        return b"".join(parts)

    async def _lines(
        self, response: aiohttp.ClientResponse, silent_seconds: float | None
    ) -> AsyncIterator[list[bytes]]:
        parts: list[bytes] = []  # of a line whose end is yet to come
        size = 0
        while chunk := await self._chunk(response, silent_seconds):
            first, *lines = chunk.split(b"\n")
            parts.append(first)
            size += len(first)
            if size > _MOST_BYTES:
                raise Unreachable(f"{self._where()}: an event has more than {_MOST_BYTES >> 20} MiB")
            if not lines:
                continue
            last = lines.pop()
            whole = [stripped for line in (b"".join(parts), *lines) if (stripped := line.strip())]
            parts, size = [last], len(last)
            if whole:
                yield whole
        if b"".join(parts).strip():
            raise Unreachable(f"{self._where()}: the stream broke off in the middle of an object")

    async def _chunk(self, response: aiohttp.ClientResponse, silent_seconds: float | None) -> bytes:
        """What comes next of a stream, b"" at its end.

        aiohttp forgets whoever waits for a stream when it closes a connection over which no HTTP comes, so it is
        looked after now and then. Seen with 3.14.
        """
        left = math.inf if silent_seconds is None else silent_seconds
        while True:
            try:
                async with asyncio.timeout(min(left, _LOOK_SECONDS)):
                    return await response.content.readany()
            except TimeoutError as error:
                left -= _LOOK_SECONDS
                if response.connection is None or response.connection.closed:
                    raise Unreachable(f"{self._where()}: {BROKEN_OFF}") from error
                if left <= 0:
                    raise Unreachable(f"{self._where()}: the stream is silent, so it is begun again") from error
            except (aiohttp.ClientError, OSError) as error:
                raise unreachable(error, self._where()) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    # What programs of this machine see: /etc/hosts, nsswitch.conf.
                    resolver=aiohttp.ThreadedResolver(),
                    socket_factory=self._socket,
                ),
                headers={"User-Agent": _user_agent()},
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=1 << 18,
            )
        return self._session

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        made = _watched_socket(address)
        self._sockets.add(made)
        return made

    def _where(self) -> str:
        return f"{self.connection} {self.server}"

    def _unreachable(self, error: BaseException, credentials: Credentials) -> Unreachable:
        return unreachable(error, self._where(), proxy_of(credentials.cluster, os.environ))

    def _unknown(self, refused: Refused) -> Refused:
        """A refusal of who we are, with the remedy."""
        message = (
            f"the API server {self.server} does not know who we are ({refused}); "
            f"renew what {self._identity.access.name} says of its user"
        )
        return Refused(message, refused.code, refused.reason, refused.causes, refused.retry_after, refused.body)


class Blocking(BlockingClient[Client]):
    """A client for commands: ``with Blocking(connection) as api: api.run(api.client.request("GET", "/version"))``."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(lambda: Client(connection))


def _pause(refused: Refused) -> float:
    """How long to wait before a refused request is made again, not all of us at once; 0.0: it is not."""
    if refused.code == 429:
        pause = refused.retry_after or _PAUSE
    elif refused.code >= 500:
        pause = refused.retry_after
    else:
        return 0.0
    return pause * random.uniform(1.0, 1.2)  # noqa: S311


def _watched_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket whose peer is asked by the kernel whether it is still there (tcp(7))."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    with suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _DEAD_SECONDS // 2)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _DEAD_SECONDS // 6)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _DEAD_SECONDS)
    return made


def _user_agent() -> str:
    machine = platform.machine()
    return f"nodeport-nft/{__version__} (linux/{_MACHINES.get(machine, machine)})"
