"""Real etcd members of Debian's package, on the loopback of a private network namespace.

All of it runs in a child process that a test forks into the namespace (``in_etcd``): grpc keeps threads, and the
process of the tests, which forks on, must not have any.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lab.namespaces import Namespace, in_namespace
from nodeport_nft.store.etcd import open_client
from nodeport_nft.store.etcd.address import Connection, parse_connection

Result = TypeVar("Result")

PREFIX = "test/nodeport-nft"
WAIT = 60.0
"""Seconds for whatever has to come to pass on a slow machine."""

_PING_LIMIT = "300ms"


def in_etcd(scenario: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """What a scenario returns that runs in a network namespace of its own; what it started ends with it."""
    namespace = Namespace()

    def run() -> Result:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=WAIT)
        return asyncio.run(scenario())

    try:
        return in_namespace(namespace, run, timeout=3 * WAIT)
    finally:
        namespace.close()


class Member:
    """One etcd process and its directory."""

    def __init__(self, index: int, directory: Path, *, scheme: str, cluster: str, arguments: tuple[str, ...]) -> None:
        self.name = f"m{index}"
        self.directory = directory / self.name
        self.client_port = 2379 + 10 * index
        self.peer = f"http://127.0.0.1:{2380 + 10 * index}"
        self.url = f"{scheme}://127.0.0.1:{self.client_port}"
        self._cluster = cluster
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again with what it has on its disk."""
        command = [
            *("etcd", "--name", self.name, "--data-dir", str(self.directory), "--logger", "zap"),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer),
            *("--initial-cluster", self._cluster, "--initial-cluster-token", "test"),
            *("--grpc-keepalive-min-time", _PING_LIMIT, *self._arguments),
        ]
        with self.directory.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        """Freeze it, let it go on, kill it."""
        assert self._process is not None
        self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait(WAIT)

    def kill(self) -> None:
        """As a machine that loses its power."""
        self.signal(signal.SIGKILL)


class Members:
    """A cluster of etcd."""

    def __init__(
        self, count: int, directory: Path, *, arguments: tuple[str, ...] = (), is_secure: bool = False
    ) -> None:
        cluster = ",".join(f"m{index}=http://127.0.0.1:{2380 + 10 * index}" for index in range(count))
        scheme = "https" if is_secure else "http"
        self.all = [
            Member(index, directory, scheme=scheme, cluster=cluster, arguments=arguments) for index in range(count)
        ]
        self._directory = directory

    def start(self) -> None:
        """Start all of them."""
        for member in self.all:
            member.start()

    def connection(self, **settings: Any) -> Connection:
        """How to come to all of them."""
        hosts = ",".join(f"127.0.0.1:{member.client_port}" for member in self.all)
        return parse_connection(f"etcd://{hosts}/{settings.pop('prefix', PREFIX)}", **settings)

    async def ready(self, **settings: Any) -> None:
        """Return when each has a leader and answers."""
        for member in self.all:
            only = parse_connection(f"etcd://127.0.0.1:{member.client_port}/{PREFIX}", **settings)
            async with open_client(only, timings(patience=WAIT)) as client:
                await client.get("ready")

    async def leader(self) -> Member:
        """The one that leads now."""
        while True:
            async with open_client(self.connection(), timings()) as client:
                for member, status in zip(self.all, await client.status(), strict=True):
                    if not isinstance(status, Exception) and status.leader and status.leader == status.member:
                        return member
            await asyncio.sleep(0.1)

    def at(self, endpoint: object) -> Member:
        """The member behind an endpoint of the client's."""
        return next(member for member in self.all if str(endpoint) == f"127.0.0.1:{member.client_port}")

    def control(self, *words: str, stdin: str = "") -> str:
        """Run etcdctl at the first member."""
        done = subprocess.run(
            ["etcdctl", "--command-timeout=50s", "--endpoints", self.all[0].url, *words],
            env={**os.environ, "ETCDCTL_API": "3"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def restore(self, snapshot: Path) -> None:
        """Put a snapshot in the place of what all have, and start them again: the same names, addresses and token."""
        for member in self.all:
            member.signal(signal.SIGTERM)
        for member in self.all:
            shutil.rmtree(member.directory)
            self.control(
                *("snapshot", "restore", str(snapshot), "--data-dir", str(member.directory), "--name", member.name),
                *("--initial-cluster", ",".join(f"{one.name}={one.peer}" for one in self.all)),
                *("--initial-cluster-token", "test", "--initial-advertise-peer-urls", member.peer),
            )
        self.start()


def timings(**other: float) -> Any:
    """Short ones: what is awaited in a test is a failure."""
    from nodeport_nft.store.etcd.calls import Timings

    short = {
        "connect": 2.0,
        "call": 3.0,
        "patience": 10.0,
        "pause": 0.1,
        "keepalive": 0.5,
        "keepalive_answer": 1.0,
        "silence": 20.0,
    }
    return Timings(**{**short, **other})


def patient(**other: float) -> Any:
    """For who breaks nothing: what takes long is waited for. A write that has no answer in time is not repeated."""
    return timings(**{"call": WAIT, "patience": WAIT, "keepalive_answer": WAIT, **other})


@contextlib.contextmanager
def certificates(directory: Path, name: str) -> Iterator[Callable[[str, str], tuple[Path, Path]]]:
    """A certificate authority called ``name``; what is given makes a key and a certificate for a name and its SAN."""
    key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}")  # fmt: skip

    def issue(subject: str, alternative: str) -> tuple[Path, Path]:
        own_key, own = directory / f"{subject}.key", directory / f"{subject}.pem"
        request, extensions = directory / f"{subject}.csr", directory / f"{subject}.ext"
        extensions.write_text(f"subjectAltName={alternative}\nextendedKeyUsage=serverAuth,clientAuth\n")
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", str(own_key), "-out", str(request), "-subj", f"/CN={subject}")  # fmt: skip
        _openssl("x509", "-req", "-in", str(request), "-CA", str(certificate), "-CAkey", str(key), "-CAcreateserial",
                 "-days", "2", "-extfile", str(extensions), "-out", str(own))  # fmt: skip
        return own, own_key

    yield issue


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=WAIT)
