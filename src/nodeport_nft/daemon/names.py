"""The cluster's names in the directory that dnsmasq reads, brought up to date after each sync (``dnsHostsDir``).

A change writes the file of its namespace, and no other. dnsmasq answers nobody while it takes one in, and compares
each of its lines with all names it knows: 15 ms for 1,000 names and 0.4 s for 10,000. So the next version of a large
file waits for a while, and a storm of changes leaves dnsmasq time for its work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path

from nodeport_nft.daemon.node import ThisNode
from nodeport_nft.daemon.telling import Report
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.host.hostsdir import closed_to_others, make_names_directory, read_names, write_names
from nodeport_nft.kinds import KINDS
from nodeport_nft.model import ObjectName, Ref
from nodeport_nft.reconcile import NodeState
from nodeport_nft.resolve.bounds import MAX_NAMED
from nodeport_nft.resolve.names import Names

_REST_SECONDS = 2e-4
"""For each Service of a namespace, how long its file stays as it is: 2 s for 10,000, of which dnsmasq needs 0.4."""

_RETRY_SECONDS = 10.0
"""How long until what could not be written is tried again."""


class NameFiles:
    """``due``: when ``follow`` is to be called again by the monotonic clock, whatever happens; infinity: not."""

    def __init__(self, node: ThisNode, report: Report) -> None:
        self.due = math.inf
        self._node = node
        self._report = report
        self._path = Path(node.config.dns_hosts_dir).absolute() if node.config.dns_hosts_dir else None
        self._state: NodeState | None = None  # which the names are of; None: none yet
        self._names = Names(node.config.cluster_domain)
        self._soonest: dict[str, float] = {}  # when the namespaces may be written that are to be
        self._resting: dict[str, float] = {}  # until when those stay as they are that have been
        self._failed: dict[str, str] = {}  # why the last version of a namespace's file could not be written
        self._is_noted = False

    def follow(self, state: NodeState, *, whole: bool = False) -> None:
        """Bring the names up to date with the state, and write what is due. ``whole``: look at every file again."""
        renamed, state.renamed = state.renamed, set()
        now = time.monotonic()
        if self._path is None or (self._state is None and now < self.due < math.inf and not whole):
            return
        try:
            if whole or state is not self._state or self._names.domain != self._node.config.cluster_domain:
                self._begin(state, self._path)
            elif renamed:
                self._plan(self._names.update(state.index, renamed), now)
            failed = self._write(self._path, now)
        except (KernelError, OSError) as error:
            self._state, self.due = None, now + _RETRY_SECONDS  # everything is looked at again then
            failed = str(error)
        problems = [
            f"Service/{key}: {count} endpoints are ready, and its name stands for the first {MAX_NAMED} of them"
            for key, count in sorted(self._names.crowded.items())
        ]
        if closed := closed_to_others(self._path):
            problems.append(closed)
        self._report.problems("names", problems, failed.splitlines())

    def _begin(self, state: NodeState, path: Path) -> None:
        """All names anew, and all files looked at. Raises KernelError, OSError."""
        make_names_directory(path)
        known = read_names(path)
        if not self._is_noted:
            self._node.undo_journal().note_names(path)
            self._is_noted = True
        self._names = Names(self._node.config.cluster_domain)
        self._names.update(state.index, state.index.services)
        for text in known.values():
            self._names.restore(text, lambda key: _is_kept(state, key))
        self._state = state
        self._soonest = dict.fromkeys(self._names.namespaces() | known.keys(), 0.0)
        self._failed = {}

    def _plan(self, namespaces: Iterable[str], now: float) -> None:
        for namespace in namespaces:
            self._soonest.setdefault(namespace, self._resting.get(namespace, now))

    def _write(self, path: Path, now: float) -> str:
        """Write what may be written now; what is wrong with any file, a line each. Raises KernelError."""
        due = [namespace for namespace, soonest in self._soonest.items() if soonest <= now]
        texts = {namespace: self._names.text(namespace) for namespace in due}
        written, failed = write_names(path, texts) if texts else (0, {})
        for namespace in due:
            rest = _RETRY_SECONDS if namespace in failed else _REST_SECONDS * self._names.count(namespace)
            del self._soonest[namespace]
            self._failed.pop(namespace, None)
            self._resting[namespace] = now + rest
        self._failed |= failed
        self._plan(failed, now)
        self._resting = {namespace: until for namespace, until in self._resting.items() if until > now}
        self.due = min(self._soonest.values(), default=math.inf)
        if due and not failed:
            self._report.names_written(path, written)
        return "\n".join(self._failed.values())  # also of those that are yet to be tried again


def _is_kept(state: NodeState, key: ObjectName) -> bool:
    """Whether a Service cannot be read, as far as is known: its names stay what they were."""
    if key in state.index.services:
        return False
    return Ref("Service", *key) in state.kept.refs or any(ref.kind not in KINDS for ref in state.kept.refs)
