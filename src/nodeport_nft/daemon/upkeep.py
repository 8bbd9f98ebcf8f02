"""What follows upon a sync, a daemon's or that of ``sync --once``: the rest of the node, beside the tables."""

from __future__ import annotations

from nodeport_nft.daemon.devices import Devices
from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.names import NameFiles
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.telling import Report
from nodeport_nft.reconcile import NodeState, Synced


class Upkeep:
    """Keeps the devices of flowtables, sysctls, the hosts file and the names as the tables in force want them.

    None of it is waited for by a packet, so what goes wrong with it is told, and the tables stay.
    """

    def __init__(self, tables: KernelTables, node: ThisNode, report: Report) -> None:
        self.devices = Devices(tables, node, report)
        self.names = NameFiles(node, report)
        self._node = node

    def after(self, synced: Synced, state: NodeState, *, names_changed: bool) -> bool:
        """Bring it up to date after a sync; False where the host's links have to be read again.

        ``names_changed``: what the hosts file says may have changed.
        """
        followed = not synced.whole or self.devices.follow(state.tables.schemas)
        self._node.check_sysctls(state)
        if names_changed:
            self._node.write_hosts(state)
        self.names.follow(state, whole=synced.whole)
        return followed
