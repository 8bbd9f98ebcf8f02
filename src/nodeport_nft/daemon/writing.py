"""Writing: what is to be written and since when, the sync that does it, and what follows from it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection

from nodeport_nft.agenda import Agenda, Backoff
from nodeport_nft.daemon.due import Due
from nodeport_nft.daemon.flow_cleaner import FlowCleaner
from nodeport_nft.daemon.followed import FollowedNode
from nodeport_nft.daemon.lock import DaemonLock
from nodeport_nft.daemon.pace import Pace
from nodeport_nft.daemon.refusals import Refusals
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.upkeep import Upkeep
from nodeport_nft.errors import KernelError
from nodeport_nft.model import ObjectName, Ref, Value
from nodeport_nft.observe.health import is_current
from nodeport_nft.observe.metrics import RepairCause
from nodeport_nft.reconcile import NodeState, Reconciler, Synced

_LINKS_SECONDS = 10.0
"""How long until links are read again that flowtables could not be given."""


class Writing:
    """``reconciler`` has the state that is to be written, and is there from the start on (``begin``).

    ``pace`` says when a change is due. ``backoff``: after how long a failed sync is tried again. ``hosts_changed``:
    the next sync brings the hosts file up to date. ``repair``: what the next sync mends, if it mends anything.
    ``programmed`` is the store's position that the kernel has all of, "" if it has none of it yet. ``told`` is called
    whenever how far the node is may have changed.
    """

    reconciler: Reconciler

    def __init__(
        self,
        node: FollowedNode,
        reporter: Reporter,
        agenda: Agenda[Due],
        lock: DaemonLock,
        flows: FlowCleaner,
        upkeep: Upkeep,
        backoff: Backoff,
    ) -> None:
        self.pace = Pace(node.config.min_sync_period)
        self.hosts_changed = True
        self.repair: RepairCause | None = None
        self.programmed = ""
        self.report: Callable[[], None] = lambda: None
        self._taken = ""
        self._node = node
        self._reporter = reporter
        self._agenda = agenda
        self._lock = lock
        self._flows = flows
        self._upkeep = upkeep
        self._backoff = backoff
        self._refusals = Refusals(agenda)
        self._retry_at = self._retry_soonest = math.inf
        self._causes: dict[str, None] = {}
        self._waiting: dict[ObjectName, float] = {}

    @property
    def state(self) -> NodeState:
        """What is to be written."""
        return self.reconciler.state

    @property
    def begins_anew(self) -> bool:
        """Whether the state is half a one, and all of it is to be made again."""
        return Due.ANEW in self._agenda

    def begin(self, reconciler: Reconciler, cause: str, position: str) -> None:
        """Write with this one from now on, all of its state, which is that of ``position``; for this reason."""
        self.reconciler = reconciler
        self._taken = position
        self.hosts_changed = True
        self.changed(cause)

    # --- what is to be written ----------------------------------------------------------------------------

    def changed(self, *causes: str) -> None:
        """Something is to be written, for these reasons."""
        self._causes |= dict.fromkeys(causes)
        now = time.monotonic()
        self.pace.changed(now)
        if self._retry_at < math.inf:  # what has happened may be what it takes
            self._retry_at = min(self._retry_at, max(now, self._retry_soonest))
        self._plan()

    def touched(self, services: Collection[ObjectName], kinds: Collection[str]) -> None:
        """These services are to be written, since objects of these kinds have changed."""
        now = time.monotonic()
        self._waiting |= dict.fromkeys(services - self._waiting.keys(), now)
        self.changed(*kinds)

    def took(self, position: str) -> None:
        """The state has all that the store had at this position."""
        self._taken = position
        if self.pace.first is None:  # nothing is to be written
            self.programmed = position
        self.report()

    def put_verdict(self, ref: Ref, values: tuple[Value, ...]) -> None:
        """What a readiness probe says of an endpoint, which no source tells, is in the state from now on."""
        if touched := self.state.put(ref, values):
            self._reporter.metrics.queued(endpoints=1)
            self.touched(touched, [ref.kind])

    def refit(self) -> None:
        """Gather the node's facts anew (X2)."""
        facts = self._node.facts_in(self.state)
        if facts != self.state.facts:
            self.reconciler.refit(facts)
            self.changed("node")
        self._node.check_sysctls(self.state, again=True)

    def check(self) -> None:
        """Compare the tables as a whole at the next sync."""
        self.repair = self.repair or RepairCause.FULL_CHECK
        self.reconciler.distrust()
        self.changed("full check")

    def retry_refused(self) -> None:
        """Try again at the next sync what the kernel has refused."""
        self.reconciler.retry()
        self.changed("retry")

    def tell_waiting(self) -> None:
        """Let the status say what waits to be written."""
        if self.pace.first is None:
            return
        since = time.time() - (time.monotonic() - self.pace.first)
        self._reporter.tell(pending=max(1, len(self._waiting)), pending_since=since)

    def _plan(self) -> None:
        if self.begins_anew:
            return  # half a state is none to write; `begin` comes back here
        due = self._retry_at if self._retry_at < math.inf else self.pace.due()
        self._agenda.at(Due.SYNC, max(due, self._lock.due))

    # --- a sync -------------------------------------------------------------------------------------------

    def sync_under_lock(self) -> None:
        """Write what has changed, or ask again soon where another process is at it."""
        self.tell_waiting()
        if not self._lock.take():
            self._plan()
            self._node.set_healthy(is_current(self._reporter.status, time.time()))
            self.report()
            return
        try:
            self.sync()
        finally:
            self._lock.give_back()

    def sync(self) -> None:
        """Write what has changed. The node's lock has to be ours."""
        begin = time.monotonic()
        touched = set(self.state.touched)
        try:
            synced = self.reconciler.sync(held.address for held in self._node.host.addresses)
        except KernelError as error:
            self._failed(str(error), begin)
            return
        end = time.monotonic()
        self._retry_at = math.inf
        self._backoff.succeeded()
        self.pace.written()
        self._agenda.drop(Due.SYNC)
        self.programmed = self._taken
        self._follow_up(synced, touched)
        self._tell(synced, begin, end)
        self.report()

    def _failed(self, error: str, begin: float) -> None:
        now, delay = time.monotonic(), self._backoff.failed()
        self._retry_at = now + delay
        self._retry_soonest = now + max(1.0, 4 * (now - begin))
        self._plan()
        self._causes["retry"] = None
        self._reporter.failed(error, delay)
        self.tell_waiting()
        self._node.set_healthy(is_current(self._reporter.status, time.time()))
        self.report()

    def _follow_up(self, synced: Synced, touched: set[ObjectName]) -> None:
        """Do what follows from what was written."""
        self._flows.clean(synced.frontends)
        self._node.update_health(self.state, touched, all_of_them=synced.whole)
        self._node.set_healthy(True)
        if not self._upkeep.after(synced, self.state, names_changed=self.hosts_changed):
            self._reread_links()
        self.hosts_changed = False
        self._agenda.at(Due.NAMES, self._upkeep.names.due)
        self._refusals.after_sync(self.reconciler.refused)

    def write_names(self, *, whole: bool = False) -> None:
        """Bring the names up to date that had to wait; ``whole``: look at every file again."""
        self._upkeep.names.follow(self.state, whole=whole)
        self._agenda.at(Due.NAMES, self._upkeep.names.due)

    def give_devices(self) -> None:
        """Let the flowtables have the node's links; where that fails, these are read again."""
        if not self._upkeep.devices.follow(self.state.tables.schemas):
            self._reread_links()

    def _reread_links(self) -> None:
        """One of them has gone since they were read."""
        self._agenda.within(Due.NETWORK, _LINKS_SECONDS)

    def _tell(self, synced: Synced, begin: float, end: float) -> None:
        """Tell what a sync did; what waited for it waits no longer."""
        was_told = self.repair is RepairCause.OUTSIDE_CHANGE or not synced.services
        if self.repair and synced.transactions and was_told:
            self._reporter.metrics.repaired(self.repair)
        waited = [end - at for at in self._waiting.values()]
        self._reporter.synced(synced, self.state, self.reconciler.refused, tuple(self._causes), end - begin, waited)
        self.repair = None
        self._causes.clear()
        self._waiting.clear()
