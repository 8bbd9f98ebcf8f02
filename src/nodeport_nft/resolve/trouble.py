"""Endpoints on lost nodes, or whose readiness probe fails: neither ready nor serving, unless nothing else is left.

What several nodes say of an endpoint may be wrong: a prober has lost its network, or a switch has cut half of the
nodes from the store while all of them serve. So a Service never loses its last endpoints to that. Where all that it
could use have failed, in one family of one port, the *last good* ones stay: those that failed last. They are more
likely to be there than those that have been missed for an hour, and if they are not either, no harm is done.

Every node decides alike, by the times that the store has, whatever it was told first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf

from msgspec import Struct, field

from nodeport_nft.model import IPAddress, Service
from nodeport_nft.problems import clipped
from nodeport_nft.resolve.candidate import Candidate, once_each
from nodeport_nft.resolve.index import Index

LAST_GOOD_SECONDS = 15.0
"""What fails within this time of the last of them has failed with it, and stays with it.

One cause is noticed at several times: by probes within their period (10 s unless it is set) and timeout (1 s), by
leases within the 5 s in which they are renewed, and written after a random wait; and clocks differ a little.
"""

_NAMED = 3


class Failing(Struct, frozen=True):
    """An endpoint that has failed, and why: one of the two, or both. Times are Unix times in seconds.

    ``lost_node``: its node, if that is lost, since ``lost_at``. ``probe_since``: since when its readiness probe
    fails; 0.0: it has never passed; None: nothing is said of its probe.
    """

    address: IPAddress
    port: int
    lost_node: str = ""
    lost_at: float = 0.0
    probe_since: float | None = None


def failing_at(index: Index, namespace: str, node_name: str, address: IPAddress, port: int = 0) -> Failing | None:
    """What is wrong with an endpoint at this address, on this node; None if nothing is."""
    lost_at = index.lost.get(node_name) if node_name else None
    since = index.failing.get((namespace, address.packed))
    if lost_at is None and since is None:
        return None
    return Failing(address, port, "" if lost_at is None else node_name, lost_at or 0.0, since)


class LastGood(Struct):
    """What of one Service is used for want of anything better.

    ``failed``: the addresses that it could use, had they not failed, in the families and ports that have no others.
    ``kept``: those of them that stay. ``nodes``: the lost ones. ``probes``: those of the failed whose probe fails;
    ``never_passed``: those of them whose probe has never passed, and which never stay for it.
    """

    failed: set[bytes] = field(default_factory=set)
    kept: set[bytes] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    probes: set[bytes] = field(default_factory=set)
    never_passed: set[bytes] = field(default_factory=set)

    @property
    def text(self) -> str:
        """How many have failed and why, and how many stay."""
        count, kept = len(self.failed), len(self.kept)
        names = sorted(self.nodes)
        shown = ", ".join(map(clipped, names[:_NAMED])) + (
            f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        )
        why = [f"lost node{'s' * (len(names) > 1)} {shown}"] if names else []
        why += [self._probes_text(count)] if self.probes else []
        every = "both" if count == 2 else f"all {count}"
        what = "its only endpoint has failed" if count == 1 else f"{every} endpoints have failed"
        stay = (
            ("it stays" if count == 1 else "they stay")
            if kept == count
            else ("the one that failed last stays" if kept == 1 else f"the {kept} that failed last stay")
        )
        return f"{what} ({'; '.join(why)}), and {stay} in use, as there is no other"

    def _probes_text(self, count: int) -> str:
        if count == 1:
            return "its readiness probe fails"
        fail, never = len(self.probes), len(self.never_passed)
        if fail == 1:
            return f"the readiness probe of 1 {'has never passed' if never else 'fails'}"
        text = f"readiness probes of {fail} fail"
        return f"{text}, {never} of which {'has' if never == 1 else 'have'} never passed" if never else text

    @property
    def remedy(self) -> str:
        """What to do."""
        what = ["bring the node back, or delete its endpoints"] if self.nodes else []
        what += ["mend the endpoints, or what cuts the probing node off from them"] if self.probes else []
        return "; ".join(what)


class Trouble:
    """Which candidates of a Service have failed; ``last_good`` tells what ``judged`` has kept all the same."""

    def __init__(self, index: Index, service: Service) -> None:
        # As with a Pod's own readiness in Kubernetes: who publishes what is not ready has it used all the same.
        counts = not service.publish_not_ready_addresses
        self._lost = index.lost if counts else {}
        self._failing = index.failing if counts else {}
        self._namespace = service.namespace
        self.last_good: LastGood | None = None

    def __bool__(self) -> bool:
        return bool(self._lost or self._failing)

    def failed_at(self, candidate: Candidate) -> float:
        """When a candidate failed, by whichever came first (Unix time, seconds); infinite if it has not."""
        return min(
            self._lost.get(candidate.node_name, inf) if candidate.node_name else inf,
            self._failing.get((self._namespace, candidate.address.packed), inf),
        )

    def judged(self, candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
        """These candidates, each once and none of weight 0, with what has failed not ready and not serving."""
        judged: list[Candidate] = []
        by_family: dict[int, list[Candidate]] = {}
        for candidate in candidates:
            by_family.setdefault(candidate.address.version, []).append(candidate)
        for own in by_family.values():
            judged += self._of_family(own)
        return tuple(judged)

    def _of_family(self, candidates: Sequence[Candidate]) -> Iterable[Candidate]:
        times = [self.failed_at(candidate) for candidate in candidates]
        without = _weighty(
            c if time == inf else c._replace(ready=False, serving=False)
            for c, time in zip(candidates, times, strict=True)
        )
        if any(c.is_usable for c in without):
            return without
        healthy = _weighty(candidates)
        # What has never passed its probe (0.0) has never been good.
        all_failed = [c for c in healthy if c.is_usable]
        failed = [(time, c) for c in all_failed if (time := self.failed_at(c)) > 0]
        if not failed:
            return without
        since = max(time for time, _ in failed) - LAST_GOOD_SECONDS
        kept = [c for time, c in failed if time >= since]
        self._note(all_failed, kept)
        places = {(c.address.packed, c.port) for c in kept}
        return [c for c in without if (c.address.packed, c.port) not in places] + kept

    def _note(self, failed: Collection[Candidate], kept: Iterable[Candidate]) -> None:
        told = self.last_good = self.last_good or LastGood()
        told.failed |= {c.address.packed for c in failed}
        told.kept |= {c.address.packed for c in kept}
        told.nodes |= {c.node_name for c in failed if c.node_name in self._lost}
        since = {c.address.packed: self._failing.get((self._namespace, c.address.packed)) for c in failed}
        told.probes |= {address for address, time in since.items() if time is not None}
        told.never_passed |= {address for address, time in since.items() if time == 0}


def _weighty(candidates: Iterable[Candidate]) -> list[Candidate]:
    return [c for c in once_each(candidates) if c.weight]
