"""Elements alone, written over netlink without libnftables.

libnftables asks the kernel for all chains and sets before it adds an element, and it writes, parses and keeps text.
Almost every change of a service is elements of maps that are always there, so these go as the messages that
libnftables would make of them, with the same flags: adding fails over an element of that key with another value
(EEXIST), and deleting over one that is not there (ENOENT). Whatever is anything else is left to ``libnftables``.

Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from nodeport_nft.compile import TABLE
from nodeport_nft.kernel.netlink.batch import Message, join
from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    DATA_VERDICT,
    DELSETELEM,
    ELEM_DATA,
    ELEM_KEY,
    ELEM_USERDATA,
    LIST_ELEM,
    LIST_ELEMENTS,
    NEWSETELEM,
    Layout,
    layouts,
)
from nodeport_nft.kernel.netlink.messages import CREATE, NESTED, attribute
from nodeport_nft.plan import Add, Delete, Operation, Transaction
from nodeport_nft.ruleset import Element, Goto, Value

_VERDICT_CODE, _VERDICT_CHAIN = 1, 2  # NFTA_VERDICT_*
_GOTO = struct.pack(">i", -4)  # NFT_GOTO, in network byte order as all numbers of nf_tables
_COMMENT = 0  # NFTNL_UDATA_SET_ELEM_COMMENT (libnftnl/udata.h): a type and a length of a byte each, then the text
_COMMENT_LIMIT = 128  # bytes that nft takes

_PAYLOAD = 0xFFFF - 4
"""Bytes of elements in one message: the length of the attribute around them has 16 bits."""


def encode(transactions: Iterable[Transaction]) -> bytes | None:
    """One batch of all of them, in their order; None if that takes libnftables, or if there is nothing to do."""
    written: list[Message] = []
    for transaction in transactions:
        for operation in transaction.operations:
            found = element_messages(transaction, operation)
            if found is None:
                return None
            written += found
    return join(written) if written else None


def element_messages(transaction: Transaction, operation: Operation) -> list[Message] | None:
    """The messages that carry out this operation of the transaction; None if that takes libnftables."""
    known = layouts(transaction.family) if transaction.name == TABLE else {}
    if not isinstance(operation, Add | Delete) or operation.map not in known:
        return None
    layout = known[operation.map]
    kind, flags = (NEWSETELEM, CREATE) if isinstance(operation, Add) else (DELSETELEM, 0)
    try:
        return [Message(kind, flags, layout.family, body) for body in _bodies(layout, operation)]
    except (KeyError, ValueError, OSError, struct.error):  # such as the number of a protocol that is not ours
        return None


def _bodies(layout: Layout, operation: Add | Delete) -> Iterator[bytes]:
    """The attributes of each message that the operation takes."""
    if isinstance(operation, Add):
        elements = (_element(layout, element) for element in operation.elements)
    else:
        elements = (attribute(LIST_ELEM | NESTED, _data(ELEM_KEY, layout.key.pack(key))) for key in operation.keys)
    waiting: list[bytes] = []
    size = 0
    for element in elements:
        if size + len(element) > _PAYLOAD:
            yield layout.naming + attribute(LIST_ELEMENTS | NESTED, b"".join(waiting))
            waiting, size = [], 0
        waiting.append(element)
        size += len(element)
    yield layout.naming + attribute(LIST_ELEMENTS | NESTED, b"".join(waiting))


def _element(layout: Layout, element: Element) -> bytes:
    parts = _data(ELEM_KEY, layout.key.pack(element.key)) + _value(layout, element.value)
    if element.comment:
        parts += attribute(ELEM_USERDATA, _comment(element.comment))
    return attribute(LIST_ELEM | NESTED, parts)


def _value(layout: Layout, value: Value) -> bytes:
    if isinstance(value, Goto) and layout.verdict:
        chain = attribute(_VERDICT_CODE, _GOTO) + attribute(_VERDICT_CHAIN, value.chain.encode() + b"\0")
        return attribute(ELEM_DATA | NESTED, attribute(DATA_VERDICT | NESTED, chain))
    if isinstance(value, tuple) and layout.value:
        return _data(ELEM_DATA, layout.value.pack(value))
    if value is None and not layout.verdict and not layout.value:
        return b""
    raise ValueError(f"an element of {layout.name} cannot be {value!r}")


def _data(kind: int, packed: bytes) -> bytes:
    return attribute(kind | NESTED, attribute(DATA_VALUE, packed))


def _comment(text: str) -> bytes:
    comment = text.encode()
    if len(comment) > _COMMENT_LIMIT or any(byte in comment for byte in b'"\n\0'):
        raise ValueError(f"a comment that nft cannot hold: {text!r}")
    return bytes((_COMMENT, len(comment) + 1)) + comment + b"\0"
