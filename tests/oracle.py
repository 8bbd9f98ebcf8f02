"""What libnftables makes of the text that we render: the messages that ours are held against."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from nodeport_nft.kernel.libnftables.library import Library
from nodeport_nft.kernel.netlink.batch import Message
from nodeport_nft.plan import Transaction
from nodeport_nft.render import write_transaction
from tests.by_text import NOTHING

_NEWRULE, _NEWSET, _NEWSETELEM = 6, 9, 12
_RULE_EXPRESSIONS, _SET_NUMBER = 4, 10
_SET_NUMBERS = {b"lookup\0": 4, b"dynset\0": 2}  # NFTA_LOOKUP_SET_ID, NFTA_DYNSET_SET_ID
_NAT_FLAGS = 7
_PROTO_SPECIFIED = struct.pack(">I", 2)

Tree = list[tuple[int, object]]
"""Attributes in the order of their numbers, those of one number as they came: each with its payload or its own."""


def by_libnftables(transactions: Iterable[Transaction], library: Library) -> list[Message]:
    """The messages that carry these transactions out, which must need nothing that the kernel has already."""
    done = library.run("".join(map(write_transaction, transactions)), NOTHING)
    assert done.code == 0, done.error[:2000]
    return done.messages


def spelled(messages: Iterable[Message]) -> dict[int, list[object]]:
    """What the messages say, by NFT_MSG_*, but for elements: as equal values where they mean the same.

    Sets are known by their names, and not by their numbers in the transaction. What is 0 is as good as left out. To
    translate the port follows from there being one.
    """
    said: dict[int, list[object]] = {}
    for kind, flags, family, attributes in messages:
        number = kind & 0xFF
        if number == _NEWSETELEM:
            continue
        tree = _tree(attributes)
        if number == _NEWSET:
            tree = [each for each in tree if each[0] != _SET_NUMBER]
        if number == _NEWRULE:
            tree = [(named, _rule(held) if named == _RULE_EXPRESSIONS else held) for named, held in tree]
        said.setdefault(number, []).append((flags & ~1, family, tree))  # NLM_F_REQUEST goes without saying
    return said


def _tree(data: bytes) -> Tree:
    found: Tree = []
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        payload = data[at + 4 : at + length]
        found.append((kind & 0x3FFF, _tree(payload) if kind & 0x8000 else payload))
        at += length + 3 & ~3
    return sorted(found, key=lambda attribute: attribute[0])


def _rule(expressions: object) -> list[object]:
    """The instructions one by one: the name of each, and its operands."""
    assert isinstance(expressions, list)
    instructions: list[object] = []
    for _, [(_, name), (_, operands)] in expressions:
        said = [each for each in operands if isinstance(each[1], list) or any(each[1])]
        said = [each for each in said if each[0] != _SET_NUMBERS.get(name)]
        if name == b"nat\0":
            said = [each for each in said if each != (_NAT_FLAGS, _PROTO_SPECIFIED)]
        instructions.append((name, said))
    return instructions
