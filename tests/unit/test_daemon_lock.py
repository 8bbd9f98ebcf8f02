"""The daemon asks for its turn at once, then ever less often, and tells who has it once that takes long."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import pytest

from nodeport_nft.daemon.lock import DaemonLock
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.kernel.host.node_lock import NodeLock
from tests.unit.test_agenda import Clock

HOLDER = """
import sys
from nodeport_nft.kernel.host.node_lock import NodeLock
turn = NodeLock(sys.argv[1])
assert turn.take()
print("mine", flush=True)
sys.stdin.read()
"""


class Asking:
    """A daemon's turn beside another process that has it, and what is told of that."""

    def __init__(self, run_dir: Path) -> None:
        self.told: list[tuple[str, ...]] = []
        self.clock = Clock()
        self.turn = NodeLock(str(run_dir))
        self.ours = DaemonLock(self.turn, cast(Reporter, self), self.clock)
        self.other = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.other.stdout
        assert self.other.stdout.readline() == "mine\n"

    def problems(self, _: str, found: Iterable[str]) -> None:
        self.told.append(tuple(found))

    def end(self) -> None:
        self.other.communicate(timeout=60)

    def ask(self) -> float:
        """Ask when it is time, and not get it: seconds until it is asked for again."""
        self.clock.now = max(self.clock.now, self.ours.due)
        assert not self.ours.take()
        return self.ours.due - self.clock.now


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    made = Asking(tmp_path / "run")
    yield made
    made.end()
    made.turn.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="the locks' directory is root's own")
def test_it_is_asked_for_ever_less_often_and_begins_anew_after_it_was_ours(asking: Asking) -> None:
    assert [round(asking.ask(), 3) for _ in range(8)] == [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25]
    assert asking.told == []
    while asking.clock.now < 3:
        asking.ask()
    assert f"another process (pid {asking.other.pid}) programs this node" in asking.told[-1][0]
    asking.end()
    asking.clock.now = asking.ours.due
    assert asking.ours.take()
    assert (asking.ours.due, asking.told[-1]) == (0.0, ())
    asking.ours.give_back()
