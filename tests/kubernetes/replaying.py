"""Recorded exchanges, asked again of the tests' API server, and the two answers held against each other.

What is a server's own choice (uids, resource versions, times, allocated addresses and ports) need not be equal, but
the same recorded value must stand for the same value of ours everywhere, and resource versions keep their order.
"""

from __future__ import annotations

import base64
import json
import re
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

from tests.kubernetes.recorded import Answer, Recorded

_KINDS = {"uid": "uid", "resourceVersion": "revision"}
_PORTS = ("nodePort", "healthCheckNodePort")
_TIMES = ("creationTimestamp", "time", "lastTransitionTime")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_TOO_OLD = re.compile(r"too old resource version: (\d+) \((\d+)\)")
_HEADERS = ("content-type", "cache-control", "warning", "retry-after", "x-content-type-options")


class Comparison:
    """What has been learnt of which value stands for which, and the differences found."""

    def __init__(self) -> None:
        self.differences: list[str] = []
        self._ours: dict[tuple[str, str], str] = {}
        self._theirs: dict[tuple[str, str], str] = {}
        self._where = ""
        self._owners = ("", "")

    def asked(self, recorded: Recorded) -> tuple[str, str]:
        """Target and body as they are asked of ours: with our values in the place of the recorded ones."""
        target = re.sub(r"(resourceVersion|continue)=([^&]+)", self._parameter, recorded.target)
        body = recorded.body
        if '"uid"' in body:
            body = re.sub(r'"(uid|resourceVersion)": "([^"]+)"', self._member, body)
        return target, body

    def _parameter(self, found: re.Match[str]) -> str:
        kind = "revision" if found[1] == "resourceVersion" else "token"
        return f"{found[1]}={self._ours.get((kind, found[2]), found[2])}"

    def _member(self, found: re.Match[str]) -> str:
        return f'"{found[1]}": "{self._ours.get((_KINDS[found[1]], found[2]), found[2])}"'

    def compare(self, name: str, theirs: Answer, ours: Answer, *, shape: bool = False) -> None:
        """Note how the answers differ. ``shape``: only keys and types are to be equal."""
        self._where = name
        self._note("status", theirs.status, ours.status)
        for header in _HEADERS:
            self._note(header, theirs.headers.get(header), ours.headers.get(header))
        if theirs.value is None and not theirs.events:
            self._note("text", theirs.text, ours.text)
        else:
            self._walk("", theirs.value, ours.value, shape)
        told, their_bookmarks = _parted(theirs.events)
        said, our_bookmarks = _parted(ours.events)
        if their_bookmarks:
            self._walk("bookmark", their_bookmarks[0], our_bookmarks[0] if our_bookmarks else None, shape=True)
        self._note("events", [_short(event) for event in told], [_short(event) for event in said])
        for index, (their_event, our_event) in enumerate(zip(told, said, strict=False)):
            self._walk(f"[{index}]", their_event, our_event, shape)

    def learn(self, kind: str, theirs: str, ours: str) -> bool:
        """Note that a value stands for one of ours; whether that agrees with what was learnt before."""
        known = self._ours.setdefault((kind, theirs), ours) == ours
        known &= self._theirs.setdefault((kind, ours), theirs) == theirs
        if kind == "revision" and known:
            pairs = sorted((int(a), int(b)) for (of, a), b in self._ours.items() if of == kind)
            known = all(one[1] <= other[1] for one, other in pairwise(pairs))
        return known

    def _note(self, place: str, theirs: Any, ours: Any) -> None:
        if theirs != ours:
            self.differences.append(f"{self._where} {place}: recorded {theirs!r}, ours {ours!r}")

    def _walk(self, path: str, theirs: Any, ours: Any, shape: bool) -> None:
        if isinstance(theirs, dict) and isinstance(ours, dict):
            self._note(f"{path} (fields)", sorted(theirs), sorted(ours))
            if "uid" in theirs.get("metadata", {}) and "uid" in ours.get("metadata", {}):
                self._owners = (theirs["metadata"]["uid"], ours["metadata"]["uid"])
            for key in theirs.keys() & ours.keys():
                self._walk(f"{path}.{key}", theirs[key], ours[key], shape)
        elif isinstance(theirs, list) and isinstance(ours, list):
            self._note(f"{path} (length)", len(theirs), len(ours))
            for index, (one, other) in enumerate(zip(theirs, ours, strict=False)):
                self._walk(f"{path}[{index}]", one, other, shape)
        elif shape:
            self._note(f"{path} (type)", type(theirs), type(ours))
        elif not self._agree(path, theirs, ours):
            self._note(path, theirs, ours)

    def _agree(self, path: str, theirs: Any, ours: Any) -> bool:
        key = re.sub(r"\[\d+\]$", "", path).rpartition(".")[2]
        if type(theirs) is not type(ours):
            return False
        if key in _TIMES:
            return bool(_TIME.fullmatch(theirs) and _TIME.fullmatch(ours))
        if key in _PORTS:  # which are given to others once they are free
            return self.learn("port", f"{self._owners[0]} {theirs}", f"{self._owners[1]} {ours}")
        if key in _KINDS:
            return self.learn(_KINDS[key], str(theirs), str(ours))
        if key in ("clusterIP", "clusterIPs") and "None" not in (theirs, ours):
            return ip_address(theirs).version == ip_address(ours).version and self.learn("address", theirs, ours)
        if key == "continue":
            return self._tokens_agree(theirs, ours)
        if key == "message" and (one := _TOO_OLD.fullmatch(theirs)) and (other := _TOO_OLD.fullmatch(ours)):
            return all(self.learn("revision", *pair) for pair in zip(one.groups(), other.groups(), strict=True))
        if key == "name" and (found := re.fullmatch(r"(my-ser-)[a-z0-9]{5}", theirs)):
            return bool(re.fullmatch(f"{found[1]}[a-z0-9]{{5}}", ours))  # a generated name
        return bool(theirs == ours)

    def _tokens_agree(self, theirs: str, ours: str) -> bool:
        one, other = _opened(theirs), _opened(ours)
        agree = (one["v"], one["start"]) == (other["v"], other["start"])
        if one["rv"] < 0 or other["rv"] < 0:
            return agree and one["rv"] == other["rv"]
        agree &= self.learn("revision", str(one["rv"]), str(other["rv"]))
        return self.learn("token", theirs, ours) and agree


def _opened(token: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return value


def is_bookmark(event: dict[str, Any]) -> bool:
    """Whether a watch's event is a bookmark, and not the one that ends the initial events."""
    return event["type"] == "BOOKMARK" and "annotations" not in event["object"]["metadata"]


def _parted(events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a watch tells, and its bookmarks: when they come, and how many, is a matter of time."""
    return [one for one in events if not is_bookmark(one)], [one for one in events if is_bookmark(one)]


def _short(event: dict[str, Any]) -> tuple[str, str]:
    return event["type"], event["object"].get("metadata", {}).get("name", "")
