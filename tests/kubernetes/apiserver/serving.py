"""The API over HTTP: who asks, may they, and the verbs."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from tests.kubernetes.apiserver import discovery, verbs
from tests.kubernetes.apiserver import faults as fault_table
from tests.kubernetes.apiserver.access import ANONYMOUS, Access, Asked, User
from tests.kubernetes.apiserver.answers import PlainRefusal, Refusal, forbidden, forbidden_path, no_such_resource
from tests.kubernetes.apiserver.faults import Faults
from tests.kubernetes.apiserver.kinds import Kind
from tests.kubernetes.apiserver.requests import Wanted, read_path
from tests.kubernetes.apiserver.storage import Storage
from tests.kubernetes.apiserver.watching import Options, Watch
from tests.kubernetes.apiserver.writing import Writer

_JSON = "application/json"
_NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}


class State:
    """What all servers of a cluster share."""

    def __init__(self, options: Options, seed: int = 0) -> None:
        self.access = Access()
        self.faults = Faults()
        self.options = options
        self.log: list[dict[str, Any]] = []
        self._seed = seed
        self.begin_again()

    def begin_again(self) -> None:
        """Lose all objects."""
        self.storage = Storage()
        self.writer = Writer(self.storage, self._seed)


class Api:
    """One server. ``trusted``: whoever asks is an administrator, nothing goes wrong, nothing is logged."""

    def __init__(self, state: State, replica: int = 0, *, trusted: bool = False) -> None:
        self.state = state
        self.replica = replica
        self.horizon = 0
        """Changes up to this revision are not in this server's watch cache."""
        self._trusted = trusted

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        wanted = read_path(request.method, request.path, request.query)
        if self._trusted:
            return await self._answered(request, wanted, {})
        asked = wanted.asked
        entry: dict[str, Any] = {
            "method": request.method, "verb": asked.verb, "group": asked.group, "resource": asked.resource,
            "subresource": asked.subresource, "namespace": asked.namespace, "name": asked.name,
            "path": request.path_qs, "userAgent": request.headers.get("User-Agent", ""), "replica": self.replica,
            "user": "", "status": 0, "at": time.time(),
        }  # fmt: skip
        self.state.log.append(entry)
        user: User | Refusal
        try:
            user = self._user(request)
        except Refusal as refusal:
            user = refusal
        else:
            entry["user"] = user.name
        fault = self.state.faults.met(entry)
        await asyncio.sleep(fault.get("delay", 0))
        if "hang" in fault:
            await asyncio.sleep(fault["hang"])
            return _gone(request)
        response = await self._answered(request, wanted, fault, user)
        entry["status"] = response.status
        return response

    def _user(self, request: web.Request) -> User:
        secured = request.transport.get_extra_info("ssl_object") if request.transport else None
        certificate = secured.getpeercert() if secured is not None else None
        return self.state.access.user(request.headers.get("Authorization", ""), certificate)

    async def _answered(
        self, request: web.Request, wanted: Wanted, fault: dict[str, Any], user: User | Refusal = ANONYMOUS
    ) -> web.StreamResponse:
        try:
            if "text" in fault:
                return web.Response(
                    text=fault["text"], status=fault.get("status", 200), content_type=fault.get("type", "text/html")
                )
            if "status" in fault:
                raise fault_table.refusal(fault, fault["status"])
            if not self._trusted:
                if isinstance(user, Refusal):
                    raise user
                self._authorize(user, wanted.asked)
            _check_accept(request.headers.get("Accept", "*/*"))
            if wanted.kind is None and wanted.asked.resource:
                raise no_such_resource()
            if wanted.kind is None:
                media, text = discovery.answer(wanted.asked, verbose="verbose" in request.query)
                sniffing = {} if media == _JSON else _NO_SNIFFING
                return web.Response(body=text.encode(), headers={**_always(), **sniffing, "Content-Type": media})
            if wanted.asked.verb == "watch":
                return await self._watch(request, wanted, fault)
            done = await self._do(request, wanted, wanted.kind, user)
        except Refusal as refusal:
            return await _sent(request, refusal.code, _json(refusal.status), refusal.headers.items(), fault)
        except PlainRefusal as refusal:
            return web.Response(text=refusal.text + "\n", status=refusal.code, headers={**_always(), **_NO_SNIFFING})
        told = [("Warning", f"299 - {json.dumps(text)}") for text in done.warnings]
        body = done.value if isinstance(done.value, bytes) else _json(done.value)
        return await _sent(request, done.status, body, told, fault)

    def _authorize(self, user: User, asked: Asked) -> None:
        if self.state.access.allows(user, asked):
            return
        if asked.path:
            raise forbidden_path(user.name, asked.verb, asked.path)
        raise forbidden(
            user.name, *(asked.verb, asked.resource, asked.subresource, asked.group, asked.namespace, asked.name)
        )

    # --- the verbs ------------------------------------------------------------------------------------------

    async def _do(self, request: web.Request, wanted: Wanted, kind: Kind, user: User | Refusal) -> verbs.Done:
        def check_may_create() -> None:
            if isinstance(user, User) and not self._trusted:
                self._authorize(user, wanted.asked._replace(verb="create"))

        agent = request.headers.get("User-Agent", "")
        sent = verbs.Sent(request.query, request.content_type, agent, await request.read())
        return verbs.do(self.state.storage, self.state.writer, kind, wanted.asked, sent, check_may_create)

    async def _watch(self, request: web.Request, wanted: Wanted, fault: dict[str, Any]) -> web.StreamResponse:
        assert wanted.kind is not None
        state = self.state
        watch = Watch(state.storage, wanted.kind, wanted.asked.namespace, request.query, state.options, self.horizon)
        response = web.StreamResponse(headers={**_always(), "Content-Type": _JSON})
        response.enable_chunked_encoding()
        await response.prepare(request)
        sending = _Sending(request, response, fault)
        count = 0
        events = watch.events()
        try:
            while True:
                if count >= fault.get("silent", count + 1):
                    await asyncio.sleep(3600)
                if "error" in fault and count >= fault.get("events", 0):
                    status = fault_table.refusal(fault, fault["error"]).status
                    await sending.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
                    break
                if count >= fault.get("end", count + 1):
                    break
                try:
                    line = await anext(events)
                except StopAsyncIteration:
                    break
                await sending.write(line)
                count += 1
        finally:
            await events.aclose()  # type: ignore[attr-defined]
        if sending.open:
            await response.write_eof()
        return response


class _Sending:
    """The way out of a body, on which a fault may lie."""

    def __init__(self, request: web.Request, response: web.StreamResponse, fault: Mapping[str, Any]) -> None:
        self._request = request
        self._response = response
        self._fault = fault
        self._sent = 0
        self.open = True

    async def write(self, data: bytes) -> None:
        if not self.open:
            return
        cut = self._fault.get("cut")
        if cut is not None and self._sent + len(data) > cut:
            data = data[: cut - self._sent]
            self.open = False
        async for part in self._parts(data):
            await self._response.write(part)
        self._sent += len(data)
        if not self.open:
            _gone(self._request)

    async def _parts(self, data: bytes) -> AsyncIterator[bytes]:
        size = self._fault.get("drip")
        if size is None:
            yield data
            return
        for start in range(0, len(data), size):
            yield data[start : start + size]
            await asyncio.sleep(self._fault.get("pause", 0.05))


async def _sent(
    request: web.Request, status: int, body: bytes, told: Iterable[tuple[str, str]], fault: Mapping[str, Any]
) -> web.StreamResponse:
    headers = CIMultiDict([*_always().items(), *told, ("Content-Type", _JSON)])
    if "cut" not in fault and "drip" not in fault:
        return web.Response(body=body, status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    sending = _Sending(request, response, fault)
    await sending.write(body)
    if sending.open:
        await response.write_eof()
    return response


def _gone(request: web.Request) -> web.StreamResponse:
    """Close the connection as it is. aiohttp wants a response all the same; nobody is there to read it."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=500)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _always() -> dict[str, str]:
    return {"Audit-Id": str(uuid.uuid4()), "Cache-Control": "no-cache, private"}


def _check_accept(accept: str) -> None:
    """406 for who takes nothing but tables or bare metadata, or no JSON."""
    for part in accept.split(","):
        media, *parameters = (word.strip() for word in part.split(";"))
        if media in ("*/*", "application/*", _JSON) and not any(word.startswith("as=") for word in parameters):
            return
    raise Refusal(406, "NotAcceptable", f"only the following media types are accepted: {_JSON}")
