"""One family's transaction as a value: operations in an order that the kernel can carry out."""

from __future__ import annotations

from msgspec import Struct

from nodeport_nft.ruleset import Chain, Element, Key, Map, Memory, Table


class Delete(Struct, frozen=True):
    """Delete elements of one map or set."""

    map: str
    keys: tuple[Key, ...]


class Add(Struct, frozen=True):
    """Add elements to one map or set."""

    map: str
    elements: tuple[Element, ...]


class Remember(Struct, frozen=True):
    """Put back what a learned set has learned, with the time that is left of it."""

    map: str
    memories: tuple[Memory, ...]


class AddMap(Struct, frozen=True):
    """Declare a map or set, empty."""

    map: Map


class DeleteMap(Struct, frozen=True):
    """Delete a map or set with all it holds."""

    name: str


class AddChain(Struct, frozen=True):
    """Make a chain, without its rules: those may lead to a chain that is made after it."""

    chain: Chain


class AddRules(Struct, frozen=True):
    """Put a chain's rules at its end."""

    chain: Chain


class FlushChain(Struct, frozen=True):
    """Delete all rules of a chain."""

    name: str


class DeleteChain(Struct, frozen=True):
    """Delete a chain that is empty and that nothing leads to."""

    name: str


class AddDevices(Struct, frozen=True):
    """Let packets that come in on these devices be looked up in a flowtable; those that are already stay."""

    flowtable: str
    devices: tuple[str, ...]


class DeleteDevices(Struct, frozen=True):
    """Look the packets of these devices up no longer."""

    flowtable: str
    devices: tuple[str, ...]


class Replace(Struct, frozen=True):
    """Put a whole table in place, also of one of the same name."""

    table: Table


class Remove(Struct, frozen=True):
    """Delete a table."""

    family: str
    name: str


Operation = (
    Delete
    | Add
    | Remember
    | AddMap
    | DeleteMap
    | AddChain
    | AddRules
    | FlushChain
    | DeleteChain
    | AddDevices
    | DeleteDevices
    | Replace
    | Remove
)


class Transaction(Struct, frozen=True):
    """Operations on one family's table, in order; the kernel takes all of them or none (K1).

    ``late``: it only clears up and is to be committed after those that are not, on its own.
    """

    family: str
    name: str
    operations: tuple[Operation, ...] = ()
    late: bool = False

    def __bool__(self) -> bool:
        return bool(self.operations)

    @property
    def size(self) -> int:
        """How many elements and rules it adds, and elements it deletes, those of a replaced table included.

        What stands for more (a flushed chain, a deleted set) or has nothing to count (a chain) counts as one.
        """
        return sum(_size(operation) for operation in self.operations)


def _size(operation: Operation) -> int:
    match operation:
        case Delete(keys=keys):
            return len(keys)
        case Add(elements=elements):
            return len(elements)
        case AddRules(chain=chain):
            return len(chain.rules)
        case Replace(table=table):
            rules = sum(len(chain.rules) for chain in table.chains.values())
            return sum(len(elements) for elements in table.elements.values()) + rules
        case _:
            return 1
