"""Dumps of nftables: what the kernel has of one kind, whole or not at all.

A dump is not a snapshot: the kernel hands it out in pieces of at most 32 KiB, and where a commit falls between two of
them, things may be missing. It may say so (NLM_F_DUMP_INTR), and every piece carries the number of the last commit.
But a commit has its number first and takes out elements after that: an element was seen to be missing from a dump
that began in between. So the number is read before, and then an empty batch is sent, which has to wait for a commit
that is under way.

The kernel finds the beginning of each piece by counting, so a dump of one large map costs the square of its size
(Linux 6.18, one core: 100,000 elements 0.5 s, 300,000 about ten times that). Keys asked for one by one
cost 10 µs or less each: ``runs`` reads the largest maps so. While it counts, no other thread is held up.

Source: linux/netlink.h, net/netlink/af_netlink.c (netlink_dump); net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from nodeport_nft.kernel.netlink.layouts import (
    GETGEN,
    NFNL_MSG_BATCH_BEGIN,
    NFNL_MSG_BATCH_END,
    NFNL_SUBSYS_NFTABLES,
)
from nodeport_nft.kernel.netlink.messages import (
    CAP_ACK,
    DONE,
    DUMP,
    ERROR,
    HEADER,
    INTERRUPTED,
    NETFILTER,
    SOL_NETLINK,
    aligned,
    answers,
    code,
    message,
    revision,
)

TRIES = 3
"""How often something is read before we give up because commits fall into each reading."""

_PIECE = 1 << 16  # the kernel's largest are of 32 KiB
_MESSAGE = struct.Struct("=IHH")  # of nlmsghdr: length, type, flags
_BROKEN_OFF = (errno.EINTR, errno.EAGAIN)


class Interrupted(Exception):
    """A commit fell into a dump."""


def open_netlink() -> socket.socket:
    """A socket to ask by, in the caller's network namespace. Raises OSError."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
    netlink.setsockopt(SOL_NETLINK, CAP_ACK, 1)  # errors without the question
    return netlink


def dump(
    netlink: socket.socket, kind: int, family: int, asked: bytes, begun: bytes | None, *, flags: int = DUMP
) -> Iterator[bytes]:
    """What follows the header of each message that answers; nothing where what is asked for is not there.

    ``flags``: ACK for a request that is about one thing.

    ``begun`` is what ``settled`` has given, None: commits that fall into the dump do not matter. Raises Interrupted
    where one did, or where the kernel has broken the dump off, and OSError where it refuses.
    """
    netlink.send(message(kind, flags, family, asked))
    buffer = make_buffer()
    is_whole = has_ended = False
    try:
        is_sound = True
        while not has_ended:
            for answer, marks, data in received(netlink, buffer):
                is_sound = is_sound and (begun is None or not marks & INTERRUPTED)
                if answer in (ERROR, DONE):
                    has_ended = True
                    failure = code(data)
                    # The last: it was there a moment ago.
                    is_sound = is_sound and failure not in _BROKEN_OFF and (failure, answer) != (errno.ENOENT, DONE)
                    if failure not in (0, errno.ENOENT, *_BROKEN_OFF):
                        raise OSError(failure, os.strerror(failure))
                elif is_sound := is_sound and (begun is None or revision(data) == begun):
                    yield data
        is_whole = is_sound
    finally:
        while not has_ended:  # the kernel begins no other dump on this socket before
            has_ended = any(answer in (ERROR, DONE) for answer, _, _ in received(netlink, buffer))
    if not is_whole:
        raise Interrupted


def forget(netlink: socket.socket) -> None:
    """Throw away what is left of earlier answers: who asked may have failed before all was read. Raises OSError."""
    while True:
        try:
            netlink.recv(_PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise


def make_buffer() -> memoryview:
    """Where ``received`` puts what comes: one for many pieces, since to make it takes longer than to fill it."""
    return memoryview(bytearray(_PIECE))


def received(netlink: socket.socket, buffer: memoryview) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and content of each message of one piece."""
    size, at = netlink.recv_into(buffer), 0
    while at < size:
        length, answer, flags = _MESSAGE.unpack_from(buffer, at)
        yield answer, flags, bytes(buffer[at + HEADER : at + length])
        at += aligned(length)


def settled(netlink: socket.socket) -> bytes:
    """The number of the last commit, once that one is through. Raises OSError."""
    netlink.send(message(GETGEN, 0, socket.AF_UNSPEC, b""))
    kind, data = next(answers(netlink))
    if kind == ERROR and (failure := code(data)):
        raise OSError(failure, os.strerror(failure))
    ends = NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END
    # It changes nothing, and nothing is answered; the call returns when the batch is done.
    netlink.send(b"".join(message(end, 0, socket.AF_UNSPEC, b"", NFNL_SUBSYS_NFTABLES) for end in ends))
    return revision(data)
