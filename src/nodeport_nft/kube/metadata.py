"""``metadata``, which every object has: its name, its namespace, its labels, its annotations and its times."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from nodeport_nft.kinds import is_namespaced
from nodeport_nft.kube.annotations import note_unknown
from nodeport_nft.kube.fields import Fields
from nodeport_nft.notation import label_fault, subdomain_fault
from nodeport_nft.problems import Path, shown

_METADATA: Path = ("metadata",)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class Metadata(Struct, frozen=True):
    """ObjectMeta, as far as it is used. ``created`` is RFC 3339 in UTC, in seconds, or ""."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    created: str
    deleted: bool


def parse_metadata(raw: dict[str, Any], kind: str, namespace: str, fields: Fields) -> Metadata:
    """``metadata`` of an object of ``kind``; ``namespace`` is for objects that name none, Nodes never have one."""
    metadata = fields.mapping(raw, (), "metadata")
    name = _name(raw, metadata, fields)
    if name:
        fields.refuse((*_METADATA, "name"), _name_fault(name, kind, fields))
    namespace = _namespace(metadata, kind, namespace, fields)
    if is_namespaced(kind):
        fields.refuse((*_METADATA, "namespace"), label_fault(namespace))
    labels = fields.labels(metadata, _METADATA, "labels")
    annotations = fields.labels(metadata, _METADATA, "annotations")
    note_unknown(labels, annotations, kind, fields)
    return Metadata(
        sys.intern(namespace),  # a few of them, in very many objects
        name,
        labels,
        annotations,
        created=sys.intern(_time(fields, metadata, "creationTimestamp")),
        deleted=bool(_time(fields, metadata, "deletionTimestamp")),
    )


def parse_name(raw: dict[str, Any], kind: str, namespace: str, fields: Fields) -> tuple[str, str]:
    """Namespace and name of an object, whatever they look like and whatever else it says; "" for a name it lacks."""
    metadata = fields.mapping(raw, (), "metadata")
    name = _name(raw, metadata, fields)
    return _namespace(metadata, kind, namespace, fields), name


def _name(raw: dict[str, Any], metadata: dict[str, Any], fields: Fields) -> str:
    name = fields.text(metadata, _METADATA, "name")
    if not name and metadata.get("name") in (None, "") and isinstance(raw.get("metadata"), dict | None):
        fields.refuse((*_METADATA, "name"), "is missing; name the object")
    return name


def _name_fault(name: str, kind: str, fields: Fields) -> str:
    """What is wrong with a name; rules for Services have been other ones, and may be, but not in what is a letter."""
    return label_fault(name) if kind == "Service" and not fields.lenient else subdomain_fault(name)


def _namespace(metadata: dict[str, Any], kind: str, namespace: str, fields: Fields) -> str:
    own = fields.text(metadata, _METADATA, "namespace")
    return own or namespace if is_namespaced(kind) else ""


def _time(fields: Fields, metadata: dict[str, Any], key: str) -> str:
    """An RFC 3339 time, in UTC and cut to seconds so that times can be compared as text; "" if absent."""
    text = fields.text(metadata, _METADATA, key)
    if not text and not (fields.incoming and metadata.get(key) == ""):
        return ""
    time = utc_time(text)
    if time is None:
        fields.problem((*_METADATA, key), f"{shown(text)} is not an RFC 3339 time; write 2026-01-31T12:00:00Z")
        return ""
    return time


def utc_time(text: str) -> str | None:
    """The RFC 3339 time in UTC and cut to seconds; None if it is none."""
    if not _TIME.fullmatch(text):
        return None
    with suppress(ValueError, OverflowError):  # no such day; a time zone that leads out of the year 1 or 9999
        time = datetime.fromisoformat(text).astimezone(UTC)
        return time.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    return None
