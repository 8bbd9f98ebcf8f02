"""The node itself: its addresses, its Node object, its sysctls, its hosts file. See ``followed`` for what changes."""

from __future__ import annotations

import os
from collections.abc import Iterable

from nodeport_nft.config import Config
from nodeport_nft.daemon.options import Options
from nodeport_nft.daemon.telling import Report
from nodeport_nft.errors import KernelError
from nodeport_nft.facts import Host, collisions, gather, networks_of, served_on
from nodeport_nft.hosts import hosts_file, hosts_lines
from nodeport_nft.kernel.host.hostsfile import kept_hosts_lines
from nodeport_nft.kernel.host.sysctl import Missing, find_advised, find_conntrack, find_missing
from nodeport_nft.kernel.host.undo_journal import UndoJournal
from nodeport_nft.model import Family, IPNetwork, Node, NodeFacts, ServiceCIDR
from nodeport_nft.reconcile import NodeState


class ThisNode:
    """What is read from and done to this machine, but for the tables."""

    def __init__(self, options: Options, config: Config, report: Report, host: Host) -> None:
        self.host = host
        self.config = config
        self._options = options
        self._report = report
        self._state_dir = config.state_dir  # that of the start, whatever is read later
        self._families: frozenset[Family] = frozenset()
        self._service_cidrs: tuple[IPNetwork, ...] = ()  # what an API server says

    def collisions(self, config: Config) -> tuple[str, ...]:
        """Service CIDRs of a configuration, or of the API server, that the node uses otherwise (F7)."""
        return collisions(config, self.host, self._service_cidrs)

    def facts(self, node: Node | None, service_cidrs: Iterable[ServiceCIDR] = ()) -> NodeFacts:
        """The facts to compile with; tells what is wrong with them. ``service_cidrs``: what an API server says."""
        self._service_cidrs = networks_of(service_cidrs)
        facts, warnings = gather(
            self.config,
            name=self._options.node_name,
            node=node,
            node_ips=self._options.node_ips,
            host=self.host,
            service_cidrs=self._service_cidrs,
        )
        self._report.problems("node", (*warnings, *self.collisions(self.config)))
        self._report.serves(served_on(facts), deleted=bool(node and node.deleted))
        return facts

    def likely_facts(self) -> NodeFacts:
        """The facts as far as they are known without the node's object; nothing is told of them."""
        options = self._options
        return gather(self.config, name=options.node_name, node=None, node_ips=options.node_ips, host=self.host)[0]

    def facts_in(self, state: NodeState) -> NodeFacts:
        """The same with the Node object and the ServiceCIDRs that the state knows, if there are any."""
        return self.facts(state.index.nodes.get(self._options.node_name), state.index.service_cidrs.values())

    def served(self, state: NodeState) -> tuple[frozenset[Family], tuple[IPNetwork, ...]]:
        """The families that have Services, and the networks of the pods as far as they are known."""
        node = state.index.nodes.get(self._options.node_name)
        pod_cidrs = self.config.cluster_cidrs + (node.pod_cidrs if node else ())
        return frozenset(
            f for f, desired in state.tables.desired.items() if desired.elements["cluster-ips"]
        ), pod_cidrs

    def check_sysctls(self, state: NodeState, *, again: bool = False) -> None:
        """Tell which sysctls are missing, or set them where that is wanted (K6).

        Only when another family is served than the last time, or ``again``.
        """
        families, pod_cidrs = self.served(state)
        if families == self._families and not again:
            return
        self._families = families
        missing = find_missing(self.host, families, pod_cidrs, state.facts.service_cidrs)
        left, failed = self._set_or_left(missing)
        self._report.problems("sysctls", left, failed)
        advised = (*find_advised(families), *(find_conntrack(self.config, os.cpu_count() or 1) if families else ()))
        left, failed = self._set_or_left(advised)
        self._report.advice(left, failed)

    def _set_or_left(self, missing: Iterable[Missing]) -> tuple[list[str], list[str]]:
        """What is still missing, once that is set which is to be; and why it could not be."""
        left, failed = [], []
        for found in missing:
            if self._options.set_sysctls and found.setting:
                try:
                    self.undo_journal().set_sysctl(found.setting, found.value)
                    self._report.sysctl_set(found.setting, found.value)
                except (KernelError, OSError) as error:
                    failed.append(str(error))
            else:
                left.append(str(found))
        return left, failed

    def write_hosts(self, state: NodeState) -> None:
        """Bring the hosts file up to date, if one is kept."""
        if self._options.hosts_file is None:
            return
        lines = hosts_lines(state.index.services.values(), domain=self.config.cluster_domain)
        try:
            text = hosts_file((*lines, *kept_hosts_lines(self._options.hosts_file, state.kept.refs)))
            changed = self.undo_journal().write_hosts(self._options.hosts_file, text)
        except (KernelError, OSError) as error:
            self._report.problems("hosts file", (), [str(error)])
        else:
            self._report.problems("hosts file", ())
            self._report.hosts_written(self._options.hosts_file, changed=changed)

    def undo_journal(self) -> UndoJournal:
        """What is noted now: `sync --once` notes things, too."""
        return UndoJournal.of(self._state_dir, self._options.node_name)
