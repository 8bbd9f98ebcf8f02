"""The user's editor on a text of objects, until what he has written can be stored or he gives up.

What is wrong comes back to him as comments above it, as with kubectl, until he mends it or leaves it as it is. What
he has written is never lost: where it cannot be stored, he is told of a copy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, NoReturn

import typer

from nodeport_nft.cli.options import FAILED, read_files, say, warn

if TYPE_CHECKING:
    from nodeport_nft.cli.changing.editor import EditedFile
    from nodeport_nft.cli.get.output import Output
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.problems import Problem

_MOST_TURNS = 100
"""How often an editor is opened: one that is a program may write what cannot be for ever."""

_HEADER = """\
# Edit the objects below. Lines that begin with '#' are left out, and an empty file changes nothing.
# What is wrong when it is saved comes back as comments here.
#
"""

Store = Callable[["EditedFile"], bool]
"""Stores what the file says, and removes it; False where that is nothing new. Raises as a store does."""


def edit_until_stored(objects: Sequence[Object], output: Output | None, store: Store) -> None:
    """Let the user edit the documents of ``objects``, in JSON where that is the ``output``."""
    from msgspec.structs import replace

    from nodeport_nft.cli.changing.editor import EditedFile, EditorError
    from nodeport_nft.problems import Problems
    from nodeport_nft.store import StoreError, Superseded

    is_json = output is not None and output.form == "json"
    body = _text(objects, is_json=is_json)
    file = EditedFile(".json" if is_json else ".yaml")
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
            if not store(file):
                _cancel(file, "no changes made.")
        except (Superseded, StoreError) as error:  # nothing that he could mend in it
            say("\n".join(f"error: {line}" for line in str(error).splitlines()))
            _leave(file)
        except Problems as error:
            failed = body
            lines = [str(replace(problem, source=_place(problem, edited))) for problem in error.problems]
        else:
            return


def read_edited(file: EditedFile, config: Config, namespace: str = "default") -> tuple[Object, ...]:
    """The objects of what the user has written. Raises Problems.

    The file is gone when a warning is read: that says which object it is about, and no line.
    """
    from msgspec.structs import replace

    place = re.compile(re.escape(str(file.path)) + r"(:\d+)?: ")

    def tell(warnings: Iterable[str]) -> None:
        warn(place.sub("", text, count=1) for text in warnings)

    found = read_files([str(file.path)], config, namespace, tell=tell).objects
    edited = []
    for one in found:
        placeless = tuple(replace(each, problem=replace(each.problem, source="")) for each in one.leftovers)
        edited.append(replace(one, source="", leftovers=placeless))
    return tuple(edited)


def _text(objects: Sequence[Object], *, is_json: bool) -> str:
    from nodeport_nft.cli.changing.outcome import printed
    from nodeport_nft.cli.output_formats import to_json, to_yaml

    documents = [printed(one) for one in objects]
    if not is_json:
        return "---\n".join(to_yaml(each) + "\n" for each in documents)
    listed = {"apiVersion": "v1", "kind": "List", "items": documents}
    return to_json(documents[0] if len(documents) == 1 else listed) + "\n"


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
