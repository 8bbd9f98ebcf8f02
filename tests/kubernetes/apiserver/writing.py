"""Writes: create, update, patch, apply and delete, each with the API's defaults, checks and allocations."""

from __future__ import annotations

import copy
import json
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.kubernetes.apiserver import managed, objects, services
from tests.kubernetes.apiserver.allocating import Allocator
from tests.kubernetes.apiserver.answers import (
    Cause,
    Refusal,
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_found,
    required,
    undeclared,
    unprocessable,
)
from tests.kubernetes.apiserver.decoding import check_applied, check_types, drop_unknown
from tests.kubernetes.apiserver.kinds import IP_ADDRESS, KINDS, NAMESPACE, Kind
from tests.kubernetes.apiserver.patching import merged
from tests.kubernetes.apiserver.service_faults import address_faults
from tests.kubernetes.apiserver.storage import Key, Storage, Stored

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
            raise Refusal(500, "", "resourceVersion should not be set on objects to be created")
        objects.without_empty(kind, value)
        objects.default(kind, value)
        fields = managed.leaves(kind.kind, _without_status(kind, value), parents=True)
        entries = [managed.entry(how.manager, "Update", kind.api_version, "", fields, now())] if fields else []
        return self._create(kind, value, entries, warnings, how)

    def update(self, kind: Kind, key: Key, sent: Object, how: How) -> Written:
        """200, 201 where it makes what is not there, or why not."""
        if kind.put_creates and self._storage.get(kind, key) is None:
            return self.create(kind, key[0], sent, how)
        old = self._held(kind, key)
        value, warnings = self._read(kind, key[0], sent, how)
        if value["metadata"].get("name") != key[1]:
            name = value["metadata"].get("name", "")
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({key[1]})")
        return self._update(kind, old, value, how, warnings)

    def merge(self, kind: Kind, key: Key, patch: Object, how: How, *, strategic: bool = False) -> Written:
        """A merge patch, of the object or of its status; a strategic one merges lists that have a key, too."""
        old = self._held(kind, key)
        patched = merged(kind.kind if strategic else "", _named(kind, old.value), patch)
        value, warnings = self._read(kind, key[0], patched, how, patch=True)
        return self._update(kind, old, value, how, warnings)

    def apply(self, kind: Kind, key: Key, sent: Object, how: How) -> Written:
        """A server-side apply: 201, 200, or a conflict with the managers of the same fields."""
        if (sent.get("apiVersion"), sent.get("kind")) != (kind.api_version, kind.kind):
            group, _, version = sent.get("apiVersion", "").rpartition("/")
            raise bad_request(f"invalid object type: {group}/{version}, Kind={sent.get('kind', '')}")
        if why := check_applied(kind.kind, sent):
            metadata = sent.get("metadata") or {}
            version = f"{kind.group}/{kind.version}, Kind={kind.kind}"
            what = f"({metadata.get('namespace', '')}/{metadata.get('name', '')}; {version})"
            raise Refusal(500, "", f"failed to create typed patch object {what}: {why}")
        if sent.get("metadata", {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if unknown := drop_unknown(kind.kind, copy.deepcopy(sent)):
            raise undeclared(kind.kind, kind.api_version, key, unknown)
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

    def delete(self, kind: Kind, key: Key, preconditions: Object, dry: bool = False) -> Object:
        """The answer: how the object was last, or a Status."""
        held = self._held(kind, key)
        for name in ("uid", "resourceVersion"):
            wanted, has = preconditions.get(name), held.value["metadata"][name]
            if wanted is not None and wanted != has:
                what = "UID" if name == "uid" else "ResourceVersion"
                then = "deleted and then recreated" if name == "uid" else "modified"
                why = f"the {what} in the precondition ({wanted}) does not match the {what} in record ({has})"
                raise conflict(kind.kind, kind.group, key[1], f"{why}. The object might have been {then}")
        if dry:
            last = held
        else:
            last = self._storage.remove(kind, key)
            if kind.kind == "Service":
                self.allocator.release(last.value)
            if kind.kind == "Namespace":
                self._empty(key[1])
        if kind.gives_back:
            return _named(kind, last.value)
        about = {"name": key[1], "group": kind.group, "kind": kind.resource, "uid": held.value["metadata"]["uid"]}
        details = {name: text for name, text in about.items() if text}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

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
        given, version = value.get("kind", kind.kind), value.get("apiVersion", kind.api_version).rpartition("/")[2]
        if given != kind.kind or value.get("apiVersion", kind.api_version) != kind.api_version:
            why = f"converting ({version}.{given}) to (core.{kind.kind}): unknown conversion"
            raise bad_request(f'{given} in version "{version}" cannot be handled as a {kind.kind}: {why}')
        if why := check_types(kind.kind, kind.version, value):
            raise bad_request(why)
        unknown = [f'unknown field "{path}"' for path in drop_unknown(kind.kind, value)]
        if unknown and how.validation == "Strict":
            why = f"strict decoding error: {', '.join(unknown)}"
            if patch:
                cause = invalid("patch", json.dumps(sent, separators=(",", ":"), sort_keys=True), why)
                raise unprocessable("", "", "", [cause])
            raise bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}')
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
        if kind.kind in ("Node", "ServiceCIDR"):
            value.pop("status", None)
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now())
        if kind.generation:
            metadata["generation"] = 1
        metadata["managedFields"] = entries
        objects.complete(kind, value, None)
        self._check(kind, value, None, how, warnings)
        if self._storage.get(kind, key) is not None:
            raise already_exists(kind.resource, kind.group, key[1])
        if not how.dry:
            if kind.kind == "Service":
                self.allocator.take(value)
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
            value = copy.deepcopy({**before, "metadata": metadata, "status": value.get("status", {})})
        elif "status" in before and kind.status:
            value["status"] = copy.deepcopy(before["status"])
        metadata = value["metadata"]
        for name in ("uid", "creationTimestamp", "generation"):
            if name in held:
                metadata[name] = held[name]
        objects.without_empty(kind, value)
        objects.default(kind, value)
        if entries is None:
            entries = managed.updated(
                held.get("managedFields", []), how.manager, kind.api_version, how.subresource, now(),
                managed.leaves(kind.kind, before, parents=True), managed.leaves(kind.kind, value, parents=True),
            )  # fmt: skip
        metadata["managedFields"] = entries
        if kind.kind == "Service" and how.subresource != "status":
            services.carry(value, before)
        objects.complete(kind, value, before)
        self._check(kind, value, before, how, warnings)
        if _bare(value) == _bare(before):
            metadata["managedFields"] = managed.untimed(entries, held.get("managedFields", []))
            if metadata["managedFields"] == held.get("managedFields", []):
                return Written(_named(kind, before), False, warnings)
        if kind.generation:
            metadata["generation"] = held["generation"] + 1
        if how.dry:
            metadata["resourceVersion"] = held["resourceVersion"]
            return Written(_named(kind, value), False, warnings)
        if kind.kind == "Service":
            self.allocator.take(value)
        value = self._storage.put(kind, old.key, value).value
        if kind.kind == "Service":
            self.allocator.release(before, value)
        return Written(_named(kind, value), False, warnings)

    def _check(self, kind: Kind, value: Object, before: Object | None, how: How, warnings: list[str]) -> None:
        """Refuse what has faults. A Service gets its allocations here, before its other faults when it is made."""
        if kind.kind != "Service" or how.subresource == "status":
            self._refuse(kind, value, objects.faults(kind, value, before))
            return
        warnings += services.warnings(value)
        if before is None:
            self._refuse(kind, value, list(address_faults(value["spec"], None)))
            self._refuse(kind, value, self.allocator.choose(value, fresh=True, dry=how.dry))
            self._refuse(kind, value, objects.faults(kind, value, None))
        else:
            self._refuse(kind, value, objects.faults(kind, value, before))
            self._refuse(kind, value, self.allocator.choose(value, fresh=False, dry=how.dry))

    def _refuse(self, kind: Kind, value: Object, found: list[Cause]) -> None:
        if found:
            # An Event is still checked as the one of the core group.
            group = "" if kind.kind == "Event" else kind.group
            raise unprocessable(kind.kind, group, value["metadata"]["name"], found)

    def _write_address(self, value: Object) -> None:
        self.create(IP_ADDRESS, "", value, How(manager="kube-apiserver"))


def _named(kind: Kind, value: Object) -> Object:
    return {"kind": kind.kind, "apiVersion": kind.api_version, **value}


def _without_status(kind: Kind, value: Object) -> Object:
    return {name: part for name, part in value.items() if name != "status"} if kind.status else value


def _bare(value: Object) -> str:
    """An object without what every write changes, to compare."""
    noted = ("managedFields", "resourceVersion")
    metadata = {name: part for name, part in value["metadata"].items() if name not in noted}
    return json.dumps({**value, "metadata": metadata}, sort_keys=True)


def _applied(kind: str, old: Object, sent: Object, given_up: set[managed.Path]) -> Object:
    """The object with the applied fields over it, and without what the manager has given up."""
    result: Object = copy.deepcopy(managed.overlaid(kind, old, sent))
    for path in sorted(given_up, key=len):  # an item of a list before what it is known by
        managed.take_out(result, path)
    if "resourceVersion" not in sent["metadata"]:
        result["metadata"].pop("resourceVersion", None)
    return result
