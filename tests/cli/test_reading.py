"""What -f reads at once: pipes that the user names, and directories with files that hang or are held by others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.program import SCRIPT
from tests.hanging import Op, hanging

NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: worker-1}\n"
CREATED = "node/worker-1 created\n"


@pytest.mark.parametrize(
    "line",
    [
        '"$PROGRAM" apply -f - --store s.db < node.yaml',
        '"$PROGRAM" apply -f /dev/stdin --store s.db < node.yaml',
        'cat node.yaml | "$PROGRAM" apply -f /dev/stdin --store s.db',
        'exec 7< node.yaml; "$PROGRAM" apply -f /dev/fd/7 --store s.db',
        'mkfifo pipe; cat node.yaml > pipe & "$PROGRAM" apply -f pipe --store s.db',
    ],
)
def test_pipes_that_are_named_are_read(tmp_path: Path, line: str) -> None:
    (tmp_path / "node.yaml").write_text(NODE)
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PROGRAM": str(SCRIPT)},
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, CREATED, "")


def test_a_pipe_in_a_directory_is_told_and_nothing_is_applied(tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "node.yaml").write_text(NODE)
    os.mkfifo(manifests / "pipe.yaml")
    argv = [str(SCRIPT), "apply", "-f", "manifests", "--store", "s.db"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert "manifests/pipe.yaml: is a named pipe, no file; move it elsewhere" in done.stderr


@pytest.mark.usefixtures("private_namespaces")
def test_what_takes_long_is_told_and_waited_for(tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    with hanging(far, {"node.yaml": NODE}) as server:
        server.hold("node.yaml", only=Op.READ)
        argv = [str(SCRIPT), "apply", "-f", "far", "--store", "s.db"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as run:
            assert run.stderr is not None
            told = run.stderr.readline()
            server.release()
            out, err = run.communicate(timeout=120)
    assert told == "far/node.yaml: reading has taken more than 5 s; still waiting, Ctrl-C ends it\n"
    assert (run.returncode, out, err) == (0, CREATED, "")
