"""status: asks this node's daemon what it sees, and tells it to a person, or to a script by exit code and JSON."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli import colour
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, FAILED, fail, put, warn
from nodeport_nft.cli.wrapping import prose_width, wrapped
from nodeport_nft.observe.health import troubles

if TYPE_CHECKING:
    from nodeport_nft.model import IPAddress
    from nodeport_nft.observe.status import Status

SECONDS = 5.0
"""How long one step of the conversation may take; the daemon answers within milliseconds, even while it is busy."""

_MAX_BYTES = 64 << 20  # 100,000 Services, all of them refused


class Output(enum.StrEnum):
    """Formats of ``status``."""

    text = "text"
    json = "json"


@command
def status(
    *,
    flags: Annotated[Flags, "metricsBindAddress"],
    output: Annotated[
        Output, typer.Option("--output", "-o", help="text: for a person; json: all the daemon tells.")
    ] = Output.text,
) -> None:
    """Tell how this node's daemon does: what it serves, its last sync, what waits and what is wrong.

    Exit code 0: all is well; 1: there is trouble; 2: no daemon answers.
    """
    import time

    from nodeport_nft.cli.output_formats import to_json
    from nodeport_nft.config import ConfigError
    from nodeport_nft.observe.status import from_json

    try:
        address = flags.config().metrics_address
    except ConfigError as error:
        if "metricsBindAddress" in error.wrong:
            raise
        warn(str(error).splitlines())  # the daemon goes on with what it read before, and this is when one asks it
        address = error.right.metrics_address
    if address is None:
        fail("metricsBindAddress is none, so no daemon can be asked; give one ADDRESS:PORT to both", BAD_INPUT)
    body = _ask(*address)
    try:
        told = from_json(body)
    except ValueError as error:
        fail(f"what {_place(*address)} answers is not our daemon's: {error}; {_FOREIGN}", BAD_INPUT)
    now = time.time()
    wrong = tuple(troubles(told, now))
    if output is Output.json:
        import json

        text = to_json(json.loads(body))
    else:
        text = _text(told, now, wrong, prose_width())
    put(text, paint=None if output is Output.json else colour.status)
    if wrong:
        raise typer.Exit(FAILED)


_FOREIGN = "name the daemon's own metricsBindAddress, and stop kube-proxy if it is that"


def _place(address: IPAddress, port: int) -> str:
    from nodeport_nft.notation import socket_address

    return socket_address(address, port)


def _ask(address: IPAddress, port: int) -> bytes:
    """What the daemon answers to /status; leaves the program if none does."""
    try:
        return _answer(address, port, SECONDS)
    except NoDaemon as error:
        fail(str(error), BAD_INPUT)


class NoDaemon(Exception):
    """No daemon of ours answers; ``str()`` says what does instead, and the remedy."""


def ask(address: IPAddress, port: int, seconds: float) -> Status:
    """What the daemon there sees; one step of the conversation takes ``seconds`` at most. Raises NoDaemon."""
    from nodeport_nft.observe.status import from_json

    try:
        return from_json(_answer(address, port, seconds))
    except ValueError as error:
        raise NoDaemon(f"what {_place(address, port)} answers is not our daemon's: {error}; {_FOREIGN}") from error


def in_short(answer: Status, now: float) -> str:
    """Node, last sync, lag and trouble in one line."""
    synced = f"last sync {_ago(answer.synced, now)} ago" if answer.synced else "no sync is complete yet"
    waiting = f"; {_lag(answer, now)}" if answer.pending else ""
    trouble = "; ".join(troubles(answer, now))
    return f"node {answer.node or '<unknown>'}: {synced}{waiting}; {trouble or 'all is well'}"


def _answer(address: IPAddress, port: int, seconds: float) -> bytes:
    """The body of the answer to /status. Raises NoDaemon."""
    from http.client import HTTPConnection, HTTPException
    from ipaddress import ip_address

    if address.is_unspecified:  # where a daemon listens on all addresses
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    place = _place(address, port)
    connection = HTTPConnection(str(address), port, timeout=seconds)
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        code, body = response.status, response.read(_MAX_BYTES)
    except TimeoutError:
        raise NoDaemon(
            f"the daemon at {place} does not answer within {seconds:g} s: it is stopped, or hangs"
        ) from None
    except OSError as error:
        raise NoDaemon(
            f"no daemon answers at {place}: {error.strerror or error}; start it with `nodeport-nft sync`, "
            "or name the metricsBindAddress it has"
        ) from error
    except HTTPException as error:
        raise NoDaemon(f"what {place} answers is not HTTP ({type(error).__name__}); {_FOREIGN}") from error
    finally:
        connection.close()
    if code != 200:
        raise NoDaemon(f"{place} answers {code} to /status, which our daemon does not; {_FOREIGN}")
    return body


def _text(answer: Status, now: float, troubles: tuple[str, ...], columns: int | None) -> str:
    lag = _lag(answer, now) if answer.pending else "none"
    last = "never"
    if answer.synced:
        operations = f"{answer.sync_operations} operation{'s' * (answer.sync_operations != 1)}"
        cause = f", because of {answer.sync_cause}" if answer.sync_cause else ""
        last = f"{_when(answer.synced, now)}: {operations} in {_seconds(answer.sync_seconds)}{cause}"
    fields = [
        ("Health", ["; ".join(troubles) or _well(answer)]),
        ("Node", [answer.node or "<unknown>"]),
        ("Daemon", [f"{answer.version}, process {answer.pid}"]),
        ("Running", [f"since {_when(answer.started, now)}" if answer.started else "<unknown>"]),
        *([("Source", [answer.source])] if answer.source else []),
        *([("NodePorts on", [answer.node_ports_on])] if answer.node_ports_on else []),
        ("Services", [str(answer.services)]),
        *([("No endpoints", list(_idle(answer)))] if answer.without_endpoints else []),
        *([("Probes", list(_probes(answer)))] if answer.probes else []),
        ("Last sync", [last]),
        ("Syncs", [str(answer.syncs)]),
        ("Lag", [lag]),
        ("Refused", [f"{name}: {words}" for name, words in answer.refused] or ["none"]),
        ("Problems", list(answer.problems) or ["none"]),
        *([("Advice", list(answer.advice))] if answer.advice else []),
        *(
            [("Log", [f"{answer.log_lost} line{'s' * (answer.log_lost != 1)} could not be written since the start"])]
            if answer.log_lost
            else []
        ),
    ]
    if error := answer.error or answer.last_error:
        solved = "" if answer.error else ", solved since"
        when = f"{_when(answer.last_error_at, now)}{solved}: " if answer.last_error_at else ""
        fields.append(("Last error", [f"{when}{error}"]))
    width = max(len(name) for name, _ in fields) + 3
    lines = []
    for name, values in fields:
        names = [f"{name}:"] + [""] * (len(values) - 1)
        for first, value in zip(names, values, strict=True):
            # The kernel's words may have several lines.
            lines += _laid_out(f"{first:{width}}", " ".join(value.split()), columns)
    return "\n".join(lines)


def _laid_out(label: str, value: str, columns: int | None) -> list[str]:
    """``value`` behind its label. What is too long for the terminal goes on below it, the remedy by itself."""
    if len(wrapped(value, len(label), columns)) == 1:
        return [label + value]
    indent = " " * (len(label) + 2)
    what, semicolon, remedy = value.partition("; ")  # as problems are worded
    texts = (f"{what};", remedy) if semicolon else (value,)
    first, *more = [line for text in texts for line in wrapped(text, len(indent), columns)]
    return [label + first, *(indent + line for line in more)]


def _well(answer: Status) -> str:
    """That a Service has no endpoint is nothing that is wrong with the node, and may be what is looked for."""
    if not (count := answer.without_endpoints):
        return "all is well"
    return f"all is well on this node; {_services(count)} {'has' if count == 1 else 'have'} no endpoint"


def _idle(answer: Status) -> Iterator[str]:
    """The Services without an endpoint: no trouble of this node's, but what an operator looks for."""
    more = answer.without_endpoints - len(answer.idle)
    names = " and ".join(filter(None, (", ".join(answer.idle), f"{more} more" if more > 0 else "")))
    yield f"{_services(answer.without_endpoints)}: {names}"
    if answer.idle:
        from nodeport_nft.store.kubernetes.connection import STORE, is_kubernetes

        namespace, _, name = answer.idle[0].partition("/")
        store = f" --store {STORE}" if is_kubernetes(answer.source) else ""
        yield f"`nodeport-nft describe service {name} -n {namespace}{store}` says why"


def _probes(answer: Status) -> Iterator[str]:
    """The readiness probes that this node runs: that some fail is no trouble of the node's either."""
    count, failing = answer.probes, answer.probes_failing
    what = f"{count} readiness probe{'s' * (count != 1)} {'is' if count == 1 else 'are'} run on this node"
    if count == 1:
        yield f"{what}, and {'fails' if failing else 'passes'}"
    else:
        yield f"{what}; {failing or 'none'} of them fail{'s' * (failing < 2)}"
    yield from answer.failing
    if (more := answer.probes_failing - len(answer.failing)) > 0:
        yield f"and {more} more"


def _lag(answer: Status, now: float) -> str:
    """What is not in the kernel yet."""
    since = f", the oldest for {_seconds(now - answer.pending_since)}" if answer.pending_since else ""
    return f"{_services(answer.pending)} to be written{since}"


def _services(count: int) -> str:
    return f"{count} Service{'s' * (count != 1)}"


def _seconds(seconds: float) -> str:
    return f"{max(seconds, 0.0):.3g} s" if seconds < 100 else f"{seconds:.0f} s"


def _when(seconds: float, now: float) -> str:
    """A moment as people write it, in UTC, and how long ago it was."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC ({_ago(seconds, now)} ago)"


def _ago(seconds: float, now: float) -> str:
    from nodeport_nft.cli.layout import age

    return age(datetime.fromtimestamp(seconds, UTC).isoformat(), datetime.fromtimestamp(now, UTC))
