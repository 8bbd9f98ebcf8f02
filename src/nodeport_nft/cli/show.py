"""Commands that tell of objects in words of their own, and change nothing: describe, hosts."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli import colour
from nodeport_nft.cli.changing.manifests import Recursive
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.graph import service_trees
from nodeport_nft.cli.options import (
    BAD_INPUT,
    AllNamespaces,
    Files,
    Namespace,
    fail,
    open_existing,
    put,
)
from nodeport_nft.cli.resources import Resources, check_names, leave, say_nothing_found, targets_meant
from nodeport_nft.cli.selectors import Fields, Labels, read_selector
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodeport_nft.config import Config
    from nodeport_nft.kube import Object
    from nodeport_nft.store import Objects
    from nodeport_nft.store.api import Registered


@command
def describe(
    *,
    resources: Resources = None,
    filename: Files = None,
    recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
    namespace: Namespace = "default",
    all_namespaces: AllNamespaces = False,
    labels: Labels = None,
    fields: Fields = None,
    node_name: Annotated[
        str | None,
        typer.Option(
            "--node-name",
            metavar="NAME",
            help="The node of which traffic policies Local are told; default the host name, if there is such a Node.",
        ),
    ] = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Services as trees: ports, addresses, endpoints and nodes.")
    ] = False,
    chunk_size: Annotated[int | None, typer.Option("--chunk-size", hidden=True)] = None,  # noqa: ARG001
    show_events: Annotated[bool | None, typer.Option("--show-events/--no-show-events", hidden=True)] = None,  # noqa: ARG001
    flags: Annotated[Flags, "store"],
) -> None:
    """Show services, pods or nodes in detail, services with the endpoints that may answer, or why there is none.

    A name alone that is not there means all that begin with it.
    """
    from nodeport_nft.cli.get.listings import with_registered

    chosen = flags.config()
    targets, namespace = targets_meant("describe", resources, filename, chosen, namespace)
    for resource, name in targets:
        if resource.kind not in ("Service", "Pod", "Node"):
            what = f"{resource.plural} {name}" if name else resource.plural
            remedy = f"get {what} -o yaml"
            if resource.kind == "Endpoints":  # which need not be stored
                remedy = f"{' '.join(filter(None, ('describe service', name)))}, or get {what}"
            fail(f"describe knows services, pods and nodes; try {remedy}", BAD_INPUT)
        if tree and resource.kind != "Service":
            fail(f"--tree is for services; leave it out, or {resource.plural}", BAD_INPUT)
    check_names(targets, all_namespaces=all_namespaces)
    selector = read_selector(labels, fields, targets)
    scope = None if all_namespaces else namespace
    with open_existing(chosen) as opened:
        found, missing, registered = with_registered(opened, chosen, targets, scope)
        if missing and not filename and len(targets) == 1:
            ((resource, start),) = targets
            every, _, registered = with_registered(opened, chosen, ((resource, None),), scope)
            found = tuple(stored for stored in every if start and stored.name.startswith(start))
            missing = () if found else missing
        found = tuple(stored for stored in found if selector.picks(stored.raw))
        if found and tree:
            put(service_trees(opened, chosen, found))
        elif found:
            describer = _describer(opened, node_name, registered, chosen)
            put("\n\n\n".join(map(describer, found)), paint=colour.description)
        complaints = opened.complaints()
    if not (found or missing or complaints):
        say_nothing_found(targets, scope)
    leave((*missing, *complaints))


@command
def hosts(
    *,
    filename: Files = None,
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace",
            "-n",
            help="Namespace whose services get their bare name; with -f, also of objects that name none.",
        ),
    ] = "default",
    flags: Annotated[Flags, "validate", "clusterDomain", Group.NUMBERS, "store"],
) -> None:
    """Print lines for a hosts file that give the services their names.

    From the store, or from manifests with the clusterIPs that an empty store would give them.
    """
    from nodeport_nft.cli.desired import read_alone
    from nodeport_nft.hosts import hosts_lines
    from nodeport_nft.notation import label_fault

    if fault := label_fault(namespace):
        fail(f"--namespace: {fault}", BAD_INPUT)
    chosen = flags.config()
    snapshot, complaints = read_alone(chosen, filename, namespace)
    lines = hosts_lines(snapshot.services, domain=chosen.cluster_domain, namespace=namespace)
    if lines:
        put("\n".join(lines))
    leave(complaints)


def _describer(
    store: Objects, node_name: str | None, registered: dict[str, Registered] | None, config: Config
) -> Callable[[Object], str]:
    from nodeport_nft.cli.description import describe_node, describe_pod, describe_service
    from nodeport_nft.cli.desired import parse_node_name
    from nodeport_nft.cli.get.listings import utc_now
    from nodeport_nft.cli.nodes import registration_fields
    from nodeport_nft.resolve import Resolver
    from nodeport_nft.resolve.absence import Around

    snapshot = store.snapshot()
    around = Around(snapshot, store.documents, pods=lambda: store.pods(snapshot))
    resolver = Resolver(around.index, node_name="")
    nodes = {node.name: node for node in snapshot.nodes}
    named = node_name or config.node_name
    here = parse_node_name(node_name, config) if named or platform.node().lower() in nodes else ""

    now = utc_now()

    def described(stored: Object) -> str:
        if stored.kind == "Service":
            return describe_service(stored, resolver, around, now, here)
        if stored.kind == "Pod":
            return describe_pod(stored, nodes, around.index, now)
        known = () if registered is None else registration_fields(registered.get(stored.name), now)
        return describe_node(stored, known)

    return described
