"""The rule that lets translated connections through, where whoever owns the chain keeps rules of the operator's.

A remedy is a command and, where it is known, how to keep it. Which of them help is tried on a walk: each is a place
in front of whose rules connections are to be accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from msgspec import Struct

from nodeport_nft.forwarding.chains import BaseChain

_BUILT_IN = {"prerouting": "PREROUTING", "input": "INPUT", "forward": "FORWARD", "postrouting": "POSTROUTING"}
_TABLES = ("filter", "raw", "mangle", "security")

_FIREWALLD = (
    "firewalld writes its rules anew when it is reloaded, as a rule with one like this: firewall-cmd --reload"
)


class Remedy(Struct, frozen=True):
    """Accept in front of the rules of ``chain``: the command for it, and how to keep it ("": nothing is known)."""

    chain: str
    command: str
    kept: str = ""


def remedies(chain: BaseChain, reached: frozenset[str]) -> Iterator[Remedy]:
    """Where a rule may help, the best place first; ``reached`` are the chains that the base chain may lead to."""
    if is_compat(chain):
        six = "6" if chain.family == "ip6" else ""
        program = f"ip{six}tables{'-legacy' if chain.legacy else ''}"
        table = "" if chain.table == "filter" else f"-t {chain.table} "
        places = [chain.name]
        if chain.hook == "forward" and "DOCKER-USER" in reached:
            places.insert(0, "DOCKER-USER")  # Docker leaves it alone, and asks it first
        kept = ""
        if f"ufw{six}-before-{chain.hook}" in reached:
            line = f"-A ufw{six}-before-{chain.hook} -m conntrack --ctstate DNAT -j ACCEPT"
            kept = f"ufw keeps it as a line of /etc/ufw/before{six}.rules: {line}"
        for place in places:
            command = f"{program} {table}-I {place} -m conntrack --ctstate DNAT -j ACCEPT"
            yield Remedy(place, command, kept)
        return
    kept = _FIREWALLD if chain.table == "firewalld" else ""
    # A name is whatever somebody has made it, and this line is to be typed.
    where = f"{chain.family} {quote(chain.table)} {quote(chain.name)}"
    yield Remedy(chain.name, f"nft insert rule {where} ct status dnat accept", kept)


def is_compat(chain: BaseChain) -> bool:
    """Whether iptables would take the chain for one of its own."""
    return chain.family in ("ip", "ip6") and chain.table in _TABLES and chain.name == _BUILT_IN[chain.hook]
