"""What is wrong with what others have written, as values: all of it, each with its place, its field and the remedy.

Manifests come from strangers, and their text ends on a terminal: whatever is printed passes ``printable``
(no control or formatting characters) and ``shown`` (capped values), so that a name with an escape sequence or
a megabyte in it can neither play with the terminal nor bury the message.

Nor can a million mistakes: two megabytes hold that many. ``Tally`` keeps the first few of a kind in an object and
counts the others while they are found, so that neither the answer nor the memory grows with them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from msgspec import Struct

from nodeport_nft.terminal import printable

Path = tuple[str | int, ...]

MOST_TOLD = 10
"""Problems of one kind in one object that are told; more of them are counted."""

_MOST_KINDS = 100  # told apart in one object: a kind may still have words of the author's in it
_LONGEST_VALUE = 80
_LONGEST_LINE = 1000
_LONGEST_SLIP = 100  # characters of a name that may be a slip of another
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,63}")
_VALUE = re.compile(r'".*"|(?<!\S)\S*?[0-9/:]\S*')  # what is quoted; numbers, addresses, references

Told = TypeVar("Told")


class Problem(Struct, frozen=True):
    """One thing that is wrong.

    ``source`` is ``file:line`` ("" where there is no file), ``object`` ``kind/namespace/name`` ("" if unknown),
    ``field`` a path as ``spec.ports[0].nodePort`` ("" if none); ``message`` says what is wrong and the remedy.
    With ``more`` it stands for that many of its kind that are not told, and is the first of them.
    """

    source: str
    object: str
    field: str
    message: str
    more: int = 0

    def __str__(self) -> str:
        """One printable line; parts that are empty are left out."""
        parts = (self.source, self.object, self.field, self.message)
        if self.more:
            parts = (self.source, "", "", _more(self.more, self.object))
        return printable(": ".join(part for part in parts if part))[:_LONGEST_LINE]


class Leftover(Struct, frozen=True):
    """A field that an object of this type, or of this family policy, may not have: a ``problem``, but for one case.

    Where the stored object had it with the same value, it has come along with a change of type. Then the API drops it
    (dropTypeDependentFields); only whoever knows that object can tell. ``path`` leads to it in the document.
    """

    path: Path
    problem: Problem


class Problems(Exception):
    """Everything that is wrong, in the order of the documents; ``str()`` gives one problem a line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class Tally(Generic[Told]):
    """Problems as they are found: the first ``MOST_TOLD`` of one kind in one object, and how many more there were.

    A kind is what a message says but for the values in it.
    """

    __slots__ = ("_counts", "_entries", "_kinds", "_rest")

    def __init__(self) -> None:
        self._entries: list[tuple[str, Told]] = []
        self._counts: dict[tuple[str, str], int] = {}
        self._kinds: dict[str, int] = {}
        self._rest: dict[tuple[str, str], int] = {}  # the place of the first that is not told

    def add(self, owner: str, message: str, problem: Told, more: int = 0) -> None:
        """Note a problem of the object ``owner``. ``more``: it stands for that many that are not told."""
        kind = owner, _VALUE.sub("*", message[:_LONGEST_LINE])
        if kind not in self._counts:
            kinds = self._kinds.get(owner, 0)
            if kinds >= _MOST_KINDS:
                kind = owner, ""
            self._kinds[owner] = kinds + (kind not in self._counts)
        count = self._counts.get(kind, 0)
        if kind not in self._rest and (more or count >= MOST_TOLD):
            self._rest[kind] = len(self._entries)
            self._counts[kind] = count = 0
            self._entries.append((owner, problem))
        elif kind not in self._rest:
            self._entries.append((owner, problem))
        self._counts[kind] = count + (more or 1)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __iter__(self) -> Iterator[tuple[str, Told, int]]:
        """Owner and problem in the order in which they were found; with a number, it stands for that many."""
        more = {place: self._counts[kind] for kind, place in self._rest.items()}
        for place, (owner, problem) in enumerate(self._entries):
            yield owner, problem, more.get(place, 0)


def counted(problems: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Problems as texts, each given with the object that has it; from some number on, those of a kind are counted."""
    tally: Tally[str] = Tally()
    for owner, text in problems:
        tally.add(owner, text, text)
    return texts(tally)


def texts(tally: Tally[str]) -> tuple[str, ...]:
    """What a tally of texts has to tell, a line each."""
    return tuple(_more(more, owner) if more else text for owner, text, more in tally)


def _more(count: int, owner: str) -> str:
    return f"… and {count:,} more of this kind{f' in {owner}' if owner else ''}"


def clipped(text: str, longest: int = _LONGEST_VALUE) -> str:
    """``text`` made printable and cut to ``longest`` characters, an ellipsis standing for the rest."""
    return printable(text if len(text) <= longest else text[: longest - 1] + "…")


def shown(value: Any) -> str:
    """A value out of a document as a message quotes it: as YAML would write it, capped at 80 characters."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            # Python refuses to print integers of thousands of digits.
            return str(value) if isinstance(value, float) or value.bit_length() < 256 else "a huge number"
        case str():
            return f'"{clipped(value)}"'
        case list():
            return "a list" if value else "an empty list"
        case _:
            return "a mapping" if value else "an empty mapping"


def field_text(path: Path) -> str:
    """A path as people write it: ``("spec", "ports", 0, "nodePort")`` is ``spec.ports[0].nodePort``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that ``name`` is probably a slip of; "" if there is none like it."""
    folded = {one.casefold(): one for one in known}
    if len(name) > _LONGEST_SLIP:
        return ""
    near = get_close_matches(name.casefold(), folded, n=1, cutoff=0.75)
    return folded[near[0]] if near else ""
