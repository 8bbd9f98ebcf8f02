"""What others have in nftables, asked of the kernel in portions that are known to be small.

Whatever is in their tables: base chains are told by their hooks alone, and of a chain's rules no more is read than is
allowed, with the names of the sets that they look into. libnftables needs half a megabyte for each table that it is
shown, and much more for what is in it; so it is shown one chain, and only where that is small.

Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

from msgspec import Struct

from nodeport_nft.forwarding import Hooked
from nodeport_nft.kernel.netlink.batch import FAMILIES
from nodeport_nft.kernel.netlink.dumps import TRIES, Interrupted, dump, forget, open_netlink, settled
from nodeport_nft.kernel.netlink.layouts import GETSETELEM, LIST_SET, NFNL_SUBSYS_NFTABLES
from nodeport_nft.kernel.netlink.messages import (
    BODY,
    DONE,
    DUMP,
    ERROR,
    NETFILTER,
    attribute,
    code,
    find,
    message,
    messages,
    walk,
)

_GETCHAIN, _GETRULE = (NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (4, 7))
_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7  # NFTA_CHAIN_*
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2  # NFTA_HOOK_*
_RULE_CHAIN, _RULE_EXPRESSIONS = 2, 4  # NFTA_RULE_*
_EXPR_NAME, _EXPR_DATA = 1, 2  # NFTA_EXPR_*
_NAMES_SET = {b"lookup\0": 1, b"dynset\0": 1, b"objref\0": 4}  # NFTA_LOOKUP_SET, NFTA_DYNSET_SET_NAME, ...
_ACCEPT = 1  # NF_ACCEPT

_FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")


class TooMuch(Exception):
    """There is more than was allowed to be read."""


_MORE_TRIES = 20
"""How often base chains are read where commits fall into each reading: a few milliseconds each."""


class Allowance(Struct):
    """How many bytes may still be read."""

    left: int

    def take(self, size: int) -> None:
        """Read so many. Raises TooMuch."""
        self.left -= size
        if self.left < 0:
            raise TooMuch


def read_base_chains() -> list[Hooked]:
    """The base chains of this network namespace, whoever's. Raises OSError.

    Where commits fall into each reading, one may lack a chain that was there all the while, so that those of all of
    them are told together. They are many: of three, all lacked one in a thousand times on a busy machine.
    """
    found: dict[tuple[str, ...], Hooked] = {}
    with open_netlink() as netlink:
        for tried in range(TRIES + _MORE_TRIES):
            forget(netlink)
            told: list[Hooked] = []
            try:
                for data in dump(netlink, _GETCHAIN, 0, b"", settled(netlink) if tried < TRIES else None):
                    if hooked := _hooked(data):
                        told.append(hooked)
                if tried < TRIES:
                    return told
            except Interrupted:
                pass
            found.update(((chain.family, chain.table, chain.name), chain) for chain in told)
    return list(found.values())


def hooked_tables(netlink: socket.socket) -> frozenset[tuple[str, str]] | None:
    """Family and name of every table that packets are led to; None where commits fall into each reading.

    Raises OSError.
    """
    for _ in range(TRIES):
        forget(netlink)
        try:
            told = list(dump(netlink, _GETCHAIN, 0, b"", settled(netlink)))
        except Interrupted:
            continue
        return frozenset((chain.family, chain.table) for data in told if (chain := _hooked(data)))
    return None


def sets_of_rules(family: str, table: str, chain: str, allowance: Allowance) -> frozenset[str]:
    """The sets and maps that a chain's rules name, named or not, where the rules are small enough to be read.

    Raises TooMuch, and OSError where there is no such chain.
    """
    naming = _string(_TABLE, table) + _string(_RULE_CHAIN, chain)
    found: set[str] = set()
    for data in _dump(_GETRULE, FAMILIES[family], naming, allowance):
        found.update(_sets(data))
    return frozenset(found)


def weigh_set(family: str, table: str, name: str, allowance: Allowance) -> None:
    """Take what a set's elements weigh from what is allowed. Raises TooMuch, OSError."""
    naming = _string(_TABLE, table) + _string(LIST_SET, name)
    for _ in _dump(GETSETELEM, FAMILIES[family], naming, allowance):
        pass


def _dump(kind: int, family: int, naming: bytes, allowance: Allowance) -> Iterator[bytes]:
    """What the kernel tells, behind each message's header. Raises OSError, TooMuch.

    A commit may fall into it: then there is an event, and whoever asked asks again.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as netlink:  # to close it ends the dump
        netlink.send(message(kind, DUMP, family, naming))
        while True:
            datagram = netlink.recv(1 << 16)
            allowance.take(len(datagram))
            for answer, data in messages(datagram):
                if answer not in (ERROR, DONE):
                    yield data
                elif (failure := code(data)) and failure not in (errno.EINTR, errno.EAGAIN):
                    raise OSError(failure, os.strerror(failure))
                else:
                    return


def _hooked(data: bytes) -> Hooked | None:
    hook = find(data, BODY, len(data), _CHAIN_HOOK)
    number = int.from_bytes(data[slice(*find(data, *hook, _HOOK_NUMBER))], "big")
    if not hook[0] or number >= len(_HOOKS) or data[0] not in _FAMILY_NAMES:
        return None
    return Hooked(
        _FAMILY_NAMES[data[0]],
        _text(data, _TABLE),
        _text(data, _CHAIN_NAME),
        _text(data, _CHAIN_TYPE),
        _HOOKS[number],
        int.from_bytes(data[slice(*find(data, *hook, _HOOK_PRIORITY))], "big", signed=True),
        int.from_bytes(data[slice(*find(data, BODY, len(data), _CHAIN_POLICY))], "big") != _ACCEPT,
    )


def _sets(data: bytes) -> Iterator[str]:
    for _, start, end in walk(data, *find(data, BODY, len(data), _RULE_EXPRESSIONS)):
        which = _NAMES_SET.get(data[slice(*find(data, start, end, _EXPR_NAME))])
        if which and (named := find(data, *find(data, start, end, _EXPR_DATA), which))[0]:
            yield data[slice(*named)].rstrip(b"\0").decode(errors="replace")


def _string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _text(data: bytes, kind: int) -> str:
    return data[slice(*find(data, BODY, len(data), kind))].rstrip(b"\0").decode(errors="replace")
