"""Connection tracking over ctnetlink: find what is stale and delete it (K2).

For UDP flows the kernel is asked for UDP alone (CTA_FILTER, Linux 5.8), so other protocols never leave it; but it can
compare for equality only, not tell a stale flow from a good one, nor look for many frontends at once. So every UDP
flow of the node has to be looked at here, and a busy DNS service has a hundred thousand good ones. That is why this
speaks netlink itself and not through pyroute2, whose ``NFCTSocket`` decodes each entry in full. Measured on Linux
6.18 with pyroute2 0.9.7, seconds of CPU (of those for UDP, 0.35 are the kernel's own):

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

Of connections the kernel sends those alone that nobody has answered (CTA_STATUS_MASK; a kernel that does not know it
sends all of the protocol): there are few, however many connections there are. Most of them will be answered within
milliseconds, and would break if they were forgotten now. So these attempts are looked for twice,
``PATIENCE_SECONDS`` apart, and what is deleted has had no answer for so long.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice

from nodeport_nft.errors import KernelError
from nodeport_nft.flows import ATTEMPTS, SCTP, TCP, UDP, Frontends, Place
from nodeport_nft.kernel.netlink.messages import (
    ACK,
    BODY,
    CAP_ACK,
    DONE,
    DUMP,
    ERROR,
    NESTED,
    NETFILTER,
    SOL_NETLINK,
    answers,
    attribute,
    code,
    find,
    message,
    whole,
)
from nodeport_nft.model import Family

# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO, _ID, _ZONE, _FILTER, _STATUS_MASK = 1, 2, 3, 4, 12, 18, 25, 26
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCE, _DESTINATION = {4: 1, 16: 3}, {4: 2, 16: 4}  # CTA_IP_V4_… and CTA_IP_V6_…, by length of address
_PROTO_NUM, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS, _BY_PROTO_NUM = 1, 1 << 3
_SEEN_REPLY = (1 << 1).to_bytes(4, "big")  # nf_conntrack_common.h
_BEGINNING = {TCP: (1, 1), SCTP: (3, 2)}
"""CTA_PROTOINFO_… and the state in which the first packet has been sent: SYN_SENT, COOKIE_WAIT (nf_conntrack_tcp.h,
nf_conntrack_sctp.h). One that was under way when it was first seen is in another, though it has no answer yet."""

_BATCH = 64
"""Deletions sent at a time: their answers fit into any socket's receive buffer."""

_FAMILIES = {Family.IPV4: (socket.AF_INET, 4), Family.IPV6: (socket.AF_INET6, 16)}
"""By family: its number, and the bytes of an address."""


PATIENCE_SECONDS = 0.5
"""How long an attempt may go without an answer before it is forgotten; clients ask again after 1 s (RFC 6298)."""

Attempts = Mapping[Family, frozenset[bytes]]
"""Connections that nobody has answered, by the attributes that name them to the kernel."""


def delete_stale_flows(frontends: Mapping[Family, Frontends]) -> int:
    """Delete every stale UDP flow of the caller's network namespace; how many there were.

    A family without UDP frontends costs nothing. Raises KernelError where the kernel refuses or cannot.
    """
    wanted = [(family, known) for family, known in frontends.items() if known.has(UDP)]
    if not wanted:
        return 0
    with _conversation("stale UDP flows") as netlink:
        return sum(_delete(netlink, family, _find_stale(netlink, family, known)) for family, known in wanted)


def find_stale_attempts(frontends: Mapping[Family, Frontends]) -> Attempts:
    """The connections at these frontends that nobody has answered yet, and that no serving endpoint will.

    To be given to ``delete_stale_attempts`` after ``PATIENCE_SECONDS``. Protocols without a frontend cost nothing.
    Raises KernelError where the kernel refuses or cannot.
    """
    wanted = [(family, known, p) for family, known in frontends.items() for p in ATTEMPTS if known.has(p)]
    found: dict[Family, frozenset[bytes]] = {}
    if not wanted:
        return found
    with _conversation("stale connection attempts") as netlink:
        for family, known, protocol in wanted:
            if stale := _find_stale(netlink, family, known, protocol):
                found[family] = found.get(family, frozenset()) | frozenset(stale)
    return found


def delete_stale_attempts(frontends: Mapping[Family, Frontends], attempts: Attempts) -> int:
    """Delete what ``find_stale_attempts`` has found and still finds; how many there were. Raises KernelError."""
    left = find_stale_attempts({family: frontends[family] for family in attempts})
    if not left:
        return 0
    with _conversation("stale connection attempts") as netlink:
        return sum(_delete(netlink, family, sorted(attempts[family] & again)) for family, again in left.items())


@contextmanager
def _conversation(what: str) -> Iterator[socket.socket]:
    """A socket to ask on; what goes wrong is a KernelError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as netlink:
            netlink.setsockopt(SOL_NETLINK, CAP_ACK, 1)  # answers without the question
            yield netlink
    except OSError as error:
        raise KernelError(f"{what} are not deleted: {_explain(error)}") from error


def _explain(error: OSError) -> str:
    if error.errno in (errno.EINVAL, errno.EPROTONOSUPPORT):  # nfnetlink knows no such subsystem
        return "this kernel has no nf_conntrack_netlink; load the module: modprobe nf_conntrack_netlink"
    if error.errno == errno.EPERM:
        return "connection tracking needs CAP_NET_ADMIN; run as root, or give the program that capability"
    return f"connection tracking answers {error.strerror}"


def _find_stale(netlink: socket.socket, family: Family, frontends: Frontends, protocol: int = UDP) -> list[bytes]:
    """The stale flows of a protocol, each as the attributes that name it to the kernel."""
    number, size = _FAMILIES[family]
    netlink.send(message(_GET, DUMP, number, _only(protocol)))
    stale = []
    for kind, data in answers(netlink):
        if kind in (DONE, ERROR):
            if failure := code(data):
                raise OSError(failure, os.strerror(failure))
            break
        start, end = BODY, len(data)
        original = find(data, start, end, _TUPLE_ORIG)
        destination = (protocol, *_place(data, original, _DESTINATION[size], _DESTINATION_PORT))
        if not frontends.concerns(destination) or _protocol(data, original) != protocol:
            continue
        if protocol in _BEGINNING and not _is_unanswered(data, protocol):
            continue
        reply = find(data, start, end, _TUPLE_REPLY)
        is_shut_out = destination in frontends.sources and not frontends.admits(
            destination, _address(data, original, _SOURCE[size])
        )
        if is_shut_out or frontends.is_stale(destination, _place(data, reply, _SOURCE[size], _SOURCE_PORT)):
            name = (whole(data, find(data, start, end, part)) for part in (_TUPLE_ORIG, _ID, _ZONE))
            stale.append(b"".join(name))
    return stale


def _delete(netlink: socket.socket, family: Family, flows: Sequence[bytes]) -> int:
    """How many of the flows were there to be deleted: one may have ended by itself since it was found."""
    deleted = 0
    for first in range(0, len(flows), _BATCH):
        batch = flows[first : first + _BATCH]
        netlink.send(b"".join(message(_DELETE, ACK, _FAMILIES[family][0], flow) for flow in batch))
        for answer in [code(data) for _, data in islice(answers(netlink), len(batch))]:
            if answer not in (0, errno.ENOENT):
                raise OSError(answer, os.strerror(answer))
            deleted += answer == 0
    return deleted


# --- tuples ------------------------------------------------------------------------------------------------


def _place(data: bytes, pair: tuple[int, int], address_kind: int, port_kind: int) -> Place:
    """Address and port of one end of a tuple."""
    port = find(data, *find(data, *pair, _TUPLE_PROTO), port_kind)
    return _address(data, pair, address_kind), int.from_bytes(data[slice(*port)], "big")


def _address(data: bytes, pair: tuple[int, int], kind: int) -> bytes:
    """The address of one end of a tuple."""
    return data[slice(*find(data, *find(data, *pair, _TUPLE_IP), kind))]


def _protocol(data: bytes, pair: tuple[int, int]) -> int:
    """The protocol of a tuple: a kernel too old to filter sends everything."""
    return data[find(data, *find(data, *pair, _TUPLE_PROTO), _PROTO_NUM)[0]]


def _is_unanswered(data: bytes, protocol: int) -> bool:
    """Whether of a connection there has been the first packet alone, perhaps again and again."""
    status = data[slice(*find(data, BODY, len(data), _STATUS))]
    info, beginning = _BEGINNING[protocol]
    state = find(data, *find(data, *find(data, BODY, len(data), _PROTOINFO), info), 1)  # CTA_PROTOINFO_…_STATE
    return not status[-1] & _SEEN_REPLY[-1] and data[state[0]] == beginning


def _only(protocol: int) -> bytes:
    """The filter of a dump: this protocol, and of those with connections what nobody has answered."""
    named = attribute(_TUPLE_PROTO | NESTED, attribute(_PROTO_NUM, bytes([protocol])))
    chosen = attribute(_TUPLE_ORIG | NESTED, named)
    chosen += attribute(_FILTER | NESTED, attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", _BY_PROTO_NUM)))
    if protocol in _BEGINNING:
        chosen += attribute(_STATUS, bytes(4)) + attribute(_STATUS_MASK, _SEEN_REPLY)
    return chosen
