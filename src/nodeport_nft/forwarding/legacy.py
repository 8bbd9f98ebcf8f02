"""Rules of the old iptables, which nft does not list: what ``iptables-legacy-save`` prints, in nft's language.

Only what is asked about a translated packet has to come out right: ``--ctstate`` is true for NEW and for DNAT, and
what is not understood becomes an ``xt match`` of that name.

Source: iptables(8), iptables-extensions(8).
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator

from nodeport_nft.forwarding.chains import BaseChain

_HOOKS = {"INPUT": "input", "FORWARD": "forward", "POSTROUTING": "postrouting"}
_TABLES = ("filter", "mangle", "security")
_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "RETURN": "return", "QUEUE": "queue", "NFQUEUE": "queue"}
# Their options are understood, or need not be.
_MODULES = frozenset(
    ("tcp", "udp", "sctp", "icmp", "icmp6", "comment", "conntrack", "state", "multiport", "mark", "addrtype", "limit")
)

Tables = dict[str, dict[str, list[str]]]
"""The rules in nft's language, by table and chain."""


def read_legacy(family: str, saved: str) -> tuple[tuple[BaseChain, ...], Tables]:
    """The base chains that translated packets meet, and all rules. ``family`` is nft's name."""
    bases, tables = [], defaultdict[str, dict[str, list[str]]](dict)
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            name, policy, *_ = [*line[1:].split(), "-"]
            tables[table][name] = []
            if policy != "-" and table in _TABLES and name in _HOOKS:
                bases.append(BaseChain(family, table, name, policy == "DROP", _HOOKS[name], legacy=True))
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith("-A ") and table in _TABLES:  # nat may have very many
            try:
                chain, *words = shlex.split(line)[1:]
            except ValueError:
                continue
            rules = tables[table].setdefault(chain, [])
            rules.append(" ".join(_Rule(family, words, tables[table]).parts()))
    return tuple(sorted(bases)), dict(tables)


class _Rule:
    """The words of a rule, from left to right."""

    def __init__(self, family: str, words: list[str], chains: dict[str, list[str]]) -> None:
        self._family = family
        self._words = words
        self._chains = chains
        self._protocol = "th"
        self._at = 0

    def parts(self) -> Iterator[str]:
        """What it is in nft's language."""
        while self._at < len(self._words):
            negated = self._words[self._at] == "!"
            self._at += negated
            option = self._take()
            if option in ("-j", "-g"):
                yield from self._target(option)
                return
            yield from self._condition(option, "!= " if negated else "", negated=negated)

    def _take(self) -> str:
        self._at += 1
        return self._words[self._at - 1] if self._at <= len(self._words) else ""

    def _target(self, option: str) -> Iterator[str]:
        target = self._take()
        if target in self._chains:
            yield f"{'jump' if option == '-j' else 'goto'} {target}"
        elif target == "REJECT":
            yield "reject with tcp reset" if "tcp-reset" in self._words else "reject"
        elif target in _VERDICTS:
            yield _VERDICTS[target]

    def _condition(self, option: str, operator: str, *, negated: bool) -> Iterator[str]:
        match option:
            case "-i" | "-o":
                yield f'{option[1]}ifname {operator}"{self._take().replace("+", "*")}"'
            case "-s" | "-d":
                yield f"{self._family} {option[1]}addr {operator}{self._take()}"
            case "-p":
                self._protocol = self._take()
                yield f"meta l4proto {operator}{self._protocol}"
            case "--dport" | "--sport" | "--dports" | "--sports":
                ports = self._take().replace(":", "-").replace(",", ", ")
                yield f"{self._protocol} {option[2:7]} {operator}{{ {ports} }}"
            case "--ctstate" | "--state":
                holds = {"NEW", "DNAT"} & set(self._take().split(","))
                yield "ct state new" if bool(holds) is not negated else "ct state established"
            case "--ctorigdstport":
                yield f"ct original proto-dst {operator}{self._take().replace(':', '-')}"
            case "--ctorigdst":
                yield f"ct original {self._family} daddr {operator}{self._take()}"
            case "--ctdir":
                yield f"ct direction {operator}{self._take().lower()}"
            case "--dst-type" | "--src-type":
                yield f"fib {option[2]}addr type {operator}{self._take().lower()}"
            case "--mark":
                self._take()
                yield "meta mark 1"
            case "--limit":
                self._take()
                yield "limit rate 1/second"
            case "--tcp-flags":
                mask, flags = self._flags(), self._flags()
                yield f"tcp flags {operator}{flags} / {mask}"
            case "--syn":
                yield f"tcp flags {operator}syn / fin,syn,rst,ack"
            case "--ctstatus":
                status = self._take().lower().replace("none", "0").replace("_", "-")
                yield f"ct status {'! ' if negated else ''}{status}"
            case "--icmp-type" | "--icmpv6-type":
                self._take()
                yield "icmp type echo-request"
            case "--comment" | "--limit-burst":
                self._take()
            case "-m":
                module = self._take()
                if module not in _MODULES:
                    yield from self._strange(module)
            case _:
                yield from self._strange(option.lstrip("-") or "?")

    def _flags(self) -> str:
        """Flags of TCP in nft's words."""
        flags = self._take().lower()
        return {"all": "fin,syn,rst,psh,ack,urg", "none": "0"}.get(flags, flags)

    def _strange(self, name: str) -> Iterator[str]:
        """Something that is not understood, and all that belongs to it."""
        while self._at < len(self._words) and self._words[self._at] not in ("-m", "-j", "-g"):
            self._at += 1
        yield f"xt match {name}"
