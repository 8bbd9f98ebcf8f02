"""Lists: whole or in pages, of now or of a revision."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from tests.kubernetes.apiserver.answers import (
    Cause,
    bad_request,
    expired,
    forbidden_field,
    invalid,
    options_refused,
    too_large,
    unsupported,
)
from tests.kubernetes.apiserver.kinds import Kind
from tests.kubernetes.apiserver.selectors import selected
from tests.kubernetes.apiserver.storage import Storage, Stored, order

_GONE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


def list_objects(storage: Storage, kind: Kind, namespace: str, query: Mapping[str, str]) -> bytes:
    """The body of a list's answer."""
    matches = selected(query, kind)
    limit = number(query, "limit")
    _check_options(query)
    start = ""
    if token := query.get("continue", ""):
        revision, start = _read_token(token)
        if revision > 0 and revision < storage.compacted:
            raise expired(_GONE, _token(-1, start.removeprefix("/")))
        start = start if start.startswith("/") else f"/{start}"
        if revision < 0:
            revision = storage.revision
    else:
        revision, limit = _revision(storage, query, limit)
    chosen = storage.all(kind) if revision == storage.revision else storage.at(kind, revision)
    found = sorted((order(key), stored) for key, stored in chosen.items() if not namespace or key[0] == namespace)
    page: list[Stored] = []
    metadata: dict[str, Any] = {"resourceVersion": str(revision)}
    for index, (place, stored) in enumerate(found):
        if place < start or (matches is not None and not matches(stored.value)):
            continue
        page.append(stored)
        if limit and len(page) == limit:
            rest = len(found) - index - 1
            if matches is not None:
                rest = sum(matches(other.value) for _, other in found[index + 1 :])
            if rest:
                metadata["continue"] = _token(revision, f"{place}\0")
                if matches is None:
                    metadata["remainingItemCount"] = rest
            break
    head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata}
    begin = json.dumps(head, separators=(",", ":")).encode()
    return begin[:-1] + b',"items":[' + b",".join(stored.encoded for stored in page) + b"]}"


def _revision(storage: Storage, query: Mapping[str, str], limit: int) -> tuple[int, int]:
    """The revision that a list is of, and its limit, which does not count where it may be of any."""
    wanted, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    revision = number(query, "resourceVersion")
    if match == "Exact":
        if revision > storage.revision:
            raise too_large(revision, storage.revision)
        if revision < storage.compacted:
            raise expired("The resourceVersion for the provided list is too old.")
        return revision, limit
    if revision > storage.revision:
        raise too_large(revision, storage.revision)
    # What may be of any age comes out of the watch cache, which does not make pages.
    return storage.revision, 0 if wanted == "0" else limit


def _check_options(query: Mapping[str, str]) -> None:
    wanted, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    causes: list[Cause] = []
    if match:
        if query.get("continue"):
            why = "resourceVersionMatch is forbidden when continue is provided"
            causes.append(forbidden_field("resourceVersionMatch", why))
        if not wanted:
            why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            causes.append(forbidden_field("resourceVersionMatch", why))
        if match not in ("Exact", "NotOlderThan"):
            causes.append(unsupported("resourceVersionMatch", match, ("Exact", "NotOlderThan", "")))
        elif match == "Exact" and wanted == "0":
            why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            causes.append(forbidden_field("resourceVersionMatch", why))
    if query.get("continue") and wanted not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    if causes:
        raise options_refused("ListOptions", causes)


def number(query: Mapping[str, str], name: str) -> int:
    """A number out of a query; 0 where it is absent."""
    text = query.get(name, "")
    if text and not text.isdecimal():
        if name == "resourceVersion":
            cause = invalid(name, text, f'strconv.ParseUint: parsing "{text}": invalid syntax')
            raise bad_request(f"invalid resource version: {name}: {cause.message}")
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if (found := int(text or 0)) >> 64:
        cause = invalid(name, text, f'strconv.ParseUint: parsing "{text}": value out of range')
        raise bad_request(f"invalid resource version: {name}: {cause.message}")
    return found


def _token(revision: int, start: str) -> str:
    value = {"v": "meta.k8s.io/v1", "rv": revision, "start": start}
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()


def _read_token(token: str) -> tuple[int, str]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        raise bad_request("invalid continue token: continue key is not valid: illegal base64 data") from None
    try:
        value = json.loads(raw)
        return value["rv"], value["start"]
    except (ValueError, KeyError, TypeError):
        first = repr(chr(raw[0])) if raw else "end of input"
        why = f"invalid character {first} looking for beginning of value"
        raise bad_request(f"invalid continue token: continue key is not valid: {why}") from None
