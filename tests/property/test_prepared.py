"""What is compiled before the kernel's tables are known comes to what is compiled once they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport_nft.model import Family, Parsed
from nodeport_nft.plan import ListedTable
from nodeport_nft.reconcile import NodeState
from nodeport_nft.ruleset import Element, Key
from tests.builders import FACTS
from tests.property.test_index import CHANGES

Held = dict[str, dict[Key, Element]]


def compiled(state: NodeState) -> dict[Family, Held]:
    """All that the tables are to hold, once what is touched has been compiled."""
    keys, state.touched = state.touched, set()
    state.compile(sorted(keys))
    tables = {family: state.tables.table(family) for family in Family}
    return {family: {name: dict(held) for name, held in table.elements.items()} for family, table in tables.items()}


def turned(held: Mapping[Family, Held]) -> dict[Family, ListedTable | None]:
    """Tables in which each slot map's endpoints stand the other way round."""
    return {
        family: ListedTable(
            {
                name: {
                    key: element._replace(value=other.value)
                    for (key, element), other in zip(own.items(), reversed(own.values()), strict=True)
                }
                for name, own in by_name.items()
                if name.endswith("endpoints")
            }
        )
        for family, by_name in held.items()
    }


def told(state: NodeState) -> tuple[object, ...]:
    count, idle = state.idle_services(9)  # the longest idle first: what was prepared has been so for longer
    return state.problems(), state.served, state.idle, state.starving, count, set(idle)


def of(objects: Iterable[Parsed], listed: Mapping[Family, ListedTable | None]) -> NodeState:
    return NodeState.of(FACTS, listed, dict(objects).items())


@given(st.lists(CHANGES, max_size=12), st.lists(st.tuples(CHANGES, st.booleans()), max_size=3))
@settings(max_examples=200)
def test_what_was_prepared_is_what_would_have_been_compiled(
    objects: list[Parsed], later: list[tuple[Parsed, bool]]
) -> None:
    listed = turned(compiled(of(objects, {})))
    at_once, prepared = of(objects, listed), of(objects, {})
    prepared.prepare()
    prepared.tables.adopt(listed)
    for (ref, values), is_deleted in later:
        for state in (at_once, prepared):
            state.put(ref, () if is_deleted else values)
    assert compiled(prepared) == compiled(at_once)
    assert told(prepared) == told(at_once)
