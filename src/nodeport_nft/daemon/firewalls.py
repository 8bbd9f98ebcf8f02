"""The chains of others, looked at again when they have changed, or what we serve has (see ``forwarding``).

How long that takes is theirs to say: seconds, where they have very much. So it is done beside the daemon's loop,
where no change waits for it, and in no more than a share of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from nodeport_nft.agenda import Backoff
from nodeport_nft.daemon.kernel_tables import KernelTables, translated
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.telling import Report
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.foreign_chains import Obstacles, Served
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.reconcile import NodeState

_REST = 3.0
"""How many times as long as a look took there is none: who changes chains all the time gets a quarter of it."""

_LONGEST_SECONDS = 60.0
"""The longest pause before what could not be read is read again."""


class Firewalls:
    """Tells of the chains that stop what we translate. Raises KernelError where nftables cannot be used."""

    def __init__(self, tables: KernelTables, node: ThisNode, report: Report) -> None:
        self._tables = tables
        self._node = node
        self._report = report
        self._nft = Nft()  # the loop's own is not for threads
        self._obstacles = Obstacles(self._nft)
        self._trusted: tuple[str, ...] | None = None  # the chains are read but for these; None: they have to be read
        self._asked: object = None
        self._due = asyncio.Event()
        self._backoff = Backoff(_LONGEST_SECONDS)

    def look(self, state: NodeState) -> None:
        """Look at them, now."""
        try:
            with translated():
                found = self._obstacles.find(self._served(state), self._node.config.trusted_chains)
        except KernelError as error:
            found = (_unseen(error),)
        self._report.problems("firewall", found)

    def look_soon(self) -> None:
        """Let ``follow`` look whether anything has changed. To be called now and then."""
        self._due.set()

    async def follow(self, state: Callable[[], NodeState]) -> None:
        """Look at them beside the loop where anything has changed, they or what is asked about them; until cancelled.

        ``state`` says what is served; it is called in the loop.
        """
        while True:
            await self._due.wait()
            self._due.clear()
            begun = time.monotonic()
            if not await self._looked(state()):
                await asyncio.to_thread(self._nft.rest)
                continue
            pause = (time.monotonic() - begun) * _REST
            if self._trusted is None:
                self._due.set()
                pause = max(pause, self._backoff.failed())
            else:
                self._backoff.succeeded()
            await asyncio.sleep(pause)

    async def _looked(self, state: NodeState) -> bool:
        """Whether there was anything to look at; it is told what was found."""
        trusted, served = self._node.config.trusted_chains, self._served(state)
        asked = served.facts, served.host, self._tables.commits
        if self._tables.take_foreign_rules() or trusted != self._trusted:
            self._trusted = None  # until they are read
        elif asked == self._asked:
            return False
        self._asked = None
        try:
            with translated():
                if self._trusted is None:
                    await asyncio.to_thread(self._obstacles.read, trusted)
                found = await asyncio.to_thread(self._obstacles.answer, self._obstacles.ask(served))
        except KernelError as error:
            self._trusted, found = None, (_unseen(error),)
        else:
            self._trusted, self._asked = None if self._obstacles.failed else trusted, asked
        self._report.problems("firewall", found)
        return True

    def _served(self, state: NodeState) -> Served:
        return Served(state.tables.desired, state.facts, self._node.host)


def _unseen(error: KernelError) -> str:
    return f"chains of others cannot be looked at: {error}"
