"""``kill -9`` at any moment: what the kernel holds then is what it held before or after a transaction (K4)."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from lab.cluster import Cluster
from nodeport_nft.model import NodeFacts, Snapshot
from tests.daemon.lengths import LENGTHS
from tests.daemon.objects import Changes, Desired, endpoint_slice, service
from tests.daemon.running import Daemon
from tests.daemon.tables import ABSENT, State, held, node_facts, wanted

MANY = 2000
"""Services whose load is so large that the daemon starts a child process for it."""


class History:
    """Every state that the store has had, in order, and which of them the kernel has been found in."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._snapshots: list[Snapshot] = []
        self._states: dict[int, State] = {}
        self._facts: NodeFacts = node_facts(daemon.cluster, daemon.config, daemon.desired.snapshot())
        self.found = -1

    def note(self) -> None:
        """The store has changed."""
        self._snapshots.append(self._daemon.desired.snapshot())

    def find(self, state: State, where: str) -> None:
        """Find the kernel's state among those from the last one it was found in up to the newest."""
        if self.found < 0 and state == ABSENT:
            return
        for number in range(max(0, self.found), len(self._snapshots)):
            if state.agrees(self._state(number)):
                for old in range(self.found, number):
                    self._states.pop(old, None)
                self.found = number
                return
        newest = self._state(len(self._snapshots) - 1)
        raise AssertionError(
            f"{where}: the tables are as no transaction leaves them, between {self.found} and "
            f"{len(self._snapshots) - 1}; beside the newest: {sorted(map(str, state.whole - newest.whole))} "
            f"lacking {sorted(map(str, newest.whole - state.whole))}"
        )

    def held(self) -> State:
        return held(self._daemon.cluster, self._facts)

    def _state(self, number: int) -> State:
        if number not in self._states:
            self._states[number] = wanted(self._snapshots[number], self._facts)
        return self._states[number]


@pytest.mark.proves("K4")
def test_a_kill_leaves_the_tables_as_a_transaction_left_them(daemon: Daemon, changes: Changes) -> None:
    """In the midst of a storm of changes, and every fourth time while the daemon starts."""
    draw = random.Random(815)
    history = History(daemon)
    history.note()
    moved = 0
    for number in range(LENGTHS.kills):
        if number % 4 == 3:
            daemon.spawn("--min-sync-period", "0")
            begin, moment = time.monotonic(), draw.uniform(0.2, 0.9)
            while time.monotonic() - begin < moment:  # the moment is what is drawn here
                changes.next()
                history.note()
                time.sleep(0.02)
        else:
            daemon.start("--min-sync-period", "0")
            for _ in range(draw.randrange(1, 30)):
                changes.next()
                history.note()
            time.sleep(draw.uniform(0, 0.01))
        daemon.kill()
        before = history.found
        history.find(history.held(), f"kill {number + 1}")
        moved += history.found > before
    assert moved > LENGTHS.kills / 2, "the kills have met a daemon at work"
    daemon.start("--min-sync-period", "0")
    for _ in range(20):
        changes.next()
    daemon.settle()


def many(desired: Desired, port: int) -> None:
    """``MANY`` services, all of whose endpoints are on ``port``: another port is another load as large."""
    documents = []
    for number in range(MANY):
        name = f"many-{number}"
        ips = [f"10.97.{number // 250}.{number % 250 + 1}"]
        spec = {"type": "ClusterIP", "ports": [{"port": 80}], "clusterIPs": ips, "clusterIP": ips[0]}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        endpoints = [{"addresses": [f"10.244.3.{last}"]} for last in range(1, 6)]
        documents += [body, endpoint_slice(name, name, 4, port, endpoints)]
    desired.apply(*documents)


@pytest.mark.proves("K4")
def test_a_kill_during_a_bulk_load_leaves_all_of_it_or_nothing(
    cluster: Cluster, daemon: Daemon, desired: Desired
) -> None:
    """It goes in many commits, the chains that see packets last: before these a table counts for nothing."""
    draw = random.Random(4)
    desired.apply(service("web", 10))
    empty = daemon.wanted()
    ports = (8080, 8081)
    wants: Sequence[State] = []
    for port in reversed(ports):
        many(desired, port)
        wants = [daemon.wanted(), *wants]
    allowed = [ABSENT, empty, *wants]
    met = 0
    for number in range(LENGTHS.kills_of_loads):
        cluster.nft(daemon.node, "flush ruleset")
        daemon.spawn()
        met += _wait_for_load(daemon, cluster)
        time.sleep(draw.uniform(0, 2.0))
        daemon.kill()
        state = daemon.held()
        assert state in allowed or _sees_no_packet(state), f"kill {number + 1}: {len(state.whole)} items"
    assert met > 0, "no kill has met a load"
    daemon.start(seconds=60)
    daemon.settle(60)


HOOKED = {f"chain nat-{hook}" for hook in ("prerouting", "output", "postrouting")}


def _sees_no_packet(state: State) -> bool:
    """Whether each table that is there lacks, among others, all chains that send packets into it."""
    return all(item[0] == "differs" and set(item[-1]) >= HOOKED for item in state.whole)


def _wait_for_load(daemon: Daemon, cluster: Cluster) -> bool:
    """Wait until the daemon has begun to write; False if it was done before that was seen."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        begun = "nodeport-nft" in cluster.run(daemon.node, ["nft", "list", "tables"]).stdout
        if daemon.events("sync"):
            return False
        if begun:
            return True
        time.sleep(0.005)
    raise AssertionError("the daemon neither loads nor is done")
