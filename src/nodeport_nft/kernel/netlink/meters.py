"""What each element has counted, with the value and the comment that it stands for: for who names what is counted.

``counters`` gives numbers by key, to one who knows whose key that is. This is for one who knows nothing but the
kernel's tables (``nodeport-nft top``): an element's comment names the Service, its value the chain or the endpoint.
From one reading to the next hardly any element of a large map counts, so all but the number stays bytes until
somebody asks.

Source: linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c (nf_tables_fill_setelem: the order of the
attributes).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from nodeport_nft.compile import TABLE, nft_family
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.counters import ask_keys, explain
from nodeport_nft.kernel.netlink.dumps import TRIES, Interrupted, dump, open_netlink, settled
from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    DATA_VERDICT,
    ELEM_DATA,
    ELEM_EXPR,
    ELEM_EXPRESSIONS,
    ELEM_KEY,
    ELEM_USERDATA,
    GETSETELEM,
    LIST_ELEMENTS,
    Layout,
    layouts,
)
from nodeport_nft.kernel.netlink.messages import ATTRIBUTE, BODY, aligned, find, walk
from nodeport_nft.kernel.netlink.packed import comment_of
from nodeport_nft.model import Family
from nodeport_nft.ruleset import Key

# linux/netfilter/nf_tables.h
_EXPR_NAME, _EXPR_DATA, _COUNTER_BYTES, _COUNTER_PACKETS = 1, 2, 1, 2
_VERDICT_CHAIN = 2

_KEY_AT = 3 * ATTRIBUTE
"""Where the key is in an element: behind the headers of the element, of its key, and of that one's value."""

_length_at = struct.Struct("=H").unpack_from
_number_at = struct.Struct(">Q").unpack_from
# A counter as the kernel writes it: the name, then bytes and packets, each number behind its header.
_COUNTER_HEAD = struct.pack(
    "=HHHH8sHHHH", 44, ELEM_EXPR, 12, _EXPR_NAME, b"counter\0", 28, _EXPR_DATA, 12, _COUNTER_BYTES
)
_COUNTER_SIZE, _PACKETS_AT = 44, 36
_packed_slot = struct.Struct("=I").pack  # in this machine's order, as ``numgen`` draws it


class Meter(NamedTuple):
    """An element: the packets it has counted, and as the kernel has it what it is besides: value and comment."""

    packets: int
    made_of: bytes


class Meters:
    """Reads the maps of one family's table, in the network namespace of whoever calls."""

    def __init__(self, family: Family) -> None:
        self._table = nft_family(family)
        self._layouts = layouts(self._table)

    def revision(self) -> bytes:
        """The number of nftables' last commit. Raises KernelError."""
        with self._asking() as netlink:
            return settled(netlink)

    def whole(self, name: str, before: Mapping[bytes, Meter]) -> dict[bytes, Meter]:
        """All elements of a map, by packed key; nothing where there is no such map. Raises KernelError.

        Where commits fall into each attempt, what the last one lacks is taken from ``before``.
        """
        layout, pieces = self._layouts[name], list[bytes]()
        with self._asking() as netlink:
            for _ in range(TRIES):
                pieces.clear()
                try:
                    pieces += dump(netlink, GETSETELEM, layout.family, layout.naming, settled(netlink))
                except Interrupted:
                    continue
                return _taken(layout, pieces)
            with suppress(Interrupted):
                for piece in dump(netlink, GETSETELEM, layout.family, layout.naming, None):
                    pieces.append(piece)  # what came before it broke off stays
        return {**before, **_taken(layout, pieces)}

    def some(self, name: str, keys: Sequence[bytes]) -> dict[bytes, Meter]:
        """The elements at these packed keys of a map; what is not there is left out. Raises KernelError."""
        layout = self._layouts[name]
        with self._asking() as netlink:
            return _taken(layout, ask_keys(netlink, layout, keys))

    def packed(self, name: str, key: Key) -> bytes:
        """A key of the ruleset as the kernel has it."""
        return self._layouts[name].key.pack(key)

    def endpoint(self, name: str, made_of: bytes) -> tuple[str, int]:
        """Address and port that an element of a slot map translates to."""
        fields = self._layouts[name].value
        assert fields, f"{name} is no slot map"
        value, _ = find(made_of, *find(made_of, 0, len(made_of), ELEM_DATA), DATA_VALUE)
        address, port = fields.unpack(made_of, value)
        return str(address), int(port)

    @contextmanager
    def _asking(self) -> Iterator[socket.socket]:
        try:
            with open_netlink() as netlink:
                yield netlink
        except OSError as error:
            raise KernelError(f"the counters of {self._table} {TABLE} cannot be read: {explain(error)}") from error


def slot_keys(frontend: bytes, slots: Iterable[int]) -> list[bytes]:
    """The packed keys of a frontend's slots; they begin as its own key in a verdict map does."""
    return [frontend + _packed_slot(slot) for slot in slots]


def chain_of(made_of: bytes) -> str:
    """The chain that an element of a verdict map leads to; "" if to none."""
    verdict = find(made_of, *find(made_of, 0, len(made_of), ELEM_DATA), DATA_VERDICT)
    return made_of[slice(*find(made_of, *verdict, _VERDICT_CHAIN))].rstrip(b"\0").decode(errors="replace")


def named(made_of: bytes) -> str:
    """The comment of an element: of those that we write, who it belongs to."""
    return comment_of(made_of, find(made_of, 0, len(made_of), ELEM_USERDATA)).decode(errors="replace")


def _taken(layout: Layout, pieces: Iterable[bytes]) -> dict[bytes, Meter]:
    """The elements of these messages.

    All of ours are alike but for the length of their value and comment, so the counter is where it always is; an
    element that somebody else has made otherwise is walked.
    """
    size, found = layout.key.size, {}
    for data in pieces:
        at, end = find(data, BODY, len(data), LIST_ELEMENTS)
        while at < end:
            behind = at + int(_length_at(data, at)[0])
            value_at = at + _KEY_AT + size
            counter_at = value_at + aligned(int(_length_at(data, value_at)[0])) if value_at < behind else behind
            if data[counter_at : counter_at + len(_COUNTER_HEAD)] == _COUNTER_HEAD:
                rest = data[value_at:counter_at] + data[counter_at + _COUNTER_SIZE : behind]
                packets = int(_number_at(data, counter_at + _PACKETS_AT)[0])
                found[data[at + _KEY_AT : value_at]] = Meter(packets, rest)
            else:
                found.update(_walked(data, at + ATTRIBUTE, behind))
            at = aligned(behind)
    return found


def _walked(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, Meter]]:
    """An element that is not put together as the kernel does it with ours; none where it has no key or counter."""
    parts = {kind: (first, last) for kind, first, last in walk(data, start, end)}
    key = data[slice(*find(data, *parts.get(ELEM_KEY, (0, 0)), DATA_VALUE))]
    spans = [parts.get(ELEM_EXPR, (0, 0))]
    spans += [(first, last) for _, first, last in walk(data, *parts.get(ELEM_EXPRESSIONS, (0, 0)))]
    for span in spans:
        if key and data[slice(*find(data, *span, _EXPR_NAME))] == b"counter\0":
            packets = data[slice(*find(data, *find(data, *span, _EXPR_DATA), _COUNTER_PACKETS))]
            yield key, Meter(int.from_bytes(packets, "big"), data[start:end])
            return
