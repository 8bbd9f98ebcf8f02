"""``graph``: Services as a picture, in Mermaid's, Graphviz' or a browser's language; and the tree of ``describe``."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import (
    BAD_INPUT,
    AllNamespaces,
    Files,
    Namespace,
    fail,
    put,
    say,
    whole_number,
)
from nodeport_nft.kinds import BY_KIND
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from nodeport_nft.config import Config
    from nodeport_nft.graph import Graph
    from nodeport_nft.kube import Object
    from nodeport_nft.model import Snapshot
    from nodeport_nft.resolve import Claimable
    from nodeport_nft.store import Objects

_DRAWING_SECONDS = 60


class GraphFormat(enum.StrEnum):
    """What ``graph`` can write."""

    mermaid = "mermaid"
    dot = "dot"
    svg = "svg"


def _complete(ctx: typer.Context, incomplete: str) -> list[str]:
    from nodeport_nft.cli.resources import complete

    given = ctx.params.get("services") or []
    # As if "get services" were typed: names are completed there, with the store and the namespace that flags name.
    ctx.params["resources"] = ["services", *given]
    return complete(ctx, incomplete)


@command
def graph(
    *,
    services: Annotated[
        list[str] | None,
        typer.Argument(metavar="SERVICE", help="Services; default all.", autocompletion=_complete),
    ] = None,
    filename: Files = None,
    namespace: Namespace = "default",
    all_namespaces: AllNamespaces = False,
    output: Annotated[
        GraphFormat,
        typer.Option("--output", "-o", help="svg needs Graphviz."),
    ] = GraphFormat.mermaid,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="NUMBER",
            parser=whole_number,
            help="How many ports, addresses and endpoints of a Service are drawn, each; default 20.",
        ),
    ] = None,
    flags: Annotated[Flags, "validate", Group.NUMBERS, "store"],
) -> None:
    """Draw Services: their addresses, the endpoints behind them, and the nodes that those run on.

    From the store, or from manifests as an empty store would take them. What there is no room for is told.
    """
    from nodeport_nft.cli.desired import read_alone
    from nodeport_nft.cli.resources import check_names, leave, say_nothing_found

    names = [name.removeprefix("service/").removeprefix("svc/") for name in services or ()]
    targets = [(BY_KIND["Service"], name) for name in names or (None,)]
    check_names(targets, all_namespaces=all_namespaces)
    if limit == 0:
        fail("--limit: 0 draws nothing; give 1 or more", BAD_INPUT)
    chosen = flags.config()
    scope = None if all_namespaces else namespace
    snapshot, complaints = read_alone(chosen, filename, namespace)
    missing, drawn = _drawn(snapshot, chosen, scope, names, limit)
    if drawn.vertices:
        put(_written(drawn, output))
    elif not missing:
        say_nothing_found(targets, scope)
    if drawn.left_out:
        left = f"{drawn.left_out:,} Service{'s are' if drawn.left_out > 1 else ' is'}"
        say(f"warning: {left} left out, for which there is no room; name those that you want to see")
    leave((*missing, *complaints))


def _drawn(
    snapshot: Snapshot, config: Config, namespace: str | None, names: Collection[str], limit: int | None
) -> tuple[tuple[str, ...], Graph]:
    """A message for each name that no Service has, and the graph of the others; of all, where no name is given."""
    from nodeport_nft.cli.resources import not_found
    from nodeport_nft.graph import MOST_SHOWN, graph_of
    from nodeport_nft.resolve import Index

    shown = sorted((s for s in snapshot.services if namespace in (None, s.namespace)), key=lambda s: s.key)
    there = {service.name: service for service in shown}
    missing = tuple(not_found(BY_KIND["Service"], namespace or "", name) for name in names if name not in there)
    chosen = [there[name] for name in dict.fromkeys(names) if name in there] if names else shown
    return missing, graph_of(chosen, Index.of(snapshot), claimable=_claimable(config), most=limit or MOST_SHOWN)


def service_trees(store: Objects, config: Config, services: Iterable[Object]) -> str:
    """The trees of these Services, which the store has; an empty line between two. Raises Problems."""
    from nodeport_nft.cli.columns import service_of
    from nodeport_nft.graph import graph_of, tree
    from nodeport_nft.resolve import Index

    index = Index.of(store.snapshot())
    claimable = _claimable(config)
    return "\n\n".join(tree(graph_of([service_of(each)], index, claimable=claimable)) for each in services)


def _claimable(config: Config) -> Claimable:
    from nodeport_nft.resolve import Claimable

    return Claimable(config.external_ips, config.load_balancer_ips)


def _written(drawn: Graph, output: GraphFormat) -> str:
    from nodeport_nft.graph import dot, mermaid

    if output is GraphFormat.mermaid:
        return mermaid(drawn)
    return dot(drawn) if output is GraphFormat.dot else _svg(dot(drawn))


def _svg(text: str) -> str:
    """What Graphviz makes of a graph in DOT. Leaves where it cannot."""
    import shutil
    import subprocess

    program = shutil.which("dot")
    if program is None:
        fail("svg: Graphviz' program dot is missing; install the package graphviz, or use -o mermaid or -o dot")
    try:
        done = subprocess.run(  # noqa: S603 (our own text, on stdin)
            [program, "-Tsvg"],
            input=text,
            capture_output=True,
            encoding="utf-8",  # as the text says of itself, whatever the locale has
            errors="replace",
            timeout=_DRAWING_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        fail(f"svg: dot has not come to an end within {_DRAWING_SECONDS} s; draw fewer Services, or use -o dot")
    if done.returncode:
        fail(f"svg: dot has failed: {done.stderr.strip() or done.returncode}")
    return done.stdout.rstrip("\n")
