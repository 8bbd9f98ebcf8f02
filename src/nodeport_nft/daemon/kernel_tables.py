"""The kernel's tables as the reconciler needs them: read, checked, written, and watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from nodeport_nft.compile import compile_schema
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.flowtable import check_flowtables, plan_devices, read_devices
from nodeport_nft.kernel.host.kube_proxy.remains import Remains
from nodeport_nft.kernel.host.node_lock import NodeLock
from nodeport_nft.kernel.netlink.ahead import ReadAhead
from nodeport_nft.kernel.netlink.events import TableEvents
from nodeport_nft.kernel.netlink.outside_edits import OutsideEdit, read_outside_edits
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, NodeFacts
from nodeport_nft.plan import Transaction
from nodeport_nft.reconcile import Listed, read_tables, removal
from nodeport_nft.ruleset import Schema
from nodeport_nft.scarcity import scarcity

if TYPE_CHECKING:  # `sync --once` counts nothing, and need not read in what exports it
    from nodeport_nft.observe.connections import Connections


_MANY = 4096
"""Elements of a write during which nobody listens: where others write meanwhile, the tables are read back for it."""


class KernelTables:
    """Both tables in the caller's network namespace. Raises KernelError where nftables cannot be used.

    ``lock`` keeps other processes that program this node waiting, while it is ours. ``connections``
    keeps what the counters have counted. ``commits`` of ours there were so far.
    """

    def __init__(self, run_dir: str, nft: Nft | None = None) -> None:
        self.nft = nft or Nft()
        self.lock = NodeLock(run_dir)
        self.connections: Connections | None = None
        self.commits = 0
        self._events = TableEvents()
        self._ahead: ReadAhead | None = None

    def close(self) -> None:
        """Watch no longer."""
        self._events.close()
        self.lock.close()

    def fileno(self) -> int:
        """Readable when ``others`` may have something to tell."""
        return self._events.fileno()

    def listen(self) -> None:
        """Watch again where the kernel has had no memory for that. To be called now and then."""
        self._events.listen()

    def others(self) -> tuple[str, ...]:
        """Who else has changed the tables since the last call."""
        return self._events.read()

    def damage(self, schemas: Mapping[Family, Schema]) -> tuple[OutsideEdit, ...] | None:
        """The elements that ``others`` has told of; None if there is more to repair, or that is not known."""
        touched = self._events.elements
        return None if touched is None else read_outside_edits(touched, schemas)

    def read(self, facts: NodeFacts) -> Listed:
        """What the tables hold; what others have done until now is part of it. Raises KernelError."""
        with translated():
            self._events.read()
            if self._ahead is not None:
                ahead, self._ahead = self._ahead, None
                found = ahead.tables([compile_schema(family, facts) for family in Family])
                if found is not None:
                    return dict(zip(Family, found, strict=True))
            return read_tables(self.nft, facts)

    @contextmanager
    def reading_ahead(self, facts: NodeFacts) -> Iterator[None]:
        """Who reads the tables in this block, and for such facts, finds them read already where they are large."""
        self._ahead = self.nft.read_ahead([compile_schema(family, facts) for family in Family])
        try:
            yield
        finally:
            if self._ahead is not None:
                self._ahead.close()
                self._ahead = None

    def apply(self, transactions: Iterable[Transaction]) -> None:
        """Commit all of them, or raise KernelError and leave everything as it was (K1).

        Nothing is waited for: where another process has the node's lock, that is a NodeLockError.
        """
        transactions = tuple(transactions)
        with translated(), self.lock.at_once():
            if self.connections:
                self.connections.before(transactions)
            committed = False
            try:
                for late in (False, True):
                    committed |= self._commit([tx for tx in transactions if tx.late is late])
            finally:
                if self.connections and committed:
                    self.connections.committed()
                elif self.connections:
                    self.connections.refused()

    def _commit(self, transactions: list[Transaction]) -> bool:
        many = sum(transaction.size for transaction in transactions) > _MANY
        with self._events.away() if many else nullcontext():
            return self._counted(lambda: self.nft.apply(transactions)) > 0

    def _counted(self, write: Callable[[], object]) -> int:
        """How many commits this was, of which the events are told in any case."""
        before, committed = self._events.generation(), self.nft.commits
        try:
            write()
        finally:
            commits = self.nft.commits - committed
            self._events.wrote(before, commits)
            self.commits += commits
        return commits

    def check(self, transactions: Iterable[Transaction]) -> None:
        """Raise KernelError if the kernel would refuse them."""
        with translated():
            self.nft.check(transactions)

    def give_devices(self, schemas: Mapping[Family, Schema], links: Iterable[str]) -> bool:
        """Let these links take part in the flowtables of these tables; whether anything was to be written.

        Raises KernelError: a link may be gone.
        """
        with translated():
            transactions = plan_devices(schemas, read_devices(self.nft, schemas), links)
        if transactions:
            self.apply(transactions)
        return bool(transactions)

    def take_foreign_rules(self) -> bool:
        """Whether somebody has changed chains or rules of other tables, or may have, since the last call."""
        changed, self._events.foreign_rules = self._events.foreign_rules, False
        return changed

    def check_flowtables(self) -> None:
        """Raise KernelError where the kernel has none."""
        check_flowtables(self.nft)

    def remove_kube_proxy(self, found: Remains) -> None:
        """Delete what kube-proxy has left, that of nftables as one.

        Raises KernelError, also where another process has the node's lock.
        """
        with translated(), self.lock.at_once():
            if found.nft:
                self._counted(lambda: self.nft.remove_others(found.nft.messages()))
            found.remove_beside()

    def remove(self) -> None:
        """Delete both tables."""
        self.apply(removal(self.nft))


@contextmanager
def translated() -> Iterator[None]:
    """Whatever the system has not enough of (memory, descriptors, processes) is a failure to be tried again."""
    try:
        yield
    except OSError as error:
        raise KernelError(f"the system refuses what it takes to program the tables: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if wanting := scarcity(error):
            raise KernelError(f"the tables cannot be programmed: {wanting}") from error
        raise
