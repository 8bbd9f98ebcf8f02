"""Calls to etcd over one of several members: connect, log in, ask, and go on to the next member where that helps.

Members are tried one by one, each over a channel of its own, and not by grpc's own balancing. Only so can TLS compare
each member's name with its certificate, an error name the member, and a watch be opened at the very member that has
just been looked at.

Whatever was sent without an answer is asked elsewhere if it reads, and told as not known if it writes. A call for
which there was no connection was not sent, so it may always be asked elsewhere.

Sources: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html, https://etcd.io/docs/v3.4/op-guide/maintenance/
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from msgspec import Struct

from nodeport_nft.store.etcd.address import Connection, Endpoint
from nodeport_nft.store.etcd.errors import (
    PASSING,
    Cause,
    EtcdError,
    Failure,
    Outcome,
    cause_of,
    etcd_error,
    in_words,
    was_not_sent,
)

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it has to say comes as errors; read once, at the import

import grpc
import grpc.aio

from nodeport_nft.store.etcd.proto import METHODS, message, message_class

_ELSEWHERE = PASSING | {Cause.CERTIFICATE, Cause.CORRUPT}
_LONGEST_SECRET = 4096


class Timings(Struct, frozen=True):
    """In seconds. ``keepalive`` may not be below etcd's --grpc-keepalive-min-time, or it hangs up.

    ``patience`` is for one call over all members, ``call`` for one member's answer, ``connect`` for a connection.
    A member that is frozen is noticed after ``keepalive`` + ``keepalive_answer``; one that answers pings and does
    nothing else, after ``silence`` + ``call``.
    """

    connect: float = 3.0
    call: float = 5.0
    patience: float = 15.0
    pause: float = 0.25
    keepalive: float = 10.0
    keepalive_answer: float = 5.0
    silence: float = 60.0


class CallFailed(Exception):
    """An attempt at one member failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Calls:
    """All connections to one store. Belongs to one event loop, and opens nothing before it is asked."""

    def __init__(self, connection: Connection, timings: Timings, *, first: int = 0) -> None:
        """``first`` is the index of the endpoint to begin with; many clients should not begin with the same."""
        self.connection = connection
        self.timings = timings
        self._channels: dict[Endpoint, tuple[object, Any]] = {}
        self._current = first % len(connection.endpoints)
        self._token = ""
        self._login = asyncio.Lock()

    async def close(self) -> None:
        """Hang up; a second call does nothing."""
        while self._channels:
            await self._channels.popitem()[1][1].close()

    @property
    def endpoint(self) -> Endpoint:
        """The member that is asked first."""
        return self.connection.endpoints[self._current]

    def turn_from(self, endpoint: Endpoint) -> None:
        """Begin with the next member from now on, if it is this one that is asked first now."""
        if self.endpoint == endpoint:
            self._current = (self._current + 1) % len(self.connection.endpoints)

    async def call(self, name: str, request: Any, *, is_write: bool = False) -> Any:
        """The answer to a call, of whichever member gives one. Raises EtcdError.

        A write that was sent and has no answer is not repeated; its error's ``outcome`` says so.
        """
        failures: list[Failure] = []
        end = time.monotonic() + self.timings.patience
        while True:
            for _ in self.connection.endpoints:
                endpoint = self.endpoint
                try:
                    return await self.call_at(endpoint, name, request, is_write=is_write)
                except CallFailed as failed:
                    failures.append(failed.failure)
                is_in_doubt = failures[-1].outcome is Outcome.UNKNOWN
                if is_in_doubt or failures[-1].cause in _ELSEWHERE:
                    self.turn_from(endpoint)
                if is_in_doubt or failures[-1].cause not in _ELSEWHERE:
                    raise self.error(failures[-1:])
                if time.monotonic() >= end:
                    raise self.error(failures)
            may_pass = any(failure.cause in PASSING for failure in failures[-len(self.connection.endpoints) :])
            if not may_pass or time.monotonic() + self.timings.pause >= end:
                raise self.error(failures)
            await asyncio.sleep(self.timings.pause)

    async def call_at(
        self,
        endpoint: Endpoint,
        name: str,
        request: Any,
        *,
        is_write: bool = False,
    ) -> Any:
        """The answer of this very member. Raises CallFailed."""
        for is_last in (False, True):
            token = await self._token_at(endpoint)
            try:
                return await self._unary(endpoint, name, request, token, is_write=is_write)
            except CallFailed as failed:
                if failed.failure.cause is not Cause.TOKEN or is_last or not self.connection.user:
                    raise
                self.forget_token(token)
        raise AssertionError

    @asynccontextmanager
    async def stream(self, endpoint: Endpoint, name: str, timeout: float | None = None) -> AsyncIterator[Stream]:
        """A stream to this very member, cancelled at the end. Raises CallFailed."""
        token = await self._token_at(endpoint)
        channel = await self._connected(endpoint)
        method = METHODS[name]
        call = channel.stream_stream(
            method.path,
            request_serializer=message_class(method.request).SerializeToString,
            response_deserializer=message_class(method.response).FromString,
        )(timeout=timeout, metadata=_metadata(token))
        try:
            yield Stream(call, token, partial(self._failure, endpoint), endpoint)
        finally:
            call.cancel()

    def forget_token(self, token: str) -> None:
        """Log in anew before the next call, unless somebody has done so since ``token`` was used."""
        if self._token == token:
            self._token = ""

    def error(self, failures: list[Failure]) -> EtcdError:
        """What is shown of them."""
        return etcd_error(failures, self.connection.prefix, len(self.connection.endpoints))

    async def _token_at(self, endpoint: Endpoint) -> str:
        """A token that is believed to be good; "" if none is needed."""
        if not self.connection.user:
            return ""
        async with self._login:  # or each call that is under way would log in, and bcrypt is slow on purpose
            if not self._token:
                asked = message("AuthenticateRequest", name=self.connection.user, password=self._password(endpoint))
                try:
                    answer = await self._unary(endpoint, "Auth.Authenticate", asked, "", is_write=False)
                except CallFailed as failed:
                    if failed.failure.cause is Cause.NO_LOGIN:
                        # etcd has not begun to ask for users yet; a call without a token is good.
                        return ""
                    raise
                self._token = answer.token
            return self._token

    def _password(self, endpoint: Endpoint) -> str:
        path = self.connection.password_file
        if path is None:
            return ""
        try:
            with path.open(encoding="utf-8") as file:
                return file.read(_LONGEST_SECRET).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "is not text"
            raise CallFailed(Failure(endpoint, f"passwordFile {path}: {said}", Cause.LOGIN)) from None

    async def _unary(
        self,
        endpoint: Endpoint,
        name: str,
        request: Any,
        token: str,
        *,
        is_write: bool,
    ) -> Any:
        channel = await self._connected(endpoint)
        method = METHODS[name]
        call = channel.unary_unary(
            method.path,
            request_serializer=message_class(method.request).SerializeToString,
            response_deserializer=message_class(method.response).FromString,
        )
        try:
            return await call(request, timeout=self.timings.call, metadata=_metadata(token))
        except grpc.aio.AioRpcError as error:
            failure = self._failure(endpoint, error, is_write=is_write)
            if failure.cause is Cause.SILENT:
                # A token names the raft index of its login, and a member that is not as far waits until it is: after
                # a restored backup that may be for ever.
                self.forget_token(token)
            raise CallFailed(failure) from None

    async def _connected(self, endpoint: Endpoint) -> Any:
        """A channel to the member that is connected, or is about to say why it cannot be.

        Waiting here, before anything is sent, is what tells a member that was never reached from one that was asked.
        """
        channel = await self._channel(endpoint)
        end = time.monotonic() + self.timings.connect
        while (state := channel.get_state(try_to_connect=True)) not in _DECIDED:
            try:
                async with asyncio.timeout(max(end - time.monotonic(), 0)):
                    await channel.wait_for_state_change(state)
            except TimeoutError:
                said = f"no connection within {self.timings.connect:g} s"
                raise CallFailed(Failure(endpoint, said, Cause.UNREACHABLE)) from None
        return channel

    async def _channel(self, endpoint: Endpoint) -> Any:
        secrets = self._secrets(endpoint)
        known = self._channels.get(endpoint)
        if known and (known[0] == secrets or _is_ready(known[1])):
            return known[1]  # a connection that stands outlives the renewal of a certificate
        if known:
            await known[1].close()
        if secrets is None:
            channel = grpc.aio.insecure_channel(str(endpoint), options=self._options())
        else:
            credentials = grpc.ssl_channel_credentials(*secrets)
            channel = grpc.aio.secure_channel(str(endpoint), credentials, options=self._options())
        self._channels[endpoint] = (secrets, channel)
        return channel

    def _secrets(self, endpoint: Endpoint) -> tuple[bytes | None, bytes | None, bytes | None] | None:
        """The certificate authority, key and certificate as they are in their files; None without TLS."""
        if not self.connection.is_secure:
            return None
        read: list[bytes | None] = []
        named = ("etcdCAFile", "etcdKeyFile", "etcdCertFile")
        paths = (self.connection.ca, self.connection.key, self.connection.cert)
        for field, path in zip(named, paths, strict=True):
            try:
                content = None if path is None else path.read_bytes()
            except OSError as error:
                raise CallFailed(Failure(endpoint, f"{field} {path}: {error.strerror}", Cause.CERTIFICATE)) from None
            if content is not None and b"-----BEGIN " not in content:
                raise CallFailed(Failure(endpoint, f"{field} {path} is not a PEM file", Cause.CERTIFICATE))
            if content is not None and b"ENCRYPTED" in content:
                said = f"{field} {path} has a passphrase; take it off with `openssl pkey`"
                raise CallFailed(Failure(endpoint, said, Cause.CERTIFICATE))
            read.append(content)
        return read[0], read[1], read[2]

    def _failure(self, endpoint: Endpoint, error: Any, *, is_write: bool = False) -> Failure:
        details = str(error.details() or "")
        cause = cause_of(str(error.code().name), details, is_secure=self.connection.is_secure)
        in_doubt = is_write and cause is Cause.SILENT and not was_not_sent(details)
        said = in_words(details, is_secure=self.connection.is_secure)
        return Failure(endpoint, said, cause, Outcome.UNKNOWN if in_doubt else Outcome.NOT_DONE)

    def _options(self) -> list[tuple[str, int]]:
        timings = self.timings
        return [
            ("grpc.keepalive_time_ms", round(timings.keepalive * 1000)),
            ("grpc.keepalive_timeout_ms", round(timings.keepalive_answer * 1000)),
            # Any ping under way, such as one that measures bandwidth, takes a keepalive's place, with 60 s.
            ("grpc.http2.ping_timeout_ms", round(timings.keepalive_answer * 1000)),
            ("grpc.http2.max_pings_without_data", 0),  # a quiet watch is pinged for as long as it lasts
            ("grpc.min_reconnect_backoff_ms", round(timings.connect * 1000)),  # also the limit of one attempt
            ("grpc.initial_reconnect_backoff_ms", round(timings.pause * 1000)),
            ("grpc.max_reconnect_backoff_ms", round(timings.connect * 1000)),
            ("grpc.max_receive_message_length", -1),  # a page of the largest values is more than grpc's 4 MiB
            ("grpc.max_send_message_length", -1),  # etcd has a limit of its own, and tells it better
            ("grpc.use_local_subchannel_pool", 1),  # or a channel made anew would get the old one's connection
            ("grpc.enable_http_proxy", 0),  # a proxy for browsers is no way to a cluster's own members
        ]


class Stream:
    """A stream in both directions; ``token`` is that with which it was opened. Errors are CallFailed."""

    def __init__(self, call: Any, token: str, failed: Callable[[Any], Failure], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.token = token
        self._call = call
        self._failed = failed

    async def write(self, request: Any) -> None:
        """Send one message."""
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(self._failed(error)) from None
        except asyncio.InvalidStateError:  # it has ended while this was about to be sent; reading tells why
            return

    async def read(self) -> Any:
        """The next message; the stream's end is an error. Cancelling this ends the stream."""
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise CallFailed(self._failed(error)) from None
        if answer is grpc.aio.EOF:
            raise CallFailed(Failure(self.endpoint, "has ended the stream", Cause.SILENT))
        return answer


_DECIDED = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)


def _is_ready(channel: Any) -> bool:
    return bool(channel.get_state() == grpc.ChannelConnectivity.READY)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    # With hasleader a member without quorum refuses at once, and ends streams, where it would wait for ever.
    metadata = (("hasleader", "true"),)
    return (*metadata, ("token", token)) if token else metadata
