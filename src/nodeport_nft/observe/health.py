"""Whether the daemon does its work (H2), and how that is told; pure.

What counts is lag, not activity: a daemon with nothing to write is healthy, however long ago it wrote.

Until the first complete sync the node's rules are not known to be right, so nobody should choose this node yet. A
liveness probe must leave that start alone, though: it ends what it finds dead, and a start that needs longer than
the probe grants would begin again forever. kube-proxy sets a start no limit at all. Here it has one, so that a start
which hangs is ended; but none comes near it (100,000 Services take half a minute), and an operator who chooses a sync
period of a second does not make it shorter. It counts from when the store has told all there is: a store that is away
is no fault of the daemon's, and no restart brings it back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from nodeport_nft.observe.status import Status

START_SECONDS = 300.0
"""How long a start may take at least before the daemon counts as hanging."""

NEVER = "0001-01-01T00:00:00Z"
"""A time that never was, as Go's zero time is written, which readers of kube-proxy's answers know."""


def is_live(status: Status, now: float) -> bool:
    """Whether to let the daemon go on (/livez): no change has waited longer than twice the sync period.

    ``now`` is a Unix time in seconds.
    """
    patience = 2 * status.sync_period
    if not status.synced:
        begin = max(status.started, status.store_waited)
        return not begin or status.waits_for_store or now - begin <= max(patience, START_SECONDS)
    return not status.pending_since or now - status.pending_since <= patience


def is_current(status: Status, now: float) -> bool:
    """Whether the node's rules are what they should be, or not yet late; what a healthCheckNodePort asks (H1)."""
    return bool(status.synced) and is_live(status, now)


def is_healthy(status: Status, now: float) -> bool:
    """Whether load balancers should choose this node (/healthz): its rules are current, and it is to stay."""
    return is_current(status, now) and not status.node_deleted


def troubles(status: Status, now: float) -> Iterator[str]:
    """Why all is not well, if it is not: what ``nodeport-nft status`` and the page say of it."""
    if not status.synced:
        yield "no sync is complete yet"
    if not is_live(status, now):
        waits = "a change waits" if status.synced else "the start takes"
        yield f"{waits} longer than it should; look at the last error and at the daemon's log"
    if status.node_deleted:
        yield "the node is being deleted"
    if status.refused:
        yield f"the kernel refuses {len(status.refused)} Service{'s' * (len(status.refused) != 1)}"
    if status.error:
        yield "the last sync failed"
    if status.problems:
        yield f"there {'is 1 problem' if len(status.problems) == 1 else f'are {len(status.problems)} problems'}"


def health_body(status: Status, now: float, *, with_node: bool) -> str:
    """The body of /healthz, or without the node of /livez: JSON as kube-proxy's (its pkg/proxy/healthcheck).

    ``lastUpdated`` is the present where all is well, as clients of old expect, else the last complete sync.
    ``healthy`` says nothing of the node.
    """
    well = is_healthy(status, now) if with_node else is_live(status, now)
    told: dict[str, object] = {"lastUpdated": _time(now if well else status.synced), "currentTime": _time(now)}
    if with_node:
        told["nodeEligible"] = not status.node_deleted
    told["healthy"] = is_current(status, now) if with_node else well
    return json.dumps(told)


def _time(seconds: float) -> str:
    """A Unix time as RFC 3339 writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z") if seconds else NEVER
