"""Keeps the kernel's tables as the node's state says: one transaction a sync, and a way out where it is refused.

Three ways lead from what the kernel holds to what it should hold, from cheap to dear:

1. The tables hold what we wrote last. Then the edits since are the transaction; it costs what has changed.
2. They hold what is *known*, but not from those edits: at the start, and when facts of the node have changed. Then
   the difference of the two tables is the transaction.
3. Somebody else has changed them, or a transaction was refused: they are read back, then as in 2. Where it was
   elements alone, and the kernel has told which, the first way will do.

A transaction that is refused over a fresh listing has a service in it that the kernel does not take. Which one is
found by halves, by asking the kernel to check without committing; that service is left as it was, and the others are
written. Where the state without any of the changes is refused too, no service is to blame (the kernel is out of
memory, say): everything stays as it is, for the next try.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol as Interface

from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.errors import KernelError
from nodeport_nft.flows import Frontends
from nodeport_nft.model import Family, IPAddress, NodeFacts, ObjectName
from nodeport_nft.plan import AddChain, ListedTable, Transaction
from nodeport_nft.reconcile.kept import Listed, Wants
from nodeport_nft.reconcile.node_tables import Edited
from nodeport_nft.reconcile.stale import changed_frontends, stale_frontends
from nodeport_nft.reconcile.state import NodeState
from nodeport_nft.ruleset import Chain, Element, Key

_MOST_CHECKS = 400
"""How often the kernel is asked for the services to blame: enough for about 20 among 100,000."""


class Tables(Interface):
    """The kernel's two tables."""

    def read(self, facts: NodeFacts) -> Listed:
        """What they hold. Raises KernelError."""

    def apply(self, transactions: Iterable[Transaction]) -> None:
        """Commit all of them or raise KernelError and leave everything as it was."""

    def check(self, transactions: Iterable[Transaction]) -> None:
        """Raise KernelError if the kernel would refuse them; nothing is changed."""


class Synced(Struct, frozen=True):
    """What one sync did. ``services`` were compiled, ``whole``: the tables were compared as a whole.

    ``differences`` says why a table was replaced, by family. ``frontends`` tell stale flows from good ones (K2).
    """

    transactions: tuple[Transaction, ...] = ()
    services: int = 0
    whole: bool = False
    differences: Mapping[Family, tuple[str, ...]] = field(default_factory=dict)
    frontends: Mapping[Family, Frontends] = field(default_factory=dict)

    @property
    def operations(self) -> int:
        """How many elements and rules were written and deleted."""
        return sum(transaction.size for transaction in self.transactions)


class Reconciler:
    """Writes what ``state`` says. ``known`` is what the kernel holds, None: it has to be read."""

    def __init__(self, tables: Tables, state: NodeState, known: Listed | None) -> None:
        self.state = state
        self.refused: dict[ObjectName, str] = {}
        self._tables = tables
        self._known = known
        self._is_known = known is not None
        self._has_synced = False
        self._before: dict[ObjectName, Wants] = {}  # of what has changed since the last commit
        self._damage: dict[tuple[Family, str, Key], bool] = {}

    def distrust(self) -> None:
        """Read the tables back at the next sync: they may not be as we wrote them."""
        self._known, self._is_known = None, False

    def damaged(self, family: Family, name: str, key: Key, *, present: bool) -> None:
        """Somebody else has added this element to a map or set of the schema, or deleted it: mend that next time.

        The tables need not be read back for it. The last word on each element counts.
        """
        self._damage[family, name, key] = present

    def refit(self, facts: NodeFacts) -> None:
        """Let the node be as these facts say, at the next sync."""
        if facts == self.state.facts:
            return
        before = self.state.tables
        known = {family: ListedTable.unchanging(before.table(family)) for family in Family}
        self.state.refit(facts, self._known or known)
        if self.state.tables.schemas != before.schemas:
            self.distrust()  # the tables are replaced, and what they have learned is only in the kernel
        elif self._damage:
            self.distrust()
        elif self._is_known and self._known is None:
            self._known = known
        # What is refused over these facts, too, stays as the kernel has it: what was wanted at the last commit.
        self._before = {key: before.wants(key) for key in self.state.index.services} | self._before

    def retry(self) -> None:
        """Try again what was refused."""
        self.state.touched |= self.refused.keys()

    def sync(self, local_ips: Iterable[IPAddress] = ()) -> Synced:
        """Write what is to be written. ``local_ips`` are the node's addresses.

        Raises KernelError where nothing could be written, or not all of it; the next sync tries the rest again.
        """
        keys, self.state.touched = self.state.touched, set()
        for key in keys:
            self.refused.pop(key, None)
        for key, wants in self.state.compile(sorted(keys)).items():
            self._before.setdefault(key, wants)
        self.state.tables.forget()
        synced = self._write_edits(keys, local_ips) or self._write_difference(local_ips)
        self._known, self._is_known, self._has_synced = None, True, True
        self._before.clear()
        self._damage.clear()
        return replace(synced, services=len(keys))

    def _write_edits(self, keys: Collection[ObjectName], local_ips: Iterable[IPAddress]) -> Synced | None:
        """The cheap way; None where it cannot be gone."""
        if self._known is not None or not self._is_known:
            return None
        edits = self._with_repairs(self.state.tables.take_edits())
        transactions = self.state.tables.transaction(edits)
        try:
            if transactions:
                self._tables.apply(transactions)
        except KernelError:
            self.distrust()
            return None
        touched = self.state.snapshot(keys)
        return Synced(transactions, frontends=changed_frontends(touched, self.state.tables, edits, local_ips))

    def _with_repairs(self, edits: Edited) -> Edited:
        """Edits of what the kernel holds after the damage. What is there by another's hand is deleted in any case."""
        if not self._damage:
            return edits
        elements = {f: {name: dict(pairs) for name, pairs in e.elements.items()} for f, e in edits.items()}
        for (family, name, key), present in self._damage.items():
            wanted = self.state.tables.desired[family].elements[name].get(key)
            changed = elements[family].setdefault(name, {})
            changed.pop(key, None)
            if present or wanted:
                changed[key] = Element(key) if present else None, wanted
        return {family: replace(edited, elements=elements[family]) for family, edited in edits.items()}

    def _write_difference(self, local_ips: Iterable[IPAddress]) -> Synced:
        listed = self._known
        self.distrust()
        if listed is not None:
            try:
                transactions = self._apply_over(listed)
            except KernelError:
                listed = None
        if listed is None:
            listed = self._tables.read(self.state.facts)
            try:
                transactions = self._apply_over(listed)
            except KernelError as error:
                transactions = self._write_what_can_be(listed, error)
        differences = {family: held.differences for family, held in listed.items() if held and held.differences}
        # Whoever was at the tables may have let flows through untranslated.
        frontends = {}
        if transactions or self._before or not self._has_synced:
            # Where nothing was to be written, what was there before is what is there now.
            before = listed if transactions else {}
            frontends = stale_frontends(self.state.snapshot(), self.state.tables, before, local_ips)
        return Synced(transactions, whole=True, differences=differences, frontends=frontends)

    def _apply_over(self, listed: Listed) -> tuple[Transaction, ...]:
        transactions = self.state.tables.transaction_over(listed)
        if transactions:
            self._tables.apply(transactions)
        return transactions

    def _write_what_can_be(self, listed: Listed, error: KernelError) -> tuple[Transaction, ...]:
        """What is written after a refusal over a fresh listing. Raises ``error`` where no service is to blame."""
        # A service that stays as it is must be found as the kernel has it, or its slots would be written, too.
        self.state.tables.adopt(listed)
        wanted = {key: self.state.tables.wants(key) for key in self._before}
        self._restore(self._before)
        if self._refusal(listed, self._probe(listed)):
            self._restore(wanted)
            raise error
        refused = self._find_refused(listed, wanted)
        self._restore({key: wants for key, wants in wanted.items() if key not in refused})
        self.refused |= {key: str(why) for key, why in refused.items()}
        if refused:
            try:
                return self._apply_over(listed)
            except KernelError:
                pass
        return self._write_in_parts(listed, {key: wants for key, wants in wanted.items() if key not in refused})

    def _find_refused(self, listed: Listed, wanted: Mapping[ObjectName, Wants]) -> dict[ObjectName, KernelError]:
        """Which of the services the kernel refuses on their own, with its words."""
        refused: dict[ObjectName, KernelError] = {}
        groups, checks = [sorted(wanted)], 0
        while groups and checks < _MOST_CHECKS:
            group = groups.pop()
            self._restore({key: wanted[key] for key in group})
            error = self._refusal(listed)
            self._restore({key: self._before[key] for key in group})
            checks += 1
            if error and len(group) == 1:
                refused[group[0]] = error
            elif error:
                groups += [group[: len(group) // 2], group[len(group) // 2 :]]
        return refused

    def _write_in_parts(self, listed: Listed, wanted: Mapping[ObjectName, Wants]) -> tuple[Transaction, ...]:
        """Service by service what is too much at once (EMSGSIZE, ENOBUFS): as many together as the kernel takes.

        Each part is a transaction of its own. Only where no table of another make is to be replaced: its services
        would be without rules until their turn.
        """
        tables = self.state.tables
        self._restore({key: self._before[key] for key in wanted})
        if any(held and held.differences for held in listed.values()):
            self._restore(wanted)
            return self._apply_over(listed)  # refused, in all likelihood, with the reason
        try:
            written = self._apply_over(listed)
        except KernelError:
            self._restore(wanted)
            raise
        groups = [sorted(wanted)]
        while groups:
            group = groups.pop()
            self._restore({key: wanted[key] for key in group})
            transactions = tables.transaction(tables.edits())
            try:
                self._tables.apply(transactions)
                tables.take_edits()
                written += transactions
            except KernelError:
                if len(group) == 1:
                    self._restore(wanted)
                    raise
                self._restore({key: self._before[key] for key in group})
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
        return written

    def _probe(self, listed: Listed) -> tuple[Transaction, ...]:
        """What the kernel does not refuse while it can write at all; for where there is nothing else to ask about."""
        return tuple(
            Transaction(schema.family, schema.name, (AddChain(Chain("probe", ())),))
            for family, schema in self.state.tables.schemas.items()
            if (held := listed.get(family)) and not held.differences
        )

    def _refusal(self, listed: Listed, probe: tuple[Transaction, ...] = ()) -> KernelError | None:
        """What the kernel has against the tables as they are wanted now."""
        try:
            self._tables.check(self.state.tables.transaction_over(listed) + probe)
        except KernelError as error:
            return error
        return None

    def _restore(self, wants: Mapping[ObjectName, Wants]) -> None:
        for key, wanted in wants.items():
            self.state.tables.restore(key, wanted)
