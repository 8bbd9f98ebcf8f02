"""How large the parts of an object may be: what the API server takes, and no more.

Checked where objects come in, not where they are read back: what a store has taken once must stay readable. Sources:
ValidateEndpointSlice (k8s.io/kubernetes, pkg/apis/discovery/validation), ValidateAnnotations and ValidateLabels
(k8s.io/apimachinery, pkg/api/validation and pkg/apis/meta/v1/validation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nodeport_nft.kube.fields import Fields, mappings_in
from nodeport_nft.kube.metadata import Metadata
from nodeport_nft.model import Service, Value
from nodeport_nft.notation import label_key_fault, label_value_fault
from nodeport_nft.problems import Path

MAX_ENDPOINTS = 1000
MAX_ADDRESSES = 100
MAX_PORTS = 20_000
MAX_HINTS = 8
MAX_ANNOTATIONS = 256 << 10  # bytes, keys and values of all annotations of an object together

_MOST_TOLD = 10  # faults of the labels of one object
_METADATA: Path = ("metadata",)


def check_limits(raw: dict[str, Any], metadata: Metadata, values: Iterable[Value], fields: Fields) -> None:
    """Note what of an object is larger than the API server would take. ``values`` is what it was made into."""
    _check_labels(metadata.labels, (*_METADATA, "labels"), fields)
    _check_annotations(metadata.annotations, fields)
    for value in values:
        if isinstance(value, Service):
            _check_labels(value.selector, ("spec", "selector"), fields)
    if raw.get("kind") == "EndpointSlice":
        _check_slice(raw, fields)


def _check_labels(labels: Mapping[str, str], path: Path, fields: Fields) -> None:
    faults = [
        ((*path, key), fault)
        for key, value in labels.items()
        if (fault := label_key_fault(key) or label_value_fault(value))
    ]
    for where, fault in faults[:_MOST_TOLD]:
        fields.problem(where, fault)
    if len(faults) > _MOST_TOLD:
        fields.problem(path, f"{len(faults) - _MOST_TOLD} more of them are wrong; correct these first")


def _check_annotations(annotations: Mapping[str, str], fields: Fields) -> None:
    size = sum(len(text.encode(errors="surrogatepass")) for pair in annotations.items() for text in pair)
    if size > MAX_ANNOTATIONS:
        fields.problem(
            (*_METADATA, "annotations"),
            f"have {size} bytes, keys and values together, and may have {MAX_ANNOTATIONS}; shorten them",
        )


def _check_slice(raw: dict[str, Any], fields: Fields) -> None:
    split = "make several slices of it"
    _check_list(raw, (), "ports", MAX_PORTS, split, fields)
    _check_list(raw, (), "endpoints", MAX_ENDPOINTS, split, fields)
    for path, endpoint in mappings_in(raw, (), "endpoints"):
        _check_list(endpoint, path, "addresses", MAX_ADDRESSES, "leave out all but the first, which is used", fields)
        hints = endpoint.get("hints")
        for key in ("forZones", "forNodes"):
            if isinstance(hints, dict):
                _check_list(hints, (*path, "hints"), key, MAX_HINTS, "leave some of them out", fields)


def _check_list(parent: dict[str, Any], path: Path, key: str, most: int, remedy: str, fields: Fields) -> None:
    items = parent.get(key)
    if isinstance(items, list) and len(items) > most:
        fields.problem((*path, key), f"has {len(items)} entries and may have {most}; {remedy}")
