"""What a request asks for: the verb, the kind, the object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.kubernetes.apiserver.access import Asked
from tests.kubernetes.apiserver.kinds import BY_RESOURCE, GROUPS, Kind
from tests.kubernetes.apiserver.selectors import chosen_name

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}


class Wanted(NamedTuple):
    """``kind`` is None for a path that is no resource of ours. ``namespace`` and ``name`` may be ""."""

    asked: Asked
    kind: Kind | None


def read_path(method: str, path: str, query: Mapping[str, str]) -> Wanted:
    """What a method on a path means, as the API has it."""
    parts = [part for part in path.split("/") if part]
    verb = _VERBS.get(method, method.lower())
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return Wanted(Asked(verb if verb != "create" else "post", path=path), None)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and not (len(rest) == 3 and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "")[:3]
    kind = BY_RESOURCE.get((group, version, resource))
    if not name:
        if verb == "get":
            verb = "watch" if query.get("watch") in ("1", "true") else "list"
            name = chosen_name(query)
        elif verb == "delete":
            verb = "deletecollection"
    if kind is not None and namespace and not kind.namespaced:
        kind = None
    if kind is None and (group, version) not in GROUPS:
        return Wanted(Asked(verb, path=path), None)
    return Wanted(Asked(verb, "", group, resource, subresource, namespace, name), kind)
