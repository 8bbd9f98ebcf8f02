"""delete: one transaction of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from nodeport_nft.cli.changing.deleting import Cascade, Force, GracePeriod, Limit, Now, Wait
from nodeport_nft.cli.changing.dry_run import DryRun, DryRunOption, note
from nodeport_nft.cli.changing.manifests import Recursive
from nodeport_nft.cli.changing.summary import summarized
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import (
    BAD_INPUT,
    FAILED,
    AllNamespaces,
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
from nodeport_nft.cli.resources import complete, not_stored, parse_targets
from nodeport_nft.cli.selectors import Fields, Labels, Selector, read_selector
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.kinds import BY_KIND, Resource, reference

if TYPE_CHECKING:
    from nodeport_nft.cli.resources import Target
    from nodeport_nft.config import Config
    from nodeport_nft.model import Ref
    from nodeport_nft.store import Objects, Written


@command
def delete(
    *,
    resources: Annotated[
        list[str] | None,
        typer.Argument(metavar="KIND NAME", help="Kinds and names, or KIND/NAME each time.", autocompletion=complete),
    ] = None,
    filename: Files = None,
    recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
    namespace: Namespace = "default",
    all_namespaces: AllNamespaces = False,
    labels: Labels = None,
    fields: Fields = None,
    every: Annotated[bool, typer.Option("--all", help="All objects of the kinds.")] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there counts as deleted.")
    ] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FORM", help="name: KIND/NAME of what was deleted.")
    ] = None,
    dry_run: DryRunOption = None,
    cascade: Cascade = None,
    force: Force = False,
    grace_period: GracePeriod = None,
    immediately: Now = False,
    wait: Wait = None,
    timeout: Limit = None,  # noqa: ARG001 (what is deleted is gone when the command returns)
    flags: Annotated[Flags, "store"],
) -> None:
    """Delete objects by name, by label, all of a kind, or those of manifests, and free what they held."""
    from nodeport_nft.store import open_objects, open_trial

    if output is not None and output.lower() != "name":
        fail(f"-o {output}: of what is deleted there are names alone; write -o name, or leave it out", BAD_INPUT)
    if bool(resources) == bool(filename):
        fail("name what to delete: either KIND NAME... or -f FILE", BAD_INPUT)
    choice = _choice(
        resources or [], labels, fields, every=every, all_namespaces=all_namespaces, has_files=bool(filename)
    )
    chosen = flags.config()
    _note_manner(chosen, cascade, grace_period, force=force, immediately=immediately, wait=wait)
    doomed = _of_files(chosen, filename, namespace, choice.selector) if filename else choice.named(namespace)
    if filename and dry_run is DryRun.client:  # whether it is there is not asked, as with kubectl
        _tell(doomed, doomed, dry_run, output)
        return
    is_there = may_exist(chosen.store)
    if not is_there and not ignore_not_found:
        fail(f"there is no store {chosen.store}; name the store with --store")
    forgotten: dict[Ref, bool] = {}
    # Where there is none, none is made.
    with (open_objects if is_there and not dry_run else open_trial)(chosen) as store:
        if choice.is_open:
            doomed = choice.found(store, None if all_namespaces else namespace)
        nodes = [ref for ref in doomed if ref.kind == "Node"]
        if dry_run is DryRun.client:
            written = _looked_up(store, doomed)
        else:
            written = store.write(deletes=list(doomed), now=now(), dry_run=bool(dry_run))
        if nodes:
            forgotten = _forgotten(chosen, store, nodes, dry_run=bool(dry_run))
    warn(written.told)
    gone = (*written.deleted, *(ref for ref in written.missing if forgotten.get(ref)))
    _tell(gone, doomed, dry_run, output)
    if (choice.is_open or choice.selector) and not doomed:
        say("No resources found")
    # What was found and is gone was deleted by somebody else meanwhile.
    asked = () if ignore_not_found or choice.is_open else written.missing
    missing = tuple(ref for ref in asked if ref not in forgotten)
    for ref in missing:
        say(f"error: {not_stored(doomed[ref], ref.namespace, ref.name)}")
    if written.deleted and not dry_run:
        tell_if_unheard(chosen)
    if missing or not all(forgotten.values()):
        raise typer.Exit(FAILED)


def _tell(gone: Iterable[Ref], doomed: Mapping[Ref, Resource], dry_run: DryRun | None, output: str | None) -> None:
    """Say what is deleted, or would be; ``doomed``: all that was meant."""
    if output:
        put("".join(f"{reference(ref.kind, ref.name)}\n" for ref in gone), end="")
    elif lines := [(ref.kind, f'{doomed[ref].full} "{ref.name}" deleted', "deleted") for ref in gone]:
        put("\n".join(summarized(lines, note(dry_run))))


def _looked_up(store: Objects, doomed: Iterable[Ref]) -> Written:
    """What a delete of these would find, without asking the store to try it."""
    from nodeport_nft.store import Written

    found = {ref: store.find(ref) is not None for ref in doomed}
    return Written(
        deleted=tuple(ref for ref, is_there in found.items() if is_there),
        missing=tuple(ref for ref, is_there in found.items() if not is_there),
    )


class _Choice(Struct, frozen=True):
    """What is to be deleted: the names, or (``is_open``) what ``selector`` picks of the kinds.

    Where manifests name the objects, ``selector`` picks among those.
    """

    targets: tuple[Target, ...]
    selector: Selector
    is_open: bool

    def named(self, namespace: str) -> dict[Ref, Resource]:
        """The objects of these names."""
        from nodeport_nft.model import Ref

        return {
            Ref(resource.kind, namespace if resource.namespaced else "", name): resource
            for resource, name in self.targets
            if name is not None
        }

    def found(self, store: Objects, namespace: str | None) -> dict[Ref, Resource]:
        """The objects of a namespace (None: of all) that are picked; without selector also what cannot be read."""
        from nodeport_nft.store import Damaged

        return {
            each.ref: resource
            for resource, _ in self.targets
            for each in store.list(resource.kind, namespace if resource.namespaced else "")
            if not self.selector or (not isinstance(each, Damaged) and self.selector.picks(each.raw))
        }


def _choice(
    words: list[str],
    labels: str | None,
    fields: str | None,
    *,
    every: bool,
    all_namespaces: bool,
    has_files: bool,
) -> _Choice:
    """What the command line chooses. Leaves with BAD_INPUT where it says too little, or two things at once."""
    targets = parse_targets(words) if words else ()
    given = [flag for flag, value in (("-l", labels), ("--field-selector", fields)) if value is not None]
    given += ["--all"] if every else []
    among = [flag for flag in given if not (has_files and flag == "-l")]  # manifests have labels
    if among and not words:
        fail(f"{among[0]} chooses among the objects of a kind; name one, as delete services {among[0]}", BAD_INPUT)
    if every and len(given) > 1:
        fail(f"{given[0]} and --all choose twice; leave out one of them", BAD_INPUT)
    selector = read_selector(labels, fields, targets)
    if given and not (every or selector):
        remedy = "leave it out" if has_files else "write --all"
        fail(f"{given[0]}: is empty; {remedy} to delete all of them", BAD_INPUT)
    for resource, name in targets:
        if given and name is not None:
            fail(f"{given[0]} and the name {name!r} choose twice; leave out one of them", BAD_INPUT)
        if not given and name is None:
            remedy = f"such as delete {resource.full} NAME, or choose with -l or --all"
            fail(f"name the {resource.plural} to delete, {remedy}", BAD_INPUT)
    if all_namespaces and not given:
        fail("--all-namespaces goes with -l or --all; leave it out, and give names with -n", BAD_INPUT)
    return _Choice(targets, selector, bool(given and words))


def _note_manner(
    config: Config,
    cascade: str | None,
    grace_period: int | None,
    *,
    force: bool,
    immediately: bool,
    wait: bool | None,
) -> None:
    """Say once what has no meaning for objects that nothing is run for; leave with BAD_INPUT where it would have one.

    Of an API server we ask its own defaults; waiting is what every delete of the other stores does by itself.
    """
    from nodeport_nft.store import is_kubernetes

    manner = {"--cascade": cascade, "--grace-period": grace_period, "--force": force, "--now": immediately}
    given = [flag for flag, value in manner.items() if value is not None and value is not False]
    if is_kubernetes(config.store):
        given += ["--wait"] if wait is not None else []
        if given:
            remedy = "leave it out, or use kubectl delete, which knows how to"
            fail(f"{given[0]}: {config.store} is asked for its own defaults alone; {remedy}", BAD_INPUT)
    elif given:
        say(f"note: {', '.join(given)}: no meaning here; nothing runs for an object, and it is gone at once")


def _forgotten(config: Config, store: Objects, nodes: list[Ref], *, dry_run: bool) -> dict[Ref, bool]:
    """Those of the nodes that have registered with a shared store, and whether they are none of the cluster now.

    ``dry_run``: whether they would be.

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
                forgotten[ref] = dry_run or members.forget(ref.name)
        return forgotten


def _of_files(config: Config, files: list[str], namespace: str, selector: Selector) -> dict[Ref, Resource]:
    """What the manifests name, whatever else they say: they may be refused by now, or be half a one.

    It is their labels that are asked for, and not those of the stored objects, as with kubectl.
    """
    named = read_files(files, config, namespace, names_only=True).objects
    return {one.ref: BY_KIND[one.kind] for one in named if selector.picks(one.raw)}
