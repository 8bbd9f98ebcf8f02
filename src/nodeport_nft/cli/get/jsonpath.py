"""Paths as kubectl writes them: ``.spec.ports[*].port``, ``..nodePort``, ``[?(@.type=="Ready")]``.

A library evaluates JSONPath (RFC 9535), whose notation is stricter. Here each path becomes one of the library's; what
the RFC has no words for is added: an index that is out of bounds is an error, and a union gives all of its first part
before its second, which may be a path (``['metadata.name', 'spec.type']``).

Comparisons of values of different types are false; kubectl ends with an error there.
Source: https://kubernetes.io/docs/reference/kubectl/jsonpath/ and client-go, util/jsonpath.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from msgspec import Struct

from nodeport_nft.problems import shown

_ENDS_NAME = frozenset(" \t\r\n.,[]$@{}")
_INDEX = re.compile(r"[+-]?[0-9]{1,9}")
_SLICE = re.compile(r"(-?[0-9]{1,9})?:(-?[0-9]{1,9})?(?::([0-9]{1,9})?)?")
_COMPARED = re.compile(r"([^!<>=]+)(==|!=|<=|>=|<|>)([^!<>=].*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_FILTER = "[?("
_SYNTAX = "write a path as .metadata.name, .spec.ports[0].port, .items[*].kind or ..nodePort"


class PathError(ValueError):
    """What is wrong with a path, or with what it is asked of."""


class _Step(Protocol):
    """A part of a path: what it makes of all the values that the parts before it have found."""

    def of(self, values: list[Any]) -> list[Any]: ...


@dataclass(frozen=True)
class _Query:
    """What the library evaluates; ``text`` is in its notation, without the ``$`` in front."""

    text: str

    @cached_property
    def _compiled(self) -> Any:
        import jsonpath

        try:
            return jsonpath.compile(f"${self.text}")
        except jsonpath.JSONPathError as error:  # one of those that we have not foreseen
            raise PathError(f"{str(error).splitlines()[0]}; {_SYNTAX}") from None

    def of(self, values: list[Any]) -> list[Any]:
        # The library takes a text for JSON that is yet to be read: a text has nothing in it to be found.
        return [
            found for value in values if isinstance(value, dict | list) for found in self._compiled.findall(value)
        ]


class _Index(Struct, frozen=True):
    """One element of a list, from its end where it is negative."""

    number: int

    @property
    def text(self) -> str:
        return f"[{self.number}]"

    def of(self, values: list[Any]) -> list[Any]:
        return [self._element(value) for value in values if value is not None]

    def _element(self, value: Any) -> Any:
        if not isinstance(value, list):
            raise PathError(f"[{self.number}]: what it is asked of is not a list")
        if not -len(value) <= self.number < len(value):
            raise PathError(f"array index out of bounds: index {self.number}, length {len(value)}")
        return value[self.number]


class _Union(Struct, frozen=True):
    """What each of several paths finds."""

    paths: tuple[Path, ...]

    def of(self, values: list[Any]) -> list[Any]:
        return [found for path in self.paths for found in path.of(values)]


class Path:
    """One path. Raises PathError where it is none."""

    def __init__(self, text: str) -> None:
        """``text`` as it stands in braces: ``.metadata.name``; "" or "@" is the document itself."""
        self.text = text
        self._steps = _merged(_Scanner(text).steps())
        for step in self._steps:
            if isinstance(step, _Query):
                step.of([{}])  # what the library does not take is told before anything is read

    def of(self, values: list[Any]) -> list[Any]:
        """What it finds in these values, nothing where there is none. Raises PathError for an index out of bounds."""
        for step in self._steps:
            values = step.of(values)
        return values

    def values(self, document: Any) -> list[Any]:
        """What it finds in one document. Raises PathError for an index out of bounds."""
        return self.of([document])


def relaxed(text: str) -> Path:
    """A path with or without its braces and the first dot, as ``--sort-by`` and columns have it. Raises PathError."""
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    if not inner or "{" in inner or "}" in inner:
        raise PathError(f"{shown(text)} is not a path; write it as .metadata.name or {{.metadata.name}}")
    return Path(f".{inner.removeprefix('.')}" if not inner.startswith(("[", "..", "@", "$")) else inner)


def _merged(steps: Sequence[_Step]) -> tuple[_Step, ...]:
    """The steps, with one query for those that stand side by side."""
    merged: list[_Step] = []
    for step in steps:
        if isinstance(step, _Query) and merged and isinstance(before := merged[-1], _Query):
            merged[-1] = _Query(before.text + step.text)
        else:
            merged.append(step)
    return tuple(merged)


class _Scanner:
    """Reads one path from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def steps(self) -> list[_Step]:
        steps: list[_Step] = []
        while self._at < len(self._text):
            sign = self._text[self._at]
            if sign in " \t@$":
                self._at += 1
            elif self._text.startswith("..", self._at):
                self._at += 2
                steps += self._descent()
            elif sign == ".":
                self._at += 1
                steps.append(_field(self._name()))
            elif sign == "[":
                steps += self._brackets()
            else:
                raise PathError(f"{shown(self._text[self._at :])} in {shown(self._text)} is not a path; {_SYNTAX}")
        return steps

    def _descent(self) -> list[_Step]:
        """What is looked for at any depth: a name, or what stands in brackets."""
        following: Sequence[_Step] = ()
        if self._text.startswith("[", self._at):
            following = self._brackets()
        elif name := self._name():
            following = (_field(name),)
        first, *rest = following or (None,)
        if not isinstance(first, _Query | _Index):
            raise PathError(f"{shown(self._text)}: name what is looked for behind .., as ..nodePort")
        return [_Query(f"..{first.text}"), *(step for step in rest if step)]

    def _name(self) -> str:
        """The name that begins here; a backslash takes the next sign as it is, such as a dot."""
        signs = []
        while self._at < len(self._text) and (sign := self._text[self._at]) not in _ENDS_NAME:
            if sign == "\\":
                self._at += 1
                sign = self._text[self._at : self._at + 1]
            signs.append(sign)
            self._at += 1
        return "".join(signs)

    def _brackets(self) -> list[_Step]:
        if self._text.startswith(_FILTER, self._at):
            return [self._filter()]
        end = self._text.find("]", self._at)
        if end < 0:
            raise PathError(f"{shown(self._text)}: a ] is missing")
        inner, self._at = self._text[self._at + 1 : end], end + 1
        if "," in inner:
            return [_Union(tuple(Path(f"[{part.strip()}]") for part in inner.split(",")))]
        return _bracketed(inner)

    def _filter(self) -> _Query:
        start = self._at + len(_FILTER)
        quote = ""
        for at in range(start, len(self._text)):
            sign = self._text[at]
            if quote:
                quote = "" if sign == quote and self._text[at - 1] != "\\" else quote
            elif sign in "\"'":
                quote = sign
            elif sign == ")":
                break
        else:
            raise PathError(f'{shown(self._text)}: the filter has no end; write it as [?(@.type=="Ready")]')
        if not self._text.startswith(")]", at):
            raise PathError(f"{shown(self._text)}: a ] belongs behind the ) of the filter")
        self._at = at + 2
        return _Query(f"[?{_condition(self._text[start:at])}]")


def _field(name: str) -> _Query:
    return _Query("[*]" if name == "*" else f"[{json.dumps(name)}]")


def _bracketed(inner: str) -> list[_Step]:
    """What one pair of brackets means. Raises PathError."""
    if inner == "*":
        return [_Query("[*]")]
    if _INDEX.fullmatch(inner):
        return [_Index(int(inner))]
    if _SLICE.fullmatch(inner):
        return [_Query(f"[{inner}]")]
    if len(inner) >= 2 and inner[0] == inner[-1] == "'" and "'" not in inner[1:-1]:
        return _Scanner(f".{inner[1:-1]}").steps()  # kubectl reads a path in there, too
    raise PathError(f"invalid array index {shown(inner)}; write [0], [*], [0:2], ['name'] or [?(@.name==\"x\")]")


def _condition(text: str) -> str:
    """A filter's condition in the library's notation. What is not there is unequal to nothing, as with kubectl."""
    compared = _COMPARED.fullmatch(text)
    if compared is None:
        if re.search("[!<>=]", text):
            raise PathError(f'{shown(text)}: a filter compares two things, as [?(@.type=="Ready")]')
        return _asked(text)
    left, operator, right = (part.strip() for part in compared.groups())
    sides = [_literal(side) or _asked(side) for side in (left, right)]
    there = [side for side in sides if side.startswith("@")]
    return " && ".join([*there, f"{sides[0]} {operator} {sides[1]}"])


def _asked(text: str) -> str:
    """A path of a filter, asked of each element."""
    parts = []
    for step in _Scanner(text).steps():
        if not isinstance(step, _Query | _Index):
            raise PathError(f"{shown(text)}: a filter compares one value; leave out the comma")
        parts.append(step.text)
    return f"@{''.join(parts)}"


def _literal(text: str) -> str | Literal[False]:
    """A text, number or truth value, as JSON has it; False where it is none."""
    if text in ("true", "false") or _NUMBER.fullmatch(text):
        return text.removeprefix("+")
    return json.dumps(unquoted(text)) if text[:1] in ("'", '"') else False


_ESCAPED = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)) | {sign: sign for sign in "\\'\""}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)


def unquoted(text: str) -> str:
    r"""A text in single or double quotes without them, ``\n`` and the like as what they mean. Raises PathError."""
    quote = text[:1]
    if len(text) < 2 or text[-1] != quote or re.search(rf"(?<!\\)(?:\\\\)*{quote}", text[1:-1]):
        raise PathError(f"{shown(text)}: the quotes do not match")

    def meant(found: re.Match[str]) -> str:
        sign = found[1]
        if sign in _ESCAPED:
            return _ESCAPED[sign]
        if len(sign) > 1 and (number := int(sign[1:], 16)) <= 0x10FFFF:
            return chr(number)
        raise PathError(f"{shown(text)}: \\{sign} means nothing; write \\n, \\t or \\\\")

    return _ESCAPE.sub(meant, text[1:-1])
