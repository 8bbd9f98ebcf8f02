"""``--dry-run=none|client|server``: what would be done, with the store or without it.

``server`` asks the store: numbers are allocated as they would be, and what is refused is told; ``client`` asks no
store for anything but the objects that are to be changed. Without a value it is asked, too: kubectl, for which that
once meant ``client``, has given that up.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from nodeport_nft.cli import elsewhere
from nodeport_nft.cli.verbs import Commands

_FLAG = "--dry-run"


class DryRun(enum.StrEnum):
    """How a write is tried. Each is true; where nothing is tried, there is None.

    A ``StrEnum`` with no empty value: of another enumeration Typer before 0.29 makes None, which would write.
    """

    client = "client"
    server = "server"
    plain = "plain"

    @property
    def asks_store(self) -> bool:
        """Whether the store says what would become of it."""
        return self is not DryRun.client


def note(dry_run: DryRun | None) -> str:
    """What is said behind a line of what would be done, as kubectl says it; "" where it is done indeed."""
    if dry_run is None:
        return ""
    return " (server dry run)" if dry_run is DryRun.server else " (dry run)"


def _parse(text: str) -> DryRun | None:
    if text.lower() == "none":
        return None
    try:
        return DryRun(text.lower())
    except ValueError:
        raise typer.BadParameter(f'{text!r} is not a kind of dry run; write "none", "server" or "client".') from None


DryRunOption = Annotated[
    DryRun | None,
    typer.Option(
        _FLAG,
        metavar="none|client|server",
        help="Say what would be done; write nothing. client: without the store.",
        parser=_parse,
        show_default=False,
    ),
]


def _with_value(words: list[str]) -> list[str]:
    """Arguments in which the flag has a value, if need be ``plain``: the word behind it is none of its own."""
    end = words.index("--") if "--" in words else len(words)
    return [f"{_FLAG}={DryRun.plain}" if at < end and word == _FLAG else word for at, word in enumerate(words)]


class Command(TyperCommand):
    """A command whose ``--dry-run`` may stand alone, before any other word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Click has it."""
        return super().parse_args(ctx, _with_value(args))


class OfCreate(Commands):
    """``create``, which is a command and has others below it: the same for it."""

    elsewhere = elsewhere.CREATED

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Click has it."""
        rest: list[str] = super().parse_args(ctx, _with_value(args))
        return rest
