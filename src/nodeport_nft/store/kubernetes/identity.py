"""Who we are at an API server, now: what each request says of us, kept up as tokens and certificates are renewed.

Files are looked at before each request, and read again when they are others than before: the kubeconfig, tokens,
certificates. What cannot be read at that moment, or does not fit together, is being renewed: what was read before
counts until it can.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from nodeport_nft.agenda import Backoff
from nodeport_nft.config.kubeconfig import Access, Cluster, Pem, Plugin, User, find_access
from nodeport_nft.problems import Problems
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.errors import KubeconfigWrong, NoCredentials
from nodeport_nft.store.kubernetes.plugins import Credential, run_plugin
from nodeport_nft.store.kubernetes.tls import client_context

_TOKEN_SECONDS = 60.0
"""How old a token from a file may be, on file systems whose times say nothing. As kubectl's."""

PLUGIN_SECONDS = 60.0
"""How long a plugin may take: some ask a server far away, and renew a login of their own before."""

_LONGEST_REST_SECONDS = 60.0
"""The longest that a plugin is left alone after failures: who logs in wrongly each second is locked out."""

_TOKEN_CHARACTERS = "!#$&'*+-.^_`|~"  # noqa: S105 (of a header's name: RFC 9110, 5.6.2)

Seen = tuple[tuple[int, int, int, int] | None, ...]
"""What tells files from those that were there before."""


@dataclass(frozen=True, slots=True, eq=False)
class Credentials:
    """What one request is made with: its headers, and TLS (None: without)."""

    cluster: Cluster
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    tls: ssl.SSLContext | None
    credential: Credential | None = None


class Identity:
    """The user of a connection. Raises KubeconfigWrong at once where what is configured is wrong."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.access = _found(connection)
        self._files = _seen(self.access.files)
        self._token = ""
        self._token_seen: Seen = ()
        self._token_at = 0.0
        self._tls: ssl.SSLContext | None = None
        self._tls_of: object = None
        self._credential: Credential | None = None
        self._running = asyncio.Lock()
        self._failures = Backoff(_LONGEST_REST_SECONDS)
        self._failed = ""  # what the plugin was last wrong with
        self._rests_until = 0.0

    async def credentials(self) -> Credentials:
        """What the next request is to be made with. Raises NoCredentials."""
        self._look_at_files()
        user, cluster = self.access.user, self.access.cluster
        credential = None
        if user.plugin is not None:
            credential = await self._plugged(user.plugin)
        certificate, key = user.certificate, user.key
        if credential is not None and credential.certificate:
            certificate, key = credential.certificate, credential.key
        tls = self._context(cluster, certificate, key) if cluster.server.startswith("https:") else None
        token = credential.token if credential is not None else self._token_now(user)
        return Credentials(cluster, (*_authorization(user, token), *_impersonation(user)), tls, credential)

    async def renewed(self, refused: Credentials) -> bool:
        """Whether there are others now than those that the server has refused (401); plugins are run again."""
        self._token_seen, self._token_at = (), 0.0
        self._files = ()
        async with self._running:
            # Of many requests that were refused at once, the first runs the plugin for all.
            if self._credential is not None and self._credential is refused.credential:
                self._credential = None
        new = await self.credentials()
        return new.headers != refused.headers or new.tls is not refused.tls

    def _look_at_files(self) -> None:
        """Read the kubeconfig again where it is another now; one that is wrong is perhaps being written."""
        if not self.access.files or (seen := _seen(self.access.files)) == self._files:
            return
        self._files = seen
        with suppress(KubeconfigWrong):
            access = _found(self._connection)
            if (access.cluster, access.user) != (self.access.cluster, self.access.user):
                self._credential = None
                self._rests_until = 0.0
            self.access = access

    async def _plugged(self, plugin: Plugin) -> Credential:
        async with self._running:
            if self._credential is None or not self._credential.is_good:
                self._credential = None
                self._credential = await self._run(plugin)
            return self._credential

    async def _run(self, plugin: Plugin) -> Credential:
        """What a plugin gives; one that has failed is not asked again for a while. Raises NoCredentials."""
        if time.monotonic() < self._rests_until:
            raise NoCredentials(self._failed)
        try:
            found = await run_plugin(plugin, self.access.cluster, PLUGIN_SECONDS)
        except NoCredentials as error:
            self._failed = str(error)
            self._rests_until = time.monotonic() + self._failures.failed()
            raise
        self._failures.succeeded()
        return found

    def _token_now(self, user: User) -> str:
        if not user.token_file:
            return user.token
        now, seen = time.monotonic(), _seen((user.token_file,))
        if seen != self._token_seen or now - self._token_at >= _TOKEN_SECONDS or not self._token:
            try:
                self._token = _token(user.token_file)
            except NoCredentials:
                if not (self._token or user.token):
                    raise
            else:
                self._token_seen, self._token_at = seen, now
        return self._token or user.token

    def _context(self, cluster: Cluster, certificate: Pem, key: Pem) -> ssl.SSLContext:
        parts = (cluster.ca, certificate, key)
        new = (cluster, parts, _seen(part.path for part in parts))
        if self._tls is None or new != self._tls_of:
            try:
                self._tls = client_context(cluster, certificate, key)
            except NoCredentials:
                if self._tls is None:
                    raise
            else:
                self._tls_of = new
        return self._tls


def _found(connection: Connection) -> Access:
    try:
        return find_access(connection.kubeconfig, connection.context)
    except Problems as wrong:
        raise KubeconfigWrong(wrong.problems) from None


def _seen(paths: Iterable[str]) -> Seen:
    found: list[tuple[int, int, int, int] | None] = []
    for path in paths:
        try:
            status = os.stat(path) if path else None  # noqa: PTH116 (before each request)
        except OSError:
            status = None
        found.append(status and (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _token(path: str) -> str:
    try:
        token = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise NoCredentials(
            f"{path}: the token cannot be read: {reason}; name a file that this user can read"
        ) from None
    if not token or not token.isprintable():
        what = "has more than one line" if token else "is empty"
        raise NoCredentials(f"{path}: {what}, where one token belongs; write a token into it")
    return token


def _authorization(user: User, token: str) -> tuple[tuple[str, str], ...]:
    if token:
        return (("Authorization", f"Bearer {token}"),)
    if user.username:
        both = b64encode(f"{user.username}:{user.password}".encode()).decode()
        return (("Authorization", f"Basic {both}"),)
    return ()


def _impersonation(user: User) -> tuple[tuple[str, str], ...]:
    """Source: kubernetes.io, "User impersonation"."""
    if not user.as_user:
        return ()
    headers = [("Impersonate-User", user.as_user)]
    headers += [("Impersonate-Uid", user.as_uid)] * bool(user.as_uid)
    headers += [("Impersonate-Group", group) for group in user.as_groups]
    for name, values in user.as_extra:
        headers += [(f"Impersonate-Extra-{quote(name, safe=_TOKEN_CHARACTERS)}", value) for value in values]
    return tuple(headers)
