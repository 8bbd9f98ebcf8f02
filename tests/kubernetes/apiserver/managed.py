"""Who has set which fields (``metadata.managedFields``), and what an apply changes of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.kubernetes.apiserver.answers import Refusal

Path = tuple[str, ...]
Fields = frozenset[Path]

_KEYED: dict[tuple[str, Path], tuple[str, ...]] = {
    ("Service", ("spec", "ports")): ("port", "protocol"),
    ("Node", ("status", "addresses")): ("type",),
    ("Node", ("status", "conditions")): ("type",),
    ("Service", ("status", "conditions")): ("type",),
    ("ServiceCIDR", ("status", "conditions")): ("type",),
    ("Pod", ("spec", "containers")): ("name",),
}
"""Lists whose items are known by some of their fields."""

_SETS = {("Node", ("spec", "podCIDRs")), ("", ("metadata", "finalizers"))}
_MAPS = {
    ("metadata", "labels"), ("metadata", "annotations"), ("series",),
    ("spec", "parentRef"), ("spec", "sessionAffinityConfig"), ("spec", "sessionAffinityConfig", "clientIP"),
}  # fmt: skip
"""What may be absent as a whole, and so counts as set itself."""

_ATOMIC = {("Service", ("spec", "selector")), ("Event", ("regarding",)), ("Event", ("related",))}
_DEFAULTS = {"protocol": "TCP"}
_SYSTEM = {"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"}


def leaves(kind: str, value: dict[str, Any], *, parents: bool) -> dict[Path, Any]:
    """Each field that an object sets, as a path in FieldsV1. ``parents``: with the maps and lists themselves."""
    found: dict[Path, Any] = {}
    for path, held in _walk(kind, value, (), (), parents):
        found[path] = held
    return found


def _walk(kind: str, value: Any, place: Path, path: Path, parents: bool) -> Iterator[tuple[Path, Any]]:
    for name, held in value.items():
        if not place and name in ("kind", "apiVersion"):
            continue
        if place == ("metadata",) and name in _SYSTEM:
            continue
        here, element = (*place, name), (*path, f"f:{name}")
        if isinstance(held, dict) and (kind, here) not in _ATOMIC:
            if here in _MAPS and parents:
                yield element, None
            yield from _walk(kind, held, here, element, parents)
        elif isinstance(held, list) and (keys := _KEYED.get((kind, here))):
            if parents:
                yield element, None
            for item in held:
                key = {name: item.get(name, _DEFAULTS.get(name)) for name in keys}
                inner = (*element, f"k:{json.dumps(key, separators=(',', ':'))}")
                yield inner, None
                yield from _walk(kind, item, here, inner, parents)
        elif isinstance(held, list) and ((kind, here) in _SETS or ("", here) in _SETS):
            if parents:
                yield element, None
            for item in held:
                yield (*element, f"v:{json.dumps(item)}"), item
        elif held is not None:
            yield element, held


def to_v1(fields: Iterable[Path]) -> dict[str, Any]:
    """FieldsV1: nested, with "." for what is set itself and has parts besides."""
    known = set(fields)
    tree: dict[str, Any] = {}
    for path in sorted(known):
        node = tree
        for depth, element in enumerate(path, 1):
            inside = node.setdefault(element, {})
            if depth < len(path) and path[:depth] in known:
                inside.setdefault(".", {})
            node = inside
        if path[-1].startswith("k:"):
            node.setdefault(".", {})
    return tree


def from_v1(tree: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    """What ``to_v1`` has nested."""
    if not tree and path:
        yield path
    for element, inside in tree.items():
        if element == ".":
            yield path
        else:
            yield from from_v1(inside, (*path, element))


def entry(
    manager: str, operation: str, version: str, subresource: str, fields: Iterable[Path], now: str
) -> dict[str, Any]:
    """One element of ``managedFields``."""
    made: dict[str, Any] = {
        "manager": manager, "operation": operation, "apiVersion": version, "time": now, "fieldsType": "FieldsV1",
        "fieldsV1": to_v1(fields),
    }  # fmt: skip
    if subresource:
        made["subresource"] = subresource
    return made


def _same(held: dict[str, Any], manager: str, operation: str, subresource: str) -> bool:
    return (held["manager"], held["operation"], held.get("subresource", "")) == (manager, operation, subresource)


def updated(
    entries: list[dict[str, Any]],
    manager: str,
    version: str,
    subresource: str,
    now: str,
    old: dict[Path, Any],
    new: dict[Path, Any],
) -> list[dict[str, Any]]:
    """The managers after an update: what it changed is its own now, what is gone is nobody's."""
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    own: set[Path] = set(changed)
    result: list[dict[str, Any]] = []
    for held in entries:
        before = set(from_v1(held["fieldsV1"]))
        fields = {path for path in before if path in new or path not in old}
        if _same(held, manager, "Update", subresource):
            own |= fields
            if own == before:
                result.append(held)
                own = set()
        else:
            result += _kept(held, before, fields - changed)
    if own:
        result.append(entry(manager, "Update", version, subresource, own, now))
    return sorted(result, key=_order)


def untimed(entries: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The managers after a write that changed no value: a new one has no time, the others keep theirs."""
    times = {(one["manager"], one["operation"], one.get("subresource")): one.get("time") for one in before}
    result: list[dict[str, Any]] = []
    for one in entries:
        time = times.get((one["manager"], one["operation"], one.get("subresource")))
        rest = {name: value for name, value in one.items() if name != "time"}
        result.append({**rest, "time": time} if time else rest)
    return sorted(result, key=_order)


def _kept(held: dict[str, Any], before: set[Path], kept: set[Path]) -> list[dict[str, Any]]:
    """An entry with the fields that are left of it; nothing if none are."""
    if kept == before:
        return [held]
    return [{**held, "fieldsV1": to_v1(kept)}] if kept else []


def _order(held: dict[str, Any]) -> tuple[bool, str, str, str]:
    return held["operation"] != "Apply", held.get("time", ""), held["manager"], held.get("subresource", "")


def applied(
    entries: list[dict[str, Any]], manager: str, version: str, subresource: str, now: str,
    wanted: dict[Path, Any], live: dict[Path, Any], force: bool,
) -> tuple[list[dict[str, Any]], set[Path]]:  # fmt: skip
    """The managers after an apply, and the fields that go with it: those it had, and gives up. 409 for a conflict."""
    contested: list[tuple[dict[str, Any], Path]] = []
    for held in entries:
        if _same(held, manager, "Apply", subresource):
            continue
        for path in sorted(from_v1(held["fieldsV1"])):
            if path in wanted and wanted[path] is not None and live.get(path) != wanted[path]:
                contested.append((held, path))
    if contested and not force:
        raise _conflict(contested)
    lost = {path for _, path in contested}
    result: list[dict[str, Any]] = []
    before: set[Path] = set()
    own: dict[str, Any] | None = None
    others: set[Path] = set()
    for held in entries:
        fields = set(from_v1(held["fieldsV1"]))
        if _same(held, manager, "Apply", subresource):
            before, own = fields, held
            continue
        others |= fields - lost
        result += _kept(held, fields, fields - lost)
    if own is None or before != set(wanted):
        own = entry(manager, "Apply", version, subresource, wanted, now)
    return sorted([*result, own], key=_order), {path for path in before - set(wanted) if path not in others}


def _conflict(contested: list[tuple[dict[str, Any], Path]]) -> Refusal:
    causes = []
    told: dict[str, list[str]] = {}
    for held, path in contested:
        name = json.dumps(held["manager"])
        if held.get("subresource"):
            name += f" with subresource {json.dumps(held['subresource'])}"
        who = f"{name} using {held['apiVersion']}" if held["operation"] == "Update" else name
        causes.append({"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": _dotted(path)})
        told.setdefault(who, []).append(_dotted(path))
    if len(contested) == 1:
        text = f"conflict with {next(iter(told))}: {causes[0]['field']}"
    else:
        text = "\n".join(
            f"conflicts with {who}:\n" + "\n".join(f"- {path}" for path in paths) for who, paths in told.items()
        )
    plural = "conflict" if len(contested) == 1 else "conflicts"
    message = f"Apply failed with {len(contested)} {plural}: {text}"
    return Refusal(409, "Conflict", message, details={"causes": causes})


def _dotted(path: Path) -> str:
    parts = []
    for element in path:
        mark, _, rest = element.partition(":")
        if mark == "f":
            parts.append(f".{rest}")
        elif mark == "k":
            parts.append(
                "[" + ",".join(f"{name}={json.dumps(value)}" for name, value in json.loads(rest).items()) + "]"
            )
        else:
            parts.append(f"[={rest}]")
    return "".join(parts)


def overlaid(kind: str, old: Any, sent: Any, place: Path = ()) -> Any:
    """An object with what is applied over it: keyed lists by their keys, other lists and atomic maps whole."""
    if isinstance(sent, dict) and isinstance(old, dict) and (kind, place) not in _ATOMIC:
        result = dict(old)
        for name, value in sent.items():
            result[name] = overlaid(kind, old.get(name), value, (*place, name))
        return result
    keys = _KEYED.get((kind, place))
    if keys and isinstance(sent, list) and isinstance(old, list):
        items = {_key(item, keys): item for item in old}
        for item in sent:
            key = _key(item, keys)
            items[key] = {**items.get(key, {}), **item}
        return list(items.values())
    if isinstance(sent, list) and isinstance(old, list) and ((kind, place) in _SETS or ("", place) in _SETS):
        return [*old, *(item for item in sent if item not in old)]
    return sent


def _key(item: dict[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(name, _DEFAULTS.get(name)) for name in keys)


def _is_keyed(item: dict[str, Any], key: dict[str, Any]) -> bool:
    return all(item.get(name, _DEFAULTS.get(name)) == value for name, value in key.items())


def take_out(value: Any, path: Path) -> None:
    """Remove one field, or one item of a list, if it is there."""
    for index, element in enumerate(path):
        last = index == len(path) - 1
        mark, _, rest = element.partition(":")
        if mark == "f" and isinstance(value, dict) and rest in value:
            if last:
                del value[rest]
                return
            value = value[rest]
        elif mark in ("k", "v") and isinstance(value, list):
            wanted = json.loads(rest)
            fits = [item for item in value if item == wanted or (mark == "k" and _is_keyed(item, wanted))]
            if not fits:
                return
            if last:
                value.remove(fits[0])
                return
            value = fits[0]
        else:
            return
