"""kube-proxy's chains of the old iptables, which are no part of nftables: read and removed by its own programs.

Removing them needs no rule of anybody else's to be written: the programs leave alone what they are not told of
(--noflush), and each table changes at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.iptables_legacy import run_legacy, used_tables
from nodeport_nft.kernel.host.kube_proxy.chains import TABLES, Going, Rule, going

_PROGRAMS = {"ip": "iptables-legacy", "ip6": "ip6tables-legacy"}
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_TARGET = re.compile(r" (?:-j|-g|--jump|--goto) (\S+)")
_WAIT = "5"  # seconds for the lock that these programs share; less than a program is waited for


class LegacyRemains(Struct, frozen=True):
    """What of one family can go, by table; a rule is its own text. ``fault``: why that cannot be known."""

    family: str
    tables: tuple[tuple[str, Going[str]], ...] = ()
    fault: str = ""

    def __bool__(self) -> bool:
        return any(found.chains for _, found in self.tables)

    def __iter__(self) -> Iterator[str]:
        """Each in words."""
        if count := sum(len(found.chains) for _, found in self.tables):
            yield f"{count} chain{'s' * (count > 1)} of {_PROGRAMS[self.family]}"

    def others(self) -> Iterator[str]:
        """Whose rules need a chain of kube-proxy's, which therefore stays; and what cannot be looked at."""
        if self.fault:
            yield self.fault
        for table, found in self.tables:
            for chain, own in found.others:
                where = f"table {table} of {_PROGRAMS[self.family]}"
                yield (
                    f"chain {own} of {where} is kube-proxy's and stays: {chain} leads to it; remove that rule, or "
                    "ask whoever made it"
                )

    def text(self) -> str:
        """What its program reads to delete them."""
        lines: list[str] = []
        for table, found in self.tables:
            if found.chains:
                lines.append(f"*{table}")
                lines += (f":{chain} - [0:0]" for chain in found.chains)  # which empties it
                lines += (f"-D {rule}" for rule in found.jumps)
                lines += (f"-X {chain}" for chain in found.chains)
                lines.append("COMMIT")
        return "\n".join([*lines, ""])


def find_legacy() -> tuple[LegacyRemains, ...]:
    """All of it, of both families; what cannot be known is no error."""
    found = []
    for family, program in _PROGRAMS.items():
        used = [table for table in TABLES if table in used_tables(family)]
        if not used:
            continue
        text, fault = run_legacy(f"{program}-save", remedy="run kube-proxy --cleanup")
        if fault:
            tables = f"table{'s' * (len(used) > 1)} {', '.join(used)}"
            fault = f"{program} has rules in {tables}, and whether they are kube-proxy's cannot be known: {fault}"
        found.append(LegacyRemains(family, tuple(read_saved_text(text)), fault))
    return tuple(found)


def remove_legacy(found: LegacyRemains) -> None:
    """Delete it. Raises KernelError, where the tables of this family that come first may have changed."""
    program = f"{_PROGRAMS[found.family]}-restore"
    _, fault = run_legacy(program, "--noflush", "--wait", _WAIT, text=found.text(), remedy="run kube-proxy --cleanup")
    if fault:
        raise KernelError(f"{', '.join(found)}: {fault}")


def read_saved_text(text: str) -> Iterator[tuple[str, Going[str]]]:
    """What can go of each table that kube-proxy has chains in, given what iptables-save prints."""
    for part in re.split(r"^\*", text, flags=re.MULTILINE)[1:]:
        table, *lines = part.splitlines()
        if table in TABLES:
            chains = [line[1:].split()[0] for line in lines if line.startswith(":")]
            found = going(table, chains, (_rule(line) for line in lines if line.startswith("-A ")))
            if found.chains or found.others:
                yield table, found


def _rule(line: str) -> Rule[str]:
    rule = line.removeprefix("-A ")
    return Rule(rule.split()[0], tuple(_TARGET.findall(_QUOTED.sub('""', line))), rule)
