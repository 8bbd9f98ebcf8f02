"""What targets share: seeds out of the tree, a node, and the way from a desired state to its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path

from msgspec.structs import replace

from nodeport_nft.compile import compile_schema
from nodeport_nft.hosts import hosts_file, hosts_lines
from nodeport_nft.model import Family, NodeFacts, Ranges, Snapshot
from nodeport_nft.plan import ListedTable
from nodeport_nft.reconcile import NodeTables, compile_snapshot
from nodeport_nft.render import write_transaction
from nodeport_nft.ruleset import Table

ROOT = Path(__file__).parents[2]
NOW = "2026-01-31T12:00:00Z"
RANGES = Ranges(service_cidrs=(ip_network("10.96.0.0/12"), ip_network("fd00:10:96::/112")))
FACTS = NodeFacts(
    "worker-1",
    node_port_ips=(ip_address("172.30.1.2"), ip_address("fd00:30:1::2")),
    pod_cidrs=(ip_network("10.244.0.0/16"), ip_network("fd00:244::/32")),
    service_cidrs=RANGES.service_cidrs,
)

SCHEMAS = {family: compile_schema(family, FACTS) for family in Family}
MAPS = {family: replace(schema, chains=()) for family, schema in SCHEMAS.items()}
"""The schemas without the chains that all tables have alike."""
EMPTY = {family: ListedTable.of(Table(schema)) for family, schema in SCHEMAS.items()}


def manifests() -> list[bytes]:
    """The manifests of the examples and of the cases."""
    files = [*ROOT.glob("examples/*.yaml"), *ROOT.glob("tests/cases/*/manifests.yaml")]
    return [file.read_bytes() for file in sorted(files)]


def serve(snapshot: Snapshot, listed: Mapping[Family, ListedTable] | None = None) -> NodeTables:
    """All that is made of a desired state on the node, but for the kernel's part; returns the tables.

    ``listed`` is what the kernel holds: as a rule a table of ours without Services. To write what all tables have
    alike, a thousand lines, would be most of the work.
    """
    programme = compile_snapshot(snapshot, FACTS, {**EMPTY, **(listed or {})})
    check_lines(programme.problems())
    for transaction in programme.tables.first_transaction():
        check_commands(write_transaction(transaction))
    hosts_file(hosts_lines(snapshot.services, domain="cluster.local")).encode()
    return programme.tables


def small(tables: NodeTables) -> tuple[Table, ...]:
    """The tables without the chains that all tables have alike."""
    return tuple(replace(table, schema=MAPS[family]) for family in Family for table in (tables.table(family),))


def check_commands(text: str) -> None:
    """What is written to nft is made of plain words, whatever somebody has called something."""
    strange = _STRANGE.search(text)
    assert strange is None, f"strange in a command: {strange[0]!r}"


_STRANGE = re.compile(r"[^\t\n -~]")


def check_lines(lines: tuple[str, ...] | list[str]) -> None:
    """What ends on a terminal or in a log is printable, a line each."""
    for line in lines:
        assert line.isprintable(), f"not printable: {line!r}"
