"""What libnftables is told when it asks what the kernel holds: of our own tables the truth, of others' nothing.

Before each command libnftables reads all tables, chains and sets of the network namespace, to know the names that the
command uses. It ends in an assertion, or worse, over what it cannot read: a set that a newer nft has described is
enough (seen with 1.0.6). And it begins again whenever somebody else commits meanwhile, without an end. So it is
shown a ``View``: nothing that no command of ours names, at one moment. The kernel is asked for our sets and rules by
table, so that it costs nothing how much others have.

Source: linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c; src/cache.c and src/mnl.c of nftables 1.0.6.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from msgspec import Struct

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.batch import FAMILIES
from nodeport_nft.kernel.netlink.dumps import forget
from nodeport_nft.kernel.netlink.layouts import GETGEN, LIST_SET, NFNL_SUBSYS_NFTABLES
from nodeport_nft.kernel.netlink.messages import (
    ACK,
    BODY,
    DONE,
    DUMP,
    ERROR,
    INTERRUPTED,
    attribute,
    code,
    find,
    flagged,
    message,
    revision,
)

_NEWGEN, _GEN_ID = NFNL_SUBSYS_NFTABLES << 8 | 15, 1
# NFT_MSG_GET*; what answers is one below.
_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _GETSETELEM, _GETOBJ, _GETFLOWTABLE = (
    NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (1, 4, 7, 10, 13, 19, 23)
)
_BY_TABLE = frozenset({_GETRULE, _GETSET, _GETOBJ, _GETFLOWTABLE})
"""What the kernel tells of one table alone, when asked so."""

_NAMED = {_GETCHAIN: 3, _GETSET: 2}
"""What can be asked for by its name: NFTA_CHAIN_NAME, NFTA_SET_NAME."""

_OF_CHAIN = {_GETCHAIN: 3, _GETRULE: 2}
"""What can be asked for by the name of a chain: NFTA_CHAIN_NAME, NFTA_RULE_CHAIN."""

_TABLE_NAME = 1  # in messages about tables, chains, rules, sets, elements, objects and flowtables alike
_TABLE_FLAGS, _DORMANT = 2, 1
_HEADER = struct.Struct("=IHHII")
_TRIES = 10
"""How often a dump is read before it is taken although commits fell into each reading: they may go on for ever."""

_MOST = 32000  # bytes of a datagram: libnftables has room for 64 KiB


class View(Struct, frozen=True):
    """What libnftables gets to see. ``tables``: these alone, by family and name; None: all.

    ``names``: of their chains and sets no others, so that what a command costs does not grow with what there is.
    ``sets``: no other sets than these, where the chain is named by the command; and of those that have a name not
    what they hold, which no rule is spelled with. ``chain``: no other chain than this one with its rules, and neither
    objects nor flowtables; so it need not be named by the command.
    """

    tables: frozenset[tuple[int, str]] | None = None
    names: frozenset[str] | None = None
    sets: frozenset[str] | None = None
    chain: str | None = None

    @classmethod
    def table(cls, family: str, name: str) -> View:
        """One table, whoever's."""
        return cls(frozenset({(FAMILIES[family], name)}))

    def shows(self, data: bytes) -> bool:
        """Whether what this message (behind its header) is about may be seen."""
        return self.tables is None or (data[0], _named(data)) in self.tables


class Answers:
    """Answers the questions of one command. ``number`` is another one for each command, as a generation is.

    ``fault`` is what the kernel has refused to tell, but for what is not there.
    """

    def __init__(self, netlink: socket.socket, view: View, number: int) -> None:
        self._netlink = netlink
        self._view = view
        self._number = number & 0xFFFF
        self.fault: OSError | None = None

    def to(self, question: bytes) -> Iterator[bytes]:
        """The datagrams that answer one request."""
        _, kind, flags, sequence, _ = _HEADER.unpack_from(question)
        failure = 0
        found: list[tuple[int, bytes]] = []
        if kind == GETGEN:
            found = [(_NEWGEN, bytes(BODY) + attribute(_GEN_ID, struct.pack(">I", self._number)))]
        else:
            try:
                found = list(self._found(kind, bool(flags & DUMP == DUMP), question[_HEADER.size :]))
            except OSError as error:
                failure = error.errno or errno.EIO
                if failure != errno.ENOENT:
                    self.fault = error
        resource = struct.pack(">H", self._number)  # libnftables takes no answer from another generation
        waiting = b""
        for each, data in found:
            whole = _HEADER.pack(_HEADER.size + len(data), each, 0, sequence, 0) + data[:2] + resource + data[BODY:]
            whole = whole.ljust(len(whole) + 3 & ~3, b"\0")
            if len(waiting) + len(whole) > _MOST and waiting:
                yield waiting
                waiting = b""
            waiting += whole
        if waiting:
            yield waiting
        # libnftables reads until there is an end, which the kernel need not tell on a socket that does not block.
        end = struct.pack("=i", -failure) + (b"" if flags & DUMP == DUMP and not failure else question[:16])
        ending = DONE if flags & DUMP == DUMP and not failure else ERROR
        yield _HEADER.pack(_HEADER.size + len(end), ending, 0, sequence, 0) + end

    def _found(self, kind: int, is_dump: bool, asked: bytes) -> Iterator[tuple[int, bytes]]:
        if self._view.sets is not None and kind == _GETSETELEM and not is_anonymous(_named(asked, LIST_SET)):
            return
        if self._view.chain is not None and kind in (_GETOBJ, _GETFLOWTABLE):
            return
        family, name, attributes = asked[0], _named(asked), asked[BODY:]
        tables = self._view.tables
        naming = [(own, _string(_TABLE_NAME, table)) for own, table in sorted(tables or ()) if family in (0, own)]
        questions = [(family, attributes)]
        if tables is not None and name:
            questions = [(family, attributes)] if (family, name) in tables else []
        elif tables is not None and (kind in _BY_TABLE or (kind in _NAMED and self._view.names is not None)):
            questions = [(own, named + attributes) for own, named in naming]
            if kind in _NAMED and self._view.names is not None:
                is_dump, names = False, sorted(self._view.names)
                questions = [(own, asked + _string(_NAMED[kind], each)) for own, asked in questions for each in names]
        elif not tables and tables is not None:
            questions = []
        if self._view.chain is not None and kind in _OF_CHAIN and tables is not None:
            is_dump = kind == _GETRULE
            questions = [(own, named + _string(_OF_CHAIN[kind], self._view.chain)) for own, named in naming]
        by_name = kind == _GETSET and is_dump and self._view.sets is not None
        if by_name:  # a dump would tell all sets of the table for each of its chains
            is_dump, sets = False, sorted(self._view.sets or ())
            questions = [(own, asked + _string(_NAMED[kind], each)) for own, asked in questions for each in sets]
        elif name and not questions:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        for family, attributes in questions:
            question = message(kind, DUMP if is_dump else ACK, family, attributes)
            try:
                answer = ask(self._netlink, question)
            except FileNotFoundError:
                if name and not by_name:
                    raise
                continue  # there is no such table of ours, or no such chain or set
            yield from ((each, data) for each, data in answer if self._view.shows(data))


def ask(netlink: socket.socket, question: bytes) -> list[tuple[int, bytes]]:
    """What the kernel answers to a dump, or to a request that asks to be acknowledged.

    A dump into which a commit falls is read again, but not without an end. Raises OSError where it refuses.
    """
    for _ in range(_TRIES):
        found, interrupted = _ask(netlink, question)
        if not interrupted:
            break
    return found


def _ask(netlink: socket.socket, question: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    forget(netlink)
    netlink.send(question)
    found: list[tuple[int, bytes]] = []
    interrupted = False
    revisions: set[bytes] = set()
    while True:
        for kind, flags, data in flagged(netlink.recv(1 << 16)):
            interrupted |= bool(flags & INTERRUPTED)
            if kind in (ERROR, DONE):
                failure = code(data)
                if failure in (errno.EINTR, errno.EAGAIN):
                    return found, True
                if failure:
                    raise OSError(failure, os.strerror(failure))
                return found, interrupted or len(revisions) > 1
            revisions.add(revision(data))
            found.append((kind, data))


def has_table(netlink: socket.socket, family: str, name: str) -> bool:
    """Whether the kernel has a table of this name. Raises KernelError."""
    question = message(_GETTABLE, ACK, FAMILIES[family], _string(_TABLE_NAME, name))
    try:
        return bool(ask(netlink, question))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise KernelError(f"nftables cannot be asked for table {family} {name}: {error.strerror}") from error


def is_dormant(netlink: socket.socket, family: str, name: str) -> bool:
    """Whether a table is switched off; not if there is none."""
    try:
        found = ask(netlink, message(_GETTABLE, ACK, FAMILIES[family], _string(_TABLE_NAME, name)))
    except OSError:
        return False
    flags = (data[slice(*find(data, BODY, len(data), _TABLE_FLAGS))] for _, data in found)
    return any(int.from_bytes(each, "big") & _DORMANT for each in flags)


def is_anonymous(name: str) -> bool:
    """Whether this is a set within a rule, such as nft's ``__set0``."""
    return name.startswith("__")


def generation(netlink: socket.socket) -> int:
    """How many commits there have been in this network namespace. Raises OSError."""
    [(_, data), *_] = ask(netlink, message(GETGEN, ACK, 0, b""))
    start, end = find(data, BODY, len(data), _GEN_ID)
    return int.from_bytes(data[start:end], "big")


def _string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _named(data: bytes, kind: int = _TABLE_NAME) -> str:
    return data[slice(*find(data, BODY, len(data), kind))].rstrip(b"\0").decode(errors="replace")
