"""The forward chains of others, read from the kernel; ``forwarding`` judges them."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection, Iterable

from nodeport_nft.compile import TABLE
from nodeport_nft.forwarding import FAMILIES, ForwardChain, forward_chains, obstacle
from nodeport_nft.kernel.keys import NFNL_SUBSYS_NFTABLES
from nodeport_nft.kernel.netlink import BODY, ERROR, NETFILTER, attribute, find, message, messages
from nodeport_nft.kernel.nft import KernelError, Nft
from nodeport_nft.model import Family, IPNetwork

# linux/netfilter/nf_tables.h, linux/netfilter.h
_GETTABLE = NFNL_SUBSYS_NFTABLES << 8 | 1
_TABLE_NAME, _TABLE_FLAGS, _DORMANT = 1, 2, 1
_FAMILIES = {"inet": 1, "ip": 2, "ip6": 10}


def find_obstacles(
    nft: Nft, families: Collection[Family], pod_cidrs: Iterable[IPNetwork], trusted: Collection[str]
) -> tuple[str, ...]:
    """What keeps translated connections of these families from being forwarded, each with its remedy.

    ``trusted`` are chains that the operator vouches for, as "FAMILY TABLE CHAIN". What cannot be listed, since
    somebody's table is beyond this nft, is left out: it must not stop anything here.
    """
    cidrs = tuple(pod_cidrs)
    try:
        # Asked without a family, so that one listing tells of all; chains alone, no element of any set.
        chains = forward_chains(nft.list_chains(), TABLE)
    except KernelError:
        return ()
    found = (
        obstacle(chain, _Rules(nft, chain), cidrs)
        for chain in chains
        if str(chain) not in trusted
        and any(family in families for family in FAMILIES[chain.family])
        and not _is_dormant(chain)
    )
    return tuple(re.sub(r"[^\x20-\x7e]", "?", text) for text in found if text)


def _is_dormant(chain: ForwardChain) -> bool:
    """Whether the chain's table is switched off, of which listings of chains say nothing."""
    naming = attribute(_TABLE_NAME, chain.table.encode() + b"\0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as netlink:
        netlink.send(message(_GETTABLE, 0, _FAMILIES[chain.family], naming))
        for kind, data in messages(netlink.recv(1 << 16)):
            if kind != ERROR:  # as it answers where the table has gone meanwhile
                start, end = find(data, BODY, len(data), _TABLE_FLAGS)
                return bool(int.from_bytes(data[start:end], "big") & _DORMANT)
    return False


class _Rules:
    """The rules of one table's chains, as nft lists them."""

    def __init__(self, nft: Nft, chain: ForwardChain) -> None:
        self._nft = nft
        self._chain = chain

    def __call__(self, chain: str) -> list[str]:
        if not (_NAME.fullmatch(chain) and _NAME.fullmatch(self._chain.table)):
            raise LookupError(chain)  # no name of nft's language, and nothing to put into a command
        try:
            listing = self._nft.list_chain(self._chain.family, self._chain.table, chain)
        except KernelError as error:
            raise LookupError(chain) from error
        lines = (line.strip() for line in listing.splitlines())
        return [line for line in lines if line and not line.startswith(_NO_RULE)]


_NAME = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_NO_RULE = ("table ", "chain ", "type ", "policy ", "}", "#", 'comment "')
