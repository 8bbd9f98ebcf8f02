"""Who changes our tables: the kernel's nftables events, and the arithmetic that tells our own commits from others'.

Every commit of any process adds one to the ruleset's generation (``NFT_MSGGETGEN``), and sends what it did to a
multicast group: a message for each object, then one with the generation (``NFT_MSG_NEWGEN``). Who it was stands there
only as a process id, which means nothing across pid namespaces. So our own commits are told by counting: between the
generations before and after a write of ours, as many commits have touched our tables as we made; one more, and
somebody else has been there.

The socket overflows (ENOBUFS) when a large commit of somebody else fills it. Then nothing is known of single commits;
but if the generation has grown by just as much as we wrote, nobody else was there.

For a large write of our own nobody needs to be told. While anybody listens, the kernel makes a message of some
kilobytes for each element and keeps all of them until the commit is done: five times the time of the write itself
(Linux 6.18: 21 instead of 4 microseconds an element), and gigabytes of memory. So we listen ``away`` from such a
write, and afterwards all is as after an overflow.

Source: linux/netfilter/nf_tables.h, nf_tables_commit in net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from msgspec import Struct, field

from nodeport_nft.compile import TABLE
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.layouts import (
    DATA_VALUE,
    DELSETELEM,
    ELEM_KEY,
    GETGEN,
    LIST_ELEMENTS,
    LIST_SET,
    NEWSETELEM,
    NFNL_SUBSYS_NFTABLES,
)
from nodeport_nft.kernel.netlink.messages import (
    BODY,
    ERROR,
    NETFILTER,
    SOL_NETLINK,
    code,
    find,
    message,
    messages,
    walk,
)
from nodeport_nft.model import Family

_NEWGEN = NFNL_SUBSYS_NFTABLES << 8 | 15
_GEN_ID, _PROC_PID, _PROC_NAME = 1, 2, 3
_TABLE_NAME = 1  # in messages about tables, chains, rules, sets and elements alike
_GROUP = 7  # NFNLGRP_NFTABLES
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 1, 2  # linux/netlink.h
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 4 << 20
_FAMILIES = {int(socket.AF_INET): Family.IPV4, int(socket.AF_INET6): Family.IPV6}  # NFPROTO_IPV4, NFPROTO_IPV6
_NAME = TABLE.encode() + b"\0"
_MOST_ELEMENTS = 1000
# NFT_MSG_NEWTABLE, DELTABLE, NEWCHAIN, DELCHAIN, NEWRULE, DELRULE
_RULE_MESSAGES = frozenset(NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (0, 2, 3, 5, 6, 8))
# A device of a flowtable has come or gone with its link (Linux 6.16 and newer): the kernel's doing, and no commit.
_DEVICE_MESSAGES = frozenset(NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (34, 35))  # NFT_MSG_NEWDEV, NFT_MSG_DELDEV


class Touched(NamedTuple):
    """An element that somebody has added or deleted; ``key`` as the kernel has it."""

    family: Family
    map: str
    key: bytes
    present: bool


class _Commit(Struct):
    """What a commit has done to our tables: to these elements, and perhaps more than that."""

    who: str = ""
    elements: list[Touched] = field(default_factory=list)
    more: bool = False

    def __bool__(self) -> bool:
        return self.more or bool(self.elements)


class _Write(Struct, frozen=True):
    """A write of ours: the generations before and after it, and how many commits it was."""

    before: int
    after: int
    commits: int


class TableEvents:
    """Listens in the network namespace of the thread that makes it. Raises KernelError where the kernel refuses.

    ``elements`` is what the last ``read`` was about, in the order in which it was done; None if there was more to it
    than elements, or that is not known. ``foreign_rules``: chains or rules of other tables have changed, or may have,
    since somebody last set it to False.
    """

    def __init__(self) -> None:
        self.elements: tuple[Touched, ...] | None = ()
        self.foreign_rules = True
        try:
            self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
            self._events.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            # In a user namespace: the buffer stays small, and overflows are resolved all the same.
            self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        except OSError as error:
            raise KernelError(f"changes of the tables cannot be followed: {error.strerror}") from error
        try:
            self._events.bind((0, 1 << _GROUP - 1))
            self._events.setblocking(False)
            self._questions = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
        except OSError as error:
            raise KernelError(f"changes of the tables cannot be followed: {error.strerror}") from error
        self._accounted = self.generation()
        self._missed = False  # something may have happened while nobody listened
        self._is_deaf = False  # nobody listens: the kernel had no memory for it
        self._writes: list[_Write] = []
        self._commit = _Commit()
        self._touched: dict[int, _Commit] = {}

    def close(self) -> None:
        """Listen no longer."""
        self._events.close()
        self._questions.close()

    def fileno(self) -> int:
        """Readable when there is something to ``read``."""
        return self._events.fileno()

    def generation(self) -> int:
        """How many commits there have been in this network namespace. Raises KernelError."""
        try:
            self._questions.send(message(GETGEN, 0, 0, b""))
            for kind, data in messages(self._questions.recv(1 << 16)):
                if kind == ERROR:
                    raise KernelError(f"the ruleset's generation cannot be read: {os.strerror(code(data))}")
                return _number(data, _GEN_ID)
        except OSError as error:
            raise KernelError(f"the ruleset's generation cannot be read: {error.strerror}") from error
        raise KernelError("the ruleset's generation cannot be read: the kernel's answer is empty")

    def wrote(self, before: int, commits: int) -> None:
        """Take note of a write of ours that has just ended: the generation before it, and how many commits it was."""
        self.listen()
        self._writes.append(_Write(before, self.generation(), commits))

    @contextmanager
    def away(self) -> Iterator[None]:
        """Do not listen in the block, which is to write much. Raises KernelError."""
        self._missed = self.foreign_rules = True
        self._join(_DROP_MEMBERSHIP)
        try:
            yield
        finally:
            self._is_deaf = True
            self.listen()

    def listen(self) -> None:
        """Listen again where the kernel has had no memory for that; until then only ``read`` tells of others."""
        if self._is_deaf:
            with suppress(KernelError):
                self._join(_ADD_MEMBERSHIP)
                self._is_deaf = False
            self._missed = self.foreign_rules = True

    def _join(self, membership: int) -> None:
        try:
            self._events.setsockopt(SOL_NETLINK, membership, _GROUP)
        except OSError as error:
            raise KernelError(f"changes of the tables cannot be followed: {error.strerror}") from error

    def read(self) -> tuple[str, ...]:
        """Who else has changed our tables since the last call, as the kernel names them; nobody, as a rule.

        Raises KernelError.
        """
        others: list[_Commit] = []
        begin = self._accounted
        self.listen()
        lost, self._missed = self._drain() or self._missed, self._is_deaf
        if lost:
            self._commit = _Commit()  # the rest of what has begun to be told is lost
            now = self.generation()
            self._drain()
            if now - begin != sum(write.commits for write in self._writes):
                others.append(_Commit("unknown: so much was changed that events were lost", more=True))
            self._touched = {generation: commit for generation, commit in self._touched.items() if generation > now}
            self._accounted = max(now, self._accounted)
        for write in self._writes:
            inside = [generation for generation in self._touched if write.before < generation <= write.after]
            commits = [self._touched.pop(generation) for generation in inside]
            if len(commits) > write.commits:  # which of them are ours is not known
                others += [_Commit(commit.who, more=True) for commit in commits]
        others += self._touched.values()
        self._touched.clear()
        self._writes.clear()
        all_told = not any(commit.more for commit in others)
        self.elements = tuple(element for commit in others for element in commit.elements) if all_told else None
        return tuple(dict.fromkeys(commit.who for commit in others))

    def _drain(self) -> bool:
        """Take in what there is to read; whether some of it was lost."""
        lost = False
        while True:
            try:
                data = self._events.recv(1 << 16)
            except BlockingIOError:
                return lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError(f"changes of the tables cannot be followed: {error.strerror}") from error
                lost = self.foreign_rules = True
                continue
            for kind, body in messages(data):
                if kind == _NEWGEN:
                    self._accounted = _number(body, _GEN_ID)
                    if self._commit:
                        self._commit.who = _who(body)
                        self._touched[self._accounted] = self._commit
                        self._commit = _Commit()
                elif body[0] in _FAMILIES and body[slice(*find(body, BODY, len(body), _TABLE_NAME))] == _NAME:
                    self._take(kind, body)
                else:
                    self.foreign_rules |= kind in _RULE_MESSAGES

    def _take(self, kind: int, body: bytes) -> None:
        """Note what a message says of our tables; the keys of few elements only: many are read back faster."""
        if kind in _DEVICE_MESSAGES:
            return
        if kind not in (NEWSETELEM, DELSETELEM) or len(self._commit.elements) >= _MOST_ELEMENTS:
            self._commit.more = True
            return
        name = body[slice(*find(body, BODY, len(body), LIST_SET))].rstrip(b"\0").decode(errors="replace")
        start, end = find(body, BODY, len(body), LIST_ELEMENTS)
        for _, first, last in walk(body, start, end):
            key = find(body, *find(body, first, last, ELEM_KEY), DATA_VALUE)
            touched = Touched(_FAMILIES[body[0]], name, body[slice(*key)], kind == NEWSETELEM)
            self._commit.elements.append(touched)


def _number(body: bytes, kind: int) -> int:
    start, end = find(body, BODY, len(body), kind)
    return int.from_bytes(body[start:end], "big")


def _who(body: bytes) -> str:
    name = body[slice(*find(body, BODY, len(body), _PROC_NAME))].rstrip(b"\0").decode(errors="replace")
    return f"{name or '?'} (pid {_number(body, _PROC_PID)})"
