"""Configuration files, up to the rules that depend on them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from ipaddress import ip_address

import yaml
from msgspec.structs import replace

from fuzz.engine import Target
from fuzz.targets.common import ROOT, check_lines
from nodeport_nft.compile import compile_schema
from nodeport_nft.config import ConfigError, load_config
from nodeport_nft.facts import Host, HostAddress, collisions, gather, served_on
from nodeport_nft.model import Family
from nodeport_nft.plan import plan_replacement
from nodeport_nft.render import write_transaction
from nodeport_nft.ruleset import Table

_HOST = Host(
    addresses=(HostAddress(ip_address("172.30.1.2"), "eth0"), HostAddress(ip_address("fd00:30:1::2"), "eth0"))
)


def run(data: bytes) -> None:
    """What every command does first, and the tables of a node without Services."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        try:
            config = load_config(file.name, {})
        except ConfigError as error:
            check_lines(str(error).split("\n"))
            return
    facts, warnings = gather(config, name="worker-1", node=None, node_ips=(ip_address("172.30.1.2"),), host=_HOST)
    check_lines([*warnings, *collisions(config, _HOST), served_on(facts)])
    for family in Family:
        schema = compile_schema(family, facts)
        base = tuple(
            chain for chain in schema.chains if "/" not in chain.name
        )  # the rest are a thousand lines of draws
        write_transaction(plan_replacement(Table(replace(schema, chains=base)), {}))


def seeds() -> Sequence[bytes]:
    """The file of contrib as it is, with all of its lines in force, and those of the cases."""
    text = (ROOT / "contrib/systemd/config.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#") and ": " in line[:25]]
    whole = "\n".join(line for line in lines if line[0].islower())
    nodes = [yaml.safe_load(file.read_text()) for file in sorted(ROOT.glob("tests/cases/*/node.yaml"))]
    return [
        text.encode(),
        whole.encode(),
        *(yaml.safe_dump(node["config"]).encode() for node in nodes if "config" in node),
    ]


TOKENS = (
    *b"primary all none ClusterCIDR NodeCIDR BridgeInterface InterfaceNamePrefix 1h30m 50ms 30000-32767".split(),
    *b"cni0 true ip filter FORWARD 127.0.0.1:10256 cluster.local".split(),
)

TARGET = Target("configuration", run, seeds, TOKENS)
