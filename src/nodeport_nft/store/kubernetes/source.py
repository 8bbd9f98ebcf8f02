"""The API server as a source: everything of four kinds once, and from then on what changes.

Whatever becomes of the server, what was taken last stays good, and the problem is told. Which objects are followed
stands in ``selection``, how one kind of them is in ``follower``.
"""

from __future__ import annotations

import asyncio

from nodeport_nft.model import Ref, Value
from nodeport_nft.problems import counted
from nodeport_nft.store.api import Change, Changes
from nodeport_nft.store.errors import told_by_daemon
from nodeport_nft.store.kubernetes import open_client
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.follower import Follower, Streaming, Timings
from nodeport_nft.store.kubernetes.patience import Reach
from nodeport_nft.store.kubernetes.selection import Selected, missing_node, selected
from nodeport_nft.store.strange import told_strange
from nodeport_nft.terminal import printable


class KubernetesSource:
    """One API server, on the thread of its event loop (``store.api.Source``)."""

    def __init__(
        self,
        connection: Connection,
        node: str,
        timings: Timings | None = None,
        followed: tuple[Selected, ...] | None = None,
    ) -> None:
        """Connects to nothing yet; ``node`` is whose Node object is followed. Raises StoreError.

        ``followed``: these objects, in place of those that the node programs.
        """
        self._connection = connection
        self._node = node if followed is None else ""
        self._client = open_client(connection)
        self._news = asyncio.Event()
        self._again = asyncio.Event()
        self._is_whole = True  # what is told next
        self._has_told = False
        self._noted: tuple[str, ...] = ()  # the problems when somebody was last woken for them
        reach, streaming = Reach(), Streaming()
        self._followers = tuple(
            Follower(self._client, each, reach, streaming, self._wake, timings or Timings())
            for each in followed or selected(node)
        )

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        try:
            while True:
                self._again.clear()
                await self._follow()
        finally:
            await self._client.close()

    async def changed(self) -> None:
        """Return when there may be something to take, or when the problems are others."""
        await self._news.wait()
        self._news.clear()

    def take(self) -> Changes:
        """What has come since the last time; nothing before all kinds are listed."""
        if not self._is_listed():
            return Changes()
        pending: dict[Ref, tuple[Value, ...]] = {}
        untold: dict[Ref, tuple[str, ...]] = {}
        for follower in self._followers:
            known = follower.known
            pending |= known.pending
            untold |= known.untold
            known.pending, known.untold = {}, {}
        changes = tuple(Change(ref, values) for ref, values in pending.items())
        damaged = (damaged for follower in self._followers for damaged in follower.known.damaged.values())
        unreadable = frozenset().union(*(each.meant for each in damaged))
        taken = Changes(changes, self._is_whole, unreadable, told_strange(untold, self._connection))
        self._is_whole, self._has_told = False, True
        return taken

    def forget(self) -> None:
        """List everything once more."""
        for follower in self._followers:
            follower.known.forget()
        self._is_whole = True
        self._again.set()

    def problems(self) -> tuple[str, ...]:
        """What is wrong now."""
        nothing = "nothing was read yet, and the tables stay as they are"
        served = "what was read last is served" if self._has_told else nothing
        faults = dict.fromkeys(follower.fault for follower in self._followers if follower.fault)
        told = (f"{told_by_daemon(fault)}; {served}" for fault in faults)
        return (*told, *self._missing(), *self._damaged())

    def close(self) -> None:
        """Nothing: connections end with ``run``."""

    async def _follow(self) -> None:
        """Follow all kinds until everything has to be told once more."""
        again = asyncio.create_task(self._again.wait())
        tasks = [asyncio.create_task(follower.run()) for follower in self._followers]
        try:
            done, _ = await asyncio.wait((again, *tasks), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a defect, or want of memory: nobody returns
        finally:
            for task in (again, *tasks):
                task.cancel()
            await asyncio.wait((again, *tasks))

    def _wake(self) -> None:
        """Wake who waits, but not for one kind while others are yet to come: the kernel is looked at each time."""
        if not self._is_listed():
            before, self._noted = self._noted, self.problems()
            if self._noted == before:
                return
        self._news.set()

    def _is_listed(self) -> bool:
        return all(follower.known.is_listed for follower in self._followers)

    def _missing(self) -> tuple[str, ...]:
        """This node's own object, where there is none: a name with a slip in it would be a node without pods."""
        if not self._node:  # nobody's in particular
            return ()
        (node,) = (each.known for each in self._followers if each.known.kind == "Node")
        if not node.is_listed or len(node):
            return ()
        return (missing_node(self._connection, self._node),)

    def _damaged(self) -> tuple[str, ...]:
        told = []
        for follower in self._followers:
            for ref, damaged in sorted(follower.known.damaged.items()):
                which = printable(str(ref)) if ref.name else f"one of the {follower.plural}"
                text = f"{which} at {self._connection} cannot be read: {damaged.why}; correct it or delete it"
                told.append((ref.kind, f"{text}; until then it stays as it was"))
        return counted(told)
