"""docs/cluster.md, word for word: three machines from nothing, in the order in which a person types it (C1)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.probe import connect
from tests.cli.program import SCRIPT
from tests.cluster.machines import NODES, ROOT, SECONDS
from tests.daemon.running import wait_for

pytestmark = pytest.mark.proves("C1")

PODS = {"web-1": "worker-1", "web-2": "worker-1", "web-3": "worker-2"}  # as in examples/my-ser.yaml
MOST_COMMANDS = 10

INSTALLED = ("apt-get install ", "python3 -m venv ", "/opt/nodeport-nft/bin/pip install ")
"""What the machines of the test have already."""

REPLACED = {
    # No systemd runs here: this is what the unit of Debian's package does.
    "systemctl restart --no-block etcd": "set -a; . /etc/default/etcd; set +a; "
    "setpriv --reuid etcd --regid etcd --clear-groups etcd --logger zap >> /var/lib/etcd.log 2>&1 &",
    # A terminal of its own.
    "nodeport-nft sync --set-sysctls": "nodeport-nft sync --set-sysctls > /var/lib/sync.log 2>&1 &",
}

PRIVATE = """
set -e
hostname "$1"
for path in /etc /var/lib /run /opt /usr/local/bin; do mount --bind "$0$path" $path; done
shift
exec sh -e -c "$@"
"""
"""Gives a shell the folders that a machine has for itself."""


@dataclass(frozen=True, slots=True)
class Block:
    """Commands, and whether each machine gets them."""

    is_for_each: bool
    commands: tuple[str, ...]


def blocks() -> list[Block]:
    """The code blocks of the section "From nothing", in order."""
    text = (ROOT / "docs" / "cluster.md").read_text()
    section = text.partition("## From nothing\n")[2].partition("\n## ")[0]
    found = re.findall(r"On (each machine|any one of them)\b(?:(?!```).)*?```sh\n(.*?)```", section, re.DOTALL)
    assert len(found) == section.count("```sh"), "a code block without a word about where it is typed"
    return [Block(where == "each machine", commands(typed)) for where, typed in found]


def commands(typed: str) -> tuple[str, ...]:
    """The commands of a code block: one a line, but for what is read up to EOF."""
    return tuple(re.findall(r"[^\n]*<<EOF\n.*?\nEOF|[^\n]+", typed, re.DOTALL))


class Machine:
    """A host of the lab with an /etc, a /var/lib and whatever else a fresh machine has for itself."""

    def __init__(self, cluster: Cluster, name: str, directory: Path) -> None:
        self._cluster = cluster
        self._name = name
        self._directory = directory
        self._groups: list[int] = []
        for path in ("etc", "var/lib/etcd", "run", "opt/nodeport-nft", "usr/local/bin"):
            (directory / path).mkdir(parents=True)
        subprocess.run(["cp", "-a", "/etc/.", str(directory / "etc")], check=True, timeout=SECONDS)
        shutil.rmtree(directory / "etc" / "nodeport-nft", ignore_errors=True)
        shutil.chown(directory / "var/lib/etcd", "etcd", "etcd")
        (directory / "opt/nodeport-nft/bin").symlink_to(SCRIPT.parent)

    def type(self, typed: str) -> str:
        """What a shell prints that is given this; what it leaves running goes on."""
        output = self._directory / "output"
        with output.open("w") as file:
            words = ["unshare", "--mount", "--uts", "sh", "-c", PRIVATE, str(self._directory), self._name, typed]
            shell = self._cluster.popen(self._name, words, cwd=ROOT, stdout=file.fileno(), stderr=file.fileno())
        self._groups.append(shell.pid)
        assert shell.wait(SECONDS) == 0, f"{self._name}: {typed}\n{output.read_text()}"
        return output.read_text()

    def close(self) -> None:
        """End what the shells have left running; the number of a group is nobody else's while one of it runs."""
        for group in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


@pytest.fixture
def cluster_of_three(private_namespaces: None) -> Iterator[Cluster]:  # noqa: ARG001
    with Cluster(nodes=tuple(NODES), pods=PODS) as cluster:
        for pod in PODS:
            cluster.start_responder(pod, [80])
        yield cluster


@pytest.fixture
def machines(cluster_of_three: Cluster, tmp_path: Path) -> Iterator[dict[str, Machine]]:
    made = {node: Machine(cluster_of_three, node, tmp_path / node) for node in NODES}
    yield made
    for machine in made.values():
        machine.close()


def test_the_machines_answer_after_ten_commands(cluster_of_three: Cluster, machines: dict[str, Machine]) -> None:
    found = blocks()
    assert sum(len(block.commands) for block in found) <= MOST_COMMANDS
    typed = [command for block in found for command in block.commands]
    assert [text for text in REPLACED if text not in typed] == []
    assert [text for text in INSTALLED if not any(command.startswith(text) for command in typed)] == []
    for block in found:
        left = [REPLACED.get(each, each) for each in block.commands if not each.startswith(INSTALLED)]
        for machine in machines.values() if block.is_for_each else list(machines.values())[-1:]:
            machine.type("\n".join(left))
    port = int(re.findall(r" 8000:(\d+)/TCP ", machines["worker-1"].type("nodeport-nft get services"))[0])
    for ip in NODES.values():
        wait_for(
            lambda ip=ip: connect(cluster_of_three, "client", (ip, port)).name in PODS,  # type: ignore[misc]
            f"{ip}:{port} answers",
            SECONDS,
        )
