"""``sync``: program this node, once or for as long as it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodeport_nft.cli.desired import (
    check_prune,
    check_store,
    compile_state,
    first_transactions,
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
    warn,
)
from nodeport_nft.daemon.options import LogFormat
from nodeport_nft.settings import Group


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
    from nodeport_nft.kernel.host.node_lock import daemon_pid

    check_prune(filename, prune=prune)
    chosen = flags.config()
    if filename:
        from nodeport_nft.store import refuse_shared

        refuse_shared(chosen)
    name, addresses = parse_node_name(node_name, chosen), parse_addresses(node_ip, chosen)
    if hosts_file is not None:
        from nodeport_nft.kernel.host.hostsfile import check_hosts_path

        check_hosts_path(Path(hosts_file))
    if (hosts_file is not None or set_sysctls) and not dry_run:
        from nodeport_nft.kernel.host.undo_journal import UndoJournal

        UndoJournal.of(chosen.state_dir, name)  # before anything is done that could not be noted
    nft, host = open_kernel(chosen)
    if dry_run:
        wanted = read_wanted(chosen, filename, prune=prune, node=name)
        state = compile_state(chosen, wanted, name, addresses, host, nft)
        print_transactions(first_transactions(nft, state, host))
        wanted.leave_if_damaged()
        return
    if not filename:
        check_store(chosen)
    from nodeport_nft.config import DEFAULT_PATH
    from nodeport_nft.daemon.options import Options

    options = Options(
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
    if once:
        from nodeport_nft.cli.once import sync_once

        if daemon_pid(chosen.run_dir) is not None:
            warn(["a daemon programs this node: it will undo what is not as its own store and flags say"])
        sync_once(chosen, options, nft, host)
        return
    from nodeport_nft.daemon.run import run
    from nodeport_nft.text.files import STDIN
    from nodeport_nft.text.steps import answer

    if STDIN in options.manifests:
        fail("-f -: standard input ends and cannot be followed; name files, or add --once", BAD_INPUT)
    for path in options.manifests:
        if not answer(Path(path).exists, otherwise=True):  # one that hangs is the daemon's to tell
            fail(f"-f {path}: no such file or directory; make it first, it is followed then", BAD_INPUT)
    nft.close()
    run(options)
