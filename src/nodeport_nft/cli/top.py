"""top: who gets how many new connections on this node, from the kernel's counters."""

from __future__ import annotations

import enum
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, FAILED, fail, open_existing, put, say
from nodeport_nft.cli.selectors import Labels, read_selector

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodeport_nft.config import Config
    from nodeport_nft.observe.rates import Name, Rates, Sampler

_LEAST, _DEFAULT, _LONGEST = 0.2, 2.0, 3600.0  # seconds between two readings

_SERVICES, _ENDPOINTS = "services", "endpoints"
_WORDS = {
    **dict.fromkeys(("services", "service", "svc"), _SERVICES),
    **dict.fromkeys(("endpoints", "endpoint", "ep"), _ENDPOINTS),
}


_ELSEWHERE = {
    **dict.fromkeys(("pods", "pod", "po"), "no pods run here, kubectl top has their CPU and memory"),
    **dict.fromkeys(("nodes", "node", "no"), "kubectl top, or top itself, has a node's CPU and memory"),
}
"""What kubectl's top is about."""


class Output(enum.StrEnum):
    """Formats of ``top``."""

    table = "table"
    json = "json"


@command
def top(
    *,
    what: Annotated[
        str, typer.Argument(metavar="services|endpoints", help="What to count.", show_default=False)
    ] = _SERVICES,
    name: Annotated[str | None, typer.Argument(metavar="SERVICE", help="Only of Services of this name.")] = None,
    within: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Only of this namespace.")
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of every namespace, which is the default.")
    ] = False,
    labels: Labels = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print what came within one interval; without a terminal, always so.")
    ] = False,
    interval: Annotated[
        str | None,
        typer.Option(
            "--interval",
            metavar="DURATION",
            help=f"Time between two readings; default {_DEFAULT:g}s.",
        ),
    ] = None,
    output: Annotated[
        Output | None,
        typer.Option("--output", "-o", help="table or json; both are printed once.", show_default=False),
    ] = None,
    no_headers: Annotated[
        bool, typer.Option("--no-headers", help="Leave out the columns' names; the table is printed once.")
    ] = False,
    flags: Annotated[Flags, "metricsBindAddress", "store"],
) -> None:
    """Show the new connections a second of each Service on this node, or of each endpoint, as the kernel counts them.

    On a terminal it goes on until q is pressed: s sorts by another column, f filters. Only what comes through this
    node is counted. It needs no daemon, but the right to read nftables (root).
    """
    kind, name = _asked_for(what, name)
    if everywhere and within is not None:
        fail("--all-namespaces and --namespace exclude each other; leave one out", BAD_INPUT)
    seconds = _parse_interval(interval)
    config = flags.config()
    from nodeport_nft.observe.rates import Sampler

    sampler = Sampler(_wanted(config, name, within, labels), endpoints=kind == _ENDPOINTS)
    asked = _told(name, within, labels)
    if once or no_headers or output is not None or not _at_terminal():
        _print_once(sampler, kind, asked, seconds, output or Output.table, headers=not no_headers)
        return
    from nodeport_nft.cli.top_screen import Screen

    rates = _first(sampler, asked, min(seconds, 1.0))
    Screen(kind, sampler, rates, seconds, lambda: daemon_line(config)).run()


def _asked_for(what: str, name: str | None) -> tuple[str, str | None]:
    """What to count, and of which Service; ``KIND/NAME`` is understood, too. Leaves for another kind."""
    word, slash, part = what.partition("/")
    kind = _WORDS.get(word.lower())
    if kind is None and (other := _ELSEWHERE.get(word.lower())):
        fail(f"{what!r}: {other}; here are new connections: nodeport-nft top {_ENDPOINTS}", BAD_INPUT)
    if kind is None or (slash and (name is not None or not part)):
        hint = f"top {_SERVICES} {what}" if kind is None and name is None else f"top {_SERVICES} NAME"
        fail(f"{what!r}: top shows {_SERVICES} or {_ENDPOINTS}; write `nodeport-nft {hint}`", BAD_INPUT)
    return kind, part if slash else name


def _parse_interval(text: str | None) -> float:
    from nodeport_nft.config.given import Given
    from nodeport_nft.config.values import seconds

    if text is None:
        return _DEFAULT
    try:
        return seconds(Given(text, (), lambda _: None), _LEAST, _LONGEST)
    except ValueError as error:
        fail(f"--interval: {error}", BAD_INPUT)


def _wanted(
    config: Config, name: str | None, within: str | None, labels: str | None
) -> Callable[[Name], bool] | None:
    """Which Services are asked for, None: all. The kernel knows no labels: those are the store's, as they are now."""
    if labels is not None:
        selector = read_selector(labels, None)
        with open_existing(config) as store:
            labelled = {
                (one.namespace, one.name) for one in store.objects("Service", within) if selector.picks(one.raw)
            }
        return lambda service: service in labelled and name in (None, service[1])
    if name is None and within is None:
        return None
    return lambda service: name in (None, service[1]) and within in (None, service[0])


def _at_terminal() -> bool:
    """Whether there is one on which a screen can be drawn again."""
    is_there = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return is_there and os.environ.get("TERM", "dumb") != "dumb"


def _told(name: str | None, within: str | None, labels: str | None) -> str:
    """Which Services are asked for, in words; "" for all."""
    parts = [f" {name}" if name is not None else ""]
    parts += [
        f" with {labels}" if labels is not None else "",
        f" in namespace {within}" if within is not None else "",
    ]
    return "".join(parts)


def _first(sampler: Sampler, asked: str, seconds: float) -> Rates:
    """The rates of the first ``seconds``. Leaves where there is nothing that could be counted.

    ``asked``: as ``_told`` has it.
    """
    sampler.sample()
    time.sleep(seconds)
    rates = sampler.sample()
    assert rates is not None
    if not rates.known:
        if asked:
            fail(
                f"this node's nftables tables serve no Service{asked}; `nodeport-nft get services -A` shows what is "
                "stored, `nodeport-nft top` what is served",
                FAILED,
            )
        fail("this node's nftables tables serve no Service; program the node with nodeport-nft sync", FAILED)
    return rates


def _print_once(sampler: Sampler, kind: str, asked: str, seconds: float, output: Output, *, headers: bool) -> None:
    from nodeport_nft.cli.top_table import summary, to_json, to_table

    rates = _first(sampler, asked, seconds)
    if kind == _ENDPOINTS and rates.known > rates.endpoints_of:
        # Whose endpoints to look at is known only now that it is known who gets connections.
        time.sleep(seconds)
        rates = sampler.sample() or rates
    if output is Output.json:
        put(to_json(rates, kind, time.time()))
        return
    if text := to_table(rates, kind, headers=headers):
        put(text)
    say(summary(rates, kind))


def daemon_line(config: Config) -> str:
    """How this node's daemon does, in a few words; "" where none answers."""
    from nodeport_nft.cli.status import NoDaemon, ask, in_short

    if config.metrics_address is None:
        return "daemon: not asked (metricsBindAddress is none)"
    try:
        return in_short(ask(*config.metrics_address, seconds=0.5), time.time())
    except NoDaemon:
        return ""
