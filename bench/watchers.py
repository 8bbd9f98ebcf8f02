"""``python -m bench.watchers [LOOPS] [CHANGES]``: many nodes that follow one etcd, each with a kernel that takes all.

Each of 200 loops is an EtcdSource with a connection of its own and the daemon's state and reconciler; they share a
few processes. The endpoints of one Service change at a time; what is measured is the time from just before the write
until the last of the loops has committed it, and what etcd needs for that. All of it runs on this one machine: the
loops' own work is told, too, because on real nodes it is done by as many processors.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

from bench.etcd import URL, Member, fill, member, opened, piece
from bench.figures import percentile
from bench.measuring import ended, processor_seconds
from bench.workload import FACTS, NOW
from lab.namespaces import enter_private_namespaces
from nodeport_nft.model import Family
from nodeport_nft.plan import Transaction
from nodeport_nft.reconcile import Listed, NodeState, Reconciler
from nodeport_nft.settings import Validate
from nodeport_nft.store.etcd import etcd_source
from nodeport_nft.store.etcd.address import parse_connection

LOOPS = 200
CHANGES = 50
PROCESSES = 4
SERVICES = 100
IDLE_SECONDS = 10.0


class NoKernel:
    """Takes every transaction."""

    def read(self, _: Any) -> Listed:
        return dict.fromkeys(Family)

    def apply(self, transactions: Iterable[Transaction]) -> None:
        for _ in transactions:
            pass

    def check(self, transactions: Iterable[Transaction]) -> None: ...


async def follow() -> None:
    """One loop: as the daemon, without all that is beside it. It says what it has committed, and when."""
    source = etcd_source(parse_connection(URL), Validate.ignore)
    running = asyncio.create_task(source.run())
    while not (changes := source.take()).whole:
        await source.changed()
    kernel = NoKernel()
    known = kernel.read(FACTS)
    state = NodeState.of(FACTS, known, ((change.ref, change.values) for change in changes.changes))
    reconciler = Reconciler(kernel, state, known)
    reconciler.sync()
    print("ready", flush=True)
    while not running.done():
        await source.changed()
        names = []
        for change in source.take().changes:
            state.put(change.ref, change.values)
            names.append(change.ref.name)
        if names:
            reconciler.sync()
            print(*names, time.monotonic(), flush=True)


async def follow_many(count: int) -> None:
    await asyncio.gather(*(follow() for _ in range(count)))


def main(loops: int, changes: int) -> None:
    enter_private_namespaces()
    with member() as etcd, opened() as store:
        fill(store, 0, SERVICES)
        begin = time.monotonic()
        followers = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.watchers", "--follow", str(loops // PROCESSES)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(PROCESSES)
        ]
        try:
            for follower in followers:
                for _ in range(loops // PROCESSES):
                    assert follower.stdout is not None
                    assert follower.stdout.readline() == "ready\n"
            print(f"{loops} loops have listed {SERVICES} Services after {time.monotonic() - begin:.1f} s")
            measure(etcd, store, followers, loops, changes)
        finally:
            for follower in followers:
                ended(follower)


def measure(etcd: Member, store: Any, followers: list[Any], loops: int, changes: int) -> None:
    idle = etcd.processor_seconds()
    time.sleep(IDLE_SECONDS)
    idle = (etcd.processor_seconds() - idle) / IDLE_SECONDS
    first, last, acknowledged = [], [], []
    used, used_by_loops = etcd.processor_seconds(), sum(map(_processor_seconds, followers))
    for number in range(changes):
        begin = time.monotonic()
        store.write([piece(number % SERVICES, number // SERVICES + 1)], now=NOW)
        acknowledged.append(time.monotonic() - begin)
        told = [follower.stdout.readline().split() for follower in followers for _ in range(loops // PROCESSES)]
        assert {name for name, _ in told} == {f"service-{number % SERVICES}-x"}
        first.append(min(float(at) for _, at in told) - begin)
        last.append(max(float(at) for _, at in told) - begin)
    used, used_by_loops = (
        etcd.processor_seconds() - used,
        sum(map(_processor_seconds, followers)) - used_by_loops,
    )
    for what, samples in (("acknowledged", acknowledged), ("first commit", first), ("last commit", last)):
        p99 = percentile(samples, 0.99)
        print(f"write → {what}: p50 {statistics.median(samples) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")
    print(f"etcd, a change: {used / changes * 1000:.1f} ms of processor; idle {idle * 100:.1f} %")
    print(f"a loop, a change: {used_by_loops / changes / loops * 1000:.2f} ms of processor")
    print(f"etcd: {etcd.megabytes():.0f} MB resident, {etcd.database_megabytes():.1f} MB on the disk")


def _processor_seconds(process: subprocess.Popen[str]) -> float:
    return processor_seconds(process.pid)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--follow"]:
        asyncio.run(follow_many(int(sys.argv[2])))
    else:
        given = [int(word) for word in sys.argv[1:]]
        main(*(given + [LOOPS, CHANGES][len(given) :]))
