"""What ``--sort-by`` does: documents in the order of what a path finds first in each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nodeport_nft.cli.get.jsonpath import Path, PathError


def order(documents: Sequence[dict[str, Any]], path: Path) -> list[int]:
    """The numbers of these documents, sorted; those in which the path finds nothing come first, as with kubectl.

    Raises PathError where it finds nothing in any of them, or what cannot be compared.
    """
    found = [next(iter(path.values(document)), None) for document in documents]
    if documents and all(value is None for value in found):
        raise PathError(f"--sort-by: couldn't find any field with path {path.text} in the list of objects")
    types = {_type(value, path) for value in found if value is not None}
    if len(types) > 1:
        both = " and ".join(sorted(types))
        raise PathError(f"--sort-by: {path.text} is {both} in different objects, which have no order")
    return sorted(range(len(documents)), key=lambda number: _key(found[number]))


def _type(value: Any, path: Path) -> str:
    if isinstance(value, dict | list):
        raise PathError(
            f"--sort-by: {path.text} is neither a number nor text; name a field inside it, as {path.text}[0]"
        )
    return "a text" if isinstance(value, str) else "a number"


def _key(value: Any) -> tuple[bool, Any]:
    return (value is not None, 0 if value is None else value)
