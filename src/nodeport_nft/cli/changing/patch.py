"""patch: stored objects and a few fields → the objects with these fields.

The patch is worked out here, for every store alike, and what comes of it is checked as a manifest is. What was wrong
with an object before the patch is no fault of the patch's, and is left as it is.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodeport_nft.cli.changing.dry_run import DryRun, DryRunOption
from nodeport_nft.cli.changing.manifests import Recursive
from nodeport_nft.cli.changing.outcome import Manner, OutputOption, read_form, tell
from nodeport_nft.cli.changing.stored import (
    Asked,
    Named,
    as_it_was_read,
    check_store,
    look_up,
    parse_asked,
    undrained,
    with_uids,
    write_over,
)
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, Files, Namespace, allowed_ranges, fail, warn
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.kinds import reference
from nodeport_nft.settings import Group, Validate

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.store import Applied

_Patch = Callable[["Object"], Any]
"""What makes a document of a stored object. Raises PatchError, or leaves with FAILED."""

_WHICH = ("apiVersion", "kind", "name", "namespace")
_TOLD = ("namespace", "uid", "resourceVersion")  # by the request, where a document does not say them
_NONE = (None, "")
_STDIN = "/dev/stdin"


class PatchType(enum.StrEnum):
    """How a patch says what it changes."""

    strategic = "strategic"
    merge = "merge"
    json = "json"


@command
def patch(
    *,
    resources: Named = None,
    filename: Files = None,
    recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
    text: Annotated[
        str | None, typer.Option("--patch", "-p", metavar="PATCH", help="What to change, as JSON or YAML.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--patch-file", metavar="PATH", help="A file with what to change; - for stdin.")
    ] = None,
    how: Annotated[
        PatchType,
        typer.Option(
            "--type",
            case_sensitive=False,
            help="strategic: ports and the like are merged one by one; merge: RFC 7396; json: RFC 6902.",
        ),
    ] = PatchType.strategic,
    namespace: Namespace = "default",
    dry_run: DryRunOption = None,
    output: OutputOption = None,
    flags: Annotated[Flags, "validate", Group.NUMBERS, "store"],
) -> None:
    """Change a few fields of stored objects, and leave the others as they are.

    Ports of a Service are merged by their numbers, unless --type says otherwise.
    """
    chosen = flags.config()
    asked = parse_asked(resources or [], files=filename, config=chosen, namespace=namespace)
    given = _given(text, file, chosen)
    patching = _patching(how, _read(given, how, "--patch" if file is None else "--patch-file"))
    manner = Manner(dry_run, read_form(output), past="patched", alike="patched (no change)")
    check_store(chosen)
    _run(chosen, asked, patching, manner, once="resourceVersion" in given)


def _given(text: str | None, file: str | None, config: Config) -> str:
    """The text of the patch. Leaves with BAD_INPUT where there is none, or two. Raises Problems."""
    from nodeport_nft.problems import Problem, Problems
    from nodeport_nft.text.files import STDIN, read_text

    if (text is None) == (file is None):
        fail("say what to change, by either -p PATCH or --patch-file PATH", BAD_INPUT)
    if file is None:
        assert text is not None
        return text
    found = read_text(_STDIN if file == STDIN else file, config.max_document_bytes)
    if isinstance(found, Problem):
        raise Problems((found,))
    return found


def _read(text: str, how: PatchType, flag: str) -> Any:
    """The patch. Leaves with BAD_INPUT for what is none."""
    from nodeport_nft.text.document import Document
    from nodeport_nft.text.json_text import read_documents

    documents = list(read_documents(text))
    faults = [
        fault
        for each in documents
        for fault in ((*each.faults, *each.doubled) if isinstance(each, Document) else (each,))
    ]
    if faults:
        fail("\n".join(f"{flag}: line {fault.line}: {fault.message}" for fault in faults), BAD_INPUT)
    values = [each.value for each in documents if isinstance(each, Document)]
    wanted = list if how is PatchType.json else dict
    if len(values) != 1 or not isinstance(values[0], wanted):
        example = (
            '\'[{"op": "replace", "path": "/spec/type", "value": "NodePort"}]\', a list of operations'
            if how is PatchType.json
            else '\'{"spec": {"type": "NodePort"}}\', a mapping; a list of operations wants --type=json'
        )
        fail(f"{flag}: is not a patch of --type={how}; write {example}", BAD_INPUT)
    return values[0]


def _patching(how: PatchType, patch: Any) -> _Patch:
    """What a patch does to an object. Leaves with BAD_INPUT where nothing could be done by it."""
    from nodeport_nft.kube.patches import merge_patch, strategic_merge

    if how is PatchType.merge:
        return lambda one: merge_patch(one.raw, patch)
    if how is PatchType.strategic:
        return lambda one: strategic_merge(one.kind, one.raw, patch)
    from nodeport_nft.kube.operations import NotApplicableError, OperationError, check_operations, operated

    def changed(one: Object) -> Any:
        try:
            return operated(one.raw, patch)
        except NotApplicableError as error:
            fail(f"{reference(one.kind, one.name)}: --patch: {error}; see what is there with get -o json")

    try:
        check_operations(patch)
    except OperationError as error:
        fail(f"--patch: {error}", BAD_INPUT)
    return changed


def _run(config: Config, asked: Asked, patching: _Patch, manner: Manner, *, once: bool) -> None:
    from nodeport_nft.kube.patches import PatchError
    from nodeport_nft.store import Applied, open_objects, open_trial

    found: list[Object] = []

    def change(objects: Sequence[Object]) -> list[Object]:
        found[:] = objects
        return [made for one in objects if (made := _made(one, patching(one), config)) is not None]

    # Without the store nothing is asked but what is there; what a store would make of it is not known.
    opening = open_trial if manner.dry_run else open_objects
    done: dict[Any, Applied] = {}
    try:
        with opening(config, replacing=True) as store:
            if manner.dry_run is DryRun.client:
                wanted = change(look_up(store, asked))
                for one in with_uids(wanted, found):
                    done[one.ref] = Applied(reference(one.kind, one.name), one, "configured")
            else:
                written = write_over(store, asked, change, dry_run=bool(manner.dry_run), once=once)
                done = {one.object.ref: one for one in written.applied}
                warn((*written.told, *_lost(written.applied)))
    except PatchError as error:
        fail(f"--patch: {error}", BAD_INPUT)
    applied = [done.get(one.ref) or Applied(reference(one.kind, one.name), one, "unchanged") for one in found]
    tell(applied, manner)
    if not manner.dry_run and any(one.action != "unchanged" for one in applied):
        tell_if_unheard(config)


def _lost(applied: Sequence[Applied]) -> Iterator[str]:
    """What is to be said of what a patch changes and is not stored: of Pods and Nodes a store keeps little."""
    for one in applied:
        if one.action == "unchanged" and one.object.kind in ("Pod", "Node"):
            yield f"{one.ref}: nothing of this patch is kept: of a {one.object.kind} only what is of use here is"


def _made(stored: Object, raw: Any, config: Config) -> Object | None:
    """The object of a patched document; None: it is as it was. Raises PatchError, and Problems with what is wrong."""
    from nodeport_nft.kube.patches import PatchError
    from nodeport_nft.store import is_kubernetes

    raw = _told_by_request(raw, stored.raw)
    if raw == stored.raw:
        return None
    if _which(raw) != _which(stored.raw):
        raise PatchError((), "apiVersion, kind, name and namespace stay as they are in a patch")
    if raw["metadata"].get("uid") != stored.raw["metadata"].get("uid"):
        raise PatchError(("metadata", "uid"), "is that of another object; leave it out to change this one")
    if is_kubernetes(config.store):  # which knows a uid for what it is, and nothing of drained ones
        return _checked(stored, raw, config)
    return _checked(stored, as_it_was_read(undrained(raw, stored.raw)), config)


def _told_by_request(raw: Any, before: dict[str, Any]) -> Any:
    """The document, with what says which object was read, and which state of it, where the patch takes that away."""
    if not isinstance(raw, dict) or not isinstance(raw.get("metadata"), dict):
        return raw
    metadata = raw["metadata"]
    told = {key: before["metadata"][key] for key in _TOLD if key in before["metadata"]}
    taken = {key: value for key, value in told.items() if metadata.get(key) in _NONE}
    return {**raw, "metadata": {**metadata, **taken}} if taken else raw


def _which(raw: Any) -> list[Any]:
    """What says of which object a document is."""
    document = raw if isinstance(raw, dict) else {}
    metadata = document.get("metadata")
    both = {**document, **metadata} if isinstance(metadata, dict) else {}
    return [both.get(key) for key in _WHICH]


def _checked(stored: Object, raw: dict[str, Any], config: Config) -> Object:
    """The object of a document. Raises Problems with what is wrong with it by the patch."""
    from nodeport_nft.kube import parse_object
    from nodeport_nft.manifest import read_document
    from nodeport_nft.problems import Problems
    from nodeport_nft.store import is_kubernetes

    ranges = allowed_ranges(config)
    reading = read_document(raw, ranges=ranges, validate=config.validate)
    if reading.problems:
        before = read_document(stored.raw, ranges=ranges, validate=config.validate)
        known = {(problem.field, problem.message) for problem in before.problems}
        if by_patch := tuple(each for each in reading.problems if (each.field, each.message) not in known):
            raise Problems(by_patch)
        if is_kubernetes(config.store):  # the server has validated all the rest, by its own rules
            return parse_object(raw, lenient=True)
        reading = read_document(raw, ranges=ranges, validate=Validate.ignore)
        if reading.problems:
            raise Problems(reading.problems)
    warn(reading.warnings)
    (made,) = reading.objects
    return made
