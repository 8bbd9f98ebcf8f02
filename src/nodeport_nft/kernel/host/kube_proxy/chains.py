"""Which chains of iptables are kube-proxy's, and which rules have to go with them.

kubelet's are none of them (KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-MARK-DROP, KUBE-IPTABLES-HINT): kube-proxy leaves
those where it cleans up after itself, too.

Source: pkg/proxy/iptables/cleanup.go and pkg/proxy/ipvs/proxier.go of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Generic, TypeVar

from msgspec import Struct

_OWN: Mapping[str, frozenset[str]] = {
    "nat": frozenset(
        {
            "KUBE-SERVICES",
            "KUBE-NODEPORTS",
            "KUBE-POSTROUTING",
            "KUBE-MARK-MASQ",
            "KUBE-PROXY-CANARY",
            "KUBE-NODE-PORT",
            "KUBE-LOAD-BALANCER",
        }
    ),
    "filter": frozenset(
        {
            "KUBE-SERVICES",
            "KUBE-EXTERNAL-SERVICES",
            "KUBE-FORWARD",
            "KUBE-NODEPORTS",
            "KUBE-PROXY-FIREWALL",
            "KUBE-PROXY-CANARY",
            "KUBE-NODE-PORT",
            "KUBE-SOURCE-RANGES-FIREWALL",
            "KUBE-IPVS-FILTER",
            "KUBE-IPVS-OUT-FILTER",
        }
    ),
    "mangle": frozenset({"KUBE-PROXY-CANARY"}),
}
# Of a Service or an endpoint; KUBE-XLB- is that of versions before 1.24.
_OF_SERVICES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-FW-", "KUBE-EXT-", "KUBE-XLB-")

BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
"""The chains that every table of iptables begins with."""

TABLES = tuple(_OWN)
"""The tables of iptables that kube-proxy has chains in."""

Which = TypeVar("Which")


class Rule(Struct, Generic[Which], frozen=True):
    """A rule as far as it counts here: the chain that it is in, where it may lead, and ``which`` it is."""

    chain: str
    targets: tuple[str, ...]
    which: Which


class Going(Struct, Generic[Which], frozen=True):
    """What goes of one table: ``chains``, and ``jumps`` to them from the chains that are built in.

    ``others``: rules of somebody else's chains that lead to a chain of kube-proxy's, which has to stay for them, as
    (their chain, the one of kube-proxy's).
    """

    chains: tuple[str, ...] = ()
    jumps: tuple[Which, ...] = ()
    others: tuple[tuple[str, str], ...] = ()


def going(table: str, chains: Collection[str], rules: Iterable[Rule[Which]]) -> Going[Which]:
    """What of this table of iptables is kube-proxy's and can go, given all that is in the table."""
    own = {name for name in chains if name in _OWN[table] or (table == "nat" and name.startswith(_OF_SERVICES))}
    leading: dict[str, set[str]] = {}
    jumps: list[Rule[Which]] = []
    others: list[tuple[str, str]] = []
    for rule in rules:
        led = own.intersection(rule.targets)
        if rule.chain in own:
            leading.setdefault(rule.chain, set()).update(led)
        elif led and rule.chain in BUILT_IN:
            jumps.append(rule)
        else:
            others += [(rule.chain, name) for name in sorted(led)]
    staying: set[str] = set()
    ahead = [name for _, name in others]
    while ahead:
        if (name := ahead.pop()) not in staying:
            staying.add(name)
            ahead += leading.get(name, ())
    gone = own - staying
    return Going(
        tuple(sorted(gone)),
        tuple(rule.which for rule in jumps if gone.intersection(rule.targets)),
        tuple(dict.fromkeys(others)),
    )
