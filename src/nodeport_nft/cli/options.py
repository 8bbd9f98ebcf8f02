"""What several commands share: options of their own, the store, and how failures are told."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nodeport_nft.cli import colour, progress
from nodeport_nft.scarcity import scarcity
from nodeport_nft.terminal import visible_in

if TYPE_CHECKING:
    from nodeport_nft.cli.colour import Painter
    from nodeport_nft.config import Config
    from nodeport_nft.manifest import Manifests
    from nodeport_nft.model import Ranges
    from nodeport_nft.store import Objects

FAILED = 1
"""Exit code: not found, or refused by the kernel or the system."""

BAD_INPUT = 2
"""Exit code: wrong input or usage; nothing was changed."""


def whole_number(text: str) -> int:
    """The number of a flag: digits alone, where ``int`` takes those of other scripts, blanks and underscores."""
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is not an integer; write digits alone.")
    return int(text)


Prune = Annotated[
    bool, typer.Option("--prune", help="Let manifests delete what others wrote to the store, such as apply.")
]
Files = Annotated[
    list[str] | None,
    typer.Option("--filename", "-f", metavar="PATH", help="File, directory or - for stdin; repeatable."),
]
RequiredFiles = Annotated[
    list[str],
    typer.Option("--filename", "-f", metavar="PATH", help="File, directory or - for stdin; repeatable."),
]
Namespace = Annotated[
    str,
    typer.Option(
        "--namespace", "-n", help="Namespace of objects that name none; default: the context's, or default."
    ),
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Look in every namespace.")]
NodeName = Annotated[
    str | None, typer.Option("--node-name", metavar="NAME", help="Which node this is; default the host name.")
]
NodeIP = Annotated[
    list[str] | None,
    typer.Option("--node-ip", metavar="IP", help="Primary address of the node; once a family."),
]


def put(text: str, end: str = "\n", paint: Painter | None = None) -> None:
    """Write data to stdout: the one way there. What could steer a terminal is escaped. Raises OSError.

    ``paint`` gives it colours, where there are any.
    """
    if sys.stdout is not None:  # as where the program is started with `>&-`
        shown = visible_in(sys.stdout.encoding, text)
        if paint is not None and colour.wants_colour(sys.stdout):
            shown = paint(shown)
        with progress.hidden():
            sys.stdout.write(shown + end)
            sys.stdout.flush()


def say(message: str) -> None:
    """Talk to the person at the terminal, on stderr: the one way there.

    Nobody may listen. That changes nothing about what was asked for, and exit codes still tell how it went.
    """
    if sys.stderr is None:
        return
    try:
        shown = visible_in(sys.stderr.encoding, message)
        if colour.wants_colour(sys.stderr):
            shown = colour.said(shown)
        with progress.hidden():
            sys.stderr.write(shown + "\n")
            sys.stderr.flush()
    except OSError:
        _abandon(2)


def warn(messages: Iterable[str]) -> None:
    """Say each message as a warning."""
    for message in messages:
        say(f"warning: {message}")


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say what went wrong and leave with ``code``."""
    for line in message.splitlines():
        say(f"error: {line}")
    raise typer.Exit(code)


def abandon_stdout() -> None:
    """Send what is still to be written nowhere, so that the interpreter does not complain when it flushes at the end.

    Source: Python's library reference, "Note on SIGPIPE" (signal).
    """
    _abandon(1)


def _abandon(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


@contextmanager
def reported(code: int | None = None) -> Iterator[None]:
    """Tell errors on stderr and leave: BAD_INPUT for wrong input, else FAILED; or always ``code``."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:
        abandon_stdout()  # the reader has seen enough (`| head`)
        raise typer.Exit(0) from None
    except Exception as error:
        if wanting := scarcity(error):
            fail(wanting, FAILED if code is None else code)
        kind = _exit_code(error)
        if kind is None:
            raise
        if isinstance(error, OSError) and error.filename is None:
            abandon_stdout()  # it may be what cannot be written
        leave_with = kind if code is None else code
        if _names_its_place(error):
            say(str(error))
            raise typer.Exit(leave_with) from None
        fail(_told(error), leave_with)


def _told(error: Exception) -> str:
    """An expected error in words; the system's own without their numbers."""
    from nodeport_nft.problems import clipped

    if isinstance(error, UnicodeEncodeError):
        return f"{clipped(error.object)}: is not UTF-8 text; check the arguments"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _names_its_place(error: Exception) -> bool:
    """Whether each line begins with ``file:line:`` already, which editors and people jump to."""
    from nodeport_nft.problems import Problems

    return isinstance(error, Problems) and all(problem.source for problem in error.problems)


def _exit_code(error: Exception) -> int | None:
    """The exit code of an expected error; None for one that is a defect of ours and deserves its traceback."""
    from nodeport_nft.config import ConfigError
    from nodeport_nft.errors import KernelError
    from nodeport_nft.problems import Problems
    from nodeport_nft.store import OthersObjects, StoreError, Superseded

    if isinstance(error, Superseded):  # the input is right, and comes too late
        return FAILED
    # Bytes that are not UTF-8 come from arguments alone: files are checked when read, output is escaped.
    if isinstance(error, ConfigError | Problems | OthersObjects | UnicodeEncodeError):
        return BAD_INPUT
    if isinstance(error, KernelError | StoreError | OSError):
        return FAILED
    return None


def may_exist(store: str) -> bool:
    """Whether there is a store; one that may not be looked at counts, so that opening it says why."""
    from nodeport_nft.store import opening  # late: --help and the shell's completion do without

    return opening.may_exist(store)


def open_existing(config: Config) -> Objects:
    """The store of the configuration, to read it. Raises StoreError, also where there is none."""
    from nodeport_nft.store import opening

    return opening.open_existing(config)


def allowed_ranges(config: Config) -> Ranges:
    """Where the numbers that a manifest asks for may come from; an API server has ranges of its own."""
    from nodeport_nft.model import Ranges
    from nodeport_nft.store import is_kubernetes

    return Ranges.of_anybody() if is_kubernetes(config.store) else config.ranges


def read_files(
    files: list[str],
    config: Config,
    namespace: str = "default",
    *,
    names_only: bool = False,
    tell: Callable[[Iterable[str]], None] = warn,
) -> Manifests:
    """The objects of these files, and ``tell`` of the warnings. Raises Problems with everything that is wrong.

    ``names_only`` as ``read_manifests`` has it.
    """
    files = [part for file in files for part in _parted(file)]
    for file in files:
        if file.lower().startswith(("http://", "https://")):
            fail(f"{file}: nothing is fetched here; write curl -fsSL {file} | nodeport-nft ... -f -", BAD_INPUT)
    from nodeport_nft.manifest import read_manifests
    from nodeport_nft.text.files import STDIN
    from nodeport_nft.text.steps import told_waiting

    if sys.stdin is None and STDIN in files:
        fail("stdin is closed; name a file, or write < FILE", BAD_INPUT)

    def place() -> str:
        step = steps.step
        return "" if step is None else step.shown

    with told_waiting(say) as steps, progress.doing("reading manifests", place):
        manifests = read_manifests(
            files,
            ranges=allowed_ranges(config),
            namespace=namespace,
            max_document_bytes=config.max_document_bytes,
            stdin=sys.stdin.buffer if sys.stdin else None,
            validate=config.validate,
            to_store=True,
            names_only=names_only,
            steps=steps,
        )
    tell(manifests.warnings)
    return manifests


def _parted(file: str) -> list[str]:
    """Names between commas, as kubectl takes them, unless there is a file of that name; a URL may have commas."""
    if "," not in file or "://" in file or os.path.lexists(file):
        return [file]
    return [part for part in file.split(",") if part]


def now() -> str:
    """The current time as the API writes it (RFC 3339, seconds, UTC)."""
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
