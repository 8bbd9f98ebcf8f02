"""What is drained stays drained when an object is applied that says nothing of it.

An operator drains a node with a command, and whoever keeps its manifest applies that once more, or a daemon reads it
again: neither means to bring the node back. So the annotation is the command's own, as with kubectl's apply, which
leaves alone what others have written. An empty one takes it away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from nodeport_nft.kube import Object, parse_object
from nodeport_nft.kube.annotations import DRAIN, DRAINABLE
from nodeport_nft.problems import Problems


def still_drained(obj: Object, metadata: Mapping[str, Any]) -> Object:
    """The object, as drained as the one that is stored with ``metadata``, unless it says itself what is drained."""
    if obj.kind not in DRAINABLE:
        return obj
    own = _annotations(obj.raw.get("metadata"))
    if own.get(DRAIN) is not None:
        return obj if own[DRAIN] else _annotated(obj, {key: text for key, text in own.items() if key != DRAIN})
    kept = _annotations(metadata).get(DRAIN)
    if not kept:
        return obj
    drained = _annotated(obj, {**own, DRAIN: kept})
    try:
        return replace(drained, values=parse_object(drained.raw, ranges=None).values)
    except Problems:  # it is damaged, and none of this object's faults
        return obj


def but_for_drain(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stored body with nothing to say of what is drained."""
    metadata = body["metadata"]
    rest = {key: text for key, text in _annotations(metadata).items() if key != DRAIN}
    others = {key: value for key, value in metadata.items() if key != "annotations"}
    return {**body, "metadata": {**others, "annotations": rest}}


def _annotated(obj: Object, annotations: dict[str, Any]) -> Object:
    metadata = {**obj.raw["metadata"], "annotations": annotations}
    if not annotations:
        del metadata["annotations"]
    return replace(obj, raw={**obj.raw, "metadata": metadata})


def _annotations(metadata: object) -> Mapping[str, Any]:
    own = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return own if isinstance(own, Mapping) else {}
