"""Damaged, lost and read-only stores through the installed program, in the kernel of the lab's node worker-1."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.cli.program import Program
from tests.cli.test_node import EXAMPLE, NODE_NAME, Node
from tests.damage import damage, rewrite

CASES = Path(__file__).parents[1] / "cases"
API = """
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30090}]}
"""


@pytest.fixture
def node(cluster: Cluster, tmp_path: Path) -> Node:
    """worker-1, programmed from a store that has the example's Service my-ser."""
    made = Node(cluster, tmp_path / "store")
    made.directory.mkdir()
    made.ok("apply", "-f", str(EXAMPLE))
    made.ok("sync", "--once", *NODE_NAME)
    assert "default/my-ser" in made.ruleset()
    return made


def told(node: Node, ref: str = "Service/default/my-ser") -> str:
    return (
        f"error: {ref} in {node.store} cannot be read: its body is not text but blob; apply it again or delete it\n"
    )


def elements(node: Node) -> list[str]:
    """What the tables hold of the example's Service."""
    found = re.findall(r'[^{},]* comment "default/my-ser"[^,}]*', node.ruleset())
    return sorted(" ".join(each.split()) for each in found)


def test_a_service_that_cannot_be_read_stays_in_the_kernel_and_the_rest_is_served(node: Node) -> None:
    held = elements(node)
    assert held
    damage(node.store, "blob", name="my-ser")
    done = node.run("diff", *NODE_NAME)
    assert (done.returncode, done.stdout) == (2, "")
    assert told(node) in done.stderr
    node.ok("apply", "-f", "-", stdin=API)
    done = node.run("sync", "--once", *NODE_NAME)
    assert done.returncode == 1
    assert done.stderr.endswith(told(node))
    after = node.ruleset()
    assert "default/api" in after
    assert elements(node) == held
    node.ok("apply", "-f", str(EXAMPLE))
    assert "nothing changed" in node.ok("sync", "--once", *NODE_NAME)
    damage(node.store, "blob", name="my-ser")
    node.ok("delete", "service", "my-ser")
    node.ok("sync", "--once", *NODE_NAME)
    assert "my-ser" not in node.ruleset()


def test_endpoints_that_cannot_be_read_stay_in_the_kernel(node: Node) -> None:
    before = node.ruleset()
    rewrite(node.store, "UPDATE objects SET body = x'7b' WHERE kind = 'Pod' AND name = 'web-1'")
    done = node.run("sync", "--once", *NODE_NAME)
    assert done.returncode == 1
    assert told(node, "Pod/default/web-1") in done.stderr
    assert "nothing changed" in done.stdout
    assert node.ruleset() == before


@pytest.mark.parametrize(
    "case", ["P7-session-affinity", "F4-load-balancer-source-ranges", "P2-external-policy-local", "X7-weights"]
)
def test_whatever_a_service_has_in_the_kernel_stays(cluster: Cluster, tmp_path: Path, case: str) -> None:
    node = Node(cluster, tmp_path)
    node.ok("apply", "-f", str(CASES / case / "manifests.yaml"))
    node.ok("sync", "--once", *NODE_NAME)
    with closing(sqlite3.connect(node.store)) as db, db:
        assert db.execute("UPDATE objects SET body = '' WHERE kind = 'Service'").rowcount
    done = node.run("sync", "--once", *NODE_NAME)
    assert (done.returncode, done.stdout) == (1, "node worker-1: 0 services, nothing changed\n")


def test_a_hosts_file_keeps_the_name_of_a_service_that_cannot_be_read(node: Node) -> None:
    hosts = node.directory.parent / "hosts"
    node.ok("sync", "--once", *NODE_NAME, "--hosts-file", str(hosts))
    before = hosts.read_text()
    assert "my-ser" in before
    damage(node.store, "blob", name="my-ser")
    assert node.run("sync", "--once", *NODE_NAME, "--hosts-file", str(hosts)).returncode == 1
    assert hosts.read_text() == before


def test_every_command_tells_what_cannot_be_read(node: Node) -> None:
    node.ok("apply", "-f", "-", stdin=API)
    damage(node.store, "blob", name="my-ser")
    for words in (
        ("get", "services"),
        ("get", "services", "-o", "json"),
        ("get", "service", "my-ser", "api"),
        ("describe", "services"),
        ("hosts",),
        ("trace", "192.0.2.7", "172.30.1.2", "--port", "30090", *NODE_NAME),
        ("sync", "--dry-run", *NODE_NAME),
    ):
        done = node.run(*words)
        assert done.returncode == 1, words
        assert told(node) in done.stderr, words
        assert "not found" not in done.stderr
        if words[0] != "sync":
            assert "api" in done.stdout, words
    done = node.run("render", *NODE_NAME, "--node-ip", "172.30.1.2")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told(node)), "who loads it would lose the Service"
    done = node.run("create", "service", "nodeport", "my-ser", "--tcp=80")
    assert (done.returncode, "already exists" in done.stderr) == (1, True)
    damage(node.store, "blob", "Node", "worker-1")
    done = node.run("sync", "--once", *NODE_NAME)
    assert (done.returncode, done.stdout) == (1, ""), "what the rules depend on"
    assert told(node, "Node/worker-1") in done.stderr


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def blank(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM")


def without_rows(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for table in ("objects", "tombstones", "meta"):
            db.execute(f"DROP TABLE {table}")


def torn(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))


@pytest.mark.parametrize("lose", [emptied, blank, without_rows, torn])
def test_a_store_that_has_lost_what_it_held_empties_no_node(node: Node, lose: object) -> None:
    before = node.ruleset()
    assert callable(lose)
    lose(node.store)
    for words in (("sync", "--once", *NODE_NAME), ("sync", "--once", "-f", str(EXAMPLE), *NODE_NAME), ("get", "svc")):
        done = node.run(*words)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"error: {node.store}: "), done.stderr
        assert "restore it from a copy" in done.stderr
    assert node.ruleset() == before


# --- stores that cannot be written --------------------------------------------


@pytest.fixture
def read_only(node: Node) -> Iterator[Node]:
    """The same, with its store on a file system that is mounted read-only."""
    where = str(node.directory)
    subprocess.run(["mount", "--bind", where, where], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", where], check=True)
    yield node
    subprocess.run(["umount", where], check=True)


def test_a_store_on_a_read_only_file_system_can_be_read(read_only: Node) -> None:
    node = read_only
    assert "my-ser" in node.ok("get", "services")
    assert "my-ser" in node.ok("describe", "service", "my-ser")
    assert "my-ser" in node.ok("render", *NODE_NAME, "--node-ip", "172.30.1.2")
    assert "my-ser" in node.ok("hosts")
    assert node.ok("diff", *NODE_NAME) == ""
    assert node.ok("diff", "-f", str(EXAMPLE), *NODE_NAME) == ""
    assert "nothing changed" in node.ok("sync", "--once", *NODE_NAME)
    assert "unchanged (dry run)" in node.ok("apply", "-f", str(EXAMPLE), "--dry-run")
    for words in (("apply", "-f", "-"), ("delete", "service", "my-ser")):
        done = node.run(*words, stdin=API)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"error: {node.store}: " in done.stderr
        assert "make it and its directory writable" in done.stderr


def test_a_log_beside_a_store_that_cannot_be_written_is_not_passed_over(node: Node) -> None:
    with closing(sqlite3.connect(node.store)) as db:
        db.execute("SELECT count(*) FROM objects").fetchone()  # whoever goes last takes the log into the file
        node.ok("apply", "-f", "-", stdin=API)
        copy = node.directory.parent / "copy"
        copy.mkdir()
        for name in ("store.db", "store.db-wal"):
            shutil.copy(node.directory / name, copy / name)
    subprocess.run(["mount", "--bind", str(copy), str(copy)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(copy)], check=True)
    try:
        node.store = copy / "store.db"
        done = node.run("get", "services")
    finally:
        subprocess.run(["umount", str(copy)], check=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "what store.db-wal beside it holds cannot be read where nothing can be written" in done.stderr


def test_what_is_listed_beside_a_damaged_row_is_whole(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.ok("create", "service", "nodeport", "web", "--tcp=80")
    program.ok("create", "service", "nodeport", "api", "--tcp=80")
    damage(program.store, "deep")
    answer = program("get", "services", "-o", "json")
    assert answer.code == 1
    assert [item["metadata"]["name"] for item in json.loads(answer.out)["items"]] == ["api"]


def test_a_store_is_made_as_a_whole_or_not_at_all(cluster: Cluster, tmp_path: Path) -> None:
    """On a disk that is too full for it."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "none", str(small)], check=True)
    try:
        node = Node(cluster, small)
        done = node.run("apply", "-f", "-", stdin=API)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"error: {node.store}: " in done.stderr
        assert "make room on the disk" in done.stderr
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
