"""The command line: arguments, printing and exit codes, and nothing that decides anything.

Stdout is data, stderr is talk. Exit codes: 0 done; 1 failed (not found, refused by the kernel; ``diff``: there are
changes); 2 wrong input or usage, nothing was changed (``diff``: trouble of any kind).

Modules with heavy imports (YAML, SQLite, netlink, libnftables) are imported by the commands that need them, so that
``--help`` and completion answer at once.
"""

import sys

from nodeport_nft.cli.app import app


def main() -> None:
    """The console entry point ``nodeport-nft``.

    Commands report their errors themselves; what is left is help or an error message that cannot be written.
    """
    try:
        app(prog_name="nodeport-nft")
    except OSError as error:
        sys.stdout = None  # the interpreter must not try again, and complain, while it flushes
        sys.exit(f"error: {error.strerror or error}")


__all__ = ["app", "main"]
