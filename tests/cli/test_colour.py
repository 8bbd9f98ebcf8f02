"""Colour: on terminals alone, where nobody has said otherwise, and never in the place of anything."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest

from nodeport_nft.cli import colour
from tests.cli.habits import GIVEN
from tests.cli.program import SCRIPT, Program

RED, GREEN, YELLOW = (f"\x1b[{code}m" for code in (31, 32, 33))
_COLOURS = re.compile(r"\x1b\[[0-9]*m")


def plain(text: str) -> str:
    return _COLOURS.sub("", text)


def of(code: str, text: str) -> list[str]:
    """What has this colour."""
    return re.findall(re.escape(code) + r"([^\x1b]*)\x1b\[0m", text)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = Program(tmp_path_factory.mktemp("colours"))
    program.ok("apply", "-f", str(GIVEN))
    program("create", "service", "nodeport", "idle", "--tcp=81")
    return program


@pytest.mark.parametrize(
    ("words", "red", "yellow", "green"),
    [
        (("get", "pods,endpoints"), ["0/1", "<none>"], [], []),
        (("get", "svc", "--show-labels"), [], [], []),
        (("describe", "svc", "idle"), ["<none>"], ["Warning"], []),
        (("describe", "svc", "web"), [], [], []),
        (("get", "svc", "nobody"), ["error"], [], []),
        (("gte",), ["Error"], [], []),
        (("get", "pods", "-o", "yaml"), [], [], []),
    ],
)
def test_colours_are_added_and_nothing_else_changes(
    filled: Program, words: tuple[str, ...], red: list[str], yellow: list[str], green: list[str]
) -> None:
    def ages_gone(text: str) -> str:
        return re.sub(r"\b\d+[ms]\d*s?\b *", "", text)

    coloured = filled(*words, "--color=always")
    for switched_off in (filled(*words), filled("--color", "never", *words)):
        assert ages_gone(switched_off.out) == ages_gone(plain(coloured.out))
        assert switched_off.err == plain(coloured.err)
    shown = coloured.out + coloured.err
    assert (of(RED, shown), of(YELLOW, shown), of(GREEN, shown)) == (red, yellow, green)


@pytest.mark.parametrize(
    ("env", "wanted", "has"),
    [
        ({}, "auto", True),
        ({}, "never", False),
        ({"NO_COLOR": "1"}, "auto", False),
        ({"NO_COLOR": ""}, "auto", True),
        ({"NO_COLOR": "1"}, "always", True),
        ({"TERM": "dumb"}, "auto", False),
    ],
)
def test_a_terminal_gets_colours_unless_it_wants_none(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], wanted: str, has: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm"} | env).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(colour, "wanted", colour.Colour(wanted))
    ours, theirs = pty.openpty()
    with os.fdopen(ours), os.fdopen(theirs, "w") as terminal:
        assert colour.wants_colour(terminal) is has


def test_the_program_sees_its_terminal(filled: Program) -> None:
    """And the pipe beside it, which gets none."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    command = [str(SCRIPT), "get", "svc,pods", "nobody", "--store", str(filled.store)]
    with os.fdopen(ours, "rb") as terminal:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=env, timeout=60, check=False)
        os.close(theirs)
        text = terminal.read1()
    assert (of(RED, text.decode())[0], b"\x1b" in done.stdout) == ("error", False)


@pytest.mark.parametrize(
    ("paint", "text", "red", "yellow", "green"),
    [
        (
            colour.changes,
            "add element ip t m {\n\t1 : 2\n}\ndelete element ip t m {\n\t3 : 4\n}\ntable ip t {\n\tx\n}\n",
            ["delete element ip t m {", "\t3 : 4", "}"],
            [],
            ["add element ip t m {", "\t1 : 2", "}"],
        ),
        (colour.status, "Health:    all is well\nProblems:  none\nRefused:   none", [], [], ["all is well"]),
        (
            colour.status,
            "Health:      late\nProblems:    one\n             two\nLag:         none\nLast error:  bad",
            ["late", "one", "two", "bad"],
            [],
            [],
        ),
        (
            colour.status,
            "Health:   all is well;\n            more\nLast error:  now, solved since: bad;\n               more",
            [],
            ["now, solved since: bad;", "more"],
            ["all is well;", "more"],
        ),
        (
            colour.status,
            "Last error:  2026-01-01 (5s ago), solved since: bad",
            [],
            ["2026-01-01 (5s ago), solved since: bad"],
            [],
        ),
        (
            colour.table,
            "NAME   STATUS     AGE\na      NotReady   1s\nb      Ready,SchedulingDisabled   1s",
            ["NotReady"],
            ["Ready,SchedulingDisabled"],
            [],
        ),
        (
            colour.table,
            "NAMESPACE   NAME   READY   STATUS    AGE\na           b      10/10   Pending   1s",
            [],
            ["Pending"],
            [],
        ),
        (colour.walk, "answer      reaches web\noutcome     forwarded", [], [], ["reaches web", "forwarded"]),
        (colour.walk, "answer      nothing is there: no", ["nothing is there: no"], [], []),
        (colour.said, "warning: error: x", [], ["warning"], []),
        (colour.said, "web.yaml:3: error: x\nsecond error: y", [], [], []),
    ],
)
def test_what_has_which_colour(
    paint: colour.Painter, text: str, red: list[str], yellow: list[str], green: list[str]
) -> None:
    shown = paint(text)
    assert plain(shown) == text
    assert (of(RED, shown), of(YELLOW, shown), of(GREEN, shown)) == (red, yellow, green)


def test_no_other_word_is_taken_for_the_missing_value(filled: Program) -> None:
    done = filled.run("get", "svc", "--color")
    assert (done.code, done.out) == (2, "")
    assert "'--color': '' is not one of" in done.err


def test_what_objects_say_is_escaped_whatever_the_colour(filled: Program) -> None:
    """A sequence of theirs is none of ours."""
    label = json.dumps({"a": "\x1b[31mred"})
    manifest = f'{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "x", "annotations": {label}}}}}'
    hostile = Program(filled.directory / "hostile")
    hostile.directory.mkdir()
    hostile.ok("apply", "-f", "-", stdin=manifest)
    assert "\x1b" not in hostile("describe", "pod", "x", "--color=always").out


def test_what_doctor_finds_has_the_colour_of_its_state_alone() -> None:
    text = "ok       a  failed  b\nfailed   a  seen\n         try: ok  \nwarning  b  seen\nnot looked at  c  why"
    coloured = colour.findings(text)
    assert plain(coloured) == text
    assert [of(code, coloured) for code in (GREEN, RED, YELLOW)] == [["ok"], ["failed"], ["warning"]]
