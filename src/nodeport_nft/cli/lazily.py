"""Commands that are made when they are asked for: the modules of all others are half of the time of each start."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import typer

from nodeport_nft.interrupts import ends_at_once


class Entry(NamedTuple):
    """One command: what the list of commands says of it, and ``place``, "MODULE:NAME" of its function or its Typer.

    ``summary`` is its line in the list, of which nothing is cut. ``tries``: it has a ``--dry-run`` that may stand
    without a value. ``panel``: the heading that it stands below; "" for one that is not listed.
    """

    name: str
    place: str
    panel: str = ""
    summary: str = ""
    example: str = ""
    tries: bool = False

    def make(self) -> Any:
        """The command as Click is to have it."""
        module, _, name = self.place.partition(":")
        with ends_at_once():  # an exception would come out of somebody's import
            target = getattr(import_module(f"nodeport_nft.cli.{module}"), name)
            from typer.main import get_command, get_group

            if isinstance(target, typer.Typer):
                made: Any = get_group(target)
                made.name = self.name
            else:
                alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
                alone.command(self.name, cls=self._cls(), epilog=f"Example: nodeport-nft {self.example}")(target)
                made = get_command(alone)
        made.short_help, made.rich_help_panel, made.hidden = self.summary, self.panel, not self.panel
        return made

    def _cls(self) -> Any:
        if not self.tries:
            return None
        from nodeport_nft.cli.changing.dry_run import Command

        return Command


class Entries(MutableMapping[str, Any]):
    """Commands by their names, in the order of the table; Click may put more there."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.table = {each.name: each for each in entries}
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self.table[name].make()
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self.table or name in self._made

    def __iter__(self) -> Iterator[str]:
        return iter({**self.table, **self._made})

    def __len__(self) -> int:
        return len({**self.table, **self._made})
