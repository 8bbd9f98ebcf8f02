"""The base chains of others that a translated packet meets, found among all base chains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct

from nodeport_nft.model import Family

FAMILIES: Mapping[str, tuple[Family, ...]] = {
    "ip": (Family.IPV4,),
    "ip6": (Family.IPV6,),
    "inet": (Family.IPV4, Family.IPV6),
}
"""The families of tables whose chains are asked about such packets, with those of the packets."""

_OURS = frozenset({"ip", "ip6"})

_TRANSLATION = -100
"""The priority at which destinations are translated (NF_IP_PRI_NAT_DST, linux/netfilter_ipv4.h)."""

_HOOKS = frozenset({"prerouting", "input", "forward", "postrouting"})


class Hooked(NamedTuple):
    """A base chain, whatever it is for: nft's words for its family, type and hook, and whether its policy is drop."""

    family: str
    table: str
    name: str
    kind: str
    hook: str
    priority: int
    drops: bool


class BaseChain(Struct, frozen=True, order=True):
    """A filter chain in a hook: nft's family, the table, the name, whether its policy is drop, the hook.

    ``legacy``: it is one of the old iptables, and unknown to nft.
    """

    family: str
    table: str
    name: str
    drops: bool
    hook: str = "forward"
    legacy: bool = False

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"

    @property
    def where(self) -> str:
        """The same for people, with its hook."""
        return f"{self}{' of iptables-legacy' if self.legacy else ''} in the {self.hook} hook"

    def meets(self, *, local: bool) -> bool:
        """Whether packets to this host (``local``), or to others, pass it behind their translation."""
        return self.hook == "prerouting" or (self.hook == "input") is local


def base_chains(chains: Iterable[Hooked], our_table: str) -> tuple[BaseChain, ...]:
    """Those among them that filter such packets, but for ours: in tables of ip and ip6 named ``our_table``."""
    return tuple(
        sorted(
            BaseChain(each.family, each.table, each.name, each.drops, each.hook)
            for each in chains
            if each.kind == "filter" and each.hook in _HOOKS and each.family in FAMILIES
            if each.table != our_table or each.family not in _OURS
            if each.hook != "prerouting" or each.priority > _TRANSLATION
        )
    )
