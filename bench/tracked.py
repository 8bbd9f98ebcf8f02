"""What a sync takes beside connections of others; ``python -m bench.tracked PROTOCOL COUNT`` is one measured process.

The node serves a UDP service, so that every sync looks for stale flows (K2). The tracked connections have nothing to
do with it; TCP ones are left out by the kernel's filter, UDP ones come to this program and are compared.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time

from msgspec.structs import replace

from bench.figures import cell, table
from bench.workload import FACTS, Workload, service_value, slice_value
from lab.namespaces import enter_private_namespaces
from nodeport_nft.kernel.netlink.conntrack import delete_stale_flows
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Protocol, Snapshot
from nodeport_nft.reconcile import compile_snapshot, read_tables, stale_frontends

SYNCS = 5
ROUNDS = 3
TRACKED = 128_000

_SECONDS = 600.0


def report() -> str:
    """A table of what a sync takes on a node that tracks connections of others (K2)."""
    rows = []
    for protocol, count in (("tcp", 0), ("tcp", TRACKED), ("udp", TRACKED)):
        command = [sys.executable, "-m", "bench.tracked", protocol, str(count)]
        rounds = [
            float(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=_SECONDS).stdout)
            for _ in range(ROUNDS)
        ]
        rows.append([f"{count:,} {protocol.upper()}" if count else "none", cell(statistics.median(rounds))])
    return table(["a sync beside tracked connections of others", "seconds"], rows)


def main(protocol: str, count: int) -> float:
    """Seconds, the median of several syncs that find nothing to do."""
    enter_private_namespaces()
    load = Workload(1, 3, node_ports=1)
    service, piece = service_value(load.service(0)), slice_value(load.piece(0))
    service = replace(service, ports=tuple(replace(port, protocol=Protocol.UDP) for port in service.ports))
    piece = replace(piece, ports=tuple(replace(port, protocol=Protocol.UDP) for port in piece.ports))
    snapshot = Snapshot((service,), (piece,))
    nft = Nft()
    nft.apply(compile_snapshot(snapshot, FACTS).tables.first_transaction())
    track(protocol, count)
    times = []
    for _ in range(SYNCS):
        start = time.perf_counter()
        listed = read_tables(nft, FACTS)
        programme = compile_snapshot(snapshot, FACTS, listed)
        assert programme.tables.first_transaction() == ()
        assert delete_stale_flows(stale_frontends(snapshot, programme.tables, listed, ())) == 0
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def track(protocol: str, count: int) -> None:
    """Make the kernel track so many connections between addresses of the benchmark network (RFC 2544)."""
    state = " --state ESTABLISHED" if protocol == "tcp" else ""
    lines = (
        f"-I -p {protocol} -s 198.18.{i >> 14}.{i >> 6 & 255} -d 198.19.0.1 --sport {1024 + i % 64} --dport 443 "
        f"-t 600{state}\n"
        for i in range(count)
    )
    with tempfile.NamedTemporaryFile("w", suffix=".conntrack") as file:
        file.writelines(lines)
        file.flush()
        subprocess.run(["conntrack", "-R", file.name], check=True, capture_output=True, timeout=120)
    counted = subprocess.run(["conntrack", "-C"], check=True, capture_output=True, timeout=60)
    assert int(counted.stdout) >= count


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
