"""The daemon runs on kube-proxy's own configuration, and takes a change of it (W4)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nodeport_nft.model import NodePortMode
from tests.daemon.objects import Changes
from tests.daemon.running import Daemon, wait_for

CONFIG_MAP = Path(__file__).parents[1] / "kubernetes" / "kubeadm-kube-proxy.yaml"


@pytest.mark.proves("W4")
def test_a_changed_kube_proxy_configuration_takes_effect_and_a_broken_one_does_not(
    daemon: Daemon, changes: Changes, tmp_path: Path
) -> None:
    assert changes
    path = tmp_path / "config.conf"
    config = yaml.safe_load(yaml.safe_load(CONFIG_MAP.read_text())["data"]["config.conf"])

    def write(**nftables: object) -> None:
        """Put it there as an editor does."""
        edited = tmp_path / "edited"
        edited.write_text(yaml.safe_dump({**config, "nftables": nftables}))
        edited.rename(path)

    write(masqueradeBit=None)
    daemon.start("--config", str(path))
    daemon.config = replace(daemon.config, node_port_mode=NodePortMode.ALL)
    daemon.settle()

    write(masqueradeBit=32)
    (problem,) = wait_for(
        lambda: [each for each in daemon.status().problems if "config.conf" in each], "what is wrong"
    )
    assert "nftables.masqueradeBit: 32 is not a bit of the packet mark" in problem
    assert problem.endswith("; the configuration read before stays in force")
    daemon.settle()

    write(masqueradeBit=7)
    daemon.config = replace(daemon.config, masquerade_bit=7)
    daemon.settle()
    (event,) = daemon.events("configuration")
    assert "does not apply here: mode (iptables, which is its default" in event["text"]
