"""A table as the kernel keeps it: strict about what is there, what is not, and what is still in use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nodeport_nft.plan import (
    Add,
    AddChain,
    AddMap,
    AddRules,
    Delete,
    DeleteChain,
    DeleteMap,
    FlushChain,
    Transaction,
)
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
    Table,
)


@dataclass
class Kernel:
    """One table. ``commit`` carries out a transaction, or fails as the kernel would."""

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
                        after.elements[name][element.key] = element
                case AddMap(map=declared):
                    assert declared.name not in after.maps, "EEXIST"
                    after.maps[declared.name], after.elements[declared.name] = declared, {}
                case DeleteMap(name=name):
                    assert name not in set(after.sets_used()), "EBUSY"
                    del after.maps[name], after.elements[name]
                case AddChain(chain=chain):
                    assert chain.name not in after.rules, "EEXIST"
                    after.rules[chain.name] = []
                case AddRules(chain=chain):
                    after.rules[chain.name] += chain.rules
                    after.check()
                case FlushChain(name=name):
                    after.rules[name].clear()
                case DeleteChain(name=name):
                    assert not after.rules[name], "EBUSY"
                    assert name not in set(after.chains_used()), "EBUSY"
                    del after.rules[name]
                case _:
                    raise AssertionError(f"not for one table's elements: {operation}")
        after.check()
        self.elements, self.maps, self.rules = after.elements, after.maps, after.rules

    def check(self) -> None:
        """Nothing leads to what is not there."""
        assert set(self.chains_used()) <= self.rules.keys(), "ENOENT"
        assert set(self.sets_used()) <= self.maps.keys(), "ENOENT"

    def chains_used(self) -> Iterator[str]:
        for held in self.elements.values():
            yield from (e.value.chain for e in held.values() if isinstance(e.value, Goto))
        for statement in (statement for rules in self.rules.values() for rule in rules for statement in rule):
            match statement:
                case Goto(chain) | Jump(chain) | GotoChance(chain):
                    yield chain

    def sets_used(self) -> Iterator[str]:
        for statement in (statement for rules in self.rules.values() for rule in rules for statement in rule):
            match statement:
                case InSet(set=name) | Learn(set=name) | Dispatch(map=name) | DnatSlot(map=name):
                    yield name
