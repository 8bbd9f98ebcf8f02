"""Readiness probes: which ones this node runs, as objects come and go, and what is made of the results (X9)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from nodeport_nft.daemon.report import Reporter
from nodeport_nft.daemon.verdicts import Verdicts
from nodeport_nft.model import MEMBER, PROBE_FAILURE, Member, ProbeFailure, Ref, Value
from nodeport_nft.probing.prober import Prober, Watch
from nodeport_nft.probing.streak import Streak
from nodeport_nft.probing.targets import Target, Targets
from nodeport_nft.store.api import Change

_TELL_SECONDS = 0.2
_NAMED = 10


class Probes:
    """``node`` is this one's name. Made on the loop's thread; everything but what the prober tells happens there."""

    def __init__(
        self, node: str, verdicts: Verdicts, reporter: Reporter, values: Callable[[Ref], tuple[Value, ...]]
    ) -> None:
        """``values``: what an object is made into as long as its change is not in the node's state."""
        self._verdicts = verdicts
        self._reporter = reporter
        self._values = values
        self._loop = asyncio.get_running_loop()
        self._targets = Targets(node)
        self._prober = Prober(self._heard, self._failed)
        self._watches: dict[Target, Watch] = {}
        self._failing: dict[Ref, dict[Target, float]] = {}
        self._why: dict[Target, str] = {}
        self._reported: dict[Ref, ProbeFailure] = {}  # by whoever, as the store has it
        self._lapsed: dict[Ref, ProbeFailure] = {}  # reported until now, since the last ``turn``
        self._has_lost_prober = False  # since then, too
        self._telling: asyncio.TimerHandle | None = None

    @property
    def reported(self) -> frozenset[Ref]:
        """The failures that no source tells of: they are in the node's state by us alone."""
        return frozenset(self._failing) if self._verdicts.is_local else frozenset()

    def begin(self, changes: Iterable[Change]) -> None:
        """These are all the objects there are; what is in force of our verdicts is told anew."""
        found = list(changes)
        self._targets.forget()
        self._reported = {} if self._watches else dict(self._verdicts.known())
        for change in found:
            self._note(change.ref, change.values)
        for change in found:
            self._targets.put(change.ref, change.values)
        for ref in self._failing:
            self._verdicts.put(self._failure(ref))
        self.turn()
        if self._verdicts.is_local:
            self._reported.clear()
        self._tell()

    def put(self, ref: Ref, values: tuple[Value, ...]) -> None:
        """An object has changed, or gone; what it was is still in the node's state. ``turn`` comes after some."""
        self._note(ref, values)
        if ref.kind != PROBE_FAILURE:
            self._targets.put(ref, values, self._values(ref))

    def _note(self, ref: Ref, values: tuple[Value, ...]) -> None:
        if ref.kind == MEMBER:
            self._has_lost_prober |= not any(isinstance(value, Member) and value.is_live for value in values)
        if ref.kind == PROBE_FAILURE:
            if before := self._reported.pop(ref, None):
                self._lapsed[ref] = before
            for value in values:
                if isinstance(value, ProbeFailure):
                    self._reported[ref] = value
            if ref in self._failing and ref not in self._reported:
                self._verdicts.put(self._failure(ref))  # its lease has ended, or somebody has removed it by hand

    def turn(self) -> None:
        """Begin and end what has become ours to probe, or is so no longer.

        Raises RuntimeError and MemoryError where there can be no thread; the next ``turn`` tries again.
        """
        turn = self._targets.turn()
        begun = 0
        try:
            for target in turn.begun:
                self._begin(target, is_new=target in turn.new)
                begun += 1
        finally:
            self._targets.give_back(turn.begun[begun:])
            self._lapsed.clear()
            self._has_lost_prober = False
            for target in turn.ended:
                self._prober.end(self._watches.pop(target))
                self._settle(target, None, "", leaves=target in turn.elsewhere)
        if turn.begun or turn.ended:
            self._tell_soon()

    def _begin(self, target: Target, *, is_new: bool) -> None:
        streak = Streak.of_new(target.probe) if is_new else Streak(target.probe, self._failing_since(target))
        since = streak.failing_since  # the streak is the prober's from then on
        watch = Watch(target, streak)
        self._prober.begin(watch, spread=not is_new)
        self._watches[target] = watch
        if since is not None:
            self._settle(target, since, "it has not passed yet")

    def close(self) -> None:
        """Probe no longer; verdicts stay."""
        if self._telling is not None:
            self._telling.cancel()
        self._prober.close()

    async def run(self) -> None:
        """Let the verdicts go where they have to, until cancelled."""
        await self._verdicts.run()

    def _failing_since(self, target: Target) -> float | None:
        """Since when it fails by what is known of its addresses; None: nothing is wrong with them.

        With the lease of a prober its verdicts end, too; who takes over from it takes over those.
        """
        told = (self._reported, self._lapsed) if self._has_lost_prober else (self._reported,)
        known = [failures[ref].since for failures in told for ref in _refs(target) if ref in failures]
        known += [since for ref in _refs(target) for since in self._failing.get(ref, {}).values()]
        return min(known, default=None)

    # --- what the prober tells, on its own thread ---------------------------------------------------------

    def _heard(self, watch: Watch, since: float | None, why: str) -> None:
        self._loop.call_soon_threadsafe(self._judged, watch, since, why)

    def _failed(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(_raise, error)

    # --- what becomes of it -------------------------------------------------------------------------------

    def _judged(self, watch: Watch, since: float | None, why: str) -> None:
        if watch.ended:
            return
        target = watch.target
        where = f"{target.namespace}/{target.addresses[0]}"
        if since is None:
            self._reporter.log.info("endpoint passes its readiness probe", endpoint=where)
        else:
            self._reporter.log.warning("endpoint fails its readiness probe", endpoint=where, why=why)
        self._settle(target, since, why)

    def _settle(self, target: Target, since: float | None, why: str, *, leaves: bool = False) -> None:
        """A target fails since then, or does not (None)."""
        self._why.pop(target, None)
        if since is not None:
            self._why[target] = why
        for ref in _refs(target):
            failing = self._failing.setdefault(ref, {})
            before = min(failing.values(), default=None)
            failing.pop(target, None)
            if since is not None:
                failing[target] = since
            after = min(failing.values(), default=None)
            if not failing:
                del self._failing[ref]
            if after == before:
                continue
            if after is not None:
                self._verdicts.put(self._failure(ref))
            elif leaves:
                self._verdicts.leave(ref)
            else:
                self._verdicts.clear(ref)
        self._tell_soon()

    def _failure(self, ref: Ref) -> ProbeFailure:
        return ProbeFailure(ref.namespace, ip_address(ref.name), min(self._failing[ref].values()))

    def _tell_soon(self) -> None:
        if self._telling is None:
            self._telling = self._loop.call_later(_TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        """Tell how many are probed and which fail, once for what happens together."""
        if self._telling is not None:
            self._telling.cancel()
        self._telling = None
        count, failing = len(self._targets), len(self._why)
        named = sorted(self._why, key=lambda target: (target.namespace, target.addresses))[:_NAMED]
        self._reporter.probes(
            count, failing, tuple(f"{each.namespace}/{each.addresses[0]}: {self._why[each]}" for each in named)
        )


def _refs(target: Target) -> Iterable[Ref]:
    return (Ref(PROBE_FAILURE, target.namespace, address) for address in target.addresses)


def _raise(error: BaseException) -> None:
    raise error
