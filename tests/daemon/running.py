"""The installed daemon on a node of the lab: started, asked, waited for, ended."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPConnection
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from nodeport_nft.config import Config
from nodeport_nft.observe.status import Status, from_json
from tests.cli.program import SCRIPT
from tests.daemon.objects import Desired
from tests.daemon.tables import State, held, node_facts, wanted

SECONDS = 60.0
"""How long anything is waited for that comes at once on a machine with nothing else to do."""

CIDRS = "10.244.0.0/16,fd00:244::/32"
CONFIG = Config(cluster_cidrs=tuple(map(ip_network, CIDRS.split(","))))


def wait_for(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """What the condition says, once it says something true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


def untraced() -> dict[str, str]:
    """The environment of a daemon, without coverage's tracer, which would take most of the time that one needs.

    What the report counts is by the tests that run the same code otherwise.
    """
    return {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_PROCESS")}


class Daemon:
    """A daemon on worker-1 over the store ``desired``; ``log`` outlives its processes."""

    def __init__(self, cluster: Cluster, directory: Path, desired: Desired, config: Config = CONFIG) -> None:
        self.cluster = cluster
        self.desired = desired
        self.config = replace(config, store=str(desired.path))
        self.directory = directory
        self.node = "worker-1"
        self._log = directory / "log.json"
        self._log.touch()
        self._process: subprocess.Popen[str] | None = None
        self._begin = 0

    # --- its life -------------------------------------------------------------------------------------------

    def spawn(self, *words: str, before: tuple[str, ...] = (), stderr: int | None = None) -> None:
        """Start a process, and do not wait for what it does. ``before``: the words of a program that starts it.

        ``stderr``: where it logs to, instead of what ``events`` reads.
        """
        assert self._process is None, "one daemon at a time"
        argv = [str(SCRIPT), "sync", "--store", str(self.desired.path), "--node-name", self.node]
        argv += ["--state-dir", str(self.directory), "--cluster-cidr", CIDRS, "--log-format", "json", *words]
        self._begin = self._log.stat().st_size
        with self._log.open("a") as log:
            self._process = self.cluster.popen(
                self.node,
                [*before, *argv],
                env=untraced(),
                stdout=subprocess.DEVNULL,
                stderr=stderr or log.fileno(),
                cwd=self.directory,
            )

    def start(self, *words: str, before: tuple[str, ...] = (), seconds: float = SECONDS) -> None:
        """Start a process; on return its first sync is done."""
        self.spawn(*words, before=before)
        wait_for(lambda: self._is_ready(), "the daemon's first sync", seconds)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        return bool(self.events("sync"))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def lives(self) -> bool:
        """Whether its process has not ended yet."""
        assert self._process is not None
        return self._process.poll() is None

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = SECONDS) -> int:
        """End it by a signal; its exit code."""
        assert self._process is not None
        if self.lives():
            self.send(number)
        code = self._process.wait(seconds)
        self._drop()
        return code

    def wait(self, seconds: float = SECONDS) -> int:
        """The exit code of one that ends by itself."""
        assert self._process is not None
        code = self._process.wait(seconds)
        self._drop()
        return code

    def kill(self) -> None:
        """``kill -9`` of the daemon alone. A child of it that is at a load goes on; on return that has ended, too."""
        assert self._process is not None
        group = self._process.pid
        os.kill(group, signal.SIGKILL)
        self._process.wait(SECONDS)
        wait_for(lambda: not _lives(group), "the end of the daemon's children", 60)
        self._drop()

    def close(self) -> None:
        """Let nothing be left running."""
        if self._process is not None:
            self.cluster.stop(self._process)
            self._process = None

    def _drop(self) -> None:
        assert self._process is not None
        self.cluster.stop(self._process)
        self._process = None

    def children(self) -> list[int]:
        """The processes that it has started and that run."""
        found: list[int] = []
        for children in Path(f"/proc/{self.pid}/task").glob("*/children"):  # of whichever thread has started it
            with suppress(OSError):  # a thread has ended meanwhile
                found += map(int, children.read_text().split())
        return found

    # --- what it says ---------------------------------------------------------------------------------------

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What this process has logged, oldest first; only events of this name if one is given."""
        with self._log.open("rb") as log:
            log.seek(self._begin)
            lines = log.read().decode().splitlines(keepends=True)
        found = [_read(line) for line in lines if line.endswith("\n")]
        assert not any("Traceback" in line for line in lines), "".join(lines)
        return [event for event in found if not name or event["event"] == name]

    def ask(self, path: str) -> str:
        """What it answers over HTTP."""
        connection = HTTPConnection("127.0.0.1", 10249)
        connection.sock = self.cluster.socket(self.node, socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(SECONDS)
            connection.sock.connect(("127.0.0.1", 10249))
            connection.request("GET", path, headers={"Connection": "close"})
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def status(self) -> Status:
        return from_json(self.ask("/status"))

    def repairs(self) -> float:
        """How many repairs it has counted."""
        found = re.findall(r'^nodeport_nft_repairs_total\{cause="\w+"\} (\S+)$', self.ask("/metrics"), re.MULTILINE)
        assert len(found) == 2, "a counter for each cause"
        return sum(map(float, found))

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another run of the program on this node."""
        return self.cluster.run(self.node, [str(SCRIPT), *words], check=False)

    # --- what is in force -----------------------------------------------------------------------------------

    def held(self) -> State:
        """What the kernel's tables hold."""
        return held(self.cluster, self._facts(), self.node)

    def wanted(self) -> State:
        """What they should hold, by the store as it is."""
        return wanted(self.desired.snapshot(), self._facts())

    def _facts(self) -> Any:
        return node_facts(self.cluster, self.config, self.desired.snapshot(), self.node)

    def follow(self, change: Callable[[], None]) -> None:
        """Make a change of what is desired; on return there has been a sync since, or there was nothing to write.

        Together with a change before it, which has not been written yet, it may come to nothing.
        """
        with self._log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            change()
            begun, looks, told = time.monotonic(), 1, b""
            while b'"event": "sync"' not in told:
                if time.monotonic() > begun + looks:
                    if self.held() == self.wanted():
                        return
                    looks += 1
                assert time.monotonic() < begun + SECONDS, f"not within {SECONDS:g} s: a sync after a change"
                time.sleep(0.001)
                told += log.read()

    def settle(self, seconds: float = SECONDS) -> None:
        """Wait until the tables hold what they should, and nothing besides."""
        want = self.wanted()
        wait_for(lambda: self.held() == want, "tables as the store wants them", seconds)


def _read(line: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        found = {"event": "", "text": line}
    return found


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
