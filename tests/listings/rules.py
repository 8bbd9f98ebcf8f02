"""The rules of chains that services have added, from nft's listing back into values.

The other chains are compared as text, and it is enough to know that they differ. Of these the values are needed:
which of them are there is known from the listing alone, and a trace of the live table walks them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from nodeport_nft.render.write import UNITS, write_rule
from nodeport_nft.ruleset import (
    Dnat,
    Drop,
    Field,
    Goto,
    GotoChance,
    InSet,
    Learn,
    Local,
    MarkSet,
    Rule,
    Statement,
)

_NAME = r"([\w./-]{1,255})"
_SOURCE = r"ip6? saddr"

_FORMS: tuple[tuple[str, Callable[[re.Match[str]], Statement]], ...] = (
    (rf"{_SOURCE} @{_NAME}", lambda m: InSet((Field.SADDR,), m[1])),
    (rf"{_SOURCE} != @{_NAME}", lambda m: InSet((Field.SADDR,), m[1], negated=True)),
    (rf"update @{_NAME} \{{ {_SOURCE} timeout (\w{{1,40}}) \}}", lambda m: Learn(m[1], read_time(m[2]) // 1000)),
    (
        r"meta l4proto (\w{1,40}) dnat to \[?([0-9a-f.:]{2,45}?)\]?:([0-9]{1,5})",
        lambda m: Dnat(m[1], m[2], int(m[3])),
    ),
    (
        rf"numgen random mod ([0-9]{{1,10}}) < ([0-9]{{1,10}}) goto {_NAME}",
        lambda m: GotoChance(m[3], int(m[2]), int(m[1])),
    ),
    (r"fib saddr type local", lambda _: Local(Field.SADDR)),
    (r"meta mark set meta mark \| 0x([0-9a-f]{1,8})", lambda m: MarkSet(int(m[1], 16))),
    (rf"goto {_NAME}", lambda m: Goto(m[1])),
    (r"drop", lambda _: Drop()),
)
_PATTERNS = tuple((re.compile(form + r"(?: |$)", re.ASCII), make) for form, make in _FORMS)


def read_rules(family: str, lines: Iterable[str], normal: Callable[[str], str]) -> tuple[Rule, ...] | None:
    """The rules behind these lines of a chain; None if one is not of the forms that we write.

    ``normal`` brings a line to the one spelling that is compared, whatever nft's version.
    """
    rules = []
    for line in lines:
        rule = _rule(normal(line))
        # Written again it must be the line: nothing of it has been passed over or misread.
        if rule is None or normal(write_rule(family, rule)) != normal(line):
            return None
        rules.append(rule)
    return tuple(rules)


def _rule(line: str) -> Rule | None:
    statements: list[Statement] = []
    at = 0
    while at < len(line):
        found = next(((m, make) for pattern, make in _PATTERNS if (m := pattern.match(line, at))), None)
        if found is None:
            return None
        match, make = found
        statements.append(make(match))
        at = match.end()
    return tuple(statements)


_TIMES = re.compile(r"([0-9]{1,19})(d|h|ms|m|s)")
_SIZES = dict(UNITS)


def read_time(text: str) -> int:
    """Milliseconds of a time as nft lists it (``2h59m58s132ms``); 0 for what is none."""
    return sum(int(count) * _SIZES[unit] for count, unit in _TIMES.findall(text))
