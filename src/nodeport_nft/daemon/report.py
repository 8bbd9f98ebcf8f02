"""What the daemon tells: to its log, to whoever asks its status, to Prometheus, and to the service manager.

A problem is told once when it comes up and once when it is gone, however often it is found in between.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from nodeport_nft.daemon.manager import Manager, read_watchdog
from nodeport_nft.model import Family, ObjectName
from nodeport_nft.observe.metrics import Metrics
from nodeport_nft.observe.server import ObserveServer
from nodeport_nft.observe.status import Status
from nodeport_nft.reconcile import NodeState, Synced

_MOST_IDLE = 10  # Services without an endpoint that are named


class Reporter:
    """``status`` is what is told now."""

    def __init__(self, log: FilteringBoundLogger, metrics: Metrics, server: ObserveServer, status: Status) -> None:
        self.log = log
        self.metrics = metrics
        self.status = status
        self._server = server
        self._problems: dict[str, tuple[str, ...]] = {}
        self._advised: frozenset[str] = frozenset()
        self._manager = Manager(os.environ)
        self._is_ready = False
        self._told = ""
        self.tell()

    def close(self) -> None:
        """Tell the service manager nothing more."""
        self._manager.close()

    def tell(self, **changes: Any) -> None:
        """Change fields of the status."""
        found = tuple(problem for where in sorted(self._problems) for problem in self._problems[where])
        self.status = replace(self.status, **changes, problems=found)
        self._server.set_status(self.status)

    def problems(self, where: str, problems: Iterable[str], failed: Iterable[str] = ()) -> None:
        """These are the problems that there are now in one part of the daemon, and no others."""
        before, now = self._problems.get(where, ()), (*problems, *failed)
        self.metrics.problems(where, len(now))
        if before == now:
            return
        self._problems[where] = now
        known, left = frozenset(before), frozenset(now)
        for problem in now:
            if problem not in known:
                self.log.warning("problem", where=where, problem=problem)
        for problem in before:
            if problem not in left:
                self.log.info("problem gone", where=where, problem=problem)
        self.tell()

    def doubts(self, doubts: Iterable[str]) -> None:
        """What may be meant otherwise than it stands there; it is told when it comes up, and stops nothing."""
        for text in doubts:
            self.log.warning("store", text=text)

    def serves(self, node_ports_on: str, *, deleted: bool) -> None:
        """Where this node serves nodePorts, and whether its Node object is being deleted: for the status."""
        self.tell(node_ports_on=node_ports_on, node_deleted=deleted)

    def sysctl_set(self, name: str, value: str) -> None:
        """A sysctl was set: for the log."""
        self.log.info("sysctl set", name=name, value=value)

    def hosts_written(self, path: Path, *, changed: bool) -> None:
        """The hosts file is up to date: no news, it is so after every sync."""

    def names_written(self, path: Path, files: int) -> None:
        """The names are up to date: no news."""

    def devices_given(self, links: int) -> None:
        """The flowtables have got these many links: for the log."""
        self.log.info("flowtable", links=links)

    def kube_proxy_removed(self, what: tuple[str, ...]) -> None:
        """What kube-proxy had left was removed: for the log."""
        self.log.info("kube-proxy removed", what=", ".join(what))

    def advice(self, advice: Iterable[str], failed: Iterable[str] = ()) -> None:
        """What would be better otherwise and is no trouble: once in the log, and in the status while it is so."""
        now = (*advice, *failed)
        for each in now:
            if each not in self._advised:
                self.log.info("advice", advice=each)
        self._advised |= frozenset(now)
        if now != self.status.advice:
            self.tell(advice=now)

    def logged(self, fault: str, lost: int) -> None:
        """How the log does: why it cannot be written, and how many lines were lost since the start."""
        self.problems("log", [f"log: cannot be written: {fault}"] if fault else ())
        if lost != self.status.log_lost:
            self.tell(log_lost=lost)

    def synced(
        self,
        synced: Synced,
        state: NodeState,
        refused: Mapping[ObjectName, str],
        causes: tuple[str, ...],
        seconds: float,
        waited: list[float],
    ) -> None:
        """A sync has succeeded. ``waited``: for each change that it wrote, the seconds since it was noticed."""
        services = len(state.index.services)
        self.metrics.synced(full=synced.whole, seconds=seconds, waited=waited)
        self.metrics.counted(services=services, refused=len(refused))
        self._count_endpoints(state)
        without_endpoints, idle = state.idle_services(_MOST_IDLE)
        for family, differences in synced.differences.items():
            self.log.warning("table replaced", family=f"IPv{family}", differences=", ".join(differences[:5]))
        self.problems("services", state.problems())
        self.problems("refused", [f"Service/{key}: {why}" for key, why in sorted(refused.items())])
        self.log.info(
            "sync",
            cause=" ".join(causes),
            compiled=synced.services,
            operations=synced.operations,
            seconds=round(seconds, 6),
        )
        self.tell(
            services=services,
            without_endpoints=without_endpoints,
            idle=tuple(map(str, idle)),
            synced=time.time(),
            sync_seconds=seconds,
            sync_cause=" ".join(causes),
            sync_operations=synced.operations,
            syncs=self.status.syncs + 1,
            pending=0,
            pending_since=0.0,
            refused=tuple((str(key), why) for key, why in sorted(refused.items())),
            error="",
        )
        self.ready()

    def _count_endpoints(self, state: NodeState) -> None:
        for family in Family:
            internal, external = (state.starving[family, where] for where in ("internal", "external"))
            self.metrics.no_local_endpoints(family, internal=internal, external=external)
            self.metrics.without_endpoints(family, state.idle[family])

    def probes(self, probed: int, failing: int, named: tuple[str, ...]) -> None:
        """So many readiness probes are run here, so many fail, and the first few of these."""
        self.metrics.readiness_probes(probed, failing)
        self.tell(probes=probed, probes_failing=failing, failing=named)

    def failed(self, error: str, retry_seconds: float) -> None:
        """A sync has failed."""
        self.metrics.failed()
        self.log.error("sync failed", error=error, retry_seconds=retry_seconds)
        self.tell(error=error, last_error=error, last_error_at=time.time())
        self._is_ready = False
        self._manager.status(f"sync failed: {error.splitlines()[0]}")

    def ready(self) -> None:
        """The node is programmed; said for the first time, after a reload, and after a failure."""
        text = f"{self.status.services} services on {self.status.node_ports_on}"
        if self.status.error:
            text = f"sync failed: {self.status.error.splitlines()[0]}"
        if not self._is_ready:
            self._is_ready = True
            self._manager.ready(text)
        elif text != self._told:
            self._manager.status(text)
        self._told = text

    def reloading(self) -> None:
        """The configuration is being read again; ``ready`` ends it."""
        self._is_ready = False
        self._manager.reloading()

    def stopping(self, why: str) -> None:
        """The end has begun, for this reason."""
        self.log.info("stopping", signal=why)
        self._manager.stopping()

    async def beat(self) -> None:
        """Signs of life for the service manager: this loop turns."""
        seconds, wrong = read_watchdog(os.environ, os.getpid())
        self.problems("service manager", [wrong] if wrong else ())
        while seconds:
            self._manager.alive()
            await asyncio.sleep(seconds)
