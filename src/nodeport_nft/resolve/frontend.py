"""What resolving is for: frontends, with the endpoints that may answer on them.

Tuples, since tens of thousands are made at a start and given up again: a frozen dataclass takes three times as long.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from nodeport_nft.model import Family, IPAddress, Protocol


class FrontendKind(enum.Enum):
    """How a client reaches a frontend."""

    CLUSTER_IP = "clusterIP"
    EXTERNAL_IP = "externalIP"
    LOAD_BALANCER = "loadBalancer"
    NODE_PORT = "nodePort"


class Place(enum.Enum):
    """Where an endpoint runs, by its ``nodeName`` (E1)."""

    HERE = "here"
    ELSEWHERE = "elsewhere"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, node_name: str, own: str) -> Place:
        """The place of an endpoint on this node, as the node called ``own`` sees it."""
        if not node_name:
            return cls.UNKNOWN
        return cls.HERE if node_name == own else cls.ELSEWHERE


class Backend(NamedTuple):
    """One endpoint of a frontend: where packets go, in proportion to its ``weight`` (X7)."""

    address: IPAddress
    port: int
    place: Place
    weight: int = 1


class Frontend(NamedTuple):
    """One thing a client can connect to. ``address`` is None for a nodePort: every nodePort address serves it.

    ``backends`` are the usable endpoints, sorted, each once. None at all: connections are refused (F5).
    ``local_backends`` is None unless the traffic policy is Local; then it holds those that run on this node (P2, P3).
    ``prefer_local``: the policy is PreferLocal; where there is none on this node, all of them serve (X10).
    """

    kind: FrontendKind
    family: Family
    address: IPAddress | None
    protocol: Protocol
    port: int
    port_name: str
    backends: tuple[Backend, ...]
    local_backends: tuple[Backend, ...] | None = None
    prefer_local: bool = False
