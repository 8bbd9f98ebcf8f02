"""A table's listing (``nft list table``) → values.

Only our own tables are read, but anybody may have changed them, so nothing is taken for granted: an element or a
line of an unknown form leaves the table unequal to its schema, and it is then replaced.

Rules that do not depend on services are compared as text, in the spelling nft lists them; where spellings differ
between versions (``or`` for ``|``, a mark's zeros, a priority's name, the one bit that looks like a prefix, the
``meta l4proto tcp`` that a TCP reset implies) both sides are brought to one. Seen to agree: what nft 1.0.6 and 1.1.3
write and list, in all four combinations.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from msgspec import field

from nodeport_nft.plan import ListedTable
from nodeport_nft.render.write import FLOWTABLE_LINES, chain_lines, map_lines, schema_comment
from nodeport_nft.ruleset import LEARNED_SIZE, Chain, Element, Field, Goto, Key, Map, Memory, Schema, Value
from tests.listings.rules import read_rules, read_time


class _Unreadable(Exception):
    """A map holds something we never write; ``str()`` says what."""


class ListedText(ListedTable):
    """A table as nft lists it: what does not depend on services as normalized text, the rest as values.

    ``faults``: what else is there that we never write, for people.
    """

    comment: str = ""
    maps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    flowtables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def schema_differences(listed: ListedText, schema: Schema) -> tuple[str, ...]:
    """What of a listed table is not as in ``schema``, named for people: ``chain services``, …; () if equal."""
    wanted_maps, wanted_chains = _expected(schema)
    flowtables = {schema.flowtable: FLOWTABLE_LINES} if schema.flowtable else {}
    compared = (
        ("map or set", listed.maps, wanted_maps),
        ("chain", listed.chains, wanted_chains),
        ("flowtable", listed.flowtables, flowtables),
    )
    found = [
        f"{kind} {_told(name)}"
        for kind, held, wanted in compared
        for name in sorted({*held, *wanted})
        if held.get(name) != wanted.get(name)
    ]
    found += listed.faults
    if listed.comment != schema_comment(schema):
        found.append("the table's comment")
    return tuple(found)


@lru_cache(maxsize=4)  # as that of schema_comment
def _expected(schema: Schema) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """The normalized lines of a schema's maps, and those of its chains; not to be changed."""
    maps = {declared.name: _normalized(map_lines(schema.family, declared)) for declared in schema.maps}
    chains = {chain.name: _normalized(chain_lines(schema.family, chain)) for chain in schema.chains}
    return maps, chains


_BLOCK = re.compile(r"\t(map|set|chain|flowtable) (\S+) \{$")
# Names that go into commands. One that nft's language has no word for cannot be deleted but with its table.
_OURS = re.compile(r"[A-Za-z0-9_./-]{1,255}")
_CHAIN_COMMENT = re.compile(r'comment "([^"]*)"')
_DEVICES = re.compile(r"devices = \{[^{}]*\}")
_COMMENT = re.compile(r'\tcomment "([^"]*)"$')
# Where /etc/protocols is missing, nft lists numbers. A protocol that is none of ours stays as it is listed.
_PROTOCOLS = {"tcp": "tcp", "udp": "udp", "sctp": "sctp", "6": "tcp", "17": "udp", "132": "sctp"}


def read_table(text: str, schema: Schema) -> ListedText:
    """Read the listing of our table; ``schema`` says how the keys of its maps are made up.

    A map or chain that neither the schema has nor a service may add makes the table unequal to it, and so does an
    element that cannot be one of ours.
    """
    table = ListedText()
    declared = {m.name: m for m in schema.maps}
    lines = iter(text.splitlines())
    for line in lines:
        if match := _BLOCK.match(line):
            kind, name = match.groups()
            body = tuple(_body(lines))
            if kind == "flowtable":
                # Its devices come and go with the links of the host.
                table.flowtables[name] = _normalized(_DEVICES.sub("", "\n".join(body)).splitlines())
            elif kind == "chain" and schema.is_own_chain(name) and _OURS.fullmatch(name):
                _read_own_chain(table, schema, name, body)
            elif kind == "chain":
                table.chains[name] = _normalized(body)
            elif (own := schema.own_map(name)) and _OURS.fullmatch(name):
                _read_own_map(table, schema, own, body)
            elif name in declared:
                table.maps[name] = _normalized(_head(body))
                _read_elements(table, declared[name], body)
            else:
                table.faults += (f"{kind} {_told(name)}",)
        elif match := _COMMENT.match(line):
            table.comment = match[1]
        elif line.strip() and line != "}" and not line.startswith("table "):
            table.faults += (f"{line.strip()!r}",)
    table.differences = schema_differences(table, schema)
    return table


def _read_own_chain(table: ListedText, schema: Schema, name: str, body: tuple[str, ...]) -> None:
    lines = [line.strip() for line in body if line.strip()]
    comment = _CHAIN_COMMENT.fullmatch(lines[0]) if lines else None
    rules = read_rules(schema.family, lines[1:] if comment else lines, _normal)
    if rules is None:
        table.unreadable += (name,)
    table.own_chains[name] = Chain(name, rules or (), comment=comment[1] if comment else "")


def _read_own_map(table: ListedText, schema: Schema, declared: Map, body: tuple[str, ...]) -> None:
    size = f"size {LEARNED_SIZE}"  # the kernel's, not ours
    held = tuple(line for line in _normalized(_head(body)) if not (declared.learned and line == size))
    if held != _normalized(map_lines(schema.family, declared)):
        table.faults += (f"set {declared.name}",)  # its type cannot be changed: the table has to be made anew
        return
    table.own_maps[declared.name] = declared
    if declared.learned:
        # What somebody else may have put in has no timeout, or a comment: it is of no use, and does no harm.
        found = _MEMORY.finditer("\n".join(body))
        table.memories[declared.name] = tuple(Memory((m[1],), read_time(m[2]), read_time(m[3])) for m in found)
    else:
        _read_elements(table, declared, body)


def _read_elements(table: ListedText, declared: Map, body: tuple[str, ...]) -> None:
    try:
        table.elements[declared.name] = _elements(declared, body)
    except _Unreadable as error:
        table.faults += (str(error),)


def _told(name: str) -> str:
    """A name as people are told it: over netlink, anybody may give a set or a chain any name."""
    return name if name.isprintable() else ascii(name)


def _body(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line == "\t}":
            return
        yield line


def _head(body: Iterable[str]) -> Iterator[str]:
    for line in body:
        if line.startswith("\t\telements = {"):
            return
        yield line


def _elements(declared: Map, body: tuple[str, ...]) -> dict[Key, Element]:
    key_of = _key_reader(declared)
    elements: dict[Key, Element] = {}
    for match in _matches(_element_pattern(declared), declared, body):
        key = key_of(match)
        elements[key] = Element(key, _value(declared, match), sys.intern(match["comment"] or ""))
    return elements


def _matches(pattern: re.Pattern[str], declared: Map, body: tuple[str, ...]) -> Iterator[re.Match[str]]:
    """Each element of a map. Raises _Unreadable for one that the pattern does not fit."""
    start = next((i for i, line in enumerate(body) if line.startswith("\t\telements = {")), None)
    if start is None:
        return
    rows = list(body[start:])
    rows[0] = rows[0].removeprefix("\t\telements = {")
    rows[-1] = rows[-1].rstrip().removesuffix("}")
    text = "\n".join(rows).strip()
    end = 0
    for match in pattern.finditer(text):
        if match.start() != end:
            break
        end = match.end()
        yield match
    if end != len(text):
        raise _Unreadable(f"map {declared.name} holds an unknown element: {text[end : end + 100]!r}")


# Bounded, so that a text of nothing but digits takes no longer than any other, and no number is beyond Python.
_ADDRESS = r"[0-9a-f.:]{2,45}"
_NUMBER = r"[0-9]{1,10}"
_MEMORY = re.compile(rf"(?<![0-9a-f.:])({_ADDRESS}) timeout (\w{{1,40}}) expires (\w{{1,40}})", re.ASCII)
_PARTS = {
    Field.SADDR: rf"({_ADDRESS}(?:/[0-9]{{1,3}})?)",
    Field.DADDR: rf"({_ADDRESS}(?:/[0-9]{{1,3}})?)",
    Field.L4PROTO: r"([a-z0-9_-]{1,40})",
    Field.DPORT: rf"({_NUMBER})",
    Field.SLOT: rf"({_NUMBER})",
}
_COUNTER = r"(?: counter packets [0-9]{1,20} bytes [0-9]{1,20})?"
_VERDICT = r" : (?:goto (?P<chain>[^\s,]+)|(?P<verdict>[^,\n]+?))"
_ENDPOINT = rf" : (?P<address>{_ADDRESS}) \. (?P<port>{_NUMBER})"


def _element_pattern(declared: Map) -> re.Pattern[str]:
    """One element with the comma behind it; elements must follow each other without a gap."""
    key = r" \. ".join(_PARTS[part] for part in declared.key)
    comment = rf'{_COUNTER}(?: comment "(?P<comment>[^"]*)")?{_COUNTER}'
    value = "" if declared.data is None else _VERDICT if declared.data == "verdict" else _ENDPOINT
    return re.compile(rf"\s*{key}{comment}{value}(?:,|$)")


def _key_reader(declared: Map) -> Callable[[re.Match[str]], Key]:
    kinds = [_KINDS[part] for part in declared.key]
    count = len(kinds)

    def read(match: re.Match[str]) -> Key:
        return tuple([kind(part) for kind, part in zip(kinds, match.groups()[:count], strict=True)])

    return read


def _protocol(part: str) -> str:
    return _PROTOCOLS.get(part, part)


# The same addresses come back in many elements: interned, each is held once.
_KINDS: dict[Field, Callable[[str], str | int]] = {
    Field.SADDR: sys.intern,
    Field.DADDR: sys.intern,
    Field.L4PROTO: _protocol,
    Field.DPORT: int,
    Field.SLOT: int,
}


def _value(declared: Map, match: re.Match[str]) -> Value:
    if declared.data is None:
        return None
    if declared.data == "verdict":
        return Goto(sys.intern(match["chain"] or match["verdict"]))
    return sys.intern(match["address"]), int(match["port"])


def _normalized(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(_normal(line.strip()) for line in lines if line.strip())


_HEX = re.compile(r"\b0x0*([0-9a-f]+)\b")


def _normal(line: str) -> str:
    line = line.replace("meta l4proto tcp reject with tcp reset", "reject with tcp reset")
    line = line.replace("priority dstnat;", "priority -100;").replace("priority srcnat;", "priority 100;")
    line = line.replace("hook forward priority filter;", "hook forward priority 0;")
    line = line.replace("meta mark 0x80000000/1 ", "meta mark & 0x80000000 == 0x80000000 ")
    line = line.replace(" or 0x", " | 0x").replace(" xor 0x", " ^ 0x").replace(" and 0x", " & 0x")
    return _HEX.sub(r"0x\1", line)
