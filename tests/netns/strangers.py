"""Tables of somebody else's that the installed libnftables cannot read, or that are otherwise in its way.

Written over netlink, as a newer nft or another program would write them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence

from nodeport_nft.kernel.libnftables.answers import ask
from nodeport_nft.kernel.netlink.batch import BatchWriter, Message, join
from nodeport_nft.kernel.netlink.messages import BODY, CREATE, DUMP, NESTED, NETFILTER, attribute, message

# linux/netfilter/nf_tables.h: NFT_MSG_*, with the subsystem.
NEWTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, NEWOBJ = (10 << 8 | kind for kind in (0, 3, 6, 9, 12, 18))
INET, IP, IP6 = 1, 2, 10
_TABLE_FLAGS, _DORMANT, _OWNER = 2, 1, 2


def text(kind: int, value: str | bytes) -> bytes:
    """A string as an attribute."""
    return attribute(kind, (value.encode() if isinstance(value, str) else value) + b"\0")


def number(kind: int, value: int) -> bytes:
    """A number as an attribute."""
    return attribute(kind, struct.pack(">I", value))


def table(name: str | bytes, flags: int = 0, family: int = INET) -> Message:
    return Message(NEWTABLE, CREATE, family, text(1, name) + number(_TABLE_FLAGS, flags))


def chain(of: str | bytes, name: str | bytes, hook: bytes = b"", family: int = INET) -> Message:
    return Message(NEWCHAIN, CREATE, family, text(1, of) + text(3, name) + hook)


def a_set(
    of: str, name: str | bytes, described: bytes = b"", *, key_type: int = 7, size: int = 4, family: int = INET
) -> Message:
    """A set whose user data, which the kernel keeps for nft and does not read, is ``described``."""
    parts = text(1, of) + text(2, name) + number(3, 0) + number(4, key_type) + number(5, size) + number(10, 1)
    return Message(NEWSET, CREATE, family, parts + (attribute(13, described) if described else b""))


def _described(kind: int, inner: bytes) -> bytes:
    return struct.pack("BB", kind, len(inner)) + inner


def typeof(expression: int, inner: bytes = b"\x01\x04\x00\x00\x00\x01") -> bytes:
    """NFTNL_UDATA_SET_KEYBYTEORDER and KEY_TYPEOF: a key of this kind of expression of nft's own numbering."""
    key = _described(0, struct.pack("=I", expression)) + _described(1, inner)
    return _described(0, struct.pack("=I", 1)) + _described(3, key)


def looks_into(of: str, chain_name: str, name: str, family: int = INET) -> Message:
    """A rule that asks for a source address in a set of 4 bytes, and does nothing."""

    def expression(kind: str, parts: bytes) -> bytes:
        return attribute(1 | NESTED, text(1, kind) + attribute(2 | NESTED, parts))

    loads = (
        number(1, 1) + number(2, 1) + number(3, 12) + number(4, 4)
    )  # NFTA_PAYLOAD_*: 4 bytes at 12 of the network header
    asks = expression("payload", loads) + expression("lookup", text(1, name) + number(2, 1))
    return Message(NEWRULE, CREATE, family, text(1, of) + text(2, chain_name) + attribute(4 | NESTED, asks))


FORWARDS = attribute(4 | NESTED, number(1, 2) + number(2, 0)) + number(5, 1) + text(7, "filter")
"""A forward chain of priority 0 with the policy accept: NFTA_CHAIN_HOOK, POLICY, TYPE."""

DROPS = attribute(4 | NESTED, number(1, 2) + number(2, 0)) + number(5, 0) + text(7, "filter")
"""The same with the policy drop."""

_EXOTIC = "".join(chr(code) for code in range(0x21, 0x7F)) + "\x07\x1b[31m"

STRANGERS: Mapping[str, tuple[Message, ...]] = {
    "a key of an unknown expression": (table("fw"), chain("fw", "forward", FORWARDS), a_set("fw", "s", typeof(200))),
    "a key of another unknown expression": (table("fw"), a_set("fw", "s", typeof(99))),
    "a key of an expression that has no such part": (table("fw"), a_set("fw", "s", typeof(4, b"\xff" * 6))),
    "user data that is not user data": (table("fw"), a_set("fw", "s", b"\xff" * 40)),
    "user data that ends too early": (table("fw"), a_set("fw", "s", typeof(200)[:-3])),
    "a key of an unknown type": (table("fw"), a_set("fw", "s", key_type=63)),
    "a key of unknown types": (table("fw"), a_set("fw", "s", key_type=0x3FFFFFFF, size=20)),
    "a key of no length for its type": (table("fw"), a_set("fw", "s", key_type=8, size=3)),
    "in a table of our name": (
        table("nodeport-nft"),
        a_set("nodeport-nft", "service-ips", typeof(200)),
        chain("nodeport-nft", "services"),
    ),
    "names of any bytes": (
        table(_EXOTIC),
        chain(_EXOTIC, _EXOTIC[::-1]),
        a_set(_EXOTIC, b"\xff\xfe\x80", typeof(200)),
        chain(_EXOTIC, b"\xf0\x9f"),
    ),
    "names as long as can be": (table("t" * 255), chain("t" * 255, "c" * 255), a_set("t" * 255, "s" * 255)),
    "a table that is switched off": (table("fw", _DORMANT), chain("fw", "forward", FORWARDS), a_set("fw", "s")),
    "many tables, chains and sets": (
        *(table(f"t{i}") for i in range(200)),
        *(chain(f"t{i}", f"c{j}") for i in range(200) for j in range(5)),
        *(a_set(f"t{i}", f"s{j}") for i in range(200) for j in range(5)),
    ),
}


def put(messages: tuple[Message, ...]) -> None:
    """Commit these in the caller's network namespace."""
    BatchWriter().commit(join(messages))


def everything() -> list[bytes]:
    """All tables, chains, rules and sets but ours, as the kernel tells them: byte for byte but for the generation."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as netlink:
        told = [
            (kind, data)
            for asked in (NEWTABLE + 1, NEWCHAIN + 1, NEWRULE + 1, NEWSET + 1)
            for kind, data in ask(netlink, message(asked, DUMP, 0, b""))
        ]
    ours = text(1, "nodeport-nft")
    return [data[:2] + data[BODY:] for _, data in told if data[0] == INET or ours not in data]


@contextlib.contextmanager
def owned(name: str = "owned", family: int = INET) -> Iterator[None]:
    """A table that nobody but this process may change (NFT_TABLE_F_OWNER)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as netlink:
        netlink.send(join((table(name, _OWNER, family), a_set(name, "s", typeof(200), family=family))))
        netlink.recv(1 << 16)
        yield


def dropped(name: str | bytes, family: int = INET) -> Message:
    """What deletes a table."""
    return Message(NEWTABLE + 2, 0, family, text(1, name))  # NFT_MSG_DELTABLE


_BUSY = (
    (table("busy"), a_set("busy", "s")),
    (Message(NEWSET + 2, 0, INET, text(1, "busy") + text(2, "s")),),  # NFT_MSG_DELSET
)


@contextlib.contextmanager
def committing(enter: Callable[[], None], batches: Sequence[tuple[Message, ...]] = _BUSY) -> Iterator[None]:
    """A process that changes tables of its own again and again, in the namespace that ``enter`` enters."""
    pid = os.fork()
    if pid == 0:
        try:
            enter()
            writer = BatchWriter()
            while True:
                for batch in batches:
                    writer.commit(join(batch))
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
