"""What goes wrong between a client and the server, by a table that can be changed while it runs.

A fault is a mapping. What it is for: ``method``, ``verb``, ``group``, ``resource``, ``subresource``, ``namespace``,
``name``, ``user``, ``replica``, ``path`` (a part of it), each left out for any; ``skip`` (0) requests of these pass
before it, and it is for ``times`` (1; 0: all) of the next. What is done, any of:

- ``status`` (a code; ``retryAfter`` in seconds, ``message``, ``reason``) is answered instead;
- ``text`` is answered instead, by ``status`` (200), as ``type`` (text/html), as a proxy in between does;
- ``delay``: seconds before anything is done; ``hang``: seconds before the connection is closed without an answer;
- ``cut``: the connection is closed after so many bytes of the body;
- ``drip``: so many bytes of the body are sent at a time, and ``pause`` (0.05) seconds between;
- ``silent``: after so many events a watch says nothing more, and stays open;
- ``error``: after ``events`` (0) events a watch ends by an ERROR event of this code;
- ``end``: after so many events a watch ends as one whose time is over.
"""

from __future__ import annotations

from typing import Any

from tests.kubernetes.apiserver.answers import Refusal

_FOR = ("method", "verb", "group", "resource", "subresource", "namespace", "name", "user", "replica")
_DONE = (
    "status", "retryAfter", "message", "reason", "text", "type", "delay", "hang", "cut", "drip", "pause", "silent",
    "error", "events", "end",
)  # fmt: skip
_REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
    422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip
_MESSAGES = {
    401: "Unauthorized",
    410: "too old resource version",
    429: "the server has received too many requests and has asked us to try again later",
    500: "Internal error occurred: etcdserver: request timed out",
    503: "the server is currently unable to handle the request",
}


class Faults:
    """The table. What a request meets is the first of its faults that is due."""

    def __init__(self) -> None:
        self._table: list[dict[str, Any]] = []
        self._seen: list[int] = []

    def set(self, table: list[dict[str, Any]]) -> None:
        """Put a new table in the place of the old one. ValueError for a fault with a slip in it."""
        known = {*_FOR, *_DONE, "path", "skip", "times"}
        for fault in table:
            if strange := set(fault) - known:
                raise ValueError(f"no such words in a fault: {', '.join(sorted(strange))}")
            if not set(fault) & set(_DONE):
                raise ValueError(f"this fault does nothing: {fault}")
        self._table = table
        self._seen = [0] * len(table)

    def told(self) -> list[dict[str, Any]]:
        """The table, and for how many requests each fault was meant so far (``seen``), those let pass included."""
        return [{**fault, "seen": seen} for fault, seen in zip(self._table, self._seen, strict=True)]

    def met(self, request: dict[str, Any]) -> dict[str, Any]:
        """What is to go wrong with a request (as the log has it); empty for nothing."""
        for index, fault in enumerate(self._table):
            if any(name in fault and fault[name] != request.get(name) for name in _FOR):
                continue
            if fault.get("path", "") not in request["path"]:
                continue
            self._seen[index] += 1
            turn = self._seen[index] - fault.get("skip", 0)
            times = fault.get("times", 1)
            if turn > 0 and (times == 0 or turn <= times):
                return fault
        return {}


def refusal(fault: dict[str, Any], code: int) -> Refusal:
    """The Status that a fault answers."""
    headers = {"Retry-After": str(fault["retryAfter"])} if "retryAfter" in fault else {}
    details = {"retryAfterSeconds": fault["retryAfter"]} if "retryAfter" in fault else None
    message = fault.get("message", _MESSAGES.get(code, "a fault that was asked for"))
    reason = fault.get("reason", _REASONS.get(code, ""))
    return Refusal(code, reason, message, details=details, headers=headers)
