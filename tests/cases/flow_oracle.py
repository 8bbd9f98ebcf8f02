"""What becomes of a connection by its source, frontend, policy and detector: conformance P1, P2, P3 and P5, word by
word. It knows nothing of chains, maps and marks: the compiler is measured by it.

The cluster has two endpoints, A on the node that is programmed and B on another one. The source is a pod of the node
that is neither (so that P4 stays out of it), a process of the node, or a client outside of the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from nodeport_nft.model import Family


class Source(StrEnum):
    POD = "pod"
    NODE = "node"
    EXT = "ext"


class Frontend(StrEnum):
    CIP = "CIP"
    NP = "NP"
    LB = "LB"
    EIP = "EIP"


class Policy(StrEnum):
    PLAIN = "plain"
    EXTERNAL_LOCAL = "external Local"
    INTERNAL_LOCAL = "internal Local"


class Detector(StrEnum):
    """How "outside" is told (P5), and the one flag that makes no difference between inside and outside."""

    CLUSTER_CIDR = "ClusterCIDR"
    NODE_CIDR = "NodeCIDR"
    BRIDGE_INTERFACE = "BridgeInterface"
    INTERFACE_NAME_PREFIX = "InterfaceNamePrefix"
    NONE = "no detector"
    MASQUERADE_ALL = "masqueradeAll"


@dataclass(frozen=True, slots=True)
class Flow:
    """One line of the flow table."""

    detector: Detector
    family: Family
    source: Source
    frontend: Frontend
    policy: Policy

    def __str__(self) -> str:
        return f"IPv{self.family.value} {self.source} → {self.frontend}, {self.policy}, {self.detector}"


@dataclass(frozen=True, slots=True)
class Fate:
    """Which endpoints there may be, and whether they see the node's address (M) instead of the source's."""

    endpoints: frozenset[str]
    masqueraded: bool


FLOWS = tuple(Flow(*values) for values in product(Detector, Family, Source, Frontend, Policy))

ANY, LOCAL = frozenset({"A", "B"}), frozenset({"A"})


def expected(flow: Flow) -> Fate:
    """What the conformance text says of this flow."""
    if flow.frontend is Frontend.CIP:
        return Fate(LOCAL if flow.policy is Policy.INTERNAL_LOCAL else ANY, from_outside(flow))  # P3, P5
    if flow.policy is not Policy.EXTERNAL_LOCAL:
        return Fate(ANY, masqueraded=True)  # P1: "any endpoint, M (even to a local one)"
    source = flow.source
    if source is Source.POD and flow.detector is Detector.NONE:
        source = Source.EXT  # P5: "a pod then counts as ext in P2"
    match source:
        case Source.EXT:
            return Fate(LOCAL, masqueraded=False)  # P2: "local endpoints only, source kept"
        case Source.POD:
            return Fate(ANY, masqueraded=False)  # P2: "any endpoint, source kept"
        case Source.NODE:
            return Fate(ANY, masqueraded=True)  # P2: "any endpoint, M"


def from_outside(flow: Flow) -> bool:
    """P5: whether a connection to a clusterIP is masqueraded."""
    match flow.detector:
        case Detector.MASQUERADE_ALL:
            return True  # "with masqueradeAll, always"
        case Detector.NONE:
            return False  # "with no detector, never"
        case _:
            return flow.source is not Source.POD
