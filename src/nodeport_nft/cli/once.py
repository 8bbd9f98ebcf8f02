"""``sync --once``: one turn of what a daemon turns for months, told to a person at a terminal.

First the store, then the kernel. What the manifests say is committed before the tables are looked at, and no lock of
the store is held while they are written. Whoever ends this process in between leaves a node that is behind its store,
never one that is ahead of it: the next sync reads both and writes the difference.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nodeport_nft.cli.desired import Wanted, read_stored, say_replaced, write_wanted
from nodeport_nft.cli.options import fail, put, say, warn
from nodeport_nft.cli.progress import doing
from nodeport_nft.daemon.kernel_tables import KernelTables, translated
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.takeover import Takeover
from nodeport_nft.daemon.upkeep import Upkeep
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.addresses import read_host
from nodeport_nft.kernel.host.foreign_chains import Obstacles, Served, unseen
from nodeport_nft.kernel.netlink.conntrack import (
    PATIENCE_SECONDS,
    delete_stale_attempts,
    delete_stale_flows,
    find_stale_attempts,
)
from nodeport_nft.plan import Add, AddRules, Delete, Replace
from nodeport_nft.reconcile import Listed, NodeState, Reconciler, Synced

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.daemon.options import Options
    from nodeport_nft.facts import Host
    from nodeport_nft.flows import Frontends
    from nodeport_nft.kernel.nft import Nft
    from nodeport_nft.model import Family


class Terminal:
    """A Report to a person. ``failed``: what was asked for and could not be done, to be told at the end.

    ``is_first``: this node had no tables before. Advice is for that moment alone; there is no end to it otherwise.
    """

    def __init__(self, node_name: str) -> None:
        self.is_first = False
        self.failed: list[str] = []
        self._node_name = node_name

    def problems(self, where: str, problems: Iterable[str], failed: Iterable[str] = ()) -> None:  # noqa: ARG002
        """Warn of them."""
        warn(problems)
        self.failed += failed

    def advice(self, advice: Iterable[str], failed: Iterable[str] = ()) -> None:
        """Say it to a person, not to a script."""
        warn(failed)
        if self.is_first and sys.stderr is not None and sys.stderr.isatty():
            for each in advice:
                say(f"advice: {each}")

    def serves(self, node_ports_on: str, *, deleted: bool) -> None:  # noqa: ARG002
        """Say where nodePorts are served."""
        say(f"node {self._node_name}: nodePorts on {node_ports_on}")

    def sysctl_set(self, name: str, value: str) -> None:
        """Say so."""
        say(f"sysctl {name} set to {value}")

    def hosts_written(self, path: Path, *, changed: bool) -> None:
        """Say so."""
        say(f"hosts file {path} {'written' if changed else 'is up to date'}")

    def names_written(self, path: Path, files: int) -> None:
        """Say so."""
        say(f"hosts files in {path}: {f'{files} changed' if files else 'up to date'}")

    def kube_proxy_removed(self, what: tuple[str, ...]) -> None:
        """Say so."""
        for each in what:
            say(f"kube-proxy: {each} removed")

    def devices_given(self, links: int) -> None:
        """Nothing: it comes with the flowtable."""


def sync_once(config: Config, options: Options, nft: Nft, host: Host) -> None:
    """Program the node, and leave with FAILED where that was not possible in full.

    Raises KernelError where it was not possible at all; manifests are in the store by then.
    """
    report = Terminal(options.node_name)
    tables, node = KernelTables(config.run_dir, nft), ThisNode(options, config, report, host)
    with closing(tables), tables.lock.wait(tell=say):
        if options.manifests:
            files = list(options.manifests)
            wanted = write_wanted(config, files, prune=options.prune, allow_empty=options.allow_empty)
        else:
            wanted = read_stored(config, options.node_name)
        with _behind(config, wanted), doing("programming the node"):
            facts = node.facts(wanted.node(options.node_name), wanted.service_cidrs())
            listed = tables.read(facts)
            report.is_first = not any(listed.values())
            state = NodeState.of(facts, listed, wanted.objects, wanted.unreadable)
            reconciler = Reconciler(tables, state, listed)
            synced = reconciler.sync(held.address for held in host.addresses)
        say_replaced(state, synced.differences)
        report.problems("services", state.problems())
        _warn_of_idle(state)
        refused = [f"Service/{key} is left out: {why}" for key, why in sorted(reconciler.refused.items())]
        report.problems("refused", (), refused)
        if config.flowtable:
            node.host = read_host()  # the tables took their time, and links come and go
        upkeep = Upkeep(tables, node, report)
        if not upkeep.after(synced, state, names_changed=True):
            warn(["flowtable: sync again for it"])
        Takeover(tables, node, report).look(reconciler.refused)
        report.problems("firewall", _in_the_way(nft, state, node))
        _forget_flows(synced.frontends)
    put(_summary(options.node_name, state, synced, listed))
    if failed := (*report.failed, *wanted.complaints):
        fail("\n".join(failed))


@contextmanager
def _behind(config: Config, wanted: Wanted) -> Iterator[None]:
    """Where the kernel does not take what the store has taken, say how things are."""
    try:
        yield
    except KernelError as error:
        if wanted.written is None:
            raise
        raise KernelError(
            f"{error}\n{config.store} holds what the manifests say, the node does not serve it yet: sync again"
        ) from error


def _forget_flows(frontends: Mapping[Family, Frontends]) -> None:
    """Make the kernel forget flows that pass the new tables by (K2); the tables are in force without it, too."""
    try:
        if deleted := delete_stale_flows(frontends):
            say(f"{deleted} stale UDP flow{'s' * (deleted > 1)} deleted")
        if found := find_stale_attempts(frontends):
            time.sleep(PATIENCE_SECONDS)
            if deleted := delete_stale_attempts(frontends, found):
                say(f"{deleted} unanswered connection attempt{'s' * (deleted > 1)} forgotten, to be translated anew")
    except KernelError as error:
        warn([str(error)])


def _in_the_way(nft: Nft, state: NodeState, node: ThisNode) -> tuple[str, ...]:
    """The chains of others that stop what is translated, each with its remedy."""
    try:
        with translated():
            served = Served(state.tables.desired, state.facts, node.host)
            return Obstacles(nft).find(served, node.config.trusted_chains)
    except KernelError as error:
        return (unseen(error),)


_MOST_IDLE = 3


def _warn_of_idle(state: NodeState) -> None:
    """Name Services that nobody answers for."""
    count, names = state.idle_services(_MOST_IDLE)
    if names:
        more = f" and {count - len(names)} more" if count > len(names) else ""
        first = names[0]
        describe = f"nodeport-nft describe service {first.name} -n {first.namespace}"
        warn([f"no endpoint: {', '.join(map(str, names))}{more}; {describe} says why"])


def _summary(name: str, state: NodeState, synced: Synced, listed: Listed) -> str:
    count = len(state.served)
    served = f"node {name}: {count} service{'' if count == 1 else 's'}"
    if not synced.transactions:
        return f"{served}, nothing changed"
    operations = [operation for transaction in synced.transactions for operation in transaction.operations]
    if not any(isinstance(operation, Replace) for operation in operations):
        added = sum(len(o.elements) for o in operations if isinstance(o, Add))
        deleted = sum(len(o.keys) for o in operations if isinstance(o, Delete))
        rules = sum(len(o.chain.rules) for o in operations if isinstance(o, AddRules))
        written = f", {rules} rule{'' if rules == 1 else 's'} of the services' own written" if rules else ""
        return f"{served}, {added} element{'' if added == 1 else 's'} added, {deleted} deleted{written}"
    verb = "replaced" if any(listed.values()) else "created"
    return f"{served}, tables {verb} with {synced.operations} elements"
