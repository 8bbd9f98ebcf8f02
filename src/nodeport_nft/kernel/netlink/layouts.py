"""The maps of our tables as netlink has them: how one is named, and how its keys and values are laid out.

A key is its fields one behind the other, each padded to whole registers of 4 bytes; so is a value that is no verdict.
Addresses and ports are in network byte order; a slot is in the host's, as ``numgen`` puts it into a register.

Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from ipaddress import IPv6Address

from nodeport_nft.compile import TABLE, compile_schema, nft_family
from nodeport_nft.kernel.netlink.messages import attribute
from nodeport_nft.model import Family, NodeFacts
from nodeport_nft.ruleset import Field, Key, Map

# linux/netfilter/nfnetlink.h, nf_tables.h
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NEWSETELEM, GETSETELEM, DELSETELEM, GETGEN = (NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (12, 13, 14, 16))
LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
LIST_ELEM = 1  # NFTA_LIST_ELEM
# NFTA_SET_ELEM_*
ELEM_KEY, ELEM_DATA, ELEM_FLAGS, ELEM_TIMEOUT, ELEM_EXPIRATION, ELEM_USERDATA = 1, 2, 3, 4, 5, 6
ELEM_EXPR, ELEM_PAD, ELEM_EXPRESSIONS = 7, 8, 11  # PAD stands before numbers of 64 bits on some machines
DATA_VALUE, DATA_VERDICT = 1, 2  # NFTA_DATA_*

_FAMILIES = {Family.IPV4: (socket.AF_INET, 4), Family.IPV6: (socket.AF_INET6, 16)}
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_SCTP: "sctp"}
_NUMBERS = {name: int(number) for number, name in _PROTOCOLS.items()}


class Fields:
    """How fields that stand together are packed, into ``size`` bytes."""

    def __init__(self, family: Family, fields: Iterable[Field]) -> None:
        number, size = _FAMILIES[family]
        address = f"{size}s", partial(socket.inet_pton, number), address_text
        kinds: dict[Field, tuple[str, Callable[..., int | bytes], Callable[..., str | int]]] = {
            Field.SADDR: address,
            Field.DADDR: address,
            Field.L4PROTO: ("B3x", _number, lambda number: _PROTOCOLS.get(number) or str(number)),
            Field.DPORT: ("H2x", int, int),
            Field.SLOT: ("I", socket.htonl, socket.ntohl),
        }
        formats, writers, self._readers = zip(*(kinds[field] for field in fields), strict=True)
        self._layout = struct.Struct(">" + "".join(formats))
        self.size = self._layout.size
        self.pack = _packer(self._layout.pack, writers)
        """As the kernel has it. Raises KeyError, ValueError or OSError over what is none of these fields."""

    def unpack(self, data: bytes, start: int = 0) -> Key:
        """As the ruleset has it."""
        found = self._layout.unpack_from(data, start)
        return tuple([read(part) for read, part in zip(self._readers, found, strict=True)])


def _packer(pack: Callable[..., bytes], writers: Sequence[Callable[..., int | bytes]]) -> Callable[[Key], bytes]:
    """What writes each part of a key and packs them; spelled out for most of them: half a million keys are packed."""
    match writers:
        case (one, two):

            def pack_pair(parts: Key) -> bytes:
                first, second = parts
                return pack(one(first), two(second))

            return pack_pair
        case (one, two, three):

            def pack_three(parts: Key) -> bytes:
                first, second, third = parts
                return pack(one(first), two(second), three(third))

            return pack_three
        case (one, two, three, four):

            def pack_four(parts: Key) -> bytes:
                first, second, third, fourth = parts
                return pack(one(first), two(second), three(third), four(fourth))

            return pack_four
    return lambda parts: pack(*[write(part) for write, part in zip(writers, parts, strict=True)])


class Layout:
    """A map or set of one family's table: ``naming`` are the attributes that say which, ``family`` its number.

    ``value`` is None where elements have none, or a verdict (``verdict``).
    """

    def __init__(self, family: Family, declared: Map) -> None:
        self.name = declared.name
        self.interval = declared.interval
        self.family = int(_FAMILIES[family][0])
        named = (LIST_TABLE, TABLE), (LIST_SET, declared.name)
        self.naming = b"".join(attribute(kind, text.encode() + b"\0") for kind, text in named)
        self.key = Fields(family, declared.key)
        self.verdict = declared.data == "verdict"
        self.value = Fields(family, declared.data) if isinstance(declared.data, tuple) else None
        self.has_slots = declared.key[-1] is Field.SLOT
        self._made_of = family, declared

    def __reduce__(self) -> tuple[type[Layout], tuple[Family, Map]]:
        return Layout, self._made_of


_BY_NAME = {nft_family(known): known for known in Family}


@cache
def layouts(family: str) -> Mapping[str, Layout]:
    """By name the maps and sets of every table whose elements are single keys; ``family`` is nft's name.

    What holds intervals is not among them: there one element of ours is two of the kernel's.
    """
    return {name: layout for name, layout in _of_every_table(family).items() if not layout.interval}


def layout_of(family: str, name: str) -> Layout | None:
    """How any map or set of our tables is laid out, one of intervals or of a service's own, too; None: not ours."""
    if known := _of_every_table(family).get(name):
        return known
    own = compile_schema(_BY_NAME[family], NodeFacts("")).own_map(name) if family in _BY_NAME else None
    return Layout(_BY_NAME[family], own) if own else None


@cache
def _of_every_table(family: str) -> Mapping[str, Layout]:
    if family not in _BY_NAME:
        return {}
    # The maps are the same whatever the node.
    return {m.name: Layout(_BY_NAME[family], m) for m in compile_schema(_BY_NAME[family], NodeFacts("")).maps}


def _number(protocol: str) -> int:
    """A protocol's number, also of one that is not ours: somebody else's element has to be deleted."""
    if known := _NUMBERS.get(protocol):
        return known
    return int(protocol) if protocol.isdecimal() else socket.getprotobyname(protocol)


def address_text(address: bytes) -> str:
    """An address's canonical text, as ``ipaddress`` writes it."""
    if len(address) == 4:
        return socket.inet_ntop(socket.AF_INET, address)
    text = socket.inet_ntop(socket.AF_INET6, address)
    return str(IPv6Address(address)) if "." in text else text  # which writes no IPv4 address at its end
