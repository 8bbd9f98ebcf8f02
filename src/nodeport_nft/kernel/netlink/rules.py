"""Rules of the ruleset as instructions of the kernel's machine, as nft 1.0.6 makes them of the text of ``render``.

Each statement becomes some instructions: what it asks about a packet is loaded into registers, then compared, looked
up or used. Keys of several fields stand in registers that follow each other. All of a rule's statements begin again
with the first register. Addresses and ports are in network byte order; marks, connection states and what was drawn
are numbers of this machine.

Source: src/netlink_linearize.c of nftables 1.0.6; linux/netfilter/nf_tables.h, nf_nat.h, nf_conntrack_common.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence

from nodeport_nft.kernel.netlink.expressions import (
    DROP,
    GOTO,
    JUMP,
    REGISTER_SIZE,
    VERDICT,
    Instruction,
    Verdict,
    instruct,
)
from nodeport_nft.ruleset import (
    HASH_SEED,
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

NETWORK_HEADER, TRANSPORT_HEADER = 1, 2  # NFT_PAYLOAD_*
META_MARK, META_IIFNAME, META_L4PROTO = 3, 6, 16  # NFT_META_*
CT_STATE, CT_STATUS = 0, 2  # NFT_CT_*
STATE_ESTABLISHED, STATUS_DNAT = 1 << 1, 1 << 5  # NF_CT_STATE_BIT(IP_CT_ESTABLISHED), IPS_DST_NAT
FIB_ADDRTYPE, FIB_SADDR, FIB_DADDR = 3, 1, 2  # NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_*
ADDRESS_LOCAL = 2  # RTN_LOCAL
CMP_EQ, CMP_NEQ, CMP_LT = 0, 1, 2  # NFT_CMP_*
LOOKUP_INVERTED, DYNSET_UPDATE, TO_NETWORK_ORDER, RANDOM, DNAT = 1, 1, 1, 1, 1  # NFT_LOOKUP_F_INV, ...
REJECT_ICMP, REJECT_TCP_RESET = 0, 1  # NFT_REJECT_*
PORT_UNREACHABLE = {"ip": 3, "ip6": 4}  # linux/icmp.h, icmpv6.h
FULLY_RANDOM = 1 << 4  # NF_NAT_RANGE_PROTO_RANDOM_FULLY
FAMILIES = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}  # the numbers of NFPROTO_IPV4, NFPROTO_IPV6
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
ADDRESS_SIZES = {"ip": 4, "ip6": 16}
ADDRESS_OFFSETS = {
    ("ip", Field.SADDR): 12,
    ("ip", Field.DADDR): 16,
    ("ip6", Field.SADDR): 8,
    ("ip6", Field.DADDR): 24,
}
PORT_OFFSETS = {Field.SPORT: 0, Field.DPORT: 2}
PORT_SIZE = 2
INTERFACE_SIZE = 16  # IFNAMSIZ
_HOST = struct.Struct("=I")

_SECOND = 4
"""The second of the registers of 16 bytes, which nft takes for what is needed besides the first."""


def assemble(family: str, rule: Rule) -> tuple[Instruction, ...]:
    """What the kernel is to do for a rule of a table of this family (``"ip"`` or ``"ip6"``)."""
    return tuple(instruction for statement in rule for instruction in _statement(family, statement))


def _statement(family: str, statement: Statement) -> Iterator[Instruction]:
    match statement:
        case InSet(fields, name, negated):
            yield from _load(family, fields, 0)
            inverted = {"flags": LOOKUP_INVERTED} if negated else {}
            yield instruct("lookup", source=0, set=name, **inverted)
        case NotIn(field, prefix):
            yield from _outside(family, field, prefix)
        case Local(field):
            flags = FIB_SADDR if field is Field.SADDR else FIB_DADDR
            yield instruct("fib", to=0, flags=flags, result=FIB_ADDRTYPE)
            yield _compare(CMP_EQ, _HOST.pack(ADDRESS_LOCAL))
        case Interface(name, negated):
            yield instruct("meta", to=0, key=META_IIFNAME)
            yield _compare(CMP_NEQ if negated else CMP_EQ, _interface(name))
        case Translated():
            yield from _has_bit(CT_STATUS, STATUS_DNAT)
        case Established():
            yield from _has_bit(CT_STATE, STATE_ESTABLISHED)
        case MarkHas(bits):
            yield instruct("meta", to=0, key=META_MARK)
            yield _bitwise(_HOST.pack(bits))
            yield _compare(CMP_EQ, _HOST.pack(bits))
        case MarkSet(bits):
            yield from _mark(~bits & 0xFFFFFFFF, bits)
        case MarkFlip(bits):
            yield from _mark(0xFFFFFFFF, bits)
        case Dispatch(fields, name):
            yield from _load(family, fields, 0)
            yield instruct("lookup", source=0, to=VERDICT, set=name)
        case DnatSlot():
            yield from _dnat_slot(family, statement)
        case Dnat(protocol, address, port):
            yield from _is_protocol(protocol)
            yield instruct("immediate", to=0, value=socket.inet_pton(FAMILIES[family], address))
            yield instruct("immediate", to=_SECOND, value=struct.pack(">H", port))
            yield instruct("nat", type=DNAT, family=int(FAMILIES[family]), address=0, port=_SECOND)
        case GotoChance(chain, share, of):
            yield instruct("numgen", to=0, modulus=of, type=RANDOM)
            # As a number of this machine it cannot be compared: cmp looks at one byte after the other.
            yield instruct("byteorder", source=0, to=0, operation=TO_NETWORK_ORDER, length=4, size=4)
            yield _compare(CMP_LT, struct.pack(">I", share))
            yield _verdict(GOTO, chain)
        case Learn(name, seconds):
            yield from _load(family, (Field.SADDR,), 0)
            yield instruct("dynset", operation=DYNSET_UPDATE, source=0, timeout=seconds * 1000, set=name)
        case Offload(name):
            yield instruct("flow_offload", flowtable=name)
        case Jump(chain):
            yield _verdict(JUMP, chain)
        case Goto(chain):
            yield _verdict(GOTO, chain)
        case Drop():
            yield _verdict(DROP)
        case Reject(tcp_reset=True):
            yield from _is_protocol("tcp")
            yield instruct("reject", type=REJECT_TCP_RESET)
        case Reject():
            yield instruct("reject", type=REJECT_ICMP, code=PORT_UNREACHABLE[family])
        case Masquerade():
            yield instruct("masq", flags=FULLY_RANDOM)


def _dnat_slot(family: str, statement: DnatSlot) -> Iterator[Instruction]:
    slot = registers(family, statement.fields)
    yield from _load(family, statement.fields, 0)
    if statement.hashed:
        # Behind the key, and behind what nft keeps free for the address.
        source = _SECOND + slot + 1
        yield from _load(family, statement.hashed, source)
        # All of the registers are hashed, and what a short field leaves of its own is 0 (nft_payload.c).
        yield instruct(
            "hash",
            source=source,
            to=slot,
            length=registers(family, statement.hashed) * REGISTER_SIZE,
            modulus=statement.slots,
            seed=HASH_SEED,
            **_offset(statement.offset),
        )
    else:
        yield instruct("numgen", to=slot, modulus=statement.slots, type=RANDOM, **_offset(statement.offset))
    yield instruct("lookup", source=0, to=0, set=statement.map)
    port = registers(family, (Field.DADDR,))
    yield instruct("nat", type=DNAT, family=int(FAMILIES[family]), address=0, port=port)


def _offset(number: int) -> dict[str, int]:
    return {"offset": number} if number else {}


def registers(family: str, fields: Iterable[Field]) -> int:
    """How many registers hold these fields."""
    addresses = Field.SADDR, Field.DADDR
    return sum(ADDRESS_SIZES[family] // REGISTER_SIZE if field in addresses else 1 for field in fields)


def _load(family: str, fields: Sequence[Field], first: int) -> Iterator[Instruction]:
    """Load fields into registers that follow each other."""
    for at, field in enumerate(fields):
        to = first + registers(family, fields[:at])
        if field is Field.L4PROTO:
            yield instruct("meta", to=to, key=META_L4PROTO)
        elif field in PORT_OFFSETS:
            yield instruct("payload", to=to, base=TRANSPORT_HEADER, offset=PORT_OFFSETS[field], length=PORT_SIZE)
        else:
            yield _load_address(family, field, to, ADDRESS_SIZES[family])


def _load_address(family: str, field: Field, to: int, length: int) -> Instruction:
    return instruct("payload", to=to, base=NETWORK_HEADER, offset=ADDRESS_OFFSETS[family, field], length=length)


def _outside(family: str, field: Field, prefix: str) -> Iterator[Instruction]:
    text, _, bits = prefix.partition("/")
    address = socket.inet_pton(FAMILIES[family], text)
    length = int(bits or 8 * len(address))
    if length % 8 == 0:  # whole bytes are compared alone
        yield _load_address(family, field, 0, length // 8)
        yield _compare(CMP_NEQ, address[: length // 8])
    else:
        yield _load_address(family, field, 0, len(address))
        yield _bitwise(prefix_mask(length, len(address)))
        yield _compare(CMP_NEQ, address)


def prefix_mask(length: int, size: int) -> bytes:
    """The mask of a prefix of ``length`` bits, of ``size`` bytes."""
    return ((1 << length) - 1 << 8 * size - length).to_bytes(size, "big")


def _interface(name: str) -> bytes:
    """What an interface's name is compared with: the name to its end, or the beginning of one (``eth*``)."""
    if name.endswith("*"):
        return name[:-1].encode()
    return name.encode().ljust(INTERFACE_SIZE, b"\0")


def _has_bit(key: int, bit: int) -> Iterator[Instruction]:
    yield instruct("ct", to=0, key=key)
    yield _bitwise(_HOST.pack(bit))
    yield _compare(CMP_NEQ, bytes(4))


def _is_protocol(protocol: str) -> Iterator[Instruction]:
    yield instruct("meta", to=0, key=META_L4PROTO)
    yield _compare(CMP_EQ, bytes((PROTOCOLS[protocol],)))


def _mark(mask: int, xor: int) -> Iterator[Instruction]:
    yield instruct("meta", to=0, key=META_MARK)
    yield _bitwise(_HOST.pack(mask), _HOST.pack(xor))
    yield instruct("meta", key=META_MARK, source=0)


def _bitwise(mask: bytes, xor: bytes = b"") -> Instruction:
    length = len(mask)
    return instruct("bitwise", source=0, to=0, length=length, mask=mask, xor=xor or bytes(length))


def _compare(operation: int, value: bytes) -> Instruction:
    return instruct("cmp", source=0, operation=operation, value=value)


def _verdict(code: int, chain: str = "") -> Instruction:
    return instruct("immediate", to=VERDICT, value=Verdict(code, chain))
