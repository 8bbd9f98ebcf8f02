"""The user's editor, on a file of his own: text → text."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

_VARIABLES = ("KUBE_EDITOR", "EDITOR")  # kubectl's, in its order
_DEFAULT = "vi"

_BYTES = "surrogateescape"
"""What is no UTF-8 stays as it is in the file, and is told by whoever reads it as a manifest."""


class EditorError(Exception):
    """The editor could not be run, or has failed; the message says which."""


class EditedFile:
    """A file that nobody else can read, until it is removed."""

    def __init__(self, suffix: str) -> None:
        """``suffix``: by which an editor knows what it is, ".yaml". Raises OSError."""
        handle, name = tempfile.mkstemp(prefix="nodeport-nft-edit-", suffix=suffix)
        os.close(handle)
        self.path = Path(name)
        self._given = ""

    def edit(self, text: str) -> str:
        """What the user makes of a text. Raises OSError and EditorError."""
        self._given = text
        self.path.write_text(text, encoding="utf-8", errors=_BYTES)
        words = _editor()
        # Ctrl-C is the editor's, which has the terminal: a handler of ours does nothing, and is none of its own.
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda *_: None)
        try:
            done = subprocess.run([*words, str(self.path)], check=False)  # noqa: S603 (it is the user's own)
        except OSError as error:
            raise EditorError(
                f"editor {shlex.join(words)}: {error.strerror}; name another with KUBE_EDITOR or EDITOR"
            ) from error
        finally:
            signal.signal(signal.SIGINT, before)
        if done.returncode:
            raise EditorError(f"editor {shlex.join(words)} ended with {done.returncode}; nothing is changed")
        return self._text()

    def is_touched(self) -> bool:
        """Whether the user has saved anything of his own since it was given to him. Raises OSError."""
        return self._text() != self._given

    def remove(self) -> None:
        """It was of use, or of none."""
        self.path.unlink(missing_ok=True)

    def _text(self) -> str:
        return self.path.read_text(encoding="utf-8", errors=_BYTES)


def _editor() -> list[str]:
    """The words of the user's editor. Raises EditorError."""
    given = next((value for name in _VARIABLES if (value := os.environ.get(name, "").strip())), "")
    if not given:
        if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):  # vi would wait for ever
            raise EditorError(f"{_DEFAULT} needs a terminal; name another editor with KUBE_EDITOR or EDITOR")
        given = _DEFAULT
    try:
        return shlex.split(given)
    except ValueError as error:
        raise EditorError(f"editor {given!r}: {error}; name it with KUBE_EDITOR or EDITOR") from error
