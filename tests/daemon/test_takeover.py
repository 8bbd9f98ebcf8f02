"""From kube-proxy and back with connections on their way, and told where it runs beside (W5)."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.daemon import kube_proxy
from tests.daemon.objects import Desired, service, slices
from tests.daemon.running import Daemon, wait_for
from tests.daemon.traffic import traffic

WHERE = "kube-proxy"


@pytest.fixture
def web(cluster: Cluster, desired: Desired) -> None:
    """The service as the cluster has it; two of its endpoints are those of kube-proxy's table as well."""
    desired.apply(service("web", 10), *slices(cluster, "web", [("web-2", 8080), ("web-3", 8080)]))


def answers(cluster: Cluster, count: int = 8) -> set[str]:
    """Who answers new connections to the clusterIP."""
    found = set()
    for _ in range(count):
        with cluster.socket("web-1", socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(30)
            sock.connect(("10.96.0.10", 80))
            found.add(sock.recv(1 << 16).decode().split('"name": "')[1].split('"')[0])
    return found


@contextmanager
def running_beside(cluster: Cluster, directory: Path) -> Iterator[Callable[[], None]]:
    """A process of kube-proxy's name on worker-1; what is given ends it."""
    program = directory / "kube-proxy"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    process: subprocess.Popen[str] = cluster.popen("worker-1", [str(program), "3600"])
    try:
        yield lambda: cluster.stop(process)
    finally:
        cluster.stop(process)


def told(daemon: Daemon) -> list[str]:
    return [problem for problem in daemon.status().problems if problem.startswith("kube-proxy")]


def removals(daemon: Daemon) -> int:
    return len(daemon.events("kube-proxy removed"))


@pytest.mark.proves("W5")
@pytest.mark.usefixtures("web")
def test_from_kube_proxy_and_back_no_connection_fails(cluster: Cluster, daemon: Daemon) -> None:
    """New connections all the while, and four that last, through the take-over and the way back."""
    kube_proxy.write(cluster, ["web-2", "web-3"])
    with traffic(cluster) as results:
        daemon.start("--replace-kube-proxy")
        wait_for(lambda: not kube_proxy.is_there(cluster), "the end of kube-proxy's tables")
        time.sleep(1.0)  # connections that begin now are ours alone
        assert daemon.stop() == 0
        kube_proxy.write(cluster, ["web-2", "web-3"])
        done = daemon.cli("cleanup", "--store", str(daemon.desired.path), "--state-dir", str(daemon.directory))
        assert done.returncode == 0, done.stderr
        assert "nodeport-nft" not in cluster.ruleset("worker-1")
        time.sleep(1.0)
    assert [result.failures for result in results] == [[]] * 4
    assert all(set(result.names) == {"web-2", "web-3"} for result in results[:2])
    assert all(result.done > 50 for result in results)


@pytest.mark.proves("W5")
@pytest.mark.usefixtures("web")
def test_while_one_runs_nothing_is_removed_and_that_is_told(
    cluster: Cluster,
    daemon: Daemon,
    tmp_path: Path,
) -> None:
    """Who was written last comes first, so ours count from the start on, until kube-proxy writes its chains anew."""
    kube_proxy.write(cluster, ["tester"])
    with running_beside(cluster, tmp_path) as end:
        assert answers(cluster) == {"tester"}
        daemon.start("--replace-kube-proxy")
        (problem,) = wait_for(lambda: told(daemon), "that it runs")
        assert problem.startswith("kube-proxy runs beside this program (process ")
        assert "; what it has left is removed then (table ip kube-proxy, table ip6 kube-proxy)" in problem
        assert answers(cluster) <= {"web-2", "web-3"}
        kube_proxy.write(cluster, ["tester"])
        assert answers(cluster) == {"tester"}
        assert (kube_proxy.is_there(cluster), removals(daemon)) == (True, 0)
        end()
        wait_for(lambda: not kube_proxy.is_there(cluster), "the end of its tables")
    assert answers(cluster) <= {"web-2", "web-3"}
    wait_for(lambda: not told(daemon), "the end of the problem")
    assert removals(daemon) == 1


@pytest.mark.proves("W5")
@pytest.mark.usefixtures("web")
def test_a_table_that_comes_back_is_told_and_not_fought_over(cluster: Cluster, daemon: Daemon) -> None:
    kube_proxy.write(cluster, ["tester"])
    daemon.start("--replace-kube-proxy")
    wait_for(lambda: removals(daemon) == 1, "the end of its tables")
    kube_proxy.write(cluster, ["tester"])
    (problem,) = wait_for(lambda: told(daemon), "that it is back")
    assert problem.startswith("kube-proxy has written table ip kube-proxy, table ip6 kube-proxy again")
    assert (kube_proxy.is_there(cluster), removals(daemon)) == (True, 1)
    daemon.send(signal.SIGHUP)
    wait_for(lambda: removals(daemon) == 2, "what SIGHUP asks for")
    assert not kube_proxy.is_there(cluster)
    wait_for(lambda: not told(daemon), "the end of the problem")


@pytest.mark.proves("W5")
@pytest.mark.usefixtures("web")
def test_without_the_flag_a_store_of_another_kind_leaves_it_alone(cluster: Cluster, daemon: Daemon) -> None:
    """Whoever has a store of their own beside a cluster's kube-proxy has other Services in it."""
    kube_proxy.write(cluster, ["tester"])
    daemon.start()
    done = daemon.cli(
        *("sync", "--once", "--store", str(daemon.desired.path), "--node-name", "worker-1"),
        *("--state-dir", str(daemon.directory)),
    )
    assert (done.returncode, kube_proxy.is_there(cluster)) == (0, True)
    assert "kube-proxy" not in done.stdout + done.stderr
    assert told(daemon) == []


@pytest.mark.proves("W5")
@pytest.mark.usefixtures("web")
def test_sync_once_removes_it_too(cluster: Cluster, daemon: Daemon) -> None:
    kube_proxy.write(cluster, ["tester"])
    words = ("sync", "--once", "--replace-kube-proxy", "--store", str(daemon.desired.path))
    done = daemon.cli(*words, "--node-name", "worker-1", "--state-dir", str(daemon.directory))
    assert done.returncode == 0, done.stderr
    assert "kube-proxy: table ip kube-proxy removed\nkube-proxy: table ip6 kube-proxy removed" in done.stderr
    assert not kube_proxy.is_there(cluster)
    assert answers(cluster) <= {"web-2", "web-3"}


@pytest.mark.proves("W5")
def test_nothing_is_removed_before_all_services_are_known(cluster: Cluster, daemon: Daemon, tmp_path: Path) -> None:
    """An API server that does not answer leaves the node with kube-proxy's rules, whatever was asked for."""
    kube_proxy.write(cluster, ["tester"])
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],  # nobody listens there
        "users": [{"name": "c", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    daemon.spawn("--replace-kube-proxy", "--store", "kubernetes:", "--kubeconfig", str(path))
    wait_for(lambda: daemon.events("waiting for the store"), "that it waits")
    wait_for(lambda: daemon.events("problem"), "that the API server is told")
    assert (kube_proxy.is_there(cluster), removals(daemon)) == (True, 0)
    assert "nodeport-nft" not in cluster.ruleset("worker-1")
    assert answers(cluster) == {"tester"}
