"""One reason why there is no endpoint, and the words that all reasons share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from nodeport_nft.problems import clipped

_NAMED = 3
"""How many objects a sentence names; the others are counted."""


class Cause(Struct, frozen=True):
    """Why something of a Service has no usable endpoint, and what to change.

    ``reason`` is one word for programs, as those of Kubernetes' events. ``where`` says of which ports and families it
    is true; "": of all. ``expected``: the Service asks for it, as with a traffic policy Local.
    """

    reason: str
    text: str
    remedy: str
    where: str = ""
    expected: bool = False

    def __str__(self) -> str:
        """One line; everything in it that others wrote is made printable and cut."""
        return f"{f'{self.where}: ' if self.where else ''}{self.text}; {self.remedy}"


def named(noun: str, names: Sequence[str]) -> str:
    """``pod a``, ``pods a and b``, ``pods a, b, c and 7 more``."""
    return f"{noun}{'s' * (len(names) != 1)} {listed(names)}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b, c and 7 more``."""
    shown = [clipped(name) for name in names[:_NAMED]]
    if len(names) > _NAMED:
        return f"{', '.join(shown)} and {len(names) - _NAMED:,} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def label(key: str, value: str | None = None) -> str:
    """A label, or the key of one, as ``-l`` takes it."""
    return clipped(key) if value is None else f"{clipped(key)}={clipped(value)}"


def labels(pairs: Iterable[tuple[str, str]]) -> str:
    """Some labels, sorted: the first few, and how many there are besides."""
    pairs = sorted(pairs)
    more = len(pairs) - _NAMED - 1
    shown = ",".join(label(*pair) for pair in (pairs if more <= 0 else pairs[:_NAMED]))
    return shown if more <= 0 else f"{shown} and {more + 1} more"


def is_or_are(items: Sequence[object]) -> str:
    """The verb for so many."""
    return "is" if len(items) == 1 else "are"


def has_or_have(items: Sequence[object]) -> str:
    """The verb for so many."""
    return "has" if len(items) == 1 else "have"


def quoted(name: str) -> str:
    """A port's name, which may be none."""
    return f'"{clipped(name)}"' if name else "without a name"
