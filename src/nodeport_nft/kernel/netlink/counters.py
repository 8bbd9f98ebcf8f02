"""How often each frontend's element was met: the counters of the verdict maps, over netlink (X3).

A nat chain sees the first packet of a connection alone, so what an element has counted are new connections. nft tells
the counters too, but as megabytes of text, and it keeps the memory of its largest answer; this asks the kernel for
the elements of one map, or for some keys alone, and decodes no more than key and counter.

A dump into which a commit falls is thrown away and read again (see ``dumps``). Keys asked for one by one cannot be
missed.

Measured on Linux 6.18, seconds: a dump of 10,000 elements 0.04, of 100,000 0.86, of which the kernel's own are 0.01
and 0.55 (it finds the beginning of each piece by counting); 1,000 keys of any map 0.01.

Source: linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c (nf_tables_getsetelem).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence

from nodeport_nft.compile import TABLE, nft_family
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.dumps import TRIES, Interrupted, dump, open_netlink, settled
from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    ELEM_EXPR,
    ELEM_EXPRESSIONS,
    ELEM_KEY,
    GETSETELEM,
    LIST_ELEM,
    LIST_ELEMENTS,
    Layout,
    layouts,
)
from nodeport_nft.kernel.netlink.messages import (
    ACK,
    BODY,
    ERROR,
    NESTED,
    answers,
    attribute,
    code,
    find,
    message,
    walk,
)
from nodeport_nft.model import Family
from nodeport_nft.ruleset import Key

# linux/netfilter/nf_tables.h
_EXPR_NAME, _EXPR_DATA = 1, 2
_COUNTER_PACKETS = 2

AT_ONCE = 64
"""Keys asked for at a time: their answers, one message each, fit into any socket's receive buffer."""


def read_counters(family: Family, wanted: Mapping[str, Collection[Key] | None]) -> dict[str, dict[Key, int]]:
    """Packets counted by elements of verdict maps, in the caller's network namespace: by map, then by key.

    ``wanted``: for each map the keys to read, None for all it has. What is not there, a key, a map, the whole table,
    is left out. Any thread may call this. Raises KernelError where the kernel refuses, ChangingError where a map
    could not be read as a whole between two commits, in TRIES attempts.
    """
    known = layouts(nft_family(family))
    try:
        with open_netlink() as netlink:
            return {name: _read(netlink, known[name], keys) for name, keys in wanted.items()}
    except OSError as error:
        raise KernelError(f"the counters of {nft_family(family)} {TABLE} cannot be read: {explain(error)}") from error


def explain(error: OSError) -> str:
    """Why nftables cannot be asked, with the remedy."""
    if error.errno == errno.EPERM:
        return "nftables needs CAP_NET_ADMIN; run as root, or give the program that capability"
    if error.errno in (errno.EINVAL, errno.EPROTONOSUPPORT):  # nfnetlink knows no such subsystem
        return "this kernel has no nf_tables; load the module: modprobe nf_tables"
    return f"nftables answers {error.strerror}"


class ChangingError(KernelError):
    """Commits fell into each attempt to read a map as a whole."""


def _read(netlink: socket.socket, asked: Layout, keys: Collection[Key] | None) -> dict[Key, int]:
    if keys is not None:
        found: dict[Key, int] = {}
        waiting = [asked.key.pack(key) for key in keys]
        for piece in ask_keys(netlink, asked, waiting):
            found.update(_decode(asked, piece))
        return found
    for _ in range(TRIES):
        try:
            # Taken in before anything is decoded, to make commits in a dump rare.
            pieces = list(dump(netlink, GETSETELEM, asked.family, asked.naming, settled(netlink)))
        except Interrupted:
            continue
        return {key: packets for piece in pieces for key, packets in _decode(asked, piece)}
    raise ChangingError(
        f"the counters of {asked.name} cannot be read: nftables was changed during each of {TRIES} attempts; "
        "find out what changes it so often, with: nft monitor"
    )


def ask_keys(netlink: socket.socket, asked: Layout, keys: Sequence[bytes]) -> Iterator[bytes]:
    """What answers for each of these packed keys that is there. Raises OSError where the kernel refuses."""
    for first in range(0, len(keys), AT_ONCE):
        yield from _ask_keys(netlink, asked, keys[first : first + AT_ONCE])


def _ask_keys(netlink: socket.socket, asked: Layout, keys: Sequence[bytes]) -> Iterator[bytes]:
    """The kernel answers key by key, and stops at the first that is not there: go on behind that one."""
    while keys:
        elements = b"".join(
            attribute(LIST_ELEM | NESTED, attribute(ELEM_KEY | NESTED, attribute(DATA_VALUE, key))) for key in keys
        )
        named = asked.naming + attribute(LIST_ELEMENTS | NESTED, elements)
        netlink.send(message(GETSETELEM, ACK, asked.family, named))
        answered = 0
        for kind, data in answers(netlink):
            if kind == ERROR:
                if code(data) == 0:
                    return
                if code(data) != errno.ENOENT:
                    _check(data)
                break
            answered += 1
            yield data
        keys = keys[answered + 1 :]


def _check(data: bytes) -> None:
    if failure := code(data):
        raise OSError(failure, os.strerror(failure))


def _decode(asked: Layout, data: bytes) -> Iterator[tuple[Key, int]]:
    """Each element of a message that has a counter."""
    elements = find(data, BODY, len(data), LIST_ELEMENTS)
    for _, start, end in walk(data, *elements):
        key, counter = 0, (0, 0)
        for kind, first, last in walk(data, start, end):
            if kind == ELEM_KEY:
                key = find(data, first, last, DATA_VALUE)[0]
            elif kind == ELEM_EXPR:  # one expression; as kernels before 5.11 tell it
                counter = _counter(data, first, last)
            elif kind == ELEM_EXPRESSIONS:
                listed = (_counter(data, *inner) for _, *inner in walk(data, first, last))
                counter = next((found for found in listed if found != (0, 0)), (0, 0))
        if key and counter != (0, 0):
            packets = find(data, *counter, _COUNTER_PACKETS)
            yield asked.key.unpack(data, key), int.from_bytes(data[slice(*packets)], "big")


def _counter(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the attributes of a counter are; (0, 0) if this expression is none."""
    if data[slice(*find(data, start, end, _EXPR_NAME))] != b"counter\0":
        return 0, 0
    return find(data, start, end, _EXPR_DATA)
