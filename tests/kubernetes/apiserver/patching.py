"""Merge patches."""

from __future__ import annotations

import copy
from typing import Any

_KEYS: dict[tuple[str, tuple[str, ...]], str] = {
    ("Service", ("spec", "ports")): "port",
    ("Service", ("status", "conditions")): "type",
    ("Node", ("status", "addresses")): "type",
    ("Node", ("status", "conditions")): "type",
    ("Pod", ("spec", "containers")): "name",
    ("Pod", ("status", "conditions")): "type",
    ("ServiceCIDR", ("status", "conditions")): "type",
}
"""Lists whose items a strategic merge knows by one of their fields."""


def merged(kind: str, old: Any, patch: Any, place: tuple[str, ...] = ()) -> Any:
    """A value with a patch laid over it (RFC 7386), and with lists that have a key merged for a ``kind``."""
    key = _KEYS.get((kind, place))
    if key and isinstance(old, list) and isinstance(patch, list):
        return _merged_lists(kind, old, patch, place, key)
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(kind, result.get(name), value, (*place, name))
    return result


def _merged_lists(kind: str, old: list[Any], patch: list[Any], place: tuple[str, ...], key: str) -> list[Any]:
    held = {item.get(key): item for item in old}
    fresh: list[Any] = []
    for item in patch:
        name = item.get(key)
        if item.get("$patch") == "delete":
            held.pop(name, None)
        elif name in held:
            held[name] = merged(kind, held[name], item, (*place, ""))
        else:
            fresh.append(copy.deepcopy(item))
    return [*fresh, *held.values()]
