"""A store in etcd: reading, transactions, leases. Keys are relative to the connection's prefix.

Every call has a deadline, goes on to another member where that helps, logs in again when it must, and raises
EtcdError otherwise. ``Client`` belongs to an event loop; commands, which have none, use ``Blocking``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from nodeport_nft.store.blocking import BlockingClient
from nodeport_nft.store.etcd.address import Connection
from nodeport_nft.store.etcd.calls import CallFailed, Calls, Timings
from nodeport_nft.store.etcd.errors import Cause, EtcdError, Failure
from nodeport_nft.store.etcd.proto import message
from nodeport_nft.store.etcd.values import (
    MOST_BYTES,
    MOST_OPERATIONS,
    Committed,
    Compare,
    Delete,
    Event,
    Get,
    KeyValue,
    Listing,
    MemberStatus,
    Operation,
    Position,
    Put,
)

PAGE = 500
"""Keys that are read in the first answer of a list."""

_ANSWER_BYTES = 4 * 1024 * 1024
"""What the answers of a list grow to. For each of them etcd goes through all keys that are left, so that many small
ones cost it the square of their number: 3.2 s of its processor for 100,000 keys by 500, 0.5 s by 8,000."""

Answer = TypeVar("Answer")


class Client:
    """One store in etcd, for one event loop."""

    def __init__(self, connection: Connection, timings: Timings | None = None, *, first: int = 0) -> None:
        """Opens nothing yet. ``first`` is the index of the endpoint to begin with: spread clients over members."""
        self.connection = connection
        self.calls = Calls(connection, timings or Timings(), first=first)
        self.root = f"{connection.prefix}/".encode()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up; leases live on until they end."""
        await self.calls.close()

    async def get(self, key: str) -> KeyValue | None:
        """A key as it is now, in the view of a majority; None if it is not there."""
        answer = await self.calls.call("KV.Range", message("RangeRequest", key=self.full(key)))
        return self.key_value(answer.kvs[0]) if answer.kvs else None

    async def range_pages(
        self, prefix: str = "", *, end: str = "", revision: int = 0, page: int = PAGE
    ) -> AsyncIterator[tuple[tuple[KeyValue, ...], Position]]:
        """All keys that begin with ``prefix``, by key, some at a time, all at one revision; 0: the newest.

        With ``end`` it is all keys from ``prefix`` on and before that one.

        The position is the same with each page, but for its witness. At least one page comes, perhaps empty. Raises
        EtcdError with Cause.COMPACTED if the revision is compacted before the last page: begin again.
        The first page has ``page`` keys, later ones as many as make a large answer.
        """
        start, after = self.bounds(prefix, end)
        position: Position | None = None
        while True:
            request = message("RangeRequest", key=start, range_end=after, limit=page, revision=revision)
            answer = await self.calls.call("KV.Range", request)
            found = tuple(map(self.key_value, answer.kvs))
            if position is None:
                revision = revision or answer.header.revision
                position = Position(answer.header.cluster_id, revision, answer.header.raft_term)
            elif answer.header.cluster_id != position.cluster:
                said = "another cluster has answered in the middle of a list"
                raise self.calls.error([Failure(self.calls.endpoint, said, Cause.COMPACTED)])
            position = _witnessed(position, found)
            yield found, position
            if not answer.more:
                return
            page = max(1, min(4 * page, page * _ANSWER_BYTES // answer.ByteSize()))
            start = answer.kvs[-1].key + b"\0"

    async def list_all(self, prefix: str = "", *, end: str = "", page: int = PAGE) -> Listing:
        """All keys as ``range_pages`` has them, and the position from which to follow what changes."""
        for is_last in (False, False, True):  # a compaction may come between two pages; not time and again
            try:
                pages = [some async for some in self.range_pages(prefix, end=end, page=page)]
            except EtcdError as error:
                if error.cause is not Cause.COMPACTED or is_last:
                    raise
            else:
                return Listing(tuple(one for found, _ in pages for one in found), pages[-1][1])
        raise AssertionError

    async def commit(
        self, compares: Iterable[Compare], then: Iterable[Operation], otherwise: Iterable[Operation] = ()
    ) -> Committed:
        """Do ``then`` if all compares hold, else ``otherwise``; all of it at one revision, or nothing.

        No key may be written twice. Raises EtcdError; where its ``outcome`` is UNKNOWN the write may have been done:
        read the keys, and see.
        """
        request = message(
            "TxnRequest",
            compare=[self._compare(compare) for compare in compares],
            success=[self._operation(operation) for operation in then],
            failure=[self._operation(operation) for operation in otherwise],
        )
        _check_size(request, self.calls)
        branches = [*request.success, *request.failure]
        is_write = any(operation.WhichOneof("request") != "request_range" for operation in branches)
        answer = await self.calls.call("KV.Txn", request, is_write=is_write)
        ranges = [one.response_range for one in answer.responses if one.WhichOneof("response") == "response_range"]
        found = tuple(self.key_value(one.kvs[0]) if one.kvs else None for one in ranges)
        return Committed(answer.succeeded, answer.header.revision, found)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write a key whatever it holds; the revision."""
        return (await self.commit((), (Put(key, value, lease),))).revision

    async def delete(self, key: str, *, is_prefix: bool = False) -> int:
        """Remove a key, or all that begin with it; the revision."""
        return (await self.commit((), (Delete(key, is_prefix),))).revision

    async def lease_grant(self, ttl: int, *, lease: int = 0) -> int:
        """A new lease of ``ttl`` seconds (etcd rounds up to a few election times); with ``lease`` of that number.

        A grant that is repeated under the same number raises Cause.LEASE_EXISTS, which tells that it was done.
        """
        request = message("LeaseGrantRequest", TTL=ttl, ID=lease)
        return int((await self.calls.call("Lease.LeaseGrant", request, is_write=lease == 0)).ID)

    async def lease_refresh(self, lease: int) -> int:
        """Let a lease begin anew; the seconds it has from now on, 0 if it has ended and its keys are gone.

        Call it every third of the lease's time.
        """
        failures: list[Failure] = []
        calls = self.calls
        for attempt in range(2 * len(calls.connection.endpoints)):
            endpoint = calls.endpoint
            token = ""
            try:
                async with calls.stream(endpoint, "Lease.LeaseKeepAlive", calls.timings.call) as stream:
                    token = stream.token
                    await stream.write(message("LeaseKeepAliveRequest", ID=lease))
                    return int((await stream.read()).TTL)
            except CallFailed as failed:
                failures.append(failed.failure)
            if failures[-1].cause in (Cause.TOKEN, Cause.SILENT):
                calls.forget_token(token)
            if failures[-1].cause is Cause.TOKEN and attempt == 0:
                continue
            if failures[-1].cause in (Cause.DENIED, Cause.LOGIN, Cause.LOGIN_NEEDED):
                break
            calls.turn_from(endpoint)
        raise calls.error(failures)

    async def lease_revoke(self, lease: int) -> None:
        """End a lease and remove its keys; one that has ended already is no error."""
        try:
            await self.calls.call("Lease.LeaseRevoke", message("LeaseRevokeRequest", ID=lease))
        except EtcdError as error:
            if error.cause is not Cause.NO_LEASE:
                raise

    async def compact(self, revision: int) -> None:
        """Let etcd forget what was before ``revision``; of the whole of etcd, not of this prefix alone."""
        await self.calls.call("KV.Compact", message("CompactionRequest", revision=revision, physical=True))

    async def status(self) -> tuple[MemberStatus | EtcdError, ...]:
        """Each endpoint's own view of itself, in their order; an error for one that does not answer."""
        return tuple(await asyncio.gather(*map(self._status_at, range(len(self.connection.endpoints)))))

    async def _status_at(self, index: int) -> MemberStatus | EtcdError:
        endpoint = self.connection.endpoints[index]
        try:
            said = await self.calls.call_at(endpoint, "Maintenance.Status", message("StatusRequest"))
        except CallFailed as failed:
            return self.calls.error([failed.failure])
        return MemberStatus(
            endpoint=str(endpoint),
            version=said.version,
            member=said.header.member_id,
            leader=said.leader,
            revision=said.header.revision,
            database_size=said.dbSize,
            size_in_use=said.dbSizeInUse,
            errors=tuple(said.errors),
        )

    async def make_room(self) -> None:
        """What ends NOSPACE once something was compacted: defragment each member, and take the alarm back.

        A member answers nobody while it is defragmented, so they are taken one after another.
        """
        for endpoint in self.connection.endpoints:
            try:
                await self.calls.call_at(endpoint, "Maintenance.Defragment", message("DefragmentRequest"))
            except CallFailed as failed:
                raise self.calls.error([failed.failure]) from None
        alarms = await self.calls.call("Maintenance.Alarm", message("AlarmRequest", action="GET"))
        for alarm in alarms.alarms:
            request = message("AlarmRequest", action="DEACTIVATE", memberID=alarm.memberID, alarm=alarm.alarm)
            await self.calls.call("Maintenance.Alarm", request)

    def full(self, key: str) -> bytes:
        """The key as etcd knows it."""
        return self.root + key.encode("utf-8", "surrogateescape")

    def bounds(self, prefix: str, end: str = "") -> tuple[bytes, bytes]:
        """The first key of a range, and the first one after it: of all that begin with ``prefix`` without an end."""
        start = self.full(prefix)
        return start, self.full(end) if end else range_end(start)

    def key_value(self, answer: Any) -> KeyValue:
        """A key of etcd's, relative to the prefix. Others' bytes that are no text come back as they were."""
        return KeyValue(
            key=answer.key.removeprefix(self.root).decode("utf-8", "surrogateescape"),
            value=answer.value,
            create_revision=answer.create_revision,
            mod_revision=answer.mod_revision,
            version=answer.version,
            lease=answer.lease,
        )

    def _compare(self, compare: Compare) -> Any:
        key = self.full(compare.key)
        field = "create_revision" if compare.target == "CREATE" else "mod_revision"
        return message(
            "Compare",
            result=compare.result,
            target=compare.target,
            key=key,
            range_end=range_end(key) if compare.is_prefix else b"",
            **{field: compare.revision},
        )

    def _operation(self, operation: Operation) -> Any:
        key = self.full(operation.key)
        if isinstance(operation, Put):
            put = message("PutRequest", key=key, value=operation.value, lease=operation.lease)
            return message("RequestOp", request_put=put)
        if isinstance(operation, Get):
            return message("RequestOp", request_range=message("RangeRequest", key=key))
        end = range_end(key) if operation.is_prefix else b""
        return message("RequestOp", request_delete_range=message("DeleteRangeRequest", key=key, range_end=end))


class Blocking(BlockingClient[Client]):
    """A client for commands: ``with Blocking(connection) as store: store.run(store.client.get("key"))``."""

    def __init__(self, connection: Connection, timings: Timings | None = None, *, first: int = 0) -> None:
        super().__init__(lambda: Client(connection, timings, first=first))


def range_end(prefix: bytes) -> bytes:
    """The first key after all that begin with ``prefix``; "\\0" (the end of all keys) if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def request_bytes(operations: Iterable[Operation]) -> int:
    """How much of MOST_BYTES they take in one transaction, without the prefix of their keys; never too little."""
    total = 0
    for operation in operations:
        total += len(operation.key.encode("utf-8", "surrogateescape")) + _AROUND_AN_OPERATION
        total += len(operation.value) if isinstance(operation, Put) else 0
    return total


_AROUND_AN_OPERATION = 64 + 128  # tags, lengths, a lease; and the longest prefix


def _check_size(request: Any, calls: Calls) -> None:
    """Refuse what etcd would refuse, before it is sent, with the figures. Raises EtcdError."""
    most = max(len(request.compare), len(request.success), len(request.failure))
    if most > MOST_OPERATIONS:
        said = f"{most} operations in one transaction; it takes {MOST_OPERATIONS}"
    elif request.ByteSize() > MOST_BYTES:
        said = f"{request.ByteSize()} bytes in one transaction; it takes {MOST_BYTES}"
    else:
        return
    raise calls.error([Failure(calls.endpoint, said, Cause.TOO_LARGE)])


def _witnessed(position: Position, found: tuple[KeyValue, ...]) -> Position:
    """The position with the newest of what was found for its witness."""
    newest = max(found, key=lambda one: one.mod_revision, default=None)
    if newest is None or (position.witness and position.witness.revision >= newest.mod_revision):
        return position
    witness = Event(newest.key, newest.mod_revision, newest)
    return Position(position.cluster, position.revision, position.term, witness)
