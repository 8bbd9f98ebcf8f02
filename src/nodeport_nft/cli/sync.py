"""``sync``: program this node, once or for as long as it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.desired import (
    check_prune,
    check_store,
    compile_tables,
    desired_state,
    device_transactions,
    is_anew,
    open_kernel,
    parse_addresses,
    parse_node_name,
    print_transactions,
    read_wanted,
)
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import (
    BAD_INPUT,
    Files,
    NodeIP,
    NodeName,
    Prune,
    fail,
    put,
    say,
    warn,
)
from nodeport_nft.daemon.options import LogFormat
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from nodeport_nft.cli.desired import Wanted
    from nodeport_nft.config import Config
    from nodeport_nft.facts import Host
    from nodeport_nft.kernel.nft import Nft
    from nodeport_nft.model import Family, IPNetwork, Snapshot
    from nodeport_nft.plan import Transaction
    from nodeport_nft.reconcile import Programme
    from nodeport_nft.render import ListedTable


@command
def sync(
    *,
    filename: Files = None,
    once: Annotated[bool, typer.Option("--once", help="Program the node once and leave.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written; write nothing.")] = False,
    hosts_file: Annotated[
        str | None,
        typer.Option("--hosts-file", metavar="PATH", help="Keep a hosts file of the services there."),
    ] = None,
    prune: Prune = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Let manifests without an object delete everything.")
    ] = False,
    set_sysctls: Annotated[
        bool, typer.Option("--set-sysctls", help="Switch on forwarding and what else is missing.")
    ] = False,
    node_name: NodeName = None,
    node_ip: NodeIP = None,
    flags: Annotated[Flags, "validate", Group.TABLES, Group.NUMBERS, Group.DAEMON, "store", "stateDir"],
    cleanup_on_exit: Annotated[
        bool, typer.Option("--cleanup-on-exit", help="Remove the tables and what else was left, at the end.")
    ] = False,
    log_format: Annotated[LogFormat, typer.Option("--log-format", help="How events are written.")] = LogFormat.text,
) -> None:
    """Program this node from the store, or from manifests which then are the whole desired state.

    Reads back what the kernel holds and writes the difference only, in one transaction. With -f, what left the
    manifests is deleted and what it held is freed; what others wrote to the store only with --prune.

    Without --once it goes on, as a daemon: it follows the manifests, the store, the node's addresses and the
    configuration, and repairs the tables when somebody else changes them. It ends with SIGTERM or Ctrl-C and leaves
    the rules in force; SIGHUP has it read the configuration again.
    """
    from nodeport_nft.kernel.turns import alone, daemon_pid

    check_prune(filename, prune=prune)
    chosen = flags.config()
    name, addresses = parse_node_name(node_name), parse_addresses(node_ip)
    if hosts_file is not None:
        from nodeport_nft.kernel.hostsfile import check_hosts_path

        check_hosts_path(Path(hosts_file))
    if (hosts_file is not None or set_sysctls) and not dry_run:
        from nodeport_nft.kernel.traces import Traces

        Traces.of(chosen.state_dir, name)  # before anything is done that could not be noted
    nft, host = open_kernel(chosen)
    if dry_run:
        wanted = read_wanted(chosen, filename, prune=prune)
        programme, _ = compile_tables(chosen, wanted, name, addresses, host, nft)
        transactions = programme.tables.first_transaction()
        print_transactions((*transactions, *device_transactions(nft, programme, host, anew=is_anew(transactions))))
        wanted.leave_if_damaged()
        return
    if not filename:
        check_store(chosen)
    if not once:
        from nodeport_nft.config import DEFAULT_PATH
        from nodeport_nft.daemon.options import Options
        from nodeport_nft.daemon.run import run
        from nodeport_nft.manifest.files import STDIN

        if filename and STDIN in filename:
            fail("-f -: standard input ends and cannot be followed; name files, or add --once", BAD_INPUT)
        from nodeport_nft.manifest.steps import answer

        for path in filename or ():
            if not answer(Path(path).exists, otherwise=True):  # one that hangs is the daemon's to tell
                fail(f"-f {path}: no such file or directory; make it first, it is followed then", BAD_INPUT)
        nft.close()
        run(
            Options(
                load=flags.load,
                config_file=Path(flags.file or DEFAULT_PATH).absolute(),
                node_name=name,
                node_ips=addresses,
                manifests=tuple(filename or ()),
                prune=prune,
                allow_empty=allow_empty,
                hosts_file=Path(hosts_file) if hosts_file is not None else None,
                set_sysctls=set_sysctls,
                cleanup_on_exit=cleanup_on_exit,
                log_format=log_format,
            )
        )
        return
    if daemon_pid(chosen.run_dir) is not None:
        warn(["a daemon programs this node: it will undo what is not as its own store and flags say"])
    with alone(chosen.run_dir, say):
        with desired_state(chosen, filename, keep=True, prune=prune) as wanted:
            snapshot = wanted.snapshot
            if (
                filename
                and not any((snapshot.services, snapshot.slices, snapshot.pods, snapshot.nodes))
                and not allow_empty
            ):
                fail("the manifests hold no object, and would delete all there is; --allow-empty if so", BAD_INPUT)
            programme, listed = compile_tables(chosen, wanted, name, addresses, host, nft)
            transactions = programme.tables.first_transaction()
            _sysctls(chosen, programme, snapshot, name, host, set_them=set_sysctls)
            _obstacles(nft, programme, host, chosen)
            nft.apply(transactions)
        _advice(chosen, programme, name, set_it=set_sysctls, is_first=not any(listed.values()))
        _give_devices(nft, programme)
        _delete_stale_flows(snapshot, programme, listed, host)
        if hosts_file is not None:
            _write_hosts(chosen, wanted, name, Path(hosts_file))
    put(_summary(name, programme, transactions, listed))
    wanted.leave_if_damaged()


def _obstacles(nft: Nft, programme: Programme, host: Host, config: Config) -> None:
    """Tell of chains of others that stop what is served; the tables are none the worse for them."""
    from nodeport_nft.kernel.forwarding import Served, find_obstacles
    from nodeport_nft.kernel.nft import KernelError

    served = Served(programme.tables.desired, programme.tables.facts.addresses, host)
    try:
        warn(find_obstacles(nft, served, config.trusted_chains))
    except KernelError as error:
        warn([f"chains of others cannot be looked at: {error}"])


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


def _give_devices(nft: Nft, programme: Programme) -> None:
    """Let the host's links take part in the flowtables, if there are any; the tables are in force without it, too."""
    from nodeport_nft.kernel.host import read_host
    from nodeport_nft.kernel.nft import KernelError

    try:
        nft.apply(device_transactions(nft, programme, read_host(), anew=False))
    except KernelError as error:
        warn([f"flowtable: {error}; sync again"])


def _delete_stale_flows(
    snapshot: Snapshot, programme: Programme, listed: dict[Family, ListedTable | None], host: Host
) -> None:
    """Make the kernel forget flows that pass the new tables by (K2); the tables are in force without it, too."""
    import time

    from nodeport_nft.kernel.conntrack import (
        PATIENCE_SECONDS,
        delete_stale_attempts,
        delete_stale_flows,
        find_stale_attempts,
    )
    from nodeport_nft.kernel.nft import KernelError
    from nodeport_nft.reconcile import stale_frontends

    local_ips = [held.address for held in host.addresses]
    try:
        frontends = stale_frontends(snapshot, programme.tables, listed, local_ips)
        if deleted := delete_stale_flows(frontends):
            say(f"{deleted} stale UDP flow{'s' * (deleted > 1)} deleted")
        if found := find_stale_attempts(frontends):
            time.sleep(PATIENCE_SECONDS)
            if deleted := delete_stale_attempts(frontends, found):
                say(f"{deleted} unanswered connection attempt{'s' * (deleted > 1)} forgotten, to be translated anew")
    except KernelError as error:
        warn([str(error)])


def _pod_cidrs(config: Config, snapshot: Snapshot, name: str) -> tuple[IPNetwork, ...]:
    """The networks of the pods, as far as they are known."""
    return config.cluster_cidrs + tuple(c for n in snapshot.nodes if n.name == name for c in n.pod_cidrs)


def _sysctls(
    config: Config, programme: Programme, snapshot: Snapshot, name: str, host: Host, *, set_them: bool
) -> None:
    from nodeport_nft.kernel.sysctl import find_missing
    from nodeport_nft.kernel.traces import Traces

    pod_cidrs = _pod_cidrs(config, snapshot, name)
    missing = find_missing(host, programme.families, pod_cidrs, config.ranges.service_cidrs)
    for found in missing:
        if set_them and found.setting:
            Traces.of(config.state_dir, name).set_sysctl(found.setting, found.value)
            say(f"sysctl {found.setting} set to {found.value}")
        else:
            warn([str(found)])


def _advice(config: Config, programme: Programme, name: str, *, set_it: bool, is_first: bool) -> None:
    """Set what is advised, or tell a person of it, once: when the tables are made. They do without it (K6)."""
    import sys

    from nodeport_nft.kernel.nft import KernelError
    from nodeport_nft.kernel.sysctl import find_advised
    from nodeport_nft.kernel.traces import Traces

    for found in find_advised(programme.families):
        if set_it:
            try:
                Traces.of(config.state_dir, name).set_sysctl(found.setting, found.value)
            except KernelError as error:
                warn([str(error)])
            else:
                say(f"sysctl {found.setting} set to {found.value}")
        elif is_first and sys.stderr is not None and sys.stderr.isatty():
            say(f"advice: {found}")


def _write_hosts(config: Config, wanted: Wanted, name: str, path: Path) -> None:
    from nodeport_nft.hosts import hosts_file, hosts_lines
    from nodeport_nft.kernel.hostsfile import kept_hosts_lines
    from nodeport_nft.kernel.traces import Traces

    lines = hosts_lines(wanted.snapshot.services, domain=config.cluster_domain)
    text = hosts_file((*lines, *kept_hosts_lines(path, wanted.unreadable)))
    changed = Traces.of(config.state_dir, name).write_hosts(path, text)
    say(f"hosts file {path} {'written' if changed else 'is up to date'}")
