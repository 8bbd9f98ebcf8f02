"""Tables as JSON, for programs and for reading: nft cannot load it (1.0.6 has no JSON for such maps)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from nodeport_nft.render.write import schema_comment, write_rule
from nodeport_nft.ruleset import Chain, Element, Goto, Map, Table


def to_json(tables: Iterable[Table]) -> str:
    """``{"tables": [{family, name, comment, maps: [...], chains: [...]}]}``, keys and elements in a fixed order.

    A table that has a flowtable names it under ``flowtable``.
    """
    return json.dumps({"tables": [_table(table) for table in tables]}, indent=2) + "\n"


def _table(table: Table) -> dict[str, Any]:
    schema = table.schema
    return {
        "family": schema.family,
        "name": schema.name,
        "comment": schema_comment(schema),
        **({"flowtable": schema.flowtable} if schema.flowtable else {}),
        "maps": [_map(m, table.elements.get(m.name, {}).values()) for m in (*schema.maps, *_named(table.maps))],
        "chains": [_chain(schema.family, chain) for chain in (*schema.chains, *_named(table.chains))],
    }


Named = TypeVar("Named", Map, Chain)


def _named(by_name: Mapping[str, Named]) -> Iterable[Named]:
    return (value for _, value in sorted(by_name.items()))


def _map(declared: Map, elements: Iterable[Element]) -> dict[str, Any]:
    return {
        "name": declared.name,
        "comment": declared.comment,
        "elements": [_element(element) for element in sorted(elements)],
    }


def _element(element: Element) -> dict[str, Any]:
    value = {"goto": element.value.chain} if isinstance(element.value, Goto) else element.value
    return {"key": element.key, "value": value, "comment": element.comment}


def _chain(family: str, chain: Chain) -> dict[str, Any]:
    hook = {"hook": chain.hook.name, "priority": chain.hook.priority} if chain.hook else {}
    rules = [write_rule(family, rule) for rule in chain.rules]
    return {"name": chain.name, "comment": chain.comment, **hook, "rules": rules}
