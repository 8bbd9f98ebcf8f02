"""From inputs to other inputs: bytes, lines, tokens, and nodes of a tree where the input is YAML or JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import yaml

LONGEST = 1 << 14
"""Bytes of an input, as a rule."""

LONGEST_REPEATED = 1 << 18
"""Bytes of one that is little, many times over: what is quadratic needs room to show it."""

_NUMBERS = (
    "0",
    "-1",
    "1",
    "80",
    "65535",
    "65536",
    "4294967296",
    "1e999",
    "0x10",
    "0o7",
    ".inf",
    ".nan",
    "null",
    "true",
)
_ADDRESSES = ("::1", "10.96.0.1", "10.244.1.2", "fd00:10:96::1", "fe80::1%eth0", "0.0.0.0/0", "::/0", "1.2.3.4/33")
_YAML = ["<<:", "&a", "*a", "!!binary", "---", "..."]
_SIGNS = " \n\t[]{},:-?\"'\\#|>@*=!"
_ODD = ("9" * 30, "9" * 5000, "٣", "１２", "\u2028", "\x85", "\0", "\x1b[31m", "\ud800", "\ufeff", "é", "a" * 300)

TOKENS: tuple[bytes, ...] = tuple(
    token.encode("utf-8", "surrogatepass") for token in (*_NUMBERS, *_ADDRESSES, *_YAML, *_SIGNS, *_ODD)
)
"""Words that any of the languages may have, and what number and text may be made of."""

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 80, 65536, 1 << 70, 10**5000, 0.5, 1e308),
    *("", "None", "80", "٣", "a" * 300, "10.96.0.1", "::1", "::ffff:1.2.3.4", "10.0.0.0/8", "1.2.3.4/33"),
    *("é\u2028\x1b", "\0", [], {}, [None], [[]], {"": None}),
)


def mutated(rng: random.Random, corpus: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Another input, from one of ``corpus`` by one to four changes; never longer than LONGEST_REPEATED."""
    data = rng.choice(corpus)
    for _ in range(1 + int(rng.expovariate(1)) % 4):
        data = rng.choice(_CHANGES)(rng, data, corpus, tokens)[:LONGEST]
    if rng.random() < 0.003:
        data = _repeated(rng, data)
    return data


_Change = Callable[[random.Random, bytes, Sequence[bytes], Sequence[bytes]], bytes]


def _span(rng: random.Random, data: bytes, longest: int = 64) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.randint(0, longest))


def _byte(rng: random.Random, data: bytes, _corpus: Sequence[bytes], _tokens: Sequence[bytes]) -> bytes:
    start, _ = _span(rng, data)
    return data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :]


def _cut(rng: random.Random, data: bytes, _corpus: Sequence[bytes], _tokens: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _token(rng: random.Random, data: bytes, _corpus: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """A token put in, or in place of a word: that is where it is most often read."""
    start, end = _span(rng, data, 8)
    if rng.random() < 0.7:
        words = [*_words(data)]
        if words:
            start, end = rng.choice(words)
    return data[:start] + rng.choice(tokens) + data[end:]


def _words(data: bytes) -> list[tuple[int, int]]:
    """Where the words of a part of the input begin and end."""
    found: list[tuple[int, int]] = []
    start = -1
    for at, byte in enumerate(data[:4096] + b" "):
        if byte in b' \n\t,:"{}[]/=':
            if start >= 0:
                found.append((start, at))
            start = -1
        elif start < 0:
            start = at
    return found


def _line(rng: random.Random, data: bytes, _corpus: Sequence[bytes], _tokens: Sequence[bytes]) -> bytes:
    """A line taken out, doubled, or put elsewhere."""
    lines = data.split(b"\n")
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randint(0, 2)):
        lines.insert(rng.randint(0, len(lines)), line)
    return b"\n".join(lines)


def _spliced(rng: random.Random, data: bytes, corpus: Sequence[bytes], _tokens: Sequence[bytes]) -> bytes:
    """A part of another input put in."""
    other = rng.choice(corpus)
    start, end = _span(rng, other, 400)
    at, behind = _span(rng, data, 100)
    return data[:at] + other[start:end] + data[behind:]


def _tree(rng: random.Random, data: bytes, corpus: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One node of a tree replaced, taken out or doubled; written again as JSON or as YAML. Else a token."""
    head, separator, body = data.rpartition(b"\0")  # as stored rows are written here
    try:
        # The documents as libyaml has them: not as the program under test does.
        documents = list(yaml.load_all(body.decode(), Loader=yaml.CSafeLoader)) if len(body) < 4096 else []
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError):
        documents = []
    trees = [number for number, document in enumerate(documents) if isinstance(document, dict | list)]
    if not trees:
        return _token(rng, data, corpus, tokens)
    number = rng.choice(trees)
    try:
        documents[number] = _changed(rng, documents[number], [documents[each] for each in trees])
        if rng.random() < 0.5 or len(documents) > 1:
            text = yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
        else:
            text = json.dumps(documents[0], ensure_ascii=False)
        return head + separator + text.encode()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):  # a value that one of them has no word for
        return _token(rng, data, corpus, tokens)


def _changed(rng: random.Random, tree: Any, trees: list[Any]) -> Any:
    places = list(_places(tree))
    if not places:
        return rng.choice(_VALUES)
    parent, key = rng.choice(places)
    match rng.randrange(4):
        case 0:
            del parent[key]
        case 1:  # a value from elsewhere
            others = list(_places(rng.choice(trees)))
            other, where = rng.choice(others) if others else (parent, key)
            parent[key] = json.loads(json.dumps(other[where]))
        case 2 if isinstance(parent, list):
            parent.insert(key, parent[key])
        case 2:
            parent[rng.choice(("", "name", "ports", "\x1b", "a" * 300, "<<"))] = parent.pop(key)
        case _:
            parent[key] = rng.choice(_VALUES)
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every node but the root, as its parent and where it is there."""
    found: list[tuple[Any, Any]] = []
    rest = [tree]
    while rest and len(found) < 500:
        parent = rest.pop()
        for key in list(parent) if isinstance(parent, dict) else range(len(parent)):
            found.append((parent, key))
            if isinstance(parent[key], dict | list):
                rest.append(parent[key])
    return found


_CHANGES: tuple[_Change, ...] = (_byte, _cut, _token, _token, _line, _spliced, _tree, _tree, _tree)


def _repeated(rng: random.Random, data: bytes) -> bytes:
    """A part of the input many times over."""
    start, end = _span(rng, data, rng.choice((1, 8, 64, 1024)))
    part = data[start:end] or b"0"
    return data[:start] + part * (LONGEST_REPEATED // len(part) >> rng.randrange(8)) + data[end:]
