"""The first moments of the program: signals that come while it is being imported, and streams that are closed."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CHILD = """
import importlib.abc, os, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == MODULE:
            os.kill(os.getpid(), NUMBER)

sys.meta_path.insert(0, Interrupting())
from nodeport_nft.entry import main
main()
"""


def interrupted(module: str, number: int, *words: str) -> tuple[int, str]:
    """The exit code and stderr of the program that gets this signal when it begins to import this module."""
    code = f"MODULE, NUMBER = {module!r}, {number}\n{_CHILD}"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["typer", "nodeport_nft.cli.app", "nodeport_nft.cli.sync"])
@pytest.mark.parametrize("number", [2, 15], ids=["SIGINT", "SIGTERM"])
def test_a_daemon_that_is_stopped_while_it_is_imported_ends_well(module: str, number: int) -> None:
    assert interrupted(module, number, "sync") == (0, "")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (module, words)
        for words, own in ((("get", "svc"), "get.command"), (("sync", "--once"), "sync"))
        for module in ("gc", "nodeport_nft.scarcity", "typer", "nodeport_nft.cli.app", f"nodeport_nft.cli.{own}")
    ],
)
def test_ctrl_c_while_a_command_is_imported_has_no_traceback(module: str, words: tuple[str, ...]) -> None:
    assert interrupted(module, 2, *words) == (130, "")


def test_a_closed_stream_is_nobody_elses() -> None:
    """What is opened next would have its number, and what is written to stderr would end up there."""
    code = "import os; os.close(0); os.close(2)\nfrom nodeport_nft.entry import _open_standard_streams as f; f()\n"
    code += "opened = os.open('/dev/zero', os.O_RDONLY); print(opened > 2, os.readlink('/proc/self/fd/2'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True /dev/null\n"
