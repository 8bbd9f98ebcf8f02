"""kube-proxy's nftables tables, and its chains of today's iptables, which are nftables' own with an old name.

They are asked for and deleted as netlink messages: nft cannot list what iptables has put into a rule, and iptables
need not be installed where kube-proxy ran in a container. A jump is the same in both.

Source: linux/netfilter/nf_tables.h; iptables/nft.c of iptables 1.8.9; pkg/proxy/nftables of Kubernetes 1.36.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct, field

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.kube_proxy.chains import TABLES, Going, Rule, going
from nodeport_nft.kernel.libnftables.answers import ask
from nodeport_nft.kernel.netlink.batch import FAMILIES, Message
from nodeport_nft.kernel.netlink.layouts import DATA_VERDICT, NFNL_SUBSYS_NFTABLES
from nodeport_nft.kernel.netlink.messages import ACK, BODY, DUMP, NETFILTER, attribute, find, message, walk

TABLE = "kube-proxy"
_GETTABLE, _DELTABLE, _GETCHAIN, _DELCHAIN, _GETRULE, _DELRULE = (
    NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (1, 2, 4, 5, 7, 8)
)
_TABLE_NAME = 1  # in messages about tables, chains and rules alike
_CHAIN_NAME = 3
_RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 2, 3, 4
_EXPR_NAME, _EXPR_DATA = 1, 2
_IMMEDIATE_DATA = 2
_VERDICT_CHAIN = 2
_FAMILIES = ("ip", "ip6")
# One of them is there whatever the mode and the version.
_MARKERS = {"nat": ("KUBE-SERVICES", "KUBE-PROXY-CANARY"), "filter": ("KUBE-FORWARD",), "mangle": ()}


class NftRemains(Struct, frozen=True):
    """What is there: ``tables`` by family, and what can go of iptables' tables by family and name."""

    tables: tuple[str, ...] = ()
    chains: dict[tuple[str, str], Going[bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tables or any(each.chains for each in self.chains.values()))

    def __iter__(self) -> Iterator[str]:
        """Each in words."""
        for family in self.tables:
            yield f"table {family} {TABLE}"
        if count := sum(len(found.chains) for found in self.chains.values()):
            yield f"{count} chain{'s' * (count > 1)} of iptables"

    def others(self) -> Iterator[str]:
        """Whose rules need a chain of kube-proxy's, which therefore stays."""
        for (family, table), found in self.chains.items():
            for chain, own in found.others:
                yield (
                    f"chain {own} of table {family} {table} is kube-proxy's and stays: {chain} leads to it; remove "
                    "that rule, or ask whoever made it"
                )

    def messages(self) -> list[Message]:
        """What deletes all of it, in an order that the kernel can carry out as one transaction."""
        made = [Message(_DELTABLE, 0, FAMILIES[family], _string(_TABLE_NAME, TABLE)) for family in self.tables]
        for (family, table), found in self.chains.items():
            number, naming = FAMILIES[family], _string(_TABLE_NAME, table)
            for which in found.jumps:
                made.append(Message(_DELRULE, 0, number, naming + which))
            for chain in found.chains:  # all rules of it
                made.append(Message(_DELRULE, 0, number, naming + _string(_RULE_CHAIN, chain)))
            for chain in found.chains:
                made.append(Message(_DELCHAIN, 0, number, naming + _string(_CHAIN_NAME, chain)))
        return made


def find_nft() -> NftRemains:
    """All of it. Raises KernelError."""
    chains: dict[tuple[str, str], Going[bytes]] = {}
    with _asking() as netlink:
        tables = tuple(family for family in _FAMILIES if _has_table(netlink, family))
        for family in _FAMILIES:
            if _has_chains(netlink, family):
                chains |= {(family, table): _going(netlink, family, table) for table in TABLES}
    return NftRemains(tables, {key: found for key, found in chains.items() if found.chains or found.others})


def has_nft() -> bool:
    """Whether there is anything, which costs the same however many Services there are. Raises KernelError."""
    with _asking() as netlink:
        return any(_has_table(netlink, family) or _has_chains(netlink, family) for family in _FAMILIES)


@contextmanager
def _asking() -> Iterator[socket.socket]:
    """A socket to ask by; what the kernel refuses is a KernelError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as netlink:
            yield netlink
    except OSError as error:
        raise KernelError(f"nftables cannot be asked for what kube-proxy has left: {error.strerror}") from error


def _has_table(netlink: socket.socket, family: str) -> bool:
    return _exists(netlink, _GETTABLE, family, TABLE)


def _has_chains(netlink: socket.socket, family: str) -> bool:
    names = ((table, name) for table, markers in _MARKERS.items() for name in markers)
    return any(_exists(netlink, _GETCHAIN, family, table, name) for table, name in names)


def _exists(netlink: socket.socket, kind: int, family: str, table: str, chain: str = "") -> bool:
    naming = _string(_TABLE_NAME, table) + (_string(_CHAIN_NAME, chain) if chain else b"")
    try:
        return bool(ask(netlink, message(kind, ACK, FAMILIES[family], naming)))
    except FileNotFoundError:
        return False


def _going(netlink: socket.socket, family: str, table: str) -> Going[bytes]:
    try:
        listed = ask(netlink, message(_GETCHAIN, DUMP, FAMILIES[family], b""))
        rules = ask(netlink, message(_GETRULE, DUMP, FAMILIES[family], _string(_TABLE_NAME, table)))
    except FileNotFoundError:
        return Going()
    chains = [_text(data, _CHAIN_NAME) for _, data in listed if _text(data, _TABLE_NAME) == table]
    return going(table, chains, (_rule(data) for _, data in rules))


def _rule(data: bytes) -> Rule[bytes]:
    chain = _text(data, _RULE_CHAIN)
    which = _string(_RULE_CHAIN, chain) + attribute(
        _RULE_HANDLE, data[slice(*find(data, BODY, len(data), _RULE_HANDLE))]
    )
    return Rule(chain, tuple(_targets(data)), which)


def _targets(data: bytes) -> Iterator[str]:
    for _, start, end in walk(data, *find(data, BODY, len(data), _RULE_EXPRESSIONS)):
        if data[slice(*find(data, start, end, _EXPR_NAME))] != b"immediate\0":
            continue
        loaded = find(data, *find(data, start, end, _EXPR_DATA), _IMMEDIATE_DATA)
        named = find(data, *find(data, *loaded, DATA_VERDICT), _VERDICT_CHAIN)
        if named[0]:
            yield data[slice(*named)].rstrip(b"\0").decode(errors="replace")


def _string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _text(data: bytes, kind: int) -> str:
    return data[slice(*find(data, BODY, len(data), kind))].rstrip(b"\0").decode(errors="replace")
