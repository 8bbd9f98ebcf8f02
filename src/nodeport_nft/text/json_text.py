"""Manifest text → documents, JSON by Python's C decoder, which is several times as fast as any YAML reader.

JSON tells no lines: only when one is asked for, to report a problem, the text is read once more as the YAML
that JSON also is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from nodeport_nft.json_values import MAX_DEPTH, finite, too_deep
from nodeport_nft.problems import Path, Tally, clipped
from nodeport_nft.text.document import Document, Fault
from nodeport_nft.text.yaml_aside import read_yaml_aside
from nodeport_nft.text.yaml_text import MARKER, read_yaml

_LIKE_JSON = re.compile(r'\s*(\{\s*["}]|\[)')
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_LOGS = "==== START logs for container "  # kubectl cluster-info dump
_ANYTHING = (
    "the logs of a container begin, and whoever wrote them may have put objects there; "
    "read the files that kubectl cluster-info dump --output-directory=DIR writes"
)
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep; flatten it"
_HALF = "a string has half of a surrogate pair (\\ud800 to \\udfff) in it; write the whole character"


def read_documents(text: str) -> Iterator[Document | Fault]:
    """The documents of YAML or JSON text (also several JSON values in a row), faults in between.

    Empty documents are left out. Never raises.
    """
    if not _LIKE_JSON.match(text):
        return read_yaml_aside(text)
    documents, fault = _read_json(text)
    if fault is None:
        return iter(documents)
    # YAML's flow style may begin alike, and then take comments, trailing commas, or "---" for a second document.
    others = tuple(read_yaml(text))
    if MARKER.search(text) or not any(isinstance(other, Fault) for other in others):
        return iter(others)
    return iter((*documents, fault))


def _read_json(text: str) -> tuple[list[Document], Fault | None]:
    """The JSON values of ``text`` up to the first that cannot be read."""
    documents: list[Document] = []
    reading = _Reading()
    position = _skip_space(text, 0)
    line = 1 + text.count("\n", 0, position)
    while position < len(text):
        try:
            value, end = reading.decode(text, position)
        except json.JSONDecodeError as error:
            if documents and text.startswith(_LOGS, position):
                return documents, Fault(line, _ANYTHING)
            return documents, Fault(error.lineno, f"not JSON: {error.msg} (column {error.colno})")
        except RecursionError:
            return documents, Fault(line, _TOO_DEEP)
        documents.append(_document(value, text[position:end], line, reading))
        following = _skip_space(text, end)
        position, line = following, line + text.count("\n", position, following)
    return documents, None


class _Constant(str):
    """NaN or Infinity, which Python takes and JSON has not."""

    __slots__ = ()


class _Reading:
    """Reads one JSON value after another, and keeps of the last what is to be told of it."""

    __slots__ = ("_long", "_usual", "constants", "doubled")

    def __init__(self) -> None:
        self.doubled: Tally[str] = Tally()
        self.constants = False
        hooks: Any = {"object_pairs_hook": self._unique, "parse_float": finite, "parse_constant": self._constant}
        self._usual = json.JSONDecoder(**hooks)
        self._long = json.JSONDecoder(**hooks, parse_int=_whole)  # slower

    def decode(self, text: str, position: int) -> tuple[Any, int]:
        """The value at ``position`` and where it ends. Raises JSONDecodeError, RecursionError."""
        self.doubled, self.constants = Tally(), False
        try:
            return self._usual.raw_decode(text, position)
        except json.JSONDecodeError:
            raise
        except ValueError:  # more digits than Python converts
            self.doubled, self.constants = Tally(), False
            return self._long.raw_decode(text, position)

    def _unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            known = set()
            for key, _ in pairs:
                if key in known:
                    message = f'key "{clipped(key)}" is given twice in one object'
                    self.doubled.add("", message, message)
                known.add(key)
        return made

    def _constant(self, name: str) -> _Constant:
        self.constants = True
        return _Constant(name)


def _whole(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits


def _document(value: Any, text: str, line: int, reading: _Reading) -> Document:
    """A document that finds its lines in ``text``, which begins on ``line``, when asked for one."""

    def locate() -> Document | None:
        # libyaml takes no escaped pairs of surrogates; for its lines, any character will do.
        read = next(read_yaml(_PAIR.sub(r"\1??", text), line - 1), None)
        return read if isinstance(read, Document) else None

    faults: tuple[Fault, ...] = ()
    if reading.constants or "\\ud" in text or "\\uD" in text or too_deep(value):
        value, faults = _cleared(value, line)
    doubled: tuple[Fault, ...] = ()
    if reading.doubled:
        located = locate()
        doubled = located.doubled if located is not None else ()
        doubled = doubled or tuple(Fault(line, message, more) for _, message, more in reading.doubled)
    return Document(value, line, faults=faults, doubled=doubled, locate=locate)


def _cleared(value: Any, line: int) -> tuple[Any, tuple[Fault, ...]]:
    """``value`` without what nobody behind this room could print, store or walk over, and what that was."""
    found: Tally[Fault] = Tally()
    root = [value]
    pending: list[tuple[Any, Path | None]] = [(root, None)]
    while pending:
        parent, path = pending.pop()
        if isinstance(parent, dict):
            for key in [key for key in parent if _has_half(key)]:
                found.add("", _HALF, Fault(line, _HALF, path=path or ()))
                parent[_whole_text(key)] = parent.pop(key)
        for key, child in list(parent.items() if isinstance(parent, dict) else enumerate(parent)):
            here = () if path is None else (*path, key)
            message = ""
            if isinstance(child, dict | list):
                if len(here) <= MAX_DEPTH:
                    pending.append((child, here))
                else:
                    message, parent[key] = _TOO_DEEP, None
            elif isinstance(child, _Constant):
                message, parent[key] = f"not JSON: {child} is not a value of JSON; leave it out", str(child)
            elif isinstance(child, str) and _has_half(child):
                message, parent[key] = _HALF, _whole_text(child)
            if message:
                found.add("", message, Fault(line, message, path=here))
    return root[0], tuple(replace(fault, more=more) for _, fault, more in found)


def _whole_text(text: str) -> str:
    return text.encode(errors="replace").decode()


def _has_half(text: str) -> bool:
    """Whether a surrogate stands alone in ``text``, which can be neither printed nor stored."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _skip_space(text: str, position: int) -> int:
    """The index of the next character that is no white space of JSON."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
