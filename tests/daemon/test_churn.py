"""A daemon at work for long does not grow: neither its memory nor its file descriptors (K4)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.daemon.lengths import LENGTHS
from tests.daemon.objects import Changes, Desired, node
from tests.daemon.running import Daemon, wait_for


def resident(pid: int) -> float:
    """Memory in use, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def descriptors(pid: int) -> list[str]:
    """What is open, by what it is: files by name, others by kind."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(path.readlink()).split(":[")[0])
        except OSError:  # closed since it was listed
            continue
    return sorted(found)


@pytest.mark.proves("K4")
def test_churn_leaves_memory_and_descriptors_as_they_were(
    cluster: Cluster, daemon: Daemon, desired: Desired, changes: Changes
) -> None:
    """All kinds of work: changes of the store, of the node, repairs, questions over HTTP."""

    def work(seconds: float, least: int) -> int:
        done, end = 0, time.monotonic() + seconds
        while done < least or time.monotonic() < end:
            daemon.follow(changes.next)
            done += 1
            if done % 50 == 0:
                daemon.ask("/metrics")
                desired.apply(node("worker-1", **{"topology.kubernetes.io/zone": "ab"[done // 50 % 2]}))
            if done % 100 == 0:
                cluster.nft(daemon.node, "add rule ip nodeport-nft services counter")
                daemon.settle()
        return done

    daemon.start("--min-sync-period", "0")
    work(LENGTHS.churn_seconds / 4, LENGTHS.churn_changes)
    daemon.settle()
    memory, opened = resident(daemon.pid), descriptors(daemon.pid)
    done = work(LENGTHS.churn_seconds, LENGTHS.churn_changes)
    daemon.settle()
    wait_for(lambda: descriptors(daemon.pid) == opened, f"these descriptors again and no others: {opened}")
    share, most = LENGTHS.churn_growth
    assert resident(daemon.pid) - memory < min(share * memory, most), f"{done} changes, from {memory:g} MB"
    assert daemon.status().error == ""
    assert daemon.repairs() >= 2
