"""Ctrl-C at any line of a command, event loops and libraries' included: exit code 130, and no word of it.

tests/unit/test_interrupts.py has every line of the event loop's life; here are some, by chance, of whole commands.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.program import Program
from tests.cli.watching import WAIT

POINTS = 8

_CHILD = """
import os, signal, sys, threading, time

manner, left, begun = sys.argv.pop(1), int(sys.argv.pop(1)), False

def press():
    signal.raise_signal(signal.SIGINT)

def go_on():
    for _ in range(100):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.0005)

class Finalized:
    def __del__(self):
        press()

def enter(frame, _event, _argument):
    global begun
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    begun = begun or (file.endswith("cli/flags.py") and name == "wrapped")
    counts = any(each in file for each in ("asyncio", "nodeport_nft", "pyroute2"))
    return line if begun and counts and name != "<module>" else None

def line(_frame, event, _argument):
    global left
    left -= event == "line"
    if left < 0:
        sys.settrace(None)
        if manner == "finalized":
            Finalized()
        else:
            if manner == "again and again":
                threading.Thread(target=go_on, daemon=True).start()
            press()
    return line

from nodeport_nft.entry import main
sys.settrace(enter)
main()
"""

MANIFEST = """\
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}
"""


@pytest.mark.parametrize(
    ("words", "lines"),
    [("get svc,ep -w", 6000), ("trace svc/web", 8000), ("apply -f web.yaml", 3500)],
)
@pytest.mark.parametrize("manner", ["once", "again and again", "finalized"])
def test_ctrl_c_at_any_line_of_a_command(tmp_path: Path, manner: str, words: str, lines: int) -> None:
    """``lines`` are fewer than the command has. Python goes on after an exception while it finalizes something."""
    program = Program(tmp_path)
    (tmp_path / "web.yaml").write_text(MANIFEST)
    assert program.run("apply", "-f", "web.yaml", "--store", str(program.store)).code == 0
    for number in random.Random(words).sample(range(lines), POINTS):
        code, said = interrupted(tmp_path, manner, number, *words.split(), "--store", str(program.store))
        # In its last moments Python takes the handlers away, and it is the signal that ends it: 130 in shells.
        assert (code in (130, -signal.SIGINT), said) == (True, []), f"at line {number}"


@pytest.mark.parametrize("words", ["get svc", "trace svc/web"])
def test_who_has_ctrl_c_ignored_is_not_interrupted(tmp_path: Path, words: str) -> None:
    """As shells have what a script leaves in the background."""
    program = Program(tmp_path)
    (tmp_path / "web.yaml").write_text(MANIFEST)
    assert program.run("apply", "-f", "web.yaml", "--store", str(program.store)).code == 0
    undisturbed = program.run(*words.split(), "--store", str(program.store)).code
    store = ("--store", str(program.store))
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    for number in (0, 500, 2000):
        outcome = interrupted(tmp_path, "once", number, *words.split(), *store, by=ignoring)
        assert outcome == (undisturbed, [])


def interrupted(
    directory: Path, manner: str, number: int, *words: str, by: Sequence[str] = ()
) -> tuple[int, list[str]]:
    """The exit code, and what is said that is not about the node or its Services."""
    done = subprocess.run(
        [*by, sys.executable, "-c", _CHILD, manner, str(number), *words],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith(("warning: ", "node ", "note: "))]
    return done.returncode, said
