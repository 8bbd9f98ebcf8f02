"""Objects → an API server: tried first, all of them, and written then one after the other.

The server decides on each object for itself, so a write is not atomic. That a user sees everything that is wrong at
once, and half of nothing is written because of a typing error, is what the trial is for (``dryRun=All``). What is
refused after it has gone well is told together with what is written by then: others write as well, and of nodePorts
outside of its range a server says nothing in a trial.

Objects are applied on the server's side: fields that we do not name stay as others have them.
Source: the Kubernetes documentation, "Server-Side Apply" and "API Concepts" (dry-run, field validation).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.kinds import reference
from nodeport_nft.kube import Object
from nodeport_nft.kube.unknown import without_unknown
from nodeport_nft.model import Ref
from nodeport_nft.problems import Problem, Problems
from nodeport_nft.settings import Validate
from nodeport_nft.store.api import Action, Applied, Conflict, Superseded, Written
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes import documents, reading, refusals
from nodeport_nft.store.kubernetes.cidrs import parse_service_cidr
from nodeport_nft.store.kubernetes.client import Answer, Client
from nodeport_nft.store.kubernetes.errors import Refused, Unreachable
from nodeport_nft.store.kubernetes.refusals import MANAGER, Around
from nodeport_nft.store.kubernetes.selection import SERVICE_CIDRS
from nodeport_nft.store.versions import superseded

_AT_ONCE = 16
"""How many objects are tried at the same time."""

_APPLY = "application/apply-patch+yaml"  # of which JSON is a part

_IP_ADDRESSES = "/apis/networking.k8s.io/v1/ipaddresses"

_VALIDATION = {Validate.strict: "Strict", Validate.warn: "Warn", Validate.ignore: "Ignore"}

Outcome = TypeVar("Outcome")


class PartlyWritten(StoreError):
    """A write ended in between: each object is written or not, and which is told."""

    def __init__(self, why: Exception, done: Sequence[Ref], unsure: Ref | None, rest: Sequence[Ref]) -> None:
        told = [f"done: {_named(done)}"] if done else []
        told += [f"whether {unsure} is written is not known"] if unsure else []
        told += [f"not done: {_named(rest)}"] if rest else []
        super().__init__(f"{why}\n{'; '.join(told)}; see what is there with get, and apply the rest again")


class Manner(Struct, frozen=True):
    """How a write is done: what becomes of unknown ``fields``, ``only_new`` objects, ``force`` against managers.

    ``replacing``: objects that are there become what is written, by PUT.
    """

    fields: Validate
    only_new: bool = False
    force: bool = False
    replacing: bool = False


class _Trial(Struct, frozen=True):
    """An object to be put, what is there ``before``, and what it would be ``after``; None: that cannot be tried."""

    wanted: Object
    before: Object | None
    after: Object | None
    action: Action
    force: bool
    version: str
    warnings: tuple[str, ...]


class Writer:
    """One write, on the thread of an event loop. ``where``: the server, as an operator knows it."""

    def __init__(self, client: Client, where: object, manner: Manner) -> None:
        self._client = client
        self._where = where
        self._manner = manner
        self._around: Around | None = None

    async def write(self, puts: Sequence[Object], deletes: Collection[Ref], *, dry_run: bool) -> Written:
        """Put and delete, or say what that would do. Raises as ``Objects.write`` does, and PartlyWritten."""
        found = await _all_of([self._can_delete(ref) for ref in deletes])
        gone = tuple(ref for ref, is_there in zip(deletes, found, strict=True) if is_there)
        missing = tuple(ref for ref, is_there in zip(deletes, found, strict=True) if not is_there)
        trials = self._passed(await _all_of([self._tried(obj) for obj in puts]))
        if dry_run:
            applied = tuple(_applied(each, each.after or each.wanted, each.action) for each in trials)
            return Written(applied, gone, missing, _warnings(trials))
        return await self._carry_out(trials, gone, missing)

    # --- the trial ----------------------------------------------------------------------------------------

    async def _tried(self, obj: Object) -> _Trial | Problems:
        """What would become of an object, or what is wrong with it. Raises StoreError and Conflict."""
        before = None if self._manner.only_new else await self._get(obj.ref)
        force = self._manner.force
        answer: Answer | None = None
        while answer is None:
            try:
                answer = await self._put(obj, force=force, dry_run=True)
            except Refused as refused:
                known = without_unknown(obj.raw, obj.kind)
                if refusals.is_own(refused) and not force:
                    force = True  # what we have created is ours to apply
                elif refusals.has_unknown_fields(refused) and self._may_drop(obj.raw, known):
                    obj = replace(obj, raw=known)
                elif refusals.knows_no_trial(refused):
                    break
                else:
                    return await self._refused(refused, obj)
        after = None if answer is None else self._made(obj, answer)
        action = documents.action_of(before, after)
        given = documents.given_version(obj, before) if action != "unchanged" else ""
        if after is not None and action != "unchanged":
            stored = documents.without_notes(before.raw) if before else None
            wanted = documents.without_notes(after.raw)
            version = before.version if before else ""
            if why := superseded(obj.raw, obj.ref, stored, version, wanted):
                return Superseded((Problem(obj.source, str(obj.ref), "metadata.resourceVersion", why),))
            if stored == wanted:  # however old the version is that was read, this is what is written over
                given = given and version
        if held := await self._held(obj, before):
            return Problems(held)
        warnings = () if answer is None else (*answer.warnings, *documents.status_warning(obj, after))
        return _Trial(obj, before, after, action, force, given, warnings)

    def _may_drop(self, raw: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
        """Whether a document can do without its unknown fields: it has any, and they are to be no errors.

        They have been warned of where the manifest was read.
        """
        return self._manner.fields is not Validate.strict and raw != known

    async def _refused(self, refused: Refused, obj: Object) -> Problems:
        """What is wrong with an object. Raises StoreError where that is not its fault, and Conflict."""
        if refused.reason == "AlreadyExists":
            raise Conflict(obj.ref, "it exists already") from refused
        if refusals.is_outdated(refused):
            return Superseded((Problem(obj.source, str(obj.ref), "metadata.resourceVersion", _outdated(refused)),))
        around = await self._look_around(obj.ref) if refusals.asks_around(refused) else Around()
        return Problems(refusals.problems_of(refused, obj, self._where, around))

    async def _held(self, obj: Object, before: Object | None) -> tuple[Problem, ...]:
        """Which clusterIPs that an object asks for others have: in a trial an API server does not look for that.

        Servers from 1.33 on have an IPAddress for each. Nothing where there are none, or none for us to see.
        """
        own = documents.cluster_ips(before.raw) if before else ()
        problems = []
        for ip in [ip for ip in documents.cluster_ips(obj.raw) if ip not in own]:
            try:
                answer = await self._client.request("GET", f"{_IP_ADDRESSES}/{ip}")
                parent = reading.document(answer, self._where)["spec"]["parentRef"]
                holder = Ref("Service", parent["namespace"], parent["name"])
            except (Refused, KeyError, TypeError):
                continue
            if holder != obj.ref:
                text = f"{ip} is held by {holder}; choose another or leave it out"
                problems.append(Problem(obj.source, str(obj.ref), "spec.clusterIPs", text))
        return tuple(problems)

    async def _look_around(self, asking: Ref) -> Around:
        """Who holds which number, and where clusterIPs come from; nothing where that is not for us to see."""
        if self._around is None:
            self._around = await look_around(self._client, self._where)
        return replace(
            self._around, holders={number: ref for number, ref in self._around.holders.items() if ref != asking}
        )

    async def _can_delete(self, ref: Ref) -> bool:
        """Whether there is an object, and we may delete it. Raises StoreError."""
        if not reading.can_be_named(ref):
            return False
        try:
            await self._delete(ref, dry_run=True)
        except Refused as refused:
            if refusals.knows_no_trial(refused):
                return await self._get(ref) is not None
            if refusals.is_absent(refused):
                return False
            raise refusals.failure(refused, self._where, ref) from refused
        return True

    @staticmethod
    def _passed(tried: Sequence[_Trial | Problems]) -> list[_Trial]:
        """The trials, if all went well. Raises Problems with what is wrong with any, Superseded if that is all."""
        failed = [each for each in tried if isinstance(each, Problems)]
        problems = tuple(problem for each in failed for problem in each.problems)
        if failed and all(isinstance(each, Superseded) for each in failed):
            raise Superseded(problems)
        if failed:
            raise Problems(problems)
        return [each for each in tried if isinstance(each, _Trial)]

    # --- the write ----------------------------------------------------------------------------------------

    async def _carry_out(self, trials: Sequence[_Trial], gone: Sequence[Ref], missing: Sequence[Ref]) -> Written:
        # First what asks for nodePorts: if one of them is outside of the range, nothing else is written by then.
        in_turn = sorted(trials, key=lambda trial: not documents.asks_for_ports(trial.wanted))
        applied: list[Applied] = []
        deleted: list[Ref] = []
        rest = [*gone, *(each.wanted.ref for each in in_turn)]
        vanished: list[Ref] = []
        try:
            for ref in gone:
                (deleted if await self._deleted(ref) else vanished).append(ref)
                rest.pop(0)
            for trial in in_turn:
                applied.append(await self._written(trial))
                rest.pop(0)
        except (StoreError, Problems, Conflict) as error:
            finished = [*deleted, *(each.object.ref for each in applied)]
            is_unsure = isinstance(error, Unreachable) and error.is_sent
            if not finished and not is_unsure:
                raise
            unsure = rest.pop(0) if is_unsure else None
            raise PartlyWritten(error, finished, unsure, rest) from error
        done = {each.object.ref: each for each in applied}
        told = tuple(done[trial.wanted.ref] for trial in trials)
        return Written(told, tuple(deleted), (*missing, *vanished), _warnings(trials))

    async def _written(self, trial: _Trial) -> Applied:
        try:
            answer = await self._put(trial.wanted, force=trial.force, version=trial.version)
        except Refused as refused:
            raise await self._refused(refused, trial.wanted) from refused
        stored = self._made(trial.wanted, answer)
        if answer.status == 201:
            return _applied(trial, stored, "created")
        is_same = trial.before is not None and trial.before.version == stored.version
        return _applied(trial, stored, "unchanged" if is_same else "configured")

    async def _deleted(self, ref: Ref) -> bool:
        try:
            await self._delete(ref)
        except Refused as refused:
            if refusals.is_absent(refused):  # since a moment ago
                return False
            raise refusals.failure(refused, self._where, ref) from refused
        return True

    # --- requests -----------------------------------------------------------------------------------------

    async def _put(self, obj: Object, *, force: bool = False, dry_run: bool = False, version: str = "") -> Answer:
        """Apply an object, or create it where it is to be new. Raises Refused and Unreachable."""
        query = {"fieldManager": MANAGER, "fieldValidation": _VALIDATION[self._manner.fields]}
        query |= {"dryRun": "All"} if dry_run else {}
        body = json.dumps(documents.sent_body(obj.raw, version)).encode()
        if self._manner.only_new:
            path = reading.list_path(obj.kind, obj.namespace or None)
            return await self._client.request("POST", path, query, body)
        if self._manner.replacing:
            return await self._client.request("PUT", reading.object_path(obj.ref), query, body)
        query["force"] = "true" if force else "false"
        return await self._client.request("PATCH", reading.object_path(obj.ref), query, body, _APPLY)

    async def _delete(self, ref: Ref, *, dry_run: bool = False) -> None:
        query = {"dryRun": "All"} if dry_run else {}
        await self._client.request("DELETE", reading.object_path(ref), query)

    async def _get(self, ref: Ref) -> Object | None:
        return await get(self._client, ref, self._where)

    def _made(self, wanted: Object, answer: Answer) -> Object:
        """The object as the server has it, with what it is parsed into."""
        stored = reading.object_of(wanted.kind, reading.document(answer, self._where))
        values = reading.parse_item(wanted.kind, stored.raw).values
        return replace(stored, values=values, source=wanted.source)


async def get(client: Client, ref: Ref, where: object) -> Object | None:
    """One object, None if there is none of that name. Raises StoreError."""
    if not reading.can_be_named(ref):
        return None
    try:
        answer = await client.request("GET", reading.object_path(ref))
    except Refused as refused:
        if refusals.is_absent(refused):
            return None
        raise refusals.failure(refused, where, ref) from refused
    found = reading.object_of(ref.kind, reading.document(answer, where))
    if found.ref.name != ref.name:
        raise StoreError(
            f"{where}: what answers is not an API server: asked for {ref}, it gives something else; see which "
            "server the kubeconfig names, and whether a proxy stands before it"
        )
    return found


async def look_around(client: Client, where: object) -> Around:
    """Who holds which number, and what clusterIPs come from, as far as we may see it."""
    holders: dict[str, Ref] = {}
    networks: list[str] = []
    try:
        for item in await reading.list_items(client, reading.list_path("Service", None), {}, where):
            obj = reading.object_of("Service", item)
            spec = item.get("spec") or {}
            numbers = [spec.get("healthCheckNodePort"), *(each.get("nodePort") for each in spec.get("ports") or ())]
            for number in (*numbers, *(spec.get("clusterIPs") or ())):
                holders.setdefault(str(number), obj.ref)
        for item in await reading.list_items(client, SERVICE_CIDRS, {}, where):
            networks += map(str, parse_service_cidr(item)[0].networks)
    except (StoreError, Problems):  # what is wrong is told without it as well
        pass
    return Around(holders, tuple(networks))


async def _all_of(work: Sequence[Awaitable[Outcome]]) -> list[Outcome]:
    """What becomes of all of it, so much at a time. Raises what the first of them raises, in their order."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(each: Awaitable[Outcome]) -> tuple[Outcome | None, Exception | None]:
        async with turn:
            try:
                return await each, None
            except (StoreError, Conflict) as error:  # the others are waited for, so that none is left behind
                return None, error

    results: list[Any] = []
    for outcome, error in await asyncio.gather(*map(one, work)):
        if error is not None:
            raise error
        results.append(outcome)
    return results


def _applied(trial: _Trial, stored: Object, action: Action) -> Applied:
    return Applied(reference(trial.wanted.kind, trial.wanted.name), stored, action)


def _warnings(trials: Sequence[_Trial]) -> tuple[str, ...]:
    return tuple(
        str(Problem(trial.wanted.source, str(trial.wanted.ref), "", text))
        for trial in trials
        for text in trial.warnings
    )


def _outdated(refused: Refused) -> str:
    return f"{refused}; see what is there with nodeport-nft get -o yaml, or leave resourceVersion out to overwrite it"


def _named(refs: Sequence[Ref]) -> str:
    return ", ".join(map(str, refs[:5])) + (f" and {len(refs) - 5:,} more" if len(refs) > 5 else "")
