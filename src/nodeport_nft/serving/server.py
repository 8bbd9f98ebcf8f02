"""Ports that answer HTTP: one thread, one event loop, any number of ports that come and go.

A thread of its own, because the daemon's main thread may be busy with a large table for seconds, and a probe that is
not answered counts as a failure.

HTTP is Tornado's: with one server running it adds 6 MB of resident memory to those of asyncio, aiohttp adds 17. Of
it this module uses the parts below ``HTTPServer``, because an ``HTTPServer`` stops as a whole, and because a limit on
open connections may span ports.

Anybody may connect who reaches the node. So a request has limits of size and time, a connection ends with its first
answer, and after a while even if its client does not read. When too many are open the oldest one has to go: a client
that holds connections open only pushes out its own, while a probe, which is answered within milliseconds, gets
through.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from msgspec import Struct
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

from nodeport_nft.model import Family, IPAddress
from nodeport_nft.serving.accepting import Acceptor, listen
from nodeport_nft.serving.asked import is_asked_by_browser

_log = logging.getLogger("serving")

Result = TypeVar("Result")

MAX_BYTES = 8192
"""Of a request's header, and of its body: a probe or a scrape has a few hundred and none."""

_SECONDS = 10.0  # for a request's header, and for its body
_LIFETIME = 60.0  # of a connection: a scrape of 100,000 Services takes seconds


class Answer(Struct, frozen=True):
    """What is sent back; ``headers`` go beside the usual ones."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Request(Struct, frozen=True):
    """What is asked for; ``path`` without its ``query``. ``host``: whom the client means to ask, or "".

    ``by_browser``: a page may have made somebody's browser send it. A body is read, within limits, and ignored.
    """

    method: str
    path: str
    query: str = ""
    host: str = ""
    by_browser: bool = False


@dataclass(slots=True, eq=False)
class Pool:
    """Connections that share a limit: at most ``most`` of them are open at once."""

    most: int
    open: dict[HTTP1ServerConnection, asyncio.TimerHandle] = field(default_factory=dict)  # oldest first
    dismissed: set[HTTP1ServerConnection] = field(default_factory=set)  # hung up on, not yet at their end

    def make_room(self) -> None:
        """Hang up on the oldest ones until one more has room."""
        while len(self.open) >= self.most:
            self.drop_oldest()

    def drop_oldest(self) -> bool:
        """Hang up on the oldest one; whether there was one."""
        if not self.open:
            return False
        self.drop(next(iter(self.open)))
        return True

    def drop(self, connection: HTTP1ServerConnection) -> None:
        """Hang up; Tornado tells of the end a little later."""
        self.open.pop(connection).cancel()
        self.dismissed.add(connection)
        connection.stream.close()

    def ended(self, connection: HTTP1ServerConnection) -> None:
        """Forget a connection."""
        self.dismissed.discard(connection)
        if timer := self.open.pop(connection, None):
            timer.cancel()


@dataclass(slots=True, eq=False)
class Port:
    """One open port: ``name`` says in log lines which; ``answer`` runs on the server's loop."""

    name: str
    listening: socket.socket
    answer: Callable[[Request], Awaitable[Answer]]
    pool: Pool
    acceptor: Acceptor = field(init=False)

    @property
    def number(self) -> int:
        """The port's number."""
        return int(self.listening.getsockname()[1])


class _Client(Struct, frozen=True):
    """Who asks, and where; Tornado's log lines show it as text."""

    name: str
    port: Port

    def __str__(self) -> str:
        return f"{self.name}, on {self.port.name}"


class Server(HTTPServerConnectionDelegate):
    """A loop in a thread. ``call`` and ``close`` are for any thread but the server's own, the rest for its own only.

    Sockets belong to the network namespace of the thread that made the server.
    """

    def __init__(self, name: str) -> None:
        self._parameters = HTTP1ConnectionParameters(
            no_keep_alive=True,
            chunk_size=MAX_BYTES,
            max_header_size=MAX_BYTES,
            header_timeout=_SECONDS,
            max_body_size=MAX_BYTES,
            body_timeout=_SECONDS,
        )
        self._ports: set[Port] = set()
        self._answering: dict[asyncio.Task[None], Port] = {}
        self._lock = threading.Lock()  # one caller at a time: a call lets the loop run while connections end
        self._closed = False
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], Coroutine[Any, Any, Result]], *, closed: Result) -> Result:
        """What ``work`` gives on the server's loop; ``closed`` after ``close``, when nothing is done."""
        with self._lock:
            return closed if self._closed else self._call(work())

    def close(self) -> None:
        """Close ports and connections and end the thread; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._call(self.shut(tuple(self._ports)))
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    # From here on everything runs on the loop's thread.

    def open(
        self,
        name: str,
        place: tuple[IPAddress, int],
        answer: Callable[[Request], Awaitable[Answer]],
        pool: Pool,
        passed: socket.socket | None = None,
        *,
        both: bool = False,
    ) -> Port:
        """Answer at an address and port, on the socket that was ``passed`` for it if one was.

        0.0.0.0 and :: stand for all addresses of their family; with ``both`` :: stands for those of IPv4, too.
        Raises OSError if the kernel refuses.
        """
        address, number = place
        family = socket.AF_INET6 if Family(address.version) is Family.IPV6 else socket.AF_INET
        both = both and family is socket.AF_INET6 and address.is_unspecified and socket.has_dualstack_ipv6()
        port = Port(name, passed or listen(str(address), number, family, both=both), answer, pool)
        port.acceptor = Acceptor(self.loop, port.listening, partial(self._accept, port), pool.drop_oldest)
        self._ports.add(port)
        return port

    async def shut(self, ports: Iterable[Port]) -> None:
        """Close these ports and the connections to them. An answer that is being made is given up."""
        gone = set(ports)
        self._ports -= gone
        for port in gone:
            port.acceptor.close()
        answering = [task for task, port in self._answering.items() if port in gone]
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
        for pool in {port.pool for port in gone}:
            for connection in [*pool.open, *pool.dismissed]:
                if _client(connection).port in gone:
                    await connection.close()

    def _accept(self, port: Port, accepted: socket.socket, peer: tuple[Any, ...]) -> None:
        port.pool.make_room()
        stream = IOStream(accepted, max_buffer_size=4 * MAX_BYTES, read_chunk_size=MAX_BYTES)
        connection = HTTP1ServerConnection(stream, self._parameters, _Client(str(peer[0]), port))
        port.pool.open[connection] = self.loop.call_later(_LIFETIME, port.pool.drop, connection)
        connection.start_serving(self)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Called by Tornado when a connection is open."""
        port = _client(server_conn).port
        return _Exchange(request_conn, port.answer, partial(self._start, port))

    def on_close(self, server_conn: object) -> None:
        """Called by Tornado when a connection has ended."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        _client(server_conn).port.pool.ended(server_conn)

    def _start(self, port: Port, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._answering[task] = port  # the loop itself would forget it
        task.add_done_callback(self._answering.pop)


class _Exchange(HTTPMessageDelegate):
    """One request and its answer."""

    def __init__(
        self,
        connection: HTTPConnection,
        answer: Callable[[Request], Awaitable[Answer]],
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._connection = connection
        self._answer = answer
        self._start = start
        self._request = Request("", "")

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        assert isinstance(start_line, RequestStartLine)
        path, _, query = start_line.path.partition("?")
        self._request = Request(start_line.method, path, query, headers.get("Host", ""), is_asked_by_browser(headers))

    def finish(self) -> None:
        self._start(self._respond())

    async def _respond(self) -> None:
        try:
            answer = await self._answer(self._request)
        except Exception:  # whoever asks would wait until the connection is given up
            _log.exception("no answer could be made to %s %r", self._request.method, self._request.path)
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"no answer could be made; see the log\n")
        headers = HTTPHeaders(
            {
                "Content-Type": answer.content_type,
                "X-Content-Type-Options": "nosniff",
                "Content-Length": str(len(answer.body)),
                "Date": format_timestamp(time.time()),
                **dict(answer.headers),
            }
        )
        self._connection.write_headers(ResponseStartLine("HTTP/1.1", answer.status, answer.status.phrase), headers)
        if self._request.method != "HEAD":
            self._connection.write(answer.body)  # by itself: beside the headers Tornado would copy it
        self._connection.finish()


def _client(connection: object) -> _Client:
    assert isinstance(connection, HTTP1ServerConnection)
    assert isinstance(connection.context, _Client)
    return connection.context
