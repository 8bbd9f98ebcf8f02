"""The arithmetic of a benchmark: percentiles, growth, and tables of both in Markdown. Nothing here measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` (0 to 1) of all do not exceed; always one that was measured.

    Raises ValueError where there are none.
    """
    if not samples:
        raise ValueError("no samples")
    return sorted(samples)[max(0, math.ceil(len(samples) * share) - 1)]


def exponent(points: Mapping[float, float]) -> float | None:
    """The ``b`` of ``value = a * size ** b`` that fits best: least squares over the logarithms of both.

    0: the same at every size; 1: twice as much for twice the size. None where fewer than two sizes have a value
    above zero.
    """
    logs = [(math.log(size), math.log(value)) for size, value in points.items() if size > 0 and value > 0]
    if len(logs) < 2:
        return None
    mean_x = math.fsum(x for x, _ in logs) / len(logs)
    mean_y = math.fsum(y for _, y in logs) / len(logs)
    spread = math.fsum((x - mean_x) ** 2 for x, _ in logs)
    return math.fsum((x - mean_x) * (y - mean_y) for x, y in logs) / spread


def cell(value: float | str | None) -> str:
    """Three significant digits with thousands separated; "–" for nothing; words as they are."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, min(digits, 4))}f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, names: int = 1) -> str:
    """A table in Markdown: the first ``names`` columns are words, the others numbers."""
    lines = [heads, ["---"] * names + ["---:"] * (len(heads) - names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
