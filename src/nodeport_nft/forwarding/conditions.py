"""Conditions of rules, asked about one packet: they hold, they do not, or that cannot be known beforehand.

Why it cannot be known makes a difference (``Doubt``). A blocklist, a limit or a mark differs from packet to packet:
whoever drops under one means some clients, and that is his business. What is not understood might concern them all.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct, field

from nodeport_nft.forwarding.packet import Packet
from nodeport_nft.forwarding.values import ABSENT, Absent, Field, Known, Reading, Values


class Doubt(enum.Enum):
    """Why it is not known whether a condition holds."""

    VARIES = enum.auto()  # it differs from packet to packet
    UNREADABLE = enum.auto()  # it is not understood


class Verdict(Struct, frozen=True):
    """What becomes of a packet: ``accept``, ``drop``, ``return``, ``queue``, ``jump`` or ``goto`` with a chain.

    ``continue`` leaves all to the next rule.
    """

    word: str
    chain: str = ""


CONTINUE = Verdict("continue")

_THOROUGH = 8
"""How many elements are compared with numbers and words in the time that it takes to ask one in any other way."""


class Elements(Struct):
    """The elements of a set or map over some fields; ``strange`` ones, or all of them, may not be understood.

    ``changes``: packets put elements in, and time takes them out. ``looked``: at how many of them it was looked one
    by one so far, which is what takes time; those that were more than compared count several times.
    """

    fields: tuple[Field, ...]
    strange: bool = False
    changes: bool = False
    looked: int = 0
    all: Values = field(default_factory=Values)  # of a set over a single field
    _exact: dict[tuple[Known, ...], Verdict] = field(default_factory=dict)
    _others: list[tuple[tuple[Values, ...], Verdict]] = field(default_factory=list)
    _verdicts: dict[Verdict, None] = field(default_factory=dict)
    _doubtful: bool = False  # a part of some is not understood

    def add(self, parts: Sequence[str], verdict: Verdict | None = None) -> None:
        """Add an element: the text of each of its parts, and where a map leads."""
        if len(self.fields) == 1 and verdict is None:
            self.all.add(self.fields[0], parts[0])
            return
        if parts == ["*"]:
            parts = ["*"] * len(self.fields)
        if len(parts) != len(self.fields):
            self.strange = True
            return
        self._verdicts[verdict or CONTINUE] = None
        values = tuple(Values() for _ in parts)
        for value, of, part in zip(values, self.fields, parts, strict=True):
            value.add(of, part)
        self._doubtful |= any(value.strange for value in values)
        exact = tuple(_exact(value) for value in values)
        if all(part is not None for part in exact):
            self._exact[exact] = verdict or CONTINUE  # type: ignore[index]
        else:
            self._others.append((values, verdict or CONTINUE))

    def have(self, read: Sequence[Reading]) -> bool | None:
        """Whether a set has an element for what was read."""
        if len(self.fields) == 1:
            holds = _has(self.all, read[0])
            return None if holds is False and self.strange else holds
        return _any(holds for holds, _ in self.matching(read))

    def matching(self, read: Sequence[Reading]) -> Iterator[tuple[bool | None, Verdict]]:
        """The elements that are, or may be, for what was read, up to the first that is for sure."""
        if ABSENT in read:
            return
        if all(isinstance(part, int | str) for part in read):
            verdict = self._exact.get(tuple(read))  # type: ignore[arg-type]
            if verdict is not None:
                yield True, verdict
                return
        else:
            certain = [(at, part) for at, part in enumerate(read) if isinstance(part, int | str)]
            others = [(at, part) for at, part in enumerate(read) if not isinstance(part, int | str)]
            for key, verdict in self._exact.items():
                self.looked += 1
                if any(key[at] != part for at, part in certain):
                    continue
                self.looked += _THOROUGH
                holds = _all(_has(_only(key[at]), part) for at, part in others)
                if holds is not False:
                    yield holds, verdict
                if holds:
                    return
        for values, verdict in self._others:
            self.looked += _THOROUGH
            holds = _all(_has(value, part) for value, part in zip(values, read, strict=True))
            if holds is not False:
                yield holds, verdict
            if holds:
                return
        if self.strange:
            yield None, CONTINUE

    def values(self) -> Iterator[tuple[Field, Values]]:
        """All values that are named, with their fields."""
        if len(self.fields) == 1:
            yield self.fields[0], self.all
        for key in self._exact:
            for of, part in zip(self.fields, key, strict=True):
                yield of, _only(part)
        for parts, _ in self._others:
            yield from zip(self.fields, parts, strict=True)

    @property
    def is_strange(self) -> bool:
        """Whether something of it is not understood."""
        return self.strange or self.all.strange or self._doubtful

    def verdicts(self) -> Iterator[Verdict]:
        """Where a map may lead, each once."""
        return iter(self._verdicts)


class Condition(Struct):
    """Something that a rule asks. ``doubt`` is why it is not known, where it is not."""

    text: str
    doubt: Doubt = Doubt.UNREADABLE

    def holds(self, packet: Packet) -> bool | None:  # noqa: ARG002 (this one is never known)
        """Whether it holds for the packet; None if that is not known."""
        return None

    def elements(self) -> Elements | None:
        """The values that it compares with, if it does."""
        return None

    def looked(self) -> int:
        """At how many elements it has looked one by one."""
        return 0


class Comparison(Condition):
    """Fields beside values. ``make`` reads the elements of a named set when they are first asked for."""

    fields: tuple[Field, ...] = ()
    operator: str = ""
    make: Callable[[], Elements] = lambda: Elements(())
    named: bool = False
    _elements: Elements | None = None

    def holds(self, packet: Packet) -> bool | None:
        """Whether it holds for the packet."""
        read = [of.read(packet) for of in self.fields]
        if ABSENT in read:
            return False
        if all(part is None for part in read) or self._is_blocklist():
            self.doubt = Doubt.VARIES  # whatever the values are
            return None
        held = self.elements()
        if held.changes:
            self.doubt = Doubt.VARIES
            return None
        found = held.have(read)
        if found is None:
            known = all(isinstance(part, int | str | frozenset) for part in read)
            sources = all(of.name == "saddr" for of in self.fields)
            self.doubt = Doubt.UNREADABLE if known or (held.is_strange and not sources) else Doubt.VARIES
            return None
        return found is (self.operator != "!=")

    def _is_blocklist(self) -> bool:
        """Whether it names sources in a set of its own, which may be long, and is not read for that."""
        return self.named and self.operator != "!=" and all(of.name == "saddr" for of in self.fields)

    def elements(self) -> Elements:
        """The values that it compares with."""
        if self._elements is None:
            self._elements = self.make()
        return self._elements

    def looked(self) -> int:
        """At how many elements it, and who has the same, has looked one by one."""
        return self._elements.looked if self._elements else 0


def _only(value: Known) -> Values:
    return Values(numbers={value}) if isinstance(value, int) else Values(words={str(value)})


def _has(values: Values, read: Reading) -> bool | None:
    if read is None or isinstance(read, Absent):
        return True if values.all else None
    return values.have(read)


def _any(answers: Iterable[bool | None]) -> bool | None:
    unknown = False
    for answer in answers:
        if answer:
            return True
        unknown |= answer is None
    return None if unknown else False


def _all(answers: Iterable[bool | None]) -> bool | None:
    unknown = False
    for answer in answers:
        if answer is False:
            return False
        unknown |= answer is None
    return None if unknown else True


def _exact(values: Values) -> Known | None:
    """The one value, where it is one."""
    if values.strange or values.all or values.prefixes or values.ranges:
        return None
    found: list[Known] = [*values.numbers, *values.words]
    return found[0] if len(found) == 1 else None
