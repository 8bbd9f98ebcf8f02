"""What is read out of a store: objects as documents, and all of them as a Snapshot of the model.

Disks, editors and other programs damage what is stored. An object that cannot be read is told (``Damaged``) and hides
no other: whoever acts on the objects must know that there is one more, of which nothing is known but its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from nodeport_nft.json_values import MAX_DEPTH, finite, too_deep
from nodeport_nft.kinds import KINDS, is_namespaced
from nodeport_nft.kube import Object, parse_object
from nodeport_nft.model import (
    EndpointSlice,
    Member,
    Node,
    Pod,
    ProbeFailure,
    Ref,
    Service,
    ServiceCIDR,
    Snapshot,
    Value,
)
from nodeport_nft.problems import Problems, clipped
from nodeport_nft.terminal import printable


class _Unreadable(Exception):
    """What is wrong with what is stored of an object."""


class Damaged(Struct, frozen=True):
    """What is stored and is no object, and ``why``.

    ``ref`` is what it is filed under; it may be about any of ``meant``. ``raw`` is its document, if it is one at all.
    """

    ref: Ref
    why: str
    meant: frozenset[Ref]
    raw: dict[str, Any] | None = None

    @property
    def remedy(self) -> str:
        """What can be done with commands of ours; "" where none of them can name it."""
        known = self.ref.kind in KINDS and printable(str(self.ref)) == str(self.ref)
        return "apply it again or delete it" if known else ""

    def complaint(self, path: object) -> str:
        """What an operator is told, with the store's path and the remedy."""
        remedy = self.remedy or "restore the store from a copy, or delete that row"
        return f"{printable(str(self.ref))} in {path} cannot be read: {self.why}; {remedy}"


def with_resource_version(body: dict[str, Any], version: str) -> dict[str, Any]:
    """A stored body as a reader sees it."""
    metadata = body.get("metadata")
    own = metadata if isinstance(metadata, dict) else {}
    return {**body, "metadata": {**own, "resourceVersion": version}}


def read_document(ref: Ref, version: str, body: bytes, fault: str = "") -> Object | Damaged:
    """The object filed under ``ref``, not parsed; ``fault`` is what is wrong with it besides, if anything is."""
    raw: dict[str, Any] | None = None
    try:
        raw = _document(body)
        _check_identity(raw, ref)
    except _Unreadable as error:
        fault = str(error)
    if fault or raw is None:
        return Damaged(ref, fault, frozenset((ref, *_named(raw))), raw)
    return Object(ref, with_resource_version(raw, version), version=version)


def _document(body: bytes) -> dict[str, Any]:
    """A stored body. Raises _Unreadable with what is wrong with it."""
    document: Any
    try:
        document = _PLAIN_JSON.decode(body)
    except _UNFIT:
        document = _told_document(body)
    if not isinstance(document, dict):
        raise _Unreadable("its body is not a mapping")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and too_deep(document):
        raise _Unreadable("its body is nested too deeply")
    if not isinstance(document.get("metadata"), dict):
        raise _Unreadable("its body has no metadata")
    return document


def _told_document(body: bytes) -> Any:
    """As Python's decoder has it, which takes halves of surrogate pairs, too, and has words for what is no JSON."""
    try:
        return _JSON.decode(body.decode())
    except UnicodeDecodeError:
        raise _Unreadable("its body is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise _Unreadable(f"its body is not JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise _Unreadable("its body is nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise _Unreadable(f"its body is not JSON: {clipped(str(error))}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a value of JSON")


_PLAIN_JSON = msgspec.json.Decoder(float_hook=finite)
"""Several times as fast; what it takes, it takes as the other."""

_UNFIT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_JSON = json.JSONDecoder(parse_float=finite, parse_constant=_no_constant)


def _check_identity(raw: dict[str, Any], ref: Ref) -> None:
    metadata = raw["metadata"]
    own = raw.get("kind"), metadata.get("namespace") if is_namespaced(ref.kind) else "", metadata.get("name")
    if own == tuple(ref):
        if ref.kind not in KINDS:
            raise _Unreadable("its kind is not used here")
        return
    named = "/".join(part if isinstance(part, str) else "?" for part in own if part != "")
    raise _Unreadable(f"its body is that of {clipped(named)}")


def _named(raw: dict[str, Any] | None) -> Iterable[Ref]:
    """What a document says that it is, if it does."""
    if raw is None or raw.get("kind") not in KINDS:
        return ()
    namespace = raw["metadata"].get("namespace") if is_namespaced(raw["kind"]) else ""
    name = raw["metadata"].get("name")
    return (Ref(raw["kind"], namespace, name),) if isinstance(namespace, str) and isinstance(name, str) else ()


def parsed(stored: Object) -> tuple[Value, ...] | Damaged:
    """What a stored object is made into, or what is wrong with it."""
    try:
        return parse_object(stored.raw, ranges=None).values
    except Problems as error:
        why = "; ".join(": ".join(filter(None, (each.field, each.message))) for each in error.problems)
        return Damaged(stored.ref, why, frozenset((stored.ref,)), stored.raw)


def made_of(values: Iterable[Value]) -> Snapshot:
    """These values, which come in the order of the store, sorted by namespace and name.

    No ranges are checked: what was given stays good when they change.
    """
    services: list[Service] = []
    slices: list[EndpointSlice] = []
    pods: list[Pod] = []
    nodes: list[Node] = []
    members: list[Member] = []
    probe_failures: list[ProbeFailure] = []
    service_cidrs: list[ServiceCIDR] = []
    for value in values:
        match value:
            case Service():
                services.append(value)
            case EndpointSlice():
                slices.append(value)
            case Pod():
                pods.append(value)
            case Node():
                nodes.append(value)
            case Member():
                members.append(value)
            case ProbeFailure():
                probe_failures.append(value)
            case ServiceCIDR():
                service_cidrs.append(value)
    by_name = attrgetter("namespace", "name")  # slices come from two kinds, the rest is in this order already
    return Snapshot(
        tuple(services),
        tuple(sorted(slices, key=by_name)),
        tuple(pods),
        tuple(nodes),
        tuple(members),
        tuple(probe_failures),
        tuple(service_cidrs),
    )
