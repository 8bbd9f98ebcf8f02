"""``get --watch``: what there is, then what changes of it, until somebody has seen enough.

The store's source, which a daemon follows, tells which objects have changed; they are then read as ``get`` reads
them. Of an object that changes several times at once the last state is told. What is computed (the endpoints of
Services, and nodes that have registered) is computed anew whenever anything changes, and rows that differ are told.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.cli.get.events import Event, EventPrinter
from nodeport_nft.cli.get.listings import Wanted, listings, selected
from nodeport_nft.cli.options import open_existing, warn
from nodeport_nft.interrupts import Runner
from nodeport_nft.kube import Object
from nodeport_nft.model import Ref
from nodeport_nft.store import is_kubernetes, is_shared
from nodeport_nft.store.etcd.address import is_etcd
from nodeport_nft.store.objects import Damaged

if TYPE_CHECKING:
    from nodeport_nft.cli.listing import Listing, Row
    from nodeport_nft.config import Config
    from nodeport_nft.store import Objects
    from nodeport_nft.store.api import Changes, Source

_COMPUTED_FROM = ("Service", "EndpointSlice")  # what an API server's endpoints are worked out of
_LEAST_APART = 0.5
"""Seconds between two times that everything is computed anew."""

_MOMENTARY = frozenset({"AGE", "LAG"})
"""Columns that change with the time alone."""


def watch(config: Config, wanted: Wanted, printer: EventPrinter, *, only_changes: bool) -> tuple[str, ...]:
    """Print what there is and what changes, until Ctrl-C; or return which of the names are not there.

    Each kind is followed for itself, in the order in which they are named.
    """
    parts = tuple(_parts(config, wanted, printer))
    computed = any(is_computed for _, is_computed in parts)
    gc.enable()  # this may take as long as one likes
    # The loop of the source is closed after that of the store: grpc knows both, and calls back whichever it likes.
    with closing(Runner()) as runner, ExitStack() as opened:
        store = opened.enter_context(open_existing(config))
        followed: list[_Objects | _Rows] = [
            _Rows(store, config, part) if is_computed else _Objects(store, part) for part, is_computed in parts
        ]
        missing = tuple(message for each in followed for message in each.begin())
        if missing:
            return missing
        for each in () if only_changes else followed:
            printer.print(each.all(), store.heard)
        kinds = tuple(dict.fromkeys(kind for part, _ in parts for kind in _followed_kinds(config, part)))
        with _followed(runner, config, kinds, None if computed else wanted.namespace) as following:
            while True:
                changes = following.next()
                if changes.whole and not is_shared(config.store):  # it may be another file by now
                    opened.close()
                    store = opened.enter_context(open_existing(config))
                    for each in followed:
                        each.store = store
                for each in followed:
                    printer.print(each.after(changes), store.heard)
                if computed:
                    following.rest(_LEAST_APART)


def _parts(config: Config, wanted: Wanted, printer: EventPrinter) -> Iterator[tuple[Wanted, bool]]:
    """What is wanted of each kind, and whether rows that no object of it stands for are among those of its table."""
    for resource in dict.fromkeys(resource for resource, _ in wanted.targets):
        targets = tuple(target for target in wanted.targets if target[0] is resource)
        registers = resource.kind == "Node" and is_etcd(config.store)
        yield (
            replace(wanted, targets=targets),
            printer.output.is_table and (resource.kind == "Endpoints" or registers),
        )


def _followed_kinds(config: Config, part: Wanted) -> tuple[str, ...]:
    kind = part.targets[0][0].kind
    return _COMPUTED_FROM if kind == "Endpoints" and is_kubernetes(config.store) else (kind,)


class _Objects(Struct):
    """Stored objects, as they were when they were told last."""

    store: Objects
    wanted: Wanted
    known: dict[Ref, Object] = field(default_factory=dict)

    def begin(self) -> tuple[str, ...]:
        """Read what there is; which of the names are not there."""
        found, missing = selected(self.store, self.wanted)
        self.known = {stored.ref: stored for stored in found}
        return missing

    def all(self) -> list[tuple[Event, Object]]:
        """All there is."""
        return [("ADDED", stored) for stored in self.known.values()]

    def after(self, changes: Changes) -> Iterator[tuple[Event, Object]]:
        """What of the changes is to be told."""
        if changes.whole:
            found, _ = selected(self.store, self.wanted)
            now = {stored.ref: stored for stored in found}
            # What cannot be read is there, and is told when it can be read again.
            for ref in sorted(self.known.keys() - now.keys() - self.store.damaged.keys()):
                yield from self._now(ref)  # it may be there, and be picked no longer
            for stored in found:
                yield from self._news(stored.ref, stored)
        else:
            for ref in filter(self._is_meant, dict.fromkeys(change.ref for change in changes.changes)):
                yield from self._now(ref)

    def _now(self, ref: Ref) -> Iterator[tuple[Event, Object]]:
        """What has become of an object by now."""
        found = self.store.find(ref)
        if not isinstance(found, Damaged):  # of which the source says more
            yield from self._news(ref, found)

    def _is_meant(self, ref: Ref) -> bool:
        return any(
            resource.kind == ref.kind
            and name in (None, ref.name)
            and (not resource.namespaced or self.wanted.namespace in (None, ref.namespace))
            for resource, name in self.wanted.targets
        )

    def _news(self, ref: Ref, now: Object | None) -> Iterator[tuple[Event, Object]]:
        """What has become of an object; one that is picked no longer is gone, as for who asks a server for it."""
        before = self.known.get(ref)
        if now is not None and self.wanted.selector.picks(now.raw):
            if before is None or before.version != now.version:
                self.known[ref] = now
                yield ("ADDED" if before is None else "MODIFIED"), now
        elif before is not None:
            del self.known[ref]
            yield "DELETED", now or before


class _Rows(Struct):
    """Rows that are computed, as they were when they were told last."""

    store: Objects
    config: Config
    wanted: Wanted
    known: dict[Row, tuple[Listing, int]] = field(default_factory=dict)

    def begin(self) -> tuple[str, ...]:
        """Compute what there is; which of the names are not there."""
        self.known, missing = self._read()
        return missing

    def all(self) -> list[tuple[Event, Listing]]:
        """All there is."""
        return [("ADDED", listing.only([number])) for listing, number in self.known.values()]

    def after(self, changes: Changes) -> Iterator[tuple[Event, Listing]]:
        """What differs, whatever of the ``changes`` it follows from."""
        del changes
        before, (self.known, _) = self.known, self._read()
        for key, (listing, number) in before.items():
            if key not in self.known:
                yield "DELETED", listing.only([number])
        for key, (listing, number) in self.known.items():
            old = before.get(key)
            if old is None or _lasting(*old) != _lasting(listing, number):
                yield ("ADDED" if old is None else "MODIFIED"), listing.only([number])

    def _read(self) -> tuple[dict[Row, tuple[Listing, int]], tuple[str, ...]]:
        tables, missing = listings(self.store, self.config, self.wanted)
        rows = {row[:2]: (table, number) for table in tables for number, row in enumerate(table.rows)}
        return rows, missing


def _lasting(listing: Listing, number: int) -> list[str]:
    """The cells of a row that stay as they are while nothing happens."""
    titles = ("NAMESPACE", "NAME", *listing.titles)
    cells = listing.rows[number]
    labels = listing.documents[number].get("metadata", {}).get("labels")
    return [*(cell for title, cell in zip(titles, cells, strict=True) if title not in _MOMENTARY), str(labels)]


class _Following:
    """A source, followed by an event loop that runs while somebody waits for the next changes."""

    def __init__(self, runner: Runner, source: Source, running: asyncio.Task[None]) -> None:
        self._runner = runner
        self._source = source
        self._running = running
        self._told: set[str] = set()

    def next(self) -> Changes:
        """The next changes. Raises StoreError where there is nothing to be followed."""
        return self._runner.run(self._next())

    def rest(self, seconds: float) -> None:
        """Let so much time pass; what changes meanwhile comes next."""
        self._runner.run(asyncio.sleep(seconds))

    async def _next(self) -> Changes:
        while not (changes := self._source.take()):
            self._warn()
            changed = asyncio.ensure_future(self._source.changed())
            try:
                done, _ = await asyncio.wait((changed, self._running), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if self._running in done:
                self._running.result()  # a defect: nobody returns
        self._warn()
        return changes

    def _warn(self) -> None:
        """Say what is wrong by now, each once: what cannot be read, and that nothing can be followed."""
        problems = set(self._source.problems())
        warn(sorted(problems - self._told))
        self._told = problems


@contextmanager
def _followed(runner: Runner, config: Config, kinds: tuple[str, ...], namespace: str | None) -> Iterator[_Following]:
    from nodeport_nft.sources.by_scheme import open_watch

    async def begun() -> tuple[Source, asyncio.Task[None]]:
        source = open_watch(config, kinds, namespace)
        return source, asyncio.ensure_future(source.run())

    async def ended() -> None:
        running.cancel()
        await asyncio.wait((running,))

    source, running = runner.run(begun())
    try:
        yield _Following(runner, source, running)
    finally:
        runner.run(ended())
        source.close()
