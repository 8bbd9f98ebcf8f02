"""The elements of our maps and sets, read from the kernel: of constant maps packed, of the rest as values.

While the kernel grows a map's hash table, which it does in the background, a dump can lack elements although nothing
is committed: each piece begins so many elements behind the first one, and the order of them changes. Then it has as
many others twice, since it ends where the map does. So a dump that has one twice is read again.

Source: net/netfilter/nft_set_hash.c (nft_rhash_walk), lib/rhashtable.c; nftables 1.0.6, src/intervals.c.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeVar

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.dumps import TRIES, Interrupted, dump, settled
from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    ELEM_EXPIRATION,
    ELEM_FLAGS,
    ELEM_KEY,
    ELEM_PAD,
    ELEM_TIMEOUT,
    ELEM_USERDATA,
    GETSETELEM,
    LIST_ELEMENTS,
    Layout,
)
from nodeport_nft.kernel.netlink.messages import BODY, find, walk
from nodeport_nft.kernel.netlink.packed import OddElement, PackedElements, comment_of, make_reader
from nodeport_nft.ruleset import Element, Key, Memory

_INTERVAL_END = 1  # NFT_SET_ELEM_INTERVAL_END

_PATIENCE = 20
"""How often a map is read while its hash table grows; half a million elements took the kernel a second."""

_PAUSE = 0.1  # seconds between two readings

Read = TypeVar("Read")


class _Moved(Exception):
    """A dump has elements twice, and so may lack others."""


def read_elements(netlink: socket.socket, layout: Layout) -> Mapping[Key, Element]:
    """What a map or set of single keys holds; nothing if it is not there. Raises OddElement, KernelError, OSError."""
    take_in = make_reader(layout)

    def read(pieces: Iterator[bytes]) -> Mapping[Key, Element]:
        packed: dict[bytes, bytes] = {}
        count, odd = 0, None
        for piece in pieces:
            try:
                count += take_in(piece, packed)
            except OddElement as error:
                odd = error
        if odd:
            raise odd
        if count != len(packed):
            raise _Moved
        return PackedElements(layout, packed)

    return _read(netlink, layout, read)


def read_prefixes(netlink: socket.socket, layout: Layout) -> Mapping[Key, Element]:
    """What an interval set holds: prefixes, and addresses on their own. Raises as ``read_elements``."""
    return _read(netlink, layout, lambda pieces: _prefixes(layout, list(pieces)))


def read_memories(netlink: socket.socket, layout: Layout) -> tuple[Memory, ...]:
    """What a learned set holds, each key once. Raises KernelError, OSError.

    What somebody else may have put in, with a comment or without a timeout, is of no use, and does no harm. Packets
    move elements, too, and need no commit for it: after some tries what was found is enough. A client that is not
    among it is led anew.
    """
    tries = iter(range(TRIES))

    def read(pieces: Iterator[bytes]) -> tuple[Memory, ...]:
        found = list(_memories(layout, list(pieces)))
        each_once = {memory.key: memory for memory in found}
        if len(each_once) < len(found) and next(tries, None) is not None:
            raise _Moved
        return tuple(each_once.values())

    return _read(netlink, layout, read)


def _read(netlink: socket.socket, layout: Layout, read: Callable[[Iterator[bytes]], Read]) -> Read:
    """One reading between two commits; where they fall into each of TRIES, one that they fell into."""
    interrupted = moved = 0
    while True:
        begun = settled(netlink) if interrupted < TRIES else None
        try:
            return read(dump(netlink, GETSETELEM, layout.family, layout.naming, begun))
        except Interrupted:
            interrupted += 1
            if interrupted > 2 * TRIES:
                break
        except _Moved:
            moved += 1
            if moved == _PATIENCE:
                break
            time.sleep(_PAUSE)
    raise KernelError(f"map {layout.name} cannot be read: it changes all the time; see who does that: nft monitor")


def _elements(data: bytes) -> Iterator[dict[int, tuple[int, int]]]:
    """Each element of a message: where its attributes are, by their number."""
    for _, start, end in walk(data, *find(data, BODY, len(data), LIST_ELEMENTS)):
        yield {kind: (first, last) for kind, first, last in walk(data, start, end)}


def _key(layout: Layout, data: bytes, parts: Mapping[int, tuple[int, int]]) -> bytes:
    key = data[slice(*find(data, *parts.get(ELEM_KEY, (0, 0)), DATA_VALUE))]
    if len(key) != layout.key.size:
        raise OddElement("one of another key")
    return key


def _prefixes(layout: Layout, pieces: list[bytes]) -> dict[Key, Element]:
    """An interval is two elements: where it begins, and where the next address is that is no longer in it.

    One that ends with the last address of all has no second element.
    """
    kind = IPv4Address if layout.key.size == 4 else IPv6Address
    bounds: list[tuple[int, bool, str]] = []  # an address, whether one begins there, its comment
    for data in pieces:
        for parts in _elements(data):
            address = int.from_bytes(_key(layout, data, parts), "big")
            if parts.keys() - {ELEM_KEY, ELEM_FLAGS, ELEM_USERDATA}:
                raise OddElement(f"{kind(address)}, with more than a comment")
            flags = int.from_bytes(data[slice(*parts.get(ELEM_FLAGS, (0, 0)))], "big")
            if flags & ~_INTERVAL_END:
                raise OddElement(f"{kind(address)}, of unknown flags")
            comment = comment_of(data, parts.get(ELEM_USERDATA, (0, 0))).decode(errors="replace")
            bounds.append((address, not flags, comment))
    found: dict[Key, Element] = {}
    bounds.sort()
    for at, (first, begins, comment) in enumerate(bounds):
        if not begins:
            continue
        behind, ends = 1 << 8 * layout.key.size, True
        if at + 1 < len(bounds):
            behind, begins_there, _ = bounds[at + 1]
            ends = not begins_there
        length = behind - first
        if not ends or length & length - 1 or first % length:
            raise OddElement(f"{kind(first)} to {kind(behind - 1)}, which is not a prefix")
        prefix = kind(first) if length == 1 else ip_network((first, 8 * layout.key.size - length.bit_length() + 1))
        found[(str(prefix),)] = Element((str(prefix),), None, comment)
    return found


def _memories(layout: Layout, pieces: list[bytes]) -> Iterator[Memory]:
    number = struct.Struct(">Q")  # of milliseconds
    for data in pieces:
        for parts in _elements(data):
            if parts.keys() - {ELEM_PAD} == {ELEM_KEY, ELEM_TIMEOUT, ELEM_EXPIRATION}:
                key = layout.key.unpack(_key(layout, data, parts))
                timeout, expires = (
                    int(number.unpack_from(data, parts[kind][0])[0]) for kind in (ELEM_TIMEOUT, ELEM_EXPIRATION)
                )
                yield Memory(key, timeout, expires)
