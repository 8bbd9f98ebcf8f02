"""The table of kubectl's habits, as Markdown, made of the rows that the tests run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HABITS = Path(__file__).parents[1] / "tests" / "cli" / "habits"


def table() -> str:
    """A table for each file of rows, under the file's name."""
    return "\n\n".join(_table(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in sorted(HABITS.glob("*.yaml")))


def _table(rows: list[Mapping[str, Any]]) -> str:
    lines = ["| you type | what comes |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{_cell(row['do'])}` | {_cell(row.get('why', ''))} |" for row in rows)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
