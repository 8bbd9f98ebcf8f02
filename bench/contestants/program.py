"""The installed program: its daemon over an SQLite store, started as a service manager starts it."""

from __future__ import annotations

import compileall
import os
import site
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nodeport_nft
from bench.contestants.contestant import CHANGE_SECONDS, START_SECONDS, Contestant, Memory
from bench.measuring import ChildrenPeak, NotDone, ended, memory, processor_seconds
from bench.node import Node
from bench.workload import NODE, NOW, POD_CIDR, RANGES, Change, Workload, parsed
from nodeport_nft.store import Store

PROGRAM = Path(sys.executable).with_name("nodeport-nft")


def compile_program() -> None:
    """Compile the program's modules and those of its libraries, as pip does when it installs them.

    From a checkout, Python does so by itself when it first imports them; unless somebody has told it not to write
    (PYTHONDONTWRITEBYTECODE), and then each start would be measured with the 0.3 s that it takes.
    """
    compileall.compile_dir(Path(nodeport_nft.__file__).parent, quiet=2)
    for directory in site.getsitepackages():
        compileall.compile_dir(directory, quiet=2)


class Daemon:
    """``nodeport-nft sync`` on a node, with more words, from its start to its end."""

    def __init__(self, node: Node, words: Sequence[str], *, state: Path, environment: Mapping[str, str] = {}) -> None:
        self.node, self._words, self._state, self._environment = node, words, state, environment
        self.process: subprocess.Popen[bytes] | None = None
        self._children: ChildrenPeak | None = None

    def start(self) -> float:
        """Seconds from the start of the program until READY=1. Raises NotDone, the log's end with it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, tempfile.TemporaryDirectory() as directory:
            address, log = f"{directory}/notify", Path(directory, "log")
            manager.bind(address)
            manager.settimeout(1)
            command = [str(PROGRAM), "sync", "--node-name", NODE, "--cluster-cidr", POD_CIDR]
            command += ["--state-dir", str(self._state), *self._words]
            environment = {**os.environ, "NOTIFY_SOCKET": address, **self._environment}
            with log.open("wb") as file:
                begin = time.perf_counter()
                self.process = self.node.start(command, env=environment, stdout=file, stderr=file)
            self._children = ChildrenPeak(self.process.pid)
            while True:
                try:
                    if b"READY=1" in manager.recv(4096):
                        return time.perf_counter() - begin
                except TimeoutError:
                    if self.process.poll() is None and time.perf_counter() - begin < START_SECONDS:
                        continue
                    self.stop()
                    raise NotDone(f"the daemon is not ready: {log.read_text(errors='replace')[-2_000:]}") from None

    def stop(self) -> None:
        if self.process is not None:
            ended(self.process)
            self.process = None

    def memory(self) -> Memory:
        assert self.process is not None
        assert self._children is not None
        pid = self.process.pid
        return Memory(memory(pid, "VmRSS"), memory(pid, "VmHWM"), self._children.megabytes)

    def processor_seconds(self) -> float:
        assert self.process is not None
        return processor_seconds(self.process.pid)


class Program(Contestant):
    """A change is a transaction of another process; the clock starts just before its COMMIT, the fsync included."""

    name = "nodeport-nft"

    def __init__(self, node: Node, directory: Path) -> None:
        super().__init__(node)
        self._store: Store | None = None
        self._path = directory / "store.db"
        self._daemon = Daemon(node, ["--store", str(self._path)], state=directory / "state")

    def fill(self, workload: Workload) -> None:
        self.workload = workload
        self._store = Store(self._path, ranges=RANGES)
        with self._store.transaction() as transaction:
            transaction.apply(list(workload.objects()), now=NOW)

    def start(self) -> float:
        return self._daemon.start()

    def stop(self) -> None:
        self._daemon.stop()

    def change(self, change: Change) -> float:
        assert self._store is not None
        with self.node.listen(seconds=CHANGE_SECONDS) as commits:
            with self._store.transaction() as transaction:
                if change.deletes:
                    transaction.delete(*change.key)
                else:
                    transaction.apply([parsed(change.document)], now=NOW)
                begin = time.perf_counter()
            return commits.last() - begin

    def memory(self) -> Memory:
        return self._daemon.memory()

    def processor_seconds(self) -> float:
        return self._daemon.processor_seconds()

    def close(self) -> None:
        self.stop()
        if self._store is not None:
            self._store.close()
