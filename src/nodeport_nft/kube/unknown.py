"""Names that the API does not know: a field with a slip in it does nothing, and may leave a door open.

What there is stands in ``api_fields.json``, for each type the fields with the types that they hold ("" for a plain
value, ``[V1ServicePort]`` for a list). ``tests/api_fields.py`` makes it from the official Python client's models.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from nodeport_nft.kube.fields import Fields
from nodeport_nft.problems import MOST_TOLD, Path, field_text, nearest


def note_unknown_fields(raw: dict[str, Any], kind: str, fields: Fields, *, otherwise: str = "leave it out") -> None:
    """Note each field of the object that the API has no such name for; the first ten, and how many more there are.

    ``otherwise`` is the remedy where no name is near.
    """
    kinds, types = _known()
    count = 0
    last: Path = ()
    for path, name, known in _unknown(raw, kinds[kind], (), types):
        count += 1
        if count <= MOST_TOLD:
            last = (*path, name)
            fields.strange(last, f"unknown field; {_remedy(name, known, otherwise)}")
    if count > MOST_TOLD:
        fields.strange((), f"{count - MOST_TOLD} more fields are unknown; correct these first", behind=last)


def without_unknown(raw: dict[str, Any], kind: str) -> dict[str, Any]:
    """The object without all fields that the API has no such name for."""
    kinds, types = _known()
    paths = [(*path, name) for path, name, _ in _unknown(raw, kinds[kind], (), types)]
    left = copy.deepcopy(raw)
    for *path, name in paths:
        within: Any = left
        for part in path:
            within = within[part]
        del within[name]
    return left


def unknown_in(value: Any, kind: str) -> Iterator[str]:
    """What is told of each unknown field in a value of the API's type ``kind``, as ``V1Probe``."""
    for path, name, known in _unknown(value, kind, (), _known()[1]):
        yield f"{field_text((*path, name))}: unknown field; {_remedy(name, known, 'leave it out')}"


def field_names(kind: str, path: str) -> tuple[str, ...]:
    """The fields that the API knows inside of the one at ``path`` ("spec.ports") of an object of ``kind``, sorted.

    "" is the object itself. Nothing for a field that holds a plain value, or that there is not.
    """
    kinds, types = _known()
    inner = kinds[kind]
    for name in path.split(".") if path else ():
        inner = types.get(inner, {}).get(name, "").strip("[]")
    return tuple(types.get(inner, {}))


def types_of_fields() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The type of each kind, and of each type the fields with theirs ("" for a plain value, "[…]" for a list)."""
    return _known()


def _remedy(name: str, known: Collection[str], otherwise: str) -> str:
    near = nearest(name, known)
    return f"did you mean {near}?" if near else otherwise


def _unknown(
    value: Any, kind: str, path: Path, types: dict[str, dict[str, str]]
) -> Iterator[tuple[Path, str, Collection[str]]]:
    """The unknown fields of a value of this type, each with its parent's path and the names known there.

    What is no mapping or no list where one belongs is the parsers' to tell. Documents are at most MAX_DEPTH deep.
    """
    if kind.startswith("["):
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from _unknown(item, kind[1:-1], (*path, index), types)
        return
    if not isinstance(value, dict):
        return
    known = types[kind]
    for name, inner in value.items():
        held = known.get(name)
        if held is None:
            yield path, name, known
        elif held:
            yield from _unknown(inner, held, (*path, name), types)


@cache
def _known() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    from importlib.resources import files  # late: it brings more along than the rest of this room

    document = json.loads(files(__package__).joinpath("api_fields.json").read_text(encoding="utf-8"))
    return document["kinds"], document["types"]
