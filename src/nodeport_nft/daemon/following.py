"""Following: the objects are as the store says they are, and the tables as we wrote them."""

from __future__ import annotations

import asyncio

from nodeport_nft.config import Config
from nodeport_nft.daemon.beginning import take_told
from nodeport_nft.daemon.kernel_tables import KernelTables
from nodeport_nft.daemon.options import Options
from nodeport_nft.daemon.probes import Probes
from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.writing import Writing
from nodeport_nft.kinds import KINDS
from nodeport_nft.model import MEMBER, PROBE_FAILURE, SERVICE_CIDR, ObjectName, Ref
from nodeport_nft.observe.metrics import RepairCause
from nodeport_nft.sources.handover import Handover
from nodeport_nft.sources.manifest_follower import ManifestFollower
from nodeport_nft.store.api import Changes, Source


def manifest_follower(
    options: Options, config: Config, reporter: Reporter, handover: Handover
) -> ManifestFollower | None:
    """Who keeps the store as the manifests say, if there are any."""
    if not options.manifests:
        return None
    return ManifestFollower(
        options.manifests,
        config,
        prune=options.prune,
        allow_empty=options.allow_empty,
        report=lambda problems: reporter.problems("manifests", problems),
        say=lambda text: reporter.log.info("manifests", text=text),
        handover=handover,
    )


_OF_ENDPOINTS = ("Endpoints", "EndpointSlice", "Pod")

_ANEW_SECONDS = 0.1
"""How often to look whether everything has been begun anew."""


class Following:
    """``node`` names this node's own object, which its facts are gathered from."""

    def __init__(
        self,
        node: Ref,
        source: Source,
        tables: KernelTables,
        reporter: Reporter,
        writing: Writing,
        probes: Probes,
    ) -> None:
        self._node = node
        self._source = source
        self._tables = tables
        self._reporter = reporter
        self._writing = writing
        self._probes = probes

    async def store(self) -> None:
        """Take what changes in the store, until cancelled."""
        while True:
            await self._source.changed()
            while self._writing.begins_anew:  # that takes all there is
                await asyncio.sleep(_ANEW_SECONDS)
            self._put(take_told(self._source, self._reporter))

    def _put(self, changes: Changes) -> None:
        found = [(change.ref, change.values) for change in changes.changes]
        found += [(ref, ()) for ref in sorted(self._gone(changes))]
        touched: set[ObjectName] = set()
        for ref, values in found:
            self._probes.put(ref, values)
            touched |= self._writing.state.put(ref, values)
        kinds = [ref.kind for ref, _ in found]
        services = kinds.count("Service")
        self._writing.hosts_changed |= bool(services)
        if touched:
            endpoints = sum(map(kinds.count, _OF_ENDPOINTS))
            self._reporter.metrics.queued(services=services, endpoints=endpoints)
            self._writing.touched(touched, kinds)
        self._probes.turn()
        if any(ref == self._node or ref.kind == SERVICE_CIDR for ref, _ in found):
            self._writing.refit()
        self._writing.took(changes.position)

    def _gone(self, changes: Changes) -> frozenset[Ref]:
        """Who is there no longer, where the changes are all there is."""
        if not changes.whole:
            return frozenset()
        state = self._writing.state
        told = {change.ref for change in changes.changes} | changes.unreadable | self._probes.reported
        gone = (state.index.refs() | state.kept.refs) - told
        if any(ref.kind not in KINDS for ref in changes.unreadable):  # which object that is is not known
            return frozenset(ref for ref in gone if ref.kind in (MEMBER, PROBE_FAILURE))
        return gone

    def tables(self) -> None:
        """See what others have done to the tables, and have it mended."""
        others = self._tables.others()
        if not others:
            return
        damage = self._tables.damage(self._writing.state.tables.schemas)
        if damage == ():
            return  # to what packets had put in
        self._reporter.log.warning("tables changed by others", who=", ".join(others))
        self._writing.repair = RepairCause.OUTSIDE_CHANGE
        if damage is None:
            self._writing.reconciler.distrust()
        for touched in damage or ():
            self._writing.reconciler.damaged(touched.family, touched.map, touched.key, present=touched.present)
        self._writing.changed("outside change")
