"""What Prometheus is told: kube-proxy's metrics under kube-proxy's names, and some of our own (H3).

Names, types, labels and buckets are those of kube-proxy 1.36 in nftables mode (its pkg/proxy/metrics), so that its
dashboards and alerts work. kube-proxy runs one proxier a family and labels what each of them does with ``ip_family``;
here one transaction writes both families, so what it does counts once for each.

All methods may be called from any thread. Help texts say what we count, which is more than a name can.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from nodeport_nft.model import Family

_SYNC_BUCKETS = tuple(0.001 * 2**step for step in range(15))
_LATENCY_BUCKETS = (0.0, 0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30))

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what ``Metrics.exposition`` gives. OpenMetrics does not allow a gauge a name in ``_total``, which H3 has."""


class RepairCause(enum.StrEnum):
    """How it came out that the kernel's tables were not as written (K8)."""

    OUTSIDE_CHANGE = "outside_change"
    FULL_CHECK = "full_check"


class Probe(enum.StrEnum):
    """A question after the daemon's health."""

    HEALTHZ = "healthz"
    LIVEZ = "livez"


class Metrics:
    """All metrics of one daemon, in a registry of their own: ``registry`` takes further collectors.

    A collector is asked in a thread of the server's. ``families`` are those the daemon programs.
    """

    def __init__(self, version: str, families: Sequence[Family] = tuple(Family)) -> None:
        # A series of creation times for each metric, which no dashboard of H3 knows.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._families = tuple(_label(family) for family in families)
        ProcessCollector(registry=self.registry)
        self._make_syncs()
        self._make_changes()
        self._make_own(version)

    def _make_syncs(self) -> None:
        self._sync = self._histogram("kubeproxy_sync_proxy_rules_duration_seconds", "Time a sync took")
        self._full = self._histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds", "Time a sync took that compared or wrote whole tables"
        )
        self._partial = self._histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds", "Time a sync took that wrote changes alone"
        )
        self._latency = self._histogram(
            "kubeproxy_network_programming_duration_seconds",
            "Time from a change at its source until the kernel had it",
            _LATENCY_BUCKETS,
        )
        self._flow_seconds = self._histogram(
            "kubeproxy_conntrack_reconciler_sync_duration_seconds", "Time a search for stale flows took"
        )
        self._flows = self._counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total", "Stale flows deleted from conntrack", "ip_family"
        )
        self._failures = self._counter(
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Syncs that failed", "ip_family"
        )
        cleanups = self._counter(
            "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
            "Always 0: what is stale goes in the transaction that makes it stale",
            "ip_family",
        )
        self._synced_at = self._gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When a sync last succeeded", "ip_family"
        )
        self._queued_at = self._gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When a change last came in", "ip_family"
        )
        for family in self._families:
            for histogram in (self._sync, self._full, self._partial, self._latency, self._flow_seconds):
                histogram.labels(family)
            for metric in (self._flows, self._failures, cleanups, self._synced_at, self._queued_at):
                metric.labels(family)

    def _make_changes(self) -> None:
        self._services_pending = self._gauge(
            "kubeproxy_sync_proxy_rules_service_changes_pending", "Changes of Services that are not in the kernel yet"
        )
        self._services_seen = self._counter(
            "kubeproxy_sync_proxy_rules_service_changes_total", "Changes of Services seen"
        )
        self._endpoints_pending = self._gauge(
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
            "Changes of endpoints that are not in the kernel yet",
        )
        self._endpoints_seen = self._counter(
            "kubeproxy_sync_proxy_rules_endpoint_changes_total", "Changes of endpoints seen"
        )
        self._no_local = self._gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Services with the traffic policy Local and no endpoint on this node",
            "ip_family",
            "traffic_policy",
        )
        self._probes = {
            probe: self._counter(f"kubeproxy_proxy_{probe}_total", f"Answers to /{probe}", "code") for probe in Probe
        }

    def _make_own(self, version: str) -> None:
        self._services = self._gauge("nodeport_nft_services", "Services served")
        self._refused = self._gauge(
            "nodeport_nft_refused_services", "Services that the kernel refuses; their last good state is in force"
        )
        self._idle = self._gauge(
            "nodeport_nft_services_without_endpoints",
            "Services that refuse connections to an address of theirs, since none of their endpoints is usable",
            "ip_family",
        )
        for family in self._families:
            self._idle.labels(family)
        self._readiness_probes = self._gauge("nodeport_nft_readiness_probes", "Readiness probes that this node runs")
        self._failing_probes = self._gauge(
            "nodeport_nft_readiness_probes_failing", "Readiness probes of this node's that fail"
        )
        self._repairs = self._counter(
            "nodeport_nft_repairs_total", "Repairs of tables that were not as written", "cause"
        )
        for cause in RepairCause:
            self._repairs.labels(cause)
        self._problems = self._gauge(
            "nodeport_nft_problems",
            "What an operator should mend, by the part of the daemon that has found it; `status` has the words",
            "part",
        )
        build = self._gauge("nodeport_nft_build_info", "Always 1; its labels say which program this is", "version")
        build.labels(version).set(1)

    def _histogram(self, name: str, text: str, buckets: Sequence[float] = _SYNC_BUCKETS) -> Histogram:
        return Histogram(name, text, ("ip_family",), buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def queued(self, *, services: int = 0, endpoints: int = 0) -> None:
        """So many changes have come in and wait for a sync."""
        if not (services or endpoints):
            return
        self._services_seen.inc(services)
        self._services_pending.inc(services)
        self._endpoints_seen.inc(endpoints)
        self._endpoints_pending.inc(endpoints)
        for family in self._families:
            self._queued_at.labels(family).set_to_current_time()

    def synced(
        self,
        *,
        full: bool,
        seconds: float,
        waited: Iterable[float] = (),
        services_left: int = 0,
        endpoints_left: int = 0,
    ) -> None:
        """A sync has succeeded. ``waited``: for each change it wrote, the seconds since it was made at its source.

        ``services_left``, ``endpoints_left``: changes that are still to be written.
        """
        waits = [max(wait, 0.0) for wait in waited]  # clocks of two machines may disagree
        for family in self._families:
            self._sync.labels(family).observe(seconds)
            (self._full if full else self._partial).labels(family).observe(seconds)
            latency = self._latency.labels(family)
            for wait in waits:
                latency.observe(wait)
            self._synced_at.labels(family).set_to_current_time()
        self._services_pending.set(services_left)
        self._endpoints_pending.set(endpoints_left)

    def failed(self) -> None:
        """A sync has failed; what it was to write still waits."""
        for family in self._families:
            self._failures.labels(family).inc()

    def repaired(self, cause: RepairCause) -> None:
        """The kernel's tables were not as written, and are again."""
        self._repairs.labels(cause).inc()

    def flows_deleted(self, family: Family, count: int, seconds: float) -> None:
        """A search for stale flows has taken so long and deleted so many."""
        self._flows.labels(_label(family)).inc(count)
        self._flow_seconds.labels(_label(family)).observe(seconds)

    def no_local_endpoints(self, family: Family, *, internal: int, external: int) -> None:
        """So many Services drop what this node gets for them, by the policy that makes them do so."""
        self._no_local.labels(_label(family), "internal").set(internal)
        self._no_local.labels(_label(family), "external").set(external)

    def without_endpoints(self, family: Family, services: int) -> None:
        """So many Services refuse connections for want of an endpoint."""
        self._idle.labels(_label(family)).set(services)

    def counted(self, *, services: int, refused: int) -> None:
        """So many Services are served, and of so many the kernel refuses the latest state."""
        self._services.set(services)
        self._refused.set(refused)

    def readiness_probes(self, probes: int, failing: int) -> None:
        """So many readiness probes are run here, and so many of them fail."""
        self._readiness_probes.set(probes)
        self._failing_probes.set(failing)

    def problems(self, part: str, count: int) -> None:
        """A part of the daemon has found so many problems."""
        self._problems.labels(part).set(count)

    def probed(self, probe: Probe, code: int) -> None:
        """A probe has been answered."""
        self._probes[probe].labels(str(code)).inc()

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format. Raises what a collector raises."""
        return generate_latest(self.registry)


def _label(family: Family) -> str:
    return f"IPv{family.value}"
