"""The limits of connection tracking that kube-proxy would make (K6), in a network namespace of the lab."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.cluster import Cluster
from nodeport_nft.config import Config
from nodeport_nft.kernel.host.sysctl import find_conntrack
from tests.cli.program import SCRIPT

ESTABLISHED = "net.netfilter.nf_conntrack_tcp_timeout_established"
CLOSE_WAIT = "net.netfilter.nf_conntrack_tcp_timeout_close_wait"
UDP, STREAM = "net.netfilter.nf_conntrack_udp_timeout", "net.netfilter.nf_conntrack_udp_timeout_stream"
MAX = "net.netfilter.nf_conntrack_max"
PLACED = Config(store="kubernetes:")

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
"""
CONFIG = """
conntrackTCPEstablishedTimeout: 2h
conntrackUDPTimeout: 45s
conntrackMaxPerCore: 0
"""


@pytest.fixture
def fresh(cluster: Cluster) -> Cluster:
    """The lab as a fresh host is: with connection tracking, and the kernel's timeouts."""
    cluster.nft("worker-1", "table inet tracking { chain c { type filter hook input priority 0; ct state new; }; }")
    cluster.sysctl("worker-1", {ESTABLISHED: "432000", CLOSE_WAIT: "60", UDP: "30", STREAM: "120"})
    return cluster


def value(cluster: Cluster, name: str) -> int:
    return int(cluster.run("worker-1", ["sysctl", "-n", name]).stdout)


def told(cluster: Cluster, config: Config, cores: int = 2) -> list[str]:
    return cluster.call("worker-1", lambda: [str(found) for found in find_conntrack(config, cores)])


@pytest.mark.proves("K6")
def test_those_of_kube_proxy_are_missed_in_its_place_and_nowhere_else(fresh: Cluster) -> None:
    found = told(fresh, replace(PLACED, conntrack_max_per_core=0))
    assert [line.partition(" is not ")[0] for line in found] == [ESTABLISHED, CLOSE_WAIT]
    assert found[0] == (
        f"{ESTABLISHED} is not 86400: connections are tracked for another time than conntrackTCPEstablishedTimeout "
        f"says; sysctl -w {ESTABLISHED}=86400, or run sync with --set-sysctls (for the systemd service: a file in "
        "/etc/sysctl.d)"
    )
    assert told(fresh, Config()) == []
    given = Config(conntrack_udp_timeout=45.0, places={"conntrackUDPTimeout": "config.yaml:1"})
    assert [line.partition(" is not ")[0] for line in told(fresh, given)] == [UDP], "what is given counts anywhere"


@pytest.mark.proves("K6")
@pytest.mark.parametrize(
    ("per_core", "least", "cores", "wanted"),
    [
        (0, 1 << 30, 8, 0),  # whatever it is
        (1 << 20, 0, 8, 1 << 20),  # more cores than memory
        (1 << 18, 1, 3, 3 << 18),
        (1, 1 << 29, 2, 1 << 29),
        (1, 1, 2, 0),  # there is more already, and it is not lowered
    ],
)
def test_how_many_connections_is_a_matter_of_cores(
    fresh: Cluster, per_core: int, least: int, cores: int, wanted: int
) -> None:
    """Those of all namespaces are the host's: this one can only tell."""
    config = replace(PLACED, conntrack_max_per_core=per_core, conntrack_min=least)
    found = [line for line in told(fresh, config, cores) if line.startswith(MAX)]
    remedy = f"it is the host's: in its network namespace, sysctl -w {MAX}={wanted}"
    assert [line.rpartition("; ")[2] for line in found] == ([remedy] if wanted > value(fresh, MAX) else [])


@pytest.mark.proves("K5", "K6")
def test_they_are_set_when_asked_and_taken_back_by_cleanup(fresh: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)

    def run(*words: str) -> str:
        argv = [str(SCRIPT), *words, "--config", str(path), "--state-dir", str(tmp_path)]
        argv += ["--store", str(tmp_path / "db"), "--node-name", "worker-1"]
        done = fresh.run("worker-1", argv, text=MANIFEST, timeout=60)
        return done.stdout + done.stderr

    run("sync", "--once", "-f", "-")
    assert (value(fresh, ESTABLISHED), value(fresh, UDP)) == (432000, 30)
    said = run("sync", "--once", "-f", "-", "--set-sysctls")
    assert f"sysctl {ESTABLISHED} set to 7200" in said
    assert [value(fresh, name) for name in (ESTABLISHED, CLOSE_WAIT, UDP, STREAM)] == [7200, 60, 45, 120]
    undone = run("cleanup")
    assert f"sysctl {ESTABLISHED} set back to 432000" in undone
    assert (value(fresh, ESTABLISHED), value(fresh, UDP)) == (432000, 30)
