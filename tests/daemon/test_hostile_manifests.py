"""The daemon over manifests that are no files, that hang, and that nobody can be told of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Cluster
from nodeport_nft.model import Ranges
from nodeport_nft.store import Store
from tests.cli.program import SCRIPT
from tests.daemon.running import Daemon, wait_for
from tests.hanging import Op, hanging
from tests.user_namespaces import UNSHARE, need_user_namespaces

LONG = 60.0
"""Seconds; several polls, on a slow machine."""

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: NodePort, ports: [{{port: 80, nodePort: {port}}}]}}
"""


def test_what_hangs_and_what_is_no_file_holds_up_nothing(cluster: Cluster, daemon: Daemon, tmp_path: Path) -> None:
    """Neither the start, nor other manifests, nor the end."""
    manifests = tmp_path / "manifests"
    (manifests / "far").mkdir(parents=True)
    os.mkfifo(manifests / "pipe.yaml")
    (manifests / "log.yaml").symlink_to("/proc/kmsg")
    (manifests / "masked.yaml").symlink_to("/dev/null")
    near = manifests / "near.yaml"
    near.write_text(MANIFEST.format(name="near", port=30010))

    def serves(name: str, port: int) -> bool:
        text = cluster.run("worker-1", ["nft", "list", "map", "ip", "nodeport-nft", "node-ports"]).stdout
        return any(f"default/{name}" in line and str(port) in line for line in text.splitlines())

    def told(text: str) -> bool:
        return any(text in problem for problem in daemon.status().problems)

    with hanging(manifests / "far", {"far.yaml": MANIFEST.format(name="far", port=30020)}) as server:
        server.hold("far.yaml", only=Op.READ)
        daemon.start("-f", str(manifests), seconds=LONG)
        assert serves("near", 30010)
        assert told("pipe.yaml: is a named pipe")
        assert told("log.yaml: is a file of the kernel's own")
        assert told("far.yaml: reading has taken more than 5 s")
        assert not told("masked.yaml")
        near.write_text(MANIFEST.format(name="near", port=30011))
        wait_for(lambda: serves("near", 30011), "a change beside what hangs", LONG)
        server.release()
        wait_for(lambda: serves("far", 30020), "what answers in the end", LONG)
        wait_for(lambda: not told("far.yaml"), "its problem gone", LONG)
        server.hold("far.yaml")
        near.write_text(MANIFEST.format(name="near", port=30012))
        wait_for(lambda: serves("near", 30012), "a change beside what hangs again", LONG)
        assert serves("far", 30020), "what it held stays in force"
        daemon.send(signal.SIGTERM)
        wait_for(lambda: _is_zombie(daemon.pid), "its end, as far as the kernel lets it", LONG)
        server.release()
        assert daemon.wait(LONG) == 0


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended, but for threads that the kernel cannot take out of a call."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


class _Alone:
    """A daemon in a user namespace of its own, with limits of its own (user_namespaces(7)); and what it has logged.

    It has no right to load tables of any size there; what is looked at is what it notices.
    """

    def __init__(self, directory: Path, limit: str, number: int) -> None:
        self.store = directory / "store" / "store.db"
        self.manifests = directory / "manifests"
        self.config = directory / "config.yaml"
        self._limit = limit
        self._log = directory / "log"
        self.manifests.mkdir()
        self.config.write_text("minSyncPeriod: 10ms\n")
        argv = [str(SCRIPT), "sync", "--store", str(self.store), "-f", str(self.manifests), "--log-format", "json"]
        argv += ["--config", str(self.config), "--node-name", "alone", "--node-ip", "192.0.2.1"]
        setting = f"echo {number} > /proc/sys/user/{limit}; ip link set lo up; exec "
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*UNSHARE, "sh", "-c", setting + '"$@"', "sh", *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [event for event in found if event["event"] == name]

    def told(self, where: str, text: str) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return any(event["where"] == where and text in event["problem"] for event in self.events("problem"))

    def gone(self, where: str, text: str) -> bool:
        return any(event["where"] == where and text in event["problem"] for event in self.events("problem gone"))

    def holds(self, name: str, port: int) -> bool:
        with Store(self.store, ranges=Ranges()) as store:
            stored = store.get("Service", "default", name)
            return stored is not None and stored.raw["spec"]["ports"][0]["nodePort"] == port

    def give(self, number: int) -> None:
        """Raise the limit, as an administrator does."""
        setting = f"echo {number} > /proc/sys/user/{self._limit}"
        subprocess.run(["nsenter", "--user", f"--target={self.process.pid}", "sh", "-c", setting], check=True)


@contextmanager
def alone(directory: Path, limit: str, number: int) -> Iterator[_Alone]:
    need_user_namespaces()
    made = _Alone(directory, limit, number)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


@pytest.mark.usefixtures("private_namespaces")
@pytest.mark.parametrize(
    ("limit", "sysctl"),
    [
        ("max_inotify_instances", "fs.inotify.max_user_instances"),
        ("max_inotify_watches", "fs.inotify.max_user_watches"),
    ],
)
def test_where_no_watches_are_left_it_looks_by_itself(tmp_path: Path, limit: str, sysctl: str) -> None:
    with alone(tmp_path, limit, 0) as daemon:
        where = ("manifests", "store", "configuration file")
        for part in where:
            wait_for(lambda part=part: daemon.told(part, sysctl), f"{part}: {sysctl}", LONG)  # type: ignore[misc]
        (daemon.manifests / "web.yaml").write_text(MANIFEST.format(name="web", port=30010))
        wait_for(lambda: daemon.holds("web", 30010), "a new manifest", LONG)
        (daemon.manifests / "web.yaml").write_text(MANIFEST.format(name="web", port=30011))
        wait_for(lambda: daemon.holds("web", 30011), "a changed manifest", LONG)
        daemon.config.write_text("minSyncPeriod: 20ms\n")
        wait_for(lambda: daemon.events("configuration read"), "the changed configuration", LONG)
        daemon.give(1000)
        for part in where:
            wait_for(lambda part=part: daemon.gone(part, sysctl), f"{part}: watches again", LONG)  # type: ignore[misc]
        (daemon.manifests / "web.yaml").write_text(MANIFEST.format(name="web", port=30012))
        wait_for(lambda: daemon.holds("web", 30012), "a manifest that is watched", LONG)
        daemon.process.terminate()
        assert daemon.process.wait(LONG) == 0


@pytest.mark.usefixtures("private_namespaces")
def test_a_configuration_is_read_though_its_event_was_lost(tmp_path: Path) -> None:
    """More happens beside it, while the daemon cannot take notice, than the kernel remembers."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    with alone(tmp_path, "max_inotify_instances", 100) as daemon:
        wait_for(lambda: daemon.events("sync") or daemon.events("sync failed"), "the first sync", LONG)
        daemon.config.write_text("minSyncPeriod: 20ms\n")
        wait_for(lambda: daemon.events("configuration read"), "the changed configuration", LONG)
        before = len(daemon.events("configuration read"))
        daemon.process.send_signal(signal.SIGSTOP)
        here, there = tmp_path / "here", tmp_path / "there"
        here.touch()
        for _ in range(limit // 4 + 1):  # two events a rename
            here.rename(there)
            there.rename(here)
        daemon.config.write_text("minSyncPeriod: 30ms\n")
        daemon.process.send_signal(signal.SIGCONT)
        wait_for(lambda: len(daemon.events("configuration read")) > before, "the configuration read again", LONG)
