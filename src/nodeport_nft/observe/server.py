"""The HTTP server of /healthz, /livez, /metrics and /status: one thread, one event loop, two ports as kube-proxy's.

A thread of its own, because the daemon's main thread may be busy with a large table for seconds, and a probe that
is not answered counts as a failure. All that the main thread hands over is a reference to a frozen ``Status``.

As in ``health.server``, requests have limits of size and time, a connection ends with its first answer, and when too
many are open the oldest one of that port has to go. Besides, a connection ends after a while even if its client does
not read, since what /metrics answers is larger than what the kernel buffers. That answer is made in a
second thread, one at a time, so that no collector keeps a probe waiting; who asks meanwhile shares it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
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
from nodeport_nft.model import Family, IPAddress
from nodeport_nft.observe.health import health_body, is_healthy, is_live
from nodeport_nft.observe.metrics import CONTENT_TYPE, Metrics, Probe
from nodeport_nft.observe.passed import take_passed
from nodeport_nft.observe.status import Status, to_json

Result = TypeVar("Result")

MAX_BYTES = 8192
"""Of a request's header, and of its body: a scrape has a few hundred and none."""

MAX_CONNECTIONS = 64
"""Open at once, on each port."""

_SECONDS = 10.0  # for a request's header, and for its body
_LIFETIME = 60.0  # of a connection: a scrape of 100,000 Services takes seconds
_JSON = "application/json"

_REMEDIES = {
    errno.EADDRINUSE: "stop the program that listens there (`ss -ltnp 'sport = :{port}'` names it)",
    errno.EADDRNOTAVAIL: "give the node this address",
    errno.EAFNOSUPPORT: "enable this IP family on the node (under no-ports.conf: in nodeport-nft.socket)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EACCES: "run as root, or give the program CAP_NET_BIND_SERVICE",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


_Route = Callable[[], Coroutine[Any, Any, _Answer]]


@dataclass(slots=True, eq=False)
class _Port:
    """One port and what it serves, by path. ``acceptor``: while it is open."""

    key: str
    loss: str
    address: tuple[IPAddress, int] | None
    routes: dict[str, _Route]
    socket: socket.socket | None = None
    acceptor: Acceptor | None = None
    connections: dict[HTTP1ServerConnection, asyncio.TimerHandle] = field(default_factory=dict)  # oldest first
    dismissed: set[HTTP1ServerConnection] = field(default_factory=set)  # hung up on, not yet at their end

    def __str__(self) -> str:
        return self.key


@dataclass(frozen=True, slots=True)
class _Client:
    """Who asks, and where; Tornado's log lines show it as text."""

    name: str
    port: _Port

    def __str__(self) -> str:
        return f"{self.name}, on {self.port}"


class ObserveServer(HTTPServerConnectionDelegate):
    """Answers probes, Prometheus and ``nodeport-nft status``.

    All public methods may be called from any thread but the server's own. An address None is not served; its
    port 0 is one that the kernel chooses. Sockets belong to the network namespace of the thread that made the server.

    /healthz is on both ports, as with kube-proxy, and answers alike. (On kube-proxy's metrics port it says "ok" of
    any process that runs, which hides what the question is about.)
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        healthz: tuple[IPAddress, int] | None,
        metrics_address: tuple[IPAddress, int] | None,
    ) -> None:
        self._metrics = metrics
        self._status = Status()
        self._healthz = _Port(
            "healthzBindAddress",
            "probes of the node fail until then",
            healthz,
            {"/healthz": self._answer_healthz, "/livez": self._answer_livez},
        )
        self._observed = _Port(
            "metricsBindAddress",
            "there are no metrics, and no `nodeport-nft status`, until then",
            metrics_address,
            {"/metrics": self._answer_metrics, "/status": self._answer_status, "/healthz": self._answer_healthz},
        )
        self._parameters = HTTP1ConnectionParameters(
            no_keep_alive=True,
            chunk_size=MAX_BYTES,
            max_header_size=MAX_BYTES,
            header_timeout=_SECONDS,
            max_body_size=MAX_BYTES,
            body_timeout=_SECONDS,
        )
        self._scraper = ThreadPoolExecutor(1, "observe-metrics")
        self._scraper.submit(int).result()  # its thread is there before there may be no room for it
        self._scrape: asyncio.Future[bytes] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()  # one caller at a time
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="observe", daemon=True)
        self._thread.start()

    def set_status(self, status: Status) -> None:
        """What is told from now on."""
        self._status = status

    def listen(self) -> tuple[str, ...]:
        """Open what is not open yet. Returns what cannot be opened, one text each; call again to try again.

        After ``close`` nothing is done.
        """
        with self._lock:
            return () if self._closed else self._call(self._open())

    @property
    def healthz_port(self) -> int:
        """The port of /healthz and /livez; 0 while it is not open."""
        return _port_number(self._healthz)

    @property
    def metrics_port(self) -> int:
        """The port of /metrics and /status; 0 while it is not open."""
        return _port_number(self._observed)

    def close(self) -> None:
        """Close ports and connections and end the thread; a second call does nothing.

        A scrape that is being made is not waited for: its collector may need the caller's own thread.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._call(self._shut())
            self._scraper.shutdown(wait=False, cancel_futures=True)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # From here on everything runs on the loop's thread.

    async def _open(self) -> tuple[str, ...]:
        troubles = []
        for port in (self._healthz, self._observed):
            if port.address is None or port.socket is not None:
                continue
            try:
                self._listen(port, *port.address)
            except OSError as error:
                troubles.append(_trouble(port, *port.address, error))
        return tuple(troubles)

    def _listen(self, port: _Port, address: IPAddress, number: int) -> None:
        """Raises OSError if the kernel refuses."""
        family = socket.AF_INET6 if Family(address.version) is Family.IPV6 else socket.AF_INET
        listening = take_passed(address, number) or listen(str(address), number, family)
        port.acceptor = Acceptor(self._loop, listening, partial(self._accept, port), partial(self._drop_oldest, port))
        port.socket = listening

    async def _shut(self) -> None:
        for port in (self._healthz, self._observed):
            if port.acceptor is not None:
                port.acceptor.close()
                port.socket = port.acceptor = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for port in (self._healthz, self._observed):
            for connection in [*port.connections, *port.dismissed]:
                await connection.close()

    def _accept(self, port: _Port, accepted: socket.socket, peer: tuple[Any, ...]) -> None:
        if len(port.connections) >= MAX_CONNECTIONS:
            self._drop_oldest(port)
        stream = IOStream(accepted, max_buffer_size=4 * MAX_BYTES, read_chunk_size=MAX_BYTES)
        connection = HTTP1ServerConnection(stream, self._parameters, _Client(str(peer[0]), port))
        port.connections[connection] = self._loop.call_later(_LIFETIME, self._drop, port, connection)
        connection.start_serving(self)

    def _drop_oldest(self, port: _Port) -> bool:
        if not port.connections:
            return False
        self._drop(port, next(iter(port.connections)))
        return True

    def _drop(self, port: _Port, connection: HTTP1ServerConnection) -> None:
        """Hang up; Tornado calls ``on_close`` a little later."""
        port.connections.pop(connection).cancel()
        port.dismissed.add(connection)
        connection.stream.close()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Called by Tornado when a connection is open."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        assert isinstance(server_conn.context, _Client)
        return _Request(request_conn, server_conn.context.port.routes, self._start)

    def on_close(self, server_conn: object) -> None:
        """Called by Tornado when a connection has ended."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        assert isinstance(server_conn.context, _Client)
        port = server_conn.context.port
        port.dismissed.discard(server_conn)
        if timer := port.connections.pop(server_conn, None):
            timer.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)  # the loop itself would forget it
        task.add_done_callback(self._tasks.discard)

    async def _answer_healthz(self) -> _Answer:
        return self._probed(Probe.HEALTHZ, is_healthy)

    async def _answer_livez(self) -> _Answer:
        return self._probed(Probe.LIVEZ, is_live)

    def _probed(self, probe: Probe, is_well: Callable[[Status, float], bool]) -> _Answer:
        status, now = self._status, time.time()
        code = HTTPStatus.OK if is_well(status, now) else HTTPStatus.SERVICE_UNAVAILABLE
        self._metrics.probed(probe, code)
        return _Answer(code, _JSON, health_body(status, now, with_node=probe is Probe.HEALTHZ).encode())

    async def _answer_status(self) -> _Answer:
        return _Answer(HTTPStatus.OK, _JSON, to_json(self._status).encode())

    async def _answer_metrics(self) -> _Answer:
        try:
            if self._scrape is None or self._scrape.done():
                self._scrape = self._loop.run_in_executor(self._scraper, self._metrics.exposition)
            body = await self._scrape  # which others may do as well
        except Exception as error:  # a collector is somebody else's; Prometheus tells what it is answered
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, f"a collector failed: {type(error).__name__}: {error}")
        return _Answer(HTTPStatus.OK, CONTENT_TYPE, body)


class _Request(HTTPMessageDelegate):
    """One request. Its query does not matter; a body is read, within limits, and ignored."""

    def __init__(
        self,
        connection: HTTPConnection,
        routes: dict[str, _Route],
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._connection = connection
        self._routes = routes
        self._start = start
        self._line = RequestStartLine("", "", "")

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:  # noqa: ARG002
        assert isinstance(start_line, RequestStartLine)
        self._line = start_line

    def finish(self) -> None:
        self._start(self._respond())

    async def _respond(self) -> None:
        answer = await self._answer()
        headers = HTTPHeaders(
            {
                "Content-Type": answer.content_type,
                "X-Content-Type-Options": "nosniff",
                "Content-Length": str(len(answer.body)),
                "Date": format_timestamp(time.time()),
                **dict(answer.headers),
            }
        )
        line = ResponseStartLine("HTTP/1.1", answer.status, answer.status.phrase)
        self._connection.write_headers(line, headers)
        if self._line.method != "HEAD":
            self._connection.write(answer.body)  # by itself: beside the headers Tornado would copy it
        self._connection.finish()

    async def _answer(self) -> _Answer:
        route = self._routes.get(self._line.path.partition("?")[0])
        if route is None:
            return _plain(HTTPStatus.NOT_FOUND, f"there are {', '.join(self._routes)}")
        if self._line.method not in ("GET", "HEAD"):
            text = "nothing can be changed here; ask with GET"
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, text, ("Allow", "GET, HEAD"))
        return await route()


def _plain(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> _Answer:
    return _Answer(status, "text/plain; charset=utf-8", f"{text}\n".encode(errors="backslashreplace"), headers)


def _port_number(port: _Port) -> int:
    listening = port.socket
    return int(listening.getsockname()[1]) if listening is not None else 0


def _trouble(port: _Port, address: IPAddress, number: int, error: OSError) -> str:
    place = f"[{address}]:{number}" if address.version == 6 else f"{address}:{number}"
    reason = os.strerror(error.errno) if error.errno else str(error)
    remedy = _REMEDIES.get(error.errno or 0, "mend the cause").format(port=number)
    return f"{port.key}: {place} cannot be opened: {reason}; {remedy}, or choose another address; {port.loss}"
