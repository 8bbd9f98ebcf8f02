"""Follow what changes in etcd, and miss nothing: each change once, in order, until told to begin again.

A stream to one member may end, fall silent or lead to another history at any moment. So:

- It is opened anew after the last *event* that came, never after a header's revision: a header may be ahead of what
  has been sent.
- Before each one the member is asked for the view of the majority. It must be of the same cluster, no older than what
  is known, and the last change that was seen must still be where it was. A watch from a revision that is yet to come
  is silent for ever, and one in a restored backup tells of another history: both are ``Restored``.
- A compacted watch is created, cancelled with the reason, and then silent: the cancellation is ``Compacted``.
- A member that has frozen is noticed by the pings of grpc, one without a majority by etcd itself (``hasleader``), and
  one that answers pings and nothing else by a question after a long silence.
- A login that has ended comes as a cancellation with a reason; etcd 3.4 calls it "permission denied". Denied with a
  login that is new, it is denied.

Sources: https://etcd.io/docs/v3.4/learning/api/#watch-api, etcd server/etcdserver/api/v3rpc/watch.go
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any

from msgspec.structs import replace

from nodeport_nft.store.etcd.address import Endpoint
from nodeport_nft.store.etcd.calls import CallFailed, Stream
from nodeport_nft.store.etcd.client import Client
from nodeport_nft.store.etcd.errors import Cause, EtcdError, Failure, cause_of
from nodeport_nft.store.etcd.proto import message
from nodeport_nft.store.etcd.values import Batch, Compacted, Event, Position, Restored

LONGEST_PAUSE = 5.0
"""Seconds between attempts, when all members have failed again and again."""


async def watch(
    client: Client,
    position: Position,
    prefix: str = "",
    *,
    end: str = "",
    tell: Callable[[EtcdError | None], None] = lambda _: None,
    rng: random.Random | None = None,
) -> AsyncGenerator[Batch, None]:
    """Everything that happens to keys that begin with ``prefix`` after ``position``. Outlives every failure of etcd.

    With ``end`` it is all keys from ``prefix`` on and before that one.

    ``tell`` is called with what is wrong while no member can be followed, and with None when one is. Raises Compacted
    or Restored, and nothing else; close it (``aclosing``) when it is no longer wanted. What changes while a batch is
    worked on waits in etcd.
    """
    follower = _Follower(client, position, client.bounds(prefix, end), tell)
    pause = client.calls.timings.pause
    failures: list[Failure] = []
    while True:
        endpoint = client.calls.endpoint
        try:
            async for batch in follower.follow(endpoint):
                failures.clear()
                pause = client.calls.timings.pause
                yield batch
        except CallFailed as failed:
            failures = [*failures, failed.failure][-len(client.connection.endpoints) :]
        if follower.was_well:  # at once, elsewhere: what failed may be this one member
            follower.was_well = False
            failures = failures[-1:]
            pause = client.calls.timings.pause
        client.calls.turn_from(endpoint)
        if len(failures) >= len(client.connection.endpoints):
            tell(client.calls.error(failures))
            # Not all clients of a member that has ended shall come back to the others in the same moment.
            await asyncio.sleep(pause * (rng or random).uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)


class _Follower:
    """What is known, over all the streams of one watch."""

    def __init__(
        self,
        client: Client,
        position: Position,
        bounds: tuple[bytes, bytes],
        tell: Callable[[EtcdError | None], None],
    ) -> None:
        self.position = position
        self.was_well = False
        self._client = client
        self._key, self._end = bounds
        self._tell = tell

    async def follow(self, endpoint: Endpoint) -> AsyncGenerator[Batch, None]:
        """What one member tells, until it fails. Raises CallFailed, Compacted, Restored."""
        try:
            async for batch in self._stream(endpoint):
                yield batch
        except _LoginEnded as ended:
            self._client.calls.forget_token(ended.token)
            async for batch in self._stream(endpoint, is_login_new=True):
                yield batch

    async def _stream(self, endpoint: Endpoint, *, is_login_new: bool = False) -> AsyncGenerator[Batch, None]:
        await self._check_history(endpoint)
        create = message(
            "WatchCreateRequest",
            key=self._key,
            range_end=self._end,
            start_revision=self.position.revision + 1,
            fragment=True,  # or one answer holds all that has come since, of any size
        )
        async with self._client.calls.stream(endpoint, "Watch.Watch") as stream:
            await stream.write(message("WatchRequest", create_request=create))
            pending: list[Event] = []
            while True:
                answer = await self._read(stream)
                if answer.header.cluster_id != self.position.cluster:
                    raise Restored(f"etcd {endpoint}: another cluster answers")
                if answer.canceled:
                    self._raise_canceled(answer, stream, is_login_new=is_login_new)
                if answer.created:
                    self.was_well = True
                    self._tell(None)
                pending += (self._event(event) for event in answer.events)
                if answer.fragment:
                    continue  # a revision may be cut in two
                if batch := self._take(pending):
                    yield batch
                pending = []

    def _take(self, pending: list[Event]) -> Batch | None:
        """The new ones among the events; the position is after them."""
        events = tuple(event for event in pending if event.revision > self.position.revision)
        if not events:
            return None
        self.position = replace(self.position, revision=events[-1].revision, witness=events[-1])
        return Batch(events, self.position)

    async def _check_history(self, endpoint: Endpoint) -> None:
        """Whether the member tells the history that is known; see at the top. Raises CallFailed, Restored."""
        known = self.position
        request = message("RangeRequest", key=self._key, count_only=True)
        header = (await self._client.calls.call_at(endpoint, "KV.Range", request)).header
        if header.cluster_id != known.cluster:
            raise Restored(f"etcd {endpoint}: it is another cluster than before")
        if header.revision < known.revision:
            raise Restored(
                f"etcd {endpoint}: it is at revision {header.revision}, and {known.revision} was read before"
            )
        if header.raft_term < known.term:
            raise Restored(f"etcd {endpoint}: its cluster has begun anew from a backup")
        if known.witness and not await self._is_where_it_was(endpoint, known.witness):
            raise Restored(f"etcd {endpoint}: revision {known.witness.revision} is another than was read before")
        self.position = replace(known, term=header.raft_term)

    async def _is_where_it_was(self, endpoint: Endpoint, witness: Event) -> bool:
        request = message("RangeRequest", key=self._client.full(witness.key), revision=witness.revision)
        try:
            found = (await self._client.calls.call_at(endpoint, "KV.Range", request)).kvs
        except CallFailed as failed:
            if failed.failure.cause is Cause.COMPACTED:
                # Compaction keeps what a key holds now, whenever it was written; a deletion leaves nothing to find.
                return await self._may_still_be(endpoint, witness)
            if failed.failure.cause is Cause.FUTURE:
                return False
            raise
        if witness.now is None:
            return not found
        return bool(found) and found[0].mod_revision == witness.revision and found[0].value == witness.now.value

    async def _may_still_be(self, endpoint: Endpoint, witness: Event) -> bool:
        """Whether nothing speaks against the witness now that its revision cannot be read any more.

        If anything was written since, the watch will be refused as compacted; this is about a store at rest.
        """
        request = message("RangeRequest", key=self._client.full(witness.key))
        found = (await self._client.calls.call_at(endpoint, "KV.Range", request)).kvs
        if not found or found[0].mod_revision != witness.revision:
            return True
        return witness.now is not None and found[0].value == witness.now.value

    async def _read(self, stream: Stream) -> Any:
        """The next answer. After a long silence the member has to answer a question, or is given up."""
        reading = asyncio.ensure_future(stream.read())
        try:
            while True:
                done, _ = await asyncio.wait((reading,), timeout=self._client.calls.timings.silence)
                if done:
                    return reading.result()
                request = message("RangeRequest", key=self._key, count_only=True)
                await self._client.calls.call_at(stream.endpoint, "KV.Range", request)
        finally:
            if not reading.done():
                reading.cancel()
                await asyncio.wait((reading,))

    def _raise_canceled(self, answer: Any, stream: Stream, *, is_login_new: bool) -> None:
        if answer.compact_revision:
            raise Compacted(
                f"etcd {stream.endpoint}: changes after revision {self.position.revision} are compacted away, "
                f"up to {answer.compact_revision}"
            )
        # It is written as a Go error, with or without its code; the code is not needed.
        cause = cause_of("", answer.cancel_reason)
        if cause in (Cause.TOKEN, Cause.DENIED) and stream.token and not is_login_new:
            raise _LoginEnded(stream.token)
        raise CallFailed(Failure(stream.endpoint, answer.cancel_reason or "has ended the watch", cause))

    def _event(self, event: Any) -> Event:
        found = self._client.key_value(event.kv)
        return Event(found.key, found.mod_revision, None if event.type else found)


class _LoginEnded(Exception):
    """The stream was opened with a token that is good no longer."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token
