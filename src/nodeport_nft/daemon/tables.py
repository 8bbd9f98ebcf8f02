"""The kernel's tables as the reconciler needs them: read, checked, written, and watched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nodeport_nft.kernel.damage import Damage, read_damage
from nodeport_nft.kernel.events import TableEvents
from nodeport_nft.kernel.flowtable import check_flowtables, plan_devices, read_devices
from nodeport_nft.kernel.forwarding import Obstacles, Served
from nodeport_nft.kernel.nft import KernelError, Nft
from nodeport_nft.kernel.turns import Turn
from nodeport_nft.model import Family, NodeFacts
from nodeport_nft.plan import Transaction
from nodeport_nft.reconcile import Listed, read_tables, removal
from nodeport_nft.ruleset import Schema
from nodeport_nft.scarcity import scarcity

if TYPE_CHECKING:  # `sync --once` imports this and counts nothing
    from nodeport_nft.observe.connections import Connections


class OurTables:
    """Both tables in the caller's network namespace, as they are read, checked and written.

    ``turn`` keeps other processes that program this node waiting, while it is ours. ``written`` counts what was
    committed.
    """

    def __init__(self, nft: Nft, run_dir: str) -> None:
        self.nft = nft
        self.turn = Turn(run_dir)
        self.written = 0
        self._obstacles = Obstacles(nft)

    def close(self) -> None:
        """Give the turn back, if it is ours."""
        self.turn.close()

    def read(self, facts: NodeFacts) -> Listed:
        """What the tables hold. Raises KernelError."""
        with _translated():
            return read_tables(self.nft, facts)

    def apply(self, transactions: Iterable[Transaction]) -> None:
        """Commit all of them, or raise KernelError and leave everything as it was (K1).

        Nothing is waited for: where it is another process's turn, that is a TurnError.
        """
        with _translated(), self.turn.at_once():
            self._commit(tuple(transactions))

    def _commit(self, transactions: Sequence[Transaction]) -> None:
        self.written += self.nft.apply(transactions)

    def check(self, transactions: Iterable[Transaction]) -> None:
        """Raise KernelError if the kernel would refuse them."""
        with _translated():
            self.nft.check(transactions)

    def give_devices(self, schemas: Mapping[Family, Schema], links: Iterable[str]) -> bool:
        """Let these links take part in the flowtables of these tables; whether anything was to be written.

        Raises KernelError: a link may be gone.
        """
        with _translated():
            transactions = plan_devices(schemas, read_devices(self.nft, schemas), links)
        if transactions:
            self.apply(transactions)
        return bool(transactions)

    @property
    def foreign_rules(self) -> bool:
        """Whether somebody has changed chains or rules of other tables since ``obstacles`` has read them."""
        return True  # as far as is known: nobody listens

    def obstacles(self, served: Served, trusted: Collection[str], *, anew: bool) -> tuple[str, ...]:  # noqa: ARG002
        """The chains of others that stop what we translate; they are read again where somebody has changed any.

        ``anew``: they are read in any case.
        """
        with _translated():
            return self._obstacles.find(served, trusted)

    def check_flowtables(self) -> None:
        """Raise KernelError where the kernel has none."""
        check_flowtables(self.nft)

    def remove(self) -> None:
        """Delete both tables."""
        self.apply(removal(self.nft))


class KernelTables(OurTables):
    """The tables as a daemon has them: watched, and their counters kept (``connections``).

    Raises KernelError where nftables cannot be used.
    """

    def __init__(self, run_dir: str) -> None:
        super().__init__(Nft(), run_dir)
        self.connections: Connections | None = None
        self._events = TableEvents()

    def close(self) -> None:
        """Watch no longer."""
        self._events.close()
        super().close()

    def fileno(self) -> int:
        """Readable when ``others`` may have something to tell."""
        return self._events.fileno()

    def rest(self) -> None:
        """Give back what is kept for the next write or reading, where there was none since the last call."""
        self.nft.rest()

    def others(self) -> tuple[str, ...]:
        """Who else has changed the tables since the last call."""
        return self._events.read()

    def damage(self, schemas: Mapping[Family, Schema]) -> tuple[Damage, ...] | None:
        """The elements that ``others`` has told of; None if there is more to repair, or that is not known."""
        touched = self._events.elements
        return None if touched is None else read_damage(touched, schemas)

    def read(self, facts: NodeFacts) -> Listed:
        """What the tables hold; what others have done until now is part of it. Raises KernelError."""
        with _translated():
            self._events.read()
        return super().read(facts)

    def _commit(self, transactions: Sequence[Transaction]) -> None:
        """Count what the counters lose by it, and tell our commits from those of others."""
        if self.connections:
            self.connections.before(transactions)
        committed = False
        try:
            for late in (False, True):
                committed |= self._commit_noted([tx for tx in transactions if tx.late is late])
        finally:
            if self.connections and committed:
                self.connections.committed()
            elif self.connections:
                self.connections.refused()

    def _commit_noted(self, transactions: Sequence[Transaction]) -> bool:
        before, commits = self._events.generation(), 0
        try:
            commits = self.nft.apply(transactions)
        finally:
            self._events.wrote(before, commits)
        self.written += commits
        return bool(commits)

    def obstacles(self, served: Served, trusted: Collection[str], *, anew: bool) -> tuple[str, ...]:
        """The chains of others that stop what we translate; they are read again where somebody has changed any.

        ``anew``: they are read in any case.
        """
        if anew or self._events.foreign_rules:
            self._events.foreign_rules = False
            return super().obstacles(served, trusted, anew=anew)
        with _translated():
            return self._obstacles.again(served)

    @property
    def foreign_rules(self) -> bool:
        """Whether somebody has changed chains or rules of other tables since ``obstacles`` has read them."""
        return self._events.foreign_rules


@contextmanager
def _translated() -> Iterator[None]:
    """Whatever the system has not enough of (memory, descriptors, processes) is a failure to be tried again."""
    try:
        yield
    except OSError as error:
        raise KernelError(f"the system refuses what it takes to program the tables: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if wanting := scarcity(error):
            raise KernelError(f"the tables cannot be programmed: {wanting}") from error
        raise
