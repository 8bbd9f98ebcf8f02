"""Fields that the API does not know. What it knows stands in the project's own table of the API's names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

_EVENT = {
    "apiVersion", "kind", "metadata", "eventTime", "series", "reportingController", "reportingInstance", "action",
    "reason", "regarding", "related", "note", "type", "deprecatedSource", "deprecatedFirstTimestamp",
    "deprecatedLastTimestamp", "deprecatedCount",
}  # fmt: skip
_USUAL = {"apiVersion", "kind", "metadata", "spec", "status"}
_OTHERS = {"Event": _EVENT, "IPAddress": _USUAL, "Namespace": _USUAL, "ServiceCIDR": _USUAL}


@cache
def _table() -> Any:
    return json.loads(files("nodeport_nft.kube").joinpath("api_fields.json").read_text(encoding="utf-8"))


def drop_unknown(kind: str, value: dict[str, Any]) -> list[str]:
    """Take out the fields that there are not; their paths, as the API tells them."""
    if kind in _OTHERS:
        found = [name for name in value if name not in _OTHERS[kind]]
        for name in found:
            del value[name]
        return found
    return list(_drop(value, _table()["kinds"][kind], ""))


def _drop(value: Any, type_: str, path: str) -> Iterator[str]:
    if type_.startswith("["):
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from _drop(item, type_[1:-1], f"{path}[{index}]")
        return
    known = _table()["types"].get(type_)
    if known is None or not isinstance(value, dict):
        return
    for name in list(value):
        here = f"{path}.{name}" if path else name
        if name not in known:
            del value[name]
            yield here
        elif known[name]:
            yield from _drop(value[name], known[name], here)
