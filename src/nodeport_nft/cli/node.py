"""Commands that concern one node and write nothing but what cleanup takes away: render, diff, cleanup.

The first two take the same way as ``sync`` and stop earlier, so that what they show is what it would write, byte for
byte.
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from nodeport_nft.cli.desired import (
    check_prune,
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
    abandon_stdout,
    fail,
    put,
    reported,
    say,
)
from nodeport_nft.cli.progress import doing
from nodeport_nft.settings import Group


class Output(enum.StrEnum):
    """Formats of ``render``."""

    nft = "nft"
    json = "json"


@command
def render(
    *,
    filename: Files = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="nft: loads with nft -f; json: for reading.")] = (
        Output.nft
    ),
    node_name: NodeName = None,
    node_ip: NodeIP = None,
    flags: Annotated[Flags, "validate", Group.TABLES, Group.NUMBERS, "store"],
) -> None:
    """Print the ruleset for a node; needs no privilege, no kernel and no nftables.

    Node facts come from the Node manifest. Without --store, allocations are those that an empty store would give;
    with it, what the store holds is kept. Nothing is written.
    """
    from nodeport_nft.facts import Host
    from nodeport_nft.render import to_json
    from nodeport_nft.store.kubernetes.connection import is_kubernetes

    chosen = flags.config()
    held = flags.has("store") or (filename is None and is_kubernetes(chosen.store))
    if filename is None and not held:
        fail("nothing to render; give manifests with -f, or a store with --store", BAD_INPUT)
    name = parse_node_name(node_name, chosen)
    wanted = read_wanted(chosen, filename, with_store=held, node=name)
    wanted.leave_if_damaged()  # who loads what is printed would take those Services away
    state = compile_state(chosen, wanted, name, parse_addresses(node_ip, chosen), Host(), None)
    if output is Output.json:
        put(to_json(state.tables.tables()), end="")
    else:
        print_transactions(state.tables.first_transaction())


@command
def diff(
    *,
    filename: Files = None,
    prune: Prune = False,
    node_name: NodeName = None,
    node_ip: NodeIP = None,
    flags: Annotated[Flags, "validate", Group.TABLES, Group.NUMBERS, "store"],
) -> None:
    """Compare the kernel with the desired state: prints what sync would write.

    With -f, manifests are all there is to be; what apply -f would change, its --dry-run=server tells.
    Exit code 0: they are the same; 1: there are changes; 2: trouble.
    """
    with reported(BAD_INPUT):
        check_prune(filename, prune=prune)
        chosen = flags.config()
        nft, host = open_kernel(chosen, BAD_INPUT)
        name = parse_node_name(node_name, chosen)
        wanted = read_wanted(chosen, filename, missing=BAD_INPUT, prune=prune, node=name)
        state = compile_state(chosen, wanted, name, parse_addresses(node_ip, chosen), host, nft)
        with doing("comparing with the kernel"):
            transactions = first_transactions(nft, state, host)
        try:
            print_transactions(transactions)
        except BrokenPipeError:  # who has seen enough still wants to know whether there are changes
            abandon_stdout()
        wanted.leave_if_damaged(BAD_INPUT)
    raise typer.Exit(1 if transactions else 0)


@command
def cleanup(
    *,
    store_too: Annotated[
        bool, typer.Option("--delete-store", help="Delete the store as well: all objects and allocations.")
    ] = False,
    node_name: NodeName = None,
    flags: Annotated[Flags, "store", "stateDir"],
) -> None:
    """Remove our tables, our hosts file and the sysctl changes we made; the store only when asked.

    Without --node-name, what was left under any node name.
    """
    from nodeport_nft.kernel.host.node_lock import alone, refuse_beside_daemon
    from nodeport_nft.kernel.host.undo_journal import undo
    from nodeport_nft.kernel.nft import Nft
    from nodeport_nft.reconcile import removal
    from nodeport_nft.store import delete_store, is_shared

    chosen = flags.config()
    if store_too and is_shared(chosen.store):
        fail(
            f"--delete-store: {chosen.store} is that of a cluster, and not one node's to delete; leave it out",
            BAD_INPUT,
        )
    name = None if node_name is None else parse_node_name(node_name, chosen)
    nft = Nft()
    refuse_beside_daemon(chosen.run_dir, "the cleanup")
    with alone(chosen.run_dir, say):
        transactions = removal(nft)
        nft.apply(transactions)
        done = [f"table {transaction.family} {transaction.name} removed" for transaction in transactions]
        undone, failed = undo(chosen.state_dir, chosen.store, name)
        done += undone
        if store_too and delete_store(chosen.store):
            done.append(f"store {chosen.store} deleted")
    put("\n".join(done) if done else "nothing to clean up")
    if failed:
        fail("\n".join(failed))
