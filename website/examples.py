"""What commands answer about ``examples/my-ser.yaml``, as Markdown: the program itself is asked, in this process."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
EXAMPLE = "examples/my-ser.yaml"


def trace() -> str:
    """A connection that arrives: all but the list of rules."""
    words = f"trace 172.30.0.10 172.30.1.2:32367 -f {EXAMPLE} --node-name worker-1"
    return _console((words, _answer(words).partition("\n\nrules")[0]))


def trace_nothing() -> str:
    """Two that do not: their first lines."""
    asked = [f"trace {end} -f {EXAMPLE} --node-name worker-1" for end in ("localhost:32367", "172.30.1.2:31111")]
    return _console(*((words, _answer(words).partition("\npacket")[0] + "\n…") for words in asked))


def graph() -> str:
    """The Service as mermaid, which is a picture where the page is shown."""
    words = f"graph my-ser -f {EXAMPLE}"
    return f"{_console((words, ''))}\n\n```mermaid\n{_answer(words)}\n```"


def tree() -> str:
    """The Service as text."""
    words = "describe service my-ser --tree"
    with TemporaryDirectory() as directory:
        store = f" --store {directory}/store.db"
        _answer(f"apply -f {EXAMPLE}{store}")
        return _console((words, _answer(words + store)))


def _console(*asked: tuple[str, str]) -> str:
    lines = (line for words, answer in asked for line in (f"# nodeport-nft {words}", answer) if line)
    return "\n".join(["```console", *lines, "```"])


def _answer(words: str) -> str:
    """Stdout of the command, in the repository's root. Raises AssertionError where it fails."""
    from nodeport_nft.cli import app

    before = Path.cwd()
    os.chdir(ROOT)
    try:
        done = CliRunner().invoke(app, words.split())
    finally:
        os.chdir(before)
    assert done.exit_code == 0, done.output
    return done.stdout.rstrip("\n")
