"""Tables as the kernel keeps them: strict about what is there, what is not, and what is still in use.

``Kernel`` is one table. ``FakeTables`` are both families' as the reconciler needs them, with faults to inject:
each is a function that says why the kernel refuses a transaction, or says nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from nodeport_nft.compile import compile_schema
from nodeport_nft.errors import KernelError
from nodeport_nft.model import Family, NodeFacts
from nodeport_nft.plan import (
    Add,
    AddChain,
    AddMap,
    AddRules,
    Delete,
    DeleteChain,
    DeleteMap,
    FlushChain,
    ListedTable,
    Remove,
    Replace,
    Transaction,
)
from nodeport_nft.reconcile import Listed, NodeTables
from nodeport_nft.ruleset import (
    Chain,
    Dispatch,
    DnatSlot,
    Element,
    Goto,
    GotoChance,
    InSet,
    Jump,
    Key,
    Learn,
    Map,
    Rule,
    Schema,
    Table,
)


@dataclass
class Kernel:
    """One table. ``commit`` carries out a transaction, or fails as the kernel would.

    Nothing in it leads to what is not there: ``of`` looks at the whole table, and every operation after it at what it
    adds and at what it takes away.
    """

    elements: dict[str, dict[Key, Element]] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    rules: dict[str, list[Rule]] = field(default_factory=dict)

    @classmethod
    def of(cls, table: Table) -> Kernel:
        declared = {m.name: m for m in table.schema.maps} | dict(table.maps)
        chains = {c.name: c for c in table.schema.chains} | dict(table.chains)
        kernel = cls(
            {name: dict(table.elements.get(name, {})) for name in declared},
            declared,
            {name: list(chain.rules) for name, chain in chains.items()},
        )
        kernel.check()
        return kernel

    def table(self, like: Table) -> Table:
        """What it holds beside the schema."""
        ours = {m.name for m in like.schema.maps}, {c.name for c in like.schema.chains}
        maps = {name: declared for name, declared in self.maps.items() if name not in ours[0]}
        chains = {n: Chain(n, tuple(rules)) for n, rules in self.rules.items() if n not in ours[1]}
        return Table(like.schema, self.elements, maps, chains)

    def commit(self, transaction: Transaction) -> None:
        after = Kernel(
            {name: dict(held) for name, held in self.elements.items()},
            dict(self.maps),
            {name: list(rules) for name, rules in self.rules.items()},
        )
        for operation in transaction.operations:
            match operation:
                case Delete(map=name, keys=keys):
                    for key in keys:
                        del after.elements[name][key]
                case Add(map=name, elements=elements):
                    for element in elements:
                        assert element.key not in after.elements[name], "EEXIST"
                        assert not isinstance(element.value, Goto) or element.value.chain in after.rules, "ENOENT"
                        after.elements[name][element.key] = element
                case AddMap(map=declared):
                    assert declared.name not in after.maps, "EEXIST"
                    after.maps[declared.name], after.elements[declared.name] = declared, {}
                case DeleteMap(name=name):
                    assert name not in after.sets_used(), "EBUSY"
                    del after.maps[name], after.elements[name]
                case AddChain(chain=chain):
                    assert chain.name not in after.rules, "EEXIST"
                    after.rules[chain.name] = []
                case AddRules(chain=chain):
                    after.rules[chain.name] += chain.rules
                    assert set(_chains_of(chain.rules)) <= after.rules.keys(), "ENOENT"
                    assert set(_sets_of(chain.rules)) <= after.maps.keys(), "ENOENT"
                case FlushChain(name=name):
                    after.rules[name].clear()
                case DeleteChain(name=name):
                    assert not after.rules[name], "EBUSY"
                    assert name not in after.chains_used(), "EBUSY"
                    del after.rules[name]
                case _:
                    raise AssertionError(f"not for one table's elements: {operation}")
        self.elements, self.maps, self.rules = after.elements, after.maps, after.rules

    def check(self) -> None:
        """Nothing leads to what is not there."""
        assert set(self.chains_used()) <= self.rules.keys(), "ENOENT"
        assert set(self.sets_used()) <= self.maps.keys(), "ENOENT"

    def chains_used(self) -> Iterator[str]:
        for held in self.elements.values():
            yield from (e.value.chain for e in held.values() if isinstance(e.value, Goto))
        for rules in self.rules.values():
            yield from _chains_of(rules)

    def sets_used(self) -> Iterator[str]:
        for rules in self.rules.values():
            yield from _sets_of(rules)


def _chains_of(rules: Iterable[Rule]) -> Iterator[str]:
    for rule in rules:
        yield from (each.chain for each in rule if isinstance(each, (Goto, Jump, GotoChance)))


def _sets_of(rules: Iterable[Rule]) -> Iterator[str]:
    for rule in rules:
        for statement in rule:
            if isinstance(statement, (InSet, Learn)):
                yield statement.set
            elif isinstance(statement, (Dispatch, DnatSlot)):
                yield statement.map


FOREIGN = "made by somebody else"

Fault = Callable[[Transaction], str | None]
"""Why the kernel refuses this transaction; None: it does not."""


class FakeTables:
    """Both families' tables, none at first. What is not late is committed as one, then what is late.

    ``kernels`` may be changed behind the reconciler's back. ``late_faults`` are asked about late transactions alone,
    ``faults`` about all. ``commits`` has what was committed, as one tuple each time; ``reads`` counts.
    """

    def __init__(self) -> None:
        self.kernels: dict[str, Kernel] = {}
        self.schemas: dict[str, Schema | None] = {}  # None: not one of ours
        self.faults: list[Fault] = []
        self.late_faults: list[Fault] = []
        self.commits: list[tuple[Transaction, ...]] = []
        self.refusals: list[str] = []
        self.reads = 0
        self.checks = 0

    def put(self, tables: NodeTables) -> None:
        """Hold these tables."""
        for table in tables.tables():
            self.kernels[table.schema.family] = Kernel.of(table)
            self.schemas[table.schema.family] = table.schema

    def put_foreign(self, family: str) -> None:
        """Hold a table of our name that somebody else has made."""
        self.kernels[family], self.schemas[family] = Kernel(rules={"theirs": []}), None

    def lose(self, family: str) -> None:
        """Hold no such table any longer."""
        self.kernels.pop(family, None)
        self.schemas.pop(family, None)

    def read(self, facts: NodeFacts) -> Listed:
        self.reads += 1
        return {family: self._listed(compile_schema(family, facts)) for family in Family}

    def _listed(self, schema: Schema) -> ListedTable | None:
        kernel = self.kernels.get(schema.family)
        if kernel is None:
            return None
        if self.schemas[schema.family] != schema or any(
            kernel.rules.get(chain.name) != list(chain.rules) for chain in schema.chains
        ):
            return ListedTable(differences=(FOREIGN,))
        return ListedTable.of(kernel.table(Table(schema)))

    def apply(self, transactions: Iterable[Transaction]) -> None:
        transactions = tuple(transactions)
        for late in (False, True):
            some = tuple(transaction for transaction in transactions if transaction.late is late)
            if some:
                self.kernels, self.schemas = self._after(some)
                self.commits.append(some)

    def check(self, transactions: Iterable[Transaction]) -> None:
        self.checks += 1
        self._after(tuple(transaction for transaction in transactions if not transaction.late))

    def _after(self, transactions: tuple[Transaction, ...]) -> tuple[dict[str, Kernel], dict[str, Schema | None]]:
        kernels, schemas = dict(self.kernels), dict(self.schemas)
        try:
            for transaction in transactions:
                for fault in (*self.faults, *(self.late_faults if transaction.late else ())):
                    why = fault(transaction)
                    assert why is None, why
                _carry_out(transaction, kernels, schemas)
        except (AssertionError, KeyError) as error:
            self.refusals.append(str(error))
            raise KernelError(str(error)) from error
        return kernels, schemas


def _carry_out(transaction: Transaction, kernels: dict[str, Kernel], schemas: dict[str, Schema | None]) -> None:
    family = transaction.family
    match transaction.operations:
        case (Replace(table=table),):
            kernels[family], schemas[family] = Kernel.of(table), table.schema
        case (Remove(),):
            assert family in kernels, "ENOENT"
            del kernels[family], schemas[family]
        case _:
            assert family in kernels, "ENOENT"
            kernel = kernels[family] = copy.copy(kernels[family])
            kernel.commit(transaction)
