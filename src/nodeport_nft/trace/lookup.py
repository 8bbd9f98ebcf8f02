"""Look-ups in a table's maps and sets, prefixes included."""

from __future__ import annotations

from nodeport_nft.ruleset import Element, Key, Map, Table
from nodeport_nft.trace.values import TraceError, read_address, read_network


class Sets:
    """The maps and sets of one table."""

    def __init__(self, table: Table) -> None:
        self._declared = {declared.name: declared for declared in table.schema.maps} | dict(table.maps)
        remembered = {
            name: {memory.key: Element(memory.key) for memory in held} for name, held in table.memories.items()
        }
        self._elements = {**table.elements, **remembered}

    def find(self, name: str, key: Key) -> Element | None:
        """The element for this key, None if there is none. Raises TraceError for a map that is not declared."""
        declared = self._map(name)
        held = self._elements.get(name, {})
        exact = held.get(key)
        if exact is not None or not declared.interval:
            return exact
        # The kernel takes no prefixes that overlap, so there is at most one.
        return next((element for element in held.values() if _covers(element.key, key)), None)

    def _map(self, name: str) -> Map:
        try:
            return self._declared[name]
        except KeyError:
            raise TraceError(f"a rule looks into {name}, which the table does not have") from None


def _covers(element_key: Key, key: Key) -> bool:
    return len(element_key) == len(key) and all(map(_holds, element_key, key))


def _holds(element_part: str | int, part: str | int) -> bool:
    if isinstance(element_part, str) and "/" in element_part:
        return read_address(part) in read_network(element_part)
    return element_part == part
