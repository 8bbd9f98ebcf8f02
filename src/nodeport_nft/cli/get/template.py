"""Templates as of ``-o jsonpath``: text, paths in braces, and ``{range PATH}...{end}`` around what is repeated.

What a template finds is written as kubectl writes it: several values with blanks between them, objects and lists as
JSON. Nothing is written where a path finds nothing.
"""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec import Struct

from nodeport_nft.cli.get.jsonpath import Path, PathError, unquoted
from nodeport_nft.problems import shown

_WORD = re.compile(r"\s*([A-Za-z0-9_]+)(?=[\s.\[@$]|$)")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


class _Range(Struct, frozen=True):
    """What stands in between, once for each of the values that ``path`` finds."""

    path: Path
    body: list[str | Path | _Range]


class Template:
    """One template. Raises PathError where it is none."""

    def __init__(self, text: str) -> None:
        self._body: list[str | Path | _Range] = []
        open_bodies = [self._body]
        for is_action, part in _parts(text):
            if not is_action:
                open_bodies[-1].append(part)
                continue
            made = _action(part)
            if made is None:
                if len(open_bodies) == 1:
                    raise PathError("{end}: there is no {range} to end; begin it with {range .items[*]}")
                open_bodies.pop()
                continue
            open_bodies[-1].append(made)
            if isinstance(made, _Range):
                open_bodies.append(made.body)

    def text(self, document: Any) -> str:
        """What it makes of a document. Raises PathError for an index out of bounds."""
        return "".join(
            part if isinstance(part, str) else " ".join(map(_written, part)) for part in _found(self._body, document)
        )

    def json(self, document: Any) -> str:
        """The same for programs: a list of what is found for each part."""
        found = ([part] if isinstance(part, str) else part for part in _found(self._body, document))
        return "".join(f"{json.dumps(each, indent=4, sort_keys=True)}\n" for each in found)


def _found(body: list[str | Path | _Range], document: Any) -> list[str | list[Any]]:
    parts: list[str | list[Any]] = []
    for each in body:
        if isinstance(each, str):
            parts.append(each)
        elif isinstance(each, Path):
            parts.append(each.values(document))
        else:
            for value in each.path.values(document):
                parts += _found(each.body, value)
    return parts


def _parts(text: str) -> list[tuple[bool, str]]:
    """The text, and what stands in braces (True), in their order. A brace in quotes is none."""
    parts = []
    at = 0
    while (start := text.find("{", at)) >= 0:
        if start > at:
            parts.append((False, text[at:start]))
        end = _closing(text, start)
        parts.append((True, text[start + 1 : end]))
        at = end + 1
    return [*parts, (False, text[at:])] if at < len(text) else parts


def _closing(text: str, start: int) -> int:
    quote = ""
    at = start + 1
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            at += 1
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign == "}":
            return at
        at += 1
    raise PathError(f"{shown(text[start:])}: unclosed action; a }} is missing, or the end of quotes")


def _action(text: str) -> str | Path | _Range | None:
    """What stands in one pair of braces; None: the end of a range. Raises PathError."""
    inner = text.strip()
    if inner[:1] in ("'", '"'):
        return unquoted(inner)
    if _NUMBER.fullmatch(inner) or inner in ("true", "false"):
        return inner
    if word := _WORD.match(text):
        if word[1] == "range":
            return _Range(Path(text[word.end() :]), [])
        if word[1] == "end" and inner == "end":
            return None
        raise PathError(f"unrecognized identifier {shown(word[1])}; write a path with its dot: {{.{word[1]}}}")
    return Path(text)


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
