"""The host's network, read again beside the loop when it has changed: that takes long where there are many routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from nodeport_nft.agenda import Agenda, Backoff
from nodeport_nft.daemon.due import Due
from nodeport_nft.daemon.flow_cleaner import FlowCleaner
from nodeport_nft.daemon.followed import FollowedNode
from nodeport_nft.daemon.lasting import lasting
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.writing import Writing
from nodeport_nft.errors import KernelError
from nodeport_nft.model import NodePortMode
from nodeport_nft.reconcile import stale_frontends

_BURST_SECONDS = 0.1
"""How long to wait after a change: a new link brings several."""


class Network:
    """Reads it once at a time (``Due.NETWORK``), and not more than half of the time.

    ``lost`` is told what there was too little of for it, ``ended`` a reading that is over, however it has ended.
    ``backoff``: its longest pause is when one that has failed is tried again.
    """

    def __init__(
        self,
        node: FollowedNode,
        reporter: Reporter,
        agenda: Agenda[Due],
        writing: Writing,
        flows: FlowCleaner,
        backoff: Backoff,
        lost: Callable[[str], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._node = node
        self._reporter = reporter
        self._agenda = agenda
        self._writing = writing
        self._flows = flows
        self._backoff = backoff
        self._lost = lost
        self._ended = ended
        self._reading: asyncio.Task[None] | None = None
        self._once_more = False

    def changed(self) -> None:
        """The kernel tells of a change."""
        self._node.events.take()
        self._agenda.within(Due.NETWORK, _BURST_SECONDS)

    def reread(self) -> None:
        """Begin to read; once more after the reading that is under way."""
        if self._reading is not None and not self._reading.done():
            self._once_more = True
            return
        self._reading = asyncio.create_task(lasting("following: network", self._reread, self._reporter, self._lost))
        self._reading.add_done_callback(self._ended)

    async def _reread(self) -> None:
        begin, pause = time.monotonic(), 0.0
        try:
            before = self._node.host.addresses
            changed = await self._node.reread()
        except KernelError as error:
            self._reporter.problems("network", [str(error)])
            self._once_more, pause = True, self._backoff.longest
        else:
            self._reporter.problems("network", ())
            self._writing.give_devices()
            if changed:
                self._writing.refit()
                self._node.update_health(self._writing.state, set(), all_of_them=True)
            state = self._writing.state
            if self._node.host.addresses != before and state.facts.node_port_mode is NodePortMode.ALL:
                # The tables need not change for a new address, but flows to it may have begun untranslated (K2).
                addresses = [held.address for held in self._node.host.addresses]
                self._flows.clean(stale_frontends(state.snapshot(), state.tables, {}, addresses))
        if self._once_more:
            self._once_more = False
            self._agenda.within(Due.NETWORK, 0.0)
        self._agenda.not_within(Due.NETWORK, max(pause, time.monotonic() - begin))
