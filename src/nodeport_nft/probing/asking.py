"""One probe, once: what a kubelet's prober does (k8s.io/kubernetes pkg/probe, 1.36).

An answer over HTTP is a success from 200 to 399. Redirects to the same host are followed, ten at most; one that leads
to another host is a success by itself. Certificates are not looked at, proxies of the environment are not used, and
of a body no more than 10 KiB are read. HTTP is Tornado's, as in ``serving``: here, too, others choose what is sent to
us.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from urllib.parse import SplitResult, urljoin, urlsplit

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError, UnsatisfiableReadError

from nodeport_nft import __version__
from nodeport_nft.model import HttpGet, Probe
from nodeport_nft.problems import clipped
from nodeport_nft.scarcity import scarcity

USER_AGENT = f"nodeport-nft-probe/{__version__}"

_MOST_BODY = 10 << 10
_MOST_HEADER = 64 << 10
_MOST_REDIRECTS = 10
_CHUNK = 4096
_LATE_SECONDS = 0.5

_PARAMETERS = HTTP1ConnectionParameters(
    no_keep_alive=True, chunk_size=_CHUNK, max_header_size=_MOST_HEADER, max_body_size=1 << 62
)


class Unheard(Exception):
    """This probe says nothing of the endpoint: we were late, or lacked what it takes."""


async def ask(probe: Probe, address: str) -> str:
    """Probe an endpoint once: "" if it passes, else why it does not. Raises Unheard."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with asyncio.timeout(probe.timeout):
            action = probe.action
            if isinstance(action, HttpGet):
                return await _get(action, action.host or address)
            await _connect(action.host or address, action.port)
            return ""
    except TimeoutError:
        if loop.time() - begun > probe.timeout + _LATE_SECONDS:
            raise Unheard("this node was too busy") from None
        return f"no answer within {probe.timeout} s"
    except Exception as error:  # whatever a stranger's answer may bring about: it is no good one
        if wanting := scarcity(error):
            raise Unheard(wanting) from None
        return _why(error)


def _why(error: BaseException) -> str:
    """An error in a few words."""
    if isinstance(error, StreamClosedError):
        if not isinstance(error.real_error, OSError):
            return "no whole answer over HTTP"
        return _why(error.real_error)
    if isinstance(error, ssl.SSLError):
        return f"TLS: {clipped(str(error.reason or error))}"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return clipped(str(error) or type(error).__name__)


async def _place(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Where to connect to. Raises OSError for a name that nobody knows."""
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return found[0][0], (str(found[0][4][0]), port)
    return family, (host, port)


async def _connect(host: str, port: int) -> None:
    family, place = await _place(host, port)
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place)


async def _get(action: HttpGet, host: str) -> str:
    where = SplitResult("https" if action.tls else "http", _authority(host, action.port), action.target, "", "")
    url = where.geturl()
    for _ in range(_MOST_REDIRECTS + 1):
        answer = await _answer(url, action)
        if not 300 <= answer.status < 400:
            return "" if 200 <= answer.status < 300 else f"HTTP status {answer.status}"
        if answer.status not in (301, 302, 303, 307, 308) or not answer.location:
            return ""
        url = urljoin(url, answer.location)
        if urlsplit(url).hostname != where.hostname:
            return ""
    return f"more than {_MOST_REDIRECTS} redirects"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(slots=True)
class _Answer(HTTPMessageDelegate):
    """What a server has answered; ``status`` 0: nothing yet. ``whole``: with all of its body that is wanted."""

    stream: IOStream
    status: int = 0
    location: str = ""
    whole: bool = False
    _size: int = 0

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        assert isinstance(start_line, ResponseStartLine)
        self.status, self.location = start_line.code, headers.get("Location", "")

    def data_received(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size >= _MOST_BODY:
            self.whole = True
            self.stream.close()

    def finish(self) -> None:
        self.whole = True


async def _answer(url: str, action: HttpGet) -> _Answer:
    """Ask for a URL. Raises OSError, StreamClosedError, ValueError where there is no whole answer."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("a redirect to no URL of HTTP")
    is_tls = parts.scheme == "https"
    family, place = await _place(host, parts.port or (443 if is_tls else 80))
    sock = socket.socket(family, socket.SOCK_STREAM)
    stream = SSLIOStream(sock, ssl_options=_context()) if is_tls else IOStream(sock, read_chunk_size=_CHUNK)
    try:
        await stream.connect(place, server_hostname=host if is_tls and place[0] != host else None)
        connection = HTTP1Connection(stream, is_client=True, params=_PARAMETERS)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = _headers(parts.netloc, action.headers)
        await connection.write_headers(RequestStartLine("GET", target, "HTTP/1.1"), headers)
        connection.finish()
        answer = _Answer(stream)
        with suppress(StreamClosedError, UnsatisfiableReadError):  # of our own doing, or what is told below
            await connection.read_response(answer)
    finally:
        stream.close()
    if not answer.whole:
        raise StreamClosedError(stream.error)
    return answer


def _headers(authority: str, given: tuple[tuple[str, str], ...]) -> HTTPHeaders:
    """Those of a request; what is given goes before ours, and an empty Accept leaves it out."""
    own: Mapping[str, str] = {"Host": authority, "User-Agent": USER_AGENT, "Accept": "*/*"}
    headers = HTTPHeaders()
    for name, value in given:
        headers.add(name, value)
    for name, value in own.items():
        headers.setdefault(name, value)
    if not headers["Accept"]:
        del headers["Accept"]
    headers["Host"] = headers["Host"].partition(",")[0] or authority
    headers["Connection"] = "close"
    return headers


@cache
def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
