"""`sync --once` writes the store, then the kernel: whatever ends it in between, the next sync mends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lab.cluster import Cluster
from nodeport_nft.kernel.host.node_lock import NodeLock
from tests.cli.program import SCRIPT
from tests.cli.test_node import NODE_NAME, Node
from tests.daemon.running import wait_for

RUN = "/run/nodeport-nft"
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: NodePort, ports: [{{port: 80, nodePort: {port}}}]}}
"""
OLD = SERVICE.format(name="old", port=30080)
NEW = SERVICE.format(name="new", port=30080)
"""It has what the old one had."""


@pytest.fixture
def node(cluster: Cluster, tmp_path: Path) -> Node:
    return Node(cluster, tmp_path)


def names(node: Node) -> set[str]:
    """The Services in the store."""
    done = node.run("get", "services", "-o", "name")
    return {line.removeprefix("service/") for line in done.stdout.splitlines()}


def served(node: Node) -> set[str]:
    """The Services in the kernel."""
    return {name for name in ("old", "new", "other") if f'"default/{name}' in node.ruleset()}


def start(node: Node, manifests: str, stderr: int | None = None) -> subprocess.Popen[str]:
    path = node.directory / "manifests.yaml"
    path.write_text(manifests)
    words = ["sync", "--once", "--allow-empty", "-f", str(path), "--store", str(node.store), *NODE_NAME]
    return node.cluster.popen(
        "worker-1",
        [str(SCRIPT), *words, "--state-dir", str(node.directory)],
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )


@contextmanager
def nobody_reads() -> Iterator[tuple[int, int]]:
    """A pipe, for reading and for writing, that is full: whoever writes to it waits."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    for size in (4096, 1):
        with suppress(BlockingIOError):
            while os.write(write, b"x" * size):
                pass
    os.set_blocking(write, True)
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


def drain(read: int) -> None:
    """Read all that is there."""
    os.set_blocking(read, False)
    with suppress(BlockingIOError):
        while os.read(read, 1 << 16):
            pass


def has_ended(process: subprocess.Popen[str], read: int) -> bool:
    """Whether a process whose words are read has ended."""
    drain(read)
    return process.poll() is not None


def kill(node: Node, process: subprocess.Popen[str]) -> None:
    assert process.poll() is None, "it is in the middle of it"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    node.cluster.stop(process)


@pytest.mark.parametrize("again", ["the store", "the manifests"])
@pytest.mark.parametrize(("before", "after"), [("", "new"), ("old", "new"), ("old", "")])
def test_killed_between_store_and_kernel_it_is_mended_by_the_next_sync(
    node: Node, before: str, after: str, again: str
) -> None:
    manifests = {"": "", "old": OLD, "new": NEW}
    if before:
        node.ok("sync", "--once", "-f", "-", *NODE_NAME, stdin=manifests[before])
    kernel = node.ruleset()
    with nobody_reads() as (_, stderr):
        process = start(node, manifests[after], stderr)  # the first word of it comes after the store's commit
        wait_for(lambda: names(node) == ({after} if after else set()), "the store")
        assert node.ruleset() == kernel
        kill(node, process)
    assert node.ruleset() == kernel, "whole as it was, or not there"
    words = ["-f", "-", "--allow-empty"] if again == "the manifests" else []
    node.ok("sync", "--once", *words, *NODE_NAME, stdin=manifests[after] if words else "")
    assert served(node) == names(node) == ({after} if after else set())
    assert node.ok("diff", *NODE_NAME) == ""


def test_killed_while_it_waits_for_its_turn_it_has_changed_nothing(node: Node) -> None:
    node.ok("sync", "--once", "-f", "-", *NODE_NAME, stdin=OLD)
    kernel = node.ruleset()
    with node.cluster.host("worker-1").namespace.entered():
        turn = NodeLock(RUN)
    try:
        with turn.wait(), nobody_reads() as (_, stderr):
            process = start(node, NEW, stderr)
            wait_for(lambda: _is_waiting(process.pid, turn.path), "the sync at the lock")
            assert (names(node), node.ruleset()) == ({"old"}, kernel)
            kill(node, process)
    finally:
        turn.close()
    assert names(node) == served(node) == {"old"}
    node.ok("sync", "--once", "-f", "-", *NODE_NAME, stdin=NEW)
    assert names(node) == served(node) == {"new"}


def _is_waiting(pid: int, path: Path) -> bool:
    """Whether a process has this file open."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if link.samefile(path):
                return True
    return False


def test_no_writer_of_the_store_waits_for_the_kernel(node: Node) -> None:
    """What comes meanwhile is for the next sync."""
    with nobody_reads() as (read, stderr):
        process = start(node, NEW, stderr)
        wait_for(lambda: names(node) == {"new"}, "the store")
        node.ok("apply", "-f", "-", stdin=SERVICE.format(name="other", port=30081))
        assert process.poll() is None, "it is in the middle of it"
        wait_for(lambda: has_ended(process, read), "its end")
        assert process.returncode == 0
    assert served(node) == {"new"}
    node.ok("sync", "--once", *NODE_NAME)
    assert served(node) == names(node) == {"new", "other"}


@contextmanager
def owned_tables(node: Node) -> Iterator[None]:
    """Somebody else owns the tables of our names, so that the kernel refuses to replace them."""
    owner = node.cluster.popen("worker-1", ["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert owner.stdin is not None
    owner.stdin.write("add table ip nodeport-nft { flags owner; }\n")
    owner.stdin.flush()
    wait_for(lambda: "nodeport-nft" in node.cluster.ruleset("worker-1"), "the table")
    try:
        yield
    finally:
        owner.stdin.close()
        node.cluster.stop(owner)


@pytest.mark.parametrize("manifests", [NEW, "", OLD])
def test_what_the_kernel_refuses_the_store_keeps_for_the_next_sync(node: Node, manifests: str) -> None:
    """Something new, nothing any more, and what is there already."""
    node.ok("sync", "--once", "-f", "-", *NODE_NAME, stdin=OLD)
    node.cluster.nft("worker-1", "flush ruleset")
    with owned_tables(node):
        done = node.run("sync", "--once", "-f", "-", "--allow-empty", *NODE_NAME, stdin=manifests)
        assert (done.returncode, done.stdout) == (1, "")
        refusal, *_, told = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert "nothing was changed" in refusal
        assert told == (
            f"error: {node.store} holds what the manifests say, the node does not serve it yet: sync again"
        )
        there = names(node)
        assert there == ({"new"} if manifests is NEW else {"old"} if manifests else set())
        assert served(node) == set()
        done = node.run("sync", "--once", *NODE_NAME)
        assert done.returncode == 1
        assert "manifests" not in done.stderr
    node.ok("sync", "--once", *NODE_NAME)
    assert served(node) == names(node) == there


def test_what_cannot_be_set_is_an_error_and_the_tables_are_in_force(node: Node) -> None:
    setting = "net.ipv4.ip_forward"
    node.cluster.sysctl("worker-1", {setting: "0"})
    command = 'mount --bind -o ro /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    words = ["sync", "--once", "-f", str(node.directory / "m.yaml"), "--set-sysctls", "--store", str(node.store)]
    (node.directory / "m.yaml").write_text(NEW)
    argv = ["unshare", "--mount", "sh", "-c", command, "sh", str(SCRIPT), *words, *NODE_NAME]
    try:
        done = node.cluster.run("worker-1", [*argv, "--state-dir", str(node.directory)], check=False)
    finally:
        node.cluster.sysctl("worker-1", {setting: "1"})
    assert done.returncode == 1
    assert f"error: sysctl {setting} cannot be set to 1: Read-only file system" in done.stderr.splitlines()
    assert served(node) == {"new"}


def test_services_that_nobody_answers_for_are_named(node: Node) -> None:
    """A few of them; a script that installs many does not drown in names."""
    manifests = "".join(SERVICE.format(name=f"s{number}", port=30080 + number) for number in range(5))
    done = node.run("sync", "--once", "-f", "-", *NODE_NAME, stdin=manifests)
    (line,) = [line for line in done.stderr.splitlines() if "no endpoint" in line]
    named = re.fullmatch(
        r"warning: no endpoint: default/(s\d), default/s\d, default/s\d and 2 more; (.*) says why", line
    )
    assert named, line
    assert named[2] == f"nodeport-nft describe service {named[1]} -n default"
    assert done.returncode == 0
