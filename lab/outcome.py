"""What became of one attempt to reach something, and how the kernel tells.

A socket with IP_RECVERR (IPV6_RECVERR) finds every ICMP error that answers its packets in its error queue,
with type and code, whatever its kind: TCP, connected UDP or raw (ip(7), ipv6(7)). Without it, TCP would hear
of an ICMP error that comes back while connect(2) still runs only when the SYN is sent again, a second later,
and UDP of nothing but port unreachable.
"""

from __future__ import annotations

import enum
import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

IPAddress = IPv4Address | IPv6Address

# <linux/in.h>, <linux/in6.h>: Python's socket module does not name them in every version.
SOL_IP, IP_RECVERR = 0, 11
SOL_IPV6, IPV6_RECVERR = 41, 25
SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6 = 2, 3  # <linux/errqueue.h>


class Kind(enum.StrEnum):
    """The four fates of a packet that asks for an answer."""

    REACHED = "reached"  # somebody answered, and said who it is
    REFUSED = "refused"  # TCP reset, or ICMP port unreachable
    UNREACHABLE = "unreachable"  # any other ICMP error, or no route
    SILENT = "silent"  # nothing came back in time


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt's fate.

    With REACHED: who answered (``name``), the address and port it saw the packet come from (``source``,
    ``source_port``) and at which of its own it arrived (``to``, ``to_port``). ``checksum_valid`` is for SCTP
    alone. ``detail`` says how the fate was told: "reset", "icmp 3/3" (type/code), an errno's name, …
    """

    kind: Kind
    name: str = ""
    source: IPAddress | None = None
    source_port: int = 0
    to: IPAddress | None = None
    to_port: int = 0
    checksum_valid: bool | None = None
    detail: str = ""


def of_errno(code: int, detail: str = "") -> Outcome:
    """The outcome that an errno of connect(2), send(2), recv(2) or SO_ERROR stands for."""
    kind = Kind.REFUSED if code in (errno.ECONNREFUSED, errno.ECONNRESET) else Kind.UNREACHABLE
    return Outcome(kind, detail=detail or errno.errorcode.get(code, os.strerror(code)))


def watch_icmp_errors(sock: socket.socket) -> None:
    """Have the kernel queue the ICMP errors that answer this socket's packets."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(SOL_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(SOL_IP, IP_RECVERR, 1)


def read_icmp_error(sock: socket.socket) -> Outcome | None:
    """The oldest queued ICMP error of a non-blocking socket as an outcome, None if there is none."""
    try:
        _, ancillary, _, _ = sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        return None
    for level, kind, data in ancillary:
        if (level, kind) in ((SOL_IP, IP_RECVERR), (SOL_IPV6, IPV6_RECVERR)):
            code, origin, icmp_type, icmp_code = struct.unpack_from("=IBBB", data)
            if origin in (SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6):
                return of_errno(code, f"icmp {icmp_type}/{icmp_code}")
            return of_errno(code)
    return None
