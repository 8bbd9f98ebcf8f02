"""Commands that look at objects and change nothing: get, describe, hosts."""

from __future__ import annotations

import enum
import platform
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.graph import service_trees
from nodeport_nft.cli.options import (
    BAD_INPUT,
    FAILED,
    AllNamespaces,
    Files,
    Namespace,
    fail,
    open_existing,
    put,
    say,
)
from nodeport_nft.cli.resources import Resources, not_found, parse_targets, select
from nodeport_nft.kinds import reference
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodeport_nft.cli.resources import Target
    from nodeport_nft.config import Config
    from nodeport_nft.kinds import Resource
    from nodeport_nft.kube import Object
    from nodeport_nft.store import Objects
    from nodeport_nft.store.api import Registered


class Output(enum.StrEnum):
    """Formats of ``get`` beside the table."""

    wide = "wide"
    yaml = "yaml"
    json = "json"
    name = "name"


@command
def get(
    *,
    resources: Resources,
    namespace: Namespace = "default",
    all_namespaces: AllNamespaces = False,
    output: Annotated[
        Output | None,
        typer.Option("--output", "-o", help="wide: more columns; yaml, json: fit for apply -f; name: KIND/NAME."),
    ] = None,
    show_managed_fields: Annotated[
        bool, typer.Option("--show-managed-fields", help="With yaml and json: who manages which field (kubernetes:).")
    ] = False,
    flags: Annotated[Flags, "store"],
) -> None:
    """List objects: services, endpoints, endpointslices, pods or nodes, or several kinds with commas between them.

    The endpoints of a Service are computed, from whatever it gets them from; yaml, json and name give the stored
    Endpoints objects alone.
    """
    targets = parse_targets(resources)
    names = [name for _, name in targets if name is not None]
    if names and all_namespaces:
        fail("a name belongs to one namespace; leave out --all-namespaces or the names", BAD_INPUT)
    scope = None if all_namespaces else namespace
    chosen = flags.config()
    with open_existing(chosen) as opened:
        if output in (None, Output.wide):
            shown, missing = _tables(opened, chosen, targets, scope, wide=output is Output.wide)
        else:
            objects, missing = select(opened, targets, scope)
            if not show_managed_fields:
                objects = tuple(map(_without_managers, objects))
            shown = _listed(objects, output, single=len(names) == len(targets) == 1)
        complaints = opened.complaints()
    if shown:
        put(shown)
    elif not missing and not complaints:
        _say_nothing_found(targets[0][0], scope)
    _leave((*missing, *complaints))


@command
def describe(
    *,
    resources: Resources,
    namespace: Namespace = "default",
    all_namespaces: AllNamespaces = False,
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
    flags: Annotated[Flags, "store"],
) -> None:
    """Show services, pods or nodes in detail, services with the endpoints that may answer, or why there is none."""
    targets = parse_targets(resources)
    for resource, name in targets:
        if resource.kind not in ("Service", "Pod", "Node"):
            fail(f"describe knows services, pods and nodes; try get {resource.plural} -o yaml", BAD_INPUT)
        if tree and resource.kind != "Service":
            fail(f"--tree is for services; leave it out, or {resource.plural}", BAD_INPUT)
        if name is not None and all_namespaces:
            fail("a name belongs to one namespace; leave out --all-namespaces or the names", BAD_INPUT)
    scope = None if all_namespaces else namespace
    chosen = flags.config()
    with open_existing(chosen) as opened:
        found, missing, registered = _with_registered(opened, chosen, targets, scope)
        if found and tree:
            put(service_trees(opened, chosen, found))
        elif found:
            describer = _describer(opened, node_name, registered, chosen)
            put("\n\n\n".join(map(describer, found)))
        complaints = opened.complaints()
    if not found and not missing and not complaints:
        _say_nothing_found(targets[0][0], scope)
    _leave((*missing, *complaints))


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
    from nodeport_nft.cli.desired import read_wanted
    from nodeport_nft.hosts import hosts_lines
    from nodeport_nft.notation import label_fault

    if fault := label_fault(namespace):
        fail(f"--namespace: {fault}", BAD_INPUT)
    chosen = flags.config()
    complaints: tuple[str, ...] = ()
    if filename:
        snapshot = read_wanted(chosen, filename, with_store=False, namespace=namespace).snapshot()
    else:
        with open_existing(chosen) as opened:
            snapshot = opened.snapshot()
            complaints = opened.complaints()
    lines = hosts_lines(snapshot.services, domain=chosen.cluster_domain, namespace=namespace)
    if lines:
        put("\n".join(lines))
    _leave(complaints)


def _with_registered(
    store: Objects, config: Config, targets: tuple[Target, ...], namespace: str | None
) -> tuple[tuple[Object, ...], tuple[str, ...], dict[str, Registered] | None]:
    """What ``select`` finds, the nodes that have registered among it; and these, None where no node does."""
    from nodeport_nft.cli.nodes import registered_nodes, select_nodes

    registered = registered_nodes(config) if any(resource.kind == "Node" for resource, _ in targets) else None
    if registered is None:
        return (*select(store, targets, namespace), None)
    found: list[Object] = []
    missing: list[str] = []
    for resource, group in groupby(targets, lambda target: target[0]):
        several = tuple(group)
        is_node = resource.kind == "Node"
        some, absent = select_nodes(store, several, registered) if is_node else select(store, several, namespace)
        found += some
        missing += absent
    return tuple(found), tuple(missing), registered


def _tables(
    store: Objects, config: Config, targets: tuple[Target, ...], namespace: str | None, *, wide: bool
) -> tuple[str, tuple[str, ...]]:
    """A table for each kind that has objects, and a message for each name that has none."""
    from nodeport_nft.cli.columns import object_table, services_table
    from nodeport_nft.cli.nodes import nodes_table

    tables: list[str] = []
    missing: tuple[str, ...] = ()
    for resource in dict.fromkeys(resource for resource, _ in targets):
        asked = tuple(target for target in targets if target[0] is resource)
        if resource.kind == "Endpoints":
            table, absent = _endpoints(
                store, config, resource, [name for _, name in asked if name is not None], namespace
            )
        elif resource.kind == "Service" and all(name is None for _, name in asked):
            table, absent = services_table(store, namespace, wide=wide, now=_utc_now()), ()
        else:
            objects, absent, registered = _with_registered(store, config, asked, namespace)
            shows_namespace = namespace is None and resource.namespaced
            shown = (
                object_table(
                    resource.kind,
                    objects,
                    wide=wide,
                    namespaces=shows_namespace,
                    now=_utc_now(),
                    heard=store.heard() if resource.kind == "Pod" else (),
                )
                if registered is None
                else nodes_table(objects, registered, wide=wide, now=_utc_now())
            )
            table = shown if objects else ""
        tables += [table] if table else []
        missing += absent
    return "\n\n".join(tables), missing


def _endpoints(
    store: Objects, config: Config, resource: Resource, names: list[str], namespace: str | None
) -> tuple[str, tuple[str, ...]]:
    """The table of endpoints, and a message for each name that has none."""
    from nodeport_nft.cli.columns import endpoints_rows, endpoints_table
    from nodeport_nft.store import is_kubernetes

    # An API server says the same in slices, and does without Endpoints.
    lone = () if is_kubernetes(config.store) else store.objects("Endpoints", namespace)
    rows = endpoints_rows(store.snapshot(), lone, namespace)
    missing = set(names) - {key.name for key, _, _ in rows}
    if names:
        rows = [row for row in rows if row[0].name in names]
    text = endpoints_table(rows, namespaces=namespace is None, now=_utc_now()) if rows else ""
    return text, tuple(not_found(resource, namespace or "", name) for name in names if name in missing)


def _listed(objects: tuple[Object, ...], output: Output, *, single: bool) -> str:
    """The objects in a format for programs; "" where that leaves nothing to print."""
    if output is Output.name:
        return "\n".join(reference(stored.kind, stored.name) for stored in objects)
    if single:
        return _document(objects[0].raw, output) if objects else ""
    items = [stored.raw for stored in objects]
    return _document({"apiVersion": "v1", "items": items, "kind": "List"}, output)


def _without_managers(stored: Object) -> Object:
    """The object as people want to see it: of a Service, who manages which field is longer than all the rest."""
    metadata = stored.raw.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return stored
    rest = {key: value for key, value in metadata.items() if key != "managedFields"}
    return replace(stored, raw={**stored.raw, "metadata": rest})


def _document(value: dict[str, Any], output: Output) -> str:
    from nodeport_nft.cli.output_formats import to_json, to_yaml

    return to_yaml(value) if output is Output.yaml else to_json(value)


def _describer(
    store: Objects, node_name: str | None, registered: dict[str, Registered] | None, config: Config
) -> Callable[[Object], str]:
    from nodeport_nft.cli.description import describe_node, describe_pod, describe_service
    from nodeport_nft.cli.desired import parse_node_name
    from nodeport_nft.cli.nodes import registration_fields
    from nodeport_nft.resolve import Resolver
    from nodeport_nft.resolve.absence import Around

    snapshot = store.snapshot()
    around = Around(snapshot, store.documents, pods=lambda: store.pods(snapshot))
    resolver = Resolver(around.index, node_name="")
    nodes = {node.name: node for node in snapshot.nodes}
    named = node_name or config.node_name
    here = parse_node_name(node_name, config) if named or platform.node().lower() in nodes else ""

    now = _utc_now()

    def described(stored: Object) -> str:
        if stored.kind == "Service":
            return describe_service(stored, resolver, around, now, here)
        if stored.kind == "Pod":
            return describe_pod(stored, nodes, around.index, now)
        known = () if registered is None else registration_fields(registered.get(stored.name), now)
        return describe_node(stored, known)

    return described


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _say_nothing_found(resource: Resource, namespace: str | None) -> None:
    where = f" in {namespace} namespace" if resource.namespaced and namespace is not None else ""
    say(f"No resources found{where}.")


def _leave(missing: tuple[str, ...]) -> None:
    """Tell what was not found or cannot be read, and leave with FAILED if anything was not."""
    for message in missing:
        say(f"error: {message}")
    if missing:
        raise typer.Exit(FAILED)
