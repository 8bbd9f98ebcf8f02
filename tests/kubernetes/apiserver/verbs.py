"""What is done for a request to a resource: get and list, and the writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import yaml

from tests.kubernetes.apiserver.access import Asked
from tests.kubernetes.apiserver.answers import (
    Refusal,
    bad_request,
    no_such_resource,
    not_allowed,
    not_found,
    options_refused,
    required,
    unprocessable,
    unsupported,
)
from tests.kubernetes.apiserver.kinds import Kind
from tests.kubernetes.apiserver.listing import list_objects
from tests.kubernetes.apiserver.storage import Storage
from tests.kubernetes.apiserver.writing import How, Writer, Written

_MERGES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
_VERBS = ("get", "create", "update", "patch", "delete")
_OPTIONS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions", "delete": "DeleteOptions"}
_APPLIES = ("application/apply-patch+yaml", "application/apply-patch+json")


class Sent(NamedTuple):
    """What came with a request."""

    query: Mapping[str, str]
    media: str
    agent: str
    body: bytes


class Done(NamedTuple):
    """The status and body of an answer (JSON where it is bytes), and what is warned of."""

    status: int
    value: Any
    warnings: list[str]


def do(
    storage: Storage, writer: Writer, kind: Kind, asked: Asked, sent: Sent, check_may_create: Callable[[], None]
) -> Done:
    """Do it. ``check_may_create`` raises where an apply is not allowed to make what is not there."""
    key = (asked.namespace, asked.name)
    if asked.subresource and not (asked.subresource == "status" and kind.status):
        raise no_such_resource()
    if asked.verb == "list":
        return Done(200, list_objects(storage, kind, asked.namespace, sent.query), [])
    at_collection = not asked.name
    if asked.verb not in _VERBS or at_collection is not (asked.verb == "create"):
        raise not_allowed()
    if kind.namespaced and not asked.namespace:
        raise not_allowed() if at_collection else no_such_resource()
    if asked.verb == "get":
        held = storage.get(kind, key)
        if held is None:
            raise not_found(kind.resource, kind.group, asked.name)
        return Done(200, {"kind": kind.kind, "apiVersion": kind.api_version, **held.value}, [])
    how = _how(asked, sent)
    if asked.verb == "delete":
        options = _parsed(sent.body) if sent.body else {}
        return Done(200, writer.delete(kind, key, options.get("preconditions") or {}, how.dry), [])
    if asked.verb == "create":
        written = writer.create(kind, asked.namespace, _parsed(sent.body), how)
    elif asked.verb == "update":
        written = writer.update(kind, key, _parsed(sent.body), how)
    else:
        if sent.media in _APPLIES and storage.get(kind, key) is None:
            check_may_create()
        written = _patched(writer, kind, asked, sent, how)
    return Done(201 if written.created else 200, written.value, written.warnings)


def _patched(writer: Writer, kind: Kind, asked: Asked, sent: Sent, how: How) -> Written:
    key = (asked.namespace, asked.name)
    if sent.media in _MERGES:
        return writer.merge(kind, key, _parsed(sent.body), how, strategic="strategic" in sent.media)
    if sent.media not in _APPLIES:
        raise Refusal(415, "UnsupportedMediaType", "415: Unsupported Media Type", details={})
    if not sent.query.get("fieldManager"):
        cause = required("fieldManager", "is required for apply patch")
        raise unprocessable("PatchOptions", "meta.k8s.io", "", [cause])
    return writer.apply(kind, key, _parsed(sent.body, yaml_too=True), how)


def _how(asked: Asked, sent: Sent) -> How:
    query = sent.query
    kind = _OPTIONS[asked.verb]
    validation = query.get("fieldValidation", "") or "Warn"
    if validation not in ("Ignore", "Strict", "Warn"):
        raise options_refused(kind, [unsupported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn"))])
    dry = query.get("dryRun", "")
    if dry not in ("", "All"):
        raise options_refused(kind, [unsupported("dryRun", [dry], ("All",))])
    agent = sent.agent.split("/")[0].split(" ")[0]
    return How(
        manager=query.get("fieldManager", "") or agent or "unknown",
        subresource=asked.subresource,
        dry=dry == "All",
        validation=validation,
        force=query.get("force") in ("1", "true"),
    )


def _parsed(body: bytes, *, yaml_too: bool = False) -> dict[str, Any]:
    try:
        value = yaml.safe_load(body) if yaml_too else json.loads(body)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"error decoding request body: {error}") from None
    if not isinstance(value, dict):
        raise bad_request("the object provided is unrecognized (must be of type object)")
    return value
