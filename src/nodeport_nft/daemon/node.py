"""The node itself: its addresses, its Node object, its sysctls, its hosts file, its health checks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address

from nodeport_nft.config import Config
from nodeport_nft.daemon.options import Options
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.facts import Host, collisions, gather, served_on
from nodeport_nft.health import health_checks
from nodeport_nft.health.server import HealthServer
from nodeport_nft.hosts import hosts_file, hosts_lines
from nodeport_nft.kernel.host import HostEvents, read_host
from nodeport_nft.kernel.hostsfile import kept_hosts_lines
from nodeport_nft.kernel.nft import KernelError
from nodeport_nft.kernel.sysctl import Missing, find_advised, find_missing
from nodeport_nft.kernel.traces import Traces, undo
from nodeport_nft.model import Family, IPNetwork, Node, NodeFacts, NodePortMode, ObjectName
from nodeport_nft.reconcile import NodeState

_EVERYWHERE = (ip_address("0.0.0.0"), ip_address("::"))  # noqa: S104 (healthCheckNodePorts, where nodePorts are)


class ThisNode:
    """What is read from and done to this machine, but for the tables.

    ``host`` was read after ``events`` began to listen.
    """

    def __init__(self, options: Options, config: Config, reporter: Reporter, events: HostEvents, host: Host) -> None:
        self.events = events
        self.host = host
        self.config = config
        self._options = options
        self._reporter = reporter
        self._left = config.state_dir, config.store  # those of the start, whatever is read later
        self._health = HealthServer()
        self._checked: set[ObjectName] = set()
        self._troubles: tuple[str, ...] = ()
        self._families: frozenset[Family] = frozenset()

    def close(self) -> None:
        """Stop to answer and to listen."""
        self._health.close()
        self.events.close()

    async def reread(self) -> bool:
        """Read the host's network again; whether it has changed. Raises KernelError."""
        self.events.take()
        # In a thread: pyroute2 wants an event loop of its own.
        before, self.host = self.host, await asyncio.to_thread(read_host)
        return before != self.host

    def collisions(self, config: Config) -> tuple[str, ...]:
        """Service CIDRs of a configuration that the node uses otherwise (F7)."""
        return collisions(config, self.host)

    def facts(self, node: Node | None) -> NodeFacts:
        """The facts to compile with; tells what is wrong with them."""
        facts, warnings = gather(
            self.config, name=self._options.node_name, node=node, node_ips=self._options.node_ips, host=self.host
        )
        self._reporter.problems("node", (*warnings, *self.collisions(self.config)))
        self._reporter.tell(node_ports_on=served_on(facts), node_deleted=bool(node and node.deleted))
        return facts

    def facts_in(self, state: NodeState) -> NodeFacts:
        """The same with the Node object that the state knows, if there is one."""
        return self.facts(state.index.nodes.get(self._options.node_name))

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
        missing = find_missing(self.host, families, pod_cidrs, self.config.ranges.service_cidrs)
        self._reporter.problems("sysctls", self._set_or_told(missing))
        self._reporter.advice(self._set_or_told(find_advised(families)))

    def _set_or_told(self, missing: Iterable[Missing]) -> list[str]:
        """What is still missing, once that is set which is to be and can be."""
        left = []
        for found in missing:
            if self._options.set_sysctls and found.setting:
                try:
                    self._traces().set_sysctl(found.setting, found.value)
                    self._reporter.log.info("sysctl set", name=found.setting, value=found.value)
                except (KernelError, OSError) as error:
                    left.append(str(error))
            else:
                left.append(str(found))
        return left

    def write_hosts(self, state: NodeState) -> None:
        """Bring the hosts file up to date, if one is kept."""
        if self._options.hosts_file is None:
            return
        lines = hosts_lines(state.index.services.values(), domain=self.config.cluster_domain)
        try:
            text = hosts_file((*lines, *kept_hosts_lines(self._options.hosts_file, state.kept.refs)))
            self._traces().write_hosts(self._options.hosts_file, text)
        except (KernelError, OSError) as error:
            self._reporter.problems("hosts file", [str(error)])
        else:
            self._reporter.problems("hosts file", ())

    def update_health(self, state: NodeState, touched: set[ObjectName], *, all_of_them: bool = False) -> None:
        """Answer on the healthCheckNodePorts as things are now (H1)."""
        services = state.index.services
        asked = services.keys() if all_of_them else touched
        now = {key for key in asked if key in services and services[key].health_check_node_port}
        if not all_of_them and not (now or touched & self._checked):
            return
        self._checked = now if all_of_them else self._checked - touched | now
        checks = health_checks((services[key] for key in self._checked), state.resolver)
        everywhere = state.facts.node_port_mode is NodePortMode.ALL
        self._troubles = self._health.update(checks, _EVERYWHERE if everywhere else state.facts.node_port_ips)
        self._reporter.problems("health checks", self._troubles)

    def look_again(self, state: NodeState) -> None:
        """Look after what nobody tells of: sysctls that somebody sets, and ports that could not be opened."""
        self.check_sysctls(state, again=True)
        if self._troubles:
            self.update_health(state, set(), all_of_them=True)

    def set_healthy(self, healthy: bool) -> None:
        """Let the healthCheckNodePorts say so."""
        self._health.set_healthy(healthy)

    def undo(self) -> tuple[list[str], list[str]]:
        """Set sysctls back and remove the hosts file: what was done, and what failed."""
        return undo(*self._left, self._options.node_name)

    def _traces(self) -> Traces:
        """What is noted now: `sync --once` notes things, too."""
        return Traces.of(self._left[0], self._options.node_name)
