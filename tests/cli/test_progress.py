"""Progress: on a terminal alone, after a while, and gone when there is something to say."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeport_nft.cli import progress
from tests.cli.program import SCRIPT, Program

MANIFEST = b"{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}"
_SECONDS = 60.0


class Terminal:
    """A terminal that is the stderr of a program, which waits for the end of its stdin."""

    def __init__(self, directory: Path, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [str(SCRIPT), *words, "--store", str(directory / "store.db")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        )
        os.close(theirs)
        self.shown = b""

    def read(self, until: bytes = b"") -> None:
        """Read what comes; to the end, or until this has come."""
        end = time.monotonic() + _SECONDS
        while not until or until not in self.shown:
            ready, _, _ = select.select([self._ours], [], [], max(end - time.monotonic(), 0))
            assert ready, self.shown
            try:
                block = os.read(self._ours, 65536)
            except OSError:  # as Linux says that nobody has the other end any more
                block = b""
            if not block:
                assert not until, self.shown
                return
            self.shown += block

    def finish(self) -> tuple[int, bytes]:
        """Its exit code and stdout, once it has read to the end of stderr."""
        self.read()
        assert self.process.stdout
        out = self.process.stdout.read()
        return self.process.wait(timeout=_SECONDS), out

    def close(self) -> None:
        os.close(self._ours)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.kill()
        self.process.wait()


@contextmanager
def terminal(directory: Path, *words: str) -> Iterator[Terminal]:
    made = Terminal(directory, *words)
    try:
        yield made
    finally:
        made.close()


def screen(shown: bytes) -> list[str]:
    """What is to be seen in the end: the sequences that rich writes, obeyed; only these may come."""
    lines, row = [""], 0
    text = shown.decode()
    while text:
        if text.startswith("\x1b[2K"):
            lines[row], text = "", text[4:]
        elif text.startswith("\x1b[1A"):
            row, text = max(row - 1, 0), text[4:]
        elif text[0] == "\r":
            text = text[1:]
        elif text[0] == "\n":
            row, text = row + 1, text[1:]
            lines += [""] * (row + 1 - len(lines))
        else:
            assert text[0].isprintable(), text
            lines[row], text = lines[row] + text[0], text[1:]
    return [line for line in lines if line]


def test_a_terminal_sees_what_is_done_until_it_is_done(tmp_path: Path) -> None:
    with terminal(tmp_path, "apply", "-f", "-") as run:
        assert run.process.stdin
        run.process.stdin.write(MANIFEST)
        run.process.stdin.flush()
        run.read(until=b"reading manifests")
        run.process.stdin.close()
        code, out = run.finish()
        assert (code, out) == (0, b"service/web created\n")
        assert not [line for line in screen(run.shown) if "reading" in line or " s" in line.split()], run.shown
    assert Program(tmp_path).ok("get", "svc", "-o", "name") == "service/web\n"


def test_nothing_is_left_behind_by_ctrl_c(tmp_path: Path) -> None:
    with terminal(tmp_path, "apply", "-f", "-") as run:
        run.read(until=b"reading manifests")
        run.process.send_signal(signal.SIGINT)
        code, out = run.finish()
        assert (code, out, screen(run.shown)) == (130, b"", [])
        assert b"\x1b[?25l" not in run.shown, "the cursor of a terminal whose program is killed would be gone"


@pytest.mark.parametrize("where", ["pipe", "dumb terminal", "nowhere", "terminal"])
def test_whoever_cannot_show_it_is_left_alone(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    ours, theirs = os.pipe() if where == "pipe" else pty.openpty()
    monkeypatch.setenv("TERM", "dumb" if where == "dumb terminal" else "xterm")
    with os.fdopen(ours), os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr("sys.stderr", None if where == "nowhere" else stream)
        with progress.doing("something"):
            keepers = [each for each in threading.enumerate() if each.name == "progress"]
        assert len(keepers) == (where == "terminal")
        assert not any(each.is_alive() for each in keepers)


def test_a_step_inside_of_another_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE", 0.0)

    def wait_for(text: bytes) -> None:
        shown = b""
        while text not in shown:
            assert select.select([ours], [], [], _SECONDS)[0], shown
            shown += os.read(ours, 65536)

    with os.fdopen(ours), os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        with progress.doing("one", lambda: "hostile\x1b[31m"):
            wait_for(b"one hostile\\x1b[31m")
            with progress.doing("two"):
                wait_for(b"two")
                with progress.hidden():
                    stream.write("said")
                    stream.flush()
                wait_for(b"said")
                wait_for(b"two")
            wait_for(b"one")
