"""Commands about the program itself: version, completion, api-resources, help."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from nodeport_nft import __version__
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import put


class Document(enum.StrEnum):
    """Formats of ``version`` beside lines."""

    json = "json"
    yaml = "yaml"


class Shell(enum.StrEnum):
    """Shells that completion has a script for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


class Truth(enum.StrEnum):
    """What kubectl takes as the value of a switch."""

    true = "true"
    false = "false"


class KindsOutput(enum.StrEnum):
    """Formats of ``api-resources`` beside the table."""

    name = "name"


@command
def version(
    *,
    client: Annotated[bool, typer.Option("--client", help="Ask no daemon.")] = False,
    output: Annotated[Document | None, typer.Option("--output", "-o", help="json, yaml: for scripts.")] = None,
    flags: Annotated[Flags, "metricsBindAddress"],
) -> None:
    """Print versions: the program's, its daemon's if one runs here, and those of what it runs on."""
    from nodeport_nft.cli.output_formats import to_json, to_yaml
    from nodeport_nft.cli.versions import daemon_version, versions_here

    told: dict[str, str | None] = {"nodeport-nft": __version__}
    if not client:
        told["daemon"] = daemon_version(flags.config().metrics_address)
    told |= versions_here()
    if output is not None:
        put(to_yaml(told) if output is Document.yaml else to_json(told))
        return
    width = max(map(len, told))
    for name, value in told.items():
        missing = "none answers" if name == "daemon" else "not there"
        put(f"{name:{width}} {value or missing}")


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print a script for a shell that has it complete commands, flags, kinds and names by the Tab key.

    For one session: source <(nodeport-nft completion bash). For all of bash: write it to
    /etc/bash_completion.d/nodeport-nft; of zsh: to _nodeport-nft in a directory of $fpath; of fish: to
    ~/.config/fish/completions/nodeport-nft.fish.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined] # it is not in its __all__

    put(
        get_completion_script(
            prog_name="nodeport-nft", complete_var="_NODEPORT_NFT_COMPLETE", shell=shell.value
        ).strip()
    )


def api_resources(
    *,
    output: Annotated[KindsOutput | None, typer.Option("--output", "-o", help="name: names alone.")] = None,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Without the line of column names.")] = False,
    namespaced: Annotated[
        Truth | None, typer.Option("--namespaced", help="true: those in namespaces; false: those in none.")
    ] = None,
) -> None:
    """List the kinds of object that have a use here, and what they may be called."""
    from nodeport_nft.cli.layout import table
    from nodeport_nft.kinds import RESOURCES

    chosen = sorted(
        (each for each in RESOURCES if namespaced in (None, str(each.namespaced).lower())),
        key=lambda each: (each.group, each.plural),
    )
    if output is KindsOutput.name:
        put("\n".join(f"{each.plural}.{each.group}" if each.group else each.plural for each in chosen))
        return
    rows = [(each.plural, each.short, each.api_version, str(each.namespaced).lower(), each.kind) for each in chosen]
    text = table(("NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"), rows)
    put(text.partition("\n")[2] if no_headers else text)


def api_versions() -> None:
    """List the versions of the API whose objects have a use here."""
    from nodeport_nft.kinds import RESOURCES

    put("\n".join(sorted({each.api_version for each in RESOURCES})))


def help_(
    words: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]...", help="The command.")] = None,
) -> None:
    """Say what a command does, and which flags it takes; without one, which commands there are."""
    raise AssertionError(words)  # Verbs asks the command itself
