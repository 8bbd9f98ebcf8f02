"""Runs the installed program, as a person does: the script beside this interpreter, with a store of its own."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.forge import Forge

SCRIPT = Path(sys.executable).parent / "nodeport-nft"

_SECONDS = 60.0  # until a run is given up

_forges: dict[tuple[int, ...], Forge] = {}


def forge() -> Forge:
    """The one that forks in the namespaces that this process is in now."""
    here = tuple(Path(f"/proc/self/ns/{kind}").stat().st_ino for kind in ("net", "mnt"))
    if here not in _forges:
        _forges[here] = Forge()
        atexit.register(_forges[here].close)
    return _forges[here]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one run printed, and its exit code."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Program:
    """The program with the store ``directory/store.db``; ``directory`` is where it runs, too."""

    directory: Path

    @property
    def store(self) -> Path:
        return self.directory / "store.db"

    def run(self, *words: str, stdin: str | bytes = "", env: Mapping[str, str] | None = None) -> Answer:
        """One run, whatever comes of it; nothing that comes of it may be a traceback.

        With an environment of its own it is a process from the start, since Python reads that when it starts.
        """
        given = stdin.encode() if isinstance(stdin, str) else stdin
        if env is None:
            code, out, err = forge().run(words, cwd=self.directory, stdin=given, timeout=_SECONDS)
        else:
            done = subprocess.run(
                [SCRIPT, *words],
                input=given,
                capture_output=True,
                cwd=self.directory,
                env={**os.environ, **env},
                check=False,
                timeout=_SECONDS,
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        answer = Answer(code, out.decode(), err.decode())
        assert "Traceback" not in answer.err, answer.err
        return answer

    def __call__(self, *words: str, stdin: str | bytes = "", env: Mapping[str, str] | None = None) -> Answer:
        """One run on the store."""
        return self.run(*words, "--store", str(self.store), stdin=stdin, env=env)

    def ok(self, *words: str, stdin: str | bytes = "") -> str:
        """What a run printed that must succeed and has nothing to say on stderr."""
        answer = self(*words, stdin=stdin)
        assert (answer.code, answer.err) == (0, ""), answer
        return answer.out

    def json(self, *words: str) -> Any:
        """What ``get … -o json`` gives."""
        return json.loads(self.ok("get", *words, "-o", "json"))


def rest(terminal: int) -> str:
    """What is left to be read of a terminal whose other end is closed, which ends in EIO."""
    said = b""
    with suppress(OSError):
        while more := os.read(terminal, 1 << 16):
            said += more
    return said.decode()
