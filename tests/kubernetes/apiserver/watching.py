"""Watches: what comes first, each change after it, bookmarks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from tests.kubernetes.apiserver.answers import Cause, Refusal, forbidden_field, options_refused, unsupported
from tests.kubernetes.apiserver.kinds import Kind
from tests.kubernetes.apiserver.listing import number
from tests.kubernetes.apiserver.selectors import Matches, selected
from tests.kubernetes.apiserver.storage import Change, Storage, Stored, order

BEFORE_THE_END = 2.0
"""Seconds before a watch's time is over that its last bookmark comes."""

_LONGEST = 1800.0
"""Seconds that a watch goes on where it asks for no time (the real one draws 30 to 60 minutes)."""

_PROGRESS = "etcdserver: the required storage feature RequestWatchProgress is disabled"

_EMPTY: dict[str, dict[str, Any]] = {
    "Service": {"spec": {}, "status": {"loadBalancer": {}}},
    "EndpointSlice": {"addressType": "", "endpoints": None, "ports": None},
    "ServiceCIDR": {"spec": {}, "status": {}},
    "IPAddress": {"spec": {}},
    "Pod": {"spec": {"containers": None}, "status": {}},
    "Namespace": {"spec": {}, "status": {}},
    "Event": {"eventTime": None, "regarding": {}, "deprecatedSource": {}},
    "Node": {"spec": {}, "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}}},
}
"""What a bookmark's object holds besides its metadata: what is always written of its kind."""


class Options:
    """How this server does watches, which differs with its version and with its etcd.

    ``streaming``: "on"; "off" refuses ``sendInitialEvents`` by 422, "broken" by an ERROR event of code 500, as over
    etcd 3.4. ``bookmarks``: seconds between two.
    """

    def __init__(self, streaming: str = "on", bookmarks: float = 60.0) -> None:
        self.streaming = streaming
        self.bookmarks = bookmarks


class Watch:
    """One watch. ``horizon``: changes up to this revision are not in the server's cache."""

    def __init__(
        self, storage: Storage, kind: Kind, namespace: str, query: Mapping[str, str], options: Options, horizon: int
    ) -> None:
        self._storage = storage
        self._kind = kind
        self._namespace = namespace
        self._options = options
        self._horizon = horizon
        self._matches: Matches | None = selected(query, kind)
        self._bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._seconds = float(number(query, "timeoutSeconds") or _LONGEST)
        self._start = number(query, "resourceVersion")
        asked = query.get("sendInitialEvents")
        _check_options(query, options)
        self._asked = asked in ("true", "1")
        self._initial = self._asked or (asked is None and self._start == 0)
        self._changes: asyncio.Queue[Change] = asyncio.Queue()

    async def events(self) -> AsyncIterator[bytes]:
        """Each event as a line. It ends with the watch's time."""
        if self._asked and self._options.streaming == "broken":
            yield _error(Refusal(500, "", _PROGRESS))
            return
        # From here to the first yield nothing else runs: no change is missed, and none comes twice.
        begun = self._storage.revision
        old = max(self._horizon, self._storage.compacted)
        if not self._initial and 0 < self._start < old:
            yield _error(Refusal(410, "Expired", f"too old resource version: {self._start} ({old})"))
            return
        if self._start == 0 and not self._initial:
            self._start = begun  # from any moment, and now is one
        backlog = self._first(begun)
        self._storage.listeners.add(self._changes.put_nowait)
        try:
            for line in backlog:
                yield line
            if self._initial and self._bookmarks and self._options.streaming == "on":
                yield self._bookmark(max(begun, self._start), {"k8s.io/initial-events-end": "true"})
            async for line in self._later():
                yield line
        finally:
            self._storage.listeners.discard(self._changes.put_nowait)

    def _first(self, revision: int) -> list[bytes]:
        if self._initial:
            held = [
                (order(key), stored) for key, stored in self._storage.all(self._kind).items() if self._fits(stored)
            ]
            self._start = revision
            return [self._line("ADDED", stored) for _, stored in sorted(held, key=lambda pair: pair[0])]
        return list(filter(None, map(self._told, self._storage.since(self._kind, self._start))))

    async def _later(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        last = end - BEFORE_THE_END
        due = self._due(loop.time(), last) if self._bookmarks else end
        while (now := loop.time()) < end:
            if now >= due:
                yield self._bookmark(max(self._storage.revision, self._start))
                due = self._due(due, last)
                continue
            try:
                change = await asyncio.wait_for(self._changes.get(), min(due, end) - now)
            except TimeoutError:
                continue
            if line := self._told(change):
                yield line

    def _due(self, now: float, last: float) -> float:
        """When the next bookmark comes."""
        regular = now + self._options.bookmarks
        return min(regular, last) if now < last else regular

    def _fits(self, stored: Stored | None) -> bool:
        if stored is None or (self._namespace and stored.key[0] != self._namespace):
            return False
        return self._matches is None or self._matches(stored.value)

    def _told(self, change: Change) -> bytes | None:
        """A change as whoever selects sees it: what does not fit any more is gone to him."""
        if change.kind is not self._kind or change.revision <= self._start:
            return None
        before, after = self._fits(change.old), self._fits(change.new)
        if after and change.new is not None:
            return self._line("MODIFIED" if before else "ADDED", change.new)
        if not before or change.old is None:
            return None
        if change.last is not None:
            return self._line("DELETED", change.last)
        metadata = {**change.old.value["metadata"], "resourceVersion": str(change.revision)}
        value = {**change.old.value, "metadata": metadata}
        return self._line("DELETED", change.old._replace(encoded=msgspec.json.encode(value)))

    def _line(self, type_: str, stored: Stored) -> bytes:
        return self._event(type_, stored.encoded)

    def _bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if annotations:
            metadata["annotations"] = annotations
        return self._event("BOOKMARK", msgspec.json.encode({"metadata": metadata, **_EMPTY[self._kind.kind]}))

    def _event(self, type_: str, encoded: bytes) -> bytes:
        head = f'{{"type":"{type_}","object":{{"kind":"{self._kind.kind}","apiVersion":"{self._kind.api_version}",'
        return head.encode() + encoded[1:] + b"}\n"


def _error(refusal: Refusal) -> bytes:
    return msgspec.json.encode({"type": "ERROR", "object": refusal.status}) + b"\n"


def _check_options(query: Mapping[str, str], options: Options) -> None:
    asked, match = query.get("sendInitialEvents"), query.get("resourceVersionMatch", "")
    causes: list[Cause] = []
    if asked is not None and options.streaming == "off":
        why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        causes.append(forbidden_field("sendInitialEvents", why))
    if match and asked is None:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(forbidden_field("resourceVersionMatch", why))
    elif asked is not None and not match:
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        causes.append(forbidden_field("resourceVersionMatch", why))
    if match and match != "NotOlderThan":
        if asked is not None:
            why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            causes.append(forbidden_field("resourceVersionMatch", why))
        causes.append(unsupported("resourceVersionMatch", match, ("NotOlderThan",)))
    if query.get("continue"):
        causes.append(forbidden_field("continue", "continue is forbidden for watch"))
    if causes:
        raise options_refused("ListOptions", causes)
