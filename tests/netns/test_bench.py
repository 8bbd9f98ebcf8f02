"""The benchmark itself, with few Services: it runs, everyone is measured, and the tables that are measured work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.accounting import kernel_account
from bench.measuring import waited_for
from bench.node import Node
from lab.namespaces import LabError, Namespace

ROOT = Path(__file__).parents[2]

TINY = """
services = 10
endpoints = 3
rounds = 1
changes = 1
rolling = 20
connections = 200
packet_seconds = 0.1
settle_seconds = 0.1
"""
STARTS = ("start over an empty kernel (s)", "start over its own tables (s)", "transactions of that")
CHANGES = (
    "endpoint added (ms)",
    "endpoint moved (ms)",
    "endpoint removed (ms)",
    "Service added (ms)",
    "Service removed (ms)",
    "nodePort changed (ms)",
    "policy changed (ms)",
    "affinity switched on (ms)",
    "affinity switched off (ms)",
    "rolling update, one step (ms)",
    "rolling update of 20 endpoints (s)",
)
PACKETS = tuple(f"new connection, {way}, p50 (µs)" for way in ("pod", "clusterIP", "nodePort"))


@pytest.fixture
def privileged() -> None:
    try:
        Namespace().close()
    except LabError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("privileged")
def test_a_tiny_run(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    out = tmp_path / "out" / "bench.json"
    command = [sys.executable, "-m", "bench", "tiny", "--scenarios", str(tmp_path), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (scenario,) = json.loads(out.read_text())["scenarios"]
    assert scenario["notes"] == {}
    samples = scenario["samples"]
    packets = PACKETS if shutil.which("cc") else ()
    for name in ("nodeport-nft", "chains by nft -f"):
        assert [what for what in (*STARTS, *CHANGES, *packets) if not samples[name].get(what)] == []
        assert "| " + name + " |" in done.stdout
    assert samples["nodeport-nft"]["transactions of that"] == [0], "it writes where nothing differs"
    assert samples["chains by nft -f"]["transactions of that"] == [1]


@pytest.mark.usefixtures("privileged")
def test_what_a_table_takes_in_the_kernel_is_charged_to_who_loads_it(tmp_path: Path) -> None:
    def loaded(count: int) -> float:
        elements = ", ".join(f"10.{number >> 8}.{number & 255}.1" for number in range(count))
        path = tmp_path / "set.nft"
        path.write_text(f"table ip t {{\n set s{count} {{ type ipv4_addr; elements = {{ {elements} }}; }}\n}}\n")
        with kernel_account() as account, node.charged(account):
            if account is None:
                pytest.skip("there is no memory cgroup to be had")
            assert waited_for(node.popen(["nft", "-f", str(path)]), seconds=60).megabytes > 0
            return account.megabytes()

    with Node() as node:
        few, many = loaded(1), loaded(20_000)
    assert many - few > 20_000 * 40 / 2**20, "an element takes 40 bytes at least"


def test_a_kube_proxy_wants_an_api_server() -> None:
    command = [sys.executable, "-m", "bench", "--kube-proxy", "/bin/true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "--kube-proxy wants a --kubeconfig too\n")


def test_a_scenario_that_is_not_there_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "none"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith("there is no none.toml\n")
