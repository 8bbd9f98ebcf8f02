"""A store far away answers when it answers: until all of it is listed nothing is programmed, and all goes on."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.daemon.objects import Changes
from tests.daemon.running import Daemon, wait_for
from tests.netns.kernel import generation

LATE = (sys.executable, str(Path(__file__).with_name("late_source.py")))
LONG = 60.0
AWAY = "the store does not answer; it is asked again"


def spawn(daemon: Daemon) -> None:
    """Start it; on return it waits for its store."""
    daemon.spawn(before=LATE)
    wait_for(lambda: daemon.events("waiting for the store"), "that it waits", LONG)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_while_it_waits(cluster: Cluster, daemon: Daemon, changes: Changes, number: signal.Signals) -> None:  # noqa: ARG001
    """In good order, by itself, and without having touched anything."""
    before = generation(cluster, daemon.node)
    spawn(daemon)
    daemon.send(signal.SIGHUP)  # there is nothing to reload yet
    assert daemon.stop(number, LONG) == 0
    assert daemon.events("stopped"), "in good order"
    assert not daemon.events("sync")
    assert generation(cluster, daemon.node) == before


def test_it_programs_all_of_it_once_all_is_listed(cluster: Cluster, daemon: Daemon, changes: Changes) -> None:  # noqa: ARG001
    """Over tables of its own, which stay in force as they are meanwhile."""
    daemon.start()
    assert daemon.stop() == 0
    state, before = daemon.held(), generation(cluster, daemon.node)
    spawn(daemon)
    wait_for(lambda: AWAY in daemon.status().problems, "that it tells what is wrong", LONG)
    assert daemon.status().synced == 0
    daemon.send(signal.SIGUSR2)
    wait_for(lambda: AWAY not in daemon.status().problems, "that it tells that it is mended", LONG)
    assert not daemon.events("sync"), "an answer is not a list"
    assert (daemon.held(), generation(cluster, daemon.node)) == (state, before)
    daemon.send(signal.SIGUSR1)
    wait_for(lambda: daemon.events("sync"), "the first sync", LONG)
    assert daemon.held() == state


def test_where_memory_was_short_it_begins_anew_once_all_is_listed_again(
    cluster: Cluster,  # noqa: ARG001
    daemon: Daemon,
    changes: Changes,  # noqa: ARG001
) -> None:
    spawn(daemon)
    daemon.send(signal.SIGUSR2)
    wait_for(lambda: AWAY not in daemon.status().problems, "that it tells that it is mended", LONG)
    daemon.send(signal.SIGUSR1)
    wait_for(lambda: daemon.events("sync"), "the first sync", LONG)
    for times in (1, 2):
        daemon.send(signal.SIGALRM)
        wait_for(lambda: len(anew(daemon)) == times, "that it begins anew", LONG)  # noqa: B023 (called at once)
    wait_for(lambda: not daemon.status().pending, "that nothing waits to be written", LONG)


def anew(daemon: Daemon) -> list[object]:
    return [event for event in daemon.events("sync") if "start anew" in str(event)]
