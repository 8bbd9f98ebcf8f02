"""The tables of docs/features.md are those that the tests give; ``UPDATE_GOLDENS=1`` writes them anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.features import Feature, FeaturesError, Group, Proof, find_proofs, read_groups, render, state

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "features.md"
TABLES = re.compile(r"(?<=<!-- features: begin -->\n\n).*?(?=\n\n<!-- features: end -->)", re.DOTALL)
IDS = ("F1", "K1", "K3", "X10")


def test_the_page_says_what_the_tests_prove() -> None:
    groups = read_groups((TESTS / "features.yaml").read_text())
    proofs = find_proofs(TESTS, [feature.id for group in groups for feature in group.features])
    wanted = render(groups, proofs)
    text = PAGE.read_text()
    if os.environ.get("UPDATE_GOLDENS"):
        PAGE.write_text(TABLES.sub(lambda _: wanted, text))
    assert TABLES.findall(PAGE.read_text()) == [wanted], "UPDATE_GOLDENS=1 pytest tests/unit/test_features.py"


def proofs_in(folder: Path, source: str) -> dict[str, tuple[Proof, ...]]:
    """What is found where this is the only module of tests."""
    (folder / "unit").mkdir(exist_ok=True)
    (folder / "unit" / "test_one.py").write_text(source)
    return dict(find_proofs(folder, IDS))


def test_cases_with_packets_are_proofs(tmp_path: Path) -> None:
    for case in ("F1-cluster-ip", "X10-prefer-local", "F1-again"):
        (tmp_path / "cases" / case).mkdir(parents=True)
        (tmp_path / "cases" / case / "packets.yaml").touch()
    (tmp_path / "cases" / "K1-without-packets").mkdir()
    assert find_proofs(tmp_path, IDS) == {
        "F1": (Proof("", "F1-again"), Proof("", "F1-cluster-ip")),
        "X10": (Proof("", "X10-prefer-local"),),
    }
    (tmp_path / "cases" / "F99-nobody-knows").mkdir()
    (tmp_path / "cases" / "F99-nobody-knows" / "packets.yaml").touch()
    with pytest.raises(FeaturesError, match=r"unknown id F99 \(F99-nobody-knows\)"):
        find_proofs(tmp_path, IDS)


def test_marks_of_functions_and_modules_are_proofs(tmp_path: Path) -> None:
    source = """
pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.proves("K3")]

@pytest.mark.parametrize("case", [1, 2])
@pytest.mark.proves("K1", "K3")
def test_something(case): ...

@pytest.mark.proves("K1")
def test_more(): raise SystemExit  # nothing is run

def test_other(): ...
"""
    assert proofs_in(tmp_path, source) == {
        "K3": (Proof("unit/test_one.py", ""),),
        "K1": (Proof("unit/test_one.py", "test_something"), Proof("unit/test_one.py", "test_more")),
    }
    assert proofs_in(tmp_path, 'pytestmark = pytest.mark.proves("K3")') == {"K3": (Proof("unit/test_one.py", ""),)}


MARK = '@pytest.mark.proves("K1")\n'
WRONG = {
    "unknown": ('@pytest.mark.proves("K99")\ndef test_a(): ...', r"unknown id K99 \(unit/test_one.py::test_a\)"),
    "no id": ("@pytest.mark.proves()\ndef test_a(): ...", ":1: write the ids out"),
    "a name": ("@pytest.mark.proves(ID)\ndef test_a(): ...", ":1: write the ids out"),
    "uncalled": ("@pytest.mark.proves\ndef test_a(): ...", ":1: a mark `proves` belongs to"),
    "a fixture": (f"{MARK}def helper(): ...", ":1: a mark `proves` belongs to"),
    "a method": (f"class TestAll:\n    {MARK}    def test_a(self): ...", ":2: a mark `proves` belongs to"),
    "a parameter": (
        '@pytest.mark.parametrize("a", [pytest.param(1, marks=pytest.mark.proves("K1"))])\ndef test_a(a): ...',
        ":1: a mark `proves` belongs to",
    ),
    "skipped": (f"{MARK}@pytest.mark.skip\ndef test_a(): ...", "proves nothing"),
    "expected to fail": (f'{MARK}@pytest.mark.xfail(reason="")\ndef test_a(): ...', "proves nothing"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mark_that_proves_nothing_is_an_error(wrong: str, tmp_path: Path) -> None:
    source, message = WRONG[wrong]
    with pytest.raises(FeaturesError, match=message):
        proofs_in(tmp_path, source)


def test_the_state_comes_from_the_proofs() -> None:
    assert state(Feature("K1", "all or nothing"), proved=True) == "works"
    assert state(Feature("K1", "all or nothing", note="mostly"), proved=True) == "works; mostly"
    assert state(Feature("K1", "all or nothing", partly="all is missing"), proved=True) == "partly: all is missing"
    assert state(Feature("K1", "all or nothing"), proved=False) == "not yet"
    with pytest.raises(FeaturesError, match="K1 is said to work partly, but nothing proves it"):
        state(Feature("K1", "all or nothing", partly="all is missing"), proved=False)


def test_a_table() -> None:
    tests = tuple(Proof("unit/test_one.py", name) for name in ("test_a", "test_b"))
    many = tuple(Proof("unit/test_two.py", f"test_{number}") for number in range(4))
    whole = Proof("unit/test_three.py", "")
    group = Group("Frontends", (Feature("F1", "one | two"), Feature("F2", "three")))
    assert render([group], {"F1": (Proof("", "F1-cluster-ip"), *tests, whole, *many)}) == (
        "## Frontends\n\n"
        "| id | behaviour | state | shown by |\n"
        "| --- | --- | --- | --- |\n"
        "| F1 | one \\| two | works | traced and sent: `F1-cluster-ip`; `unit/test_one.py::test_a`, `test_b`; "
        "`unit/test_three.py`; `unit/test_two.py` (4 tests) |\n"
        "| F2 | three | not yet | |"
    )


def test_an_id_stands_once_and_keys_are_known() -> None:
    one = "- {group: Frontends, features: [{id: F1, behaviour: one}]}\n"
    assert read_groups(one) == (Group("Frontends", (Feature("F1", "one"),)),)
    with pytest.raises(FeaturesError, match="F1 given twice"):
        read_groups(one * 2)
    with pytest.raises(FeaturesError, match="there are id, behaviour, note and partly"):
        read_groups("- {group: Frontends, features: [{id: F1, behaviour: one, proof: none}]}")
