"""Elements alone, written over netlink without libnftables.

libnftables asks the kernel for all chains and sets before it adds an element, and it writes, parses and keeps text.
Almost every change of a service is elements of maps that are always there, so these go as the batch that libnftables
would make of them, with the same flags: adding fails over an element of that key with another value (EEXIST), and
deleting over one that is not there (ENOENT). Whatever holds anything else is left to libnftables.

A batch is carried out while it is sent: when ``send`` returns, the kernel has committed or dropped all of it, and its
answers are waiting. It tells every message that failed, whether asked to or not; the last message alone asks to be
acknowledged. Success is that acknowledgement and no failure, since the kernel still acknowledges the last message
where another one, or the commit itself, has failed.

Source: linux/netfilter/nfnetlink.h, nf_tables.h; net/netfilter/nfnetlink.c (nfnetlink_rcv_batch).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from nodeport_nft.compile import TABLE
from nodeport_nft.kernel.keys import (
    DATA_VALUE,
    DATA_VERDICT,
    DELSETELEM,
    ELEM_DATA,
    ELEM_KEY,
    ELEM_USERDATA,
    LIST_ELEM,
    LIST_ELEMENTS,
    LIST_SET,
    LIST_TABLE,
    NEWSETELEM,
    NFNL_MSG_BATCH_BEGIN,
    NFNL_MSG_BATCH_END,
    NFNL_SUBSYS_NFTABLES,
    Layout,
    layouts,
)
from nodeport_nft.kernel.netlink import (
    ACK,
    ATTRIBUTE,
    BODY,
    CAP_ACK,
    CREATE,
    ERROR,
    EXT_ACK,
    HEADER,
    NESTED,
    NETFILTER,
    SOL_NETLINK,
    KernelError,
    attribute,
    code,
    failed_attribute,
    failed_message,
    find,
    flagged,
    message,
    messages,
    walk,
)
from nodeport_nft.plan import Add, Delete, Transaction
from nodeport_nft.ruleset import Element, Goto, Value

_VERDICT_CODE, _VERDICT_CHAIN = 1, 2  # NFTA_VERDICT_*
_GOTO = struct.pack(">i", -4)  # NFT_GOTO, in network byte order as all numbers of nf_tables
_COMMENT = 0  # NFTNL_UDATA_SET_ELEM_COMMENT (libnftnl/udata.h): a type and a length of a byte each, then the text
_COMMENT_LIMIT = 128  # bytes that nft takes

_PAYLOAD = 0xFFFF - 4
"""Bytes of elements in one message: the length of the attribute around them has 16 bits."""

_WMEM_MAX = Path("/proc/sys/net/core/wmem_max")
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_OVERHEAD = 32  # bytes of its send buffer that a netlink socket keeps back (netlink_sendmsg)


def encode(transactions: Iterable[Transaction]) -> bytes | None:
    """One batch of all of them, in their order; None if that takes libnftables, or if there is nothing to do."""
    written: list[tuple[int, int, int, bytes]] = []
    for transaction in transactions:
        known = layouts(transaction.family) if transaction.name == TABLE else {}
        for operation in transaction.operations:
            if not isinstance(operation, Add | Delete) or operation.map not in known:
                return None
            layout = known[operation.map]
            kind, flags = (NEWSETELEM, CREATE) if isinstance(operation, Add) else (DELSETELEM, 0)
            try:
                written += [(kind, flags, layout.family, body) for body in _bodies(layout, operation)]
            except (KeyError, ValueError, OSError, struct.error):  # such as the number of a protocol that is not ours
                return None
    if not written:
        return None
    kind, flags, family, body = written[-1]
    written[-1] = kind, flags | ACK, family, body
    last = len(written) + 1
    return b"".join((
        message(NFNL_MSG_BATCH_BEGIN, 0, socket.AF_UNSPEC, b"", NFNL_SUBSYS_NFTABLES),
        *(message(*parts, sequence=number) for number, parts in enumerate(written, 1)),
        message(NFNL_MSG_BATCH_END, 0, socket.AF_UNSPEC, b"", NFNL_SUBSYS_NFTABLES, sequence=last),
    ))  # fmt: skip


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


class ElementWriter:
    """A socket of its own, in the network namespace in which this was made."""

    def __init__(self) -> None:
        """Raises KernelError where there is no netlink for nftables."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
        except OSError as error:
            raise KernelError(f"nftables cannot be reached: {error.strerror}") from error
        weakref.finalize(self, self._socket.close)
        self._socket.setblocking(False)  # when a batch is sent, all answers are there
        self._socket.setsockopt(SOL_NETLINK, CAP_ACK, 1)  # errors without the message they are about
        self._socket.setsockopt(SOL_NETLINK, EXT_ACK, 1)  # but with where in it

    def commit(self, batch: bytes) -> None:
        """Have the kernel carry out all that ``encode`` has put into it, or raise KernelError: none of it."""
        self._make_room(len(batch))
        self._answers()  # what an earlier call may have left
        try:
            self._socket.send(batch)
        except OSError as error:
            raise KernelError(_unsent(error, len(batch))) from error
        answers, lost = self._answers()
        failures = [answer for answer in answers if code(answer)]
        if failures:
            raise KernelError(_refusal(batch, failures))
        if lost or not answers:
            raise KernelError(
                "the kernel's answer was lost, for want of memory; whether it has carried out the transaction "
                "is not known: read the tables again"
            )

    def _make_room(self, size: int) -> None:
        """The kernel takes a message of any size as long as the send buffer may hold it."""
        room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        if size + _OVERHEAD <= room:
            return
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)  # the kernel doubles it
        except PermissionError:  # a capability in a user namespace is not enough
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)  # up to net.core.wmem_max

    def _answers(self) -> tuple[list[bytes], bool]:
        """All that wait, and whether some were lost: the first that came are kept."""
        found: list[bytes] = []
        lost = False
        while True:
            try:
                found += [data for kind, data in messages(self._socket.recv(1 << 16)) if kind == ERROR]
            except BlockingIOError:
                return found, lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError(f"nftables' answer cannot be read: {error.strerror}") from error
                lost = True


def _unsent(error: OSError, size: int) -> str:
    refused = "nftables did not get the transaction; nothing was changed"
    if error.errno == errno.EMSGSIZE:
        return f"{refused}: {too_long(size)}"
    return f"{refused}: {error.strerror}"


def too_long(size: int = 0) -> str:
    """The kernel's "Message too long" in words: a transaction of ``size`` bytes (0: not known) is one message."""
    try:
        most = int(_WMEM_MAX.read_text(encoding="ascii"))
    except (OSError, ValueError):  # a network namespace of an older kernel shows none
        most = 0
    what = f"its {size} bytes are" if size else "it is"
    limit = (
        f" than the {2 * most} bytes that may be sent at once in a user namespace" if most else " than may be sent"
    )
    value = size or 4 * most
    remedy = f"sysctl net.core.wmem_max={value}" if value else "sysctl net.core.wmem_max"
    return f"{what} more{limit}; write less at a time, or raise the limit on the host: {remedy}"


def _refusal(batch: bytes, failures: list[bytes]) -> str:
    first = failures[0]
    number, failure = failed_message(first), code(first)
    words = (
        f"nftables refused the transaction; nothing was changed:\n{_where(batch, number, failed_attribute(first))}"
    )
    words += os.strerror(failure)
    if number and failure == errno.ENOENT:
        words += " (the element, a chain it leads to, the map or the table)"
    return words + (f"; and {len(failures) - 1} more" if len(failures) > 1 else "")


def _where(batch: bytes, number: int, offset: int) -> str:
    """What a message wanted, as words that end in a colon; ``offset`` is where the kernel has found it wrong."""
    if number == 0:  # of the batch as a whole
        return ""
    kind, _, data = next(islice(flagged(batch), number, None))
    family = "ip" if data[0] == socket.AF_INET else "ip6"
    table, name = (_string(data, kind) for kind in (LIST_TABLE, LIST_SET))
    held = [(start, end) for _, start, end in walk(data, *find(data, BODY, len(data), LIST_ELEMENTS))]
    wrong = [span for span in held if span[0] - ATTRIBUTE <= offset - HEADER < span[1]]
    verb, whose = ("add", "to") if kind == NEWSETELEM else ("delete", "from")
    if len(held) > 1 and not wrong:  # the map is not there, or an old kernel does not say
        return f"{verb} {len(held)} elements {whose} {family} {table} {name}: "
    key = find(data, *find(data, *(wrong or held)[0], ELEM_KEY), DATA_VALUE)
    parts = " . ".join(map(str, layouts(family)[name].key.unpack(data, key[0])))
    return f"{verb} {parts} {whose} {family} {table} {name}: "


def _string(data: bytes, kind: int) -> str:
    return data[slice(*find(data, BODY, len(data), kind))].rstrip(b"\0").decode()
