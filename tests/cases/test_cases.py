"""Every folder here is one behaviour: manifests, a node, the ruleset they give, and what must happen to packets.

``manifests.yaml``  the desired state, with the pods of the lab (web-1 and web-2 on worker-1, web-3 and tester on
                    worker-2; they answer on ports 8080 and 9090, TCP and UDP, both families).
``node.yaml``       ``args``: flags for render and sync; ``nodes``: which nodes are programmed (worker-1).
``expected.nft``    what ``render`` prints for worker-1, without the chains that draw a slot: those are alike in all
                    cases and stand once, in ``draws.nft``. ``UPDATE_GOLDENS=1 pytest tests/cases`` writes both anew.
``packets.yaml``    connections, each with who starts it, where to, and its fate.

A golden proves that nothing changed, not that it is right; the packets prove that, through a real kernel.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect, connect_many
from tests.cli.program import SCRIPT, Program

HERE = Path(__file__).parent
CASES = sorted(path.parent for path in HERE.glob("*/packets.yaml"))
ROUNDS = 80  # connections for a packet that may reach several: one of four stays unseen once in 10 million runs


@dataclass(frozen=True)
class Packet:
    """One line of packets.yaml."""

    source: str
    to: str
    protocol: str
    fate: str
    reaches: tuple[str, ...]
    seen_as: str | None
    detail: str | None

    @classmethod
    def read(cls, entry: dict[str, Any]) -> Packet:
        reaches = tuple(entry.pop("reaches", ()))
        packet = cls(
            source=entry.pop("from"),
            to=entry.pop("to"),
            protocol=entry.pop("protocol", "TCP"),
            fate=entry.pop("fate", "reached"),
            reaches=reaches,
            seen_as=entry.pop("source", None),
            detail=entry.pop("detail", None),
        )
        entry.pop("why", None)
        assert not entry, f"unknown keys {sorted(entry)}"
        assert (packet.fate == "reached") == bool(reaches)
        return packet

    def __str__(self) -> str:
        return f"{self.protocol} {self.source} → {self.to}: {self.fate} {', '.join(self.reaches)}"


def load(case: Path, name: str) -> Any:
    return yaml.safe_load((case / name).read_text())


def flags(case: Path) -> list[str]:
    return [str(arg) for arg in load(case, "node.yaml").get("args", [])]


def render(case: Path, directory: Path) -> str:
    words = ("render", "-f", str(case / "manifests.yaml"), "--node-name", "worker-1", *flags(case))
    answer = Program(directory).run(*words)
    assert answer.code == 0, answer.err
    return answer.out


def check_golden(golden: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text)
    assert text == golden.read_text()


DRAW = re.compile(r"\n\tchain (?:service|node-port)/\d+ \{\n.*?\n\t\}\n", re.DOTALL)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_render(case: Path, tmp_path: Path) -> None:
    printed = render(case, tmp_path)
    check_golden(case / "expected.nft", DRAW.sub("", printed))


def test_chains_that_draw_a_slot(tmp_path: Path) -> None:
    check_golden(HERE / "draws.nft", "".join(DRAW.findall(render(HERE / "F1-cluster-ip", tmp_path))))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packets(case: Path, cluster: Cluster, tmp_path: Path) -> None:
    for node in load(case, "node.yaml").get("nodes", ["worker-1"]):
        manifests = str(case / "manifests.yaml")
        options = ["-f", manifests, "--node-name", node, "--store", str(tmp_path / "s.db"), *flags(case)]
        cluster.run(node, [str(SCRIPT), "sync", "--once", *options])
    held = listing(cluster, "worker-1")
    problems = [problem for entry in load(case, "packets.yaml") for problem in send(cluster, Packet.read(entry))]
    assert problems == []

    # What render prints, loaded by plain nft, is the same tables.
    cluster.nft("worker-1", "flush ruleset")
    cluster.nft("worker-1", render(case, tmp_path))
    assert listing(cluster, "worker-1") == held


def listing(cluster: Cluster, node: str) -> list[str]:
    """A node's ruleset without counters and without the kernel's order of elements."""
    text = re.sub(r" counter packets \d+ bytes \d+", "", cluster.ruleset(node))
    return sorted(piece for line in text.splitlines() for piece in line.strip(" \t,}").split(", "))


def send(cluster: Cluster, packet: Packet) -> list[str]:
    """Start the connections; what is not as the packet says."""
    host, _, port = packet.to.rpartition(":")
    address = ip_address(host.strip("[]"))
    destination = address, int(port)
    if packet.fate != "reached":
        outcome = connect(cluster, packet.source, destination, packet.protocol, timeout=0.4)
        fates = {Kind.REFUSED: "refused", Kind.SILENT: "dropped", Kind.UNREACHABLE: "unreachable"}
        fate = fates.get(outcome.kind, "reached")
        as_told = packet.detail in (None, outcome.detail)
        return [] if fate == packet.fate and as_told else [f"{packet}: {outcome}"]
    rounds = ROUNDS if len(packet.reaches) > 1 else 3
    outcomes = connect_many(cluster, packet.source, destination, packet.protocol, rounds)
    problems = [f"{packet}: {o}" for o in outcomes if o.kind is not Kind.REACHED][:1]
    found = Counter(outcome.name for outcome in outcomes if outcome.kind is Kind.REACHED)
    if set(found) != set(packet.reaches):
        problems.append(f"{packet}: reached {dict(found)}")
    if packet.seen_as is not None:
        sources = {outcome.source for outcome in outcomes if outcome.kind is Kind.REACHED}
        wanted = {cluster.address(packet.seen_as, address.version)}
        if sources != wanted:
            problems.append(f"{packet}: seen as {sources}, not {wanted}")
    if packet.protocol == "SCTP" and not all(outcome.checksum_valid for outcome in outcomes):
        problems.append(f"{packet}: a wrong checksum")
    return problems
