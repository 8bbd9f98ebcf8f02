"""The kernel's rules as values: a rule is a list of instructions of a small machine with sixteen registers.

nft's language has no part here: ``ip saddr @clients drop`` is "load four bytes at offset 12 of the network header
into register 0; go on if the set ``clients`` has what is in register 0; drop". An ``Instruction`` is one of these,
with its operands by name; ``pack`` and ``unpack`` are its form in a message (NFTA_RULE_EXPRESSIONS).

What one kernel spells in several ways has one value here, so that what was sent and what is told back are equal:

* A register of 4 bytes has a number from 0 to 15. Messages have two numbers for those that begin 16 bytes.
* The kernel tells operands that it was not given, such as offsets of 0; ``unpack`` leaves these out.
* A set is named; its number in the transaction (NFTA_LOOKUP_SET_ID), for sets without a name, is left out.

What is not known here, instructions as well as operands, becomes an ``Opaque`` value, equal to nothing of ours.

Source: linux/netfilter/nf_tables.h; net/netfilter/nft_*.c (what each dump function tells); libnftnl src/expr/*.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from nodeport_nft.kernel.netlink.layouts import DATA_VALUE, DATA_VERDICT
from nodeport_nft.kernel.netlink.messages import NESTED, attribute, find, walk

VERDICT = -1
"""The register of verdicts, which is none of the sixteen."""

REGISTER_SIZE = 4
"""Bytes of a register. What is longer takes several that follow each other."""

_EXPR_NAME, _EXPR_DATA, _LIST_ELEM = 1, 2, 1  # NFTA_EXPR_*, NFTA_LIST_ELEM
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2  # NFTA_VERDICT_*
_WHOLE, _FIRST = 4, 8  # NFT_REG_1 to NFT_REG_4 are 16 bytes each; NFT_REG32_00 is the first of 4 bytes
_U32, _U64, _I32 = struct.Struct(">I"), struct.Struct(">Q"), struct.Struct(">i")


class Verdict(NamedTuple):
    """A verdict (NFT_JUMP, NF_DROP, ...), and the chain that it leads to, if it leads to one."""

    code: int
    chain: str = ""


DROP, JUMP, GOTO = 0, -3, -4
"""Codes of verdicts."""

Operand = int | str | bytes | Verdict


class Instruction(Struct, frozen=True):
    """``kind`` is the kernel's name of it; the operands stand in the order of their attributes' numbers."""

    kind: str
    operands: tuple[tuple[str, Operand], ...]

    def __getitem__(self, name: str) -> Operand | None:
        """An operand; None if it has none of this name."""
        return next((operand for known, operand in self.operands if known == name), None)


class Opaque(Struct, frozen=True):
    """An instruction, or a form of one, that is not known here: its name and attributes as the kernel tells them."""

    kind: str
    attributes: bytes


# --- how an operand is packed -----------------------------------------------------------------------------


class _Form(NamedTuple):
    """``flag`` is set in the type of attributes that hold others."""

    pack: Callable[[Operand], bytes]
    unpack: Callable[[bytes], Operand]
    flag: int = 0


def _register(number: Operand) -> bytes:
    assert isinstance(number, int)
    if number == VERDICT:
        return _U32.pack(0)
    return _U32.pack(_FIRST + number if number % 4 else 1 + number // 4)


def _read_register(data: bytes) -> int:
    (number,) = _U32.unpack(data)
    if number == 0:
        return VERDICT
    return (number - 1) * 4 if number <= _WHOLE else int(number) - _FIRST


def _datum(value: Operand) -> bytes:
    if not isinstance(value, Verdict):
        assert isinstance(value, bytes)
        return attribute(DATA_VALUE, value)
    chain = attribute(_VERDICT_CHAIN, value.chain.encode() + b"\0") if value.chain else b""
    return attribute(DATA_VERDICT | NESTED, attribute(_VERDICT_CODE, _I32.pack(value.code)) + chain)


def _read_datum(data: bytes) -> bytes | Verdict:
    start, end = find(data, 0, len(data), DATA_VALUE)
    if start:
        return data[start:end]
    start, end = find(data, 0, len(data), DATA_VERDICT)
    (number,) = _I32.unpack(data[slice(*find(data, start, end, _VERDICT_CODE))])
    return Verdict(number, _read_text(data[slice(*find(data, start, end, _VERDICT_CHAIN))]))


def _read_text(data: bytes) -> str:
    return data.rstrip(b"\0").decode()


def _number(layout: struct.Struct) -> _Form:
    return _Form(layout.pack, lambda data: int(layout.unpack(data)[0]))


_BYTE, _NUMBER, _LONG = _number(struct.Struct(">B")), _number(_U32), _number(_U64)
_REGISTER = _Form(_register, _read_register)
_TEXT = _Form(lambda text: str(text).encode() + b"\0", _read_text)
_DATUM = _Form(_datum, _read_datum, NESTED)


# --- what each kind of instruction has --------------------------------------------------------------------

_KINDS: dict[str, dict[str, tuple[int, _Form]]] = {
    "payload": {"to": (1, _REGISTER), "base": (2, _NUMBER), "offset": (3, _NUMBER), "length": (4, _NUMBER)},
    "meta": {"to": (1, _REGISTER), "key": (2, _NUMBER), "source": (3, _REGISTER)},
    "ct": {"to": (1, _REGISTER), "key": (2, _NUMBER), "direction": (3, _BYTE), "source": (4, _REGISTER)},
    "fib": {"to": (1, _REGISTER), "result": (2, _NUMBER), "flags": (3, _NUMBER)},
    "numgen": {"to": (1, _REGISTER), "modulus": (2, _NUMBER), "type": (3, _NUMBER), "offset": (4, _NUMBER)},
    "hash": {
        "source": (1, _REGISTER),
        "to": (2, _REGISTER),
        "length": (3, _NUMBER),
        "modulus": (4, _NUMBER),
        "seed": (5, _NUMBER),
        "offset": (6, _NUMBER),
        "type": (7, _NUMBER),
    },
    "immediate": {"to": (1, _REGISTER), "value": (2, _DATUM)},
    "bitwise": {
        "source": (1, _REGISTER),
        "to": (2, _REGISTER),
        "length": (3, _NUMBER),
        "mask": (4, _DATUM),
        "xor": (5, _DATUM),
        "operation": (6, _NUMBER),
    },
    "byteorder": {
        "source": (1, _REGISTER),
        "to": (2, _REGISTER),
        "operation": (3, _NUMBER),
        "length": (4, _NUMBER),
        "size": (5, _NUMBER),
    },
    "cmp": {"source": (1, _REGISTER), "operation": (2, _NUMBER), "value": (3, _DATUM)},
    "lookup": {
        "set": (1, _TEXT),
        "source": (2, _REGISTER),
        "to": (3, _REGISTER),
        "set_number": (4, _NUMBER),
        "flags": (5, _NUMBER),
    },
    "dynset": {
        "set": (1, _TEXT),
        "set_number": (2, _NUMBER),
        "operation": (3, _NUMBER),
        "source": (4, _REGISTER),
        "timeout": (6, _LONG),
        "flags": (9, _NUMBER),
    },
    "nat": {
        "type": (1, _NUMBER),
        "family": (2, _NUMBER),
        "address": (3, _REGISTER),
        "last_address": (4, _REGISTER),
        "port": (5, _REGISTER),
        "last_port": (6, _REGISTER),
        "flags": (7, _NUMBER),
    },
    "masq": {"flags": (1, _NUMBER), "port": (2, _REGISTER), "last_port": (3, _REGISTER)},
    "reject": {"type": (1, _NUMBER), "code": (2, _BYTE)},
    "flow_offload": {"flowtable": (1, _TEXT)},
}
_NAMES = {
    kind: {number: (name, form) for name, (number, form) in operands.items()} for kind, operands in _KINDS.items()
}

_UNSAID = {
    "numgen": {"offset": 0},
    "hash": {"offset": 0, "type": 0},
    "bitwise": {"operation": 0},
    "lookup": {"flags": 0},
    "dynset": {"flags": 0},
    "nat": {"flags": 0},
}
"""What an operand is where it is not given."""

_PADS = {"dynset": 8}
"""Attributes without a meaning: NFTA_DYNSET_PAD."""

_NAT_MAP_IPS, _NAT_PROTO_SPECIFIED, _REJECT_TCP_RESET = 1, 2, 1
_IMPLIED = _NAT_MAP_IPS | _NAT_PROTO_SPECIFIED
"""Flags of NAT that say no more than that there are an address and a port; the kernel sets them itself."""


def instruct(kind: str, **operands: Operand) -> Instruction:
    """An instruction, its operands in any order. Raises KeyError over what it cannot have."""
    known = _KINDS[kind]
    return Instruction(kind, tuple(sorted(operands.items(), key=lambda operand: known[operand[0]][0])))


# --- to and from messages ---------------------------------------------------------------------------------


def pack(instructions: Iterable[Instruction]) -> bytes:
    """The payload of NFTA_RULE_EXPRESSIONS."""
    return b"".join(map(_packed, instructions))


@lru_cache(maxsize=4096)  # a rule differs from others in one or two of its instructions
def _packed(instruction: Instruction) -> bytes:
    known = _KINDS[instruction.kind]
    parts = []
    for name, operand in instruction.operands:
        number, form = known[name]
        parts.append(attribute(number | form.flag, form.pack(operand)))
    naming = attribute(_EXPR_NAME, instruction.kind.encode() + b"\0")
    return attribute(_LIST_ELEM | NESTED, naming + attribute(_EXPR_DATA | NESTED, b"".join(parts)))


def unpack(data: bytes) -> tuple[Instruction | Opaque, ...]:
    """What the payload of NFTA_RULE_EXPRESSIONS says."""
    return tuple(_unpacked(data[start:end]) for _, start, end in walk(data, 0, len(data)))


@lru_cache(maxsize=4096)  # a rule differs from others in one or two of its instructions
def _unpacked(data: bytes) -> Instruction | Opaque:
    kind = data[slice(*find(data, 0, len(data), _EXPR_NAME))].rstrip(b"\0").decode(errors="replace")
    attributes = data[slice(*find(data, 0, len(data), _EXPR_DATA))]
    opaque = Opaque(kind, attributes)
    if kind not in _NAMES:
        return opaque
    operands: dict[str, Operand] = {}
    try:
        for number, start, end in sorted(walk(attributes, 0, len(attributes))):
            if number != _PADS.get(kind):
                name, form = _NAMES[kind][number]
                operands[name] = form.unpack(attributes[start:end])
    except (KeyError, ValueError, struct.error):
        return opaque
    _leave_out(kind, operands)
    return Instruction(kind, tuple(operands.items()))


def _leave_out(kind: str, operands: dict[str, Operand]) -> None:
    """Remove what says nothing."""
    operands.pop("set_number", None)
    flags = operands.get("flags")
    if kind == "nat" and isinstance(flags, int):
        operands["flags"] = flags & ~_IMPLIED
    if kind == "reject" and operands.get("type") == _REJECT_TCP_RESET:
        operands.pop("code", None)
    for last, first in (("last_address", "address"), ("last_port", "port")):
        if last in operands and operands[last] == operands.get(first):
            del operands[last]
    for name, unsaid in _UNSAID.get(kind, {}).items():
        if operands.get(name) == unsaid:
            del operands[name]
