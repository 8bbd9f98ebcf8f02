"""Objects → the store, or a trial of it, and what became of them → stdout: the end of every command of this room."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodeport_nft.cli.changing.dry_run import DryRun, note
from nodeport_nft.cli.changing.summary import summarized
from nodeport_nft.cli.options import fail, now, put, warn
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.kinds import BY_KIND, reference

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.store import Applied, Written


class Output(enum.StrEnum):
    """What is printed of objects instead of what became of them."""

    yaml = "yaml"
    json = "json"
    name = "name"


def _parse_output(text: str) -> Output:
    try:
        return Output(text.lower())
    except ValueError:
        known = ", ".join(Output)
        raise typer.BadParameter(f"{text!r} is no format of this command; choose one of {known}.") from None


OutputOption = Annotated[
    Output | None,
    typer.Option(
        "--output",
        "-o",
        metavar="yaml|json|name",
        help="Print the objects, fit for apply -f, or their names; not what became of them.",
        parser=_parse_output,
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Manner:
    """How objects are written and told of.

    ``only_new``: one that is there is a Conflict. ``replacing``: what a document does not name is gone, where
    others' fields would stay else (kubernetes:). ``force``: fields of other managers are taken over there. ``past``
    says what became of those that are other ones now ("exposed"), and ``alike`` of the others; "" as the store does.
    """

    dry_run: DryRun | None = None
    output: Output | None = None
    only_new: bool = False
    replacing: bool = False
    force: bool = False
    past: str = ""
    alike: str = ""


def write(config: Config, objects: Sequence[Object], manner: Manner) -> Written:
    """Write them, or say what would become of them. Raises as ``Objects.write`` does."""
    from nodeport_nft.store import Applied, Written, open_objects, open_trial

    if manner.dry_run and not manner.dry_run.asks_store:
        action: Any = "created" if manner.only_new else "applied"
        return Written(tuple(Applied(reference(one.kind, one.name), one, action) for one in objects))
    opening = open_trial if manner.dry_run else open_objects
    with opening(config, force=manner.force, replacing=manner.replacing) as store:
        return store.write(objects, now=now(), only_new=manner.only_new, dry_run=bool(manner.dry_run))


def write_and_tell(config: Config, objects: Sequence[Object], manner: Manner) -> None:
    """Write them, print what became of them, and tell who hears of it. Leaves with FAILED where one is there already.

    Raises as ``Objects.write`` does.
    """
    from nodeport_nft.store import Conflict

    try:
        written = write(config, objects, manner)
    except Conflict as error:
        kind = BY_KIND[error.ref.kind]
        where = f" in namespace {error.ref.namespace}" if kind.namespaced else ""
        others = "; nothing is written" if len(objects) > 1 else ""
        fail(
            f'{kind.full} "{error.ref.name}" already exists{where}{others}; '
            "change it with apply -f, delete it first, or choose another name"
        )
    warn(written.told)
    tell(written.applied, manner)
    if not manner.dry_run and any(one.action != "unchanged" for one in written.applied):
        tell_if_unheard(config)


def tell(applied: Sequence[Applied], manner: Manner) -> None:
    """Print what became of objects, or the objects themselves."""
    if manner.output is not None:
        print_objects([one.object for one in applied], manner.output)
        return
    entries = []
    for one in applied:
        done = (manner.alike if one.action == "unchanged" else manner.past) or one.action
        entries.append((one.object.kind, f"{one.ref} {done}", done))
    put("\n".join(summarized(entries, note(manner.dry_run))))


def print_objects(objects: Sequence[Object], output: Output) -> None:
    """Print objects in a format for programs: one as it is, several as a List."""
    from nodeport_nft.cli.output_formats import to_json, to_yaml

    if output is Output.name:
        put("\n".join(reference(one.kind, one.name) for one in objects))
        return
    documents = [printed(one) for one in objects]
    (document,) = documents if len(documents) == 1 else ({"apiVersion": "v1", "kind": "List", "items": documents},)
    put(to_yaml(document) if output is Output.yaml else to_json(document))


def printed(one: Object) -> dict[str, Any]:
    """Its document without what is only noted of each write; an object that is not stored has no version."""
    metadata = one.raw["metadata"]
    left_out = {"managedFields"} if metadata.get("resourceVersion") else {"managedFields", "resourceVersion"}
    return {**one.raw, "metadata": {key: value for key, value in metadata.items() if key not in left_out}}
