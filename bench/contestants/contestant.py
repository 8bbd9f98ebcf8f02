"""What the bench asks of everyone it measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from bench.node import Node
from bench.workload import Change, Workload

START_SECONDS = 1_200.0
"""What one start may take; who needs more is told as not done."""

CHANGE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident megabytes: now, at the peak, and the largest that children were together."""

    rest: float
    peak: float
    children: float


class Contestant(ABC):
    """One of those measured, with a node of its own. Every method raises ``NotDone`` where it takes too long."""

    name: str
    is_daemon = True
    """Whether there is a process between a start and a stop."""

    after_answer: float | None = None
    """Seconds from a server's answer to the last change until the kernel had it; None where there is no server."""

    gives_ips = True
    """Whether clusterIPs are what the workload says, and not chosen by a server."""

    def __init__(self, node: Node) -> None:
        self.node = node

    @abstractmethod
    def fill(self, workload: Workload) -> None:
        """Bring the workload to where it is read from. Nothing of this is measured."""

    @abstractmethod
    def start(self) -> float:
        """Seconds until the kernel has everything and whoever started it has been told so."""

    @abstractmethod
    def stop(self) -> None:
        """End what was started; its tables stay."""

    @abstractmethod
    def change(self, change: Change) -> float:
        """Seconds from just before the write until the kernel has it."""

    @abstractmethod
    def memory(self) -> Memory:
        """Of the processes, since the last start."""

    @abstractmethod
    def processor_seconds(self) -> float:
        """User and system time of its process since the start, and of the children that have ended."""

    def cluster_ip(self, number: int) -> str:
        """Of a Service by its number; -1: of the one that takes datagrams."""
        return self.workload.cluster_ip(number) if number >= 0 else self.workload.udp_cluster_ip

    workload: Workload
    """What it was filled with."""

    def close(self) -> None:  # noqa: B027 # most have nothing to close
        """Let go of everything but the node."""
