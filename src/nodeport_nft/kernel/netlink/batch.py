"""Batches of nf_tables messages: put together, taken apart, and carried out by the kernel, as a whole or not at all.

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
import weakref
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from nodeport_nft.compile import TABLE
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.disassembly import disassemble
from nodeport_nft.kernel.netlink.expressions import unpack
from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    DELSETELEM,
    ELEM_KEY,
    LIST_ELEMENTS,
    LIST_SET,
    LIST_TABLE,
    NEWSETELEM,
    NFNL_MSG_BATCH_BEGIN,
    NFNL_MSG_BATCH_END,
    NFNL_SUBSYS_NFTABLES,
    layouts,
)
from nodeport_nft.kernel.netlink.messages import (
    ACK,
    ATTRIBUTE,
    BODY,
    CAP_ACK,
    ERROR,
    EXT_ACK,
    HEADER,
    NETFILTER,
    SOL_NETLINK,
    acknowledge,
    code,
    failed_attribute,
    failed_message,
    find,
    flagged,
    message,
    messages,
    walk,
)
from nodeport_nft.kernel.netlink.rules import ADDRESS_SIZES
from nodeport_nft.render import write_rule

_WMEM_MAX = Path("/proc/sys/net/core/wmem_max")
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_OVERHEAD = 32  # bytes of its send buffer that a netlink socket keeps back (netlink_sendmsg)

FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
"""nft's names of families, and the kernel's numbers (linux/netfilter.h, NFPROTO_*)."""

_RULE_EXPRESSIONS = 4  # NFTA_RULE_EXPRESSIONS

# Of NFT_MSG_*: what a message makes (the number) or deletes (two above it), and which attribute has its name.
_OBJECTS = {0: ("table", 0), 3: ("chain", 3), 6: ("rule", 2), 9: ("set", 2), 12: ("element", 2), 22: ("flowtable", 2)}


class Message(NamedTuple):
    """One message of a batch: NFT_MSG_* with its subsystem, NLM_F_* flags, family, attributes."""

    kind: int
    flags: int
    family: int
    attributes: bytes


def join(written: Iterable[Message], *, dry: bool = False) -> bytearray:
    """The batch of these messages, at least one. ``dry``: without its end, so that the kernel drops what it has done.

    They are taken one by one: whoever makes them as they are taken has all of them in memory once, here.
    """
    batch = bytearray(_bound(NFNL_MSG_BATCH_BEGIN, 0))
    last = number = 0
    for number, (kind, flags, family, attributes) in enumerate(written, 1):
        last = len(batch)
        batch += message(kind, flags, family, attributes, sequence=number)
    acknowledge(batch, last)
    if not dry:
        batch += _bound(NFNL_MSG_BATCH_END, number + 1)
    return batch


def _bound(kind: int, number: int) -> bytes:
    return message(kind, 0, socket.AF_UNSPEC, b"", NFNL_SUBSYS_NFTABLES, sequence=number)


def split(batch: bytes | bytearray) -> list[Message]:
    """The messages of a batch that somebody else has put together, to be joined with others."""
    return [
        Message(kind, flags & ~ACK, data[0], data[BODY:])
        for kind, flags, data in flagged(batch)
        if kind not in (NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END)
    ]


class BatchWriter:
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

    def commit(self, batch: bytes | bytearray) -> None:
        """Have the kernel carry out all that ``join`` has put into it, or raise KernelError: none of it."""
        self._make_room(len(batch))
        self._answers()  # what an earlier call may have left
        try:
            self._socket.send(batch)
        except OSError as error:
            raise KernelError(_unsent(error, len(batch))) from error
        answers, lost = self._answers()
        failures = [answer for answer in answers if code(answer)]
        if failures:
            raise KernelError(_refusal(bytes(batch), failures))
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
        return f"{refused}: {_too_long(size)}"
    return f"{refused}: {error.strerror}"


def _too_long(size: int) -> str:
    """The kernel's "Message too long" in words: a transaction of ``size`` bytes is one message."""
    try:
        most = int(_WMEM_MAX.read_text(encoding="ascii"))
    except (OSError, ValueError):  # a network namespace of an older kernel shows none
        most = 0
    limit = (
        f" than the {2 * most} bytes that may be sent at once in a user namespace" if most else " than may be sent"
    )
    remedy = f"sysctl net.core.wmem_max={size}"
    return f"its {size} bytes are more{limit}; write less at a time, or raise the limit on the host: {remedy}"


OWNED = "another process may own the table (flags owner)"
"""What a refusal says where only the owner of a table may change it."""


def _refusal(batch: bytes, failures: list[bytes]) -> str:
    first = failures[0]
    number, failure = failed_message(first), code(first)
    words = (
        f"nftables refused the transaction; nothing was changed:\n{_where(batch, number, failed_attribute(first))}"
    )
    words += os.strerror(failure)
    if number and failure == errno.ENOENT:
        words += f" ({_missing(batch, number)})"
    words += f"; and {len(failures) - 1} more" if len(failures) > 1 else ""
    if failure == errno.EPERM:
        words += f"\n{OWNED}; nft list tables shows it"
    return words


def _missing(batch: bytes, number: int) -> str:
    """What a message may have named that is not there."""
    kind, *_ = next(islice(flagged(batch), number, None))
    if kind in (NEWSETELEM, DELSETELEM):
        return "the element, a chain it leads to, the map or the table"
    return "what it names, or the kernel's module for it"


def _where(batch: bytes, number: int, offset: int) -> str:
    """What a message wanted, as words that end in a colon; ``offset`` is where the kernel has found it wrong."""
    if number == 0:  # of the batch as a whole
        return ""
    kind, _, data = next(islice(flagged(batch), number, None))
    family = next((name for name, number in FAMILIES.items() if number == data[0]), "?")
    table, name = (_string(data, kind) for kind in (LIST_TABLE, LIST_SET))
    if kind not in (NEWSETELEM, DELSETELEM) or table != TABLE or name not in layouts(family):
        return _object(kind, family, data)
    held = [(start, end) for _, start, end in walk(data, *find(data, BODY, len(data), LIST_ELEMENTS))]
    wrong = [span for span in held if span[0] - ATTRIBUTE <= offset - HEADER < span[1]]
    verb, whose = ("add", "to") if kind == NEWSETELEM else ("delete", "from")
    if len(held) > 1 and not wrong:  # the map is not there, or an old kernel does not say
        return f"{verb} {len(held)} elements {whose} {family} {table} {name}: "
    key = find(data, *find(data, *(wrong or held)[0], ELEM_KEY), DATA_VALUE)
    parts = " . ".join(map(str, layouts(family)[name].key.unpack(data, key[0])))
    return f"{verb} {parts} {whose} {family} {table} {name}: "


def _object(kind: int, family: str, data: bytes) -> str:
    """``delete chain ip nodeport-nft affinity/x: ``; nothing for what is not known here."""
    number = kind & 0xFF
    verb, known = ("add", number) if number in _OBJECTS else ("delete", number - 2)
    if known not in _OBJECTS:
        return ""
    what, named = _OBJECTS[known]
    name = f" {_string(data, named)}" if named else ""
    rule = f"{spelled}: " if what == "rule" and (spelled := _rule(family, data)) else ""
    return f"{verb} {what} {family} {_string(data, LIST_TABLE)}{name}: {rule}"


def _rule(family: str, data: bytes) -> str:
    """A rule of a message as nft spells it; nothing where it is none of ours, or a chain is named alone."""
    instructions = unpack(data[slice(*find(data, BODY, len(data), _RULE_EXPRESSIONS))])
    rule = disassemble(family, instructions) if family in ADDRESS_SIZES else None
    return write_rule(family, rule) if rule else ""


def _string(data: bytes, kind: int) -> str:
    return data[slice(*find(data, BODY, len(data), kind))].rstrip(b"\0").decode(errors="replace")
