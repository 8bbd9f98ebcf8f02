"""The group of all commands: what people know of command lines by kubectl, and Click, which parses ours, does not.

Flags may stand before the verb, and a short flag may have its value behind a ``=``. ``help VERB`` is ``VERB --help``.
What is no command or flag is answered with what was probably meant, or with what to do instead. In ``--help``,
commands stand in groups, each with a line of its own that is never cut.
"""

from __future__ import annotations

import re
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

from nodeport_nft import leading_flags
from nodeport_nft.cli import elsewhere
from nodeport_nft.cli.flags_elsewhere import FLAGS
from nodeport_nft.cli.lazily import Entries
from nodeport_nft.cli.options import BAD_INPUT, fail
from nodeport_nft.kinds import BY_WORD
from nodeport_nft.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

    from nodeport_nft.cli.lazily import Entry

HELP = "help"
WIDTH = 80
"""Columns that help may take, whatever the terminal has more."""

_BARE: Mapping[str, tuple[str, re.Pattern[str]]] = {
    "--validate": (
        "strict",
        re.compile(r"(?!-).*", re.DOTALL),
    ),  # no word stands behind it in any command that has it
    "--cascade": ("background", re.compile("background|foreground|orphan|true|false")),
}
"""Flags that may stand without a value, as kubectl has them: what is meant then, and what is a value behind them."""

_SHORT_WITH_VALUE = re.compile(r"(-[A-Za-z])=(.*)", re.DOTALL)
_SWITCH_WITH_VALUE = re.compile(r"(--[a-z-]+|-[A-Za-z])=(true|false)")
_COLOUR = "--color"
_OF_OBJECTS = {"-n", "--namespace", "-A", "--all-namespaces"}
_INSTALLING = ("install_completion", "show_completion")  # Typer's, which guess the shell; ours is ``completion``


class Commands(TyperGroup):
    """Commands, of which help gives the whole summary in groups; ``elsewhere`` are words that are none of them."""

    elsewhere: Mapping[str, str] = {}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Click's; what others do is told."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            if hint := self.elsewhere.get(args[0]):
                fail(f"{args[0]} is not a command: {hint}", BAD_INPUT)
            if "--filename" in _flags_of(self) and args[0].endswith((".yaml", ".yml", ".json")):
                fail(elsewhere.FILES.format(command=self.name, word=visible(args[0])), BAD_INPUT)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (Click's signature)
        """The commands by their groups, in the order of their registration."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, panel, told in self.listed():
            panels.setdefault(panel, []).append((name, told))
        widest = max(len(name) for rows in panels.values() for name, _ in rows)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(name.ljust(widest), told) for name, told in rows])

    def listed(self) -> Iterator[tuple[str, str, str]]:
        """Name, heading and summary of each command that is listed."""
        commands: Mapping[str, Any] = self.commands
        for name, each in commands.items():
            if not each.hidden:
                yield name, each.rich_help_panel or "Commands", summary(each)


class OfConfig(Commands):
    """The commands of ``config``."""

    elsewhere = elsewhere.CONTEXTS


class Verbs(Commands):
    """The program's commands."""

    elsewhere = elsewhere.VERBS
    entries: Sequence[Entry] = ()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: MutableMapping[str, Any] = Entries(self.entries)

    def listed(self) -> Iterator[tuple[str, str, str]]:
        """From the table, so that ``--help`` needs none of them."""
        for each in self.entries:
            if each.panel:
                yield each.name, each.panel, each.summary

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Click's, after our reading of the words."""
        words = _helped(_with_colour_first(_joined(args) if ctx.resilient_parsing else args))
        flags, rest = leading_flags.split(words)
        command, _ = self._named(rest)
        words = self._with_verb_first(flags, rest) if rest else words
        left: list[str] = super().parse_args(ctx, list(_separated(words, command)))
        return left

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Click's; who names a kind alone is told the verb."""
        word, *rest = args
        is_known = word in self.commands or word in self.elsewhere or ctx.resilient_parsing
        if not is_known and (kind := BY_WORD.get(word.lower().partition("/")[0])):
            named = " ".join(map(visible, (word, *(each for each in rest if not each.startswith("-")))))
            hint = f"{kind.plural} are a kind of object; did you mean nodeport-nft get {named}?"
            fail(f"{visible(word)} is not a command: {hint}", BAD_INPUT)
        return super().resolve_command(ctx, args)

    def get_params(self, ctx: Any) -> Any:
        """Click's, without the two that ``completion`` stands for now; they go on working."""
        found: list[Any] = super().get_params(ctx)
        for each in found:
            if each.name in _INSTALLING:
                each.hidden = True
        return found

    def _named(self, rest: Sequence[str]) -> tuple[Any, int]:
        """The command that words name, as far as they do, and how many of them it takes."""
        command: Any = self
        depth = 0
        while depth < len(rest) and rest[depth] in getattr(command, "commands", {}):
            command = command.commands[rest[depth]]
            depth += 1
        return command, depth

    def _with_verb_first(self, flags: Sequence[Sequence[str]], rest: Sequence[str]) -> list[str]:
        """The words with the flags before the verb behind it.

        Before all others of it: of a flag that is given twice the last one counts, as with kubectl. Where a command
        has no use for one of the group's own, as ``version`` for a namespace, the group takes it. Of manifests that
        is not said: who names a namespace means it for their objects, and is told that there is no such flag.
        """
        command, depth = self._named(rest)
        own, of_group = _flags_of(command), _flags_of(self)
        if not depth or (hasattr(command, "commands") and "--config" not in own):
            return [*chain(*flags), *rest]
        if "--filename" in own:
            of_group -= _OF_OBJECTS
        stay = [each for each in flags if _name(each) in of_group - own]
        move = [each for each in flags if each not in stay]
        return [*chain(*stay), *rest[:depth], *chain(*move), *rest[depth:]]


def _flags_of(command: Any) -> set[str]:
    return {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}


def _name(flag: Sequence[str]) -> str:
    """Of ``--namespace=web`` and ``-nweb`` the flag alone."""
    word = flag[0]
    return word.partition("=")[0] if word.startswith("--") else word[:2]


def summary(command: Any) -> str:
    """What ``--help`` says of a command in its list: one line of its own, else the first sentence of its help."""
    told = " ".join((command.short_help or (command.help or "").split("\n\n")[0]).split())
    return told.partition(". ")[0].rstrip(".")


def _helped(words: list[str]) -> list[str]:
    """``help VERB`` as ``VERB --help``, with the flags that stand before it."""
    flags, rest = leading_flags.split(words)
    if rest[:1] != [HELP] or {"-h", "--help"} & set(rest):
        return words
    return [*chain(*flags), *rest[1:], "--help"]


def _with_colour_first(words: Sequence[str]) -> list[str]:
    """``--color`` is the program's own, wherever it stands."""
    end = words.index("--") if "--" in words else len(words)
    found: list[str] = []
    rest: list[str] = []
    takes = False
    for at, word in enumerate(words):
        is_ours = at < end and (takes or word.partition("=")[0] == _COLOUR)
        (found if is_ours else rest).append(word)
        takes = is_ours and word == _COLOUR
    if takes:  # it stands last: no other word is its value
        found[-1] = f"{_COLOUR}="
    return [*found, *rest]


def _joined(words: Sequence[str]) -> list[str]:
    """``--store``, ``=`` and ``x`` as one word again: bash asks for completions with words that it parted there."""
    found: list[str] = []
    for index, word in enumerate(words):
        behind = index > 0 and (words[index - 1] == "=" or word == "=") and found and found[-1].startswith("-")
        if behind:
            found[-1] += word
        else:
            found.append(word)
    return found


def _separated(words: Iterable[str], command: Any) -> Iterator[str]:
    """``-o=yaml`` as ``-o yaml``: Click takes the ``=`` of short flags for a part of the value.

    And of a switch of the command ``--watch=true`` as ``--watch``, ``-A=true`` as ``-A``, ``--wait=false`` as
    ``--no-wait`` or as nothing, since Click's switches take no value; ``--validate`` alone as what it means then.
    """
    switches = {flag: each for each in command.params if getattr(each, "is_flag", False) for flag in each.opts}
    own = _flags_of(command)
    words = list(words)
    ended = False
    for word, following in zip_longest(words, words[1:]):
        ended = ended or word == "--"
        if not ended and word in _BARE and word in own and not _is_value(following, _BARE[word][1]):
            yield f"{word}={_BARE[word][0]}"
            continue
        if not ended and (parts := _SWITCH_WITH_VALUE.fullmatch(word)) and parts[1] in switches:
            yield from [parts[1]] if parts[2] == "true" else switches[parts[1]].secondary_opts
        elif not ended and (parts := _SHORT_WITH_VALUE.fullmatch(word)):
            yield from parts.groups()
        else:
            yield word


def _is_value(word: str | None, values: re.Pattern[str]) -> bool:
    return word is not None and values.fullmatch(word) is not None


_TOO_MUCH = re.compile(r"Got unexpected extra argument.*? \(([^ ]*).*\)", re.DOTALL)


def _argument_elsewhere(message: str, context: Any) -> str:
    """The same for an argument of a command that takes none: the name of a file, above all."""
    found = _TOO_MUCH.fullmatch(message)
    if found is None or context is None:
        return ""
    command = context.command.name
    if hint := elsewhere.ARGUMENTS.get(f"{command} {found[1]}") or elsewhere.ARGUMENTS.get(command):
        return f"{visible(found[1])}: {hint}"
    if "--filename" in _flags_of(context.command):
        is_kind = re.split("[/,]", found[1].lower())[0] in BY_WORD
        told = elsewhere.MANIFESTS if is_kind else elsewhere.FILES
        return told.format(command=context.command.name, word=visible(found[1]))
    return ""


def flag_elsewhere(error: Exception) -> str:
    """What to do instead of a flag that a command has not, if that is known; else the error says what was meant."""
    from nodeport_nft.problems import nearest

    context: Any = getattr(error, "ctx", None)
    flag = getattr(error, "option_name", "")
    if not flag or not hasattr(error, "possibilities"):
        return _argument_elsewhere(str(getattr(error, "message", "")), context)
    command = context.command_path.partition(" ")[2] if context else ""
    if hint := FLAGS.get(f"{command} {flag}") or FLAGS.get(flag):
        told = hint.replace("{command}", command)
        return f"{flag} is not a flag of {context.command_path if context else 'ours'}: {told}"
    known = [each for param in context.command.params if not param.hidden for each in param.opts] if context else []
    near = nearest(flag, known)
    error.possibilities = None
    error.message = f"{error.message.rstrip('.')}.{f' Did you mean {near}?' if near else ''}"  # type: ignore[attr-defined]
    return ""
