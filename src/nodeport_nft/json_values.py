"""What a value of JSON may be, however it was read: how deep it is nested, and which numbers it holds."""

from __future__ import annotations

import math
from typing import Any

MAX_DEPTH = 100  # levels of nesting; everything behind what reads text may recurse over a value without fear

_CONTAINERS = (dict, list)


def too_deep(value: Any) -> bool:
    """Whether ``value`` is nested more than ``MAX_DEPTH`` levels deep; one level at a time, no recursion."""
    level = [value] if value and isinstance(value, _CONTAINERS) else []  # what has something in it
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if child and isinstance(child, _CONTAINERS)
        ]
    return bool(level)


def finite(text: str) -> float | str:
    """A number of YAML or JSON; one beyond a double's range stays text, for JSON cannot write infinity."""
    number = float(text.replace("_", ""))
    return number if math.isfinite(number) else text
