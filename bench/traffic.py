"""Packets through a node: new connections over each way in, and one flow of datagrams. Built from ``traffic.c``."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.measuring import ended
from bench.node import Node
from bench.workload import TARGET_PORT, UDP_TARGET_PORT

_SOURCE = Path(__file__).with_name("traffic.c")
_SECONDS = 120.0


class Unsound(Exception):
    """Connections failed: the tables that are to be measured do not lead where they should."""


def build(directory: Path) -> Path | None:
    """The load's program; None where there is no compiler."""
    if shutil.which("cc") is None:
        return None
    program = directory / "traffic"
    subprocess.run(["cc", "-O2", "-o", str(program), str(_SOURCE)], check=True, timeout=_SECONDS)
    return program


@contextlib.contextmanager
def answering(node: Node, program: Path) -> Iterator[None]:
    """All of the node's pods answer while the block runs."""
    command = [str(program), "serve", str(TARGET_PORT), str(UDP_TARGET_PORT)]
    process = node.start(command, node.pods, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", "the pods do not answer"
        yield
    finally:
        ended(process)
        assert process.stdout is not None
        process.stdout.close()


def connect(node: Node, program: Path, targets: Sequence[str], count: int) -> tuple[list[float], float]:
    """The microseconds of each connection from the client, and connections a second. Raises Unsound."""
    node.forget_connections()
    begin = time.perf_counter()
    output = node.run([str(program), "connect", str(count), *targets], node.client, timeout=_SECONDS)
    seconds = time.perf_counter() - begin
    samples = [float(line) for line in output.split()]
    if failed := sum(sample < 0 for sample in samples):
        raise Unsound(f"{failed} of {count} connections to {', '.join(targets[:3])} failed")
    return samples, count / seconds


def packets_per_second(node: Node, program: Path, target: str, seconds: float) -> float:
    """What of one flow reaches the pods each second. Raises Unsound where it is nothing."""
    node.forget_connections()
    before, begin = node.packets_to_pods(), time.perf_counter()
    node.run([str(program), "send", str(int(seconds * 1_000)), target], node.client, timeout=_SECONDS)
    took, packets = time.perf_counter() - begin, node.packets_to_pods() - before
    if packets < 100:
        raise Unsound(f"{packets} packets to {target} reached the pods")
    return packets / took
