"""The fast path in this machine's kernel (X11): the devices where there are flowtables, a clear error where not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.cluster import Cluster

PROGRAM = Path(sys.executable).with_name("nodeport-nft")
PROBE = (
    "table ip probe { flowtable f { hook ingress priority 0; }; "
    "chain c { type filter hook forward priority 0; flow add @f; }; }"
)


def sync(cluster: Cluster, directory: Path) -> subprocess.CompletedProcess[str]:
    """``sync --once --flowtable`` on a node."""
    words = [str(PROGRAM), "sync", "--once", "--flowtable", "--node-name", "worker-1"]
    files = ["--store", str(directory / "store.db"), "-f", str(directory / "node.yaml")]
    return cluster.run("worker-1", [*words, *files], check=False)


@pytest.mark.proves("X11")
def test_it_works_or_says_why_it_cannot(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(
        "apiVersion: v1\nkind: Node\nmetadata: {name: worker-1}\n"
        "status: {addresses: [{type: InternalIP, address: 172.30.1.2}]}\n"
    )
    has_flowtables = cluster.run("worker-1", ["nft", "--check", PROBE], check=False).returncode == 0
    done = sync(cluster, tmp_path)
    if not has_flowtables:
        assert done.returncode == 1
        assert "flowtable: this kernel cannot have one; load its modules" in done.stderr
        assert "nodeport-nft" not in cluster.ruleset("worker-1")
        return
    assert done.returncode == 0, done.stderr
    for family in ("ip", "ip6"):
        listing = cluster.run("worker-1", ["nft", "list", "flowtable", family, "nodeport-nft", "fast-path"]).stdout
        devices = set(listing.split("devices = {")[1].split("}")[0].replace(",", " ").split())
        assert devices == {"eth0", "pod2", "pod3"}  # the uplink, and the veths of its pods
    assert "nothing changed" in sync(cluster, tmp_path).stdout
