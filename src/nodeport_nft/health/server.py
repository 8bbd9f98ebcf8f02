"""The HTTP servers of all healthCheckNodePorts: one thread, one event loop, any number of ports.

HTTP is Tornado's: with one server running it adds 6 MB of resident memory to those of asyncio, aiohttp adds 17.
Of it this module uses the parts below ``HTTPServer``, because ports come and go one by one here, while
an ``HTTPServer`` stops as a whole, and because a limit on open connections must span all ports.

Anybody may connect who reaches the node. So a request has a size and a time limit, a connection ends with its first
answer, and when too many are open the oldest one has to go: a client that holds connections open only
pushes out its own, while a probe, which is answered within milliseconds, gets through.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
    format_timestamp,
)
from tornado.iostream import IOStream

from nodeport_nft.health.accepting import Acceptor, listen
from nodeport_nft.health.checks import HealthCheck
from nodeport_nft.model import Family, IPAddress

Result = TypeVar("Result")

MAX_BYTES = 8192
"""Of a request's header, and of its body: a probe has a few hundred and none."""

MAX_CONNECTIONS = 256
"""Open at once, over all ports."""

_SECONDS = 10.0  # for a request's header, and for its body

_REMEDIES = {
    errno.EADDRINUSE: "stop the program that listens there; `ss -ltnp 'sport = :{port}'` names it",
    errno.EADDRNOTAVAIL: "give the node this address, or correct nodePortAddresses",
    errno.EAFNOSUPPORT: "enable this IP family on the node, leave the address out of nodePortAddresses, "
    "or take out the drop-in no-ports.conf of contrib/systemd, under which no port can be opened",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EACCES: "run as root, or give the program CAP_NET_BIND_SERVICE",
}


@dataclass(slots=True, eq=False)
class _Listener:
    """One listening socket and what it tells now."""

    address: IPAddress
    port: int
    check: HealthCheck
    acceptor: Acceptor = field(init=False)


@dataclass(frozen=True, slots=True)
class _Client:
    """Who asks, and where; Tornado's log lines show it as text."""

    name: str
    listener: _Listener

    def __str__(self) -> str:
        return f"{self.name}, on healthCheckNodePort {self.listener.port}"


class HealthServer(HTTPServerConnectionDelegate):
    """Answers on healthCheckNodePorts. All public methods may be called from any thread but the server's own.

    It begins without ports and unhealthy: before its rules are in the kernel no node should be chosen.
    Sockets belong to the network namespace of the thread that made the server.
    """

    def __init__(self) -> None:
        self._healthy = False
        self._listeners: dict[tuple[int, IPAddress], _Listener] = {}
        self._connections: dict[HTTP1ServerConnection, _Client] = {}  # oldest first
        self._dismissed: dict[HTTP1ServerConnection, _Client] = {}  # closed to make room, not yet at their end
        self._parameters = HTTP1ConnectionParameters(
            no_keep_alive=True,
            chunk_size=MAX_BYTES,
            max_header_size=MAX_BYTES,
            header_timeout=_SECONDS,
            max_body_size=MAX_BYTES,
            body_timeout=_SECONDS,
        )
        self._lock = threading.Lock()  # one caller at a time: `update` lets the loop run while connections end
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="health-checks", daemon=True)
        self._thread.start()

    def update(self, wanted: Mapping[int, HealthCheck], addresses: Iterable[IPAddress]) -> tuple[str, ...]:
        """Serve exactly ``wanted``, by port, on those ``addresses`` that are of a family the check has a number for.

        0.0.0.0 and :: stand for all addresses of their family. What is served already stays open. Returns what cannot
        be served, one text each, sorted by port and address; it is tried again at the next update. After ``close``
        nothing is done.
        """
        with self._lock:
            return () if self._closed else self._call(self._update(dict(wanted), tuple(addresses)))

    def set_healthy(self, healthy: bool) -> None:
        """Say whether the node's rules are what they should be; if not, every port answers 503."""
        self._healthy = healthy

    def close(self) -> None:
        """Close all ports and connections and end the thread; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._call(self._update({}, ()))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # From here on everything runs on the loop's thread.

    async def _update(self, wanted: dict[int, HealthCheck], addresses: tuple[IPAddress, ...]) -> tuple[str, ...]:
        places = {
            (port, address): check
            for port, check in wanted.items()
            for address in addresses
            if Family(address.version) in check.local_endpoints
        }
        # What goes, goes first: an address may be in the way of 0.0.0.0 on the same port, and the other way round.
        await self._shut([self._listeners.pop(place) for place in self._listeners.keys() - places.keys()])
        troubles = []
        for (port, address), check in sorted(places.items(), key=lambda item: _order(*item[0])):
            listener = self._listeners.get((port, address))
            if listener is not None:
                listener.check = check
                continue
            try:
                self._listeners[port, address] = self._listen(port, address, check)
            except OSError as error:
                troubles.append(_trouble(port, address, check, error))
        return tuple(troubles)

    async def _shut(self, listeners: list[_Listener]) -> None:
        """Close these ports and the connections to them."""
        for listener in listeners:
            listener.acceptor.close()
        for connection, client in [*self._connections.items(), *self._dismissed.items()]:
            if client.listener in listeners:
                await connection.close()

    def _listen(self, port: int, address: IPAddress, check: HealthCheck) -> _Listener:
        """Raises OSError if the kernel refuses."""
        family = socket.AF_INET6 if Family(address.version) is Family.IPV6 else socket.AF_INET
        listening = listen(str(address), port, family)
        listener = _Listener(address, port, check)
        listener.acceptor = Acceptor(self._loop, listening, partial(self._accept, listener), self._drop_oldest)
        return listener

    def _drop_oldest(self) -> bool:
        if not self._connections:
            return False
        oldest = next(iter(self._connections))
        self._dismissed[oldest] = self._connections.pop(oldest)
        oldest.stream.close()
        return True

    def _accept(self, listener: _Listener, accepted: socket.socket, peer: tuple[Any, ...]) -> None:
        while len(self._connections) >= MAX_CONNECTIONS:
            self._drop_oldest()
        stream = IOStream(accepted, max_buffer_size=4 * MAX_BYTES, read_chunk_size=MAX_BYTES)
        client = _Client(str(peer[0]), listener)
        connection = HTTP1ServerConnection(stream, self._parameters, client)
        self._connections[connection] = client
        connection.start_serving(self)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Called by Tornado when a connection is open."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        assert isinstance(server_conn.context, _Client)
        listener = server_conn.context.listener
        return _Request(request_conn, lambda: _answer(listener, self._healthy))

    def on_close(self, server_conn: object) -> None:
        """Called by Tornado when a connection has ended."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._connections.pop(server_conn, None)
        self._dismissed.pop(server_conn, None)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    headers: Mapping[str, str]
    body: bytes


class _Request(HTTPMessageDelegate):
    """One request. Like kube-proxy we look at neither path nor method; a body is read, within limits, and ignored."""

    def __init__(self, connection: HTTPConnection, answer: Callable[[], _Answer]) -> None:
        self._connection = connection
        self._answer = answer
        self._head = False

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:  # noqa: ARG002
        assert isinstance(start_line, RequestStartLine)
        self._head = start_line.method == "HEAD"

    def finish(self) -> None:
        answer = self._answer()
        line = ResponseStartLine("HTTP/1.1", answer.status, answer.status.phrase)
        self._connection.write_headers(line, HTTPHeaders(answer.headers), None if self._head else answer.body)
        self._connection.finish()


def _answer(listener: _Listener, healthy: bool) -> _Answer:
    """The answer as kube-proxy gives it (its pkg/proxy/healthcheck), which load balancers read."""
    check = listener.check
    count = check.local_endpoints[Family(listener.address.version)]
    told = {
        "service": {"namespace": check.service.namespace, "name": check.service.name},
        "localEndpoints": count,
        "serviceProxyHealthy": healthy,
    }
    body = json.dumps(told).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(count),
        "Content-Length": str(len(body)),
        "Date": format_timestamp(time.time()),
    }
    return _Answer(HTTPStatus.OK if count and healthy else HTTPStatus.SERVICE_UNAVAILABLE, headers, body)


def _order(port: int, address: IPAddress) -> tuple[int, int, int]:
    return port, address.version, int(address)


def _trouble(port: int, address: IPAddress, check: HealthCheck, error: OSError) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    remedy = _REMEDIES.get(error.errno or 0, "load balancers will leave this node out until the cause is gone")
    return (
        f"service {check.service}: healthCheckNodePort {port} cannot be opened on {address}: {reason}; "
        f"{remedy.format(port=port)}"
    )
