"""What the daemon writes beside the objects, where the store keeps such: who looks at a Service sees its faults.

After each sync it tells the recorder what is so now. What that makes of it, and when, is its own affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nodeport_nft.config import Config
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.writing import Writing
from nodeport_nft.model import ObjectName, Ref
from nodeport_nft.reconcile import NodeState
from nodeport_nft.sources.by_scheme import open_recorder
from nodeport_nft.store.api import Happening, Recorder


class Happenings:
    """``recorder`` is None where the store keeps no such thing: then nothing is told.

    Raises StoreError, and Problems where what the configuration says of the store is wrong.
    """

    def __init__(self, config: Config, node: str, reporter: Reporter, writing: Writing) -> None:
        self.recorder: Recorder | None = open_recorder(
            config, node, lambda problems: reporter.problems("events", problems)
        )
        self._node = node
        self._reporter = reporter
        self._writing = writing
        self._told = 0, ""

    def tell(self) -> None:
        """Tell what there is now; nothing is done where no sync has ended since the last time."""
        status = self._reporter.status
        now = status.syncs, status.error
        if self.recorder is None or now == self._told:
            return
        self._told = now
        self.recorder.tell(
            happenings(self._node, status.error, self._writing.reconciler.refused, self._writing.state)
        )


def happenings(node: str, error: str, refused: Mapping[ObjectName, str], state: NodeState) -> Iterator[Happening]:
    """What is to be told of the Services, and of the node of this name where its last sync ended with an ``error``.

    Of a Service nothing is said that is so on one node alone: the nodes write one Event together.
    """
    if error:
        yield Happening(Ref("Node", "", node), "SyncFailed", f"{error}; the rules that are in force stay")
    for key, why in sorted(refused.items()):
        message = f"the kernel refuses it, and has it as it was before, or not at all: {why}"
        yield Happening(Ref("Service", *key), "KernelRefused", message)
    for key, text in state.contested():
        yield Happening(Ref("Service", *key), "FrontendContested", text)
    for key, text in state.service_problems():
        yield Happening(Ref("Service", *key), "PartlyServed", text)
