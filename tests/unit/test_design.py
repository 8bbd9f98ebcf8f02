"""docs/design.md and CONTRIBUTING.md name rooms, files and tests that are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES, TESTS = ROOT / "src" / "nodeport_nft", ROOT / "tests"


def rows(text: str, title: str) -> list[list[str]]:
    """The cells of the first table that begins with this one."""
    (table,) = re.findall(rf"^\| {title} \|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("| ").split(" |")] for line in table.splitlines()]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_what_to_change_where() -> None:
    table = rows((ROOT / "docs" / "design.md").read_text(), "I want to change")
    assert len(table) >= 10
    for what, room, files, tests in table:
        assert all(names(cell) for cell in (room, files, tests)), what
        assert [each for each in names(files) if not (SOURCES / each).is_file()] == []
        assert [each for each in names(tests) if not (TESTS / each).is_file()] == []
        roots = tuple(f"{each.rstrip('/')}{'/' if each.endswith('/') else '.py'}" for each in names(room))
        assert any(each.startswith(roots) for each in names(files)), what


def test_each_room_is_there_and_told_of() -> None:
    table = rows((ROOT / "docs" / "design.md").read_text(), "room")
    told = {name.rstrip("/") for room, *_ in table for name in names(room)}
    assert [name for name in told if not any((SOURCES / f"{name}{end}").exists() for end in ("", ".py"))] == []
    there = {path.stem for path in SOURCES.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - told == {"__init__", "__main__"}


def test_the_order_of_the_rooms_is_the_contracts() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in settings if contract["type"] == "layers"]
    told = (ROOT / "CONTRIBUTING.md").read_text().partition("## The rooms\n")[2].split("```\n")[1]
    assert told.splitlines() == [layer.replace("nodeport_nft.", "") for layer in layers]
