"""The elements of a map as the kernel has told them: bytes, of which only what is asked for becomes values.

A table of 100,000 Services has half a million elements, and at a restart nearly all are as they should be. So they
are kept by their packed key, with value and comment behind each other; desired elements are packed and compared, and
what is equal is never decoded. What an element has counted is left out.

Nothing is taken for granted. Where the bytes are not exactly those of an element that we write, they are walked
attribute by attribute; what is of no use to us (another form of key, a timeout, an expression that is not a counter)
raises OddElement.

Source: linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c (nf_tables_fill_setelem: the order of the
attributes); libnftnl/udata.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView

from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    DATA_VERDICT,
    ELEM_DATA,
    ELEM_EXPR,
    ELEM_EXPRESSIONS,
    ELEM_KEY,
    ELEM_USERDATA,
    LIST_ELEMENTS,
    Layout,
    address_text,
)
from nodeport_nft.kernel.netlink.messages import ATTRIBUTE, BODY, find, walk
from nodeport_nft.plan import Change, Comparing, Endpoints, SlotsView
from nodeport_nft.ruleset import Element, Goto, Key, Pool

# linux/netfilter/nf_tables.h
_EXPR_NAME, _EXPR_DATA, _COUNTER_BYTES, _COUNTER_PACKETS = 1, 2, 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_GOTO = -4
_VERDICTS = {-5: "return", -3: "jump", -2: "break", -1: "continue", 0: "drop", 1: "accept"}
_COMMENT = 0  # NFTNL_UDATA_SET_ELEM_COMMENT: a type and a length of a byte each, then the text with a zero

_FOREIGN = b"\xff"
"""Stands before the words of a verdict that is no goto; no text begins so."""

_KEY_AT = 3 * ATTRIBUTE
"""Where the key is in an element: behind the headers of the element, of its key, and of that one's value."""

_length_at = struct.Struct("=H").unpack_from
_GOTO_HEAD = struct.pack("=HH", 8, _VERDICT_CODE) + struct.pack(">i", _GOTO)
# A counter as the kernel writes it: the name, then bytes and packets, each number behind its header.
_COUNTER_HEAD = struct.pack(
    "=HHHH8sHHHH", 44, ELEM_EXPR, 12, _EXPR_NAME, b"counter\0", 28, _EXPR_DATA, 12, _COUNTER_BYTES
)
_COUNTER_MIDDLE = struct.pack("=HH", 12, _COUNTER_PACKETS)
_COUNTER_SIZE = 44
_LIST_HEAD = struct.pack("=H", LIST_ELEMENTS)
_COMMENT_HEAD = struct.pack("=HB", ELEM_USERDATA, _COMMENT)


class OddElement(Exception):
    """An element is none that we could have written; ``str()`` says what is odd about it."""


_packed_slot = struct.Struct("=I").pack  # in this machine's order, as ``numgen`` draws it


class PackedElements(Comparing):
    """The elements of one map or set; ``packed`` has value and comment (see ``pack_rest``) by packed key."""

    def __init__(self, layout: Layout, packed: Mapping[bytes, bytes]) -> None:
        self._layout = layout
        self._packed = packed
        self.is_of_verdicts = layout.verdict
        self._width = layout.value.size if layout.value else 0
        self._endpoint = struct.Struct(f">{max(self._width - 4, 0)}sH2x")  # an address and a port
        self._values: dict[bytes, tuple[str, int]] = {}  # the same endpoint is behind several keys
        self._alike: dict[int, Pool] = {}  # by id: pools all of whose elements are here, which are compared already

    def __reduce__(self) -> tuple[type[PackedElements], tuple[Layout, dict[bytes, bytes]]]:
        return PackedElements, (self._layout, dict(self._packed))

    def __getitem__(self, key: Key) -> Element:
        """Raises KeyError for one that is not there, whatever it is made of."""
        try:
            rest = self._packed[self._layout.key.pack(key)]
        except (ValueError, OSError, struct.error) as error:  # no key of this map
            raise KeyError(key) from error
        return self._element(key, rest)

    def __iter__(self) -> Iterator[Key]:
        return map(self._layout.key.unpack, self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, key: object) -> bool:
        try:
            return isinstance(key, tuple) and self._layout.key.pack(key) in self._packed
        except (KeyError, ValueError, OSError, struct.error):
            return False

    def items(self) -> ItemsView[Key, Element]:
        """As of any mapping; a key that is iterated over need not be packed again."""
        return _Items(self)

    def values(self) -> ValuesView[Element]:
        """The same without the keys."""
        return _Values(self)

    def pairs(self) -> Iterator[tuple[Key, Element]]:
        """Every key with its element."""
        for key, rest in zip(self, self._packed.values(), strict=True):
            yield key, self._element(key, rest)

    def differing(self, want: Mapping[Key, Element]) -> dict[Key, Change]:
        """See ``Comparing``; what is equal is not decoded."""
        changed: dict[Key, Change] = {}
        common = self._compare_slots(want, changed) if isinstance(want, SlotsView) else self._compare(want, changed)
        if common < len(self._packed):
            for key, rest in zip(self, self._packed.values(), strict=True):
                if key not in want:
                    changed[key] = self._element(key, rest), None
        return changed

    def _compare(self, want: Mapping[Key, Element], changed: dict[Key, Change]) -> int:
        """Note what is wanted and not so; how many of the wanted are there."""
        pack_key, layout, packed = self._layout.key.pack, self._layout, self._packed
        common = 0
        for key, element in want.items():
            rest = packed.get(pack_key(key))
            common += rest is not None
            if rest is None:
                changed[key] = None, element
            elif rest != pack_rest(layout, element):
                changed[key] = self._element(key, rest), element
        return common

    def _compare_slots(self, want: SlotsView, changed: dict[Key, Change]) -> int:
        """The same of a slot map: a frontend's key is packed once for all its slots."""
        pack, packed_address, family = self._endpoint.pack, socket.inet_pton, self._layout.family
        packed = self._packed
        common = 0
        alike = self._alike
        for pool in want.pools():
            if id(pool) in alike:
                common += len(pool.endpoints)
                continue
            frontend, comment = self._frontend(pool.key), pool.comment.encode()
            for slot, endpoint in enumerate(pool.endpoints, pool.first):
                rest = packed.get(frontend + _packed_slot(slot))
                common += rest is not None
                address, port = endpoint
                if rest != pack(packed_address(family, address), port) + comment:
                    key = (*pool.key, slot)
                    old = None if rest is None else self._element(key, rest)
                    changed[key] = old, Element(key, endpoint, pool.comment)
        return common

    def run(self, pool: Pool) -> Endpoints:
        """See ``Comparing``."""
        try:
            frontend = self._frontend(pool.key)
        except (KeyError, ValueError, OSError, struct.error):  # no key of this map
            return ()
        if pool.endpoints and self._is_run(frontend, pool):
            return pool.endpoints
        first, found = pool.first, []
        while (rest := self._packed.get(frontend + _packed_slot(first))) is not None:
            # Not out of ``_values``: what is kept there until the listing is given up would lie between what is made
            # for good meanwhile, and its memory could not be given back.
            address, port = self._endpoint.unpack(rest[: self._width])
            found.append((address_text(address), port))
            first += 1
        return tuple(found)

    def _is_run(self, frontend: bytes, pool: Pool) -> bool:
        """Whether a pool's endpoints, and no others behind them, stand in the slots of its frontend."""
        pack, packed_address, family = self._endpoint.pack, socket.inet_pton, self._layout.family
        packed, width, comment = self._packed, self._width, pool.comment.encode()
        is_alike = True
        for slot, (address, port) in enumerate(pool.endpoints, pool.first):
            rest, value = packed.get(frontend + _packed_slot(slot)), pack(packed_address(family, address), port)
            if rest != value + comment:
                is_alike = False
                if rest is None or rest[:width] != value:
                    return False
        if frontend + _packed_slot(pool.first + len(pool.endpoints)) in packed:
            return False
        if is_alike:
            self._alike[id(pool)] = pool
        return True

    def verdicts(self) -> Iterator[tuple[bytes, str]]:
        """Of a verdict map the packed keys, and where each leads to."""
        for key, rest in self._packed.items():
            yield key, _text(rest[: rest.index(0)])

    def _frontend(self, key: Key) -> bytes:
        """What the keys of all slots of a frontend begin with."""
        return self._layout.key.pack((*key, 0))[:-4]

    def _endpoint_of(self, packed: bytes) -> tuple[str, int]:
        endpoint = self._values.get(packed)
        if endpoint is None:
            address, port = self._endpoint.unpack(packed)
            endpoint = self._values[packed] = address_text(address), port
        return endpoint

    def _element(self, key: Key, rest: bytes) -> Element:
        if self._layout.verdict:
            chain, _, comment = rest.partition(b"\0")
            return Element(key, Goto(_text(chain.removeprefix(_FOREIGN))), _text(comment))
        value = self._endpoint_of(rest[: self._width]) if self._width else None
        return Element(key, value, _text(rest[self._width :]))


class _Items(ItemsView[Key, Element]):
    _mapping: PackedElements

    def __iter__(self) -> Iterator[tuple[Key, Element]]:
        return self._mapping.pairs()


class _Values(ValuesView[Element]):
    _mapping: PackedElements

    def __iter__(self) -> Iterator[Element]:
        return (element for _, element in self._mapping.pairs())


def pack_rest(layout: Layout, element: Element) -> bytes:
    """What an element is beside its key: its value (of a verdict the chain, with a zero behind it), its comment."""
    value, comment = element.value, element.comment.encode()
    if isinstance(value, Goto):
        return value.chain.encode() + b"\0" + comment
    return layout.value.pack(value) + comment if layout.value and value else comment


def _text(packed: bytes) -> str:
    return sys.intern(packed.decode(errors="replace"))


Reader = Callable[[bytes, dict[bytes, bytes]], int]
"""Takes in the elements of one message, by packed key; says how many there were. Raises OddElement."""


def make_reader(layout: Layout) -> Reader:
    """The reader of one map's messages, behind their headers.

    All its elements are alike but for the length of comment and chain, so that most of what is in them is compared
    with what it always is, and not walked.
    """
    size, width = layout.key.size, layout.value.size if layout.value else 0
    key_head = struct.pack("=HHHH", size + 8, ELEM_KEY, size + 4, DATA_VALUE)
    data_head = struct.pack("=HHHH", width + 8, ELEM_DATA, width + 4, DATA_VALUE) if width else b""

    def verdict(data: bytes, at: int, end: int) -> bytes | None:
        if data[at + 8 : at + 16] != _GOTO_HEAD:
            return None
        name_end = at + 16 + int(_length_at(data, at + 16)[0])
        return _with_comment(data[at + 20 : name_end], data, name_end + 3 & ~3, end)

    def single(data: bytes, at: int, end: int) -> bytes | None:
        value_at = at + len(data_head)
        if data[at:value_at] != data_head:
            return None
        return _with_comment(data[value_at : value_at + width], data, value_at + width, end)

    rest_of = verdict if layout.verdict else single

    list_at = BODY + len(layout.naming)  # in answers, as in questions, the table and the map are named first
    element_at = list_at + ATTRIBUTE

    def read(data: bytes, into: dict[bytes, bytes]) -> int:
        if data[BODY:list_at] == layout.naming and data[list_at + 2 : element_at] == _LIST_HEAD:
            at, end = element_at, list_at + int(_length_at(data, list_at)[0])
        else:
            at, end = find(data, BODY, len(data), LIST_ELEMENTS)
        count = 0
        while at < end:
            behind = at + int(_length_at(data, at)[0])
            key_at = at + _KEY_AT
            rest = None
            if data[at + ATTRIBUTE : key_at] == key_head:
                key = data[key_at : key_at + size]
                rest = rest_of(data, key_at + size, behind)
            if rest is None:
                key, rest = _walked(layout, data, at + ATTRIBUTE, behind)
            into[key] = rest
            count += 1
            at = behind + 3 & ~3
        return count

    return read


def _with_comment(value: bytes, data: bytes, at: int, end: int) -> bytes | None:
    """A value that ends at ``at`` with the comment of the element, which ends at ``end``.

    None if there is more than one counter and one comment.
    """
    if data[at : at + 24] == _COUNTER_HEAD and data[at + 32 : at + 36] == _COUNTER_MIDDLE:
        at += _COUNTER_SIZE
    if at == end:
        return value
    if data[at + 2 : at + 5] != _COMMENT_HEAD:
        return None
    length, text_length = int(_length_at(data, at)[0]), data[at + 5]
    if length != 6 + text_length or at + (length + 3 & ~3) != end:
        return None
    return value + data[at + 6 : at + 5 + text_length]


def _walked(layout: Layout, data: bytes, start: int, end: int) -> tuple[bytes, bytes]:
    """Key and rest of an element that is not put together as the kernel does it with ours."""
    parts = {kind: (first, last) for kind, first, last in walk(data, start, end)}
    key = data[slice(*find(data, *parts.get(ELEM_KEY, (0, 0)), DATA_VALUE))]
    if len(key) != layout.key.size:
        raise OddElement("one of another key")
    counters = [*walk(data, *parts.get(ELEM_EXPRESSIONS, (0, 0)))]
    spans = [parts[ELEM_EXPR]] if ELEM_EXPR in parts else [(first, last) for _, first, last in counters]
    others = parts.keys() - {ELEM_KEY, ELEM_DATA, ELEM_EXPR, ELEM_EXPRESSIONS, ELEM_USERDATA}
    if others or any(data[slice(*find(data, *span, _EXPR_NAME))] != b"counter\0" for span in spans):
        raise OddElement(f"{_told(layout, key)}, with more than a value, a counter and a comment")
    return key, _value(layout, data, parts.get(ELEM_DATA, (0, 0)), key) + comment_of(
        data, parts.get(ELEM_USERDATA, (0, 0))
    )


def _value(layout: Layout, data: bytes, span: tuple[int, int], key: bytes) -> bytes:
    verdict = find(data, *span, DATA_VERDICT)
    if layout.verdict and verdict[0]:
        code = int.from_bytes(data[slice(*find(data, *verdict, _VERDICT_CODE))], "big", signed=True)
        chain = data[slice(*find(data, *verdict, _VERDICT_CHAIN))].rstrip(b"\0")
        if code == _GOTO:
            return chain + b"\0"
        words = f"{_VERDICTS.get(code, str(code))} ".encode() + chain
        return _FOREIGN + words.rstrip() + b"\0"
    value = data[slice(*find(data, *span, DATA_VALUE))]
    if layout.verdict or len(value) != (layout.value.size if layout.value else 0):
        raise OddElement(f"{_told(layout, key)}, of another value")
    return value


def comment_of(data: bytes, userdata: tuple[int, int]) -> bytes:
    """The comment among what nft has noted beside an element; nothing if there is none."""
    at, end = userdata
    while at + 2 <= end:
        kind, length = data[at], data[at + 1]
        if kind == _COMMENT:
            return data[at + 2 : min(at + 2 + length, end)].partition(b"\0")[0]
        at += 2 + length
    return b""


def _told(layout: Layout, key: bytes) -> str:
    return " . ".join(map(str, layout.key.unpack(key)))
