"""How a test steers the servers: over a Unix socket, which is reached out of any network namespace.

``/_control/…`` is for the servers themselves; every other path is the API, for an administrator whom no fault meets.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.kubernetes.apiserver.answers import Refusal
from tests.kubernetes.apiserver.front import Front
from tests.kubernetes.apiserver.kinds import BY_NAME, NAMESPACE
from tests.kubernetes.apiserver.seeding import begin
from tests.kubernetes.apiserver.serving import Api, State
from tests.kubernetes.apiserver.writing import How


class Control:
    """The servers of a cluster and what they share."""

    def __init__(self, state: State, fronts: list[Front]) -> None:
        self._state = state
        self._fronts = fronts
        self._api = Api(state, trusted=True)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of a test's."""
        if not request.path.startswith("/_control/"):
            return await self._api.handle(request)
        what = request.path.removeprefix("/_control/")
        body: dict[str, Any] = await request.json() if request.can_read_body else {}
        try:
            return web.json_response(await self._do(what, body))
        except Refusal as refusal:
            return web.json_response(refusal.status, status=refusal.code)
        except (KeyError, IndexError, ValueError) as error:
            return web.Response(status=400, text=f"{type(error).__name__}: {error}")

    async def _do(self, what: str, body: dict[str, Any]) -> Any:
        state = self._state
        match what:
            case "faults":
                if "table" in body:
                    state.faults.set(body["table"])
                return state.faults.told()
            case "requests":
                found = list(state.log)
                if body.get("clear"):
                    state.log.clear()
                return found
            case "stop":
                for front in self._chosen(body):
                    await front.stop()
            case "start":
                for front in self._chosen(body):
                    await front.start()
            case "drop":
                for front in self._chosen(body):
                    front.drop()
            case "load":
                self._load(body["objects"])
            case "compact":
                state.storage.compact(body.get("revision"))
            case "bump":
                state.storage.bump(body.get("count", 1))
            case "forget":
                self._forget(body.get("revision"))
            case "tokens":
                _set_tokens(state, body)
            case "options":
                for name in ("streaming", "bookmarks"):
                    if name in body:
                        setattr(state.options, name, body[name])
            case "status":
                pass
            case _:
                raise ValueError(f"no such thing to do: {what}")
        return {
            "revision": state.storage.revision,
            "compacted": state.storage.compacted,
            "serving": [front.serves for front in self._fronts],
        }

    def _chosen(self, body: dict[str, Any]) -> list[Front]:
        return self._fronts if body.get("replica") is None else [self._fronts[body["replica"]]]

    def _load(self, objects: list[dict[str, Any]]) -> None:
        """Make many objects, and their namespaces."""
        for value in objects:
            kind = BY_NAME[value["kind"]]
            namespace = value["metadata"].get("namespace", "default") if kind.namespaced else ""
            if namespace and self._state.storage.get(NAMESPACE, ("", namespace)) is None:
                self._state.writer.create(NAMESPACE, "", {"metadata": {"name": namespace}}, How())
            self._state.writer.create(kind, namespace, value, How())

    def _forget(self, revision: int | None) -> None:
        """Everything anew, as when etcd's directory was lost: no objects, other uids, low revisions."""
        for front in self._fronts:
            front.drop()
            front.api.horizon = 0
        self._state.begin_again()
        begin(self._state, revision)


def _set_tokens(state: State, body: dict[str, Any]) -> None:
    for token in body.get("revoke", ()):
        state.access.tokens.pop(token, None)
    for token, who in body.get("add", {}).items():
        state.access.add_token(token, who["user"], who.get("groups", ()))
