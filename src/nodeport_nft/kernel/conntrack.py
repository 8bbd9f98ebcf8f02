"""Connection tracking over ctnetlink: find the stale UDP flows and delete them (K2).

The kernel is asked for UDP alone (CTA_FILTER, Linux 5.8), so other protocols never leave it; but it can compare for
equality only, not tell a stale flow from a good one, nor look for many frontends at once. So every UDP flow of the
node has to be looked at here, and a busy DNS service has a hundred thousand good ones. That is why this speaks
netlink itself and not through pyroute2, whose ``NFCTSocket`` decodes each entry in full. Measured on Linux 6.18 with
pyroute2 0.9.7, seconds of CPU (of those for UDP, 0.35 are the kernel's own):

====================================  ========  ====
128,000 entries                       pyroute2  here
====================================  ========  ====
TCP                                   0.07      0.04
UDP to elsewhere                      9.9       0.6
UDP through a frontend of ours, good  9.9       1.0
the same, all of them stale           52        1.8
====================================  ========  ====

(52 is reckoned: one deletion takes it 0.33 ms.) To delete a flow, the bytes that named it in the dump are sent back:
its tuple, its zone, and its id, which tells it from a flow that has meanwhile taken its place. The attributes are
those of linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from nodeport_nft.flows import Place, UDPFrontends
from nodeport_nft.kernel.nft import KernelError
from nodeport_nft.model import Family

# linux/netlink.h
_NETFILTER, _SOL_NETLINK, _CAP_ACK = 12, 270, 10
_REQUEST, _ACK, _DUMP = 0x001, 0x004, 0x300
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_KIND = 0x3FFF  # an attribute's type without its flags

# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_TUPLE_ORIG, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCE, _DESTINATION = {4: 1, 16: 3}, {4: 2, 16: 4}  # CTA_IP_V4_… and CTA_IP_V6_…, by length of address
_PROTO_NUM, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS, _BY_PROTO_NUM = 1, 1 << 3

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence number, port
_NFGEN = struct.Struct("=BBH")  # nfgenmsg: family, version, resource
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

_CODE = struct.Struct("=i")  # nlmsgerr, and what ends a dump: a negative errno

_BATCH = 64
"""Deletions sent at a time: their answers fit into any socket's receive buffer."""

_FAMILIES = {Family.IPV4: (socket.AF_INET, 4), Family.IPV6: (socket.AF_INET6, 16)}
"""By family: its number, and the bytes of an address."""


def delete_stale_flows(frontends: Mapping[Family, UDPFrontends]) -> int:
    """Delete every stale UDP flow of the caller's network namespace; how many there were.

    A family without UDP frontends costs nothing. Raises KernelError where the kernel refuses or cannot.
    """
    wanted = [(family, known) for family, known in frontends.items() if known]
    if not wanted:
        return 0
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as netlink:
            netlink.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)  # answers without the question
            return sum(_delete(netlink, family, _find_stale(netlink, family, known)) for family, known in wanted)
    except OSError as error:
        raise KernelError(f"stale UDP flows are not deleted: {_explain(error)}") from error


def _explain(error: OSError) -> str:
    if error.errno in (errno.EINVAL, errno.EPROTONOSUPPORT):  # nfnetlink knows no such subsystem
        return "this kernel has no nf_conntrack_netlink; load the module: modprobe nf_conntrack_netlink"
    if error.errno == errno.EPERM:
        return "connection tracking needs CAP_NET_ADMIN; run as root, or give the program that capability"
    return f"connection tracking answers {error.strerror}"


def _find_stale(netlink: socket.socket, family: Family, frontends: UDPFrontends) -> list[bytes]:
    """The stale flows, each as the attributes that name it to the kernel."""
    number, size = _FAMILIES[family]
    netlink.send(_message(_GET, _DUMP, number, _UDP_ONLY))
    stale = []
    for kind, data in _answers(netlink):
        if kind in (_DONE, _ERROR):
            if code := _code(data):
                raise OSError(code, os.strerror(code))
            break
        start, end = _NFGEN.size, len(data)
        original = _find(data, start, end, _TUPLE_ORIG)
        destination = _place(data, original, _DESTINATION[size], _DESTINATION_PORT)
        if not frontends.concerns(destination) or not _is_udp(data, original):
            continue
        reply = _find(data, start, end, _TUPLE_REPLY)
        if frontends.is_stale(destination, _place(data, reply, _SOURCE[size], _SOURCE_PORT)):
            name = (_whole(data, _find(data, start, end, part)) for part in (_TUPLE_ORIG, _ID, _ZONE))
            stale.append(b"".join(name))
    return stale


def _delete(netlink: socket.socket, family: Family, flows: Sequence[bytes]) -> int:
    """How many of the flows were there to be deleted: one may have ended by itself since it was found."""
    deleted = 0
    for first in range(0, len(flows), _BATCH):
        batch = flows[first : first + _BATCH]
        netlink.send(b"".join(_message(_DELETE, _ACK, _FAMILIES[family][0], flow) for flow in batch))
        for code in [_code(data) for _, data in islice(_answers(netlink), len(batch))]:
            if code not in (0, errno.ENOENT):
                raise OSError(code, os.strerror(code))
            deleted += code == 0
    return deleted


# --- netlink ----------------------------------------------------------------------------------------------


def _message(kind: int, flags: int, family: int, attributes: bytes) -> bytes:
    body = _NFGEN.pack(family, 0, 0) + attributes
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 0, 0) + body


def _answers(netlink: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Every message that comes, as its type and what follows its header."""
    while True:
        data = netlink.recv(1 << 16)  # the kernel's largest is 32 KiB
        at = 0
        while at < len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            yield kind, data[at + _HEADER.size : at + length]
            at += _aligned(length)


def _code(data: bytes) -> int:
    """The errno in an error or at the end of a dump; 0 for success."""
    return -int(_CODE.unpack_from(data)[0])


def _attribute(kind: int, payload: bytes) -> bytes:
    return (_ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload).ljust(_aligned(4 + len(payload)), b"\0")


def _find(data: bytes, start: int, end: int, kind: int) -> tuple[int, int]:
    """Where the payload of an attribute begins and ends; nowhere, as (0, 0), if it is not there."""
    while start < end:
        length, found = _ATTRIBUTE.unpack_from(data, start)
        if found & _KIND == kind:
            return start + _ATTRIBUTE.size, start + length
        start += _aligned(length)
    return 0, 0


def _whole(data: bytes, payload: tuple[int, int]) -> bytes:
    """An attribute with its header and padding; nothing if it is not there."""
    start, end = payload
    return data[start - _ATTRIBUTE.size : end] + bytes(-end % 4) if start else b""


def _place(data: bytes, pair: tuple[int, int], address_kind: int, port_kind: int) -> Place:
    """Address and port of one end of a tuple."""
    address = _find(data, *_find(data, *pair, _TUPLE_IP), address_kind)
    port = _find(data, *_find(data, *pair, _TUPLE_PROTO), port_kind)
    return data[slice(*address)], int.from_bytes(data[slice(*port)], "big")


def _is_udp(data: bytes, pair: tuple[int, int]) -> bool:
    """Whether a tuple is UDP's: a kernel too old to filter sends everything."""
    return data[slice(*_find(data, *_find(data, *pair, _TUPLE_PROTO), _PROTO_NUM))] == bytes([socket.IPPROTO_UDP])


def _aligned(length: int) -> int:
    return length + 3 & ~3


_UDP_ONLY = _attribute(
    _TUPLE_ORIG | _NESTED,
    _attribute(_TUPLE_PROTO | _NESTED, _attribute(_PROTO_NUM, bytes([socket.IPPROTO_UDP]))),
) + _attribute(_FILTER | _NESTED, _attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", _BY_PROTO_NUM)))
