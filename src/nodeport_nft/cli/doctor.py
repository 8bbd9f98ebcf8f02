"""doctor: one pass over everything that can be wrong on this node, told to a person or to a program."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodeport_nft.cli import colour
from nodeport_nft.cli.desired import parse_addresses, parse_node_name
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import FAILED, NodeIP, NodeName, put, say
from nodeport_nft.cli.wrapping import prose_width, wrapped
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nodeport_nft.config import Config, ConfigError
    from nodeport_nft.doctor import Answer, Check, Finding


class Output(enum.StrEnum):
    """Formats of ``doctor``."""

    text = "text"
    json = "json"


@command
def doctor(
    *,
    connect: Annotated[
        bool, typer.Option("--connect", help="Open a connection to each nodePort and clusterIP, from here.")
    ] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="text: for people; json: for programs.")] = (
        Output.text
    ),
    node_name: NodeName = None,
    node_ip: NodeIP = None,
    flags: Annotated[Flags, Group.TABLES, Group.NUMBERS, "metricsBindAddress", "store", "stateDir"],
) -> None:
    """Look for everything that can be wrong on this node: what is seen, what it means, and what mends it.

    Nothing is changed. Without --connect, only the store, the daemon and the node's DNS server are connected to. Exit
    code 0: nothing is wrong (there may be warnings); 1: something is; 2: trouble.
    """
    from nodeport_nft.doctor import CHECKS, Examination, State, examine

    config, fault = _configuration(flags)
    examination = Examination(
        config,
        name=parse_node_name(node_name, config),
        node_ips=parse_addresses(node_ip, config),
        fault=fault,
        ask=lambda: _asked(config),
    )
    checks = CHECKS
    if connect:
        from nodeport_nft.doctor.connecting import CHECKS as CONNECTING

        checks = (*CHECKS, *CONNECTING)
    found = examine(checks, examination)
    findings = _told(checks, found) if output is Output.text else list(found)
    if output is Output.json:
        put(_json(findings))
    counts = {state: sum(each.state is state for _, each in findings) for state in State}
    say(
        f"{counts[State.FAILED]} failed, {counts[State.WARNING]} warning{'s' * (counts[State.WARNING] != 1)}, "
        f"{counts[State.OK]} ok, "
        f"{counts[State.SKIPPED]} not looked at"
    )
    if counts[State.FAILED]:
        raise typer.Exit(FAILED)


def _configuration(flags: Flags) -> tuple[Config, ConfigError | None]:
    """What is in force, as far as it is right; what is wrong with the file is a finding as any other.

    Raises ConfigError for wrong flags: whoever gave them is there to correct them.
    """
    from nodeport_nft.config import ConfigError

    try:
        return flags.load(), None
    except ConfigError as error:
        if any(flags.has(key) for key in error.wrong):
            raise
        return error.right, error


def _asked(config: Config) -> Answer:
    """What the daemon says of itself."""
    import time

    from nodeport_nft.cli.status import SECONDS, NoDaemon, ask
    from nodeport_nft.doctor import Answer
    from nodeport_nft.observe.health import troubles

    if config.metrics_address is None:
        return Answer(silence="metricsBindAddress is none; give one to both")
    try:
        status = ask(*config.metrics_address, SECONDS)
    except NoDaemon as error:
        return Answer(silence=str(error))
    return Answer(status, tuple(troubles(status, time.time())))


def _told(checks: Sequence[Check], found: Iterable[tuple[Check, Finding]]) -> list[tuple[Check, Finding]]:
    """Print a line for each finding as it comes, and what it means and the remedy below those that are not well."""
    from nodeport_nft.doctor import State
    from nodeport_nft.terminal import visible

    states, titles = (max(map(len, column)) for column in (State, [check.title for check in checks]))
    blank, width = " " * (states + titles + 4), prose_width()
    put(f"{'STATE':{states}}  {'CHECK':{titles}}  SEEN")
    told: list[tuple[Check, Finding]] = []
    for check, each in found:
        title = "" if told and told[-1][0] is check else check.title
        texts = [visible(each.seen)]
        texts += [f"means: {visible(each.means)}"] if each.means else []
        texts += [f"try: {visible(each.remedy)}"] if each.remedy else []
        first, *others = (line for text in texts for line in wrapped(text, len(blank), width))
        lines = [f"{each.state:{states}}  {title:{titles}}  {first}", *(blank + line for line in others)]
        put("\n".join(lines), paint=colour.findings)
        told.append((check, each))
    return told


def _json(found: Iterable[tuple[Check, Finding]]) -> str:
    from nodeport_nft.cli.output_formats import to_json

    return to_json({"checks": [_value(check, each) for check, each in found]})


def _value(check: Check, each: Finding) -> dict[str, Any]:
    return {
        "id": check.id,
        "title": check.title,
        "state": each.state.value,
        "seen": each.seen,
        "means": each.means,
        "remedy": each.remedy,
    }
