"""A value as somebody gave it, and what is said where it is of the wrong type.

YAML makes numbers and booleans of what people mean as text (``no``, ``0o17``), and mappings of addresses that end in
a colon. So what is told names the words that were written, and the remedy is tried on them before it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.problems import Path, Tally, clipped, nearest, shown
from nodeport_nft.text.document import Document

T = TypeVar("T")


class Several(ValueError):
    """More than one thing is wrong with a value; ``faults`` tell each with the path to it."""

    def __init__(self, faults: Tally[tuple[Path, str]]) -> None:
        super().__init__()
        self.faults = faults


class Given(Struct, frozen=True):
    """A value, the ``path`` to it from the top of its file, and who knows how a scalar is ``written`` there."""

    value: Any
    path: Path
    written: Callable[[Path], str | None]

    def __str__(self) -> str:
        """The value as a message quotes it: a number, a boolean or null in the words of its author."""
        if not isinstance(self.value, str | list | tuple | dict):
            written = self.written(self.path)
            if written:
                return clipped(written)
        return shown(list(self.value) if isinstance(self.value, tuple) else self.value)

    def items(self) -> list[Given]:
        """The items of a list; one value stands for a list of one."""
        if not isinstance(self.value, list | tuple):
            return [self]
        return [replace(self, value=item, path=(*self.path, index)) for index, item in enumerate(self.value)]


def each(values: Collection[Given], parse: Callable[[Given], T]) -> tuple[T, ...]:
    """All of these parsed. Raises Several with everything that is wrong with any."""
    made: list[T] = []
    wrong: Tally[tuple[Path, str]] = Tally()
    for given in values:
        try:
            made.append(parse(given))
        except ValueError as error:
            wrong.add("", str(error), (given.path, str(error)))
    if wrong:
        raise Several(wrong)
    return tuple(made)


def as_text(given: Given, parse: Callable[[str], T], what: str, remedy: str) -> T:
    """A text parsed. ``what`` should stand there, as "a path", and ``remedy`` says how. Raises ValueError."""
    if isinstance(given.value, str):
        if "\0" in given.value:
            raise ValueError(f"{given} holds a NUL character; leave it out")
        return parse(given.value)
    if given.value is None:
        raise ValueError(nothing(remedy))
    if isinstance(given.value, bool | int | float):
        kind = "a boolean" if isinstance(given.value, bool) else "a number"
        told = f"{given} is {kind}, not {what}; {_in_quotes(given, parse) or remedy}"
    else:
        told = f"{given} stands where {what} belongs; {_out_of_container(given, parse) or remedy}"
    raise ValueError(told)


def as_choice(given: Given, choices: Collection[str], what: str) -> str:
    """One of a few words. Raises ValueError with all of them, and the one that was probably meant."""
    remedy = f"choose one of {', '.join(choices)}"

    def parse(text: str) -> str:
        if text in choices:
            return text
        near = nearest(text, choices)
        raise ValueError(f"{shown(text)} is not a {what}; {remedy}{f'; did you mean {near}?' if near else ''}")

    return as_text(given, parse, f"a {what}", remedy)


def nothing(remedy: str) -> str:
    """What is said of a key or an item behind which nothing stands, which is null to YAML."""
    return f"nothing is given; {remedy}, or leave it out"


def is_right(text: str, parse: Callable[[str], Any]) -> bool:
    """Whether this would be taken."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _in_quotes(given: Given, parse: Callable[[str], Any]) -> str:
    """The advice to quote a scalar, where what was written would be right then; else ""."""
    written = given.written(given.path) or ""
    return f'write "{written}", with quotes' if written and is_right(written, parse) else ""


def _is_plain(text: str) -> bool:
    """Whether YAML takes this for the text that it is, without quotes."""
    from nodeport_nft.text.json_text import read_documents

    (read, *_) = (*read_documents(f"x: {text}"), None)
    return isinstance(read, Document) and bool(read.value == {"x": text})


def _out_of_container(given: Given, parse: Callable[[str], Any]) -> str:
    """What somebody may have meant who wrote a list of one text, or an address that ends in a colon; else ""."""
    match given.value:
        case [str(text)] if is_right(text, parse):
            return (
                f"write {clipped(text)} alone" if _is_plain(text) else f'write "{clipped(text)}" alone, with quotes'
            )
        case dict() if len(given.value) == 1:
            (key, value), *_ = given.value.items()
            if value is None and key.endswith(":"):
                try:
                    parse(f"{key}:")
                except ValueError as error:
                    return f"to YAML {clipped(key)}: is one without quotes, and {error}"
                return f'write "{clipped(key)}:", with quotes'
    return ""
