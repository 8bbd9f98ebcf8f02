"""How full connection tracking is, as metrics: where it is full, every proxy by NAT drops new connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from nodeport_nft.kernel.host.conntrack_size import Tracked, read_tracked

_ENTRIES = "nodeport_nft_conntrack_entries", "Connections that the kernel tracks in the node's network namespace"
_LIMIT = "nodeport_nft_conntrack_limit", "Connections that the kernel tracks at most (nf_conntrack_max)"


class ConntrackSize(Collector):
    """Read at each scrape, in whichever thread that runs. Nothing where the kernel tracks nothing."""

    def __init__(self, read: Callable[[], Tracked | None] = read_tracked) -> None:
        self._read = read

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The metrics without values: registering them shall not read the kernel."""
        yield from (GaugeMetricFamily(*each) for each in (_ENTRIES, _LIMIT))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics."""
        tracked = self._read()
        if tracked is not None:
            yield GaugeMetricFamily(*_ENTRIES, value=tracked.entries)
            yield GaugeMetricFamily(*_LIMIT, value=tracked.limit)
