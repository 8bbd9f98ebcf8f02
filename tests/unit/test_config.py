"""The configuration: defaults, file, flags, and every problem at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeport_nft.config import Config, ConfigError, load_config
from nodeport_nft.model import NodePortMode, PortRange


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return str(path)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "# nothing\n"), {})
    assert config == Config()
    assert config.ranges.node_ports == PortRange(30000, 32767)
    assert [str(cidr) for cidr in config.ranges.service_cidrs] == ["10.96.0.0/12", "fd00:10:96::/112"]


def test_file_and_flags(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "nodePortRange: 31000-31999\nserviceCIDRs: [10.0.0.0/16, 'fd00::/112']\nclusterCIDRs: 10.244.0.0/16\n"
        "nodePortAddresses: all\nmasqueradeBit: 3\nclusterDomain: example.org.\nstore: /tmp/s.db\n"
        "maxDocumentBytes: 1000\nownRoutes: [10.0.1.0/24]\n",
    )
    config = load_config(path, {"masqueradeBit": 5, "clusterCIDRs": None, "nodePortAddresses": []})
    assert config.masquerade_bit == 5
    assert config.node_port_mode is NodePortMode.ALL
    assert [str(c) for c in config.cluster_cidrs] == ["10.244.0.0/16"]
    assert config.cluster_domain == "example.org"
    assert config.max_document_bytes == 1000
    assert config.ranges.node_ports == PortRange(31000, 31999)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("colour: blue", "colour: unknown key; known are "),
        ("nodePortRange: 32767-30000", "nodePortRange: '32767-30000' is no range of ports; "),
        ("nodePortRange: 0-70000", "nodePortRange: '0-70000' is no range of ports; "),
        ("nodePortRange: many", "nodePortRange: 'many' is no range; write FIRST-LAST"),
        ("nodePortRange: 80", "nodePortRange: 80 is no text; put it in quotes"),
        ("serviceCIDRs: 10.96.0.1/12", "serviceCIDRs: '10.96.0.1/12' is no network ("),
        ("serviceCIDRs: [10.0.0.0/16, 10.1.0.0/16]", "give one network, or one of each family"),
        ("serviceCIDRs: 10.0.0.0/31", "serviceCIDRs: 10.0.0.0/31 has no room for clusterIPs; "),
        ("masqueradeBit: 32", "masqueradeBit: 32 is no bit of the packet mark; choose a number from 0 to 31"),
        ("masqueradeBit: yes", "masqueradeBit: True is no bit of the packet mark; "),
        ("nodePortAddresses: [primary, all]", "nodePortAddresses: 'primary' is no network ("),
        ("- a\n- b", "holds a list; write 'key: value' lines"),
        ("a: [", "not YAML: "),
    ],
)
def test_problems(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, line), {})
    assert message in str(caught.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "masqueradeBit: 99\ncolour: blue\n"), {"nodePortRange": "x"})
    assert len(str(caught.value).splitlines()) == 3


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(str(tmp_path / "nope.yaml"), {})
