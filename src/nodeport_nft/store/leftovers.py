"""Fields that came along when a Service changed its type or its family policy, and are dropped as the API drops them.

Who edits what ``get -o yaml`` gave changes one word, and what the old type had allocated stays in the document. Where
it is as it was, the new type leaves it out and its numbers are free. Where somebody has touched it, it is meant, and
refused. Fields that hold nothing (loadBalancerSourceRanges, sessionAffinity, ...) the API does not drop, nor do we.

The API refuses such a document when it comes again, since the object is without the fields by then. A manifest in a
file does come again, with the next sync or start; so what was dropped is remembered for as long as it keeps coming.

Source: dropTypeDependentFields and patchAllocatedValues (pkg/registry/core/service), and for the family policy
initIPFamilyFields (storage/alloc.go there), Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nodeport_nft.kube import Object
from nodeport_nft.problems import Path, Problem


def touched(obj: Object, old: dict[str, Any] | None, before: Mapping[str, Any]) -> Iterator[Problem]:
    """What of an object's leftovers is new: neither in its document ``old``, nor dropped from it ``before``."""
    spec = spec_of(obj.raw)
    known = [spec_of(old or {}), dict(before)]
    for leftover in obj.leftovers:
        if not any(_same(leftover.path, spec, before) for before in known):
            yield leftover.problem


def dropped(obj: Object) -> str:
    """What is said of leftovers that are dropped."""
    first = obj.leftovers[0].problem
    fields = dict.fromkeys(_named(leftover.path, spec_of(obj.raw), leftover.problem) for leftover in obj.leftovers)
    text = "dropped: left over from the former type or family policy; leave such fields out of the manifest"
    return str(Problem(first.source, first.object, ", ".join(fields), text))


def _named(path: Path, spec: dict[str, Any], problem: Problem) -> str:
    """The fields that are dropped where ``problem`` is not told."""
    if not _is_about_families(path, spec):
        return problem.field
    return ", ".join(f"spec.{field}[1]" for field in ("clusterIPs", "ipFamilies") if len(_items(spec, field)) > 1)


def _same(path: Path, spec: dict[str, Any], before: dict[str, Any]) -> bool:
    if path[-1] == "nodePort":  # ports may have come, gone, or changed their places
        return _node_ports(spec) <= _node_ports(before)
    if _is_about_families(path, spec):
        several = (field for field in ("clusterIPs", "ipFamilies") if len(_items(spec, field)) > 1)
        return all(spec[field] == before.get(field) for field in several)
    field = path[-1]
    return field in before and spec.get(str(field)) == before[field]


def _is_about_families(path: Path, spec: dict[str, Any]) -> bool:
    """Whether one family is wanted where two are named. To an ExternalName its policy is a field like any other."""
    return path[-1] == "ipFamilyPolicy" and spec.get("type") != "ExternalName"


def _node_ports(spec: dict[str, Any]) -> set[int]:
    numbers = (port.get("nodePort") for port in _items(spec, "ports") if isinstance(port, dict))
    return {number for number in numbers if isinstance(number, int) and number}


def _items(spec: dict[str, Any], field: str) -> list[Any]:
    items = spec.get(field)
    return items if isinstance(items, list) else []


def spec_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a document, empty where it has none."""
    spec = raw.get("spec")
    return spec if isinstance(spec, dict) else {}
