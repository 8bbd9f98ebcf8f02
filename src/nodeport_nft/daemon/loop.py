"""The loop: wait until something is due or has happened, do it."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from nodeport_nft.agenda import Agenda, Backoff
from nodeport_nft.config import Config
from nodeport_nft.daemon.beginning import begun, own_node, service_cidrs, take_told, until_listed
from nodeport_nft.daemon.configuration import Configuration
from nodeport_nft.daemon.due import Due, until_due
from nodeport_nft.daemon.firewalls import Firewalls
from nodeport_nft.daemon.flow_cleaner import FlowCleaner
from nodeport_nft.daemon.followed import FollowedNode
from nodeport_nft.daemon.following import Following, manifest_follower
from nodeport_nft.daemon.happenings import Happenings
from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.lasting import lasting, start_workers
from nodeport_nft.daemon.lock import DaemonLock
from nodeport_nft.daemon.network import Network
from nodeport_nft.daemon.options import Options
from nodeport_nft.daemon.probes import Probes
from nodeport_nft.daemon.registering import Registering
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.spare_memory import give_back_memory, seldom_collected
from nodeport_nft.daemon.takeover import Takeover
from nodeport_nft.daemon.upkeep import Upkeep
from nodeport_nft.daemon.verdicts import open_verdicts
from nodeport_nft.daemon.writing import Writing
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.counters import read_counters
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, Ref
from nodeport_nft.observe.connections import Connections
from nodeport_nft.observe.conntrack import ConntrackSize
from nodeport_nft.reconcile import Reconciler
from nodeport_nft.ruleset import Key
from nodeport_nft.scarcity import scarcity
from nodeport_nft.sources.by_scheme import open_source
from nodeport_nft.sources.handover import Handover
from nodeport_nft.store import StoreError, is_shared
from nodeport_nft.store.api import Changes, Membership, Recorder

if TYPE_CHECKING:
    from nodeport_nft.page.answers import Page

_RETRY_SECONDS = 30.0
"""The longest pause before a sync that has failed is tried again."""

_LISTING_SECONDS = 0.5
"""How often to ask whether the store has told everything once more."""

_LOOK_SECONDS = 10.0
"""How often to look at what nobody tells of: sysctls, and ports that could not be opened."""

_WORKERS = 4
"""Threads for what would hold the loop up: manifests, stale flows, the host's network, firewalls."""


class Daemon:
    """Programs one node until it is stopped. Made on the main thread, in the node's network namespace.

    Raises KernelError, StoreError and OSError where it cannot begin.
    """

    def __init__(
        self,
        options: Options,
        config: Config,
        reporter: Reporter,
        tables: KernelTables,
        node: FollowedNode,
        page: Page | None = None,
    ) -> None:
        self._options = options
        self._page = page
        self._reporter = reporter
        self._tables = tables
        self._node = node
        self._stopping = False
        self._failure: BaseException | None = None
        self._woken = asyncio.Event()
        self._agenda = Agenda(Due, time.monotonic, self._woken.set)
        self._backoff = Backoff(min(config.sync_period, _RETRY_SECONDS))
        self._lock = DaemonLock(tables.lock, reporter)
        self._flows = FlowCleaner(
            reporter.metrics.flows_deleted, lambda problems: reporter.problems("stale flows", problems)
        )
        self._upkeep = Upkeep(tables, node, reporter)
        self._firewalls = Firewalls(tables, node, reporter, Nft())
        self._takeover = Takeover(tables, node, reporter)
        self._writing = Writing(node, reporter, self._agenda, self._lock, self._flows, self._upkeep, self._backoff)
        self._network = Network(
            node, reporter, self._agenda, self._writing, self._flows, self._backoff, self._lost, self.ended
        )
        self._probes: Probes | None = None
        self._configuration = Configuration(options, node, reporter, tables.check_flowtables)
        self._jobs: dict[Due, Callable[[], None]] = {
            Due.NETWORK: self._network.reread,
            Due.CHECK: self._check,
            Due.LOOK: self._look,
            Due.REFUSED: self._writing.retry_refused,
            Due.ANEW: self._begin_anew,
            Due.NAMES: self._writing.write_names,
            Due.SYNC: self._writing.sync_under_lock,
        }

    async def run(self) -> None:
        """Program the node, then follow what changes until ``stop``. Raises what cannot be gone on with."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._broken)
        self._workers = start_workers(_WORKERS)
        loop.set_default_executor(self._workers)
        handover = Handover()
        self._manifests = manifest_follower(self._options, self._node.config, self._reporter, handover)
        if self._manifests:
            await self._manifests.begin()
        self._source = open_source(self._node.config, self._options.node_name, handover if self._manifests else None)
        registering = Registering(self._node.config, self._options.node_name, self._reporter, self._writing)
        happenings = Happenings(self._node.config, self._options.node_name, self._reporter, self._writing)

        def tell() -> None:
            registering.tell()
            happenings.tell()

        self._writing.report = tell
        running = asyncio.create_task(lasting("following: source", self._source.run, self._reporter, self._lost))
        running.add_done_callback(self.ended)
        try:
            if await self._has_started():
                await self._follow(registering.membership, happenings.recorder)
            if self._failure:
                raise self._failure
        finally:
            loop.remove_reader(self._tables.fileno())
            loop.remove_reader(self._node.events.fileno())
            running.cancel()
            if self._probes:
                self._probes.close()
            self._source.close()
            self._node.close()

    def stop(self, why: str) -> None:
        """Let ``run`` end."""
        self._reporter.stopping(why)
        self._stopping = True
        self._woken.set()

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
        with self._tables.lock.wait():
            self._tables.remove()
        done, failed = self._node.undo()
        self._reporter.log.info("cleaned up", done="; ".join(["tables removed", *done]), failed="; ".join(failed))

    # --- the start ----------------------------------------------------------------------------------------

    async def _has_lock(self) -> bool:
        """Wait for the node's lock; False where we are stopped meanwhile."""
        while not (self._stopping or self._lock.take()):
            await asyncio.sleep(self._lock.due - time.monotonic())
        return not self._stopping

    async def _has_started(self) -> bool:
        """Program the node as soon as all of the store is listed; False where we are stopped before.

        The store is read in our turn: what others have written in theirs must not be undone for a moment.
        """
        while await self._has_lock():
            try:
                gc.disable()
                with self._reading_ahead():
                    changes = take_told(self._source, self._reporter)
                    if changes.whole:
                        self._start(changes)
                        return True
            finally:
                gc.enable()
                self._lock.give_back()
            self._reporter.log.info("waiting for the store", store=self._node.config.store)
            self._reporter.tell(waits_for_store=True)
            with seldom_collected():
                await until_listed(self._source, self._woken)
            self._reporter.tell(waits_for_store=False, store_waited=time.time())
        return False

    def _reading_ahead(self) -> AbstractContextManager[None]:
        """Read the tables beside a store that is a file; what others tell is here already when it is taken."""
        if is_shared(self._node.config.store):
            return nullcontext()
        return self._tables.reading_ahead(self._node.likely_facts())

    def _start(self, changes: Changes) -> None:
        """Write what differs between these changes, which are all there is, and what the kernel holds (K4).

        What is made here lives as long as the daemon: the garbage collector need not go through it again and again.
        """
        facts = self._node.facts(own_node(changes, self._options.node_name), service_cidrs(changes))
        state, known = begun(changes, facts, self._tables)
        self._writing.begin(Reconciler(self._tables, state, known), "start", changes.position)
        del known
        self._probes = self._made_probes()
        self._probes.begin(changes.changes)
        if self._node.config.metrics_address is not None:
            self._tables.connections = Connections(read_counters, self._holder)
            self._reporter.metrics.registry.register(self._tables.connections)
            self._reporter.metrics.registry.register(ConntrackSize())
        if self._page:
            self._page.begin(lambda: self._writing.state)
        self._agenda.after(Due.CHECK, self._node.config.full_check_period)
        self._agenda.after(Due.LOOK, 0.0)
        self._writing.sync()
        gc.freeze()
        give_back_memory()

    def _made_probes(self) -> Probes:
        verdicts = open_verdicts(
            self._node.config,
            self._options.node_name,
            self._writing.put_verdict,
            lambda problems: self._reporter.problems("readiness probes", problems),
        )
        name = self._options.node_name
        return Probes(name, verdicts, self._reporter, lambda ref: self._writing.state.index.values(ref))

    def _holder(self, family: Family, name: str, key: Key) -> tuple[str, str] | None:
        return self._writing.state.tables.desired[family].holder(name, key)

    # --- from then on -------------------------------------------------------------------------------------

    async def _follow(self, membership: Membership | None, recorder: Recorder | None) -> None:
        """Follow all there is to follow, and do what is due, until stopped."""
        loop = asyncio.get_running_loop()
        own = Ref("Node", "", self._options.node_name)
        assert self._probes is not None
        following = Following(own, self._source, self._tables, self._reporter, self._writing, self._probes)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_reader(self._tables.fileno(), following.tables)
        loop.add_reader(self._node.events.fileno(), self._network.changed)
        works: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "store": following.store,
            "configuration": lambda: self._configuration.follow(self.reload),
            "stale flows": self._flows.run,
            "firewalls": lambda: self._firewalls.follow(lambda: self._writing.state),
            "readiness probes": self._probes.run,
            "signs of life": self._reporter.beat,
        }
        if self._manifests:
            works["manifests"] = self._manifests.follow
        if membership:
            works["registration"] = membership.run
        if recorder:
            works["events"] = recorder.run
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(lasting(f"following: {what}", work, self._reporter, self._lost))
                for what, work in works.items()
            ]
            while not self._stopping:
                self._do_what_is_due()
                await until_due(self._agenda, self._woken)
            for task in tasks:
                task.cancel()

    def _do_what_is_due(self) -> None:
        what: Due | None = None
        try:
            for what in self._agenda.due():
                self._jobs[what]()
            what = None
            self._writing.tell_waiting()
        except (MemoryError, RuntimeError, OSError) as error:
            if not (wanting := scarcity(error)):
                raise
            if what:
                self._agenda.within(what, _LOOK_SECONDS)  # it was not done
            self._lost(wanting)

    def _check(self) -> None:
        self._agenda.after(Due.CHECK, self._node.config.full_check_period)
        self._writing.check()
        self._takeover.again()
        give_back_memory()  # of the listing

    def _look(self) -> None:
        self._agenda.after(Due.LOOK, _LOOK_SECONDS)
        self._node.look_again(self._writing.state)
        if self._reporter.status.syncs and not self._reporter.status.error:
            self._takeover.look(self._writing.reconciler.refused)
        self._firewalls.look_soon()
        self._tables.listen()

    def _lost(self, wanting: str) -> None:
        """Something was not done for want of memory or threads, and what is known may be half of it: begin anew soon.

        Until then the tables stay as they are.
        """
        if Due.ANEW not in self._agenda:
            delay = self._backoff.failed()
            self._agenda.after(Due.ANEW, delay)
            gc.unfreeze()
            gc.collect()  # before everything is read once more
            if "_source" in vars(self):  # else nothing is known yet
                self._source.forget()
            self._reporter.failed(wanting, delay)
            if self._probes:  # else there is no state yet
                self._writing.report()
        self._agenda.drop(Due.SYNC)

    def _begin_anew(self) -> None:
        """As at the start, with the old state in force until all of the new one is there."""
        try:
            changes = take_told(self._source, self._reporter)
            if not changes.whole:  # a store elsewhere takes its time; nobody else takes what it tells (``Following``)
                self._agenda.after(Due.ANEW, _LISTING_SECONDS)
                return
            name = self._options.node_name
            own = own_node(changes, name, self._writing.state.index.nodes.get(name))
            facts = self._node.facts(own, service_cidrs(changes))
            state, known = begun(changes, facts, self._tables)
        except (MemoryError, RuntimeError, OSError, KernelError, StoreError) as error:
            if not (scarcity(error) or isinstance(error, KernelError | StoreError)):
                raise
            self._lost(scarcity(error) or str(error))
            return
        self._writing.begin(Reconciler(self._tables, state, known), "start anew", changes.position)
        if self._probes:
            self._probes.begin(changes.changes)

    def reload(self) -> None:
        """Read the configuration again; what is wrong with it is told, and the last good one stays."""
        self._reporter.reloading()
        config = self._configuration.load(self._node.config)
        if config:
            self._node.config = config
            self._writing.pace.quiet = config.min_sync_period
            self._backoff.longest = min(config.sync_period, _RETRY_SECONDS)
            self._agenda.within(Due.CHECK, config.full_check_period)
            self._reporter.tell(sync_period=config.sync_period)
            self._reporter.log.info("configuration read")
            self._node.write_hosts(self._writing.state)
            self._writing.write_names(whole=True)
            if self._manifests:
                self._manifests.reconfigure(config)
            self._writing.refit()
            self._takeover.again()
            self._agenda.within(Due.LOOK, 0.0)
        if self._reporter.status.synced:
            self._reporter.ready()
