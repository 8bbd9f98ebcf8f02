"""apply and replace: objects of manifests → the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.changing.deleting import Cascade, GracePeriod, Limit, Wait
from nodeport_nft.cli.changing.dry_run import DryRun, DryRunOption, note
from nodeport_nft.cli.changing.manifests import Recursive, read_named
from nodeport_nft.cli.changing.outcome import Manner, OutputOption, read_form, tell, write_and_tell
from nodeport_nft.cli.changing.summary import summarized
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, Files, Namespace, fail, now, put, say, warn
from nodeport_nft.cli.resources import not_stored
from nodeport_nft.cli.selectors import Labels, read_selector
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.cli.waiting import Timeout, check_shared, parse_timeout, wait_until_synced
from nodeport_nft.kinds import BY_KIND
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object


@command
def apply(
    *,
    filename: Files = None,
    recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
    labels: Labels = None,
    namespace: Namespace = "default",
    dry_run: DryRunOption = None,
    output: OutputOption = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every node of the cluster has programmed it, as wait does.")
    ] = False,
    timeout: Timeout = None,
    force_conflicts: Annotated[
        bool,
        typer.Option("--force-conflicts", help="Take fields over from others who manage them (kubernetes:)."),
    ] = False,
    server_side: Annotated[bool, typer.Option("--server-side", hidden=True)] = False,  # noqa: ARG001 (it always is)
    flags: Annotated[Flags, "validate", Group.NUMBERS, "store"],
) -> None:
    """Store the objects of manifests, and give their Services what they ask for.

    All of them or, if anything is wrong, none.
    """
    from nodeport_nft.store import is_kubernetes

    if timeout is not None and not wait:
        fail("--timeout is how long to --wait; add --wait, or leave it out", BAD_INPUT)
    seconds = parse_timeout(timeout)
    chosen = flags.config()
    if wait:
        check_shared(chosen, "--wait")
    if force_conflicts and not is_kubernetes(chosen.store):
        fail(f"--force-conflicts: nobody manages single fields of {chosen.store}; leave it out", BAD_INPUT)
    objects = read_named("apply", filename, chosen, namespace, read_selector(labels, None))
    write_and_tell(chosen, objects, Manner(dry_run, read_form(output), force=force_conflicts))
    if wait and not dry_run:
        wait_until_synced(chosen, seconds)


@command
def replace(
    *,
    filename: Files = None,
    recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
    namespace: Namespace = "default",
    force: Annotated[
        bool, typer.Option("--force", help="Delete them, and create them anew, also what is not there yet.")
    ] = False,
    cascade: Cascade = None,
    grace_period: GracePeriod = None,
    wait: Wait = None,
    limit: Limit = None,
    dry_run: DryRunOption = None,
    output: OutputOption = None,
    flags: Annotated[Flags, "validate", Group.NUMBERS, "store"],
) -> None:
    """Put the objects of manifests in the place of those that are there under their names.

    As apply does, but none of them may be a new one. With --force they are deleted and created anew, in one
    step: what they held is free, and numbers that they do not ask for may be others then.
    """
    from nodeport_nft.store import is_kubernetes

    chosen = flags.config()
    if force and is_kubernetes(chosen.store):
        remedy = "kubectl replace --force does it in two steps, as well as delete -f FILE and apply -f FILE"
        fail(f"--force: {chosen.store} cannot delete and create in one step; {remedy}", BAD_INPUT)
    manner_of_deleting = {"--cascade": cascade, "--grace-period": grace_period, "--wait": wait, "--timeout": limit}
    if not force and (given := [flag for flag, value in manner_of_deleting.items() if value is not None]):
        fail(f"{given[0]} is for --force, which deletes; add that, or leave it out", BAD_INPUT)
    objects = read_named("replace", filename, chosen, namespace)
    if force:
        _recreate(chosen, objects, Manner(dry_run, read_form(output), past="replaced", alike="replaced"))
        return
    if not dry_run or dry_run.asks_store:
        _check_there(chosen, objects)
    manner = Manner(dry_run, read_form(output), replacing=True, past="replaced", alike="replaced")
    write_and_tell(chosen, objects, manner)


def _recreate(config: Config, objects: tuple[Object, ...], manner: Manner) -> None:
    """Delete what is there of them, and create them all, in one write; each is deleted and created at once."""
    from nodeport_nft.store import open_objects, open_trial
    from nodeport_nft.store.versions import without_version

    if manner.dry_run is DryRun.client:
        write_and_tell(config, objects, manner)
        return
    fresh = [without_version(one) for one in objects]  # of which object that was does not matter, for it goes
    with (open_trial if manner.dry_run else open_objects)(config) as store:
        deletes = [one.ref for one in objects]
        written = store.write(fresh, deletes, now=now(), dry_run=bool(manner.dry_run))
    warn(written.told)
    if manner.output is None:
        gone = [(ref.kind, f'{BY_KIND[ref.kind].full} "{ref.name}" deleted', "deleted") for ref in written.deleted]
        put("".join(f"{line}\n" for line in summarized(gone, note(manner.dry_run))), end="")
    tell(written.applied, manner)
    if not manner.dry_run:
        tell_if_unheard(config)


def _check_there(config: Config, objects: tuple[Object, ...]) -> None:
    """Leaves with FAILED, and all of their names, where some of the objects are not there."""
    from nodeport_nft.store import open_trial

    with open_trial(config) as store:
        missing = [one for one in objects if store.find(one.ref) is None]
    for one in missing:
        say(f"error: {not_stored(BY_KIND[one.kind], one.namespace, one.name)}")
    if missing:
        fail("nothing is replaced; apply -f creates what is not there")
