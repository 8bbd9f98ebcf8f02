"""What ``--sort-by`` does: documents in the order of what a path finds first in each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nodeport_nft.cli.get.jsonpath import Path, PathError


def order(documents: Sequence[dict[str, Any]], path: Path) -> list[int]:
    """The numbers of these documents, sorted; those in which the path finds nothing come first, as with kubectl.

    Raises PathError where it finds nothing in any of them, or what cannot be compared.
    """
    try:
        found = [next(iter(path.values(document)), None) for document in documents]
    except PathError as error:
        raise PathError(f"--sort-by: {path.text}: {error}") from None
    if documents and all(value is None for value in found):
        raise PathError(f"--sort-by: couldn't find any field with path {path.text} in the list of objects")
    types = {_type(value, path) for value in found if value is not None}
    if len(types) > 1:
        both = " and ".join(sorted(types))
        raise PathError(f"--sort-by: {path.text} is {both} in different objects, which have no order")
    return sorted(range(len(documents)), key=lambda number: _key(found[number]))


def _type(value: Any, path: Path) -> str:
    if isinstance(value, dict | list):
        example = _inside(value)
        remedy = f"name a field inside it, as {path.text}{example}" if example else "name another field"
        raise PathError(f"--sort-by: {path.text} is neither a number nor text; {remedy}")
    return "a text" if isinstance(value, str) else "a number"


def _inside(value: Any) -> str:
    """A path to a number or a text in a value, as it goes on behind the value's own; "" where there is none."""
    if isinstance(value, list):
        return f"[0]{_inside(value[0])}" if value and (_inside(value[0]) or _is_plain(value[0])) else ""
    if not isinstance(value, dict):
        return ""
    named = sorted((key, each) for key, each in value.items() if re.fullmatch(r"\w+", key))
    plain = next((f".{key}" for key, each in named if _is_plain(each)), "")
    return plain or next((f".{key}{inner}" for key, each in named if (inner := _inside(each))), "")


def _is_plain(value: Any) -> bool:
    return value is not None and not isinstance(value, dict | list)


def _key(value: Any) -> tuple[bool, Any]:
    return (value is not None, 0 if value is None else value)
