"""The words of nft's listings, and the elements of its sets and maps.

Source: nft(8), "Sets", "Maps"; nft 1.0.6 as it lists them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nodeport_nft.forwarding.conditions import Elements, Verdict
from nodeport_nft.forwarding.values import Field

_WORD = re.compile(r'"[^"]*"|[{}]|,|[^\s{},]+(?:,[^\s{},]+)*')
_CHANGES = re.compile(r"\n\t\tflags [a-z,]*\b(?:dynamic|timeout)\b")  # packets put elements in, time takes them out
_MOST_ELEMENTS = 20_000
"""Elements of one set that are looked at."""


def words(text: str) -> list[str]:
    """The words of a line: names, numbers, texts in quotes with these, braces and commas."""
    return _WORD.findall(text)


_DECORATIONS = frozenset(("timeout", "expires", "counter", "comment", "limit", "quota", "last"))


def read_elements(fields: tuple[Field, ...], tokens: Sequence[str]) -> Elements:
    """The elements between the braces of a set or a map of verdicts."""
    made = Elements(fields)
    begin, count = 0, 0
    for end in range(len(tokens) + 1):
        if end < len(tokens) and tokens[end] != ",":
            continue
        element, begin = list(tokens[begin:end]), end + 1
        if not element:
            continue
        count += 1
        if count > _MOST_ELEMENTS:
            made.strange = made.all.strange = True
            break
        _add_element(made, element)
    return made


def _add_element(made: Elements, element: list[str]) -> None:
    verdict = None
    if ":" in element:
        at = element.index(":")
        word, *rest = element[at + 1 :] or ["continue"]
        verdict = Verdict(word, rest[0] if word in ("jump", "goto") and rest else "")
        element = element[:at]
    decoration = next((at for at, piece in enumerate(element) if piece in _DECORATIONS), len(element))
    element = element[:decoration]
    parts: list[list[str]] = [[]]
    for piece in element:
        if piece == ".":
            parts.append([])
        else:
            parts[-1].append(piece)
    made.add([" ".join(part) for part in parts], verdict)  # some are of several words: ``syn | ack``


def read_listing(fields: tuple[Field, ...], listing: str) -> Elements:
    """The elements of a named set or map of verdicts that is listed."""
    if _CHANGES.search(listing):
        return Elements(fields, strange=True, changes=True)
    return read_elements(fields, _elements_of(listing))


def _elements_of(listing: str) -> list[str]:
    """The words of the elements in the listing of a set or map."""
    _, found, rest = listing.partition("elements = {")
    if not found:
        return []
    tokens = words(rest)
    depth = 1
    for at, piece in enumerate(tokens):
        depth += (piece == "{") - (piece == "}")
        if not depth:
            return tokens[:at]
    return tokens
