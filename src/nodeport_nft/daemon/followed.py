"""The node as a daemon follows it: its network as that changes, and its health as load balancers ask for it."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from nodeport_nft.config import Config
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.options import Options
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.facts import Host
from nodeport_nft.health import health_checks
from nodeport_nft.health.server import HealthServer
from nodeport_nft.kernel.host.addresses import HostEvents, read_host
from nodeport_nft.kernel.host.undo_journal import undo
from nodeport_nft.model import NodePortMode, ObjectName
from nodeport_nft.reconcile import NodeState

_EVERYWHERE = (ip_address("0.0.0.0"), ip_address("::"))  # noqa: S104 (healthCheckNodePorts, where nodePorts are)


class FollowedNode(ThisNode):
    """``host`` was read after ``events`` began to listen."""

    def __init__(self, options: Options, config: Config, reporter: Reporter, events: HostEvents, host: Host) -> None:
        super().__init__(options, config, reporter, host)
        self.events = events
        self._left = config.state_dir, config.store  # those of the start, whatever is read later
        self._health = HealthServer()
        self._checked: set[ObjectName] = set()
        self._troubles: tuple[str, ...] = ()

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
        self._report.problems("health checks", self._troubles)

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
