"""The command line: arguments, printing and exit codes, and nothing that decides anything.

Stdout is data, stderr is talk. Exit codes: 0 done; 1 failed (not found, refused by the kernel; ``diff``: there are
changes); 2 wrong input or usage, nothing was changed (``diff``: trouble of any kind).

Modules with heavy imports (YAML, SQLite, netlink, libnftables) are imported by the commands that need them, so that
``--help`` and completion answer at once.
"""

import contextlib
import os
import sys

from nodeport_nft.cli.app import app
from nodeport_nft.cli.options import abandon_stdout


def main() -> None:
    """The console entry point ``nodeport-nft``.

    Commands report their errors themselves; what is left is help or an error message that cannot be written.
    """
    try:
        app(prog_name="nodeport-nft")
    except OSError as error:
        abandon_stdout()
        with contextlib.suppress(OSError):  # stderr may be full as well
            print(f"error: {error.strerror or error}", file=sys.stderr, flush=True)
        os._exit(1)  # nothing is left to do, and a full stderr would be complained about at the end


__all__ = ["app", "main"]
