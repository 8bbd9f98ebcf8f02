"""YAML text → documents: plain Python values, with the line every field stands on.

The YAML events of libyaml are turned into values here, rather than by PyYAML's composer and constructor, for
four reasons. The composer recurses in C and dies of a segmentation fault on 100,000 nested brackets; a loop
over events does not. Lines are kept on the way, so that an error costs no second reading. What JSON has no
word for (dates, binary, sets, cyclic values) never comes into being, and what YAML 1.1 misreads stays text: an
unquoted ``1:2:3:4:5:6:7:8`` is an address, not a number to the base of sixty. And it takes half the time.

An alias is bounded when it is used: the nodes it stands for are counted against a budget for the whole text,
so that a "billion laughs" file is refused after the first half million. A document that cannot be read is
given up alone: reading goes on at the next ``---``, which can only ever be the start of a document.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from sys import intern
from typing import Any

import yaml
from yaml.reader import ReaderError

from nodeport_nft.manifest.document import MAX_DEPTH, Document, Fault
from nodeport_nft.manifest.problems import Tally, clipped, printable

MAX_ALIASED = 500_000  # nodes that aliases may stand for in one text; 64 characters of a string count as one
MAX_BROKEN = 100  # documents given up in one text, before the rest of it is left unread

MARKER = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {
    spelling: value
    for word, value in (
        ("yes", True),
        ("true", True),
        ("on", True),
        ("no", False),
        ("false", False),
        ("off", False),
        ("null", None),
    )
    for spelling in (word, word.capitalize(), word.upper())
} | {"": None, "~": None}

_CORE = "tag:yaml.org,2002:"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "null": type(None),
}
_NO_KEY = object()
_MERGE = object()  # stands for the key of a plain "<<"


class _GivenUp(Exception):
    """A document that libyaml can read and we will not."""

    def __init__(self, mark: Any, message: str) -> None:
        super().__init__(message)
        self.mark = mark


def read_yaml(text: str, line: int = 0) -> Iterator[Document | Fault]:
    """The documents of YAML 1.1 text as Kubernetes reads it: JSON's types, aliases and merge keys.

    Empty documents are left out; faults come in between. ``line`` lines go before the text. Never raises.
    """
    start = 0  # where the part being read begins
    budget = [MAX_ALIASED]
    for _ in range(MAX_BROKEN):
        try:
            yield from _compose(text[start:], line, budget)
        except _GivenUp as error:
            stop, message, number = error.mark.index, str(error), error.mark.line
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            stop, number = (mark.index, mark.line) if mark else (0, 0)
            message = _syntax_message(error, text[start + stop : start + stop + 1], line)
        except ReaderError:
            found = _UNPRINTABLE.search(text, start)
            stop = found.start() - start if found else 0
            number = text.count("\n", start, start + stop)
            code = f"U+{ord(found[0]):04X}" if found else "a character"
            message = f"{code} is not allowed in YAML; is this a text file?"
        else:
            return
        yield Fault(line + number + 1, message)
        following = MARKER.search(text, start + max(stop, 1))
        if following is None:
            return
        line += text.count("\n", start, following.start())
        start = following.start()
    yield Fault(line + 1, f"{MAX_BROKEN} documents cannot be read; the rest of the file is left unread")


def _syntax_message(error: yaml.MarkedYAMLError, character: str, line: int) -> str:
    """libyaml's words, with the commonest reason behind them spelt out."""
    if character == "\t":
        return "a tab stands where YAML wants indentation; use spaces"
    message = f"not YAML: {error.problem or error.context or 'syntax error'}"
    if error.context and error.context != error.problem:
        message += f" {error.context}"
        if error.context_mark is not None:
            message += f" that begins on line {line + error.context_mark.line + 1}"
    return printable(message)


def _compose(text: str, line: int, budget: list[int]) -> Iterator[Document]:
    """Documents out of libyaml's events; ``line`` lines went before ``text``, ``budget`` is what aliases may use.

    Raises yaml.YAMLError for syntax, _GivenUp for what is refused. ``into`` is the container being filled,
    ``where`` the lines of what is in it, ``key`` the mapping key whose value comes next.
    """
    following = yaml.CSafeLoader(text).get_event  # PyYAML's C loader, of which only the parser is used
    event: Any
    into: Any = []
    where: Any = []
    inner: Any = []
    key: Any = _NO_KEY
    stack: list[tuple[Any, Any, Any]] = []
    lines: dict[int, Any] = {}
    anchors: dict[str, Any] = {}
    faults: Tally[Fault] = Tally()
    while True:
        event = following()
        kind = type(event)
        if kind is yaml.ScalarEvent:
            wants_key = type(into) is dict and key is _NO_KEY
            value = event.value
            if not wants_key and event.implicit[0]:
                value = _plain(value)
            elif not wants_key and event.tag is not None:
                value = _tagged(event)
            if event.anchor is not None:
                anchors[event.anchor] = value
            if wants_key and value == "<<" and event.implicit[0]:
                value = _MERGE
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            value, inner = ({}, {}) if kind is yaml.MappingStartEvent else ([], [])
            if event.tag not in (None, "!", _CORE + "map", _CORE + "seq"):
                raise _GivenUp(event.start_mark, f"tag {clipped(event.tag)} is not supported; remove it")
            if len(stack) > MAX_DEPTH:
                raise _GivenUp(event.start_mark, f"nested more than {MAX_DEPTH} levels deep; flatten it")
            if event.anchor is not None:
                anchors[event.anchor] = value
            lines[id(value)] = inner
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            if kind is yaml.MappingEndEvent and _MERGE in into:
                _merge(into, where, lines, event)
            into, where, key = stack.pop()
            continue
        elif kind is yaml.AliasEvent:
            value = _aliased(event, anchors, [level[0] for level in stack] + [into], budget)
        elif kind is yaml.DocumentStartEvent:
            into, where, key, stack, lines, anchors, faults = [], [], _NO_KEY, [], {}, {}, Tally()
            continue
        elif kind is yaml.DocumentEndEvent:
            if into and into[0] is not None:
                told = tuple(replace(fault, more=more) for _, fault, more in faults)
                yield Document(into[0], where[0], faults=told, lines=lines)
            continue
        elif kind is yaml.StreamStartEvent:
            continue
        else:
            return

        number = event.start_mark.line + line + 1
        if type(into) is list:
            into.append(value)
            where.append(number)
            outer_key = _NO_KEY
        elif key is _NO_KEY:
            if type(value) is not str and value is not _MERGE:
                raise _GivenUp(
                    event.start_mark, "a mapping or list stands for a key; is this a template not yet filled in?"
                )
            key = intern(value) if type(value) is str else value  # ten thousand Services share their keys
            if key in into:
                name = "<<" if key is _MERGE else clipped(key)
                message = f'key "{name}" is given twice in one mapping (first on line {where[key]}); remove one'
                faults.add("", message, Fault(number, message))
            where[key] = number
            continue
        else:
            into[key] = value
            outer_key, key = _NO_KEY, _NO_KEY
        if kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            stack.append((into, where, outer_key))
            into, where, key = value, inner, _NO_KEY


def finite(text: str) -> float | str:
    """A number of YAML or JSON; one beyond a double's range stays text, for JSON cannot write infinity."""
    number = float(text.replace("_", ""))
    return number if math.isfinite(number) else text


@lru_cache(4096)
def _plain(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means: YAML 1.1 without dates, sexagesimals, infinities and "="."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _INTEGER.fullmatch(text):
            digits = text.replace("_", "")
            octal = digits.lstrip("+-").startswith("0") and digits.lstrip("+-").isdigit()
            return int(digits, 8 if octal else 0)
        if _FLOAT.fullmatch(text):
            return finite(text)
    except ValueError:  # "0x_", or more digits than Python converts
        return text
    return text


def _tagged(event: Any) -> Any:
    """The value of a scalar with an explicit tag. Raises _GivenUp for tags outside JSON's types."""
    name = event.tag.removeprefix(_CORE)
    if name == "str":
        return event.value
    value = _plain(event.value)
    if name in _TYPES and isinstance(value, _TYPES[name]) and (name == "bool" or type(value) is not bool):
        return value
    raise _GivenUp(event.start_mark, f"tag {clipped(event.tag)} is not supported for this value; remove it")


def _aliased(event: Any, anchors: dict[str, Any], opened: list[Any], budget: list[int]) -> Any:
    """What an alias stands for, its nodes taken off ``budget``. Raises _GivenUp."""
    name = clipped(event.anchor)
    if event.anchor not in anchors:
        raise _GivenUp(event.start_mark, f"alias *{name} has no anchor &{name} before it")
    value = anchors[event.anchor]
    if any(value is container for container in opened):
        raise _GivenUp(event.start_mark, f"alias *{name} stands inside its own anchor; write it out")
    pending = [(value, len(opened))]
    while pending:
        node, depth = pending.pop()
        budget[0] -= 1 + (len(node) >> 6 if type(node) is str else 0)
        if budget[0] < 0:
            raise _GivenUp(
                event.start_mark, f"aliases stand for more than {MAX_ALIASED} values; write them out, or fewer"
            )
        if depth > MAX_DEPTH:
            raise _GivenUp(event.start_mark, f"nested more than {MAX_DEPTH} levels deep; flatten it")
        if type(node) is dict:
            pending.extend((child, depth + 1) for child in node.values())
        elif type(node) is list:
            pending.extend((child, depth + 1) for child in node)
    return value


def _merge(into: dict[Any, Any], where: dict[Any, int], lines: dict[int, Any], event: Any) -> None:
    """Fill a mapping from its "<<" key (one mapping or a list): its own keys win, then earlier ones."""
    merged = into.pop(_MERGE)
    line = where.pop(_MERGE)
    sources = merged if type(merged) is list else [merged]
    if not all(type(source) is dict for source in sources):
        raise _GivenUp(event.start_mark, f'"<<" on line {line} merges something that is not a mapping')
    for source in sources:
        for key, value in source.items():
            if key not in into:
                into[key] = value
                where[key] = lines[id(source)].get(key, line)
