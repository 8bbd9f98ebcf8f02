"""The devices of the flowtables follow the links of the host, if there are flowtables (X11)."""

from __future__ import annotations

from collections.abc import Mapping

from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.telling import Report
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.flowtable import left_out
from nodeport_nft.model import Family
from nodeport_nft.ruleset import Schema


class Devices:
    """Gives the flowtables in the kernel the devices that the node has."""

    def __init__(self, tables: KernelTables, node: ThisNode, report: Report) -> None:
        self._tables = tables
        self._node = node
        self._report = report

    def follow(self, schemas: Mapping[Family, Schema]) -> bool:
        """Bring them up to date; False where the links have to be read again. To be called when tables or links have
        changed. Costs what the links cost, whatever the number of services.
        """
        offloading = {family: schema for family, schema in schemas.items() if schema.flowtable}
        links = self._node.host.links
        try:
            if self._tables.give_devices(offloading, links):
                self._report.devices_given(len(links))
        except KernelError as error:
            # A link has gone since they were read, as a rule, of which the kernel tells; all others wait for that.
            self._report.problems("flowtable", [f"flowtable: {error}"])
            return False
        self._report.problems("flowtable", left_out(links) if offloading else ())
        return True
