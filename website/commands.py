"""The reference of the commands, as Markdown, made of what ``--help`` is made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")


def reference() -> str:
    """A section for each command that ``--help`` shows, subcommands after their group, by name."""
    from nodeport_nft.cli import app

    return "\n\n".join(_section(name, command, context) for name, command, context in _commands(app))


def _commands(app: typer.Typer) -> Iterator[tuple[str, Any, Any]]:
    root = typer.main.get_command(app)

    def walk(name: str, command: Any, parent: Any) -> Iterator[tuple[str, Any, Any]]:
        context = command.context_class(command, info_name=name, parent=parent)
        if parent is not None and not hasattr(command, "commands"):
            yield context.command_path, command, context
        for word, each in sorted(getattr(command, "commands", {}).items()):
            if not each.hidden:
                yield from walk(word, each, context)

    return walk("nodeport-nft", root, None)


def _section(path: str, command: Any, context: Any) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [
        f"### `{path.removeprefix('nodeport-nft ')}`",
        f"```text\n{path} {usage}\n```",
        _text(command.help or ""),
        _parameters(command, context),
    ]
    if example := (command.epilog or "").strip():
        parts.append(_example(example))
    return "\n\n".join(part for part in parts if part)


def _text(help_text: str) -> str:
    """Help as Markdown: what looks like markup is none. Paragraphs that keep their lines (``\\b``) are code."""
    paragraphs = []
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        if paragraph.startswith("\b"):
            paragraphs.append("```text\n" + paragraph.removeprefix("\b").strip("\n") + "\n```")
        else:
            paragraphs.append(_escaped(paragraph))
    return "\n\n".join(paragraphs)


def _parameters(command: Any, context: Any) -> str:
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and not getattr(parameter, "hidden", False):
            name, meaning = record
            rows.append(f"| `{name.replace('|', chr(92) + '|')}` | {_escaped(' '.join(meaning.split()))} |")
    return "\n".join(["| argument or option | meaning |", "| --- | --- |", *rows]) if rows else ""


def _example(epilog: str) -> str:
    """``Example: COMMAND``, or several of them a line, as a block to copy; anything else stays text."""
    commands = [line.strip() for line in re.sub(r"^Examples?:", "", epilog).replace("\b", "").splitlines()]
    return "```sh\n" + "\n".join(line for line in commands if line) + "\n```"


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
