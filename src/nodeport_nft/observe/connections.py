"""New connections per Service, as the kernel has counted them (X3).

The idea
========

The counters are on the elements of the four verdict maps: each connection looks its frontend up in one of them, once,
whatever its fate behind that. (The maps of source ranges are asked before and lead on to these; a connection that
they drop is not counted.) But an element that changes is deleted and added, and the new one begins at 0. So what it
had counted is read right before each transaction that deletes it, and kept; a Service's number is the sum of what its
frontends' elements say and what is kept.

Three things are less simple than that:

* *A frontend that goes, or that passes to another Service.* Who has a key is noted when it is committed. What the key
  has counted stays with the Service that had it, as long as that one has any frontend left; the other begins at 0.
* *A scrape at any moment*, in another thread. It reads without holding anything up, and so perhaps before a commit
  what is then added to the sums. Therefore, while one is under way, ``before`` notes what each key had counted that
  is about to be deleted, and whose it was; for these keys the scrape takes that note, which is right on both sides of
  the commit.
* *Counts that were lost*, because somebody else has deleted our table. A Service's number never falls: when the table
  is repaired, it goes on from what was last said.

Connections between the reading and the commit, a few milliseconds, are not counted where an element is replaced.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import NamedTuple

from msgspec import Struct, field
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from nodeport_nft.compile import nft_family
from nodeport_nft.compile.schema import NODE_PORTS, VIPS
from nodeport_nft.errors import KernelError
from nodeport_nft.kernel.netlink.counters import ChangingError
from nodeport_nft.model import Family
from nodeport_nft.plan import Add, Delete, Remove, Replace, Transaction
from nodeport_nft.ruleset import Key

Name = tuple[str, str]
"""A Service's namespace and name."""

Owner = Callable[[Family, str, Key], Name | None]
"""Who has this key of a verdict map, once what is being committed is in force."""

Wanted = Mapping[str, Collection[Key] | None]
Reader = Callable[[Family, Wanted], Mapping[str, Mapping[Key, int]]]
"""``kernel.netlink.counters.read_counters``."""

LIMIT = 1000
"""Services with a series of their own."""

COUNTED = tuple(name for kind in (VIPS, NODE_PORTS) for name in (kind.map, kind.inside))
"""The maps that each connection is looked up in once, in one of them."""

_FAMILIES = {nft_family(family): family for family in Family}


class _Service(Struct, eq=False):
    """``keys``: how many it has. ``retired``: what those had counted that it has no longer. ``said``: at the last
    scrape."""

    name: Name
    keys: int = 0
    retired: int = 0
    said: int = 0


class _Move(NamedTuple):
    """What a transaction does to a key: who had it, what it had counted by then, and who will have it."""

    was: _Service | None
    counted: int
    now: Name | None


class _Map(Struct):
    """One family's map. Who has its keys, what is kept of them, what is about to be committed.

    ``noted``: while a scrape is under way, the keys that were deleted meanwhile, with their owner and what they had
    counted until then.
    """

    owners: dict[Key, _Service] = field(default_factory=dict)
    kept: dict[Key, int] = field(default_factory=dict)
    moves: dict[Key, _Move] = field(default_factory=dict)
    noted: dict[Key, tuple[_Service | None, int]] = field(default_factory=dict)

    def note(self) -> None:
        """Note what is about to be deleted; what has been noted already is the state that the scrape began with."""
        for key, move in self.moves.items():
            self.noted.setdefault(key, (move.was, move.counted))


class Connections(Collector):
    """Keeps the sums over every transaction, and tells them at a scrape.

    The loop calls ``before`` right before it applies transactions, and then ``committed`` or ``refused``, in one
    thread; ``collect`` may run in any. ``owner`` is mostly asked by ``before``, and by a scrape for keys that were
    there before any transaction.
    """

    def __init__(self, reader: Reader, owner: Owner, limit: int = LIMIT) -> None:
        self.error = ""  # why the last scrape could not read, "" if it could
        self._read = reader
        self._owner = owner
        self._limit = limit
        self._services: dict[Name, _Service] = {}
        self._maps = {(family, name): _Map() for family in Family for name in COUNTED}
        self._rest = 0
        self._scraping = False
        self._samples: list[tuple[Name, int]] = []
        self._lock = Lock()  # over everything above; nobody reads the kernel or computes sums under it
        self._scrape = Lock()  # one scrape at a time

    # --- the loop's side --------------------------------------------------------------------------------------

    def before(self, transactions: Iterable[Transaction]) -> None:
        """Read what is about to be deleted. Costs what the transactions hold of the counted maps."""
        self.refused()  # what nobody has said to be committed
        moves: dict[tuple[Family, str], dict[Key, _Move]] = {}
        repairs = False
        for transaction in transactions:
            family = _FAMILIES[transaction.family]
            leaving, coming, whole = self._changes(family, transaction)
            counts = self._counts(family, leaving, whole) if any(leaving.values()) or whole else {}
            for name in COUNTED:
                state, counted = self._maps[family, name], counts.get(name, {})
                gone = {*state.owners, *counted} if whole else leaving[name]
                now = {key: self._owner(family, name, key) for key in coming[name]}
                found = moves.setdefault((family, name), {})
                for key in (*gone, *(key for key in now if key not in gone)):
                    was = state.owners.get(key)
                    found[key] = _Move(was, state.kept.get(key, 0) + counted.get(key, 0), now.get(key))
                    # An element that somebody else has deleted is added anew.
                    repairs |= was is not None and key not in gone
            repairs |= whole
        if repairs:
            self._make_up()
        with self._lock:
            for place, state in self._maps.items():
                state.moves = moves.get(place, {})
                if self._scraping:
                    state.note()

    def committed(self) -> None:
        """What ``before`` was told of is in force."""
        with self._lock:
            touched: set[_Service] = set()
            for state in self._maps.values():
                for key, move in state.moves.items():
                    touched |= self._move(state, key, move)
                state.moves = {}
            for service in touched:
                if not service.keys:
                    self._services.pop(service.name, None)

    def refused(self) -> None:
        """What ``before`` was told of is not in force: everything is as it was."""
        with self._lock:
            for state in self._maps.values():
                state.moves = {}

    def _changes(
        self, family: Family, transaction: Transaction
    ) -> tuple[dict[str, set[Key]], dict[str, list[Key]], bool]:
        """The keys of the counted maps that go and that come, by map; and whether all that is there goes."""
        leaving: dict[str, set[Key]] = {name: set() for name in COUNTED}
        coming: dict[str, list[Key]] = {name: [] for name in COUNTED}
        whole = False
        for operation in transaction.operations:
            match operation:
                case Delete(map=name, keys=keys) if name in leaving:
                    leaving[name] |= set(keys)
                case Add(map=name, elements=elements) if name in coming:
                    coming[name] += (element.key for element in elements)
                case Replace(table=table):
                    whole = True
                    coming = {name: list(table.elements.get(name, ())) for name in COUNTED}
                case Remove(family=removed):
                    whole |= removed == nft_family(family)
        return leaving, coming, whole

    def _make_up(self) -> None:
        """Keep for each Service what has been said of it and is in the kernel no longer: somebody else deleted it."""
        with self._lock:
            sums = {service: service.retired for service in self._services.values()}
        # First of all: a scrape that reads later than we do may say more.
        said = {service: service.said for service in sums}
        if not any(said.values()):
            return
        with suppress(KernelError):
            for family in Family:
                for name, counts in self._reading(family, dict.fromkeys(COUNTED)).items():
                    state = self._maps[family, name]
                    for key, count in (*counts.items(), *state.kept.items()):
                        service = state.owners.get(key)
                        if service in sums:  # a scrape may have found another meanwhile
                            sums[service] += count
            for service, count in sums.items():
                service.retired += max(0, said[service] - count)

    def _counts(self, family: Family, leaving: Wanted, whole: bool) -> Mapping[str, Mapping[Key, int]]:
        """Nothing where it cannot be read: a count is no reason not to program the node."""
        wanted: Wanted = dict.fromkeys(COUNTED) if whole else {name: keys for name, keys in leaving.items() if keys}
        try:
            return self._reading(family, wanted)
        except KernelError:
            return {}

    def _move(self, state: _Map, key: Key, move: _Move) -> set[_Service]:
        """Carry out one move; the Services it touches."""
        old = state.owners.pop(key, None)
        now = self._hold(state, key, move.now) if move.now is not None else None
        state.kept.pop(key, None)
        # Whose it was may be unknown, where a scrape has not asked yet: then nothing tells that it has changed hands.
        if now is not None and (move.was is now or move.was is None):
            if move.counted:
                state.kept[key] = move.counted
        elif move.was is not None:
            move.was.retired += move.counted
        if old is not None:
            old.keys -= 1
        return {service for service in (old, now) if service is not None}

    def _hold(self, state: _Map, key: Key, name: Name) -> _Service:
        service = self._services.setdefault(name, _Service(name))
        service.keys += 1
        state.owners[key] = service
        return service

    # --- a scrape's side --------------------------------------------------------------------------------------

    def describe(self) -> Iterable[CounterMetricFamily]:
        """The metric without a value: registering it shall not read the kernel."""
        return [_family()]

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The metric. Where the kernel cannot be read, what was said last."""
        metric = _family()
        with self._scrape:
            try:
                self._say(self._sums())
                self.error = ""
            except KernelError as error:
                self.error = str(error)
            for name, count in self._samples:
                metric.add_metric(name, count)
        yield metric

    def _sums(self) -> dict[_Service, int]:
        """What each Service has."""
        with self._lock:
            sums = {service: service.retired for service in self._services.values()}
            self._scraping = True
            for state in self._maps.values():
                state.note()
        try:
            for family in Family:
                for name, counts in self._reading(family, dict.fromkeys(COUNTED)).items():
                    for key, count in counts.items():
                        service, count = self._of(family, name, key, count)
                        if service is not None:
                            sums[service] = sums.get(service, 0) + count
        finally:
            with self._lock:
                self._scraping = False
                for state in self._maps.values():
                    state.noted = {}
        return sums

    def _reading(self, family: Family, wanted: Wanted) -> Mapping[str, Mapping[Key, int]]:
        """Read; where commits come too often to read a map as a whole, key by key."""
        try:
            return self._read(family, wanted)
        except ChangingError:
            known = {
                name: tuple(self._maps[family, name].owners) if keys is None else keys
                for name, keys in wanted.items()
            }
            return self._read(family, known)

    def _of(self, family: Family, name: str, key: Key, count: int) -> tuple[_Service | None, int]:
        """Whose key it is, and what it has counted in all, if its element says ``count``."""
        state = self._maps[family, name]
        # In this order: whoever changes these two has noted it before.
        service, total = state.owners.get(key), state.kept.get(key, 0) + count
        if key in state.noted:
            return state.noted[key]
        if service is None and (owner := self._owner(family, name, key)) is not None:
            with self._lock:
                if key in state.noted:
                    return state.noted[key]
                service = state.owners.get(key) or self._hold(state, key, owner)
        return service, total

    def _say(self, sums: dict[_Service, int]) -> None:
        """Make the samples of these sums, none of them less than at the last time."""
        totals = {service: max(service.said, count) for service, count in sums.items()}
        shown = heapq.nlargest(self._limit, totals, key=lambda service: (totals[service], service.name))
        named = set(shown)
        # The rest grows by what its Services have grown by, so that one that leaves it does not make it fall.
        self._rest += sum(count - service.said for service, count in totals.items() if service not in named)
        for service, count in totals.items():
            service.said = count
        self._samples = sorted((service.name, totals[service]) for service in shown)
        if self._rest or len(totals) > len(shown):
            self._samples.append((("", ""), self._rest))


def _family() -> CounterMetricFamily:
    return CounterMetricFamily(
        "nodeport_nft_service_connections",
        "New connections to a Service, counted by the kernel. "
        "Without a name: what Services beyond the limit have had while they were beyond it.",
        labels=("namespace", "service"),
    )
