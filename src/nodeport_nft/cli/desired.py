"""From flags to a node's tables: the way that sync, render, diff and trace take together."""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nodeport_nft.cli.options import (
    BAD_INPUT,
    FAILED,
    drafted,
    fail,
    now,
    open_existing,
    open_store,
    put,
    read_files,
    say,
    warn,
)

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.facts import Host
    from nodeport_nft.kernel.nft import Nft
    from nodeport_nft.manifest import Object
    from nodeport_nft.model import Family, IPAddress, Ref, Snapshot
    from nodeport_nft.plan import Transaction
    from nodeport_nft.reconcile import Programme
    from nodeport_nft.render import ListedTable


def parse_node_name(given: str | None) -> str:
    """The node's name: the one given, else the host's. Leaves if it cannot be a Node's (RFC 1123)."""
    from nodeport_nft.notation import subdomain_fault

    name = given or platform.node().lower()
    fault = subdomain_fault(name)
    if fault:
        fail(f"node name: {fault}; give one with --node-name", BAD_INPUT)
    return name


def parse_addresses(texts: list[str] | None) -> tuple[IPAddress, ...]:
    """The addresses of ``--node-ip``. Leaves if one of them is none."""
    from nodeport_nft.notation import group_fault, parse_address, special_fault

    addresses: list[IPAddress] = []
    for text in texts or ():
        try:
            addresses.append(parse_address(text))
        except ValueError as error:
            fail(f"--node-ip: {error}", BAD_INPUT)
        fault = special_fault(addresses[-1]) or group_fault(addresses[-1])
        if fault and not addresses[-1].is_loopback:  # about which a warning follows: F2
            fail(f"--node-ip: {fault}", BAD_INPUT)
    return tuple(addresses)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The desired state; ``complaints`` tell what of it is ``unreadable``, and stays as the kernel has it.

    ``written`` are the manifests that it was made of; None: it is the store's.
    """

    snapshot: Snapshot
    unreadable: frozenset[Ref] = frozenset()
    complaints: tuple[str, ...] = ()
    written: tuple[Object, ...] | None = None

    def leave_if_damaged(self, code: int = FAILED) -> None:
        """Tell what cannot be read, if anything, and leave with ``code`` then."""
        if self.complaints:
            fail("\n".join(self.complaints), code)


def read_wanted(
    config: Config, files: list[str] | None, *, held: bool = True, missing: int = FAILED, prune: bool = True
) -> Wanted:
    """The desired state: the store's, or that of manifests with the store's allocations. Nothing is written.

    ``prune``: as of ``desired_state``.
    ``held`` False: leave the store alone, allocate as from an empty one. ``missing``: the code to leave with where
    there is no store.
    """
    if not files:
        check_store(config, missing)
    elif not (held and Path(config.store).exists()):
        config = replace(config, store=":memory:")
    with desired_state(config, files, keep=False, prune=prune) as wanted:
        return wanted


def check_prune(files: list[str] | None, *, prune: bool) -> None:
    """Leave if manifests may delete what others wrote, and there are none."""
    if prune and not files:
        fail("--prune is for manifests that are the whole state; name them with -f", BAD_INPUT)


def check_store(config: Config, code: int = FAILED) -> None:
    """Leave if there is no store: a mistyped path must not pass for a desired state without a service."""
    if not Path(config.store).exists():
        fail(f"there is no store {config.store}; apply something first, or name the store with --store", code)


@contextmanager
def desired_state(config: Config, files: list[str] | None, *, keep: bool, prune: bool) -> Iterator[Wanted]:
    """The desired state: the store's, or that of manifests, which are written to the store if ``keep``.

    They are committed when the block ends well, so that store and kernel change together or not at all; whoever
    else writes to the store waits that long.

    Raises OthersObjects where the store holds more that manifests did not write, which would be deleted with them for
    the whole state; not if ``prune``.
    """
    gc.disable()  # a third of the time otherwise: all that is made from here on lives until the process ends
    manifests = read_files(files, config) if files else None
    if manifests is None:
        with open_existing(config) as store:
            snapshot = store.snapshot()
            meant = (damaged.meant for damaged in store.damaged.values())
            wanted = Wanted(snapshot, frozenset().union(*meant), store.complaints())
            warn(store.doubts())
        yield wanted
        return
    with (open_store if keep else drafted)(config) as store, store.write() as transaction:
        if not prune:
            transaction.refuse_others(manifests.objects)
        deleted = transaction.prune(manifests.objects)
        transaction.apply(manifests.objects, now=now(), by_manifests=True)
        warn(transaction.dropped)
        yield Wanted(transaction.snapshot(), written=manifests.objects)
    if keep:
        for reference in deleted:
            say(f"{reference} deleted: it is not in the manifests")


def compile_tables(
    config: Config,
    wanted: Wanted,
    name: str,
    node_ips: tuple[IPAddress, ...],
    host: Host,
    nft: Nft | None,
) -> tuple[Programme, dict[Family, ListedTable | None]]:
    """The node's tables, and what the kernel holds (nothing without ``nft``); says what the operator should know.

    Leaves where this node's own Node object cannot be read: the rules depend on it.
    """
    from nodeport_nft.facts import gather, served_on
    from nodeport_nft.model import Ref
    from nodeport_nft.reconcile import compile_snapshot, read_tables

    snapshot = wanted.snapshot
    if Ref("Node", "", name) in wanted.unreadable:
        wanted.leave_if_damaged()
    node = next((node for node in snapshot.nodes if node.name == name), None)
    facts, warnings = gather(config, name=name, node=node, node_ips=node_ips, host=host)
    warn(warnings)
    say(f"node {name}: nodePorts on {served_on(facts)}")
    listed = read_tables(nft, facts) if nft else {}
    programme = compile_snapshot(snapshot, facts, listed, wanted.unreadable)
    for family, differences in programme.tables.differences.items():
        if differences:
            schema = programme.tables.schemas[family]
            named = ", ".join(differences[:3]) + (f" and {len(differences) - 3} more" if len(differences) > 3 else "")
            say(f"table {schema.family} {schema.name} is not as it should be ({named}); it is replaced as a whole")
    warn(programme.problems)
    return programme, listed


def open_kernel(config: Config, code: int = BAD_INPUT) -> tuple[Nft, Host]:
    """A context and the host's network; leaves if the service CIDRs collide with it (F7).

    Raises KernelError where the kernel has not what the configuration asks for.
    """
    from nodeport_nft.facts import collisions
    from nodeport_nft.kernel.flowtable import check_flowtables, left_out
    from nodeport_nft.kernel.host import read_host
    from nodeport_nft.kernel.nft import Nft, too_old

    nft = Nft()
    warn(too_old(nft.version(), platform.release()))
    host = read_host()
    if found := collisions(config, host):
        fail("\n".join(found), code)
    if config.flowtable:
        check_flowtables(nft)
        warn(left_out(host.links))
    return nft, host


def is_anew(transactions: Iterable[Transaction]) -> bool:
    """Whether these make tables anew."""
    from nodeport_nft.plan import Replace

    return any(isinstance(operation, Replace) for each in transactions for operation in each.operations)


def device_transactions(nft: Nft, programme: Programme, host: Host, *, anew: bool) -> tuple[Transaction, ...]:
    """What gives the tables' flowtables the devices of the host, once the tables are in force.

    ``anew``: the flowtables are made anew; else those of the kernel are looked at.
    """
    from nodeport_nft.kernel.flowtable import plan_devices, read_devices

    schemas = {family: schema for family, schema in programme.tables.schemas.items() if schema.flowtable}
    if not schemas:
        return ()
    return plan_devices(schemas, {} if anew else read_devices(nft, schemas), host.links)


def print_transactions(transactions: Iterable[Transaction]) -> None:
    """Print what would be written, in nft's language."""
    from nodeport_nft.render import write_transaction

    for transaction in transactions:
        put(write_transaction(transaction), end="")
