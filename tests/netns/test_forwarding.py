"""Somebody else's forward chain that drops by default is named, and its remedy is one (real packets; K6)."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect

PROGRAM = Path(sys.executable).with_name("nodeport-nft")

MANIFESTS = """\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30010}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
status: {podIP: 10.244.1.2}
"""
DROPPING = """\
table inet somebody {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state { established, related } accept
	}
}
"""
FIREWALLD = """\
table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		jump filter_FORWARD_POLICIES_pre
		ct state invalid drop
		reject with icmpx type admin-prohibited
	}
	chain filter_FORWARD_POLICIES_pre {
		jump filter_FWD_policy
	}
	chain filter_FWD_policy {
	}
}
"""


def warnings(cluster: Cluster, directory: Path, *more: str) -> list[str]:
    """What ``sync --once`` says of forward chains."""
    (directory / "web.yaml").write_text(MANIFESTS)
    words = [str(PROGRAM), "sync", "--once", "--node-name", "worker-1", "--node-ip", "172.30.1.2"]
    files = ["--store", str(directory / "store.db"), "-f", str(directory / "web.yaml")]
    done = cluster.run("worker-1", [*words, *files, *more])
    return [line for line in done.stderr.splitlines() if "forward hook" in line]


def remedy(warning: str) -> list[str]:
    """The command that a warning gives."""
    match = re.search(r"let them through: (.*) \(or list", warning)
    assert match is not None, warning
    return shlex.split(match[1])


def reached(cluster: Cluster) -> Kind:
    """What becomes of a connection from outside."""
    return connect(cluster, "client", ("172.30.1.2", 30010), timeout=0.5).kind


@pytest.mark.proves("K6")
def test_a_chain_that_drops_is_named_and_its_remedy_works(cluster: Cluster, tmp_path: Path) -> None:
    assert warnings(cluster, tmp_path) == []
    assert reached(cluster) is Kind.REACHED
    cluster.nft("worker-1", DROPPING)
    assert reached(cluster) is Kind.SILENT
    (warning,) = warnings(cluster, tmp_path)
    assert "chain inet somebody forward in the forward hook drops by default" in warning
    cluster.run("worker-1", remedy(warning))
    assert reached(cluster) is Kind.REACHED
    assert warnings(cluster, tmp_path) == []


@pytest.mark.proves("K6")
def test_the_chain_of_iptables_is_named_in_its_own_words(cluster: Cluster, tmp_path: Path) -> None:
    cluster.run("worker-1", ["iptables-nft", "-P", "FORWARD", "DROP"])
    assert warnings(cluster, tmp_path, "--cluster-cidr", "10.244.0.0/16") != []
    (warning,) = warnings(cluster, tmp_path)
    assert reached(cluster) is Kind.SILENT
    command = remedy(warning)
    assert command[0] == "iptables"
    cluster.run("worker-1", ["iptables-nft", *command[1:]])
    assert reached(cluster) is Kind.REACHED
    assert warnings(cluster, tmp_path) == []


def test_what_lets_services_through_is_not_named(cluster: Cluster, tmp_path: Path) -> None:
    cluster.nft("worker-1", FIREWALLD)
    assert warnings(cluster, tmp_path) == []
    assert reached(cluster) is Kind.REACHED


def test_a_dormant_table_is_none_and_a_chain_to_trust_is_not_named(cluster: Cluster, tmp_path: Path) -> None:
    cluster.nft("worker-1", DROPPING.replace("{\n\tchain", "{\n\tflags dormant\n\tchain", 1))
    assert warnings(cluster, tmp_path) == []
    assert reached(cluster) is Kind.REACHED
    cluster.reset()
    cluster.nft("worker-1", DROPPING)
    config = tmp_path / "config.yaml"
    config.write_text("trustedChains: [inet somebody forward]\n")
    assert warnings(cluster, tmp_path, "--config", str(config)) == []
