"""From the bytes of an answer to documents: lists in pages, and the events of a watch.

A page is cut into its items, and each of these is decoded by itself: one that cannot be hides no other. Nearly all
Services and EndpointSlices are decoded into just the fields that they may have (``kube.typed``), without their
managedFields; the others become documents, in which whoever reads them finds what is the matter.
Source: meta/v1 ListMeta, Status and WatchEvent of the Kubernetes API.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from msgspec import Struct, field

from nodeport_nft.kube.typed import Document, decode
from nodeport_nft.store.errors import StoreError

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""The annotation of the bookmark that ends what there was when a watch began."""


class Garbled(StoreError):
    """An answer that is none of an API server's; where it was a watch, what it would have told is missed."""


class _ListMeta(msgspec.Struct):
    resource_version: str = msgspec.field(default="", name="resourceVersion")
    token: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    kind: str
    metadata: _ListMeta
    items: list[msgspec.Raw] | None
    """Always there, though it may be null: what has none is no list, and no cluster without objects."""


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Names(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = msgspec.field(default="", name="resourceVersion")
    annotations: dict[str, str] | None = None


class _Named(msgspec.Struct):
    metadata: _Names


class _Status(msgspec.Struct):
    code: int = 0


_LIST = msgspec.json.Decoder(_List)
_EVENT = msgspec.json.Decoder(_Event)
_NAMED = msgspec.json.Decoder(_Named)
_STATUS = msgspec.json.Decoder(_Status)
_ANY = msgspec.json.Decoder()
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Item(Struct, frozen=True):
    """An object as the server gives it. ``identity`` is another one whenever the object is, also when made anew.

    ``raw`` None: it cannot be decoded for the reason ``why``; ``name`` is "" where not even that can be read. Where
    there is a ``document``, nobody has tried: ``untyped`` does.
    """

    namespace: str
    name: str
    identity: str
    raw: dict[str, Any] | None
    why: str = ""
    document: Document | None = None
    body: msgspec.Raw = field(default_factory=msgspec.Raw)

    def untyped(self) -> Item:
        """The same with all that it says."""
        return self if self.document is None else read_item(self.body)


class Page(Struct, frozen=True):
    """A part of a list: at which ``revision``, and the ``token`` to go on with, "" for the last one."""

    revision: str
    token: str
    items: tuple[msgspec.Raw, ...]


class Event(Struct, frozen=True):
    """One event of a watch: ``type`` ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and its object, not decoded yet."""

    type: str
    body: msgspec.Raw


def read_page(body: bytes) -> Page:
    """Raises Garbled."""
    try:
        found = _LIST.decode(body)
    except _FAULTS as error:
        raise Garbled(f"it answers with what is not a list: {_shown(body)} ({error})") from None
    # A Status, or a proxy's own word, has no items either; that is no reason to take every rule away.
    if not (found.kind.endswith("List") and found.metadata.resource_version):
        raise Garbled(f"it answers with what is not a list: {_shown(body)}")
    return Page(found.metadata.resource_version, found.metadata.token, tuple(found.items or ()))


def read_event(line: bytes) -> Event:
    """Raises Garbled."""
    try:
        found = _EVENT.decode(line)
    except _FAULTS as error:
        raise Garbled(f"its watch tells what is not an event: {_shown(line)} ({error})") from None
    return Event(found.type, found.object)


def read_bookmark(event: Event) -> tuple[str, bool]:
    """Up to which revision a watch has told everything, and whether that is all there was at its begin."""
    try:
        metadata = _NAMED.decode(event.body).metadata
    except _FAULTS as error:
        raise Garbled(f"its watch tells what is not a bookmark: {error}") from None
    if not metadata.resource_version:
        raise Garbled("its watch tells of a bookmark of no revision")
    return metadata.resource_version, INITIAL_EVENTS_END in (metadata.annotations or {})


def read_code(event: Event) -> int:
    """The code of an ERROR event, 500 where it says none."""
    try:
        return _STATUS.decode(event.body).code or 500
    except _FAULTS as error:
        raise Garbled(f"its watch ends with what is not a status: {error}") from None


def read_item(body: msgspec.Raw, kind: str = "") -> Item:
    """An object; what is wrong with it is in the ``Item``. ``kind``: that of its list, to decode it as such."""
    if (typed := decode(kind, body)) is not None and typed.metadata.name:
        metadata = typed.metadata
        identity = f"{metadata.uid} {metadata.resource_version}"
        return Item(sys.intern(metadata.namespace), metadata.name, identity, None, document=typed, body=body)
    raw, why = None, ""
    try:
        document = _ANY.decode(body)
        if isinstance(document, dict):
            raw = document
        else:
            why = "its body is not a mapping"
    except _FAULTS as error:
        why = f"its body is not JSON: {error}"
    try:
        # Out of the document where there is one: its texts are then the same, and kept once.
        names = (_NAMED.decode(body) if raw is None else msgspec.convert(raw, _Named)).metadata
    except _FAULTS:
        names = _Names()
        why = why or "it has no name"
    if not names.name:
        return Item("", "", "", None, why or "it has no name")
    # Of very many objects each names its namespace: one text for all of them.
    return Item(sys.intern(names.namespace), names.name, f"{names.uid} {names.resource_version}", raw, why)


def revision_of(item: Item) -> str:
    """At which revision the object was written, as its own metadata says."""
    return item.identity.rpartition(" ")[2]


def _shown(body: bytes) -> str:
    return repr(body[:60])
