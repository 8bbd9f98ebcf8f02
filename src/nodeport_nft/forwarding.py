"""Forward chains of others that stop what we translate, told from their listing; pure.

A connection to a Service is translated in our chains and then forwarded, and on that way every forward chain of the
host is asked. One that drops by default, as a firewall's does, has to accept translated connections, or every Service
hangs in silence. Such a chain is an *obstacle*; it is named together with the rule that removes it.

What is asked here is what becomes of the first packet of a translated connection (``ct status dnat``, ``ct state
new``). A condition on something else depends on the packet, and cannot be known: a rule that accepts under one is
taken to let some connections through, a rule that drops under one to stop none. Chains are followed as the kernel
does it, within bounds.

Source: nft(8), "Statements", "Conntrack statement"; firewalld and iptables-nft write ``ct status dnat accept``, too.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from shlex import quote

from nodeport_nft.model import Family, IPNetwork

_DEEPEST = 16
_MOST_RULES = 10_000
"""Rules that are looked at for one chain of the hook; behind them, the chain is taken to let some through."""

FAMILIES: Mapping[str, tuple[Family, ...]] = {
    "ip": (Family.IPV4,),
    "ip6": (Family.IPV6,),
    "inet": (Family.IPV4, Family.IPV6),
}
"""The families of tables whose chains are asked about forwarded packets, with those of the packets."""


@dataclass(frozen=True, slots=True, order=True)
class ForwardChain:
    """A base chain in the forward hook: nft's family, the table, the name, whether its policy is drop."""

    family: str
    table: str
    name: str
    drops: bool

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


class _Fate(enum.Enum):
    """What becomes of a translated connection in a chain."""

    ACCEPTED = enum.auto()
    DROPPED = enum.auto()
    ON = enum.auto()  # the chain ends, or returns


Rules = Callable[[str], Iterable[str]]
"""The rules of a chain of one table, as nft lists them; raises LookupError where they cannot be had."""

_TABLE = re.compile(r"table (\w+) (\S+) \{")
_CHAIN = re.compile(r"\tchain (\S+) \{")
_HOOK = re.compile(r"\t\ttype filter hook forward .*?; policy (\w+);")
# What neither matches nor decides; strings go first, since anything may stand in them.
_SILENT = re.compile(
    r'(?:prefix|comment) "[^"]*"|counter packets \d+ bytes \d+|counter name \S+|\blog\b(?: level \w+)?'
)
_VERDICT = re.compile(r"(?:^|.* )(accept|drop|return|reject(?: with .*)?|(?:jump|goto) \S+)$")
_AMONG = r"(?:\{{ (?:\w+, )*{0}(?:, \w+)* \}}|(?:\w+,)*{0}\b(?:,\w+)*)"  # nft lists "{{ a, b }}" and "a,b"
_NEW = re.compile("ct state " + _AMONG.format("new"))
_TRANSLATED = re.compile("ct status " + _AMONG.format("dnat"))
_NOT_NEW = re.compile(r"ct state (?:!= new\b|(?!!)\w|\{)")  # where "new" has been taken out
_VMAP = re.compile(r"ct state vmap \{([^{}]*)\}")
_OF_NEW = re.compile(r"\bnew : (accept|drop)\b")
_DESTINATION = re.compile(r"ip6? daddr (?:\{ )?([0-9a-fA-F.:/, ]+?)(?: \})?")


def forward_chains(listing: str, own: str) -> tuple[ForwardChain, ...]:
    """The filter chains in the forward hook, of tables not named ``own``, in a listing of all chains."""
    found = []
    family = table = chain = ""
    for line in listing.splitlines():
        if match := _TABLE.match(line):
            family, table = match.groups()
        elif match := _CHAIN.match(line):
            chain = match[1]
        elif (match := _HOOK.match(line)) and family in FAMILIES and table != own:
            found.append(ForwardChain(family, table, chain, drops=match[1] == "drop"))
    return tuple(sorted(found))


def obstacle(chain: ForwardChain, rules: Rules, pod_cidrs: Iterable[IPNetwork]) -> str:
    """What an operator should know of this chain, with the remedy; "" if it lets translated connections through.

    ``pod_cidrs`` are the networks that connections are translated to, as far as they are known.
    """
    walk = _Walk(rules, tuple(cidr for cidr in pod_cidrs if cidr.version in FAMILIES[chain.family]))
    try:
        fate = walk.through(chain.name)
        unread = False
    except LookupError:
        fate, unread = _Fate.ON, True
    if fate is _Fate.ACCEPTED or (fate is _Fate.ON and not chain.drops):
        return ""
    does = "drops by default" if fate is _Fate.ON else "ends with a rule that drops or rejects"
    if unread:
        but = "its rules cannot be read"
    elif walk.accepts_some:
        but = "accepts only some connections"
    else:
        but = "accepts no translated connections"
    return (
        f"chain {chain} in the forward hook {does} and {but}, so Services may not answer; let them through: "
        f"{_remedy(chain)} (or list the chain under trustedChains in the configuration)"
    )


def _remedy(chain: ForwardChain) -> str:
    if chain.table == "filter" and chain.name == "FORWARD" and chain.family in ("ip", "ip6"):
        return f"{chain.family}tables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT"
    # A name is whatever somebody has made it, and this line is to be typed.
    return f"nft insert rule {chain.family} {quote(chain.table)} {quote(chain.name)} ct status dnat accept"


class _Walk:
    """One packet's way through the chains of a table."""

    def __init__(self, rules: Rules, pod_cidrs: tuple[IPNetwork, ...]) -> None:
        self.accepts_some = False
        self._rules = rules
        self._pod_cidrs = pod_cidrs
        self._looked_at = 0
        self._listed: dict[str, tuple[str, ...]] = {}

    def through(self, chain: str, depth: int = 0) -> _Fate:
        """What becomes of the packet in this chain."""
        if depth >= _DEEPEST:
            return _Fate.ON
        if chain not in self._listed:  # to list one is to ask the kernel, and thousands of rules may jump to it
            self._listed[chain] = tuple(self._rules(chain))
        for line in self._listed[chain]:
            self._looked_at += 1
            if self._looked_at > _MOST_RULES:
                self.accepts_some = True
                return _Fate.ON
            fate = self._rule(line, depth)
            if fate is not None:
                return fate
        return _Fate.ON

    def _rule(self, line: str, depth: int) -> _Fate | None:
        """What a rule makes of it; None: the next one follows."""
        text = " ".join(_SILENT.sub(" ", line).split())
        if (vmap := _VMAP.fullmatch(text)) and (match := _OF_NEW.search(vmap[1])):
            return _Fate.ACCEPTED if match[1] == "accept" else _Fate.DROPPED
        match = _VERDICT.fullmatch(text)
        if match is None:
            return None
        word, _, target = match[1].partition(" ")
        holds = self._holds(text[: match.start(1)].strip())
        if holds is None:
            return None
        if word in ("jump", "goto"):
            fate = self.through(target, depth + 1)
            if fate is _Fate.ON:
                return _Fate.ON if word == "goto" and holds else None
            if not holds:
                self.accepts_some |= fate is _Fate.ACCEPTED
                return None
            return fate
        if word == "accept":
            self.accepts_some |= not holds
            return _Fate.ACCEPTED if holds else None
        if word == "return":
            return _Fate.ON if holds else None
        return _Fate.DROPPED if holds else None

    def _holds(self, condition: str) -> bool | None:
        """Whether a condition holds for every translated connection's first packet; None: for none of them."""
        for known in (_NEW, _TRANSLATED):
            condition = " ".join(known.sub(" ", condition, count=1).split())
        if _NOT_NEW.search(condition):
            return None
        if match := _DESTINATION.fullmatch(condition):
            return self._covers_pods(match[1])
        return not condition

    def _covers_pods(self, text: str) -> bool:
        try:
            prefixes = [ip_network(part.strip()) for part in text.split(",")]
        except ValueError:
            return False
        return bool(self._pod_cidrs) and all(
            any(cidr.version == prefix.version and cidr.subnet_of(prefix) for prefix in prefixes)  # type: ignore[arg-type]
            for cidr in self._pod_cidrs
        )
