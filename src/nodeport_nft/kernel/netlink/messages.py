"""Netlink messages of the netfilter subsystems: how they are put together and taken apart.

For what is asked often or in bulk, where a full decoding costs more than the kernel's own work (see ``conntrack``).
Source: linux/netlink.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

NETFILTER, SOL_NETLINK, CAP_ACK, EXT_ACK = 12, 270, 10, 11
ACK, DUMP, CREATE, APPEND = 0x004, 0x300, 0x400, 0x800
ERROR, DONE = 2, 3
NESTED = 0x8000
INTERRUPTED = 0x010  # NLM_F_DUMP_INTR: what a dump reads has changed meanwhile

_REQUEST = 0x001
_KIND = 0x3FFF  # an attribute's type without its flags

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence number, port
_NFGEN = struct.Struct("=BBH")  # nfgenmsg: family, version, resource
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_CODE = struct.Struct("=i")  # nlmsgerr, and what ends a dump: a negative errno
_NLMSGERR_ATTR_OFFS = 2
_CAP_NET_ADMIN = 12  # linux/capability.h

HEADER, BODY, ATTRIBUTE = _HEADER.size, _NFGEN.size, _ATTRIBUTE.size
"""Bytes of a message's header; where its attributes begin behind that; bytes of an attribute's header."""


def may_administer() -> bool:
    """Whether this process has CAP_NET_ADMIN, which all that is asked and changed here needs (proc_pid_status(5))."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_NET_ADMIN & 1)


def message(kind: int, flags: int, family: int, attributes: bytes, resource: int = 0, *, sequence: int = 0) -> bytes:
    """A request to a netfilter subsystem; ``family`` is an address family, 0 for none."""
    body = _NFGEN.pack(family, 0, socket.htons(resource)) + attributes
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, sequence, 0) + body


def acknowledge(data: bytearray, at: int) -> None:
    """Let the message that begins there ask to be acknowledged."""
    length, kind, flags, *_ = _HEADER.unpack_from(data, at)
    struct.pack_into("=IHH", data, at, length, kind, flags | ACK)


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each message of what one ``recv`` gave, as its type and what follows its header."""
    at = 0
    while at < len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += aligned(length)


def flagged(data: bytes | bytearray) -> Iterator[tuple[int, int, bytes]]:
    """The same with each message's flags: type, flags, what follows the header."""
    at = 0
    while at < len(data):
        length, kind, flags, *_ = _HEADER.unpack_from(data, at)
        yield kind, flags, bytes(data[at + _HEADER.size : at + length])
        at += aligned(length)


def revision(data: bytes) -> bytes:
    """The resource field of a message (nfgenmsg): of nftables, the number of the last commit, as far as it fits."""
    return data[2:4]


def answers(netlink: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Every message that comes, without an end."""
    while True:
        yield from messages(netlink.recv(1 << 16))  # the kernel's largest is 32 KiB


def code(data: bytes) -> int:
    """The errno in an error or at the end of a dump; 0 for success."""
    return -int(_CODE.unpack_from(data)[0])


def failed_message(data: bytes) -> int:
    """The sequence number of the message that an error is about."""
    return int(_HEADER.unpack_from(data, _CODE.size)[3])


def failed_attribute(data: bytes) -> int:
    """Where in that message, header included, the attribute begins that was wrong; 0 if the kernel does not say.

    For errors without the message that they are about (CAP_ACK), with what EXT_ACK adds to them.
    """
    start, end = find(data, _CODE.size + _HEADER.size, len(data), _NLMSGERR_ATTR_OFFS)
    return int.from_bytes(data[start:end], sys.byteorder)


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length & 3)


def walk(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Each attribute: its type, and where its payload begins and ends."""
    while start < end:
        length, found = _ATTRIBUTE.unpack_from(data, start)
        yield found & _KIND, start + _ATTRIBUTE.size, start + length
        start += aligned(length)


def find(data: bytes, start: int, end: int, kind: int) -> tuple[int, int]:
    """Where the payload of an attribute begins and ends; nowhere, as (0, 0), if it is not there."""
    while start < end:
        length, found = _ATTRIBUTE.unpack_from(data, start)
        if found & _KIND == kind:
            return start + _ATTRIBUTE.size, start + length
        start += aligned(length)
    return 0, 0


def whole(data: bytes, payload: tuple[int, int]) -> bytes:
    """An attribute with its header and padding; nothing if it is not there."""
    start, end = payload
    return data[start - _ATTRIBUTE.size : end] + bytes(-end % 4) if start else b""


def aligned(length: int) -> int:
    """A length with its padding (NLMSG_ALIGN, NLA_ALIGN)."""
    return length + 3 & ~3
