"""Commands that concern one node: sync, render, diff, cleanup.

The first three take the same way and stop at different places, so that what ``render`` and ``diff`` show is what
``sync`` would write, byte for byte.
"""

from __future__ import annotations

import enum
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.desired import (
    alone,
    check_store,
    compile_tables,
    desired_state,
    parse_addresses,
    parse_node_name,
    read_snapshot,
)
from nodeport_nft.cli.options import (
    BAD_INPUT,
    ClusterCIDR,
    ConfigFile,
    Files,
    MasqueradeBit,
    NodeIP,
    NodeName,
    NodePortAddresses,
    NodePortRange,
    ServiceCIDR,
    StorePath,
    abandon_stdout,
    command,
    fail,
    reported,
    say,
    settings,
    warn,
)

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.facts import Host
    from nodeport_nft.kernel.nft import Nft
    from nodeport_nft.model import Family, Snapshot
    from nodeport_nft.plan import Transaction
    from nodeport_nft.reconcile import Programme
    from nodeport_nft.render import ListedTable


class Output(enum.StrEnum):
    """Formats of ``render``."""

    nft = "nft"
    json = "json"


@command
def sync(
    filename: Files = None,
    once: Annotated[bool, typer.Option("--once", help="Program the node once and leave.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written; write nothing.")] = False,
    hosts_file: Annotated[
        str | None,
        typer.Option("--hosts-file", metavar="PATH", help="Keep a hosts file of the services there."),
    ] = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Let manifests without an object delete everything.")
    ] = False,
    set_sysctls: Annotated[
        bool, typer.Option("--set-sysctls", help="Switch on forwarding and what else is missing.")
    ] = False,
    node_name: NodeName = None,
    node_ip: NodeIP = None,
    nodeport_addresses: NodePortAddresses = None,
    cluster_cidr: ClusterCIDR = None,
    masquerade_bit: MasqueradeBit = None,
    service_cidr: ServiceCIDR = None,
    node_port_range: NodePortRange = None,
    store: StorePath = None,
    config: ConfigFile = None,
) -> None:
    """Program this node from the store, or from manifests which then are the whole desired state.

    Reads back what the kernel holds and writes the difference only, in one transaction. With -f, what left the
    manifests is deleted and what it held is freed.
    """
    if not (once or dry_run):
        fail("add --once (or --dry-run): watching for changes is not implemented yet", BAD_INPUT)
    chosen = settings(
        config,
        store=store,
        serviceCIDRs=service_cidr,
        nodePortRange=node_port_range,
        clusterCIDRs=cluster_cidr,
        nodePortAddresses=nodeport_addresses,
        masqueradeBit=masquerade_bit,
    )
    name, addresses = parse_node_name(node_name), parse_addresses(node_ip)
    if hosts_file is not None:
        from nodeport_nft.kernel.traces import check_hosts_path

        check_hosts_path(Path(hosts_file))
    nft, host = _open_kernel(chosen)
    if dry_run:
        programme, _ = compile_tables(chosen, read_snapshot(chosen, filename), name, addresses, host, nft)
        _print(programme.tables.first_transaction())
        return
    if not filename:
        check_store(chosen)
    with alone(chosen):
        with desired_state(chosen, filename, keep=True) as snapshot:
            if (
                filename
                and not any((snapshot.services, snapshot.slices, snapshot.pods, snapshot.nodes))
                and not allow_empty
            ):
                fail("the manifests hold no object, and would delete all there is; --allow-empty if so", BAD_INPUT)
            programme, listed = compile_tables(chosen, snapshot, name, addresses, host, nft)
            transactions = programme.tables.first_transaction()
            _sysctls(chosen, programme, snapshot, name, host, set_them=set_sysctls)
            nft.apply(transactions)
        _delete_stale_flows(snapshot, programme, listed, host)
        if hosts_file is not None:
            _write_hosts(chosen, snapshot, name, Path(hosts_file))
    typer.echo(_summary(name, programme, transactions, listed))


@command
def render(
    filename: Files = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="nft: loads with nft -f; json: for reading.")] = (
        Output.nft
    ),
    node_name: NodeName = None,
    node_ip: NodeIP = None,
    nodeport_addresses: NodePortAddresses = None,
    cluster_cidr: ClusterCIDR = None,
    masquerade_bit: MasqueradeBit = None,
    service_cidr: ServiceCIDR = None,
    node_port_range: NodePortRange = None,
    store: StorePath = None,
    config: ConfigFile = None,
) -> None:
    """Print the ruleset for a node; needs no privilege, no kernel and no nftables.

    Node facts come from the Node manifest. Without --store, allocations are those that an empty store would give;
    with it, what the store holds is kept. Nothing is written.
    """
    from nodeport_nft.facts import Host
    from nodeport_nft.render import to_json

    chosen = settings(
        config,
        store=store,
        serviceCIDRs=service_cidr,
        nodePortRange=node_port_range,
        clusterCIDRs=cluster_cidr,
        nodePortAddresses=nodeport_addresses,
        masqueradeBit=masquerade_bit,
    )
    if filename is None and store is None:
        fail("nothing to render; give manifests with -f, or a store with --store", BAD_INPUT)
    snapshot = read_snapshot(chosen, filename, held=store is not None)
    programme, _ = compile_tables(
        chosen, snapshot, parse_node_name(node_name), parse_addresses(node_ip), Host(), None
    )
    if output is Output.json:
        typer.echo(to_json(programme.tables.tables()), nl=False)
    else:
        _print(programme.tables.first_transaction())


@command
def diff(
    filename: Files = None,
    node_name: NodeName = None,
    node_ip: NodeIP = None,
    nodeport_addresses: NodePortAddresses = None,
    cluster_cidr: ClusterCIDR = None,
    masquerade_bit: MasqueradeBit = None,
    service_cidr: ServiceCIDR = None,
    node_port_range: NodePortRange = None,
    store: StorePath = None,
    config: ConfigFile = None,
) -> None:
    """Compare the kernel with the desired state: prints what sync would write.

    Exit code 0: they are the same; 1: there are changes; 2: trouble.
    """
    with reported(BAD_INPUT):
        chosen = settings(
            config,
            store=store,
            serviceCIDRs=service_cidr,
            nodePortRange=node_port_range,
            clusterCIDRs=cluster_cidr,
            nodePortAddresses=nodeport_addresses,
            masqueradeBit=masquerade_bit,
        )
        nft, host = _open_kernel(chosen, BAD_INPUT)
        snapshot = read_snapshot(chosen, filename, missing=BAD_INPUT)
        programme, _ = compile_tables(
            chosen, snapshot, parse_node_name(node_name), parse_addresses(node_ip), host, nft
        )
        transactions = programme.tables.first_transaction()
        try:
            _print(transactions)
        except BrokenPipeError:  # who has seen enough still wants to know whether there are changes
            abandon_stdout()
    raise typer.Exit(1 if transactions else 0)


@command
def cleanup(
    store_too: Annotated[
        bool, typer.Option("--delete-store", help="Delete the store as well: all objects and allocations.")
    ] = False,
    node_name: NodeName = None,
    store: StorePath = None,
    config: ConfigFile = None,
) -> None:
    """Remove our tables, our hosts file and the sysctl changes we made; the store only when asked.

    Without --node-name, what was left under any node name.
    """
    from nodeport_nft.kernel.nft import Nft
    from nodeport_nft.kernel.traces import Traces
    from nodeport_nft.reconcile import removal
    from nodeport_nft.store import delete_store

    chosen = settings(config, store=store)
    nft = Nft()
    transactions = removal(nft)
    nft.apply(transactions)
    done = [f"table {transaction.family} {transaction.name} removed" for transaction in transactions]
    failed: list[str] = []
    traces = Traces.all(chosen.store) if node_name is None else (Traces.of(chosen.store, parse_node_name(node_name)),)
    for left in traces:
        undone, kept = left.undo()
        done += undone
        failed += kept
    if store_too and delete_store(chosen.store):
        done.append(f"store {chosen.store} deleted")
    typer.echo("\n".join(done) if done else "nothing to clean up")
    if failed:
        fail("\n".join(failed))


def _open_kernel(config: Config, code: int = BAD_INPUT) -> tuple[Nft, Host]:
    """A context and the host's network; leaves if the service CIDRs collide with it (F7) or nft is too old."""
    from nodeport_nft.facts import overlaps
    from nodeport_nft.kernel.host import read_host
    from nodeport_nft.kernel.nft import Nft, too_old

    nft = Nft()
    warn(too_old(nft.version(), platform.release()))
    host = read_host()
    collisions = overlaps(config, host)
    if collisions:
        remedy = "choose another --service-cidr, or list the prefix under ownRoutes in the configuration"
        fail("\n".join(f"{collision}; {remedy}" for collision in collisions), code)
    return nft, host


def _print(transactions: Iterable[Transaction]) -> None:
    from nodeport_nft.render import write_transaction

    for transaction in transactions:
        typer.echo(write_transaction(transaction), nl=False)


def _summary(
    name: str,
    programme: Programme,
    transactions: tuple[Transaction, ...],
    listed: dict[Family, ListedTable | None],
) -> str:
    from nodeport_nft.plan import Add, AddRules, Delete, Replace

    served = f"node {name}: {programme.services} service{'' if programme.services == 1 else 's'}"
    if not transactions:
        return f"{served}, nothing changed"
    operations = [operation for transaction in transactions for operation in transaction.operations]
    if not any(isinstance(operation, Replace) for operation in operations):
        added = sum(len(o.elements) for o in operations if isinstance(o, Add))
        deleted = sum(len(o.keys) for o in operations if isinstance(o, Delete))
        rules = sum(len(o.chain.rules) for o in operations if isinstance(o, AddRules))
        written = f", {rules} rule{'' if rules == 1 else 's'} of the services' own written" if rules else ""
        return f"{served}, {added} element{'' if added == 1 else 's'} added, {deleted} deleted{written}"
    verb = "replaced" if any(listed.values()) else "created"
    return f"{served}, tables {verb} with {sum(transaction.size for transaction in transactions)} elements"


def _delete_stale_flows(
    snapshot: Snapshot, programme: Programme, listed: dict[Family, ListedTable | None], host: Host
) -> None:
    """Make the kernel forget UDP flows that pass the new tables by (K2); the tables are in force without it, too."""
    from nodeport_nft.kernel.conntrack import delete_stale_flows
    from nodeport_nft.kernel.nft import KernelError
    from nodeport_nft.reconcile import udp_frontends

    local_ips = [held.address for held in host.addresses]
    try:
        deleted = delete_stale_flows(udp_frontends(snapshot, programme.tables, listed, local_ips))
    except KernelError as error:
        warn([str(error)])
    else:
        if deleted:
            say(f"{deleted} stale UDP flow{'s' * (deleted > 1)} deleted")


def _sysctls(
    config: Config, programme: Programme, snapshot: Snapshot, name: str, host: Host, *, set_them: bool
) -> None:
    from nodeport_nft.kernel.sysctl import find_missing
    from nodeport_nft.kernel.traces import Traces

    pod_cidrs = config.cluster_cidrs + tuple(c for n in snapshot.nodes if n.name == name for c in n.pod_cidrs)
    missing = find_missing(host, programme.families, pod_cidrs, config.ranges.service_cidrs)
    traces = Traces.of(config.store, name)
    for found in missing:
        if set_them and found.setting:
            traces.set_sysctl(found.setting, found.value)
            say(f"sysctl {found.setting} set to {found.value}")
        else:
            warn([str(found)])


def _write_hosts(config: Config, snapshot: Snapshot, name: str, path: Path) -> None:
    from nodeport_nft.hosts import hosts_file, hosts_lines
    from nodeport_nft.kernel.traces import Traces

    text = hosts_file(hosts_lines(snapshot.services, domain=config.cluster_domain))
    changed = Traces.of(config.store, name).write_hosts(path, text)
    say(f"hosts file {path} {'written' if changed else 'is up to date'}")
