"""Text as kubectl lays it out: tables, ages, labels and endpoints; pure functions.

Stored documents are checked where this program acts on them and kept as they are elsewhere. What is only shown is
looked up here with care: a field of an unexpected shape counts as absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nodeport_nft.terminal import visible

NONE = "<none>"
UNSET = "<unset>"
UNKNOWN = "<unknown>"

MOST_SHOWN = 3
"""Endpoints of a port."""


def table(header: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    """Columns three spaces apart, as wide as their longest cell; no line is wrapped or ends in a blank.

    Without a ``header`` it is the rows alone, of which there is one at least.

    Cells are escaped before they are measured, their newlines as well: a row is one line, whatever is in it.
    """
    lines = [
        *([header] if header is not None else []),
        *([cell if cell.isprintable() else visible(cell) for cell in row] for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    line_of = "   ".join(f"{{:<{width}}}" for width in widths).format  # of ten thousand lines
    return "\n".join([line_of(*line).rstrip() for line in lines])


def fitted(cells: Iterable[str], widths: Iterable[int]) -> str:
    """One line of a table with columns of these widths."""
    return "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def age(timestamp: str, now: datetime) -> str:
    """The time since an RFC 3339 ``timestamp``, in two units at most: "5s", "3m10s", "2h5m", "4d".

    ``now`` is timezone-aware. The steps are kubectl's (k8s.io/apimachinery, duration.HumanDuration).
    """
    try:
        seconds = int((now - datetime.fromisoformat(timestamp)).total_seconds())
    except (ValueError, TypeError):  # no timestamp, or one without a time zone
        return UNKNOWN
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    if minutes < 10:
        return _pair(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    return _pair(days // 365, "y", days % 365 if days < 8 * 365 else 0, "d")


def ago(moment: float, now: datetime) -> str:
    """The time since a ``moment`` (Unix time, seconds), as ``age`` has it; one to come, by another clock, is now."""
    return age(datetime.fromtimestamp(min(moment, now.timestamp()), UTC).isoformat(), now)


def when(moment: float, now: datetime) -> str:
    """A moment (Unix time, seconds) as people write it, and how long ago it was; 0.0 is unknown."""
    if not moment:
        return UNKNOWN
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC ({ago(moment, now)} ago)"


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small}{small_unit}" if small else "")


def joined(items: Iterable[str]) -> str:
    """The items separated by commas; ``<none>`` if there is none."""
    return ",".join(items) or NONE


def few(items: Sequence[str], nothing: str = NONE) -> str:
    """The first three items and how many more there are, as kubectl cuts endpoints; ``nothing`` if there is none."""
    more = len(items) - MOST_SHOWN
    shown = ",".join(items[:MOST_SHOWN]) or nothing
    return f"{shown} + {more} more..." if more > 0 else shown


def equations(labels: Mapping[str, Any]) -> list[str]:
    """``key=value`` of each label, sorted by key; null is "", as the API reads it."""
    return [f"{key}={'' if value is None else value}" for key, value in sorted(labels.items())]


def mapping(raw: Any, *path: str) -> dict[str, Any]:
    """The mapping at ``path`` inside a document; an empty one if there is none there."""
    for key in path:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw if isinstance(raw, dict) else {}


def records(raw: Any, *path: str) -> list[dict[str, Any]]:
    """The mappings of the list at ``path`` inside a document."""
    items = mapping(raw, *path[:-1]).get(path[-1])
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def strings(raw: Any, *path: str) -> list[str]:
    """The strings of the list at ``path`` inside a document."""
    items = mapping(raw, *path[:-1]).get(path[-1])
    return [item for item in items if isinstance(item, str)] if isinstance(items, list) else []


def string(raw: Any, *path: str) -> str:
    """The string at ``path`` inside a document; "" if there is none there."""
    value = mapping(raw, *path[:-1]).get(path[-1])
    return value if isinstance(value, str) else ""
