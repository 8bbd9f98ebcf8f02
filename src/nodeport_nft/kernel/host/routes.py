"""By which device packets leave for an address, as the kernel routes them.

One question an address, some 10 µs each: the main table alone would not do where rules lead to others.
Source: rtnetlink(7), linux/rtnetlink.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from contextlib import suppress

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.messages import ERROR, attribute, messages, walk

_GETROUTE = 26
_REQUEST = 0x001
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, lengths of destination and source, tos, table, …, type, flags
_TYPE = 7  # where rtm_type stands
_DST, _OIF = 1, 4  # RTA_*
_UNICAST, _LOCAL = 1, 2  # RTN_*


def devices_to(addresses: Iterable[str]) -> dict[str, str]:
    """The device for each address, "" for one of this host; without those that no device leads to.

    Raises KernelError where the kernel cannot be asked.
    """
    found: dict[str, str] = {}
    names: dict[int, str] = {}
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            for address in addresses:
                netlink.send(_question(address))
                for kind, data in messages(netlink.recv(1 << 16)):
                    if kind == ERROR:  # no route, or one that refuses
                        continue
                    if data[_TYPE] == _LOCAL:
                        found[address] = ""
                    elif data[_TYPE] == _UNICAST and (index := _device(data)):
                        if index not in names:
                            with suppress(OSError):  # gone meanwhile
                                names[index] = socket.if_indextoname(index)
                        if index in names:
                            found[address] = names[index]
    except OSError as error:
        raise KernelError(f"routes to endpoints cannot be read: {error.strerror}") from error
    return found


def _question(address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + attribute(_DST, packed)
    return _HEADER.pack(_HEADER.size + len(body), _GETROUTE, _REQUEST, 0, 0) + body


def _device(data: bytes) -> int:
    for kind, start, end in walk(data, _ROUTE.size, len(data)):
        if kind == _OIF:
            (index,) = struct.unpack("=I", data[start:end])
            return int(index)
    return 0
