"""Manual pages, made of the commands themselves: what ``--help`` says, in the form of man(7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from nodeport_nft import __version__
from nodeport_nft.cli import app

FILES = {
    "/etc/nodeport-nft/config.yaml": "The configuration. It shows every key with its default.",
    "/etc/default/nodeport-nft": "Flags of the service.",
    "/var/lib/nodeport-nft/store.db": "The store, unless the configuration names another.",
    "/run/nodeport-nft": "The locks that keep processes from programming the node at once.",
}
EXITS = {
    "0": "Done.",
    "1": "Failed: not found, or refused by the kernel. Of diff: there are changes; of check: something is wrong.",
    "2": "Wrong input or usage; nothing was changed.",
}

_TYPE = re.compile(r" <[^>]*>$")
"""What Typer puts behind an argument's name, in words of Python's."""

_ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}  # the backslash first


def pages() -> dict[str, str]:
    """The text of each page by its name, such as ``nodeport-nft-apply``; all belong to section 1."""
    return dict(_pages(get_command(app), "nodeport-nft", None))


def _pages(command: Any, path: str, parent: Any) -> Iterator[tuple[str, str]]:
    name = path if parent is None else command.name
    context = command.context_class(command, info_name=name, parent=parent, **command.context_settings)
    below = list(_below(command, context))
    yield path.replace(" ", "-"), _page(command, context, path, below)
    for each in below:
        yield from _pages(each, f"{path} {each.name}", context)


def _below(command: Any, context: Any) -> Iterator[Any]:
    """The commands of a group, but for those that ``--help`` does not show."""
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        found = command.get_command(context, name)
        if not found.hidden:
            yield found


def _page(command: Any, context: Any, path: str, below: list[Any]) -> str:
    name = path.replace(" ", "-")
    first, *rest = (command.help or "").strip().split("\n\n")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f'.TH {name.upper()} 1 "" "nodeport-nft {__version__}" "User Commands"']
    lines += [".SH NAME", f"{_escaped(name)} \\- {_escaped(_joined(first).rstrip('.'))}"]
    lines += [".SH SYNOPSIS", f".B {_escaped(path)}", _escaped(usage)]
    lines += [".SH DESCRIPTION"]
    for paragraph in rest or [first]:
        lines += [".PP", _escaped(_joined(paragraph))]
    options = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    for title, entries in (
        (
            "COMMANDS",
            [(f"{name}-{each.name}(1)", _joined((each.help or "").strip().split("\n\n")[0])) for each in below],
        ),
        ("OPTIONS", options),
        ("EXIT STATUS", list(EXITS.items())),
        ("FILES", list(FILES.items())),
    ):
        if entries:
            lines.append(f".SH {title}")
        for term, text in entries:
            lines += [".TP", f".B {_escaped(_TYPE.sub('', term))}", _escaped(_joined(text)) or "\\&"]
    if command.epilog:
        lines += [".SH EXAMPLE", ".nf", _escaped(command.epilog.removeprefix("Example: ")), ".fi"]
    if context.parent:
        up = context.parent.command_path.replace(" ", "-")
        lines += [".SH SEE ALSO", f".BR {_escaped(up)} (1)"]
    return "\n".join(lines) + "\n"


def _joined(text: str) -> str:
    return " ".join(text.replace("\b", "").split())


def _escaped(text: str) -> str:
    """Text that roff prints as it is: typed characters stay typed ones, to be copied into a shell."""
    for plain, escape in _ESCAPES.items():
        text = text.replace(plain, escape)
    return f"\\&{text}" if text.startswith(".") else text
