"""The table of what can fail at an API server: each row has a test, and no two rows share one."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "kubernetes-failures.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| what fails", "| ---"))
]
PROOF = re.compile(r"`((?:daemon|kubernetes|netns|unit)/test_\w+\.py)::(test_\w+)`")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_has_its_test(row: list[str]) -> None:
    assert len(row) == 3
    proof = PROOF.fullmatch(row[2])
    assert proof, f"{row[2]} names no test"
    assert re.search(rf"^def {proof[2]}\(", (TESTS / proof[1]).read_text(), re.MULTILINE), f"there is no {row[2]}"


def test_no_two_rows_share_one() -> None:
    shared = [proof for proof, times in Counter(row[2] for row in ROWS).items() if times > 1]
    assert ROWS
    assert shared == []
