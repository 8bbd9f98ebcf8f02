"""The command line: arguments, printing and exit codes, and nothing that decides anything.

Stdout is data, stderr is talk. Exit codes: 0 done; 1 failed (not found, refused by the kernel; ``diff``: there are
changes, ``check``: something is wrong); 2 wrong input or usage, nothing was changed (both: trouble of any kind).

Modules with heavy imports (YAML, SQLite, netlink, libnftables) are imported by the commands that need them, so that
``--help`` and completion answer at once.
"""

import io
import sys

import typer

from nodeport_nft.cli.app import app
from nodeport_nft.cli.options import BAD_INPUT, FAILED, abandon_stdout, say
from nodeport_nft.cli.verbs import flag_elsewhere
from nodeport_nft.scarcity import scarcity

_UsageError = typer.BadParameter.__bases__[0]  # Click's, which newer Typers bring along under another name
_ClickException = _UsageError.__bases__[0]


def main() -> None:
    """What ``entry`` hands over to: run the command that the arguments name, and leave.

    Commands report their errors themselves; what is left are those of arguments, and help that cannot be written.
    """
    try:
        code = app(prog_name="nodeport-nft", standalone_mode=False)
    except typer.Abort:
        say("Aborted!")
        code = FAILED
    except BrokenPipeError:
        abandon_stdout()
        code = 0
    except OSError as error:
        abandon_stdout()
        say(f"error: {error.strerror or error}")
        code = FAILED
    except Exception as error:
        if isinstance(error, _ClickException) and (hint := flag_elsewhere(error)):
            say(f"error: {hint}")
            code = BAD_INPUT
        elif isinstance(error, _ClickException):  # it repeats arguments
            words = io.StringIO()
            error.show(words)  # type: ignore[attr-defined]
            say(words.getvalue().rstrip("\n"))
            code = error.exit_code  # type: ignore[attr-defined]
        elif wanting := scarcity(error):
            say(f"error: {wanting}")
            code = FAILED
        else:
            raise
    sys.exit(code if isinstance(code, int) else 0)


__all__ = ["app", "main"]
