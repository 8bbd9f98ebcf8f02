"""Writers without a pause, what they were told of each write, and what of it must therefore be there."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from nodeport_nft.allocate import holdings
from nodeport_nft.model import Snapshot
from tests.cluster.machines import SECONDS, Machines
from tests.daemon.running import wait_for

AT = ("worker-1", "worker-2")
"""Where somebody writes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One write, as ``writer`` notes it."""

    at: float
    name: str
    came: str
    holds: tuple[int, str, int] | None
    error: str


@dataclass(slots=True)
class Storm:
    """Two writers. ``forgotten``: names of which a restored snapshot may know anything or nothing.
    ``broken_by``: the failure after which the machines are not what the next one begins with.
    """

    machines: Machines
    forgotten: set[str] = field(default_factory=set)
    broken_by: str = ""
    _writers: list[subprocess.Popen[str]] = field(default_factory=list)

    def begin(self) -> None:
        """Let them write."""
        self._writers += map(self.machines.writer, AT)
        for writer in self._writers:
            _expect(writer, "begun\n")

    def close(self) -> None:
        """End them."""
        for writer in self._writers:
            self.machines.cluster.stop(writer)

    def pause(self) -> None:
        """On return no write is under way, and none begins."""
        for writer in self._writers:
            _say(writer, "pause\n")
        for writer in self._writers:
            _expect(writer, "paused\n")

    def go(self) -> None:
        """Undo ``pause``."""
        for writer in self._writers:
            _say(writer, "go\n")

    def entries(self, since: float = 0.0) -> list[Entry]:
        """What came of each write, in order."""
        found = []
        for node in AT:
            lines = self.machines.journal(node).read_text().splitlines(keepends=True)
            found += [_entry(json.loads(line)) for line in lines if line.endswith("\n")]
        return sorted((entry for entry in found if entry.at >= since), key=lambda entry: entry.at)

    def until(self, came: str, count: int = 1) -> None:
        """Return when so many more writes have come to this."""
        begin = time.monotonic()
        wait_for(
            lambda: sum(entry.came == came for entry in self.entries(begin)) >= count, f"{count} {came}", SECONDS
        )

    def acknowledged(self) -> dict[str, tuple[int, str, int] | None]:
        """What each name was acknowledged to hold last, None for a deletion; not those of which nobody knows."""
        known: dict[str, tuple[int, str, int] | None] = {}
        doubtful = set(self.forgotten)
        for entry in self.entries():
            if entry.came == "acknowledged":
                known[entry.name] = entry.holds
            elif entry.came == "unknown":
                doubtful.add(entry.name)
        return {name: holds for name, holds in known.items() if name not in doubtful}

    def check(self, snapshot: Snapshot) -> None:
        """Nothing that was acknowledged is missing, and no number was given twice. While paused."""
        services = {service.name: service for service in snapshot.services}
        ports = {each.service: each.ports[0].port for each in snapshot.slices if each.ports}
        acknowledged = self.acknowledged()
        there = {name: holds for name, holds in acknowledged.items() if holds is not None}
        assert [name for name in there if name not in services] == [], "acknowledged, and lost"
        assert [name for name in acknowledged if name in services and name not in there] == [], "deleted, and back"
        for name, (node_port, cluster_ip, port) in there.items():
            service = services[name]
            assert (service.ports[0].node_port, str(service.cluster_ips[0])) == (node_port, cluster_ip), name
            assert ports[name] == port, f"{name}: its endpoint was acknowledged with another port"
        claims = [holdings(service) for service in services.values()]
        numbers = Counter(number for claim in claims for number in (*claim.node_ports, *claim.cluster_ips))
        assert [number for number, times in numbers.items() if times > 1] == [], "given twice"


def _entry(raw: dict[str, Any]) -> Entry:
    holds = raw.pop("holds")
    return Entry(**raw, holds=None if holds is None else tuple(holds))


def _say(writer: subprocess.Popen[str], line: str) -> None:
    assert writer.stdin is not None
    writer.stdin.write(line)
    writer.stdin.flush()


def _expect(writer: subprocess.Popen[str], line: str) -> None:
    assert writer.stdout is not None
    ready, _, _ = select.select([writer.stdout], [], [], SECONDS)
    assert ready, f"a writer does not say {line.strip()}"
    assert writer.stdout.readline() == line
