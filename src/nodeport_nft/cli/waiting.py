"""wait: until every node of a cluster has in its kernel what the store has now."""

from __future__ import annotations

import gc
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, FAILED, fail, put, say, warn

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.store.api import Registered, Waited

_SYNCED = "synced"
_DEFAULT = 60.0
_LONGEST = 7 * 86400.0  # kubectl's longest, too

Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        help=f"How long to wait, as 30s or 2m; default {_DEFAULT:g}s.",
    ),
]


@command
def wait(
    *,
    condition: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="CONDITION",
            help="Must be given. synced: every node has programmed what is stored.",
            autocompletion=lambda: [_SYNCED],
            show_default=False,
        ),
    ] = None,
    timeout: Timeout = None,
    flags: Annotated[Flags, "store"],
) -> None:
    """Wait until every node of the cluster that is alive has in its kernel what the store has now.

    Exit code 0: all of them have; 1: some have not, and are named. Nodes that are not ready are named and not waited
    for: they program what is stored when they are back.
    """
    if condition != _SYNCED:
        given = "--for is missing" if condition is None else f"--for {condition!r} is not a condition known here"
        fail(f"{given}; write --for={_SYNCED}, which is the one there is", BAD_INPUT)
    seconds = parse_timeout(timeout)
    chosen = flags.config()
    check_shared(chosen, "wait")
    wait_until_synced(chosen, seconds)


def parse_timeout(text: str | None) -> float:
    """The seconds of a ``--timeout``. Leaves with BAD_INPUT for what is not a duration."""
    from nodeport_nft.config.given import Given
    from nodeport_nft.config.values import seconds

    if text is None:
        return _DEFAULT
    try:
        return seconds(Given(text, (), lambda _: None), 1.0, _LONGEST)
    except ValueError as error:
        fail(f"--timeout: {error}", BAD_INPUT)


def check_shared(config: Config, what: str) -> None:
    """Leaves with BAD_INPUT where the store is one node's own: nobody registers there."""
    from nodeport_nft.store import is_kubernetes, is_shared

    if is_kubernetes(config.store):
        fail(
            f"{what}: {config.store} is a cluster's API server, with which our nodes do not register; "
            "nodeport-nft status on a node tells whether all is in its kernel",
            BAD_INPUT,
        )
    if not is_shared(config.store):
        fail(
            f"{what}: {config.store} is one node's own store; nodes register with a cluster's (etcd://...) alone; "
            "name that one with --store. Of this node, nodeport-nft status tells whether all is in the kernel",
            BAD_INPUT,
        )


def wait_until_synced(config: Config, seconds: float) -> None:
    """Tell who has programmed what a shared store has now; leaves with FAILED where somebody has not in time."""
    from nodeport_nft.store import open_members

    members = open_members(config)
    assert members is not None
    gc.enable()  # this may take as long as one likes
    with closing(members):
        waited = members.wait(seconds)
    if not (waited.synced or waited.late):
        tell_waited(waited, seconds)
        fail(f"no node of {config.store} is alive, so nothing of it is in any kernel; start nodeport-nft sync on one")
    if not tell_waited(waited, seconds):
        raise typer.Exit(FAILED)


def tell_waited(waited: Waited, seconds: float) -> bool:
    """Tell what became of a wait of so many seconds; whether every node that is alive has all of it in its kernel."""
    import time

    now = time.time()
    well = [one for one in waited.synced if not one.report.error]
    for one in well:
        put(f"node/{one.name} synced")
    warn(f"node/{one.name} is not ready{_since(one, now)}, and was not waited for" for one in waited.away)
    for one in waited.synced:  # it has taken all, and its kernel some of it
        if one.report.error:
            say(f"error: node/{one.name} is not synced: {one.report.error}")
    for one in waited.late:
        say(f"error: node/{one.name} is not synced after {seconds:g} s: {_why(one, now)}")
    return len(well) == len(waited.synced) and not waited.late


def _since(one: Registered, now: float) -> str:
    return f" for {_seconds(now - one.lost_at)}" if one.lost_at else ""


def _why(one: Registered, now: float) -> str:
    """What is known of a node that is late."""
    report = one.report
    where = f" on {one.machine}" if one.machine else ""
    if report.error:
        return f"its last sync failed: {report.error}"
    if report.pending:
        lag = f", the oldest for {_seconds(now - report.pending_since)}" if report.pending_since else ""
        return f"{report.pending} Service{'s' * (report.pending != 1)} to be written{lag}"
    told = f"; its last sync was {_seconds(now - report.programmed)} ago" if report.programmed else ""
    return f"its daemon{where} does not answer{told}; look at its log, and at nodeport-nft status there"


def _seconds(seconds: float) -> str:
    return f"{max(seconds, 0.0):.0f} s"
