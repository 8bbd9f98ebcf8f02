"""The chains of others, looked at again when they have changed, or what we serve has (see ``forwarding``).

How long that takes is theirs to say: seconds, where they have very much. So it is done beside the daemon's loop,
where no change waits for it, and in no more than a share of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from nodeport_nft.agenda import Backoff
from nodeport_nft.daemon.kernel_tables import KernelTables, translated
from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.telling import Report
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.foreign_chains import Obstacles, Question, Served, unseen
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.reconcile import NodeState

_REST = 3.0
"""How many times as long as a look took there is none: who changes chains all the time gets a quarter of it."""

_LONGEST_SECONDS = 60.0
"""The longest pause before what could not be read is read again, unless that takes long."""


class Firewalls:
    """Tells of the chains that stop what we translate. ``nft`` is for this alone: it is used in other threads."""

    def __init__(self, tables: KernelTables, node: ThisNode, report: Report, nft: Nft) -> None:
        self._tables = tables
        self._node = node
        self._report = report
        self._nft = nft
        self._obstacles = Obstacles(nft)
        self._read: tuple[str, ...] | None = None  # the chains are read, but for these; None: they have to be read
        self._asked: object = None
        self._due = asyncio.Event()
        self._backoff = Backoff(_LONGEST_SECONDS)

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
            if self._read is not None and await self._unheard():
                self._read = None
            begun, trusted = time.monotonic(), self._node.config.trusted_chains
            await self._look(state, trusted)
            await asyncio.to_thread(self._nft.rest)
            await self._pause((time.monotonic() - begun) * _REST, trusted)

    async def _unheard(self) -> bool:
        """Whether the old iptables' chains have changed, of which nobody tells."""
        with suppress(KernelError), translated():
            return await asyncio.to_thread(self._obstacles.legacy_changed)
        return False  # the next time, then

    async def _pause(self, seconds: float, trusted: tuple[str, ...]) -> None:
        """Do nothing for so long; an operator who vouches for other chains than these is not kept waiting."""
        again = self._read is None
        if again:
            seconds = max(seconds, self._backoff.failed())
        else:
            self._backoff.succeeded()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._node.config.trusted_chains == trusted:
                    await self._due.wait()
                    self._due.clear()
                    again = True
        if again or self._node.config.trusted_chains != trusted:
            self._due.set()

    async def _look(self, state: Callable[[], NodeState], trusted: tuple[str, ...]) -> None:
        """Read and ask what has to be, and tell what was found."""
        if self._tables.take_foreign_rules() or trusted != self._read:
            self._read = None
        try:
            with translated():
                if self._read is None:
                    await asyncio.to_thread(self._obstacles.read, trusted)
                elif self._to_ask(state()) == self._asked:
                    return
                asked = self._to_ask(state())  # as it is now: reading may have taken long
                found = await asyncio.to_thread(self._obstacles.answer, self._question(state()))
        except KernelError as error:
            self._read, found, asked = None, (unseen(error),), None
        else:
            self._read = None if self._obstacles.failed else trusted
        self._report.problems("firewall", found)
        self._asked = asked

    def _to_ask(self, state: NodeState) -> object:
        return state.facts, self._node.host, self._tables.commits

    def _question(self, state: NodeState) -> Question:
        return self._obstacles.ask(Served(state.tables.desired, state.facts, self._node.host))
