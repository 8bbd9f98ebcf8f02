"""A table as the kernel has it, read for a schema."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from nodeport_nft.ruleset import Chain, Element, Key, Map, Memory, Schema, Table


class ListedTable(Struct):
    """What a table holds as values, and what of the rest is not as in the schema it was read for.

    ``differences`` names that for people: ``chain services``, …; () if all is as it should be, and then the schema
    says what else is there. ``unreadable``: chains of services with a rule of a form we never write; in
    ``own_chains`` they are empty, which none of ours is.
    """

    elements: dict[str, Mapping[Key, Element]] = field(default_factory=dict)
    own_maps: dict[str, Map] = field(default_factory=dict)
    own_chains: dict[str, Chain] = field(default_factory=dict)
    memories: dict[str, tuple[Memory, ...]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Table) -> ListedTable:
        """A table that is in the kernel exactly like this."""
        return cls(
            elements={name: dict(held) for name, held in table.elements.items()},
            own_maps=dict(table.maps),
            own_chains=dict(table.chains),
        )

    @classmethod
    def unchanging(cls, table: Table) -> ListedTable:
        """The same of a table that is changed no more: nothing of it is copied."""
        return cls(dict(table.elements), dict(table.maps), dict(table.chains))

    def table(self, schema: Schema) -> Table:
        """The same as a value, given that nothing of it differs from the schema."""
        return Table(schema, self.elements, self.own_maps, self.own_chains, self.memories)
