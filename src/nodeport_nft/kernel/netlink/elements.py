"""Elements written over netlink, as libnftables writes them.

Almost every change of a service, and nearly all of a full load, is elements. They go as the messages that libnftables
would make of them, with the same flags: adding fails over an element of that key with another value (EEXIST), and
deleting over one that is not there (ENOENT).

An element of a set of intervals is two of the kernel's: where the interval begins, and the first address behind it.
Where nothing is behind it, the first says so.

Source: linux/netfilter/nf_tables.h; what stands in user data is nft's own (include/udata.h there).
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache

from nodeport_nft.compile import TABLE
from nodeport_nft.kernel.netlink.batch import Message
from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    DATA_VERDICT,
    DELSETELEM,
    ELEM_DATA,
    ELEM_EXPIRATION,
    ELEM_FLAGS,
    ELEM_KEY,
    ELEM_TIMEOUT,
    ELEM_USERDATA,
    LIST_ELEM,
    LIST_ELEMENTS,
    NEWSETELEM,
    Fields,
    Layout,
    layout_of,
)
from nodeport_nft.kernel.netlink.messages import ATTRIBUTE, CREATE, NESTED, attribute
from nodeport_nft.plan import Add, Delete, Operation, Remember, Transaction
from nodeport_nft.ruleset import Element, Goto, InPools, Key, Memory, Pool, Value

_VERDICT_CODE, _VERDICT_CHAIN = 1, 2  # NFTA_VERDICT_*
_GOTO = struct.pack(">i", -4)  # NFT_GOTO, in network byte order as all numbers of nf_tables
# A type and a length of a byte each, then the value: NFTNL_UDATA_SET_ELEM_COMMENT, NFTNL_UDATA_SET_ELEM_FLAGS
_COMMENT, _FLAGS = 0, 1
_COMMENT_LIMIT = 128  # bytes that nft takes
_UNTOLD = re.compile(rb'["\n\0]')
_OPEN = bytes((_FLAGS, 4)) + (1).to_bytes(4, sys.byteorder)  # SET_ELEM_F_INTERVAL_OPEN
_INTERVAL_END = attribute(ELEM_FLAGS, struct.pack(">I", 1))  # NFT_SET_ELEM_INTERVAL_END
_HEADERS = struct.Struct("=HHHHHH")
_MILLISECONDS = struct.Struct(">Q")

_PAYLOAD = 0xFFFF - ATTRIBUTE
"""Bytes of elements in one message: the length of the attribute around them has 16 bits."""


UNFIT = (KeyError, TypeError, ValueError, OSError, OverflowError, struct.error)
"""What is raised over elements that their map cannot have, such as an address where a port should be."""


def element_messages(transaction: Transaction, operation: Operation) -> list[Message] | None:
    """The messages that carry out this operation of the transaction; None if it is no element of a table of ours."""
    if not isinstance(operation, Add | Delete | Remember) or transaction.name != TABLE:
        return None
    layout = layout_of(transaction.family, operation.map)
    if layout is None:
        return None
    kind, flags = (DELSETELEM, 0) if isinstance(operation, Delete) else (NEWSETELEM, CREATE)
    try:
        return [Message(kind, flags, layout.family, body) for body in _bodies(layout, _packed(layout, operation))]
    except UNFIT:
        return None


def new_elements(family: str, name: str, elements: Mapping[Key, Element]) -> Iterator[Message]:
    """The messages that add these elements to a map or set, made as they are taken. Raises what is UNFIT."""
    layout = layout_of(family, name)
    if layout is None:
        raise KeyError(name)
    if isinstance(elements, InPools) and layout.has_slots and layout.value:
        packed = _of_pools(layout, layout.value, elements.pools())
    else:
        packed = _added(layout, elements.values())
    for body in _bodies(layout, packed):
        yield Message(NEWSETELEM, CREATE, layout.family, body)


def _bodies(layout: Layout, elements: Iterable[bytes]) -> Iterator[bytes]:
    """The attributes of each message that these elements take."""
    waiting: list[bytes] = []
    size = 0
    for element in elements:
        if size + len(element) > _PAYLOAD:
            yield layout.naming + attribute(LIST_ELEMENTS | NESTED, b"".join(waiting))
            waiting, size = [], 0
        waiting.append(element)
        size += len(element)
    if waiting:
        yield layout.naming + attribute(LIST_ELEMENTS | NESTED, b"".join(waiting))


def _packed(layout: Layout, operation: Add | Delete | Remember) -> Iterator[bytes]:
    match operation:
        case Remember(memories=memories):
            return (_remembered(layout, memory) for memory in memories)
        case Delete(keys=keys) if layout.interval:
            return _intervals(Element(key) for key in keys)
        case Delete(keys=keys):
            return (attribute(LIST_ELEM | NESTED, _data(ELEM_KEY, layout.key.pack(key))) for key in keys)
        case Add(elements=elements):
            return _added(layout, elements)


def _added(layout: Layout, elements: Iterable[Element]) -> Iterator[bytes]:
    if layout.interval:
        return _intervals(elements)
    if layout.has_slots and layout.value:
        return _slots(layout, layout.value, elements)
    return (_single(layout, element) for element in elements)


def _single(layout: Layout, element: Element) -> bytes:
    fields, value, comment = element
    key, rest = layout.key.pack(fields), _value(layout, value)
    if comment:
        rest += _user_data(_comment(comment))
    # Three attributes, one within the other: as `attribute` makes them, at once, since there are so many.
    size = ATTRIBUTE + len(key)
    whole, outer = 2 * ATTRIBUTE + size + len(rest), ATTRIBUTE + size
    return _HEADERS.pack(whole, LIST_ELEM | NESTED, outer, ELEM_KEY | NESTED, size, DATA_VALUE) + key + rest


def _slots(layout: Layout, value: Fields, elements: Iterable[Element]) -> Iterator[bytes]:
    """The elements of a slot map, which are most of a table: they come one frontend after the other.

    The first of a frontend is packed as any other; those behind it differ in slot and endpoint alone.
    """
    alike = _Alike(layout, value)
    frontend: Key | None = None
    said = ""
    for element in elements:
        key, endpoint, comment = element
        if key[:-1] != frontend or comment != said:
            frontend, said = key[:-1], comment
            yield alike.first(element)
        elif isinstance(endpoint, tuple):
            yield alike.another(key[-1], *endpoint)
        else:
            raise _misplaced(layout, endpoint)


def _of_pools(layout: Layout, value: Fields, pools: Iterable[Pool]) -> Iterator[bytes]:
    """The same of pools, of which no elements are made."""
    alike = _Alike(layout, value)
    another = alike.another
    for pool in pools:
        for slot, endpoint in enumerate(pool.endpoints, pool.first):
            if slot == pool.first:
                yield alike.first(Element((*pool.key, slot), endpoint, pool.comment))
            else:
                yield another(slot, *endpoint)


class _Alike:
    """Packs elements of one frontend's slots after the first of them."""

    def __init__(self, layout: Layout, value: Fields) -> None:
        self._layout = layout
        self._slot_at = 3 * ATTRIBUTE + layout.key.size - 4  # behind the headers of element, key and the key's value
        self._value_at = self._slot_at + 4 + 2 * ATTRIBUTE
        self._behind = self._value_at + value.size
        self._pack = struct.Struct(f">I{2 * ATTRIBUTE}s{value.size - 4}sH2x").pack
        self._family = layout.family
        self._before = self._between = self._after = b""

    def first(self, element: Element) -> bytes:
        """One that those of ``another`` are like."""
        whole = _single(self._layout, element)
        self._before, self._after = whole[: self._slot_at], whole[self._behind :]
        self._between = whole[self._slot_at + 4 : self._value_at]
        return whole

    def another(self, slot: str | int, address: str, port: int) -> bytes:
        """One of the same frontend."""
        in_order: Callable[..., int] = socket.htonl
        middle = self._pack(in_order(slot), self._between, socket.inet_pton(self._family, address), port)
        return b"%b%b%b" % (self._before, middle, self._after)


def _intervals(elements: Iterable[Element]) -> Iterator[bytes]:
    """The two of each interval, one where no address is behind it."""
    for element in elements:
        first, behind = _bounds(*element.key)
        data = _comment(element.comment) + (b"" if behind else _OPEN)
        yield attribute(LIST_ELEM | NESTED, _data(ELEM_KEY, first) + _user_data(data))
        if behind:
            yield attribute(LIST_ELEM | NESTED, _INTERVAL_END + _data(ELEM_KEY, behind))


def _bounds(prefix: str | int) -> tuple[bytes, bytes]:
    """The first address of an address or prefix, and the first behind it; nothing where there is none."""
    first, _, length = str(prefix).partition("/")
    packed = socket.inet_pton(socket.AF_INET6 if ":" in first else socket.AF_INET, first)
    bits = 8 * len(packed)
    end = int.from_bytes(packed, "big") + (1 << bits - int(length or bits))
    return packed, b"" if end >> bits else end.to_bytes(len(packed), "big")


def _remembered(layout: Layout, memory: Memory) -> bytes:
    times = (ELEM_TIMEOUT, memory.timeout), (ELEM_EXPIRATION, memory.expires)
    parts = b"".join(attribute(kind, _MILLISECONDS.pack(time)) for kind, time in times)
    return attribute(LIST_ELEM | NESTED, parts + _data(ELEM_KEY, layout.key.pack(memory.key)))


def _value(layout: Layout, value: Value) -> bytes:
    if isinstance(value, Goto) and layout.verdict:
        return _verdict(value.chain)
    if isinstance(value, tuple) and layout.value:
        return _data(ELEM_DATA, layout.value.pack(value))
    if value is None and not layout.verdict and not layout.value:
        return b""
    raise _misplaced(layout, value)


def _misplaced(layout: Layout, value: Value) -> ValueError:
    return ValueError(f"an element of {layout.name} cannot be {value!r}")


@lru_cache(maxsize=256)  # almost all elements lead to the chains that are in every table
def _verdict(name: str) -> bytes:
    chain = attribute(_VERDICT_CODE, _GOTO) + attribute(_VERDICT_CHAIN, name.encode() + b"\0")
    return attribute(ELEM_DATA | NESTED, attribute(DATA_VERDICT | NESTED, chain))


def _data(kind: int, packed: bytes) -> bytes:
    return attribute(kind | NESTED, attribute(DATA_VALUE, packed))


def _user_data(data: bytes) -> bytes:
    return attribute(ELEM_USERDATA, data) if data else b""


def _comment(text: str) -> bytes:
    comment = text.encode()
    if len(comment) > _COMMENT_LIMIT or _UNTOLD.search(comment):
        raise ValueError(f"a comment that nft cannot hold: {text!r}")
    return b"%c%c%b\0" % (_COMMENT, len(comment) + 1, comment) if text else b""
