"""What is served besides objects: versions, health, and which resources there are."""

from __future__ import annotations

import json
from typing import Any

from tests.kubernetes.apiserver.access import Asked
from tests.kubernetes.apiserver.answers import PlainRefusal
from tests.kubernetes.apiserver.kinds import GROUPS, discovered

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_CHECKS = ("ping", "log", "informer-sync", "shutdown")
_VERSION = {
    "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35", "gitVersion": "v1.36.2", "gitCommit": "", "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.27.3", "compiler": "gc", "platform": "linux/amd64",
}  # fmt: skip


def answer(asked: Asked, *, verbose: bool = False) -> tuple[str, str]:
    """Content type and body for a path that is no resource; 404 where there is none."""
    parts = tuple(part for part in asked.path.split("/") if part)
    if asked.verb == "get":
        if parts == ("version",):
            return _JSON, json.dumps(_VERSION, indent=2)
        if parts in (("healthz",), ("livez",), ("readyz",)):
            lines = [f"[+]{check} ok" for check in _CHECKS] + [f"{parts[0]} check passed", ""]
            return _TEXT, "\n".join(lines) if verbose else "ok"
        if (found := _discovery(parts)) is not None:
            return _JSON, json.dumps(found, separators=(",", ":"))
    raise PlainRefusal(404, "404 page not found")


def _discovery(parts: tuple[str, ...]) -> dict[str, Any] | None:
    if parts == ("api",):
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ("apis",):
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*pair) for pair in GROUPS if pair[0]]}
    if parts == ("api", "v1"):
        return {"kind": "APIResourceList", "groupVersion": "v1", "resources": discovered("", "v1")}
    if len(parts) == 3 and parts[0] == "apis" and parts[1:] in GROUPS:
        group, version = parts[1:]
        return {
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/{version}",
            "resources": discovered(group, version),
        }  # fmt: skip
    return None


def _group(group: str, version: str) -> dict[str, Any]:
    served = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [served], "preferredVersion": served}
