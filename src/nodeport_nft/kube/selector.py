"""Label selectors in the syntax of kubectl's ``-l``: ``disk=ssd, zone in (a, b), !spot`` (conformance X6).

Source: k8s.io/apimachinery, labels.Parse. What it takes is taken here with the same meaning, but for ``<`` and
``>``, which selectors in manifests (meta/v1 LabelSelector) do not have either.
"""

from __future__ import annotations

import re

from nodeport_nft.model import Requirement
from nodeport_nft.notation import label_key_fault, label_value_fault
from nodeport_nft.problems import shown

BLANKS = " \t\r\n"
"""What may stand between the words of a selector. Any other blank belongs to a word, and makes it a wrong one."""

_TOKEN = re.compile(r"==|!=|[=!(),<>]|[^ \t\r\n=!(),<>]+")
_END = ""
_SYMBOLS = frozenset({"=", "==", "!=", "!", "(", ")", ",", "<", ">", _END})
_SYNTAX = "write a=b, a!=b, a in (b,c), a notin (b,c), a or !a, and commas between them"


class _Misplaced(Exception):
    """A word or sign that cannot stand where it stands."""

    def __init__(self, token: str, wanted: str) -> None:
        found = shown(token) if token else "the end"
        super().__init__(f"{found} stands where {wanted} belongs; {_SYNTAX}")


def parse_selector(text: str) -> tuple[tuple[Requirement, ...], tuple[str, ...]]:
    """The requirements of a selector, and what is wrong with it; there are no requirements if anything is.

    Never raises.
    """
    try:
        requirements = _requirements([*_TOKEN.findall(text), _END][::-1])
    except _Misplaced as error:
        return (), (str(error),)
    faults = tuple(fault for requirement in requirements for fault in _faults(requirement))
    return (() if faults else requirements), faults


def _requirements(rest: list[str]) -> tuple[Requirement, ...]:
    """All requirements; ``rest`` is what is still to be read, the next token at its end. Raises _Misplaced."""
    requirements = [_requirement(rest)]
    while (sign := rest.pop()) == ",":
        requirements.append(_requirement(rest))
    if sign != _END:
        raise _Misplaced(sign, "a comma")
    return tuple(requirements)


def _requirement(rest: list[str]) -> Requirement:
    """The next requirement. Raises _Misplaced."""
    absent = rest[-1] == "!"
    if absent:
        rest.pop()
    key = rest.pop()
    if key in _SYMBOLS:
        raise _Misplaced(key, "a label key")
    if absent:
        return Requirement(key, "DoesNotExist")
    if rest[-1] in (",", _END):
        return Requirement(key, "Exists")
    operator = rest.pop()
    if operator in ("=", "==", "!="):
        return Requirement(key, "NotIn" if operator == "!=" else "In", (_value(rest),))
    if operator in ("in", "notin"):
        return Requirement(key, "In" if operator == "in" else "NotIn", _values(rest))
    raise _Misplaced(operator, "an operator or a comma")


def _values(rest: list[str]) -> tuple[str, ...]:
    """The values of a set, each once; one between two commas is empty, as kubectl has it. Raises _Misplaced."""
    opening = rest.pop()
    if opening != "(":
        raise _Misplaced(opening, '"("')
    if rest[-1] == ")":
        raise _Misplaced(")", "a label value")
    values = [_value(rest)]
    while (sign := rest.pop()) == ",":
        values.append(_value(rest))
    if sign != ")":
        raise _Misplaced(sign, '")" or a comma')
    return tuple(dict.fromkeys(values))


def _value(rest: list[str]) -> str:
    """The next word; "" if a comma, a bracket or the end comes first, which is not read."""
    return "" if rest[-1] in _SYMBOLS else rest.pop()


def _faults(requirement: Requirement) -> list[str]:
    faults = [label_key_fault(requirement.key), *map(label_value_fault, requirement.values)]
    return [fault for fault in faults if fault]
