"""What a node of a cluster says of itself to the others: that it is there, how far it is, and what is wrong."""

from __future__ import annotations

from nodeport_nft.config import Config
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.writing import Writing
from nodeport_nft.sources.by_scheme import open_membership
from nodeport_nft.store.api import Membership, NodeReport

_MOST_REFUSED = 3  # Services that are named


class Registering:
    """``membership`` is None where the store is one node's own: then nothing is said.

    Raises StoreError, and Problems where what the configuration says of etcd is wrong.
    """

    def __init__(self, config: Config, name: str, reporter: Reporter, writing: Writing) -> None:
        self.membership: Membership | None = open_membership(config, name, self._tell_problems)
        self._name = name
        self._reporter = reporter
        self._writing = writing

    def tell(self) -> None:
        """Say how the node is now."""
        if self.membership is not None:
            self.membership.tell(self._report())

    def _tell_problems(self) -> None:
        if self.membership is not None:
            self._reporter.problems("registration", self.membership.problems())

    def _report(self) -> NodeReport:
        status, state = self._reporter.status, self._writing.state
        node = state.index.nodes.get(self._name)
        return NodeReport(
            self._name,
            version=status.version,
            addresses=tuple(map(str, state.facts.addresses)),
            pod_cidrs=tuple(map(str, node.pod_cidrs)) if node else (),
            labels=tuple(sorted(node.labels.items())) if node else (),
            position=self._writing.programmed,
            programmed=status.synced,
            pending=status.pending,
            pending_since=status.pending_since,
            error=status.error or _refused(status.refused),
            last_error=status.last_error,
            last_error_at=status.last_error_at,
            started=status.started,
        )


def _refused(refused: tuple[tuple[str, str], ...]) -> str:
    """What the kernel has of Services in their former state only."""
    if not refused:
        return ""
    named = [f"Service/{name} ({' '.join(why.split())})" for name, why in refused[:_MOST_REFUSED]]
    more = len(refused) - _MOST_REFUSED
    return f"the kernel refuses {', '.join(named)}{f' and {more} more' if more > 0 else ''}"
