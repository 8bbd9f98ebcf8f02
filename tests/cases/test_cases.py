"""Every folder here is one behaviour: manifests, a node, the ruleset they give, and what must happen to packets.

``manifests.yaml``  the desired state, with the pods of the lab (web-1 and web-2 on worker-1, web-3 and tester on
                    worker-2; they answer on ports 8080 and 9090, TCP and UDP, both families).
``node.yaml``       ``args``: flags for render and sync; ``config``: what the configuration file says; ``nodes``:
                    which nodes are programmed (worker-1).
``expected.nft``    what ``render`` prints for worker-1, without the chains that draw a slot: those are alike in all
                    cases and stand once, in ``draws.nft``. ``UPDATE_GOLDENS=1 pytest tests/cases`` writes both anew.
``packets.yaml``    connections, each with who starts it, where to, and its fate. ``trace: untouched`` says that no
                    rule of ours brings this fate about, where that is not plain from it. ``sticky``: all
                    connections reach the same one of those it may reach, which one only the kernel knows.

A golden proves that nothing changed, not that it is right; the packets prove that. Each goes twice: through a real
kernel and through the tracer, which must agree about its fate, about the endpoints and about the source they see.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster import Cluster
from lab.outcome import Kind, Outcome
from lab.probe import connect, connect_many
from tests.cases.traced import Traced, trace
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
    untouched: bool
    sticky: bool

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
            untouched=entry.pop("trace", "") == "untouched",
            sticky=entry.pop("sticky", False),
        )
        entry.pop("why", None)
        assert not entry, f"unknown keys {sorted(entry)}"
        assert (packet.fate == "reached") == bool(reaches)
        return packet

    @property
    def destination(self) -> tuple[IPv4Address | IPv6Address, int]:
        host, _, port = self.to.rpartition(":")
        return ip_address(host.strip("[]")), int(port)

    @property
    def traced_fate(self) -> str:
        """What the tracer must say of it."""
        if self.untouched or self.fate == "unreachable":
            return "untouched"
        return "forwarded" if self.fate == "reached" else self.fate

    def __str__(self) -> str:
        return f"{self.protocol} {self.source} → {self.to}: {self.fate} {', '.join(self.reaches)}"


def load(case: Path, name: str) -> Any:
    return yaml.safe_load((case / name).read_text())


def flags(case: Path, directory: Path) -> list[str]:
    """The case's flags, and its configuration as a file of that directory."""
    node = load(case, "node.yaml")
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(node.get("config", {})))
    return [*map(str, node.get("args", [])), "--config", str(config)]


def render(case: Path, directory: Path) -> str:
    words = ("render", "-f", str(case / "manifests.yaml"), "--node-name", "worker-1", *flags(case, directory))
    answer = Program(directory).run(*words)
    assert answer.code == 0, answer.err
    return answer.out


def check_golden(golden: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text)
    assert text == golden.read_text()


DRAW = re.compile(r"\n\tchain (?:service|node-port)(?:-\w+)?/(?:\d+|maglev) \{\n.*?\n\t\}\n", re.DOTALL)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_render(case: Path, tmp_path: Path) -> None:
    printed = render(case, tmp_path)
    check_golden(case / "expected.nft", DRAW.sub("", printed))


def test_chains_that_draw_a_slot(tmp_path: Path) -> None:
    """Of each shape one stands in the golden; a larger size is that of four, with other numbers."""
    by_size: dict[str, list[str]] = {}
    for chain in DRAW.findall(render(HERE / "F1-cluster-ip", tmp_path)):
        by_size.setdefault(chain.partition("/")[2].partition(" ")[0], []).append(chain)
    four = by_size["4"]
    check_golden(HERE / "draws.nft", "".join("".join(by_size.pop(shape)) for shape in ("1", "2", "4", "maglev")))
    assert by_size
    for size, chains in by_size.items():
        assert chains == [resized(chain, int(size)) for chain in four]


def resized(chain: str, size: int) -> str:
    """A chain of four slots as it would be with ``size`` slots."""
    half = size // 2
    numbers = {
        "/4": f"/{size}",
        "3 to 4": f"{half + 1} to {size}",
        "mod 4 ": f"mod {size} ",
        "mod 2 ": f"mod {half} ",
    }
    return re.sub("|".join(numbers), lambda match: numbers[match[0]], chain)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packets(case: Path, cluster: Cluster, tmp_path: Path) -> None:
    nodes = load(case, "node.yaml").get("nodes", ["worker-1"])
    options = ["-f", str(case / "manifests.yaml"), *flags(case, tmp_path)]
    for node in nodes:
        store = str(tmp_path / "s.db")
        cluster.run(node, [str(SCRIPT), "sync", "--once", *options, "--node-name", node, "--store", store])
    held = listing(cluster, "worker-1")
    problems = []
    for entry in load(case, "packets.yaml"):
        packet = Packet.read(entry)
        outcomes = send(cluster, packet)
        traced = trace(cluster, packet.source, packet.destination, packet.protocol, nodes, options)
        told = (*differences(cluster, packet, outcomes), *disputes(packet, traced, outcomes))
        problems += [f"{packet}: {problem}" for problem in told]
    assert problems == []

    # What render prints, loaded by plain nft, is the same tables.
    cluster.nft("worker-1", "flush ruleset")
    cluster.nft("worker-1", render(case, tmp_path))
    assert listing(cluster, "worker-1") == held


def listing(cluster: Cluster, node: str) -> list[str]:
    """A node's ruleset without counters and without the kernel's order of elements."""
    text = re.sub(r" counter packets \d+ bytes \d+", "", cluster.ruleset(node))
    return sorted(piece for line in text.splitlines() for piece in line.strip(" \t,}").split(", "))


def send(cluster: Cluster, packet: Packet) -> tuple[Outcome, ...]:
    """Start the connections."""
    if packet.fate == "dropped":
        return (connect(cluster, packet.source, packet.destination, packet.protocol, timeout=0.4),)
    if packet.fate != "reached":
        return (connect(cluster, packet.source, packet.destination, packet.protocol),)
    rounds = ROUNDS if len(packet.reaches) > 1 else 3
    # A client has its endpoint from its first connection on; two that begin at once may each draw one.
    first = connect_many(cluster, packet.source, packet.destination, packet.protocol, int(packet.sticky))
    return *first, *connect_many(cluster, packet.source, packet.destination, packet.protocol, rounds)


FATES = {
    Kind.REACHED: "reached",
    Kind.REFUSED: "refused",
    Kind.SILENT: "dropped",
    Kind.UNREACHABLE: "unreachable",
}


def differences(cluster: Cluster, packet: Packet, outcomes: tuple[Outcome, ...]) -> Iterator[str]:
    """What did not happen as the packet says."""
    astray = [o for o in outcomes if FATES[o.kind] != packet.fate or packet.detail not in (None, o.detail)]
    if astray:
        yield str(astray[0])
        return
    found = Counter(outcome.name for outcome in outcomes if outcome.kind is Kind.REACHED)
    if packet.sticky:
        if len(found) != 1 or not set(found) <= set(packet.reaches):
            yield f"reached {dict(found)}"
    elif set(found) != set(packet.reaches):
        yield f"reached {dict(found)}"
    if packet.seen_as is not None:
        sources = {outcome.source for outcome in outcomes}
        wanted = {cluster.address(packet.seen_as, packet.destination[0].version)}
        if sources != wanted:
            yield f"seen as {sources}, not {wanted}"
    if packet.protocol == "SCTP" and packet.fate == "reached" and not all(o.checksum_valid for o in outcomes):
        yield "a wrong checksum"


def disputes(packet: Packet, traced: Traced, outcomes: tuple[Outcome, ...]) -> Iterator[str]:
    """Where the tracer disagrees with what happened in the kernel."""
    if traced.fates != {packet.traced_fate}:
        yield f"the tracer says {traced}"
    elif packet.fate == "reached":
        happened = {((o.to, o.to_port), o.source) for o in outcomes}
        told = set(traced.endpoints.items())
        if len(told) != len(packet.reaches) or not (happened <= told if packet.sticky else happened == told):
            yield f"the tracer says {traced.endpoints}, the kernel {happened}"
    elif packet.traced_fate == "refused" and traced.resets != {outcomes[0].detail == "reset"}:
        yield f"the tracer's resets: {traced.resets}, the kernel's: {outcomes[0].detail}"
