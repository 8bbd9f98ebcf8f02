"""From flags to a node's tables: the way that sync, render, diff and trace take together."""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from nodeport_nft.cli import colour
from nodeport_nft.cli.options import (
    BAD_INPUT,
    FAILED,
    fail,
    may_exist,
    now,
    open_existing,
    put,
    read_files,
    say,
    warn,
)
from nodeport_nft.cli.progress import doing

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.facts import Host
    from nodeport_nft.kernel.nft import Nft
    from nodeport_nft.kube import Object
    from nodeport_nft.manifest import Manifests
    from nodeport_nft.model import Family, IPAddress, Node, Parsed, Ref, ServiceCIDR, Snapshot
    from nodeport_nft.plan import Transaction
    from nodeport_nft.reconcile import NodeState
    from nodeport_nft.store import Applied


def parse_node_name(given: str | None, config: Config) -> str:
    """The node's name: the one given, else the configuration's, else the host's.

    Leaves if it cannot be a Node's (RFC 1123).
    """
    from nodeport_nft.notation import subdomain_fault

    name = given or config.node_name or platform.node().lower()
    fault = subdomain_fault(name)
    if fault:
        fail(f"node name: {fault}; give one with --node-name", BAD_INPUT)
    return name


def parse_addresses(texts: list[str] | None, config: Config) -> tuple[IPAddress, ...]:
    """The addresses of ``--node-ip``, else those of the configuration. Leaves if one of them is none."""
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
    return tuple(addresses) or config.node_ips


class Wanted(Struct, frozen=True):
    """The desired state; ``complaints`` tell what of it is ``unreadable``, and stays as the kernel has it.

    ``objects`` are sorted. ``written`` are the manifests that they were made of; None: they are the store's.
    """

    objects: tuple[Parsed, ...]
    unreadable: frozenset[Ref] = frozenset()
    complaints: tuple[str, ...] = ()
    written: tuple[Object, ...] | None = None

    def node(self, name: str) -> Node | None:
        """This node's own Node object. Leaves where it cannot be read: the rules depend on it."""
        from nodeport_nft.model import Node, Ref

        own = Ref("Node", "", name)
        if own in self.unreadable:
            self.leave_if_damaged()
        found = (value for ref, values in self.objects if ref == own for value in values)
        return next((value for value in found if isinstance(value, Node)), None)

    def service_cidrs(self) -> tuple[ServiceCIDR, ...]:
        """What an API server gives clusterIPs from, if it is the store."""
        from nodeport_nft.model import SERVICE_CIDR, ServiceCIDR

        values = (value for ref, held in self.objects if ref.kind == SERVICE_CIDR for value in held)
        return tuple(value for value in values if isinstance(value, ServiceCIDR))

    def snapshot(self) -> Snapshot:
        """All of it as one value."""
        from nodeport_nft.store.objects import made_of

        return made_of(value for _, values in self.objects for value in values)

    def leave_if_damaged(self, code: int = FAILED) -> None:
        """Tell what cannot be read, if anything, and leave with ``code`` then."""
        if self.complaints:
            fail("\n".join(self.complaints), code)


def read_wanted(
    config: Config,
    files: list[str] | None,
    *,
    with_store: bool = True,
    missing: int = FAILED,
    prune: bool = True,
    namespace: str = "default",
    node: str = "",
) -> Wanted:
    """The desired state: the store's, or that of manifests with the store's allocations. Nothing is written.

    ``prune``: as of ``write_wanted``. ``node``: the one whose desired state it is.
    ``with_store`` False: leave the store alone, allocate as from an empty one. ``missing``: the code to leave with
    where there is no store. ``namespace``: of objects in manifests that name none.
    """
    from nodeport_nft.store import Store, open_trial
    from nodeport_nft.store.memory import MemoryStore
    from nodeport_nft.store.versions import without_version

    if not files:
        check_store(config, missing)
        return read_stored(config, node)
    gc.disable()  # see read_stored
    if with_store:
        _refuse_trial(config)
    manifests = read_files(files, config, namespace)
    with doing("allocating numbers"), open_trial(config) if with_store else MemoryStore(config.ranges) as store:
        if isinstance(store, Store) and not prune:
            store.refuse_others(manifests.objects)
        kept = {obj.ref for obj in manifests.objects}
        # What the manifests do not name would be gone.
        gone = [ref for each in store.list() if (ref := each.ref) not in kept]
        written = store.write(list(map(without_version, manifests.objects)), gone, now=now(), dry_run=True)
    warn(written.told)
    return _wanted(manifests, written.applied)


def read_alone(config: Config, files: list[str] | None, namespace: str) -> tuple[Snapshot, tuple[str, ...]]:
    """What the store holds, and what of it cannot be read; or manifests by themselves, as an empty store takes them.

    Raises Problems and StoreError.
    """
    if files:
        return read_wanted(config, files, with_store=False, namespace=namespace).snapshot(), ()
    with open_existing(config) as opened:
        return opened.snapshot(), opened.complaints()


def check_prune(files: list[str] | None, *, prune: bool) -> None:
    """Leave if manifests may delete what others wrote, and there are none."""
    if prune and not files:
        fail("--prune is for manifests that are the whole state; name them with -f", BAD_INPUT)


def check_store(config: Config, code: int = FAILED) -> None:
    """Leave if there is no store: a mistyped path must not pass for a desired state without a service."""
    if not may_exist(config.store):
        fail(f"there is no store {config.store}; apply something first, or name the store with --store", code)


def _refuse_trial(config: Config) -> None:
    """Leave where it cannot be said what the store would hold with manifests as the whole state."""
    from nodeport_nft.store import is_kubernetes

    if is_kubernetes(config.store):
        fail(
            f"-f: manifests are never all that {config.store} holds; leave out -f for what it holds now, see with "
            "apply --dry-run -f what it says of them, or give -f another --store",
            BAD_INPUT,
        )


def read_stored(config: Config, node: str) -> Wanted:
    """The desired state of the node of this name as the store has it; says what may be meant otherwise."""
    gc.disable()  # a third of the time otherwise: all that is made from here on lives until the process ends
    with doing("reading the store"), open_existing(config) as store:
        objects = store.desired(node)
        meant = (damaged.meant for damaged in store.damaged.values())
        wanted = Wanted(objects, frozenset().union(*meant), store.complaints())
        warn(store.doubts())
    return wanted


def write_wanted(config: Config, files: list[str], *, prune: bool, allow_empty: bool) -> Wanted:
    """Let the store hold what the manifests say, and nothing else; it is committed by then.

    Raises OthersObjects where the store holds more that manifests did not write, which would be deleted with them for
    the whole state; not if ``prune``. Leaves where they hold nothing at all; not if ``allow_empty``.
    """
    from nodeport_nft.store import open_file

    gc.disable()  # see read_stored
    manifests = read_files(files, config)
    with doing("storing what the manifests say"), open_file(config) as store, store.transaction() as transaction:
        if not prune:
            transaction.refuse_others(manifests.objects)
        deleted = transaction.prune(manifests.objects)
        applied = transaction.apply(manifests.objects, now=now(), by_manifests=True)
        if not allow_empty and not any(each.object.values for each in applied):
            fail("the manifests hold no object, and would delete all there is; --allow-empty if so", BAD_INPUT)
    warn(transaction.dropped)
    for reference in deleted:
        say(f"{reference} deleted: it is not in the manifests")
    return _wanted(manifests, applied)


def _wanted(manifests: Manifests, applied: Iterable[Applied]) -> Wanted:
    """What the store then holds, as it was validated and allocated.

    Nothing is read back: what manifests do not name is gone, and the rest is what was applied.
    """
    objects = sorted((each.object.ref, each.object.values) for each in applied)
    return Wanted(tuple(objects), written=manifests.objects)


def compile_state(
    config: Config,
    wanted: Wanted,
    name: str,
    node_ips: tuple[IPAddress, ...],
    host: Host,
    nft: Nft | None,
) -> NodeState:
    """The node's state, over what the kernel holds (nothing without ``nft``); says what the operator should know.

    Leaves where this node's own Node object cannot be read.
    """
    from nodeport_nft.facts import gather, networks_of, served_on
    from nodeport_nft.reconcile import NodeState, read_tables

    facts, warnings = gather(
        config,
        name=name,
        node=wanted.node(name),
        node_ips=node_ips,
        host=host,
        service_cidrs=networks_of(wanted.service_cidrs()),
    )
    warn(warnings)
    say(f"node {name}: nodePorts on {served_on(facts)}")
    with doing("computing the rules"):
        listed = read_tables(nft, facts) if nft else {}
        state = NodeState.of(facts, listed, wanted.objects, wanted.unreadable)
        state.compile(sorted(state.touched))
    say_replaced(state, state.tables.differences)
    warn(state.problems())
    return state


def say_replaced(state: NodeState, differences: Mapping[Family, tuple[str, ...]]) -> None:
    """Say which tables are replaced as a whole, and why."""
    for family, found in differences.items():
        if found:
            schema = state.tables.schemas[family]
            named = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            say(f"table {schema.family} {schema.name} is not as it should be ({named}); it is replaced as a whole")


def open_kernel(config: Config, code: int = BAD_INPUT) -> tuple[Nft, Host]:
    """A context and the host's network; leaves if the service CIDRs collide with it (F7).

    Raises KernelError where the kernel has not what the configuration asks for.
    """
    from nodeport_nft.facts import collisions
    from nodeport_nft.kernel.flowtable import check_flowtables
    from nodeport_nft.kernel.host.addresses import read_host
    from nodeport_nft.kernel.nft import Nft, too_old
    from nodeport_nft.store.kubernetes.connection import is_kubernetes

    nft = Nft()
    warn(too_old(platform.release()))
    host = read_host()
    # What an API server says of its networks is yet to be read, and goes before what the configuration says.
    if not is_kubernetes(config.store) and (found := collisions(config, host)):
        fail("\n".join(found), code)
    if config.flowtable:
        check_flowtables(nft)
    return nft, host


def first_transactions(nft: Nft, state: NodeState, host: Host) -> tuple[Transaction, ...]:
    """What a sync would write now: the tables, then the devices of their flowtables, if they have any."""
    from nodeport_nft.kernel.flowtable import left_out, plan_devices, read_devices
    from nodeport_nft.plan import Replace

    transactions = state.tables.first_transaction()
    schemas = {family: schema for family, schema in state.tables.schemas.items() if schema.flowtable}
    if not schemas:
        return transactions
    warn(left_out(host.links))
    is_anew = any(isinstance(operation, Replace) for each in transactions for operation in each.operations)
    held = {} if is_anew else read_devices(nft, schemas)
    return (*transactions, *plan_devices(schemas, held, host.links))


def print_transactions(transactions: Iterable[Transaction]) -> None:
    """Print what would be written, in nft's language."""
    from nodeport_nft.render import write_transaction

    for transaction in transactions:
        put(write_transaction(transaction), end="", paint=colour.changes)
