"""Servers that answer as a test says, byte by byte, on the loop of the test: what no API server would say as well."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 60.0
"""Guards against hanging."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came: method and path, headers by their names in small letters, and the peer's certificate."""

    method: str
    path: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    certificate: object = None

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name.lower()]

    def __getitem__(self, name: str) -> str:
        return (self.all(name) or [""])[0]


Answers = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answer(status: str = "200 OK", body: bytes | str = b"{}", *headers: str, kind: str = "application/json") -> bytes:
    """An answer as bytes."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def server_tls(certificate: tuple[Path, Path], client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS of a server; with ``client_ca`` it wants a certificate from its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, certificate))
    if client_ca is not None:
        context.load_verify_locations(str(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def serving(
    answers: Answers, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """The port of a server; every request of every connection goes to ``answers``."""
    writers: list[asyncio.StreamWriter] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (request := await read_request(reader, writer)) is not None and not writer.is_closing():
                await answers(request, writer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(one, host, port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request of a connection, None at its end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head[0].split(" ", 2)
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
    length = int(dict(headers).get("content-length", 0))
    body = await reader.readexactly(length) if length else b""
    return Request(method, path, headers, body, writer.get_extra_info("peercert"))


@asynccontextmanager
async def connecting(
    *, password: str = "", refuse: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[str]]]:
    """The port of a proxy that takes CONNECT, and where it was asked to connect to.

    ``password``: "USER:PASSWORD" in base64 that it wants. ``refuse``: a status that it answers instead.
    """
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader, writer)
        if request is None:
            return
        asked.append(request.path)
        if refuse or (password and request["Proxy-Authorization"] != f"Basic {password}"):
            writer.write(answer(refuse or "407 Proxy Authentication Required", "no"))
            writer.close()
            return
        host, _, port = request.path.rpartition(":")
        there_reader, there_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for source, target in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(_pump(source, target))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while part := await source.read(1 << 16):
            target.write(part)
            await target.drain()
    target.close()
