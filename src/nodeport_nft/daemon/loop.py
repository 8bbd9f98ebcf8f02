"""The loop: what has happened → what is touched → one transaction, when it is time."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

from nodeport_nft.config import Config
from nodeport_nft.daemon.beginning import read_all
from nodeport_nft.daemon.configuration import Configuration
from nodeport_nft.daemon.flows import FlowCleaner
from nodeport_nft.daemon.followed import FollowedNode
from nodeport_nft.daemon.lasting import lasting, start_workers
from nodeport_nft.daemon.options import Options
from nodeport_nft.daemon.pace import Backoff, Pace
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.tables import KernelTables
from nodeport_nft.daemon.turn import DaemonTurn
from nodeport_nft.daemon.upkeep import Upkeep
from nodeport_nft.kernel.counters import read_counters
from nodeport_nft.kernel.nft import KernelError
from nodeport_nft.manifest.objects import KINDS
from nodeport_nft.model import Family, NodePortMode, ObjectName, Ref
from nodeport_nft.observe.connections import Connections
from nodeport_nft.observe.health import is_current
from nodeport_nft.observe.metrics import RepairCause
from nodeport_nft.reconcile import Reconciler, Synced, stale_frontends
from nodeport_nft.ruleset import Key
from nodeport_nft.scarcity import scarcity
from nodeport_nft.sources import Changes
from nodeport_nft.sources.manifests import ManifestFollower
from nodeport_nft.sources.store import StoreSource
from nodeport_nft.store import StoreError

_HOST_SECONDS = 0.1
"""How long to wait after a change of the host's network: a new link brings several."""

_RETRY_SECONDS = 30.0
"""The longest pause before a sync that has failed is tried again."""

_LOOK_SECONDS = 10.0
"""How often to look at what nobody tells of: sysctls, and ports that could not be opened."""

_WORKERS = 3
"""Threads for what would hold the loop up: manifests, stale flows, the host's network."""

_REFUSED_SECONDS = 300.0
"""The longest that a service which the kernel refuses waits for the next try."""


class Daemon:
    """Programs one node until it is stopped. Made on the main thread, in the node's network namespace.

    Raises KernelError, StoreError and OSError where it cannot begin.
    """

    def __init__(
        self, options: Options, config: Config, reporter: Reporter, tables: KernelTables, node: FollowedNode
    ) -> None:
        self._options = options
        self._config = config
        self._reporter = reporter
        self._tables = tables
        self._turn = DaemonTurn(tables.turn, reporter)
        self._node = node
        self._configuration = Configuration(options, node, reporter, tables.check_flowtables)
        self._upkeep = Upkeep(tables, node, reporter)
        self._own = Ref("Node", "", options.node_name)
        self._pace = Pace(config.min_sync_period)
        self._backoff = Backoff(min(config.sync_period, _RETRY_SECONDS))
        self._refusals = Backoff(_REFUSED_SECONDS)
        self._retry_at = math.inf
        self._retry_soonest = math.inf
        self._refused_at = math.inf
        self._refused: frozenset[ObjectName] = frozenset()
        self._anew_at = math.inf
        self._check_at = math.inf
        self._host_at = math.inf
        self._look_at = 0.0
        self._rereading: asyncio.Task[None] | None = None
        self._causes: dict[str, None] = {}
        self._waiting: dict[ObjectName, float] = {}
        self._repair: RepairCause | None = None
        self._hosts_changed = True
        self._stopping = False
        self._failure: BaseException | None = None
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Program the node, then follow what changes until ``stop``. Raises what cannot be gone on with."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._broken)
        self._workers = start_workers(_WORKERS)
        loop.set_default_executor(self._workers)
        self._flows = FlowCleaner(self._reporter.metrics.flows_deleted, self._flows_failed)
        manifests = self._manifests = self._follower()
        if manifests:
            await manifests.begin()
        self._source = StoreSource(self._config, make=manifests is not None)
        try:
            while not (self._stopping or self._turn.take()):
                await asyncio.sleep(self._turn.due - time.monotonic())
            if self._stopping:
                return
            self._start()
            self._turn.give_back()
            loop.add_signal_handler(signal.SIGHUP, self.reload)
            loop.add_reader(self._tables.fileno(), self._tables_changed)
            loop.add_reader(self._node.events.fileno(), self._host_changed)
            async with asyncio.TaskGroup() as group:
                followers: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
                    "store": self._follow_store,
                    "configuration": lambda: self._configuration.follow(self.reload),
                    "stale flows": self._flows.run,
                    "signs of life": self._reporter.beat,
                }
                if manifests:
                    followers["manifests"] = manifests.follow
                tasks = [
                    group.create_task(lasting(f"following: {what}", work, self._reporter, self._lost))
                    for what, work in followers.items()
                ]
                await self._sync_when_due()
                for task in tasks:
                    task.cancel()
            if self._failure:
                raise self._failure
        finally:
            loop.remove_reader(self._tables.fileno())
            loop.remove_reader(self._node.events.fileno())
            self._source.close()
            self._node.close()

    def stop(self, why: str) -> None:
        """Let ``run`` end."""
        self._reporter.log.info("stopping", signal=why)
        self._reporter.manager("STOPPING=1")
        self._stopping = True
        self._wake.set()

    def _broken(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End where a callback has failed: half a daemon would look like a whole one. A restart mends what it can."""
        error = context.get("exception") or RuntimeError(str(context.get("message")))
        if wanting := scarcity(error):
            self._lost(wanting)
            return
        self._failure = error
        self.stop("defect")

    def ended(self, task: asyncio.Task[None]) -> None:
        """A task beside ``run`` is done: end, too, if it has failed."""
        if not task.cancelled() and (error := task.exception()):
            self._failure = error
            self.stop("defect")

    def clean_up(self) -> None:
        """Remove what was left on the node (K5), but for the store."""
        with self._tables.turn.wait():
            self._tables.remove()
        done, failed = self._node.undo()
        self._reporter.log.info("cleaned up", done="; ".join(["tables removed", *done]), failed="; ".join(failed))

    # --- the start ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Read the store and the kernel, and write the difference (K4).

        What is made here lives as long as the daemon: the garbage collector need not go through it again and again.
        """
        gc.disable()
        facts = self._node.facts(self._source.node(self._options.node_name))
        self._state, known = read_all(facts, self._tables, self._source, self._reporter, self._workers)
        self._reconciler = Reconciler(self._tables, self._state, known)
        del known
        if self._config.metrics_address is not None:
            self._tables.connections = Connections(read_counters, self._holder)
            self._reporter.metrics.registry.register(self._tables.connections)
        self._changed("start")
        self._check_at = time.monotonic() + self._config.full_check_period
        self._sync()
        gc.freeze()
        gc.enable()

    def _lost(self, wanting: str) -> None:
        """Something was not done for want of memory or threads, and what is known may be half of it: begin anew soon.

        Until then the tables stay as they are.
        """
        if self._anew_at == math.inf:
            delay = self._backoff.failed()
            self._anew_at = time.monotonic() + delay
            self._reporter.failed(wanting, delay)
            self._wake.set()

    def _begin_anew(self) -> None:
        """As at the start, with the old state in force until all of the new one is there."""
        try:
            gc.unfreeze()
            gc.collect()
            facts = self._node.facts(self._state.index.nodes.get(self._options.node_name))
            self._source.forget()
            state, known = read_all(facts, self._tables, self._source, self._reporter, self._workers)
        except (MemoryError, RuntimeError, OSError, KernelError, StoreError) as error:
            if not (scarcity(error) or isinstance(error, KernelError | StoreError)):
                raise
            self._source.forget()
            self._anew_at = math.inf
            self._lost(scarcity(error) or str(error))
            return
        self._state, self._reconciler = state, Reconciler(self._tables, state, known)
        self._anew_at = math.inf
        self._hosts_changed = True
        self._changed("start anew")

    def _holder(self, family: Family, name: str, key: Key) -> tuple[str, str] | None:
        return self._state.tables.desired[family].holder(name, key)

    def _follower(self) -> ManifestFollower | None:
        if not self._options.manifests:
            return None
        return ManifestFollower(
            self._options.manifests,
            self._config,
            prune=self._options.prune,
            allow_empty=self._options.allow_empty,
            report=lambda problems: self._reporter.problems("manifests", problems),
            say=lambda text: self._reporter.log.info("manifests", text=text),
        )

    # --- what happens -------------------------------------------------------------------------------------

    async def _follow_store(self) -> None:
        while True:
            await self._source.changed()
            self._take(self._source.read())
            if self._source.fault and self._manifests:
                self._manifests.retry()  # it can write the store anew

    def _take(self, changes: Changes) -> None:
        """Let the objects be as a source says they are."""
        self._reporter.problems("store", self._source.problems())
        self._reporter.doubts(self._source.take_doubts())
        found = [(change.ref, change.values) for change in changes.changes]
        if changes.whole:
            gone = (self._state.index.refs() | self._state.kept.refs) - {ref for ref, _ in found} - changes.unreadable
            if any(ref.kind not in KINDS for ref in changes.unreadable):
                gone = frozenset()  # which of them it is that cannot be read is not known
            found += [(ref, ()) for ref in sorted(gone)]
        touched: set[ObjectName] = set()
        services = 0
        for ref, values in found:
            touched |= self._state.put(ref, values)
            services += ref.kind == "Service"
        self._hosts_changed |= bool(services)
        if touched:
            self._causes |= dict.fromkeys(ref.kind for ref, _ in found)
            endpoints = sum(ref.kind not in ("Service", "Node") for ref, _ in found)
            self._reporter.metrics.queued(services=services, endpoints=endpoints)
        now = time.monotonic()
        self._waiting |= dict.fromkeys(touched - self._waiting.keys(), now)
        if any(ref == self._own for ref, _ in found):
            self._refit()
        if touched:
            self._changed()

    def _refit(self) -> None:
        """Gather the node's facts anew (X2)."""
        before = self._state.facts
        facts = self._node.facts(self._state.index.nodes.get(self._options.node_name))
        if facts != before:
            self._reconciler.refit(facts)
            self._changed("node")
        self._node.check_sysctls(self._state, again=True)

    def _tables_changed(self) -> None:
        others = self._tables.others()
        if not others:
            return
        damage = self._tables.damage(self._state.tables.schemas)
        if damage == ():
            return  # to what packets had put in
        self._reporter.log.warning("tables changed by others", who=", ".join(others))
        self._repair = RepairCause.OUTSIDE_CHANGE
        if damage is None:
            self._reconciler.distrust()
        for touched in damage or ():
            self._reconciler.damaged(touched.family, touched.map, touched.key, present=touched.present)
        self._changed("outside change")

    def _host_changed(self) -> None:
        self._node.events.take()
        self._host_at = min(self._host_at, time.monotonic() + _HOST_SECONDS)
        self._wake.set()

    def reload(self) -> None:
        """Read the configuration again; what is wrong with it is told, and the last good one stays."""
        self._reporter.reloading()
        config = self._configuration.load(self._config)
        if config:
            self._config = self._node.config = config
            self._pace.quiet = config.min_sync_period
            self._backoff.longest = min(config.sync_period, _RETRY_SECONDS)
            self._check_at = min(self._check_at, time.monotonic() + config.full_check_period)
            self._reporter.tell(sync_period=config.sync_period)
            self._reporter.log.info("configuration read")
            self._node.write_hosts(self._state)
            if self._manifests:
                self._manifests.reconfigure(config)
            self._refit()
        if self._reporter.status.synced:
            self._reporter.ready()
        self._wake.set()

    # --- writing ------------------------------------------------------------------------------------------

    def _changed(self, cause: str = "") -> None:
        if cause:
            self._causes[cause] = None
        now = time.monotonic()
        self._pace.changed(now)
        if self._retry_at < math.inf:  # what has happened may be what it takes
            self._retry_at = min(self._retry_at, max(now, self._retry_soonest))
        self._wake.set()

    async def _sync_when_due(self) -> None:
        while not self._stopping:
            try:
                self._do_what_is_due()
                self._tell_waiting()
            except (MemoryError, RuntimeError, OSError) as error:
                if not (wanting := scarcity(error)):
                    raise
                self._lost(wanting)
            due = self._anew_at if self._anew_at < math.inf else self._sync_at()
            pause = min(due, self._host_at, self._check_at, self._look_at, self._refused_at) - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, pause)):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    def _sync_at(self) -> float:
        """When to sync next; infinity if there is nothing to write."""
        due = self._retry_at if self._retry_at < math.inf else self._pace.due()
        return max(due, self._turn.due)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if now >= self._host_at and (self._rereading is None or self._rereading.done()):
            self._host_at = math.inf
            self._rereading = asyncio.create_task(
                lasting("following: network", self._reread_host, self._reporter, self._lost)
            )
            self._rereading.add_done_callback(self.ended)
        if now >= self._check_at:
            self._check_at = now + self._config.full_check_period
            self._repair = self._repair or RepairCause.FULL_CHECK
            self._reconciler.distrust()
            self._changed("full check")
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._node.look_again(self._state)
            self._upkeep.firewalls.look(self._state)
            self._tables.rest()
        if now >= self._refused_at:
            self._refused_at = math.inf
            self._reconciler.retry()
            self._changed("retry")
        if now >= self._anew_at:
            self._begin_anew()
        if self._anew_at < math.inf:
            return  # half a state is none to write
        if now >= self._sync_at():
            self._tell_waiting()
            self._sync_in_turn()

    async def _reread_host(self) -> None:
        """Read the host's network again, beside the loop: it takes long where there are many routes."""
        begin, pause = time.monotonic(), 0.0
        try:
            before = self._node.host.addresses
            changed = await self._node.reread()
        except KernelError as error:
            self._reporter.problems("network", [str(error)])
            self._host_at, pause = time.monotonic(), self._backoff.longest
        else:
            self._reporter.problems("network", ())
            if not self._upkeep.devices.follow(self._state.tables.schemas):
                self._reread_links()
            if changed:
                self._refit()
                self._node.update_health(self._state, set(), all_of_them=True)
            if self._node.host.addresses != before and self._state.facts.node_port_mode is NodePortMode.ALL:
                # The tables need not change for a new address, but flows to it may have begun untranslated (K2).
                addresses = [held.address for held in self._node.host.addresses]
                self._flows.clean(stale_frontends(self._state.snapshot(), self._state.tables, {}, addresses))
        now = time.monotonic()
        if self._host_at < math.inf:
            self._host_at = max(self._host_at, now + max(pause, now - begin))
        self._wake.set()

    def _sync_in_turn(self) -> None:
        if not self._turn.take():
            self._node.set_healthy(is_current(self._reporter.status, time.time()))
            return
        try:
            self._sync()
        finally:
            self._turn.give_back()

    def _sync(self) -> None:
        begin = time.monotonic()
        touched = set(self._state.touched)
        try:
            synced = self._reconciler.sync(held.address for held in self._node.host.addresses)
        except KernelError as error:
            now, delay = time.monotonic(), self._backoff.failed()
            self._retry_at = now + delay
            self._retry_soonest = now + max(1.0, 4 * (now - begin))
            self._causes["retry"] = None
            self._reporter.failed(str(error), delay)
            self._tell_waiting()
            self._node.set_healthy(is_current(self._reporter.status, time.time()))
            return
        end = time.monotonic()
        self._retry_at = math.inf
        self._backoff.succeeded()
        self._pace.written()
        self._flows.clean(synced.frontends)
        self._node.update_health(self._state, touched, all_of_them=synced.whole)
        self._node.set_healthy(True)
        if not self._upkeep.after(synced, self._state, names_changed=self._hosts_changed):
            self._reread_links()
        self._hosts_changed = False
        self._follow_up(synced, begin, end)

    def _reread_links(self) -> None:
        """One of them has gone since they were read."""
        self._host_at = min(self._host_at, time.monotonic() + _LOOK_SECONDS)

    def _follow_up(self, synced: Synced, begin: float, end: float) -> None:
        """Tell what a sync did, and go on with what it left."""
        refused = self._reconciler.refused
        if not refused:
            self._refused_at = math.inf
            self._refusals.succeeded()
        elif self._refused_at == math.inf or refused.keys() - self._refused:
            self._refused_at = end + self._refusals.failed()
        self._refused = frozenset(refused)
        was_told = self._repair is RepairCause.OUTSIDE_CHANGE or not synced.services
        if self._repair and synced.transactions and was_told:
            self._reporter.metrics.repaired(self._repair)
        waited = [end - at for at in self._waiting.values()]
        self._reporter.synced(synced, self._state, refused, tuple(self._causes), end - begin, waited)
        self._repair = None
        self._causes.clear()
        self._waiting.clear()

    def _tell_waiting(self) -> None:
        """Let the status say what waits to be written."""
        if self._pace.first is None:
            return
        since = time.time() - (time.monotonic() - self._pace.first)
        self._reporter.tell(pending=max(1, len(self._waiting)), pending_since=since)

    def _flows_failed(self, error: str) -> None:
        self._reporter.log.warning("stale flows", error=error)
