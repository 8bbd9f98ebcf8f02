"""What does not fit the API's types: fields that there are not, and values of a wrong type.

The names come from the project's own table, which is made from the API's OpenAPI document. It knows structs and
lists; which plain value is a number stands here. Only Services and EndpointSlices are looked at as closely as that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

_USUAL = {"apiVersion", "kind", "metadata", "spec", "status"}
_EVENT = {
    *("apiVersion", "kind", "metadata", "eventTime", "series", "reportingController", "reportingInstance", "action"),
    *("reason", "regarding", "related", "note", "type", "deprecatedSource", "deprecatedFirstTimestamp"),
    *("deprecatedLastTimestamp", "deprecatedCount"),
}
_OTHERS = {"Event": _EVENT, "IPAddress": _USUAL, "Namespace": _USUAL, "ServiceCIDR": _USUAL}

_NUMBERS = {"generation", "healthCheckNodePort", "nodePort", "port", "timeoutSeconds"}
_FLAGS = {"allocateLoadBalancerNodePorts", "publishNotReadyAddresses", "ready", "serving", "terminating"}
_MAPS = {"annotations", "deprecatedTopology", "labels", "selector"}
_LISTS = {"addresses", "clusterIPs", "externalIPs", "finalizers", "ipFamilies", "loadBalancerSourceRanges"}
_EITHER = {"targetPort"}
_CHECKED = ("EndpointSlice", "Service")

_GO = {"number": "int32", "either": "int32", "flag": "bool", "text": "string"} | {
    "map": "map[string]string",
    "list": "[]string",
}
_APPLIED = {
    "number": "numeric (int or float), got string",
    "flag": "boolean, got &{%s}",
    "map": "map, got &{%s}",
    "struct": "map, got &{%s}",
    "list": "list, got &{%s}",
    "text": "string, got &value.valueUnstructured{Value:%s}",
}


class Misfit(NamedTuple):
    """A value that is not of its field's type: where it is, in which struct, and what was to be there."""

    path: str
    struct: str
    wanted: str
    inner: str
    value: Any


@cache
def _table() -> Any:
    return json.loads(files("nodeport_nft.kube").joinpath("api_fields.json").read_text(encoding="utf-8"))


def drop_unknown(kind: str, value: dict[str, Any]) -> list[str]:
    """Take out the fields that there are not; their paths, as the API tells them."""
    found = list(_unknown(kind, value))
    for parent, name, _ in found:
        del parent[name]
    return [path for _, _, path in found]


def check_types(kind: str, version: str, value: dict[str, Any]) -> str:
    """What is said of the first value of a wrong type in an object that was sent; "" if there is none."""
    for misfit in _misfits(kind, value):
        go = _GO.get(misfit.wanted) or f"{'[]' if misfit.wanted == 'structs' else ''}v1.{_short(misfit.inner)}"
        path = re.sub(r"\[\d+\]", "", misfit.path)
        field = f"Go struct field {misfit.struct}.{path} of type {go}"
        why = f"json: cannot unmarshal {_json_kind(misfit.value)} into {field}"
        return f'{kind} in version "{version}" cannot be handled as a {kind}: {why}'
    return ""


def check_applied(kind: str, value: dict[str, Any]) -> str:
    """What is said of the first thing in an applied object that does not fit its schema; "" if all does."""
    for path in sorted(path for _, _, path in _unknown(kind, value)):
        return f".{path}: field not declared in schema"
    for misfit in _misfits(kind, value):
        wanted = {"structs": "list", "either": "text"}.get(misfit.wanted, misfit.wanted)
        text = _APPLIED[wanted]
        return f".{misfit.path}: expected {text % misfit.value if '%' in text else text}"
    if kind == "Service":
        keys: set[tuple[Any, Any]] = set()
        for port in value.get("spec", {}).get("ports") or ():
            key = (port.get("port"), port.get("protocol", "TCP"))
            if key in keys:
                return f'.spec.ports: duplicate entries for key [port={key[0]},protocol="{key[1]}"]'
            keys.add(key)
    return ""


def _unknown(kind: str, value: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    if kind in _OTHERS:
        yield from ((value, name, name) for name in value if name not in _OTHERS[kind])
        return
    for parent, name, path, _, is_known in _members(value, _table()["kinds"][kind], ""):
        if not is_known:
            yield parent, name, path


def _misfits(kind: str, value: dict[str, Any]) -> Iterator[Misfit]:
    if kind not in _CHECKED:
        return
    for parent, name, path, struct, is_known in _members(value, _table()["kinds"][kind], ""):
        held = parent[name]
        if held is None or not is_known or path.startswith("metadata.managedFields") or name == "fieldsV1":
            continue
        inner = _table()["types"][struct][name]
        wanted = _wanted(name, inner)
        if not _is(wanted, held):
            yield Misfit(path, _short(struct), wanted, inner.strip("[]"), held)


def _members(value: Any, type_: str, path: str) -> Iterator[tuple[dict[str, Any], str, str, str, bool]]:
    """Each member of the structs in a value: its struct, name and path, its struct's type, whether it is known."""
    if type_.startswith("["):
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from _members(item, type_[1:-1], f"{path}[{index}]")
        return
    known = _table()["types"].get(type_)
    if known is None or not isinstance(value, dict):
        return
    for name in value:
        here = f"{path}.{name}" if path else name
        yield value, name, here, type_, name in known
        if known.get(name):
            yield from _members(value[name], known[name], here)


def _wanted(name: str, inner: str) -> str:
    if inner:
        return "structs" if inner.startswith("[") else "struct"
    for wanted, names in (
        ("number", _NUMBERS),
        ("flag", _FLAGS),
        ("map", _MAPS),
        ("list", _LISTS),
        ("either", _EITHER),
    ):
        if name in names:
            return wanted
    return "text"


def _is(wanted: str, value: Any) -> bool:
    match wanted:
        case "number":
            return isinstance(value, int) and not isinstance(value, bool)
        case "either":
            return isinstance(value, int | str) and not isinstance(value, bool)
        case "flag":
            return isinstance(value, bool)
        case "map" | "struct":
            return isinstance(value, dict)
        case "list" | "structs":
            return isinstance(value, list)
        case _:
            return isinstance(value, str)


def _short(struct: str) -> str:
    return re.sub(r"^(Core|Discovery)?V1", "", struct)


def _json_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, float):
        return f"number {value}"
    return {int: "number", str: "string", list: "array", dict: "object"}[type(value)]
