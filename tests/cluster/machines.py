"""Three machines: on each a member of etcd with TLS and users, and a daemon that follows it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from nodeport_nft.config import Config, load_config
from nodeport_nft.model import Snapshot
from nodeport_nft.store import open_objects
from tests.cli.program import SCRIPT
from tests.daemon.running import CIDRS, untraced, wait_for
from tests.daemon.tables import held, node_facts, wanted
from tests.etcd.members import certificates

NODES = {"worker-1": "172.30.1.2", "worker-2": "172.30.2.2", "worker-3": "172.30.3.2"}
PODS = {"web-1": "worker-1", "web-2": "worker-2", "web-3": "worker-3"}
ROOT = Path(__file__).parents[2]
SECONDS = 90.0
"""For whatever has to come to pass on a slow machine."""

TOKEN_SECONDS = 4
"""After which a login that nobody has used has ended."""

QUOTA = 32 << 20
"""Bytes that each member's database may have."""

PREFIX = "lab"


@dataclass(frozen=True, slots=True)
class Files:
    """What one comes to etcd with, or is one of its members with."""

    ca: Path
    cert: Path
    key: Path


class Machines:
    """All that runs on them."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.password = directory / "password"
        self.password.write_text("password\n")
        self.password.chmod(0o600)
        with certificates(directory, "ca") as issue, certificates(directory, "other-ca") as issue_other:
            self.of_member = {name: _files(directory, issue, name, f"IP:{ip}") for name, ip in NODES.items()}
            self.of_node = {name: _files(directory, issue, f"node-{name}", f"DNS:{name}") for name in NODES}
            self.of_stranger = _files(directory, issue_other, "stranger", "IP:172.30.1.2,IP:172.30.2.2,IP:172.30.3.2")
        self._etcd: dict[str, subprocess.Popen[str]] = {}
        self._daemons: dict[str, subprocess.Popen[str]] = {}
        for node in NODES:
            self._configuration(node).write_text(json.dumps(self._settings(node)))

    def close(self) -> None:
        """End them all."""
        for process in (*self._daemons.values(), *self._etcd.values()):
            self.cluster.stop(process)

    # --- members ------------------------------------------------------------------------------------------

    def start_member(self, node: str, *, files: Files | None = None, joins: bool = False) -> None:
        """Start the member of a machine, or start it again. ``joins``: with nothing, one of those that are there."""
        own, peer = files or self.of_member[node], self.of_member[node]
        client_url, peer_url = f"https://{NODES[node]}:2379", f"https://{NODES[node]}:2380"
        command = [
            *("etcd", "--name", node, "--data-dir", str(self._data(node)), "--logger", "zap"),
            *("--listen-client-urls", client_url, "--advertise-client-urls", client_url),
            *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
            *("--initial-cluster", _peers(), "--initial-cluster-token", "lab"),
            *("--initial-cluster-state", "existing" if joins else "new"),
            *("--client-cert-auth", "--trusted-ca-file", str(own.ca)),
            *("--cert-file", str(own.cert), "--key-file", str(own.key)),
            *("--peer-client-cert-auth", "--peer-trusted-ca-file", str(peer.ca)),
            *("--peer-cert-file", str(peer.cert), "--peer-key-file", str(peer.key)),
            *("--auth-token-ttl", str(TOKEN_SECONDS), "--bcrypt-cost", "4", "--quota-backend-bytes", str(QUOTA)),
        ]
        with (self.directory / f"etcd-{node}.log").open("a") as log:
            self._etcd[node] = self.cluster.popen(node, command, stdout=log.fileno(), stderr=log.fileno())

    def end_member(self, node: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End the member of a machine; by default as a machine ends that loses its power."""
        process = self._etcd.pop(node)
        process.send_signal(number)
        process.wait(SECONDS)
        self.cluster.stop(process)

    def signal_member(self, node: str, number: signal.Signals) -> None:
        """Freeze the member of a machine, or let it go on."""
        self._etcd[node].send_signal(number)

    def begin(self) -> None:
        """Start all members, and let them ask for a user from now on."""
        for node in NODES:
            self.start_member(node)
        wait_for(lambda: self.leader(), "a leader", SECONDS)
        for words in (
            "user add root:secret",
            "user grant-role root root",
            "user add node:password",
            "role add node",
            f"role grant-permission node --prefix=true readwrite {PREFIX}/",
            "user grant-role node node",
            "auth enable",
        ):
            self.control(*words.split(), is_root=False)
        self.until_well()

    def until_well(self) -> None:
        """Return when each member says that it follows a leader."""
        wait_for(lambda: len(self.statuses()) == len(NODES), "three members that are well", SECONDS)

    def statuses(self) -> dict[str, Any]:
        """What the members that are well say of themselves."""
        done = self._etcdctl("endpoint", "status", "-w", "json", at=tuple(NODES), is_root=True)
        if done.returncode and not done.stdout:
            return {}
        names = {f"https://{ip}:2379": node for node, ip in NODES.items()}
        found = {names[each["Endpoint"]]: each["Status"] for each in json.loads(done.stdout)}
        return {node: status for node, status in found.items() if status.get("leader")}

    def leader(self) -> str:
        """The machine whose member leads, "" where none does."""
        for node, status in self.statuses().items():
            if status["leader"] == status["header"]["member_id"]:
                return node
        return ""

    def in_use(self, node: str) -> str:
        """The machine whose member the daemon of this one is connected to, "" for none."""
        pid = self._daemons[node].pid
        words = ["ss", "-tnpH", "state", "established", "dport", "=", ":2379"]
        for line in self.cluster.run(node, words).stdout.splitlines():
            if f"pid={pid}," in line:
                address = re.findall(r"([0-9.]+)\]?:2379\b", line)[-1]  # in brackets, where the socket is IPv6's
                return next(name for name, ip in NODES.items() if ip == address)
        return ""

    def used_by(self, node: str) -> str:
        """The machine whose member the daemon of this one is connected to, once there is one."""
        return str(wait_for(lambda: self.in_use(node), f"the daemon of {node} has a member", SECONDS))

    def control(self, *words: str, at: Sequence[str] = (), is_root: bool = True) -> str:
        """Run etcdctl on worker-1 until it succeeds; it asks all members, or only those of ``at``.

        Half a minute for an answer: what was given up and done all the same would be refused from then on.
        """
        patient = ("--command-timeout=30s", *words)
        done = wait_for(
            lambda: self._succeeded(patient, at or tuple(NODES), is_root=is_root), " ".join(words), SECONDS
        )
        assert isinstance(done, subprocess.CompletedProcess)
        return str(done.stdout)

    def _succeeded(self, words: Sequence[str], at: Sequence[str], *, is_root: bool) -> Any:
        done = self._etcdctl(*words, at=at, is_root=is_root)
        self._said = done.stderr
        return done if done.returncode == 0 else None

    def _etcdctl(self, *words: str, at: Sequence[str], is_root: bool) -> subprocess.CompletedProcess[str]:
        own = self.of_node["worker-1"]
        command = ["etcdctl", "--endpoints", ",".join(f"https://{NODES[node]}:2379" for node in at)]
        command += ["--cacert", str(own.ca), "--cert", str(own.cert), "--key", str(own.key)]
        command += ["--user", "root:secret"] if is_root else []
        env = {**os.environ, "ETCDCTL_API": "3"}
        return self.cluster.run("worker-1", [*command, *words], env=env, check=False, timeout=SECONDS)

    def lose_disk(self, node: str) -> None:
        """The member of a machine ends, with all it has."""
        self.end_member(node)
        shutil.rmtree(self._data(node))

    def restore(self, snapshot: Path) -> None:
        """Put a snapshot in the place of what all members have, as etcd's manual has it, and start them again."""
        for node in NODES:
            self.end_member(node, signal.SIGTERM)
        for node, ip in NODES.items():
            shutil.rmtree(self._data(node))
            words = ["etcdctl", "snapshot", "restore", str(snapshot), "--data-dir", str(self._data(node))]
            words += ["--name", node, "--initial-cluster", _peers(), "--initial-cluster-token", "lab"]
            words += ["--initial-advertise-peer-urls", f"https://{ip}:2380"]
            self.cluster.run(node, words, env={**os.environ, "ETCDCTL_API": "3"}, timeout=SECONDS)
        for node in NODES:
            self.start_member(node)

    def _data(self, node: str) -> Path:
        return self.directory / f"etcd-{node}"

    # --- the network between --------------------------------------------------------------------------------

    def cut_off(self, node: str) -> None:
        """Let nothing of etcd come to a machine or leave it: neither its own member's, nor what its daemon asks."""
        drop = "tcp dport 2379-2380 drop; tcp sport 2379-2380 drop;"
        chains = (f"chain {hook} {{ type filter hook {hook} priority 0; {drop} }}" for hook in ("input", "output"))
        self.cluster.nft(node, f"table inet cut {{ {'; '.join(chains)}; }}")

    def heal(self, node: str) -> None:
        """Undo ``cut_off``."""
        self.cluster.nft(node, "delete table inet cut")

    # --- nodeport-nft -----------------------------------------------------------------------------------------

    def start_daemon(self, node: str) -> None:
        """Start the daemon of a machine; it is not waited for."""
        command = [str(SCRIPT), "sync", "--config", str(self._configuration(node)), "--node-name", node]
        with self._log(node).open("a") as log:
            self._daemons[node] = self.cluster.popen(
                node,
                [*command, "--log-format", "json"],
                env=untraced(),
                stdout=subprocess.DEVNULL,
                stderr=log.fileno(),
            )

    def signal_daemon(self, node: str, number: signal.Signals) -> None:
        """Freeze the daemon of a machine, or let it go on."""
        self._daemons[node].send_signal(number)

    def use(self, node: str, files: Files) -> None:
        """Have the machine come to etcd with these; what is connected stays so."""
        for old, new in ((self._used(node).cert, files.cert), (self._used(node).key, files.key)):
            changed = old.with_suffix(".new")
            changed.write_bytes(new.read_bytes())
            changed.chmod(0o600)
            changed.replace(old)

    def events(self, node: str, name: str) -> list[dict[str, Any]]:
        """What the daemon of a machine has logged under a name."""
        lines = [line for line in self._log(node).read_text().splitlines(keepends=True) if line.endswith("\n")]
        assert not any("Traceback" in line for line in lines), "\n".join(lines)
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def until_told(self, node: str, text: str, since: int) -> None:
        """Return when the daemon tells of a problem that has a text, after as many problems as there were."""
        wait_for(
            lambda: any(re.search(text, json.dumps(event)) for event in self.events(node, "problem")[since:]),
            f"{node} tells {text}",
            SECONDS,
        )

    def run(self, node: str, *words: str, text: str = "") -> str:
        """What a command on a machine prints."""
        argv = [str(SCRIPT), *words, "--config", str(self._configuration(node))]
        return self.cluster.run(node, argv, text=text, timeout=SECONDS).stdout

    def writer(self, node: str) -> subprocess.Popen[str]:
        """Start a ``writer`` on a machine; its journal is named as the machine."""
        words = [sys.executable, "-m", "tests.cluster.writer", str(self._configuration(node)), node]
        return self.cluster.popen(
            node,
            [*words, str(self.journal(node))],
            env=untraced(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    def journal(self, node: str) -> Path:
        """Where the writer of a machine notes what came of its writes."""
        return self.directory / f"journal-{node}"

    def snapshot(self, node: str = "worker-1") -> Snapshot:
        """What is in etcd, as a machine reads it."""

        def read() -> Snapshot:
            with open_objects(self.config(node)) as store:
                return store.snapshot()

        return self.cluster.call(node, read, timeout=SECONDS)

    def complete_snapshot(self) -> Snapshot:
        """The same once every machine is registered: whoever was away for long is told of when it is back."""

        def read() -> Snapshot | None:
            snapshot = self.snapshot()
            away = [member for member in snapshot.members if member.lost_at or not member.is_live]
            return None if away else snapshot

        found: Snapshot = wait_for(read, "every machine is registered", SECONDS)
        return found

    def until_programmed(self, snapshot: Snapshot, nodes: Sequence[str] = tuple(NODES)) -> None:
        """Return when the tables of the machines are what a snapshot wants, which then is all there is."""
        for node in nodes:
            facts = node_facts(self.cluster, self.config(node), snapshot, node)
            want = wanted(snapshot, facts)
            wait_for(
                lambda node=node, facts=facts, want=want: held(self.cluster, facts, node).agrees(want),  # type: ignore[misc]
                f"the tables of {node} as etcd wants them",
                SECONDS,
            )

    def config(self, node: str) -> Config:
        """The configuration of a machine."""
        return load_config(str(self._configuration(node)), {})

    def _settings(self, node: str) -> dict[str, Any]:
        used = self._used(node)
        for path, source in ((used.cert, self.of_node[node].cert), (used.key, self.of_node[node].key)):
            path.write_bytes(source.read_bytes())
            path.chmod(0o600)
        return {
            "store": f"etcd://{','.join(NODES.values())}/{PREFIX}",
            "etcdCAFile": str(used.ca),
            "etcdCertFile": str(used.cert),
            "etcdKeyFile": str(used.key),
            "etcdUser": "node",
            "etcdPasswordFile": str(self.password),
            "stateDir": str(self.directory / node),
            "clusterCIDRs": CIDRS.split(","),
        }

    def _used(self, node: str) -> Files:
        ca = self.of_node[node].ca
        return Files(ca, self.directory / f"used-{node}.pem", self.directory / f"used-{node}.key")

    def _configuration(self, node: str) -> Path:
        return self.directory / f"{node}.yaml"

    def _log(self, node: str) -> Path:
        return self.directory / f"{node}.json"


def _files(directory: Path, issue: Any, name: str, alternative: str) -> Files:
    cert, key = issue(name, alternative)
    return Files(directory / "ca.pem", cert, key)


def _peers() -> str:
    return ",".join(f"{node}=https://{ip}:2380" for node, ip in NODES.items())
