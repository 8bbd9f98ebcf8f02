"""The short way from the bytes of a document to values of the model, for documents in which nothing is the matter.

It knows the same rules as the parsers beside it and none of their words: where a document is not plainly right, it
says nothing (``None``), and ``parse_object`` is asked. What it says is what ``parse_object`` would have said, with
nothing to note and no field unknown (tests/property/test_typed.py holds one against the other). That is so for
Services, EndpointSlices and Pods without annotations of ours, of which there are very many: it takes a tenth of the
time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube.typed import shapes, texts
from nodeport_nft.kube.typed.pods import pod
from nodeport_nft.kube.typed.services import service
from nodeport_nft.kube.typed.slices import endpoint_slice
from nodeport_nft.model import Ref, Value
from nodeport_nft.notation import label_fault, subdomain_fault

Document = shapes.Service | shapes.EndpointSlice | shapes.Pod

_SHAPES: dict[str, type[Document]] = {
    "Service": shapes.Service,
    "EndpointSlice": shapes.EndpointSlice,
    "Pod": shapes.Pod,
}
_DECODERS: dict[str, msgspec.json.Decoder[Document]] = {
    kind: msgspec.json.Decoder(shape) for kind, shape in _SHAPES.items()
}
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UNFIT = (msgspec.ValidationError, UnicodeEncodeError, RecursionError)


def decode(kind: str, body: bytes | msgspec.Raw) -> Document | None:
    """The document, if it is of a kind that is known here, and all its fields are."""
    decoder = _DECODERS.get(kind)
    try:
        return None if decoder is None else decoder.decode(body)
    except _FAULTS:
        return None


def values_of(ref: Ref, document: Document, *, with_selector: bool = True) -> tuple[Value, ...] | None:
    """What the document of this object is made into. Whether it says the same name is the caller's to know."""
    metadata = document.metadata
    namespace, name = sys.intern(ref.namespace), ref.name
    if not (texts.is_label(namespace) and texts.are_foreign(metadata.labels)):
        return None
    if not texts.are_foreign(metadata.annotations):
        return None
    created = texts.time(metadata.creation_timestamp) if metadata.creation_timestamp else ""
    if created is None or (metadata.deletion_timestamp and texts.time(metadata.deletion_timestamp) is None):
        return None
    value: Value | None = None
    match document:
        case shapes.EndpointSlice() if not subdomain_fault(name):
            value = endpoint_slice(document, namespace, name)
        case shapes.Service() if not label_fault(name):
            value = service(document, namespace, name, created, with_selector)
        case shapes.Pod() if not subdomain_fault(name):
            value = pod(document, namespace, name)
    return None if value is None else (value,)


def stored_values(ref: Ref, body: bytes) -> tuple[Value, ...] | None:
    """What a stored body is made into that is filed under ``ref``."""
    return _filed_values(ref, decode(ref.kind, body))


def stored_values_of_each(found: Sequence[tuple[Ref, bytes]]) -> list[tuple[Value, ...] | None]:
    """The same of several: first all of them are decoded (``TOGETHER``)."""
    documents = [decode(ref.kind, body) for ref, body in found]
    return [_filed_values(ref, document) for (ref, _), document in zip(found, documents, strict=True)]


def stored_document_values(ref: Ref, raw: dict[str, Any]) -> tuple[Value, ...] | None:
    """The same of one that is a document already."""
    shape = _SHAPES.get(ref.kind)
    try:
        return None if shape is None else _filed_values(ref, msgspec.convert(raw, shape))
    except _UNFIT:
        return None


def _filed_values(ref: Ref, document: Document | None) -> tuple[Value, ...] | None:
    if document is None:
        return None
    metadata = document.metadata
    if (document.kind, metadata.namespace, metadata.name) != ref:
        return None
    # What was not decoded may hold anything, and in a store that is told.
    if document.api_version != BY_KIND[ref.kind].api_version or metadata.managed_fields is not msgspec.UNSET:
        return None
    return values_of(ref, document)
