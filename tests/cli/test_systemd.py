"""contrib/systemd: the unit as systemd's own tools see it, and the daemon under the unit's restrictions.

No systemd runs here. What it would do to the process is read from the unit and done with setpriv(1), prctl(2) and
mounts, so that the unit cannot ask for less than the daemon needs; the test plays the service manager's end of
sd_notify(3). System call filters and hidden paths are not imitated.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from nodeport_nft.config import load_config
from nodeport_nft.settings import KEYS, SETTINGS
from tests.cli.program import SCRIPT

CONTRIB = Path(__file__).parents[2] / "contrib" / "systemd"
UNIT = CONTRIB / "nodeport-nft.service"
NO_PORTS = CONTRIB / "no-ports.conf"
SOCKET = CONTRIB / "nodeport-nft.socket"
EXAMPLE = Path(__file__).parents[2] / "examples" / "my-ser.yaml"
PATIENCE = 60.0

READ_ONLY = """
mount --make-rprivate / && mount --bind "$0" "$0" && mount --bind /proc/sys /proc/sys &&
mount --bind /run/nodeport-nft /mnt && mount -t tmpfs run /run && mkdir /run/nodeport-nft &&
mount --bind /mnt /run/nodeport-nft && umount /mnt && mount -o remount,ro /run &&
mount -o remount,bind,ro /proc/sys && mount -o remount,bind,ro / && exec "$@"
"""
"""ProtectSystem=strict with one StateDirectory, ProtectKernelTunables=yes, and a /run of its own with BindPaths."""

REFUSE_EXEC_GAIN = """
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0) and ctypes.get_errno() != 22:
    sys.exit("prctl(PR_SET_MDWE) failed")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""MemoryDenyWriteExecute=yes as the kernel does it, from Linux 6.3 on (PR_SET_MDWE; before that it says EINVAL)."""

PASS_SOCKETS = """
import ctypes, fcntl, os, platform, socket, struct, sys
ports = [int(port) for port in sys.argv[1].split(",")]
opened = [fcntl.fcntl(socket.create_server(("127.0.0.1", port)).detach(), fcntl.F_DUPFD, 50) for port in ports]
for number, each in enumerate(opened, 3):
    os.dup2(each, number)
    os.set_inheritable(number, True)
os.environ.update(LISTEN_FDS=str(len(ports)), LISTEN_PID=str(os.getpid()))
number = {"x86_64": 41, "aarch64": 198}[platform.machine()]  # socket(2)
rules = [(0x20, 0, 0, 0), (0x15, 0, 4, number), (0x20, 0, 0, 16), (0x15, 1, 0, socket.AF_INET),
         (0x15, 0, 1, socket.AF_INET6), (6, 0, 0, 0x50000 | 97), (6, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *map(int, rule)) for rule in rules))
program = struct.pack("H6xP", len(rules), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What nodeport-nft.socket passes; and RestrictAddressFamilies= of no-ports.conf, by seccomp(2) as systemd does."""


def settings() -> dict[str, list[str]]:
    """The unit's settings, each with all its values in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if re.match(r"[A-Za-z]+=", line):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def confined(directory: Path) -> list[str]:
    """What comes before a command that is to run as the unit lets it, with ``directory`` as its state."""
    unit = settings()
    (names,) = unit["CapabilityBoundingSet"]
    kept = [f"+{name.removeprefix('CAP_').lower()}" for name in names.split()]
    words = ["setpriv", "--inh-caps=-all", f"--bounding-set={','.join(['-all', *kept])}"]
    if unit["NoNewPrivileges"] == ["yes"]:
        words.append("--no-new-privs")
    if unit["MemoryDenyWriteExecute"] == ["yes"]:
        words += [sys.executable, "-IS", "-c", REFUSE_EXEC_GAIN]
    assert unit["TemporaryFileSystem"] == ["/run:ro"]
    assert "/run/nodeport-nft" in unit["BindPaths"]
    for name in unit["RuntimeDirectory"]:
        Path("/run", name).mkdir(mode=int(unit["RuntimeDirectoryMode"][0], 8), exist_ok=True)
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["ProtectKernelTunables"] == ["yes"]
    return ["unshare", "--mount", "sh", "-c", READ_ONLY, str(directory), *words]


def command(name: str, **values: str) -> list[str]:
    """A command of the unit, with variables in their place."""
    (line,) = settings()[name]
    words: list[str] = []
    for word in shlex.split(line):
        words += values[word.removeprefix("$")].split() if word.startswith("$") else [word]
    return words


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def close(self) -> None:
        self._socket.close()

    def wait(self, assignment: str) -> dict[str, str]:
        """The next message with this assignment; what comes before it is let go, watchdog and states alike."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            lines = self._socket.recv(1 << 16).decode().splitlines()
            if assignment in lines:
                return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def daemon(cluster: Cluster, tmp_path: Path, manager: Manager) -> Iterator[subprocess.Popen[str]]:
    """The daemon on worker-1 as the unit starts it, over a store that root has made with all its powers."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    store = str(state / "store.db")
    cluster.run("worker-1", [str(SCRIPT), "apply", "-f", str(EXAMPLE), "--store", store])
    program = command("ExecStart", NODEPORT_NFT_FLAGS=f"--node-name worker-1 --store {store}")
    assert Path(program[0]).name == SCRIPT.name
    # What is measured could not be written, on a file system that is read-only.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with (tmp_path / "log").open("w") as log:  # a file, for nobody reads a pipe while the daemon runs
        process = cluster.popen(
            "worker-1",
            [*confined(state), str(SCRIPT), *program[1:]],
            env={**env, "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "200000"},
            stderr=log.fileno(),
        )
    yield process
    cluster.stop(process)


def test_the_daemon_under_the_units_restrictions(
    cluster: Cluster, tmp_path: Path, manager: Manager, daemon: subprocess.Popen[str]
) -> None:
    told = manager.wait("READY=1")
    assert told["STATUS"] == "1 services on 172.30.1.2"
    assert "default/my-ser" in cluster.ruleset("worker-1"), "READY=1 says that the tables are there"

    status = Path(f"/proc/{daemon.pid}/status").read_text()
    held = re.findall(r"^(?:CapPrm|CapEff|CapBnd):\t([0-9a-f]+)$", status, re.MULTILINE)
    assert {int(mask, 16) for mask in held} == {1 << 12}, "CAP_NET_ADMIN and no other"
    assert "NoNewPrivs:\t1\n" in status

    for _ in range(3):
        manager.wait("WATCHDOG=1")

    # Root writes to the store with all its powers, and the daemon reads on in files that root has made or changed.
    store = tmp_path / "state" / "store.db"
    more = ["create", "service", "nodeport", "another", "--tcp=80:8080", "--store", str(store)]
    cluster.run("worker-1", [str(SCRIPT), *more])
    deadline = time.monotonic() + PATIENCE
    while "default/another" not in cluster.ruleset("worker-1"):
        assert time.monotonic() < deadline
        manager.wait("WATCHDOG=1")

    cluster.run("worker-1", [*confined(tmp_path / "state"), *reload_command(daemon.pid)])
    began = manager.wait("RELOADING=1")
    assert 0 < int(began["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    manager.wait("READY=1")

    # The service sees the locks that a person's commands see.
    refused = cluster.run("worker-1", [str(SCRIPT), "cleanup", "--store", str(store)], check=False)
    assert f"a daemon programs this node (pid {daemon.pid})" in refused.stderr

    daemon.send_signal(signal.SIGTERM)
    manager.wait("STOPPING=1")
    code = daemon.wait(PATIENCE)
    said = (tmp_path / "log").read_text()
    assert code == 0, said
    assert "Traceback" not in said, said
    assert "default/another" in cluster.ruleset("worker-1"), "an end leaves the rules"


def test_without_ip_sockets_the_daemon_answers_on_passed_ones(
    cluster: Cluster, tmp_path: Path, manager: Manager
) -> None:
    """With no-ports.conf: all is served, and what cannot be opened is told."""
    assert "RestrictAddressFamilies=AF_NETLINK AF_UNIX\n" in NO_PORTS.read_text()
    listens = re.findall(r"^ListenStream=127\.0\.0\.1:(\d+)$", SOCKET.read_text(), re.MULTILINE)
    config = load_config(os.devnull, {})
    assert config.healthz_address
    assert config.metrics_address
    assert listens == [str(config.healthz_address[1]), str(config.metrics_address[1])]

    store = str(tmp_path / "store.db")
    manifest = tmp_path / "local.yaml"
    manifest.write_text(EXAMPLE.read_text() + LOCAL)
    cluster.run("worker-1", [str(SCRIPT), "apply", "-f", str(manifest), "--store", store])
    daemon = [str(SCRIPT), "sync", "--node-name", "worker-1", "--store", store]
    with (tmp_path / "log").open("w") as log:
        process = cluster.popen(
            "worker-1",
            [sys.executable, "-c", PASS_SOCKETS, ",".join(listens), *daemon],
            env={**os.environ, "NOTIFY_SOCKET": str(manager.path)},
            stderr=log.fileno(),
        )
    try:
        manager.wait("READY=1")
        assert "default/my-ser" in cluster.ruleset("worker-1")
        for path in (f"{listens[0]}/livez", f"{listens[1]}/metrics"):
            cluster.run("worker-1", ["curl", "-sf", "--max-time", "30", f"http://127.0.0.1:{path}"])
        deadline = time.monotonic() + PATIENCE
        while "healthCheckNodePort 32000 cannot be opened" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        assert "BindAddress" not in (tmp_path / "log").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        cluster.stop(process)
    assert "Traceback" not in (tmp_path / "log").read_text()


LOCAL = """
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  selector: {app: my-app}
  ports: [{port: 80}]
"""


def reload_command(pid: int) -> list[str]:
    program, *words = command("ExecReload", MAINPID=str(pid))
    found = shutil.which(program)
    assert found, f"{program} is missing; install procps"
    return [found, *words]


def systemd_analyze(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (package systemd)")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=60)


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    (program, *_) = command("ExecStart", NODEPORT_NFT_FLAGS="")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(program, str(SCRIPT)))
    (tmp_path / f"{UNIT.name}.d").mkdir()
    shutil.copy(NO_PORTS, tmp_path / f"{UNIT.name}.d")
    shutil.copy(SOCKET, tmp_path)
    done = systemd_analyze("verify", str(copy), str(tmp_path / SOCKET.name))
    about_ours = [line for line in (done.stdout + done.stderr).splitlines() if "nodeport-nft" in line]
    assert (done.returncode, about_ours) == (0, [])


def test_systemd_finds_no_fault_in_the_unit_of_the_dns_server() -> None:
    """tests/daemon/dns.py starts what it says, with the rights that it leaves."""
    unit = CONTRIB.parent / "dns" / "nodeport-nft-dns.service"
    done = systemd_analyze("verify", "--man=no", str(unit))
    about_ours = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert (done.returncode, about_ours) == (0, [])


def test_the_readme_tells_the_units_scores(tmp_path: Path) -> None:
    """Of the unit as it is, and with the drop-in."""
    readme = (CONTRIB / "README.md").read_text()
    told = re.findall(r"exposure level ([0-9]+\.[0-9])", readme)
    known = re.search(r"\(systemd (\d+)", readme)
    assert known
    version = systemd_analyze("--version").stdout.split()[1]
    if version != known[1]:
        pytest.skip(f"this is systemd {version}; each version counts in its own way")
    scores = []
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text())
    for drop_in in ("", NO_PORTS.read_text()):
        (tmp_path / f"{UNIT.name}.d").mkdir(exist_ok=True)
        (tmp_path / f"{UNIT.name}.d" / NO_PORTS.name).write_text(drop_in)
        done = systemd_analyze("security", "--offline=true", str(unit))
        score = re.search(r"exposure level for nodeport-nft\.service: ([0-9.]+) ", done.stdout)
        assert score, done.stderr
        scores.append(score[1])
    assert scores == told


def test_the_configuration_shows_the_defaults(tmp_path: Path) -> None:
    """Each commented line is a key with its default, but for the examples of keys without one."""
    text = (CONTRIB / "config.yaml").read_text()
    assert load_config(str(CONTRIB / "config.yaml"), {}) == load_config(os.devnull, {})
    examples = tuple(each.key for each in SETTINGS if not each.default)
    lines = re.findall(r"^#([A-Za-z]+: .*)$", text, re.MULTILINE)
    assert sorted(line.partition(":")[0] for line in lines) == sorted(KEYS)
    (restart,) = re.findall(r"Only ([A-Za-z, \n#]+?)\s+need a restart", text)
    assert re.findall(r"[A-Za-z]{5,}", restart) == [each.key for each in SETTINGS if each.restart]
    written = tmp_path / "config.yaml"
    written.write_text("\n".join(line for line in lines if not line.startswith(examples)))
    assert load_config(str(written), {}) == load_config(os.devnull, {})
    written.write_text("\n".join(lines))
    assert load_config(str(written), {}) != load_config(os.devnull, {})
