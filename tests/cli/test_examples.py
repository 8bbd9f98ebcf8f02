"""The examples: they say what the demo's cluster is, and work as their comments promise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nodeport_nft.manifest import Object, read_manifests
from nodeport_nft.model import Ranges
from tests.cli.program import SCRIPT

EXAMPLES = Path(__file__).parents[2] / "examples"
MY_SER = EXAMPLES / "my-ser.yaml"


def objects(*names: str) -> dict[str, Object]:
    manifests = read_manifests([str(EXAMPLES / name) for name in names], ranges=Ranges())
    assert manifests.warnings == ()
    return {str(each.ref): each for each in manifests.objects}


def test_the_whole_is_its_parts_and_the_service() -> None:
    whole, parts = objects("my-ser.yaml"), objects("nodes.yaml", "pods.yaml")
    service = whole.pop("Service/default/my-ser")
    assert {ref: each.values for ref, each in whole.items()} == {ref: each.values for ref, each in parts.items()}
    assert len(service.values) == 1


@pytest.mark.usefixtures("private_namespaces")
@pytest.mark.parametrize("node", ["worker-1", "worker-2"])
def test_what_is_rendered_loads_with_plain_nft(node: str) -> None:
    rendered = subprocess.run(
        [SCRIPT, "render", "-f", MY_SER, "--node-name", node], capture_output=True, text=True, check=True
    )
    loading = ["unshare", "--net", "sh", "-c", "nft -f - && nft list table ip nodeport-nft"]
    listed = subprocess.run(loading, input=rendered.stdout, capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert '"default/my-ser" : 10.244.2.2 . 80' in listed.stdout


@pytest.mark.usefixtures("private_namespaces")
def test_the_second_sync_writes_nothing(tmp_path: Path) -> None:
    sync = f"{SCRIPT} sync -f {MY_SER} --once --store {tmp_path}/store.db"
    script = f"{sync}; nft list ruleset > first; {sync}; nft list ruleset > second"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    first, second = done.stdout.splitlines()
    assert "1 service, tables created" in first
    assert second.endswith("1 service, nothing changed")
    assert "default/my-ser" in (tmp_path / "first").read_text()
    assert (tmp_path / "first").read_text() == (tmp_path / "second").read_text()
