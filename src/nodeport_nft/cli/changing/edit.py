"""edit: stored objects → the user's editor → the store.

What is wrong with what the user has written comes back to him as comments above it, as with kubectl, until he mends
it or leaves it as it is. What he has written is never lost: where it cannot be stored, he is told of a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from nodeport_nft.cli.changing.manifests import Recursive
from nodeport_nft.cli.changing.outcome import Manner, OutputOption, printed, read_form, tell
from nodeport_nft.cli.changing.stored import as_it_was_read, check_store, look_up, parse_asked, undrained
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import FAILED, Files, Namespace, fail, now, read_files, say, warn
from nodeport_nft.cli.resources import complete
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from nodeport_nft.cli.changing.editor import EditedFile
    from nodeport_nft.cli.get.output import Output
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.problems import Problem

_KEPT = ("resourceVersion", "uid")
"""What says which object, and which state of it, was edited."""

_MOST_TURNS = 100
"""How often an editor is opened: one that is a program may write what cannot be for ever."""

_HEADER = """\
# Edit the objects below. Lines that begin with '#' are left out, and an empty file changes nothing.
# What is wrong when it is saved comes back as comments here.
#
"""


@command
def edit(
    *,
    resources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND NAME",
            help="A kind and names, or KIND/NAME each time.",
            autocompletion=complete,
            show_default=False,
        ),
    ] = None,
    filename: Files = None,
    recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
    namespace: Namespace = "default",
    output: OutputOption = None,
    flags: Annotated[Flags, "validate", Group.NUMBERS, "store"],
) -> None:
    """Edit stored objects in your editor: KUBE_EDITOR, EDITOR or vi.

    What somebody else has written meanwhile is never overwritten.
    """
    from nodeport_nft.store import open_existing

    chosen = flags.config()
    asked = parse_asked(resources or [], files=filename, config=chosen, namespace=namespace)
    check_store(chosen)
    with open_existing(chosen) as store:  # not while the user edits: a writer keeps others waiting
        objects = look_up(store, asked)
    if not objects:
        fail("no objects to edit in the manifests; name others with -f")
    _edit(chosen, objects, read_form(output))


def _edit(config: Config, objects: Sequence[Object], output: Output | None) -> None:
    """Let the user edit them until it can be stored, or he gives up."""
    from dataclasses import replace

    from nodeport_nft.cli.changing.editor import EditedFile, EditorError
    from nodeport_nft.problems import Problems
    from nodeport_nft.store import StoreError, Superseded

    file = EditedFile()
    body = _text(objects)
    lines: list[str] = []
    failed: str | None = None
    for turn in count(1):
        comments = "".join(f"# * {line}\n" for line in lines) + ("#\n" if lines else "")
        try:
            edited = file.edit(_HEADER + comments + body)
        except EditorError as error:
            say(f"error: {error}")
            _leave(file, keeps=file.is_touched() or failed is not None)
        after = _without_comments(edited)
        if not after.strip():
            _cancel(file, "saved file was empty.")
        if failed is None and after == body:
            _cancel(file, "no changes made.")
        if after == failed or turn > _MOST_TURNS:
            say("\n".join(f"error: {line}" for line in lines))
            say("Edit cancelled, no valid changes were saved.")
            _leave(file)
        body = after
        try:
            if not _stored(config, objects, file, output):
                _cancel(file, "no changes made.")
        except (Superseded, StoreError) as error:  # nothing that he could mend in it
            say("\n".join(f"error: {line}" for line in str(error).splitlines()))
            _leave(file)
        except Problems as error:
            failed = body
            lines = [str(replace(problem, source=_place(problem, edited))) for problem in error.problems]
        else:
            return


def _text(objects: Sequence[Object]) -> str:
    from nodeport_nft.cli.output_formats import to_yaml

    return "---\n".join(to_yaml(printed(one)) + "\n" for one in objects)


def _without_comments(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _place(problem: Problem, text: str) -> str:
    """Where something is wrong that belongs to no object: the line itself, since comments move its number."""
    from nodeport_nft.problems import shown

    number = problem.source.rpartition(":")[2]
    lines = text.split("\n")
    if problem.object or not number.isdecimal() or not 0 < int(number) <= len(lines):
        return ""
    return f"at {shown(lines[int(number) - 1].strip())}"


def _cancel(file: EditedFile, why: str) -> NoReturn:
    file.remove()
    say(f"Edit cancelled, {why}")
    raise typer.Exit


def _leave(file: EditedFile, *, keeps: bool = True) -> NoReturn:
    """Leave with FAILED, and with a copy of what the user has written."""
    if keeps:
        say(f"A copy of your changes has been stored to {str(file.path)!r}")
    else:
        file.remove()
    raise typer.Exit(FAILED)


def _stored(config: Config, objects: Sequence[Object], file: EditedFile, output: Output | None) -> bool:
    """Store what the file says and tell of it; False where that is what was there. Raises as the store does."""
    from nodeport_nft.store import open_objects

    edited = _read(config, objects, file)
    if not edited:
        return False
    with open_objects(config, replacing=True) as store:
        written = store.write(edited, now=now())
    file.remove()
    warn(written.told)
    tell(written.applied, Manner(output=output, past="edited", alike="skipped"))
    if any(one.action != "unchanged" for one in written.applied):
        tell_if_unheard(config)
    return True


def _read(config: Config, objects: Sequence[Object], file: EditedFile) -> list[Object]:
    """The objects that the user has changed. Raises Problems with what is wrong, such as others than there were."""
    from dataclasses import replace

    from nodeport_nft.problems import Problem, Problems
    from nodeport_nft.store import is_kubernetes

    before = {one.ref: one for one in objects}
    found = {one.ref: one for one in read_files([str(file.path)], config).objects}
    stay = "kind, name and namespace stay as they are in an edit"
    wrong = [Problem("", str(ref), "", f"was not there to be edited; {stay}") for ref in found if ref not in before]
    wrong += [Problem("", str(ref), "", f"is missing; {stay}") for ref in before if ref not in found]
    if wrong:
        raise Problems(tuple(wrong))
    edited = []
    for ref, one in found.items():
        old = before[ref]
        kept = {key: old.raw["metadata"][key] for key in _KEPT if key in old.raw["metadata"]}
        raw = {**one.raw, "metadata": one.raw["metadata"] | kept}
        if raw != printed(old):
            if not is_kubernetes(config.store):  # which knows a uid for what it is, and nothing of drained ones
                raw = as_it_was_read(undrained(raw, old.raw))
            edited.append(replace(one, raw=raw))
    return edited
