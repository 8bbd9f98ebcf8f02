"""Fields of stored objects that mean nothing: put there with --validate=ignore, by an older version, or by hand.

What is applied is looked at before it is stored; what is stored already must not pass in silence either, since a slip
in ``loadBalancerSourceRanges`` lets everybody in. It costs about a tenth of what parsing the object does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodeport_nft.kinds import KINDS
from nodeport_nft.kube.annotations import note_unknown
from nodeport_nft.kube.fields import Fields
from nodeport_nft.kube.unknown import note_unknown_fields
from nodeport_nft.model import Ref
from nodeport_nft.problems import Tally, field_text, texts
from nodeport_nft.terminal import printable


def strange_fields(kind: str, raw: dict[str, Any]) -> tuple[str, ...]:
    """A warning for each unknown field, annotation or label of a stored object of this kind, with the remedy."""
    if kind not in KINDS:
        return ()
    fields = Fields()
    note_unknown_fields(raw, kind, fields, otherwise="apply it again without")
    metadata = raw.get("metadata")
    if isinstance(metadata, dict):
        note_unknown(_texts(metadata.get("labels")), _texts(metadata.get("annotations")), kind, fields)
    return tuple(f"{field_text(path)}: {text}" if path else text for path, text in fields.unknown)


def told_strange(strange: Mapping[Ref, tuple[str, ...]], path: object) -> tuple[str, ...]:
    """What an operator is told of them, with the store's path; from some number on, those of a kind are counted."""
    tally: Tally[str] = Tally()
    for ref in sorted(strange):
        for text in strange[ref]:
            # By the text alone: a thousand objects with the same slip are one thing to tell.
            tally.add("", text, f"{printable(str(ref))} in {path}: {text}")
    return texts(tally)


def _texts(mapping: Any) -> dict[str, str]:
    """The labels or annotations of an object; those of another type are the parser's to tell."""
    if not isinstance(mapping, dict):
        return {}
    return {key: value for key, value in mapping.items() if isinstance(value, str)}
