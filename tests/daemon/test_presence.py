"""One daemon in a network namespace, and what others may do beside it."""

from __future__ import annotations

import pytest

from lab.cluster import Cluster
from tests.cli.program import SCRIPT
from tests.daemon.objects import Desired, service
from tests.daemon.running import Daemon
from tests.daemon.tables import ABSENT


def test_a_second_daemon_is_refused_and_the_first_goes_on(cluster: Cluster, desired: Desired, daemon: Daemon) -> None:
    desired.apply(service("web", 10))
    daemon.start()
    second = daemon.cli(
        "sync", "--store", str(desired.path), "--node-name", "worker-1", "--metrics-bind-address", "none"
    )
    assert (second.returncode, second.stdout) == (1, "")
    assert f"pid {daemon.pid}" in second.stderr
    elsewhere = cluster.run(
        "worker-2", [str(SCRIPT), "sync", "--once", "--store", str(desired.path), "--node-name", "worker-2"]
    )
    assert "1 service" in elsewhere.stdout, "another network namespace is another node"
    desired.apply(service("more", 11))
    daemon.settle()


@pytest.mark.proves("K5")
def test_cleanup_is_refused_while_the_daemon_would_undo_it(desired: Desired, daemon: Daemon) -> None:
    desired.apply(service("web", 10))
    daemon.start()
    words = ("cleanup", "--store", str(desired.path), "--state-dir", str(daemon.directory))
    refused = daemon.cli(*words)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "stop it first" in refused.stderr
    daemon.settle()
    assert daemon.repairs() == 0
    daemon.stop()
    assert daemon.cli(*words).returncode == 0
    assert daemon.held() == ABSENT


def test_a_sync_once_beside_the_daemon_does_no_harm(desired: Desired, daemon: Daemon) -> None:
    desired.apply(service("web", 10))
    daemon.start()
    done = daemon.cli("sync", "--once", "--store", str(desired.path), "--node-name", "worker-1")
    assert done.returncode == 0, done.stderr
    daemon.settle()
    desired.apply(service("more", 11))
    daemon.settle()
