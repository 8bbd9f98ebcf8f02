"""In a user namespace, as a container without the host's rights: the host's limits hold, and the rest works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import SCRIPT
from tests.user_namespaces import UNSHARE, need_user_namespaces

INSIDE = (*UNSHARE, "--fork", "--kill-child")


def inside(script: str, directory: Path) -> str:
    """What a shell in a user namespace of its own prints; ``$PROGRAM`` is the program, ``$PYTHON`` what runs it."""
    need_user_namespaces()
    environment = ["env", f"PROGRAM={SCRIPT}", f"PYTHON={sys.executable}", f"PYTHONPATH={Path(__file__).parents[2]}"]
    done = subprocess.run(
        [*INSIDE, *environment, "sh", "-euc", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_sync_is_one_transaction_there_too(tmp_path: Path) -> None:
    """The schema alone is more than a socket sends by default, and libnftables may not ask for more by force."""
    said = inside(
        """
        ip link set lo up
        "$PROGRAM" create service nodeport web --tcp=80 --store s.db
        "$PROGRAM" sync --once --store s.db --node-name w --node-ip 127.0.0.1
        "$PROGRAM" sync --once --store s.db --node-name w --node-ip 127.0.0.1
        "$PROGRAM" diff --store s.db --node-name w --node-ip 127.0.0.1
        nft list ruleset
        """,
        tmp_path,
    )
    assert "tables created" in said
    assert "nothing changed" in said
    assert "default/web" in said


def test_a_daemon_lives_there(tmp_path: Path) -> None:
    inside(
        """
        ip link set lo up
        "$PROGRAM" create service nodeport web --tcp=80 --store s.db
        "$PROGRAM" sync --store s.db --node-name w --node-ip 127.0.0.1 2>log & daemon=$!
        until grep -q event=sync log; do sleep 0.1; done
        "$PROGRAM" create service nodeport more --tcp=81 --store s.db
        until nft list ruleset | grep -q default/more; do sleep 0.1; done
        kill $daemon
        wait $daemon
        """,
        tmp_path,
    )


def test_sync_once_leaves_out_a_service_that_the_kernel_refuses_and_serves_the_others(tmp_path: Path) -> None:
    """Here one that is more than a message may be; over no tables it is written in many and served."""
    limit = 2 * int(Path("/proc/sys/net/core/wmem_max").read_text())
    if limit > 9_000_000:
        pytest.skip(f"sysctl net.core.wmem_max is so high that one Service cannot be more than {limit} bytes")
    ports = [{"name": f"p{port}", "port": port} for port in range(80, 100)]
    documents: list[dict[str, object]] = [
        {"kind": "Service", "metadata": {"name": "big"}, "spec": {"type": "NodePort", "ports": ports}},
        {"kind": "Service", "metadata": {"name": "small"}, "spec": {"ports": ports[:1]}},
    ]
    documents += [
        {
            "kind": "Endpoints",
            "metadata": {"name": "big"},
            "subsets": [{"ports": ports, "addresses": [{"ip": f"10.0.{n >> 8}.{n & 255}"} for n in range(1, 3001)]}],
        }
    ]
    manifests = [json.dumps({"apiVersion": "v1", **document}) for document in documents]
    (tmp_path / "m.yaml").write_text("\n---\n".join(manifests))
    (tmp_path / "small.yaml").write_text(manifests[1])
    said = inside(
        """
        ip link set lo up
        "$PROGRAM" sync --once -f small.yaml --store s.db --node-name w --state-dir .
        for files in "-f m.yaml" ""; do
            "$PROGRAM" sync --once $files --store s.db --node-name w --state-dir . 2>&1 || echo "left with $?"
        done
        nft list ruleset
        nft flush ruleset
        echo "without tables"
        "$PROGRAM" sync --once --store s.db --node-name w --state-dir .
        nft list ruleset | grep -c 'comment "default/big' | sed 's/^/elements of big: /'
        """,
        tmp_path,
    )
    said, _, without = said.partition("without tables")
    assert "tables created" in without
    assert "elements of big: 0" not in without
    refused = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(refused) == said.count("left with 1") == 2
    assert all("error: Service/default/big is left out: " in line for line in refused)
    assert "tables created" in said
    assert "nothing changed" in said
    assert "default/small" in said
    assert 'comment "default/big' not in said


def test_contexts_come_and_go_without_leaving_descriptors() -> None:
    """From the 1024th on libnftables would abort (select(2))."""
    code = """
import gc, os
from nodeport_nft.kernel.nft import Nft
from tests.by_text import run_text
counts = []
for _ in range(20):
    run_text(Nft(), "list tables")
    gc.collect()
    counts.append(len(os.listdir("/proc/self/fd")))
print(*sorted(set(counts[1:])))
"""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert len(done.stdout.split()) == 1, done.stdout + done.stderr
