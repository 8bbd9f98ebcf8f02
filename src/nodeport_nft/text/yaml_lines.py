"""YAML as programs write it → documents, line by line: a third of the time that libyaml's events take.

Ten thousand manifests are a hundred thousand lines like ``name: web`` and ``- 10.0.0.1``. Of these a regular
expression says all that there is to know. It knows few things, each written one way: block mappings and lists,
a scalar on one line without blanks or in quotes without escapes, a flat ``[a, b]`` or ``{a: b}``, comments on lines
of their own, ``---``. With the first line that is none of these the rest is left to ``yaml_text``, from the
beginning of its document on.

So there is one law: what is read here, ``yaml_text`` would read as the same, on the same lines, with nothing to tell.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from sys import intern
from typing import Any

from nodeport_nft.text.document import Document
from nodeport_nft.text.yaml_scalars import plain_scalar

_DEEPEST = 32  # containers in each other
_KEY = "[A-Za-z_][A-Za-z0-9_./-]{0,250}"  # libyaml takes no key of more than 1024
_WORD = "[A-Za-z0-9_./](?:[A-Za-z0-9_./:-]*[A-Za-z0-9_./-])?"
_FLOW_WORD = "[A-Za-z0-9_./][A-Za-z0-9_./-]{0,250}"  # a colon means more in brackets
_QUOTED = r"""\"[ !#-\[\]-~]*\"|'[ -&(-~]*'"""
_LIST = rf"\[(?:{_FLOW_WORD}(?:, {_FLOW_WORD})*)?\]"
_MAPPING = rf"\{{(?:{_FLOW_WORD}: {_FLOW_WORD}(?:, {_FLOW_WORD}: {_FLOW_WORD})*)?\}}"
_VALUE = f"{_WORD}|{_QUOTED}|{_LIST}|{_MAPPING}"
_LINE = re.compile(
    rf"(?:( *)(- )?(?:({_KEY}):(?: ({_VALUE}))?|({_VALUE}))|(---)| *(?:#[\t -~]*)?)(?:\n|\Z)|([^\n])"
)  # indentation, dash, key, its value, or an item; or the mark of a document; or a line that is none of these

_Level = tuple[int, Any, Any, bool]
"""An open container: its column, the container, the lines of what is in it, and whether it is a list of items that
stand below the key which has them, and no further right than it."""


def read_lines(text: str, line: int) -> Generator[Document, None, tuple[int, int]]:
    """The documents that are such lines; gives where in ``text`` the rest begins, and how many lines are before it.

    ``line`` lines go before the text.
    """
    number = line + 1  # of the line that is being read
    begun, begun_line = 0, line  # where the document begins that is being read
    levels: list[_Level] = []
    lines: dict[int, Any] = {}
    first = 0
    root: Any = None
    waiting: Any = None  # the key that has no value yet; what comes next says which kind it is
    into: Any = None
    where: Any = None
    inner: Any
    inner_where: Any
    column = 0  # of ``into``
    for match in _LINE.finditer(text):
        indentation, dash, key, value, item, mark, other = match.groups()
        if other:  # it is matched, so that nobody looks for the next line that is understood, from each character on
            return begun, begun_line
        if key is None and item is None:
            if mark:
                if root is not None:
                    yield Document(root, first, lines=lines)
                begun, begun_line = match.start(), number - 1
                levels, lines, root, waiting = [], {}, None, None
            number += 1
            continue
        indent = len(indentation)
        if root is None:
            if indent or dash or key is None:
                return begun, begun_line
            root, where = {}, {}
            into, column, first = root, 0, number
            lines[id(root)] = where
            levels = [(0, root, where, False)]
        elif waiting is not None and (indent > column or (dash and indent == column)):
            # What the key has: a list or a mapping.
            inner, inner_where = ([], []) if dash else ({}, {})
            into[waiting] = inner
            lines[id(inner)] = inner_where
            levels.append((indent, inner, inner_where, indent == column))
            into, where, column, waiting = inner, inner_where, indent, None
        else:
            waiting = None  # what it has is null
            while column > indent or (column == indent and not dash and levels[-1][3]):
                levels.pop()
                if not levels:
                    return begun, begun_line
                column, into, where, _ = levels[-1]
            if column != indent:
                return begun, begun_line
        if len(levels) > _DEEPEST:
            return begun, begun_line
        if type(into) is list:
            if not dash:
                return begun, begun_line
            where.append(number)
            if key is None:
                read = _value(item, number, lines)
                if read is _DOUBLED:
                    return begun, begun_line
                into.append(read)
                number += 1
                continue
            inner, inner_where = {}, {}
            into.append(inner)
            lines[id(inner)] = inner_where
            levels.append((indent + 2, inner, inner_where, False))
            into, where, column = inner, inner_where, indent + 2
        elif dash or key is None or key in into:
            return begun, begun_line
        key = intern(key)
        where[key] = number
        if value is None:
            waiting = key
            into[key] = None
        else:
            read = _value(value, number, lines)
            if read is _DOUBLED:
                return begun, begun_line
            into[key] = read
        number += 1
    if root is not None:
        yield Document(root, first, lines=lines)
    return len(text), number - 1


_DOUBLED = object()  # stands for a mapping that has a key twice


def _value(text: str, number: int, lines: dict[int, Any]) -> Any:
    """What is written as ``text`` on this line; _DOUBLED: nothing that is understood here."""
    start = text[0]
    if start in "\"'":
        return text[1:-1]
    if start == "[":
        items = [plain_scalar(part) for part in text[1:-1].split(", ")] if len(text) > 2 else []
        lines[id(items)] = [number] * len(items)
        return items
    if start == "{":
        pairs = [part.split(": ") for part in text[1:-1].split(", ")] if len(text) > 2 else []
        mapping = {intern(key): plain_scalar(value) for key, value in pairs}
        if len(mapping) != len(pairs):
            return _DOUBLED
        lines[id(mapping)] = dict.fromkeys(mapping, number)
        return mapping
    return plain_scalar(text)
