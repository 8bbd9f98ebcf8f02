"""One document as it was read: its value, and the line every field of it stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nodeport_nft.problems import Path


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a document's text; ``line`` counts from 1. ``more``: as a Problem's.

    ``path``: what of its document it is about. ``known``: what had been read of a document that was given up, which
    may tell its kind.
    """

    line: int
    message: str
    more: int = 0
    path: Path = field(default=(), compare=False)
    known: Any = field(default=None, compare=False)


class Document:
    """One document: its ``value``, its ``first`` line, and what is wrong with its text.

    ``faults`` leave it readable, but what they are about is not what was written: it may be told and skipped, not
    used. ``doubled``: keys that are given twice in one mapping, of which the last counts; what follows from that is
    for the user of the document to say.

    ``lines`` gives, by the id of each container, the line of every key or item. A reader that keeps no lines
    gives ``locate`` instead, which reads the same text once more when a line is asked for.
    """

    __slots__ = ("_lines", "_locate", "_value", "doubled", "faults", "first", "value")

    def __init__(
        self,
        value: Any,
        first: int,
        *,
        faults: tuple[Fault, ...] = (),
        doubled: tuple[Fault, ...] = (),
        lines: dict[int, Any] | None = None,
        locate: Callable[[], Document | None] | None = None,
    ) -> None:
        self.value = value
        self.first = first
        self.faults = faults
        self.doubled = doubled
        self._value = value  # the containers that ``lines`` speaks of
        self._lines = lines
        self._locate = locate

    def line(self, path: Path) -> int:
        """The line (from 1) of the field at ``path``, or of its nearest parent that exists."""
        if self._locate is not None:
            located, self._locate = self._locate(), None
            if located is not None:
                self._value, self._lines = located._value, located._lines
        return self.known_line(path)

    def known_line(self, path: Path) -> int:
        """As ``line`` where that costs no second reading of the text, else the document's first line."""
        line, value = self.first, self._value
        for key in path:
            where = (self._lines or {}).get(id(value))
            try:
                line, value = where[key], value[key]  # type: ignore[index] # None, wrong keys: caught below
            except (TypeError, KeyError, IndexError):
                break
        return int(line)
