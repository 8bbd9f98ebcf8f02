"""Events (events.k8s.io/v1) about what an operator should mend: what ``kubectl describe`` shows below an object.

Each node of a cluster finds the same fault of a Service. Their Event has the same name on all of them, which is made
of the Service's UID, the reason and the note: the first node writes it, to the others the API server says that it is
there. Who has written it renews it while the fault lasts, since the API server forgets Events after an hour; when
that node is gone, the next one whose turn comes writes it again.

Events are a courtesy. They are few (a bucket of tokens), they wait while the API server is away, and what is past by
then is never written.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from msgspec import Struct

from nodeport_nft.agenda import Backoff
from nodeport_nft.model import Ref
from nodeport_nft.problems import Problems
from nodeport_nft.store.api import Happening
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes import open_client
from nodeport_nft.store.kubernetes.connection import Connection
from nodeport_nft.store.kubernetes.errors import Refused
from nodeport_nft.terminal import printable

if TYPE_CHECKING:
    from nodeport_nft.store.kubernetes.client import Client

CONTROLLER = "nodeport-nft"
_ACTION = "Sync"
_LONGEST_NOTE = 1024  # bytes: NoteLengthLimit of pkg/apis/core/validation/events.go
_LONGEST_INSTANCE = 128
_LONGEST_NAME = 200  # of 253 characters, with room for the hash
_NODE_EVENTS_IN = "default"  # the namespace for Events about objects that have none

_MOST = 1000
"""Happenings that are kept in mind at once. Who has more has more to read than an operator will."""

_MOST_IN_A_NOTE = 20

_APART_SECONDS = 5.0
"""Within which nodes that find the same fault at once come one after the other."""

_AGAIN_SECONDS = 300.0
"""How long the same reason of the same object is not told again, whatever has become of it meanwhile."""

_RENEW_SECONDS = (1500.0, 2700.0)
"""When an Event is renewed, at random: before its hour (--event-ttl) has passed."""

_BURST, _TOKEN_SECONDS = 25, 30.0
"""So many Events at once, and then one in so many seconds."""

_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 600.0

_FORBIDDEN = 403
_PASSING = frozenset({401, 408, 429, 500, 502, 503, 504})
"""Refusals that say nothing against what is written, as no page does that somebody between answers with success."""

_MERGE = "application/merge-patch+json"
_REMEDY = "let it get Services, and create and patch Events: deploy/kubernetes/base/rbac.yaml"

Key = tuple[Ref, str]
"""Object and reason: one note at a time."""


class _Noted(Struct):
    """What is known of one reason of one object. ``due``: when to tell it; ``told``: when it was, by the clock.

    ``note`` is what was told last, and ``event`` the Event of ours that says so, "" where it is another node's.
    ``is_here``: there is something to tell. ``count``: how often it was told.
    """

    due: float
    told: float = -math.inf
    note: str = ""
    event: str = ""
    is_here: bool = True
    count: int = 0


class Due(Struct, frozen=True):
    """What is to be written now. ``event``: it stands in this one of ours, which has been told ``count`` times."""

    happening: Happening
    event: str = ""
    count: int = 0


class Notebook:
    """What there is to tell, and when; pure. ``chance`` gives numbers from 0.0 to 1.0, ``clock`` seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._now: dict[Key, str] = {}
        self._noted: dict[Key, _Noted] = {}
        self._tokens, self._counted = float(_BURST), clock()

    def tell(self, happenings: Iterable[Happening]) -> None:
        """These there are now, and no others."""
        messages: dict[Key, list[str]] = {}
        for each in happenings:
            key = each.ref, each.reason
            if key in messages or len(messages) < _MOST:
                texts = messages.setdefault(key, [])
                if len(texts) < _MOST_IN_A_NOTE:
                    texts.append(each.message)
        self._now = {key: note(texts) for key, texts in messages.items()}
        now = self._clock()
        for key, noted in list(self._noted.items()):
            if key not in self._now:
                noted.is_here = False
                if now >= noted.told + _AGAIN_SECONDS:
                    del self._noted[key]
        for key, text in self._now.items():
            known = self._noted.setdefault(key, _Noted(now + self._chance() * _APART_SECONDS))
            if known.told > -math.inf and (not known.is_here or text != known.note):
                known.due = min(known.due, max(now, known.told + _AGAIN_SECONDS))
            known.is_here = True

    def rest(self) -> float:
        """Seconds until something is to be written; infinity if nothing is."""
        first = min((self._noted[key].due for key in self._now), default=math.inf)
        self._refill()
        return max(0.0, first - self._clock(), (1 - self._tokens) * _TOKEN_SECONDS)

    def next(self) -> Due | None:
        """What is to be written now, if anything is; it stays so until it is ``written``."""
        if self.rest() > 0:
            return None
        key = min(self._now, key=lambda each: self._noted[each].due)
        noted, text = self._noted[key], self._now[key]
        happening = Happening(*key, text)
        return Due(happening, noted.event, noted.count) if noted.note == text else Due(happening)

    def is_so(self, due: Due) -> bool:
        """Whether it is still to be told."""
        happening = due.happening
        return self._now.get((happening.ref, happening.reason)) == happening.message

    def written(self, due: Due, event: str = "") -> None:
        """It stands in an ``event`` of ours, or ("") in another node's, or nowhere, since it was refused for good."""
        self._refill()
        self._tokens -= 1
        now = self._clock()
        noted = self._noted.setdefault((due.happening.ref, due.happening.reason), _Noted(now, is_here=False))
        noted.told, noted.note, noted.event, noted.count = now, due.happening.message, event, due.count + 1
        soonest, latest = _RENEW_SECONDS
        noted.due = now + soonest + self._chance() * (latest - soonest)
        if self._now.get((due.happening.ref, due.happening.reason), noted.note) != noted.note:
            noted.due = now + _AGAIN_SECONDS  # it has become another one while this was written

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(_BURST, self._tokens + (now - self._counted) / _TOKEN_SECONDS)
        self._counted = now


class EventRecorder:
    """Writes Events of the node of this name (``store.api.Recorder``). ``problems`` is called when they change."""

    def __init__(
        self, connection: Connection, node: str, problems: Callable[[tuple[str, ...]], None], notebook: Notebook
    ) -> None:
        self._connection = connection
        self._node = node
        self._problems = problems
        self._notebook = notebook
        self._told = asyncio.Event()
        self._backoff = Backoff(_LONGEST_PAUSE_SECONDS, first=_PAUSE_SECONDS)

    def tell(self, happenings: Iterable[Happening]) -> None:
        """These there are now, and no others."""
        self._notebook.tell(happenings)
        self._told.set()

    async def run(self) -> None:
        """Write what is told until cancelled."""
        client: Client | None = None
        try:
            while True:
                due = await self._due()
                try:
                    client = client or open_client(self._connection)
                    event = await self._written(client, due)
                    if event is not None:
                        self._notebook.written(due, event)
                    self._backoff.succeeded()
                    self._problems(())
                except Refused as error:
                    if error.code in _PASSING or error.code < 400 or lacks_right(error):
                        await self._pause(error)
                    else:
                        self._notebook.written(due)  # it would be refused again
                except (StoreError, Problems) as error:
                    await self._pause(error)
        finally:
            if client:
                await client.close()

    async def _due(self) -> Due:
        """What is to be written, once there is something."""
        while not (due := self._notebook.next()):
            rest = self._notebook.rest()
            self._told.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if rest == math.inf else rest):
                    await self._told.wait()
        return due

    async def _pause(self, error: Exception) -> None:
        """Wait before the next try. That the API server is away is told by who follows it."""
        seconds = self._backoff.failed()
        if isinstance(error, Refused) and lacks_right(error):
            seconds = _LONGEST_PAUSE_SECONDS
            self._problems((f"{self._connection}: no Events are written: {error}; {_REMEDY}",))
        await asyncio.sleep(seconds * random.uniform(1, 1.25))  # noqa: S311

    async def _written(self, client: Client, due: Due) -> str | None:
        """The name of the Event of ours that stands there now; "": it is another node's, None: it is past."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ref = due.happening.ref
        path = f"/apis/events.k8s.io/v1/namespaces/{quote(ref.namespace or _NODE_EVENTS_IN, safe='')}/events"
        if due.event:
            series = {"series": {"count": due.count + 1, "lastObservedTime": now}}
            with suppress_codes(404):  # it has been forgotten
                await client.request("PATCH", f"{path}/{due.event}", None, _json(series), _MERGE)
                return due.event
        event = event_about(due.happening, await self._uid(client, ref), self._node, now)
        if not self._notebook.is_so(due):
            return None
        with suppress_codes(409):  # another node was first
            await client.request("POST", path, None, _json(event))
            name: str = event["metadata"]["name"]
            return name
        return ""

    async def _uid(self, client: Client, ref: Ref) -> str:
        """By which ``kubectl describe`` finds the Events of an object. Raises Refused where it is gone."""
        if ref.kind != "Service":
            return ref.name  # of a Node, as kubelet and kube-proxy write it
        path = f"/api/v1/namespaces/{quote(ref.namespace, safe='')}/services/{quote(ref.name, safe='')}"
        answer = await client.request("GET", path)
        try:
            return str(json.loads(answer.body)["metadata"]["uid"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise StoreError(f"{self._connection}: {ref} is answered with what is no Service") from None


def lacks_right(error: Refused) -> bool:
    """Whether RBAC forbids it. Namespaces that are being deleted, quotas and webhooks say 403, too, of one object.

    It is told by the API server's words alone (k8s.io/apiserver, endpoints/handlers/responsewriters/errors.go).
    """
    return error.code == _FORBIDDEN and " cannot " in str(error)


@contextmanager
def suppress_codes(*codes: int) -> Iterator[None]:
    """Refusals with these codes are no failure."""
    try:
        yield
    except Refused as error:
        if error.code not in codes:
            raise


def event_about(happening: Happening, uid: str, node: str, now: str) -> dict[str, Any]:
    """The Event of this node at this time (RFC 3339 with microseconds). Its name is that of all nodes alike."""
    ref = happening.ref
    identity = "\0".join((ref.kind, uid, happening.reason, happening.message))
    name = f"{ref.name[:_LONGEST_NAME].rstrip('.-')}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    namespace = {"namespace": ref.namespace} if ref.namespace else {}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": ref.namespace or _NODE_EVENTS_IN},
        "eventTime": now,
        "type": "Warning",
        "reason": happening.reason,
        "action": _ACTION,
        "note": happening.message,
        "reportingController": CONTROLLER,
        "reportingInstance": node[:_LONGEST_INSTANCE],
        "regarding": {"apiVersion": "v1", "kind": ref.kind, "name": ref.name, "uid": uid, **namespace},
    }


def note(messages: Iterable[str]) -> str:
    """Messages as the one note of an Event, which may have 1,024 bytes."""
    text = printable(". ".join(" ".join(each.split()) for each in messages)).encode()
    if len(text) <= _LONGEST_NOTE:
        return text.decode()
    return text[: _LONGEST_NOTE - 3].decode(errors="ignore") + "…"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()
