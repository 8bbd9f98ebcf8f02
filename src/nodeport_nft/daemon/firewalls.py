"""The forward chains of others, looked at again when somebody has changed some (see ``forwarding``)."""

from __future__ import annotations

from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.tables import KernelTables
from nodeport_nft.kernel.nft import KernelError
from nodeport_nft.reconcile import NodeState


class Firewalls:
    """Tells of the chains that stop what we translate."""

    def __init__(self, tables: KernelTables, node: ThisNode, reporter: Reporter) -> None:
        self._tables = tables
        self._node = node
        self._reporter = reporter
        self._asked: object = None

    def look(self, state: NodeState) -> None:
        """Look at them where anything has changed: they, or what is asked about them. To be called now and then."""
        asked = *self._node.served(state), self._node.config.trusted_chains
        try:
            found = self._tables.obstacles(*asked, anew=asked != self._asked)
        except KernelError as error:
            self._asked = None  # once more, the next time
            self._reporter.problems("firewall", [f"forward chains of others cannot be looked at: {error}"])
            return
        self._asked = asked
        if found is not None:
            self._reporter.problems("firewall", found)
