"""Credentials from a program: the exec plugins of kubeconfigs, as cloud providers and single sign-on have them.

A plugin is told what for in its environment, and prints an ``ExecCredential``. It is run again when what it gave has
expired, or was refused. It may be anything, so it is waited for only so long, and gets no terminal.

Source: kubernetes.io, "Authenticating", client-go credential plugins; client.authentication.k8s.io/v1.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import signal
import time
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nodeport_nft.config.kubeconfig import NO_PEM, Cluster, Pem, Plugin
from nodeport_nft.problems import clipped
from nodeport_nft.store.kubernetes.errors import NoCredentials
from nodeport_nft.trust import file_fault

_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """What a plugin gave: a token, a certificate with its key, or both. ``until``: in seconds since 1970."""

    token: str = field(default="", repr=False)
    certificate: Pem = NO_PEM
    key: Pem = NO_PEM
    until: float = math.inf

    @property
    def is_good(self) -> bool:
        """Whether it has not expired."""
        return time.time() < self.until


async def run_plugin(plugin: Plugin, cluster: Cluster, seconds: float) -> Credential:
    """Run it and take what it gives within so many seconds. Raises NoCredentials with what it said and the remedy."""
    path = _program(plugin)
    environment = {**os.environ, **dict(plugin.environment), "KUBERNETES_EXEC_INFO": _task(plugin, cluster)}
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            *plugin.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NoCredentials(f"plugin {path}: cannot be run: {reason}{_hint(plugin)}") from None
    assert process.stdout is not None
    assert process.stderr is not None
    has_ended = False
    try:
        async with asyncio.timeout(seconds):
            printed, said = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
        has_ended = True
    except TimeoutError:
        raise NoCredentials(
            f"plugin {path}: gave nothing within {seconds:g} s; run it by hand to see what it waits for"
        ) from None
    finally:
        if not has_ended:
            # Its children as well, which may hold the pipes. Of one that has ended they may live on: agents do.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code:
        raise NoCredentials(f"plugin {path}: failed with code {code}{_words(said)}{_hint(plugin)}")
    try:
        return credential(plugin, printed)
    except ValueError as error:
        raise NoCredentials(f"plugin {path}: {error}{_words(said)}; run it by hand to see what it prints") from None


async def _read(stream: asyncio.StreamReader) -> bytes:
    """All of a stream, what is too much left out."""
    content = b""
    while part := await stream.read(1 << 16):
        content += part[: _MOST_BYTES - len(content)]
    return content


def _program(plugin: Plugin) -> str:
    """The path of the program. It will run as we do, so nobody else may have written it."""
    path = plugin.command if "/" in plugin.command else shutil.which(plugin.command)
    if path is None or not Path(path).exists():
        where = "" if "/" in plugin.command else " in $PATH"
        hint = _hint(plugin) or "; install it, or name its path in the kubeconfig (users, exec.command)"
        raise NoCredentials(f"plugin {plugin.command}: there is no such program{where}{hint}")
    if fault := file_fault(path):
        raise NoCredentials(f"plugin {path}: {fault}")
    return path


def _task(plugin: Plugin, cluster: Cluster) -> str:
    """What the plugin is asked for."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.tells_cluster:
        try:
            ca = cluster.ca.data or (Path(cluster.ca.path).read_bytes() if cluster.ca.path else b"")
        except OSError as error:
            raise NoCredentials(f"{cluster.ca.path}: {error.strerror}; is it the authority's file?") from None
        told = {
            "server": cluster.server,
            "tls-server-name": cluster.tls_server_name,
            "insecure-skip-tls-verify": not cluster.is_verified,
            "certificate-authority-data": b64encode(ca).decode(),
            "proxy-url": cluster.proxy,
            "disable-compression": not cluster.is_compressed,
            "config": cluster.exec_config,
        }
        spec["cluster"] = {name: value for name, value in told.items() if value}
    return json.dumps({"apiVersion": plugin.version, "kind": "ExecCredential", "spec": spec})


def credential(plugin: Plugin, printed: bytes) -> Credential:
    """What was printed. Raises ValueError, which never quotes it: it holds a secret."""
    try:
        said = json.loads(printed)
    except (ValueError, RecursionError):
        raise ValueError("printed no JSON" if printed.strip() else "printed nothing") from None
    if not isinstance(said, dict) or said.get("kind") != "ExecCredential":
        raise ValueError("printed no ExecCredential")
    if said.get("apiVersion") != plugin.version:
        raise ValueError(
            f"printed version {clipped(str(said.get('apiVersion')))}, and the kubeconfig says {plugin.version} "
            "(users, exec.apiVersion)"
        )
    status = said.get("status")
    status = status if isinstance(status, dict) else {}
    names = ("token", "clientCertificateData", "clientKeyData", "expirationTimestamp")
    values = {name: status.get(name) or "" for name in names}
    if wrong := [name for name, value in values.items() if not isinstance(value, str)]:
        raise ValueError(f"printed no text as status.{wrong[0]}")
    token, certificate, key, until = (values[name] for name in names)
    if bool(certificate) != bool(key):
        raise ValueError("printed only one of status.clientCertificateData and status.clientKeyData")
    if not token and not certificate:
        raise ValueError("printed neither status.token nor status.clientCertificateData")
    if not token.strip().isprintable():
        raise ValueError("printed a token with line breaks in it")
    return Credential(token.strip(), Pem(data=certificate.encode()), Pem(data=key.encode()), _until(until))


def _until(text: str) -> float:
    if not text:
        return math.inf
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("printed no time (RFC 3339) as status.expirationTimestamp") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _words(said: bytes) -> str:
    """The last line of what a plugin said on stderr."""
    lines = said.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f' ("{clipped(last, 200)}")' if last else ""


def _hint(plugin: Plugin) -> str:
    return f"; {clipped(plugin.install_hint, 300)}" if plugin.install_hint else ""
