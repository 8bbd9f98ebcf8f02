"""Whether a document that names a version (``metadata.resourceVersion``) comes too late: somebody else has written
since it was read.

As with ``kubectl replace``, who names none overwrites what is there; who names one means that one alone. Two things
are other than there:

- A document that brings a ``metadata.uid`` which is not the stored object's is about another object, and so is its
  version: it comes from a Kubernetes cluster (``kubectl get -o yaml``) or from another store, and those are applied
  here as they are, again and again. What was deleted and created anew since it was read cannot be told from that.
- What would change nothing overwrites nothing, however old it is: whoever applies a file twice is not refused.

``delete`` names no version, and manifests that are the whole state (``sync -f``) are what is wanted at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from nodeport_nft.kinds import BY_KIND
from nodeport_nft.kube import Object
from nodeport_nft.model import Ref
from nodeport_nft.problems import Path, clipped, field_text, shown

_NONE = (None, "", "0")  # "0" is that of no object, and the API server takes it for none
_MOST_FIELDS = 5


def superseded(
    raw: Mapping[str, Any], ref: Ref, stored: Mapping[str, Any] | None, version: str, wanted: Mapping[str, Any]
) -> str:
    """Why a document is too late, with the remedy; "" where it is not.

    ``stored`` and ``version`` are what is there (None: nothing is), ``wanted`` what would be there: documents without
    what a server notes of each write.
    """
    read = raw["metadata"].get("resourceVersion")
    uid = raw["metadata"].get("uid")
    if read in _NONE or read == version:
        return ""
    if stored is None:
        if uid:
            return ""
        return (
            f"{shown(read)} is that of an object, and there is none of this name: it was deleted since; leave "
            "resourceVersion out to create it anew"
        )
    if uid and uid != stored["metadata"].get("uid"):
        return ""
    if not isinstance(read, str) and str(read) == version:  # without quotes
        return ""
    fields = [clipped(field_text(path)) for path in _differing(stored, wanted)]
    if not fields:  # only who manages which field would be another
        return ""
    more = f" and {len(fields) - _MOST_FIELDS:,} more" if len(fields) > _MOST_FIELDS else ""
    kind = BY_KIND[ref.kind]
    at = f"{kind.full} {ref.name}{f' -n {ref.namespace}' if kind.namespaced else ''}"
    return (
        f"{shown(read)} was read, and {shown(version)} is stored: somebody has written it since, and it differs in "
        f"{', '.join(fields[:_MOST_FIELDS])}{more}; see it with nodeport-nft get {at} -o yaml and change that, or "
        "leave resourceVersion out to overwrite it"
    )


def without_version(obj: Object) -> Object:
    """The object as of somebody who has read none."""
    metadata = obj.raw["metadata"]
    if "resourceVersion" not in metadata:
        return obj
    rest = {key: value for key, value in metadata.items() if key != "resourceVersion"}
    return replace(obj, raw={**obj.raw, "metadata": rest})


def _differing(one: Any, other: Any, path: Path = ()) -> Iterator[Path]:
    """The paths at which two documents are not the same, as deep as both have them."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            if key in one and key in other:
                yield from _differing(one[key], other[key], (*path, key))
            else:
                yield (*path, key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from _differing(*pair, (*path, number))
    elif one != other:
        yield path
