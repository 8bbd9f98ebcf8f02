"""What an API server answers → objects: lists in pages, single ones, and what they are parsed into."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube import Object, parse_object
from nodeport_nft.model import SERVICE_CIDR, Ref, Value
from nodeport_nft.store.errors import StoreError
from nodeport_nft.store.kubernetes.cidrs import parse_service_cidr
from nodeport_nft.store.kubernetes.client import Answer, Client
from nodeport_nft.store.kubernetes.errors import Refused

PAGE = 500
"""How many objects of a list come in one answer, as kubectl has it."""

_MOST_STARTS = 5
"""How often a list is begun: the pages of one that takes too long are of a moment that the server has forgotten."""

_GONE = 410


def object_path(ref: Ref) -> str:
    """Where an object is; whatever its name has in it leads nowhere else."""
    return BY_KIND[ref.kind].path(quote(ref.namespace, safe=""), quote(ref.name, safe=""))


def list_path(kind: str, namespace: str | None) -> str:
    """Where the objects of a kind are, all of them or those of a namespace."""
    return BY_KIND[kind].path(None if namespace is None else quote(namespace, safe=""))


def can_be_named(ref: Ref) -> bool:
    """Whether an API server can have an object of this name: some that cannot be would be another path."""
    parts = (ref.name, ref.namespace) if BY_KIND[ref.kind].namespaced else (ref.name,)
    return all(part not in ("", ".", "..") and "/" not in part and "%" not in part for part in parts)


def document(answer: Answer, where: object) -> dict[str, Any]:
    """The object that is answered. Raises StoreError where it is none, as with the page of a proxy."""
    found = _decoded(answer)
    metadata = found.get("metadata")
    if not (isinstance(metadata, dict) and isinstance(metadata.get("name"), str)):
        raise _no_server(answer, where, "no object")
    return found


def _page(answer: Answer, where: object) -> tuple[list[dict[str, Any]], str]:
    """The items of a part of a list, and the token to go on with. Raises StoreError where it is none.

    A Status, or a proxy's own word, has no items either; that does not mean that there are none.
    """
    found = _decoded(answer)
    metadata, items = found.get("metadata"), found.get("items") or []
    is_list = str(found.get("kind")).endswith("List") and isinstance(items, list)
    if not (is_list and isinstance(metadata, dict) and metadata.get("resourceVersion")):
        raise _no_server(answer, where, "no list")
    return [each for each in items if isinstance(each, dict)], str(metadata.get("continue") or "")


def _decoded(answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _no_server(answer: Answer, where: object, what: str) -> StoreError:
    return StoreError(
        f"{where}: what answers is not an API server: {answer.body[:60]!r} is {what} of one; see which server the "
        "kubeconfig names, and whether a proxy stands before it"
    )


async def list_items(client: Client, path: str, query: Mapping[str, str], where: object) -> list[dict[str, Any]]:
    """The items of a list, of one moment. Raises Refused, Unreachable and StoreError."""
    for start in range(_MOST_STARTS):
        items: list[dict[str, Any]] = []
        token = ""
        try:
            while True:
                more = {"continue": token} if token else {}
                answer = await client.request("GET", path, {**query, "limit": str(PAGE), **more})
                found, following = _page(answer, where)
                items += found
                if following and following == token:
                    raise _no_server(answer, where, "the same part of a list twice, and so no list")
                token = following
                if not token:
                    return items
        except Refused as refused:
            if refused.code != _GONE or not token or start + 1 == _MOST_STARTS:
                raise
    raise AssertionError("the last start returns or raises")


def object_of(kind: str, item: Mapping[str, Any]) -> Object:
    """An object as the server gives it, not parsed; in lists they do not say their kind."""
    resource = BY_KIND[kind]
    metadata = item.get("metadata")
    texts = (
        {name: text for name, text in metadata.items() if isinstance(text, str)} if isinstance(metadata, dict) else {}
    )
    namespace = texts.get("namespace", "") if resource.namespaced else ""
    raw = {**item, "apiVersion": resource.api_version, "kind": kind}
    return Object(Ref(kind, namespace, texts.get("name", "")), raw, version=texts.get("resourceVersion", ""))


class Item(NamedTuple):
    """An object of an answer: which it is, what it is parsed into, and what is to be told of it."""

    ref: Ref
    values: tuple[Value, ...]
    notes: tuple[str, ...] = ()


def parse_item(kind: str, raw: Mapping[str, Any]) -> Item:
    """What an item of a list or a watch is made into: leniently, since the server has validated it.

    Raises Problems where it is not certain which object it is.
    """
    if kind == SERVICE_CIDR:
        cidr, problems = parse_service_cidr(dict(raw))
        return Item(cidr.ref, (cidr,), tuple(f"{each.field}: {each.message}" for each in problems))
    whole = {**raw, "apiVersion": BY_KIND[kind].api_version, "kind": kind}
    made = parse_object(whole, lenient=True)
    notes = (": ".join(filter(None, (each.field, each.message))) for each in made.notes)
    return Item(made.ref, made.values, tuple(notes))
