"""What a patch makes of an object's document: JSON Merge Patch (RFC 7396), and Kubernetes' strategic merge patch.

The second is kubectl's default. It merges some lists item by item, told by a key of theirs: ports of a Service by
``port``. Which lists these are is a part of the API's types (``patchStrategy`` and ``patchMergeKey`` in k8s.io/api,
core/v1/types.go, of July 2026), and stands in the tables below; all other lists are replaced as a whole. Neither
changes what it is given. Source: the Kubernetes documentation, "Update API Objects in Place Using kubectl patch", and
the community's "Strategic Merge Patch" (contributors/devel/sig-api-machinery).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nodeport_nft.kube.unknown import types_of_fields
from nodeport_nft.problems import Path, clipped, field_text

_CONTAINER = {"ports": "containerPort", "env": "name", "volumeMounts": "mountPath", "volumeDevices": "devicePath"}
MERGE_KEYS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "V1ObjectMeta": {"ownerReferences": "uid"},
        "V1ServiceSpec": {"ports": "port"},
        "V1ServiceStatus": {"conditions": "type"},
        "V1NodeStatus": {"addresses": "type", "conditions": "type"},
        "V1PodSpec": {
            **dict.fromkeys(("containers", "initContainers", "ephemeralContainers", "volumes"), "name"),
            **dict.fromkeys(("imagePullSecrets", "resourceClaims", "schedulingGates", "evictionResponders"), "name"),
            "hostAliases": "ip",
            "topologySpreadConstraints": "topologyKey",
        },
        "V1PodStatus": {
            "conditions": "type",
            **dict.fromkeys(("hostIPs", "podIPs"), "ip"),
            "resourceClaimStatuses": "name",
            "nodeAllocatableResourceClaimStatuses": "resourceClaimName",
        },
        "V1ContainerStatus": {"volumeMounts": "mountPath", "allocatedResourcesStatus": "name"},
        "V1PodVolumeHealth": {"healthConditions": "status"},
        "V1NodeAllocatableResourceClaimStatus": {"mapping": "name", "overhead": "name"},
        "V1Container": _CONTAINER,
        "V1EphemeralContainer": _CONTAINER,
    }
)
"""By the type of the object that has the list and the list's name: the field that tells its items."""

MERGED_VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"V1ObjectMeta": ("finalizers",), "V1NodeSpec": ("podCIDRs",)}
)
"""Lists of plain values that are merged as well."""

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_VALUES = "$deleteFromPrimitiveList/"
_REFUSED = "is a directive that is not known here; write $patch: delete or $patch: replace, or --type=merge"


class PatchError(ValueError):
    """A patch that cannot be meant so; the message names the field, and says what to write."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(f"{clipped(field_text(path))}: {text}" if path else text)


def merge_patch(value: Any, patch: Any) -> Any:
    """What a JSON Merge Patch makes of a value: null takes away, mappings are merged, all else is replaced."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), change)
    return merged


def strategic_merge(kind: str, document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """What a strategic merge patch makes of an object of ``kind``. Raises PatchError."""
    kinds, types = types_of_fields()
    return _Merging(types).mapping(document, patch, kinds[kind], ())


class _Merging:
    """One merge; ``types``: the fields of each type with their types (``kube.unknown``)."""

    def __init__(self, types: Mapping[str, Mapping[str, str]]) -> None:
        self._types = types

    def mapping(self, value: Any, patch: dict[str, Any], kind: str, path: Path) -> dict[str, Any]:
        """``value`` is whatever is there so far; what is no mapping is replaced by one."""
        merged = dict(value) if isinstance(value, dict) else {}
        if _PATCH in patch:
            return self._told(patch, path)
        if _RETAIN in patch:
            merged = self._retained(merged, patch, path)
        for key, change in patch.items():
            if key.startswith(_DELETE_VALUES):
                name = key.removeprefix(_DELETE_VALUES)
                left = _without(merged.get(name), change, (*path, key))
                merged |= {name: left} if name in merged else {}
            elif key.startswith("$") and key != _RETAIN:
                raise PatchError((*path, key), _REFUSED)
        for key, change in patch.items():
            if key.startswith("$"):
                continue
            if change is None or _empties_nothing(merged.get(key), change):
                merged.pop(key, None)
            else:
                merged[key] = self._field(merged.get(key), change, kind, key, path)
        return merged

    def _field(self, value: Any, change: Any, kind: str, key: str, path: Path) -> Any:
        inner = self._types.get(kind, {}).get(key, "").strip("[]")
        if isinstance(change, dict):
            return self.mapping(value, change, inner, (*path, key))
        if not isinstance(change, list):
            return change
        stored = value if isinstance(value, list) else []
        if merge_key := MERGE_KEYS.get(kind, {}).get(key):
            return self._items(stored, change, merge_key, inner, (*path, key))
        _refuse_directives(change, (*path, key))
        if key in MERGED_VALUES.get(kind, ()):
            return _ordered(stored, change, lambda item: (str(type(item)), str(item)))
        return change

    def _told(self, patch: dict[str, Any], path: Path) -> dict[str, Any]:
        """A mapping of which the patch says by a word what becomes of it."""
        if patch[_PATCH] == "delete":
            return {}
        if patch[_PATCH] != "replace":
            raise PatchError((*path, _PATCH), f"{patch[_PATCH]!r} is not known here; write delete or replace")
        rest = {key: each for key, each in patch.items() if key != _PATCH}
        _refuse_directives(rest, path)
        return rest

    def _retained(self, value: dict[str, Any], patch: dict[str, Any], path: Path) -> dict[str, Any]:
        """What is there without the keys that the patch does not keep."""
        kept = patch[_RETAIN]
        if not isinstance(kept, list):
            raise PatchError((*path, _RETAIN), "is not a list; write the names of the fields that stay")
        for key in patch:
            if not key.startswith("$") and key not in kept and patch[key] is not None:
                raise PatchError((*path, key), f"is not among {_RETAIN}; add it there, or leave it out")
        return {key: each for key, each in value.items() if key in kept}

    def _items(self, stored: list[Any], patch: list[Any], key: str, kind: str, path: Path) -> list[Any]:
        """A list that is merged item by item."""
        for number, item in enumerate(patch):
            if not isinstance(item, dict):
                raise PatchError((*path, number), "is not a mapping; its items are")
            if item.get(_PATCH) not in (None, "delete", "replace"):
                raise PatchError(
                    (*path, number, _PATCH), f"{item[_PATCH]!r} is not known here; write delete or replace"
                )
        if any(item.get(_PATCH) == "replace" for item in patch):
            rest = [item for item in patch if item.get(_PATCH) is None]
            _refuse_directives(rest, path)
            return rest
        for number, item in enumerate(patch):
            if item.get(key) is None:
                raise PatchError((*path, number), f"has no {key}, which tells the items of this list; add it")
        gone = [item[key] for item in patch if item.get(_PATCH) == "delete"]
        left = [item for item in stored if not (isinstance(item, dict) and item.get(key) in gone)]
        changes = [(number, item) for number, item in enumerate(patch) if _PATCH not in item]
        merged: list[Any] = list(left)
        for number, item in changes:
            at = next((at for at, one in enumerate(merged) if _key_of(one, key) == item[key]), None)
            done = self.mapping({} if at is None else merged[at], item, kind, (*path, number))
            if at is None:
                merged.append(done)
            else:
                merged[at] = done
        return _placed(merged, [item[key] for _, item in changes], len(left), lambda one: _key_of(one, key))


def _empties_nothing(value: Any, change: Any) -> bool:
    """Whether a patch would empty a mapping that is not there."""
    return isinstance(change, dict) and change.get(_PATCH) == "delete" and not isinstance(value, dict)


def _key_of(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else None


def _ordered(stored: list[Any], patch: list[Any], key: Callable[[Any], Hashable]) -> list[Any]:
    """Plain values, each once, in the order of ``_placed``."""
    known = {key(item) for item in stored}
    new = {key(item): item for item in patch if key(item) not in known}
    return _placed([*stored, *new.values()], [key(item) for item in patch], len(stored), key)


def _placed(merged: Sequence[Any], named: Sequence[Any], count: int, key: Callable[[Any], Any]) -> list[Any]:
    """``merged`` in the order that the API server gives: what a patch names in the patch's order, all else as it was.

    The first ``count`` were there before. One of these that the patch does not name comes before one that it names
    only where it has stood before it; what is new comes as early as may be.
    """
    before = [key(item) for item in merged[:count]]
    theirs = sorted((one for one in merged if key(one) in named), key=lambda one: named.index(key(one)))
    others = [at for at, one in enumerate(merged) if key(one) not in named]
    placed: list[Any] = []
    for one in theirs:
        while others and key(one) in before and others[0] < before.index(key(one)):
            placed.append(merged[others.pop(0)])
        placed.append(one)
    return [*placed, *(merged[at] for at in others)]


def _without(stored: Any, gone: Any, path: Path) -> list[Any]:
    if not isinstance(gone, list):
        raise PatchError(path, "is not a list; write the values that are to go")
    return [item for item in (stored if isinstance(stored, list) else []) if item not in gone]


def _refuse_directives(value: Any, path: Path) -> None:
    """Raises PatchError for a directive inside of what is taken as a whole, where it would be stored."""
    for where in _directives(value, path):
        raise PatchError(where, "is a directive inside of what is taken as a whole; leave it out")


def _directives(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict):
        yield from ((*path, key) for key in value if key.startswith("$"))
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _directives(each, (*path, key))
