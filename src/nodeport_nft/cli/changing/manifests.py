"""What ``-f`` of a command that changes objects names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.options import BAD_INPUT, fail, read_files

if TYPE_CHECKING:
    from nodeport_nft.cli.selectors import Selector
    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object

Recursive = Annotated[
    bool,
    typer.Option("--recursive", "-R", help="Directories are read with all below them; this is so without it, too."),
]


def read_named(
    verb: str, files: list[str] | None, config: Config, namespace: str, selector: Selector | None = None
) -> tuple[Object, ...]:
    """The objects that ``-f`` names, and that ``selector`` picks. Raises Problems; leaves where there is none."""
    if not files:
        fail(f"name the manifests to {verb} with -f FILE, a directory, or - for stdin", BAD_INPUT)
    objects = read_files(files, config, namespace).objects
    if not objects:
        fail(f"no objects to {verb} in the manifests; name others with -f")
    if selector and not (objects := tuple(one for one in objects if selector.picks(one.raw))):
        fail(f"no objects to {verb}: none in the manifests has such labels; leave out --selector, or mend it")
    return objects
