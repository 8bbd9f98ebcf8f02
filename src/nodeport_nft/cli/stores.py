"""Commands that concern a store as a whole: check, store copy."""

from __future__ import annotations

import enum
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodeport_nft.cli import colour
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, FAILED, fail, put, reported, say, warn
from nodeport_nft.cli.progress import doing
from nodeport_nft.cli.verbs import Commands
from nodeport_nft.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodeport_nft.store.checking import Checked, Finding


class CheckOutput(enum.StrEnum):
    """Formats of ``check`` beside lines."""

    json = "json"


@command
def check(
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend claims and notes; objects are never changed or deleted.")
    ] = False,
    output: Annotated[CheckOutput | None, typer.Option("--output", "-o", help="json: for scripts.")] = None,
    flags: Annotated[Flags, "store"],
) -> None:
    """Look for what is wrong in the store: claims and objects that do not agree, what cannot be read, alarms of etcd.

    Needs no daemon, and may run beside any. Exit code 0: nothing is wrong, or no longer; 1: something is; 2: trouble.
    """
    from nodeport_nft.store import check_store

    with reported(BAD_INPUT):
        chosen = flags.config()
        with doing(f"checking {chosen.store}"):
            checked = check_store(chosen, repair=repair)
        if output is CheckOutput.json:
            put(json.dumps(_document(checked), indent=4))
        else:
            _tell(checked, chosen.store)
    raise typer.Exit(FAILED if checked.findings else 0)


store = typer.Typer(
    cls=Commands,
    help="Copy a store.",
    epilog="Example: nodeport-nft store copy /var/lib/nodeport-nft/store.db etcd://10.0.0.1:2379/nodeport-nft",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@store.command(
    "copy",
    short_help="Copy a store into an empty one, as a backup, too",
    epilog="Example: nodeport-nft store copy etcd://10.0.0.1:2379/nodeport-nft backup.db",
)
@command
def copy(
    *,
    origin: Annotated[str, typer.Argument(metavar="FROM", help="A file, or etcd://HOST:PORT/PREFIX.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The same; nothing may be there yet.")],
    flags: Flags,
) -> None:
    """Copy all objects of a store into an empty one, with their uids, creation times and numbers, of one moment.

    A file is written as a whole or not at all, so this is a backup, too. How to reach etcd (etcdCAFile, ...) is
    said by the configuration. Exit code 1: something could not be copied; it is named.
    """
    from nodeport_nft.store import StoreError, copy_store
    from nodeport_nft.store.errors import told_of_argument

    chosen = flags.config()
    try:
        with doing(f"copying {origin} to {target}"):
            image = copy_store(replace(chosen, store=origin), replace(chosen, store=target))
    except StoreError as error:
        raise StoreError(told_of_argument(str(error))) from error
    put(f"{image.counts} copied from {origin} to {target}")
    if image.doubled:
        warn([f"{image.doubled:,} numbers have two holders, there as here; nodeport-nft check names them"])
    if image.unreadable:
        told = [f"{each.complaint(origin)}; it is not in the copy" for each in image.unreadable]
        fail("\n".join((*told, f"what it holds is free in {target}")))


def _tell(checked: Checked, store: str) -> None:
    for line in checked.about:
        say(line)
    warn(checked.hints)
    for each in checked.mended:
        put(printable(each.mended), paint=colour.repairs)
    for each in checked.findings:
        put(printable(str(each)), paint=colour.problems)
    if not checked.findings:
        say(f"{store}: nothing is wrong{' any more' if checked.mended else ''}")


def _document(checked: Checked) -> dict[str, Any]:
    return {
        "findings": _listed(checked.findings),
        "repaired": _listed(checked.mended),
        "members": list(checked.about),
        "hints": list(checked.hints),
    }


def _listed(found: Iterable[Finding]) -> list[dict[str, str]]:
    return [
        {
            "where": printable(each.where),
            "wrong": printable(each.wrong),
            "remedy": each.remedy if each.repair is None else "",
            "repair": "" if each.repair is None else each.repair.verb,
        }
        for each in found
    ]
