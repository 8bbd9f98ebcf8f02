"""The table of kubectl's habits, as Markdown, made of the rows that the tests run (``tests/cli/habits``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "tests" / "cli" / "habits"
GIVEN = FOLDER / "given.yaml"  # the objects that every row begins with


def table() -> str:
    """A table for each part, under its title."""
    paths = (path for path in sorted(FOLDER.glob("*.yaml")) if path != GIVEN)
    return "\n\n".join(_part(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in paths)


def _part(part: Mapping[str, Any]) -> str:
    lines = [f"### {part['title']}", "", "| what | here | with kubectl |", "| --- | --- | --- |"]
    return "\n".join([*lines, *map(_row, part["rows"])])


def _row(row: Mapping[str, Any]) -> str:
    here = row["do"]
    kubectl = row.get("kubectl")
    there = "the same" if kubectl is None else _code(kubectl) if kubectl else "nothing like it"
    what = f"{row['title']} ({row['why'].rstrip('.')})" if row.get("why") else row["title"]
    refusal = ""
    if row.get("exit", 0) == 2 and row.get("stderr"):
        refusal = f"<br>{_escaped(row['stderr'].strip().splitlines()[0])}"
    return f"| {_escaped(what)} | {_code(here)}{refusal} | {there} |"


def _code(line: str) -> str:
    """A command line, with as many backticks around it as it has none of."""
    text = _one_line(line)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in "\\`*_[]<>#|" else each for each in " ".join(text.split()))


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
