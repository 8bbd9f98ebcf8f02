"""The group of all commands: what kubectl takes in a command line and Click, which parses ours, does not.

Flags may stand before the verb, and a short flag may have its value behind a ``=``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

from nodeport_nft import leading_flags

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHORT_WITH_VALUE = re.compile(r"(-[A-Za-z])=(.*)", re.DOTALL)


class Verbs(TyperGroup):
    """The program's commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Click's, after our reading of the words."""
        return super().parse_args(ctx, list(_separated(self._with_verb_first(args))))

    def _with_verb_first(self, words: Sequence[str]) -> list[str]:
        """The words with the flags before the verb behind it, where they are the command's own.

        Before all others of it: of a flag that is given twice the last one counts, as with kubectl. What a command
        has no use for, such as a namespace for ``version``, stays, and is taken by the group.
        """
        flags, rest = leading_flags.split(words)
        command: Any = self
        depth = 0
        while depth < len(rest) and rest[depth] in getattr(command, "commands", {}):
            command = command.commands[rest[depth]]
            depth += 1
        of_command = {flag for each in getattr(command, "params", ()) for flag in each.opts}
        if not depth or "--config" not in of_command:
            return list(words)
        return [*rest[:depth], *flags, *rest[depth:]]


def _separated(words: Iterable[str]) -> Iterable[str]:
    """``-o=yaml`` as ``-o yaml``: Click takes the ``=`` of short flags for a part of the value."""
    ended = False
    for word in words:
        ended = ended or word == "--"
        if not ended and (found := _SHORT_WITH_VALUE.fullmatch(word)):
            yield from found.groups()
        else:
            yield word
