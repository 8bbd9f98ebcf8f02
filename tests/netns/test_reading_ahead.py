"""What a second process reads is what we would have read; where it cannot be relied on, nothing is said."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from lab.namespaces import Namespace
from nodeport_nft.compile import compile_schema
from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.kernel.netlink import ahead
from nodeport_nft.kernel.netlink.ahead import ReadAhead
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, Snapshot
from nodeport_nft.plan import ListedTable
from nodeport_nft.reconcile import compile_snapshot, read_tables
from nodeport_nft.ruleset import Schema
from tests.builders import FACTS, make_port, make_service, make_slice

SCHEMAS = tuple(compile_schema(family, FACTS) for family in Family)
ENDPOINTS = [f"10.244.0.{number}" for number in range(1, 60)]
STICKY = replace(make_service("sticky", make_port(80), ips=("10.96.0.11",)), session_affinity_seconds=600)
SERVED = Snapshot((make_service("web", make_port(80, node_port=30080)), STICKY), (make_slice(*ENDPOINTS),))


@dataclass(frozen=True)
class Node:
    namespace: Namespace
    tables: KernelTables
    directory: Path

    @property
    def nft(self) -> Nft:
        return self.tables.nft

    def change(self) -> None:
        with self.namespace.entered():
            subprocess.run(["nft", "add", "table", "ip", "other"], check=True, timeout=60)


@pytest.fixture
def node(
    private_namespaces: None,  # noqa: ARG001 (it has to come first)
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Node]:
    """A namespace of which our tables are worth a process of their own."""
    monkeypatch.setattr(ahead, "WORTH_IT", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    namespace = Namespace()
    try:
        with namespace.entered():
            tables = KernelTables(str(tmp_path))
            tables.nft.apply(
                compile_snapshot(SERVED, FACTS, read_tables(tables.nft, FACTS)).tables.first_transaction()
            )
            yield Node(namespace, tables, tmp_path)
            tables.close()
    finally:
        namespace.close()


def plain(listed: ListedTable | None) -> ListedTable:
    """With values in place of packed elements, to be compared."""
    assert listed is not None
    return replace(listed, elements={name: dict(held) for name, held in listed.elements.items()})


def begun(node: Node) -> ReadAhead:
    reading = node.nft.read_ahead(SCHEMAS)
    assert reading is not None
    return reading


def test_it_reads_what_we_would_have_read(node: Node) -> None:
    found = begun(node).tables(SCHEMAS)
    assert found is not None
    own = [node.nft.list_table(schema) for schema in SCHEMAS]
    assert [plain(listed) for listed in found] == [plain(listed) for listed in own]
    assert compile_snapshot(SERVED, FACTS, dict(zip(Family, found, strict=True))).tables.first_transaction() == ()


def test_nothing_is_said_of_tables_that_have_changed_since(node: Node) -> None:
    reading = begun(node)
    node.change()
    assert reading.tables(SCHEMAS) is None


def test_nothing_is_said_for_another_schema(node: Node) -> None:
    other = compile_schema(Family.IPV4, replace(FACTS, masquerade_bit=FACTS.masquerade_bit - 1))
    assert begun(node).tables((other, SCHEMAS[1])) is None


def test_nothing_is_said_where_the_process_ends(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert begun(node).tables(SCHEMAS) is None


def test_nothing_is_said_where_the_process_ends_at_its_work(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    half = pickle.dumps([node.nft.list_table(schema) for schema in SCHEMAS])[:1000]
    script = node.directory / "python"
    script.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.buffer.write({half!r})\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    assert begun(node).tables(SCHEMAS) is None


def test_a_process_that_hangs_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    script = node.directory / "python"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(ahead, "_READ_SECONDS", 0.1)
    reading = begun(node)
    assert reading.tables(SCHEMAS) is None
    assert reading._process.returncode == -signal.SIGKILL


def test_where_memory_is_scarce_it_is_the_first_to_go(node: Node) -> None:
    reading = begun(node)
    score = Path(f"/proc/{reading._process.pid}/oom_score_adj")
    deadline = time.monotonic() + 60
    while score.read_text() != "1000\n":  # of a process that has ended it can still be read
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert reading.tables(SCHEMAS) is not None


def test_small_tables_and_a_lone_processor_are_not_worth_it(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert node.nft.read_ahead(SCHEMAS) is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(ahead, "WORTH_IT", 1_000)
    assert node.nft.read_ahead(SCHEMAS) is None


def test_the_daemon_reads_by_itself_what_has_changed_meanwhile(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    by_itself: list[str] = []
    list_table = Nft.list_table

    def noted(nft: Nft, schema: Schema) -> ListedTable | None:
        by_itself.append(schema.family)
        return list_table(nft, schema)

    monkeypatch.setattr(Nft, "list_table", noted)
    with node.tables.reading_ahead(FACTS):
        first = node.tables.read(FACTS)
        assert by_itself == []
    with node.tables.reading_ahead(FACTS):
        node.change()
        again = node.tables.read(FACTS)
    assert by_itself == ["ip", "ip6"]
    assert {f: plain(listed) for f, listed in first.items()} == {f: plain(listed) for f, listed in again.items()}
    with node.tables.reading_ahead(FACTS):
        pass  # the store had not told everything
    assert node.tables.read(FACTS).keys() == set(Family)
