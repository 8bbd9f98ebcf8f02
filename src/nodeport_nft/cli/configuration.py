"""config: what is in force, and where each value comes from."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer

from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import put, say
from nodeport_nft.cli.verbs import OfConfig
from nodeport_nft.settings import KEYS, SETTINGS


class ViewOutput(enum.StrEnum):
    """Formats of ``config view`` beside the table."""

    yaml = "yaml"
    json = "json"


config = typer.Typer(
    cls=OfConfig,
    help="Show the configuration in force.",
    epilog="Example: nodeport-nft config view -o yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@config.command(
    "view",
    short_help="Show each value, and where it comes from",
    epilog="Example: nodeport-nft config view -o yaml",
)
@command
def view(
    *,
    output: Annotated[
        ViewOutput | None, typer.Option("--output", "-o", help="yaml, json: fit for config.yaml, as a whole.")
    ] = None,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Without the line of column names.")] = False,
    flags: Annotated[Flags, "store"],
) -> None:
    """Show the configuration in force: each key, its value, and where that comes from.

    That is a flag, a line of the file, or the default. A daemon has flags of its own, which are not seen here.
    """
    from nodeport_nft.cli.layout import table
    from nodeport_nft.cli.output_formats import to_json, to_yaml
    from nodeport_nft.config.writing import as_written

    chosen = flags.config()
    written = {setting.key: as_written(chosen, setting) for setting in SETTINGS}
    if output is not None:
        # Limits of connection tracking count as asked for where a file has them, be they the default.
        left_out = {key for key in KEYS if key.startswith("conntrack")} - chosen.places.keys()
        document = {key: value for key, value in written.items() if value is not None and key not in left_out}
        put(to_yaml(document) if output is ViewOutput.yaml else to_json(document))
        return
    rows = [(key, _shown(value), chosen.places.get(key, "default")) for key, value in written.items()]
    text = table(("KEY", "VALUE", "FROM"), rows)
    put(text.partition("\n")[2] if no_headers else text)


@config.command(
    "path", short_help="Print which file is read", epilog="Example: nodeport-nft config path --config ./config.yaml"
)
@command
def path(*, flags: Flags) -> None:
    """Print the path of the configuration file; on stderr, whether there is none."""
    from pathlib import Path

    from nodeport_nft.config import DEFAULT_PATH

    named = flags.file or DEFAULT_PATH
    put(named)
    if not Path(named).exists():
        say("there is no such file; the defaults are in force")


def _shown(value: Any) -> str:
    if value is None:
        return "<none>"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, list) else str(value)
