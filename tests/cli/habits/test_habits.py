"""Every row of the table of kubectl's habits, through the program."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.habits import GIVEN, Habit, habits, matches, parts, words
from tests.cli.program import Answer, Program

pytestmark = pytest.mark.proves("U1")

HABITS = habits()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("habits"))
    program.ok("apply", "-f", str(GIVEN))
    return program


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: f"{habit.part}: {habit.title}")
def test_a_habit_of_kubectls(filled: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, habit: Habit) -> None:
    (tmp_path / "node").mkdir()  # its state and its locks, which are none of this machine's
    (tmp_path / "work").mkdir()
    program = Program(tmp_path / "work")
    store, config = tmp_path / "store.db", tmp_path / "config.yaml"
    shutil.copy(filled.store, store)
    config.write_text(f"store: {store}\nstateDir: {tmp_path}/node\nrunDir: {tmp_path}/node\n")
    for name, text in habit.files.items():
        (program.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (program.directory / name).write_text(text)
    for name, value in habit.env.items():
        monkeypatch.setenv(name, value)

    def meant(text: str) -> str:
        return text.replace("$store", str(store)).replace("$config", str(config))

    def run(line: str, stdin: str = "") -> Answer:
        return program.run("--config", str(config), *words(meant(line)), stdin=stdin)

    for line in habit.given:
        before = run(line)
        assert (before.code, before.err) == (0, ""), (line, before)
    answer = run(habit.do, habit.stdin)
    told = f"$ {habit.do}\n{answer.out}--- stderr:\n{answer.err}--- exit code {answer.code}"
    assert answer.code == habit.exit, told
    assert matches(meant(habit.stdout), answer.out), told
    assert matches(meant(habit.stderr), answer.err), told


def test_the_table_is_as_long_as_habits_are_many() -> None:
    assert sum(habit.with_kubectl != "" for habit in HABITS) >= 60, "rows that kubectl has nothing like do not count"


def test_a_row_has_a_title_of_its_own() -> None:
    assert [title for title, times in Counter((one.part, one.title) for one in HABITS).items() if times > 1] == []
    assert set(parts()) == {one.part for one in HABITS}


@pytest.mark.parametrize(
    ("wanted", "text", "does"),
    [
        ("", "", True),
        ("", "a\n", False),
        ("", "\n", False),
        ("a", "", False),
        ("a  b\n", "a b\n", True),
        ("a b\n", "a  b", True),
        ("a b\n", "ab\n", False),
        ("a\n", "a\nb\n", False),
        ("a\n…\n", "a\nb\nc\n", True),
        ("a\n…\n", "a\n", True),
        ("a … c\n", "a b c\n", True),
        ("a … c\n", "a\nc\n", False),
        ("…\nc\n", "a\nb\nc\n", True),
        ("a.c\n", "abc\n", False),
    ],
)
def test_a_row_wants_what_it_says(wanted: str, text: str, does: bool) -> None:
    """What no row could tell of itself."""
    assert matches(wanted, text) is does
