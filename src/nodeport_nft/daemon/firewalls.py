"""The chains of others, looked at again when they have changed, or what we serve has (see ``forwarding``)."""

from __future__ import annotations

from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.telling import Report
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.foreign_chains import Served
from nodeport_nft.reconcile import NodeState


class Firewalls:
    """Tells of the chains that stop what we translate."""

    def __init__(self, tables: KernelTables, node: ThisNode, report: Report) -> None:
        self._tables = tables
        self._node = node
        self._report = report
        self._trusted: tuple[str, ...] | None = None
        self._asked: object = None

    def look(self, state: NodeState) -> None:
        """Look at them where anything has changed: they, or what is asked about them. To be called now and then."""
        trusted = self._node.config.trusted_chains
        served = Served(state.tables.desired, state.facts, self._node.host)
        asked = served.facts, served.host, self._tables.commits
        if asked == self._asked and trusted == self._trusted and not self._tables.foreign_rules:
            return
        anew, self._trusted = trusted != self._trusted, None
        try:
            found = self._tables.obstacles(served, trusted, anew=anew)
        except KernelError as error:
            self._asked = None  # once more, the next time
            self._report.problems("firewall", [f"chains of others cannot be looked at: {error}"])
            return
        self._asked, self._trusted = asked, trusted
        self._report.problems("firewall", found)
