"""Instructions of the kernel's machine back into rules, where they are rules that we write.

They are carried out on descriptions instead of packets: each register has what was loaded into it. So it does not
matter which registers were chosen; versions of nft differ in that. A rule that has been recognised is assembled
again, and has to be what was there but for its registers: nothing has been passed over.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

from nodeport_nft.kernel.netlink.expressions import (
    DROP,
    GOTO,
    JUMP,
    VERDICT,
    Instruction,
    Opaque,
    Operand,
    Verdict,
)
from nodeport_nft.kernel.netlink.layouts import address_text
from nodeport_nft.kernel.netlink.rules import (
    ADDRESS_OFFSETS,
    ADDRESS_SIZES,
    CMP_EQ,
    CMP_LT,
    CMP_NEQ,
    CT_STATE,
    CT_STATUS,
    DNAT,
    FIB_SADDR,
    INTERFACE_SIZE,
    META_IIFNAME,
    META_L4PROTO,
    META_MARK,
    NETWORK_HEADER,
    PORT_OFFSETS,
    PORT_SIZE,
    PROTOCOLS,
    REJECT_TCP_RESET,
    TRANSPORT_HEADER,
    assemble,
    registers,
)
from nodeport_nft.ruleset import (
    Dispatch,
    Dnat,
    DnatSlot,
    Drop,
    Established,
    Field,
    Goto,
    GotoChance,
    InSet,
    Interface,
    Jump,
    Learn,
    Local,
    MarkFlip,
    MarkHas,
    MarkSet,
    Masquerade,
    NotIn,
    Offload,
    Reject,
    Rule,
    Statement,
    Translated,
)

_REGISTERS = frozenset({"to", "source", "address", "port"})
"""Operands that are registers."""

_PORTS = {offset: field for field, offset in PORT_OFFSETS.items()}
_ADDRESSES = {(family, offset): field for (family, field), offset in ADDRESS_OFFSETS.items()}
_PROTOCOL_NAMES = {int(number): name for name, number in PROTOCOLS.items()}
_ALL_BITS = 0xFFFFFFFF


def matches(family: str, rule: Rule, instructions: tuple[Instruction | Opaque, ...]) -> bool:
    """Whether these instructions are this rule, whatever registers they use."""
    return instructions == assemble(family, rule) or disassemble(family, instructions) == rule


def disassemble(family: str, instructions: Iterable[Instruction | Opaque]) -> Rule | None:
    """The rule of a table of this family that these instructions are; None where it is none that we write."""
    known = [instruction for instruction in instructions if isinstance(instruction, Instruction)]
    reader = _Reader(family)
    try:
        for instruction in known:
            reader.take(instruction)
        rule = tuple(reader.statements)
        again = assemble(family, rule)
    except (_UnknownError, LookupError, ValueError, OSError, struct.error):
        return None
    # Also where some were opaque, or a protocol was asked for that nothing came after.
    return rule if list(map(_spelling, again)) == list(map(_spelling, instructions)) else None


def _spelling(instruction: Instruction | Opaque) -> object:
    """What an instruction says but for its registers; verdicts are told from those."""
    if isinstance(instruction, Opaque):
        return instruction
    operands = instruction.operands
    return instruction.kind, [(name, v == VERDICT if name in _REGISTERS else v) for name, v in operands]


class _UnknownError(Exception):
    """What is done here is none of our statements."""


class _Masked(NamedTuple):
    """What was loaded, after ``& mask ^ xor``."""

    loaded: object
    mask: bytes
    xor: bytes


class _Ordered(NamedTuple):
    """What was loaded, brought to network byte order."""

    loaded: object


class _Part(NamedTuple):
    """The first bytes of an address."""

    field: Field
    size: int


class _Hashed(NamedTuple):
    """A hash of fields."""

    hash: Instruction
    fields: tuple[Field, ...]


class _Reader:
    """Collects the statements of one rule; ``_loaded`` is what each register has, by its number."""

    def __init__(self, family: str) -> None:
        self.statements: list[Statement] = []
        self._family = family
        self._size = ADDRESS_SIZES[family]
        self._loaded: dict[object, object] = {}
        self._protocol = ""
        self._chance: Instruction | None = None
        self._share = 0

    def take(self, instruction: Instruction) -> None:
        """Carry it out. Raises _UnknownError, or what comes of values that are none of ours."""
        operands = dict(instruction.operands)
        to, source = operands.get("to"), operands.get("source")
        match instruction.kind:
            case "payload":
                self._loaded[to] = self._field(operands)
            case "meta" if source is not None:
                self._set_mark(self._at(source))
            case "meta" if operands["key"] == META_L4PROTO:
                self._loaded[to] = Field.L4PROTO
            case "meta" | "ct" | "fib" | "numgen":
                self._loaded[to] = instruction
            case "hash":
                self._loaded[to] = _Hashed(instruction, self._fields(source))
            case "bitwise":
                mask, xor = _bytes(operands["mask"]), _bytes(operands["xor"])
                self._loaded[to] = _Masked(self._at(source), mask, xor)
            case "byteorder":
                self._loaded[to] = _Ordered(self._at(source))
            case "immediate" if to == VERDICT:
                self._decide(operands["value"])
            case "immediate":
                self._loaded[to] = _bytes(operands["value"])
            case "cmp":
                self._compare(self._at(source), operands["operation"], _bytes(operands["value"]))
            case "lookup":
                self._look_up(str(operands["set"]), source, to, negated="flags" in operands)
            case "dynset" if self._fields(source) == (Field.SADDR,):
                self._add(Learn(str(operands["set"]), _int(operands["timeout"]) // 1000))
            case "nat" if operands["type"] == DNAT:
                self._translate(operands["address"], operands["port"])
            case "masq":
                self._add(Masquerade())
            case "reject":
                self._reject(tcp_reset=operands["type"] == REJECT_TCP_RESET)
            case "flow_offload":
                self._add(Offload(str(operands["flowtable"])))
            case _:
                raise _UnknownError

    def _add(self, statement: Statement) -> None:
        self.statements.append(statement)
        self._loaded.clear()  # nothing of it is used by the next one

    def _at(self, register: object) -> object:
        """What a register has; it must have been loaded."""
        return self._loaded[register]

    def _field(self, operands: dict[str, Operand]) -> object:
        base, offset, length = (_int(operands[name]) for name in ("base", "offset", "length"))
        if base == TRANSPORT_HEADER and length == PORT_SIZE:
            return _PORTS[offset]
        if base != NETWORK_HEADER or length > self._size:
            raise _UnknownError
        address = _ADDRESSES[self._family, offset]
        return address if length == self._size else _Part(address, length)

    def _fields(self, first: object) -> tuple[Field, ...]:
        """The fields that stand one behind the other from a register on."""
        found: list[Field] = []
        at = _int(first)
        while isinstance(field := self._loaded.get(at), Field):
            found.append(field)
            at += registers(self._family, (field,))
        return tuple(found)

    def _set_mark(self, value: object) -> None:
        if not isinstance(value, _Masked) or not isinstance(value.loaded, Instruction):
            raise _UnknownError
        mask, bits = _host(value.mask), _host(value.xor)
        self._add(MarkFlip(bits) if mask == _ALL_BITS else MarkSet(bits))

    def _decide(self, verdict: Operand) -> None:
        match verdict:
            case Verdict(code, chain) if code == GOTO and self._chance:
                self._add(GotoChance(chain, self._share, _int(self._chance["modulus"])))
                self._chance = None
            case Verdict(code, chain) if code == GOTO:
                self._add(Goto(chain))
            case Verdict(code, chain) if code == JUMP:
                self._add(Jump(chain))
            case Verdict(code) if code == DROP:
                self._add(Drop())
            case _:
                raise _UnknownError

    def _compare(self, what: object, operation: object, value: bytes) -> None:
        match what, operation:
            case Field.L4PROTO, _ if operation == CMP_EQ:
                self._protocol = _PROTOCOL_NAMES[value[0]]
            case Field() as field, _ if operation == CMP_NEQ:
                self._add(NotIn(field, self._prefix(value, 8 * len(value))))
            case _Part(field), _ if operation == CMP_NEQ:
                self._add(NotIn(field, self._prefix(value, 8 * len(value))))
            case _Masked(Field() as field, mask), _ if operation == CMP_NEQ:
                self._add(NotIn(field, self._prefix(value, int.from_bytes(mask, "big").bit_count())))
            case _Masked(Instruction(kind) as loaded, mask), _:
                match kind, loaded["key"]:
                    case "ct", key if key == CT_STATUS:
                        self._add(Translated())
                    case "ct", key if key == CT_STATE:
                        self._add(Established())
                    case "meta", key if key == META_MARK:
                        self._add(MarkHas(_host(mask)))
                    case _:
                        raise _UnknownError
            case Instruction("fib") as fib, _:
                self._add(Local(Field.SADDR if fib["flags"] == FIB_SADDR else Field.DADDR))
            case Instruction("meta") as meta, _ if meta["key"] == META_IIFNAME:
                name = value.rstrip(b"\0").decode() + ("*" if len(value) < INTERFACE_SIZE else "")
                self._add(Interface(name, operation == CMP_NEQ))
            case _Ordered(Instruction("numgen") as numgen), _ if operation == CMP_LT:
                self._chance, self._share = numgen, int.from_bytes(value, "big")
            case _:
                raise _UnknownError

    def _prefix(self, address: bytes, bits: int) -> str:
        return f"{address_text(address.ljust(self._size, bytes(1)))}/{bits}"

    def _look_up(self, name: str, source: object, to: object, *, negated: bool) -> None:
        fields = self._fields(source)
        if to is None:
            self._add(InSet(fields, name, negated))
        elif to == VERDICT:
            self._add(Dispatch(fields, name))
        else:
            drawn = self._at(_int(source) + registers(self._family, fields))
            made = self._slot(fields, name, drawn)
            self._loaded.clear()
            self._loaded[to] = made

    def _slot(self, fields: tuple[Field, ...], name: str, drawn: object) -> DnatSlot:
        match drawn:
            case Instruction("numgen"):
                return DnatSlot(fields, _int(drawn["modulus"]), name, _int(drawn["offset"] or 0))
            case _Hashed(made, hashed):
                return DnatSlot(fields, _int(made["modulus"]), name, _int(made["offset"] or 0), hashed)
        raise _UnknownError

    def _translate(self, address: Operand, port: Operand) -> None:
        target = self._at(address)
        if isinstance(target, DnatSlot) and _int(port) == _int(address) + registers(self._family, (Field.DADDR,)):
            self._add(target)
        elif isinstance(target, bytes) and self._protocol:
            number = int.from_bytes(_bytes(self._at(port)), "big")
            self._add(Dnat(self._protocol, self._prefix(target, 0).removesuffix("/0"), number))
            self._protocol = ""
        else:
            raise _UnknownError

    def _reject(self, *, tcp_reset: bool) -> None:
        if tcp_reset:
            self._protocol = ""
        self._add(Reject(tcp_reset))


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise _UnknownError
    return value


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise _UnknownError
    return value


def _host(value: bytes) -> int:
    """A number of this machine."""
    return int.from_bytes(value, sys.byteorder)
