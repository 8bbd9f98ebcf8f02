"""Requests to the tests' API server over its front door: TLS, one connection each, nothing but blocking calls."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse, HTTPSConnection
from typing import Any

from tests.kubernetes.recorded import Answer, read_answer
from tests.kubernetes.running import SECONDS, ApiServer


def ask(
    server: ApiServer,
    method: str,
    target: str,
    body: Any = None,
    *,
    token: str | None = "",
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """The answer to one request, by an administrator; ``token``: by somebody else, None for nobody.

    ConnectionError or http.client.IncompleteRead where the connection ends before the answer does.
    """
    with asked(server, method, target, body, token=token, headers=headers, context=context) as response:
        return whole(response, target)


def whole(response: HTTPResponse, target: str, before: bytes = b"") -> Answer:
    """The rest of an answer, behind what was read of it ``before``."""
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    return read_answer(response.status, found, (before + response.read()).decode().strip("\n"), "watch=1" in target)


@contextmanager
def asked(
    server: ApiServer,
    method: str,
    target: str,
    body: Any = None,
    *,
    token: str | None = "",
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Iterator[HTTPResponse]:
    """An answer whose head has come, and whose body has not been read."""
    context = context or ssl.create_default_context(cafile=server.ca_file)
    connection = HTTPSConnection(server.host, server.port, timeout=SECONDS, context=context)
    sent = {"accept": "application/json", "content-type": "application/json", **(headers or {})}
    if token is not None:
        sent["authorization"] = f"Bearer {token or server.token}"
    data = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
    try:
        connection.request(method, target, data, sent)
        yield connection.getresponse()
    finally:
        connection.close()


def events(response: HTTPResponse) -> Iterator[dict[str, Any]]:
    """A watch's events as they come, until it ends."""
    while line := response.readline():
        yield json.loads(line)
