"""YAML text → documents: plain Python values, with the line every field stands on.

The YAML events of libyaml are turned into values here, rather than by PyYAML's composer and constructor, for
four reasons. The composer recurses in C and dies of a segmentation fault on 100,000 nested brackets; a loop
over events does not. Lines are kept on the way, so that an error costs no second reading. What JSON has no
word for (dates, binary, sets, cyclic values) never comes into being, and what YAML 1.1 misreads stays text: an
unquoted ``1:2:3:4:5:6:7:8`` is an address, not a number to the base of sixty. And it takes half the time.

An alias is bounded when it is used: the nodes it stands for are counted against a budget for the whole text,
so that a "billion laughs" file is refused after the first half million. What libyaml can read and we will not (tags,
mappings for keys, too many levels) is a fault of its place, and reading goes on: whose fault it is can be told only
when the whole document is known, and in a document that nobody here has a use for it is none. A document that cannot
be read is given up alone: reading goes on at the next ``---``, which can only ever be the start of a document. What
had been read of it may tell that nobody has a use for it, unless it may be two documents, the line between them lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from sys import intern
from typing import Any

import yaml
from yaml.reader import ReaderError

from nodeport_nft.json_values import MAX_DEPTH, finite
from nodeport_nft.problems import Path, Tally, clipped
from nodeport_nft.terminal import printable
from nodeport_nft.text.document import Document, Fault

MAX_ALIASED = 500_000  # nodes that aliases may stand for in one text; 64 characters of a string count as one
MAX_BROKEN = 100  # documents given up in one text, before the rest of it is left unread

MARKER = re.compile(r"^---(?=\s|$)", re.MULTILINE)
# What an object begins with, or names its kind by, at the start of any line that libyaml takes for one.
_KIND = re.compile(r"""(?:^|(?<=[\r\x85\u2028\u2029]))(?:["']?kind["']?[ \t]*:|\{)""", re.MULTILINE)
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
_DEEPEST = 5 * MAX_DEPTH  # levels that are skipped to find the end of what is nested too deep; libyaml has 1000
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep; flatten it"
_NO_TEXT = "a mapping or list stands for a key; is this a template not yet filled in?"
_STARTS = frozenset({yaml.MappingStartEvent, yaml.SequenceStartEvent})
_ENDS = frozenset({yaml.MappingEndEvent, yaml.SequenceEndEvent})
_NO_KEY = object()
_DROPPED = object()  # stands for a key that is none
_MERGE = object()  # stands for the key of a plain "<<"


class _GivenUp(Exception):
    """A document that cannot be read, or that libyaml can read and we will not, and what is ``known`` of it."""

    def __init__(self, mark: Any, message: str, known: Any) -> None:
        super().__init__(message)
        self.mark = mark
        self.known = known


class _Unfit(Exception):
    """A part of a document that libyaml can read and we will not; ``instead`` is what stands for it."""

    def __init__(self, message: str, instead: Any = None) -> None:
        super().__init__(message)
        self.instead = instead


def read_yaml(text: str, line: int = 0) -> Iterator[Document | Fault]:
    """The documents of YAML 1.1 text as Kubernetes reads it: JSON's types, aliases and merge keys.

    Empty documents are left out; faults come in between. ``line`` lines go before the text. Never raises.
    """
    start = 0  # where the part being read begins
    budget = [MAX_ALIASED]
    for _ in range(MAX_BROKEN):
        known = None
        try:
            yield from _compose(text[start:], line, budget)
        except _GivenUp as error:
            stop, number = (error.mark.index, error.mark.line) if error.mark else (0, 0)
            message, known = str(error), error.known
        except ReaderError:
            found = _UNPRINTABLE.search(text, start)
            stop = found.start() - start if found else 0
            number = text.count("\n", start, start + stop)
            code = f"U+{ord(found[0]):04X}" if found else "a character"
            message = f"{code} is not allowed in YAML; is this a text file?"
        else:
            return
        yield Fault(line + number + 1, message, known=known)
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
    if error.problem == "found unexpected ':'" or (character == ":" and "flow" in (error.context or "")):
        return "a colon stands where YAML wants none in brackets; put what has colons, as fd00::, in quotes"
    message = f"not YAML: {error.problem or error.context or 'syntax error'}"
    if error.context and error.context != error.problem:
        message += f" {error.context}"
        if error.context_mark is not None:
            message += f" that begins on line {line + error.context_mark.line + 1}"
    return printable(message)


def _compose(text: str, line: int, budget: list[int]) -> Iterator[Document]:
    """Documents out of libyaml's events; ``line`` lines went before ``text``, ``budget`` is what aliases may use.

    Raises _GivenUp for syntax, for what is far too deep, or too much by aliases, ReaderError for what is no text.
    ``into`` is the container being filled, ``where`` the lines of what is in it, ``key`` the mapping key whose value
    comes next; ``skipped`` counts the open containers that are left out, ``begun`` is where the document begins.
    """
    following = yaml.CSafeLoader(text).get_event  # PyYAML's C loader, of which only the parser is used
    event: Any
    into: Any = []
    where: Any = []
    inner: Any = []
    key: Any = _NO_KEY
    stack: list[tuple[Any, Any, Any]] = []
    skipped = 0
    begun = 0
    lines: dict[int, Any] = {}
    anchors: dict[str, Any] = {}
    found = _Found(line)
    while True:
        try:
            event = following()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if "nesting depth" in (error.problem or ""):  # libyaml looks a thousand brackets ahead
                message = _TOO_DEEP
            else:
                message = _syntax_message(error, text[mark.index : mark.index + 1] if mark else "", line)
            root = _root(stack, into)
            at = error.context_mark
            if len(stack) == 1 and type(into) is dict and mark and at and "plain scalar" in (error.context or ""):
                # Such as a kind, with a tab before the line below it.
                root = {**into, key: text[at.index : mark.index].partition("\n")[0].strip()}
            raise _GivenUp(mark, message, _known(root, text, begun, mark)) from None
        kind = type(event)
        if skipped:
            skipped += (kind in _STARTS) - (kind in _ENDS)
            if len(stack) + skipped > _DEEPEST:
                known = _known(_root(stack, into), text, begun, event.start_mark)
                raise _GivenUp(event.start_mark, _TOO_DEEP, known)
            continue
        if kind is yaml.ScalarEvent:
            wants_key = type(into) is dict and key is _NO_KEY
            value = event.value
            if not wants_key and event.implicit[0]:
                value = _plain(value)
            elif not wants_key and event.tag is not None:
                try:
                    value = _tagged(event)
                except _Unfit as unfit:
                    found.fault(event, str(unfit), stack, into, key)
                    value = unfit.instead
            if event.anchor is not None:
                anchors[event.anchor] = value
            if wants_key and value == "<<" and event.implicit[0]:
                value = _MERGE
        elif kind in _STARTS:
            value, inner = ({}, {}) if kind is yaml.MappingStartEvent else ([], [])
            if event.tag not in (None, "!", _CORE + "map", _CORE + "seq"):
                found.fault(event, f"tag {clipped(event.tag)} is not supported; remove it", stack, into, key)
            if len(stack) > MAX_DEPTH:
                found.fault(event, _TOO_DEEP, stack, into, key)
                value, skipped = None, 1
            elif type(into) is dict and key is _NO_KEY:
                skipped = 1
            if event.anchor is not None:
                anchors[event.anchor] = value
            lines[id(value)] = inner
        elif kind in _ENDS:
            if kind is yaml.MappingEndEvent and _MERGE in into:
                try:
                    _merge(into, where, lines)
                except _Unfit as unfit:
                    found.fault(event, str(unfit), stack, into, key)
            into, where, key = *stack.pop()[:2], _NO_KEY
            continue
        elif kind is yaml.AliasEvent:
            try:
                value = _aliased(event.anchor, anchors, [level[0] for level in stack] + [into], budget)
            except _Unfit as unfit:
                if budget[0] < 0:
                    known = _known(_root(stack, into), text, begun, event.start_mark)
                    raise _GivenUp(event.start_mark, str(unfit), known) from None
                found.fault(event, str(unfit), stack, into, key)
                value = None
        elif kind is yaml.DocumentStartEvent:
            into, where, key, stack, lines, anchors, found = [], [], _NO_KEY, [], {}, {}, _Found(line)
            begun = event.start_mark.index
            continue
        elif kind is yaml.DocumentEndEvent:
            if into and (into[0] is not None or found.faults):
                faults, doubled = _told(found.faults), _told(found.doubled)
                yield Document(into[0], where[0], lines=lines, faults=faults, doubled=doubled)
            into = []  # what comes behind it is no part of it
            continue
        elif kind is yaml.StreamStartEvent:
            continue
        else:
            return

        number = event.start_mark.line + line + 1
        if type(into) is list:
            into.append(value)
            where.append(number)
        elif key is _NO_KEY:
            if type(value) is str:
                key = intern(value)  # ten thousand Services share their keys
            elif value is _MERGE:
                key = value
            elif type(value) is dict or type(value) is list:
                found.fault(event, _NO_TEXT, stack, into, key)
                key = _DROPPED
                continue
            else:  # an alias of a number or a word
                key = json.dumps(value)
            if key in into:
                found.twice(number, key, where[key], stack, into)
            where[key] = number
            continue
        elif key is _MERGE:
            into.setdefault(_MERGE, []).append(value)
        elif key is not _DROPPED:
            into[key] = value
        if kind in _STARTS and not skipped:
            stack.append((into, where, key))
            into, where = value, inner
        key = _NO_KEY


class _Found:
    """What is wrong with one document; its numbers of lines begin behind ``line``."""

    __slots__ = ("doubled", "faults", "line")

    def __init__(self, line: int) -> None:
        self.line = line
        self.faults: Tally[Fault] = Tally()
        self.doubled: Tally[Fault] = Tally()

    def fault(self, event: Any, message: str, stack: list[tuple[Any, Any, Any]], into: Any, key: Any) -> None:
        """Note what is unfit where ``event`` stands."""
        line = event.start_mark.line + self.line + 1
        self.faults.add("", message, Fault(line, message, path=_place(stack, into, key)))

    def twice(self, number: int, key: Any, also: int, stack: list[tuple[Any, Any, Any]], into: Any) -> None:
        """Note that the mapping ``into`` has ``key`` again on line ``number``, ``also`` being the line before."""
        name = "<<" if key is _MERGE else clipped(key)
        message = f'key "{name}" is given twice in one mapping (also on line {also})'
        self.doubled.add("", message, Fault(number, message, path=_place(stack, into, _NO_KEY)))


def _told(tally: Tally[Fault]) -> tuple[Fault, ...]:
    return tuple(replace(fault, more=more) for _, fault, more in tally)


def _root(stack: list[tuple[Any, Any, Any]], into: Any) -> Any:
    """What has been read of the document so far."""
    root = stack[0][0] if stack else into
    return root[0] if root else None


def _known(root: Any, text: str, begun: int, mark: Any) -> Any:
    """What is known of the document that begins at ``begun`` and is given up at ``mark``; None: not what it is.

    Up to the next ``---`` it is left unread. Where something else in it names a kind, an object may be lost with it.
    """
    if not isinstance(root, dict) or mark is None:
        return None
    following = MARKER.search(text, max(mark.index, 1))
    kinds = _KIND.finditer(text, begun, following.start() if following else len(text))
    if sum(1 for _ in islice(kinds, 2)) > 1:
        return None
    # A line that is indented too far goes on with the value above it: "Service metadata".
    first = {key: word for key in ("apiVersion", "kind") if isinstance(word := root.get(key), str)}
    return {**root, **{key: word.partition(" ")[0] for key, word in first.items()}}


def _place(stack: list[tuple[Any, Any, Any]], into: Any, key: Any) -> Path:
    """The path of what comes next in ``into``, or of ``into`` where no key is known; the root is no part of it."""
    path = [outer if type(parent) is dict else len(parent) - 1 for parent, _, outer in stack[1:]]
    if stack and type(into) is list:
        path.append(len(into))
    elif key is not _NO_KEY:
        path.append(key)
    return tuple("<<" if part is _MERGE else "?" if part is _DROPPED else part for part in path)


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
    """The value of a scalar with an explicit tag. Raises _Unfit for tags outside JSON's types."""
    name = event.tag.removeprefix(_CORE)
    if name == "str":
        return event.value
    value = _plain(event.value)
    if name in _TYPES and isinstance(value, _TYPES[name]) and (name == "bool" or type(value) is not bool):
        return value
    raise _Unfit(f"tag {clipped(event.tag)} is not supported for this value; remove it", event.value)


def _aliased(name: str, anchors: dict[str, Any], opened: list[Any], budget: list[int]) -> Any:
    """What the alias ``name`` stands for, its nodes taken off ``budget``. Raises _Unfit."""
    if name not in anchors:
        raise _Unfit(f"alias *{clipped(name)} has no anchor &{clipped(name)} before it")
    value = anchors[name]
    if any(value is container for container in opened):
        raise _Unfit(f"alias *{clipped(name)} stands inside its own anchor; write it out")
    pending = [(value, len(opened))]
    while pending:
        node, depth = pending.pop()
        budget[0] -= 1 + (len(node) >> 6 if type(node) is str else 0)
        if budget[0] < 0:
            raise _Unfit(f"aliases stand for more than {MAX_ALIASED} values; write them out, or fewer")
        if depth > MAX_DEPTH:
            raise _Unfit(_TOO_DEEP)
        if type(node) is dict:
            pending.extend((child, depth + 1) for child in node.values())
        elif type(node) is list:
            pending.extend((child, depth + 1) for child in node)
    return value


def _merge(into: dict[Any, Any], where: dict[Any, int], lines: dict[int, Any]) -> None:
    """Fill a mapping from its "<<" keys (each one mapping or a list): its own keys win, then the last "<<".

    Of a list, earlier ones win. Raises _Unfit.
    """
    line = where.pop(_MERGE)
    sources = []
    for merged in reversed(into.pop(_MERGE)):
        sources += merged if type(merged) is list else [merged]
    for source in sources:
        if type(source) is not dict:
            raise _Unfit(f'"<<" on line {line} merges something that is not a mapping')
        for key, value in source.items():
            if key not in into:
                into[key] = value
                where[key] = lines[id(source)].get(key, line)
