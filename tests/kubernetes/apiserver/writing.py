"""Writes: create, update, patch, apply and delete, each with the API's defaults, checks and allocations."""

from __future__ import annotations

import copy
import json
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.kubernetes.apiserver import managed, objects, services
from tests.kubernetes.apiserver.answers import (
    Cause,
    already_exists,
    bad_request,
    conflict,
    not_found,
    required,
    unprocessable,
)
from tests.kubernetes.apiserver.kinds import IP_ADDRESS, KINDS, NAMESPACE, Kind
from tests.kubernetes.apiserver.services import Allocator
from tests.kubernetes.apiserver.storage import Key, Storage, Stored
from tests.kubernetes.apiserver.unknown import drop_unknown

Object = dict[str, Any]


class How(NamedTuple):
    """How a write is asked for: who writes, and the options in the query."""

    manager: str = "unknown"
    subresource: str = ""
    dry: bool = False
    validation: str = "Warn"
    force: bool = False


class Written(NamedTuple):
    """What a write came to: the object as it is now, and what is warned of."""

    value: Object
    created: bool
    warnings: list[str]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Writer:
    """All writes to the storage go through here."""

    def __init__(self, storage: Storage, seed: int = 0) -> None:
        self._storage = storage
        self.allocator = Allocator(storage, self._write_address, seed)

    # --- the verbs ------------------------------------------------------------------------------------------

    def create(self, kind: Kind, namespace: str, sent: Object, how: How) -> Written:
        """201, or why not."""
        value, warnings = self._read(kind, namespace, sent, how)
        metadata = value["metadata"]
        if not metadata.get("name"):
            if not metadata.get("generateName"):
                raise unprocessable(
                    kind.kind, kind.group, "", [required("metadata.name", "name or generateName is required")]
                )
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        if metadata.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        objects.default(kind, value)
        fields = managed.leaves(kind.kind, _without_status(kind, value), parents=True)
        entries = [managed.entry(how.manager, "Update", kind.api_version, "", fields, now())] if fields else []
        return self._create(kind, value, entries, warnings, how)

    def update(self, kind: Kind, key: Key, sent: Object, how: How) -> Written:
        """200, or why not."""
        old = self._held(kind, key)
        value, warnings = self._read(kind, key[0], sent, how)
        if value["metadata"].get("name") != key[1]:
            name = value["metadata"].get("name", "")
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({key[1]})")
        return self._update(kind, old, value, how, warnings)

    def merge(self, kind: Kind, key: Key, patch: Object, how: How) -> Written:
        """A merge patch, of the object or of its status."""
        old = self._held(kind, key)
        patched = _merged(_named(kind, old.value), patch)
        value, warnings = self._read(kind, key[0], patched, how, patch=True)
        return self._update(kind, old, value, how, warnings)

    def apply(self, kind: Kind, key: Key, sent: Object, how: How) -> Written:
        """A server-side apply: 201, 200, or a conflict with the managers of the same fields."""
        for name, given in (("kind", kind.kind), ("apiVersion", kind.api_version)):
            if sent.get(name) != given:
                raise bad_request(f"invalid object type: {name} must be {given}, and is {sent.get(name)!r}")
        if sent.get("metadata", {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        value, warnings = self._read(kind, key[0], sent, how)
        if value["metadata"].setdefault("name", key[1]) != key[1]:
            raise bad_request(
                f"the name of the object ({value['metadata']['name']}) does not match the name on the URL ({key[1]})"
            )
        wanted = managed.leaves(kind.kind, value, parents=False)
        held = self._storage.get(kind, key)
        if held is None:
            entry = managed.entry(how.manager, "Apply", kind.api_version, how.subresource, wanted, now())
            objects.default(kind, value)
            return self._create(kind, value, [entry], warnings, how)
        entries = held.value["metadata"].get("managedFields", [])
        live = managed.leaves(kind.kind, held.value, parents=False)
        entries, given_up = managed.applied(
            entries, how.manager, kind.api_version, how.subresource, now(), wanted, live, how.force
        )
        merged = _applied(kind.kind, held.value, value, given_up)
        return self._update(kind, held, merged, how, warnings, entries)

    def delete(self, kind: Kind, key: Key, preconditions: Object, dry: bool = False) -> tuple[Stored, Object]:
        """How the object was last, and the answer."""
        held = self._held(kind, key)
        for name in ("uid", "resourceVersion"):
            wanted, has = preconditions.get(name), held.value["metadata"][name]
            if wanted is not None and wanted != has:
                what = "UID" if name == "uid" else "ResourceVersion"
                why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {has}"
                raise conflict(kind.resource, kind.group, key[1], why)
        if dry:
            last = held
        else:
            last = self._storage.remove(kind, key)
            if kind.kind == "Service":
                self.allocator.release(last.value)
            if kind.kind == "Namespace":
                self._empty(key[1])
        if kind.gives_back:
            return last, _named(kind, last.value)
        about = {"name": key[1], "group": kind.group, "kind": kind.resource, "uid": held.value["metadata"]["uid"]}
        details = {name: text for name, text in about.items() if text}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return last, status

    def _empty(self, namespace: str) -> None:
        for kind in KINDS:
            for key in [key for key in self._storage.all(kind) if key[0] == namespace]:
                last = self._storage.remove(kind, key)
                if kind.kind == "Service":
                    self.allocator.release(last.value)

    # --- their steps ----------------------------------------------------------------------------------------

    def _held(self, kind: Kind, key: Key) -> Stored:
        held = self._storage.get(kind, key)
        if held is None:
            raise not_found(kind.resource, kind.group, key[1])
        return held

    def _read(
        self, kind: Kind, namespace: str, sent: Object, how: How, *, patch: bool = False
    ) -> tuple[Object, list[str]]:
        """A copy of what was sent, without what is unknown in it."""
        value = copy.deepcopy(sent)
        if value.get("kind", kind.kind) != kind.kind or value.get("apiVersion", kind.api_version) != kind.api_version:
            given = f"{value.get('apiVersion')}, Kind={value.get('kind')}"
            expected = f"{kind.api_version}, Kind={kind.kind}"
            raise bad_request(
                f"the API version in the data ({given}) does not match the expected API version ({expected})"
            )
        unknown = [f'unknown field "{path}"' for path in drop_unknown(kind.kind, value)]
        if unknown and how.validation == "Strict":
            what = f'{kind.kind} in version "{kind.api_version}" cannot be handled as a {kind.kind}: '
            raise bad_request(("" if patch else what) + f"strict decoding error: {', '.join(unknown)}")
        value.pop("kind", None)
        value.pop("apiVersion", None)
        metadata = value.setdefault("metadata", {})
        if kind.namespaced and metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        return value, unknown if how.validation == "Warn" else []

    def _create(self, kind: Kind, value: Object, entries: list[Object], warnings: list[str], how: How) -> Written:
        metadata = value["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if key[0] and self._storage.get(NAMESPACE, ("", key[0])) is None:
            raise not_found("namespaces", "", key[0])
        if self._storage.get(kind, key) is not None:
            raise already_exists(kind.resource, kind.group, key[1])
        if kind.kind in ("Node", "ServiceCIDR"):
            value.pop("status", None)
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now())
        if kind.generation:
            metadata["generation"] = 1
        metadata["managedFields"] = entries
        objects.complete(kind, value, None)
        self._check(kind, value, None, how)
        if not how.dry:
            value = self._storage.put(kind, key, value).value
        return Written(_named(kind, value), True, warnings)

    def _update(
        self,
        kind: Kind,
        old: Stored,
        value: Object,
        how: How,
        warnings: list[str],
        entries: list[Object] | None = None,
    ) -> Written:
        before = old.value
        metadata, held = value["metadata"], before["metadata"]
        wanted = metadata.pop("resourceVersion", None)
        if wanted not in (None, "", "0", held["resourceVersion"]):
            raise conflict(kind.resource, kind.group, old.key[1])
        if metadata.get("uid") not in (None, held["uid"]):
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {held['uid']}"
            raise conflict(kind.resource, kind.group, old.key[1], why)
        if how.subresource == "status":
            value = {**before, "metadata": {**held}, "status": value.get("status", {})}
            value = copy.deepcopy(value)
        elif "status" in before and kind.status:
            value["status"] = copy.deepcopy(before["status"])
        metadata = value["metadata"]
        for name in ("uid", "creationTimestamp", "generation"):
            if name in held:
                metadata[name] = held[name]
        objects.default(kind, value)
        if kind.kind == "Service" and how.subresource != "status":
            services.carry(value, before)
        objects.complete(kind, value, before)
        if entries is None:
            entries = managed.updated(
                held.get("managedFields", []), how.manager, kind.api_version, how.subresource, now(),
                managed.leaves(kind.kind, before, parents=True), managed.leaves(kind.kind, value, parents=True),
            )  # fmt: skip
        metadata["managedFields"] = entries
        self._check(kind, value, before, how)
        if _bare(value) == _bare(before) and _owners(entries) == _owners(held.get("managedFields", [])):
            return Written(_named(kind, before), False, warnings)
        if kind.generation and _bare(value, "metadata") != _bare(before, "metadata"):
            metadata["generation"] = held["generation"] + 1
        if not how.dry:
            value = self._storage.put(kind, old.key, value).value
            if kind.kind == "Service":
                self.allocator.release(before, value)
        return Written(_named(kind, value), False, warnings)

    def _check(self, kind: Kind, value: Object, before: Object | None, how: How) -> None:
        found: list[Cause] = objects.faults(kind, value, before)
        if not found and kind.kind == "Service" and how.subresource != "status":
            found = self.allocator.allocate(value, how.dry)
        if found:
            raise unprocessable(kind.kind, kind.group, value["metadata"]["name"], found)

    def _write_address(self, value: Object) -> None:
        self.create(IP_ADDRESS, "", value, How(manager="kube-apiserver"))


def _named(kind: Kind, value: Object) -> Object:
    return {"kind": kind.kind, "apiVersion": kind.api_version, **value}


def _without_status(kind: Kind, value: Object) -> Object:
    return {name: part for name, part in value.items() if name != "status"} if kind.status else value


def _bare(value: Object, *without: str) -> str:
    """An object without what every write changes, to compare."""
    metadata = {
        name: part for name, part in value["metadata"].items() if name not in ("managedFields", "resourceVersion")
    }
    whole = {**value, "metadata": metadata}
    return json.dumps({name: part for name, part in whole.items() if name not in without}, sort_keys=True)


def _owners(entries: list[Object]) -> list[Object]:
    return [{name: part for name, part in entry.items() if name != "time"} for entry in entries]


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _applied(kind: str, old: Object, sent: Object, given_up: set[managed.Path]) -> Object:
    """The object with the applied fields over it, and without what the manager has given up."""
    result: Object = copy.deepcopy(managed.overlaid(kind, old, sent))
    for path in sorted(given_up, key=len):  # an item of a list before what it is known by
        managed.take_out(result, path)
    result["metadata"].pop("resourceVersion", None)
    return result
