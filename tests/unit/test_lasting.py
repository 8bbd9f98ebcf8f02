"""Work that has to last: real want of memory and threads is told and over; anything else ends it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any, cast
from unittest.mock import Mock

import pytest

from nodeport_nft.agenda import Agenda, Backoff
from nodeport_nft.daemon import lasting as module
from nodeport_nft.daemon.due import Due
from nodeport_nft.daemon.lasting import lasting
from nodeport_nft.daemon.loop import Daemon
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.scarcity import scarcity


class Told:
    """What a reporter is told of problems, in order."""

    def __init__(self) -> None:
        self.problems_told: list[tuple[str, ...]] = []

    def problems(self, _: str, found: Any) -> None:
        self.problems_told.append(tuple(found))


def test_it_begins_again_after_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    failed: list[str] = []
    told, begun = Told(), 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            bytearray(1 << 62)

    asyncio.run(lasting("work", work, cast(Reporter, told), failed.append))
    assert begun == 3
    assert len(failed) == 2
    assert "out of memory" in failed[0]
    assert [bool(problems) for problems in told.problems_told] == [True, False, True, False]


def test_any_other_failure_is_its_end() -> None:
    async def work() -> None:
        raise LookupError("defect")

    with pytest.raises(LookupError, match="defect"):
        asyncio.run(lasting("work", work, cast(Reporter, Told())))


def test_a_group_is_scarce_where_all_in_it_are() -> None:
    assert "out of memory" in scarcity(ExceptionGroup("", [MemoryError()]))
    assert scarcity(ExceptionGroup("", [MemoryError(), ValueError()])) == ""
    assert scarcity(RuntimeError("something else")) == ""
    assert "LimitNOFILE" in scarcity(OSError(24, "Too many open files"))


_NO_THREADS = """
import os, resource
from nodeport_nft.daemon.lasting import start_workers
from nodeport_nft.scarcity import scarcity
start_workers(2).shutdown()
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
try:
    start_workers(2)
except RuntimeError as error:
    print(scarcity(error))
"""


def test_threads_that_cannot_be_had_are_told_of() -> None:
    """Of another user, whom the limit of processes holds for; root is exempt."""
    done = subprocess.run(
        [sys.executable, "-c", _NO_THREADS], capture_output=True, text=True, timeout=60, check=False
    )
    if "setuid" in done.stderr:
        pytest.skip("root alone can become somebody else")
    assert done.stdout.startswith("no thread can be started; "), done.stderr
    assert "pids.max" in done.stdout


def test_the_cluster_is_told_why_a_node_programs_nothing() -> None:
    """Or ``wait`` would have nothing to say of it but that it does not answer."""
    daemon = Mock(_agenda=Agenda(Due, time.monotonic), _backoff=Backoff(30.0))
    told: list[str] = []
    daemon._reporter.failed.side_effect = lambda wanting, _: told.append(wanting)
    daemon._writing.report.side_effect = lambda: told.append("told")
    Daemon._lost(daemon, "no memory")
    assert told == ["no memory", "told"]
    Daemon._lost(daemon, "no memory")
    assert len(told) == 2, "it is about to begin anew"
