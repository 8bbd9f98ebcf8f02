"""delete: one transaction of the store."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.changing.dry_run import DryRunOption, note
from nodeport_nft.cli.changing.summary import summarized
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import (
    BAD_INPUT,
    FAILED,
    Files,
    Namespace,
    fail,
    may_exist,
    now,
    put,
    read_files,
    say,
    warn,
)
from nodeport_nft.cli.resources import complete, not_found, parse_targets
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.kinds import BY_KIND, Resource

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.model import Ref
    from nodeport_nft.store import Objects


@command
def delete(
    *,
    resources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND NAME", help="A kind and names, or KIND/NAME each time.", autocompletion=complete
        ),
    ] = None,
    filename: Files = None,
    namespace: Namespace = "default",
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there counts as deleted.")
    ] = False,
    dry_run: DryRunOption = None,
    flags: Annotated[Flags, "store"],
) -> None:
    """Delete objects by name, or those of manifests, and free what they held."""
    from nodeport_nft.store import open_objects, open_trial

    if bool(resources) == bool(filename):
        fail("name what to delete: either KIND NAME... or -f FILE", BAD_INPUT)
    chosen = flags.config()
    doomed = _of_files(chosen, filename, namespace) if filename else _of_names(resources or [], namespace)
    is_there = may_exist(chosen.store)
    if not is_there and not ignore_not_found:
        fail(f"there is no store {chosen.store}; name the store with --store")
    # Where there is none, none is made.
    nodes = [ref for ref in doomed if ref.kind == "Node"]
    forgotten: dict[Ref, bool] = {}
    with (open_objects if is_there and not dry_run else open_trial)(chosen) as store:
        written = store.write(deletes=list(doomed), now=now(), dry_run=bool(dry_run))
        if nodes and not dry_run:
            forgotten = _forgotten(chosen, store, nodes)
    warn(written.told)
    gone = (*written.deleted, *(ref for ref in written.missing if forgotten.get(ref)))
    entries = [(ref.kind, f'{doomed[ref].full} "{ref.name}" deleted', "deleted") for ref in gone]
    if entries:
        put("\n".join(summarized(entries, note(dry_run))))
    missing = () if ignore_not_found else tuple(ref for ref in written.missing if ref not in forgotten)
    for ref in missing:
        say(f"error: {not_found(doomed[ref], ref.namespace, ref.name)}")
    if written.deleted and not dry_run:
        tell_if_unheard(chosen)
    if missing or not all(forgotten.values()):
        raise typer.Exit(FAILED)


def _forgotten(config: Config, store: Objects, nodes: list[Ref]) -> dict[Ref, bool]:
    """Those of the nodes that have registered with a shared store, and whether they are none of the cluster now.

    One that is alive is kept, and one that objects still name as theirs: once it is forgotten it is not lost, and its
    endpoints would be in use again.
    """
    from nodeport_nft.resolve.absence.cause import listed
    from nodeport_nft.resolve.whereabouts import nodes_of
    from nodeport_nft.store import open_members

    members = open_members(config)
    if members is None:
        return {}
    with closing(members):
        registered = {one.name: one.is_alive for one in members.list()}
        asked = [ref for ref in nodes if ref.name in registered]
        theirs: dict[str, list[str]] = {ref.name: [] for ref in asked}
        for ref, values in store.readable() if asked else ():
            for name in {name for value in values for name in nodes_of(value)} & theirs.keys():
                theirs[name].append(str(ref))
        forgotten = dict.fromkeys(asked, False)
        for ref in asked:
            if registered[ref.name]:
                say(f"{ref.name}: its daemon runs, and its registration stays")
            elif named := theirs[ref.name]:
                say(
                    f"{ref.name}: stays registered, as a lost node, while {listed(named)} would be in use again "
                    "without it; delete what ran there, and the node once more"
                )
            else:
                forgotten[ref] = members.forget(ref.name)
        return forgotten


def _of_names(words: list[str], namespace: str) -> dict[Ref, Resource]:
    from nodeport_nft.model import Ref

    doomed = {}
    for resource, name in parse_targets(words):
        if name is None:
            fail(f"name the {resource.plural} to delete, such as delete {resource.full} NAME", BAD_INPUT)
        doomed[Ref(resource.kind, namespace if resource.namespaced else "", name)] = resource
    return doomed


def _of_files(config: Config, files: list[str], namespace: str) -> dict[Ref, Resource]:
    """What the manifests name, whatever else they say: they may be refused by now, or be half a one."""
    return {one.ref: BY_KIND[one.kind] for one in read_files(files, config, namespace, names_only=True).objects}
