"""What the daemon sees at one moment: a value, exchanged as a whole, so that another thread may read it any time."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, fields

_LATEST = 253402300800.0  # the year 10000, which no calendar here knows


class Status(Struct, frozen=True):
    """The daemon at one moment. Times are Unix times in seconds; 0.0: never.

    ``synced``: when the kernel last had all there was to write. ``pending``: Services whose latest state is not in
    the kernel, ``pending_since``: since when. ``refused``: Services the kernel refuses, with its words;
    their last good state is in force. ``problems``: what else an operator should mend, such as contested frontends
    and files that cannot be read. ``error`` is what went wrong in the last sync, "" if nothing did.
    ``without_endpoints``: how many Services refuse connections for want of an endpoint, ``idle``: the first few.
    ``last_error`` stays until the next one. ``advice``: what would be better otherwise, and is no trouble.
    ``log_lost``: lines of the log that could not be written. ``probes``: readiness probes that this node runs,
    ``probes_failing``: how many of them fail, ``failing``: the first few, with the reason. ``waits_for_store``: the
    start waits until the store has told all there is, ``store_waited``: until when it did.
    """

    version: str = ""
    node: str = ""
    node_ports_on: str = ""
    source: str = ""
    pid: int = 0
    started: float = 0.0
    waits_for_store: bool = False
    store_waited: float = 0.0
    services: int = 0
    without_endpoints: int = 0
    idle: tuple[str, ...] = ()
    node_deleted: bool = False
    synced: float = 0.0
    sync_seconds: float = 0.0
    sync_cause: str = ""
    sync_operations: int = 0
    syncs: int = 0
    pending: int = 0
    pending_since: float = 0.0
    refused: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    error: str = ""
    last_error: str = ""
    last_error_at: float = 0.0
    sync_period: float = 30.0
    log_lost: int = 0
    probes: int = 0
    probes_failing: int = 0
    failing: tuple[str, ...] = ()


def to_json(status: Status) -> str:
    """The status as one JSON object, under the names of its fields."""
    return json.dumps(asdict(status))


def from_json(text: str | bytes) -> Status:
    """The status that ``to_json`` wrote, in another version perhaps. Raises ValueError if it is none.

    Unknown fields do not matter; those that are missing have their default.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict) or "synced" not in document:
        raise ValueError("it is not a status")
    given = [field for field in fields(Status) if field.name in document]
    return Status(**{field.name: _read(field.name, field.default, document[field.name]) for field in given})


def _read(name: str, default: Any, value: Any) -> Any:
    """A field's value, which is of its default's type. Raises ValueError."""
    kind = type(default)
    if kind is float and type(value) in (int, float) and 0 <= value < _LATEST:
        return float(value)
    if kind is tuple and type(value) is list:
        return tuple(_pair(item) if name == "refused" else _text(name, item) for item in value)
    if kind in (bool, int, str) and type(value) is kind:
        return value
    raise ValueError(f"its field {name} holds something unexpected")


def _pair(item: Any) -> tuple[str, str]:
    match item:
        case [str(name), str(words)]:
            return name, words
    raise ValueError("its field refused holds something unexpected")


def _text(name: str, item: Any) -> str:
    if isinstance(item, str):
        return item
    raise ValueError(f"its field {name} holds something unexpected")
