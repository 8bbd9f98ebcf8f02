"""Requests to an API server over one connection pool: who we are, what was refused, what is tried again."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.errors import Cause, Refused, Unreachable

_SECONDS = 30.0
"""How long one answer may take."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of success: its ``body``, and the ``warnings`` of the server."""

    status: int
    body: bytes
    warnings: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class Client:
    """One API server, on the thread of one event loop."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._session: aiohttp.ClientSession | None = None
        # A stopgap until kubeconfig/ is there: server, CA and token of a kubeconfig of the simplest form, as JSON.
        import yaml

        document = yaml.safe_load(Path(connection.kubeconfig).read_text())
        cluster = document["clusters"][0]["cluster"]
        self._server = cluster["server"]
        self._ssl = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._token = document["users"][0]["user"]["token"]

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

        What the server asks to try again (429 with Retry-After) is tried again for as long as ``seconds`` allow.
        """
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._open().request(
                method,
                self._server + path,
                params=query or {},
                data=body,
                headers=self._headers(content_type if body is not None else ""),
                timeout=timeout,
            ) as response:
                text = await response.read()
                if response.status >= 400:
                    raise refusal(response.status, text, response.headers)
                return Answer(response.status, text, (), dict(response.headers))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self.connection}: {error}", is_sent=True) from error

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a watch, each an event, until the server ends it. Raises as ``request`` does, also in between.

        An answer that breaks off in the middle of a line is Unreachable.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SECONDS)
        try:
            async with self._open().get(
                self._server + path, params=query, headers=self._headers(""), timeout=timeout
            ) as response:
                if response.status >= 400:
                    raise refusal(response.status, await response.read(), response.headers)
                yield self._lines(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{self.connection}: {error}") from error

    async def close(self) -> None:
        """Hang up."""
        if self._session:
            await self._session.close()
            self._session = None

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
        if rest:
            raise Unreachable(f"{self.connection}: the stream broke off in the middle of an object")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._ssl))
        return self._session

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        return headers | ({"Content-Type": content_type} if content_type else {})


def refusal(code: int, body: bytes, headers: Mapping[str, str]) -> Refused:
    """What an answer of failure says; it need not be JSON, since proxies answer, too."""
    try:
        status = json.loads(body)
    except ValueError:
        status = {}
    details = status.get("details") or {}
    causes = tuple(
        Cause(each.get("reason", ""), each.get("message", ""), each.get("field", ""))
        for each in details.get("causes") or ()
    )
    message = status.get("message") or body.decode(errors="replace")[:300]
    after = headers.get("Retry-After", "")
    return Refused(message, code, status.get("reason", ""), causes, float(after) if after.isdigit() else 0.0, body)
