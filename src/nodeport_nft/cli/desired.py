"""From flags to a node's tables: the way that sync, render, diff and trace take together."""

from __future__ import annotations

import gc
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nodeport_nft.cli.options import BAD_INPUT, fail, now, open_store, read_files, say, warn

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.facts import Host
    from nodeport_nft.kernel.nft import Nft
    from nodeport_nft.model import Family, IPAddress, NodeFacts, Snapshot
    from nodeport_nft.reconcile import Programme
    from nodeport_nft.render import ListedTable

_MANY = 1000
"""Services from which on a child process lists the tables (see ``kernel.nft.BULK``)."""


def parse_node_name(given: str | None) -> str:
    """The node's name: the one given, else the host's. Leaves if it cannot be a Node's (RFC 1123)."""
    name = given or platform.node().lower()
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name) or len(name) > 253:
        fail(f"node name {name!r} is no DNS subdomain (RFC 1123); give one with --node-name", BAD_INPUT)
    return name


def parse_addresses(texts: list[str] | None) -> tuple[IPAddress, ...]:
    """The addresses of ``--node-ip``. Leaves if one of them is none."""
    from ipaddress import ip_address

    try:
        return tuple(ip_address(text) for text in texts or ())
    except ValueError as error:
        fail(f"--node-ip: {error}; give an address such as 172.30.1.2", BAD_INPUT)


def read_snapshot(config: Config, files: list[str] | None, *, keep: bool, held: bool = True) -> Snapshot:
    """The desired state: the store's, or that of manifests with the store's allocations.

    ``keep``: write the manifests to the store. ``held`` False: leave the store alone, allocate as from an empty one.
    """
    from dataclasses import replace

    gc.disable()  # a third of the time otherwise: all that is made from here on lives until the process ends
    if not keep and not (held and Path(config.store).exists()):
        config = replace(config, store=":memory:")
    manifests = read_files(files, config) if files else None
    with open_store(config) as store:
        if manifests is None:
            return store.snapshot()
        with store.write() as transaction:
            transaction.prune(manifests.objects)
            transaction.apply(manifests.objects, now=now())
            snapshot = transaction.snapshot()
            if not keep:
                transaction.rollback()
    return snapshot


def compile_tables(
    config: Config,
    snapshot: Snapshot,
    name: str,
    node_ips: tuple[IPAddress, ...],
    host: Host,
    nft: Nft | None,
) -> tuple[Programme, dict[Family, ListedTable | None]]:
    """The node's tables, and what the kernel holds (nothing without ``nft``); says what the operator should know."""
    from nodeport_nft.facts import gather
    from nodeport_nft.reconcile import compile_snapshot, read_tables

    node = next((node for node in snapshot.nodes if node.name == name), None)
    facts, warnings = gather(config, name=name, node=node, node_ips=node_ips, host=host)
    warn(warnings)
    say(f"node {name}: nodePorts on {_served(facts)}")
    listed = read_tables(nft, facts, bulk=len(snapshot.services) > _MANY) if nft else {}
    programme = compile_snapshot(snapshot, facts, listed)
    warn(programme.problems)
    return programme, listed


def _served(facts: NodeFacts) -> str:
    from nodeport_nft.model import NodePortMode

    if facts.node_port_mode is NodePortMode.ALL:
        return "every local address"
    return ", ".join(map(str, facts.node_port_ips)) or "no address"
