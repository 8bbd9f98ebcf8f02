"""kubectl's habits, as a table: what people type, and what must come. ``test_habits`` runs every row.

A file here is a part of the table::

    title: Looking at objects            # of the part
    rows:
    - title: By the short name           # what a reader of the table sees; unique in its file
      do: nodeport-nft get svc web       # the command line, split as a shell does; it runs in a directory of its own
      stdout: |                          # all of what must come on stdout; nothing where the row has none
        NAME TYPE …
        web NodePort …
      stderr: ""                         # the same
      exit: 0                            # 0 where the row has none
      kubectl: kubectl get svc web       # where kubectl's line is another one; "" where kubectl has none
      why: …                             # where it is not as with kubectl: what is different, and why
      given: [nodeport-nft label …]      # command lines that must succeed before, without a word on stderr
      stdin: …                           # text
      files: {web.yaml: …}               # files in the directory where it runs
      env: {EDITOR: …}                   # variables; those that Python reads as it starts have no effect

Lines are compared without regard to how many blanks stand between words, and ``…`` stands for anything in a line, or
alone for any lines. ``$store`` and ``$config`` in a text are the paths of the store and of the configuration that
names it, which every command line gets by a ``--config`` before the verb. Each row begins with the objects of
``given.yaml``, and changes a copy of them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
GIVEN = HERE / "given.yaml"
"""The objects that every row begins with."""

ANYTHING = "…"


class HabitError(Exception):
    """A row that cannot be meant; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Habit:
    """One row; ``part`` is the name of its file without the ending."""

    part: str
    title: str
    do: str
    stdout: str = ""
    stderr: str = ""
    exit: int = 0
    kubectl: str | None = None
    why: str = ""
    given: tuple[str, ...] = ()
    stdin: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def with_kubectl(self) -> str:
        """What one types with kubectl; "" where there is no such thing."""
        return re.sub(r"^nodeport-nft\b", "kubectl", self.do) if self.kubectl is None else self.kubectl

    @property
    def is_shared(self) -> bool:
        """Whether the same line does the same with kubectl."""
        return self.kubectl is None and not self.why


def parts() -> dict[str, str]:
    """The names of the parts, and their titles."""
    return {path.stem: str(_document(path)["title"]) for path in _files()}


def habits() -> list[Habit]:
    """All rows, in the order of the files. Raises HabitError."""
    return [_habit(path.stem, row) for path in _files() for row in _document(path)["rows"]]


def words(line: str) -> list[str]:
    """The arguments of a command line. Raises HabitError where it is none of ours."""
    program, *rest = shlex.split(line)
    if program != "nodeport-nft":
        raise HabitError(f"{line!r} runs {program}; rows are about nodeport-nft")
    return rest


def matches(wanted: str, text: str) -> bool:
    """Whether the text is what a row wants, by the rules above."""
    lines = [" ".join(line.split()) for line in wanted.strip("\n").split("\n")] if wanted.strip() else []
    pattern = "".join(
        r"(?:.*\n)*" if line == ANYTHING else ".*".join(map(re.escape, line.split(ANYTHING))) + r"\n"
        for line in lines
    )
    got = "".join(" ".join(line.split()) + "\n" for line in text.removesuffix("\n").split("\n")) if text else ""
    return re.fullmatch(pattern, got) is not None


def _files() -> list[Path]:
    return sorted(path for path in HERE.glob("*.yaml") if path != GIVEN)


def _document(path: Path) -> dict[str, Any]:
    value = yaml.safe_load(path.read_text())
    assert isinstance(value, dict)
    return value


def _habit(part: str, row: dict[str, Any]) -> Habit:
    known = set(Habit.__dataclass_fields__) - {"part"}
    if strange := row.keys() - known:
        raise HabitError(f"{part}: {row.get('title')}: {', '.join(sorted(strange))}: no row has that")
    if missing := {"title", "do"} - row.keys():
        raise HabitError(f"{part}: {row}: {', '.join(sorted(missing))} is missing")
    return Habit(part, **{**row, "given": tuple(row.get("given", ()))})
