"""Objects → the store, or a trial of it, and what became of them → stdout: the end of every command of this room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct
from msgspec.structs import replace

from nodeport_nft.cli.changing.dry_run import DryRun, note
from nodeport_nft.cli.changing.summary import summarized
from nodeport_nft.cli.options import BAD_INPUT, fail, now, put, warn
from nodeport_nft.cli.progress import doing
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.kinds import BY_KIND, reference

if TYPE_CHECKING:
    from nodeport_nft.cli.get.output import Output
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.store import Applied, Written


OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FORM",
        help="Print the objects, as get does: yaml and json are fit for apply -f; name, jsonpath=..., ....",
    ),
]


def read_form(text: str | None) -> Output | None:
    """What ``-o`` says; None where it is not given. Leaves with BAD_INPUT for what it cannot say."""
    from nodeport_nft.cli.get.output import read_output

    if text is None:
        return None
    if (form := read_output(text)).is_table:
        fail(f"-o {text}: is a table, which get prints; write yaml, json, name, or a form of values", BAD_INPUT)
    return form


class Manner(Struct, frozen=True):
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
    count = f"{len(objects):,} object{'s' * (len(objects) != 1)}"
    with doing(f"storing {count}"), opening(config, force=manner.force, replacing=manner.replacing) as store:
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
    tell_written(config, written, manner)


def tell_written(config: Config, written: Written, manner: Manner) -> None:
    """Print what a write has done, and who hears of it."""
    warn(written.told)
    tell(written.applied, manner)
    if not manner.dry_run and any(one.action != "unchanged" for one in written.applied):
        tell_if_unheard(config)


def tell(applied: Sequence[Applied], manner: Manner) -> None:
    """Print what became of objects, or the objects themselves."""
    from nodeport_nft.cli.get.jsonpath import PathError

    if manner.output is not None:
        objects = [replace(one.object, raw=printed(one.object)) for one in applied]
        try:
            put(manner.output.text(objects, single=len(objects) == 1), end="")
        except PathError as error:
            fail(str(error))
        return
    entries = []
    for one in applied:
        done = (manner.alike if one.action == "unchanged" else manner.past) or one.action
        entries.append((one.object.kind, f"{one.ref} {done}", done))
    put("\n".join(summarized(entries, note(manner.dry_run))))


def printed(one: Object) -> dict[str, Any]:
    """Its document without what is only noted of each write; an object that is not stored has no version."""
    metadata = one.raw["metadata"]
    left_out = {"managedFields"} if metadata.get("resourceVersion") else {"managedFields", "resourceVersion"}
    return {**one.raw, "metadata": {key: value for key, value in metadata.items() if key not in left_out}}
