"""edit: stored objects → the user's editor → the store; what somebody else has written meanwhile stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from nodeport_nft.cli.changing.editing import edit_until_stored, read_edited
from nodeport_nft.cli.changing.manifests import Recursive
from nodeport_nft.cli.changing.outcome import Manner, OutputOption, printed, read_form, tell_written
from nodeport_nft.cli.changing.stored import Named, as_it_was_read, check_store, look_up, parse_asked, undrained
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import Files, Namespace, fail, now
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from nodeport_nft.cli.changing.editor import EditedFile
    from nodeport_nft.cli.get.output import Output
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object

_KEPT = ("resourceVersion", "uid")
"""What says which object, and which state of it, was edited."""


@command
def edit(
    *,
    resources: Named = None,
    filename: Files = None,
    recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
    namespace: Namespace = "default",
    output: OutputOption = None,
    flags: Annotated[Flags, "validate", Group.NUMBERS, "store"],
) -> None:
    """Edit stored objects in your editor: KUBE_EDITOR, EDITOR or vi; with -o json as JSON.

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
    form = read_form(output)
    edit_until_stored(objects, form, lambda file: _stored(chosen, objects, file, form))


def _stored(config: Config, objects: Sequence[Object], file: EditedFile, output: Output | None) -> bool:
    """Store what the file says and tell of it; False where that is what was there. Raises as the store does."""
    from nodeport_nft.store import open_objects

    edited = _read(config, objects, file)
    if not edited:
        return False
    with open_objects(config, replacing=True) as store:
        written = store.write(edited, now=now())
    file.remove()
    tell_written(config, written, Manner(output=output, past="edited", alike="skipped"))
    return True


def _read(config: Config, objects: Sequence[Object], file: EditedFile) -> list[Object]:
    """The objects that the user has changed. Raises Problems with what is wrong, such as others than there were."""
    from msgspec.structs import replace

    from nodeport_nft.problems import Problem, Problems
    from nodeport_nft.store import is_kubernetes

    before = {one.ref: one for one in objects}
    found = {one.ref: one for one in read_edited(file, config)}
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
