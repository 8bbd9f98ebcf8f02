"""The base chains of others that a translated packet meets, found in a listing of all chains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nodeport_nft.model import Family

FAMILIES: Mapping[str, tuple[Family, ...]] = {
    "ip": (Family.IPV4,),
    "ip6": (Family.IPV6,),
    "inet": (Family.IPV4, Family.IPV6),
}
"""The families of tables whose chains are asked about such packets, with those of the packets."""

_TRANSLATION = -100
"""The priority at which destinations are translated (NF_IP_PRI_NAT_DST, linux/netfilter_ipv4.h)."""

_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}


@dataclass(frozen=True, slots=True, order=True)
class BaseChain:
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


_TABLE = re.compile(r"table (\w+) (\S+) \{")
_CHAIN = re.compile(r"\tchain (\S+) \{")
_HOOK = re.compile(r"\t\ttype filter hook (prerouting|input|forward|postrouting) priority ([^;]*); policy (\w+);")


def base_chains(listing: str, our_table: str) -> tuple[BaseChain, ...]:
    """Those of tables not named ``our_table``."""
    found = []
    family = table = chain = ""
    for line in listing.splitlines():
        if match := _TABLE.match(line):
            family, table = match.groups()
        elif match := _CHAIN.match(line):
            chain = match[1]
        elif (match := _HOOK.match(line)) and family in FAMILIES and table != our_table:
            hook, priority, policy = match.groups()
            if hook != "prerouting" or _number(priority) > _TRANSLATION:
                found.append(BaseChain(family, table, chain, policy == "drop", hook))
    return tuple(sorted(found))


def _number(priority: str) -> int:
    """``filter + 10``, ``-90`` or ``raw`` as a number; one that is not understood is before everything."""
    match = re.fullmatch(r"([a-z]*) ?([+-]? ?\d{0,10})", priority.strip())
    if match is None or (match[1] and match[1] not in _PRIORITIES):
        return -(1 << 31)
    offset = match[2].replace(" ", "")
    return _PRIORITIES.get(match[1], 0) + (int(offset) if offset.strip("+-") else 0)
