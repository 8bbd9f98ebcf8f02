"""Ten thousand changes, each a transaction of its own, and not one connection fails (K4, X1)."""

from __future__ import annotations

import pytest

from lab.cluster import Cluster
from tests.daemon.lengths import LENGTHS
from tests.daemon.objects import Changes
from tests.daemon.running import Daemon
from tests.daemon.traffic import traffic


@pytest.mark.proves("K4")
def test_no_connection_fails_while_endpoints_come_and_go(cluster: Cluster, daemon: Daemon, changes: Changes) -> None:
    """One endpoint stays, others come and go and always answer; other services change as much."""
    daemon.start("--min-sync-period", "0")
    before = daemon.status().syncs
    with traffic(cluster) as results:
        for number in range(LENGTHS.changes):
            daemon.follow(lambda: changes.next("web" if number % 2 else ""))  # noqa: B023 (called at once)
        daemon.settle()
    assert daemon.status().syncs - before >= LENGTHS.changes / 2, "the changes were put together"
    assert [result.failures for result in results] == [[]] * 4
    for result in results[:2]:
        assert result.done > 500
        assert set(result.names) == {"web-1", "web-2", "web-3", "tester"}
    assert all(result.done > 100 for result in results[2:])
    assert daemon.events("tables changed by others") == []
    assert daemon.repairs() == 0
