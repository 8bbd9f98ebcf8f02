"""create: objects that are not there yet, from manifests or from a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodeport_nft.cli.changing.dry_run import DryRun, DryRunOption
from nodeport_nft.cli.changing.manifests import Recursive, read_named
from nodeport_nft.cli.changing.outcome import Manner, OutputOption, read_form, write, write_and_tell
from nodeport_nft.cli.changing.ports import SCTPPorts, TCPPorts, UDPPorts, parse_ports
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, Files, Namespace, allowed_ranges, fail, whole_number
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from nodeport_nft.cli.changing.editor import EditedFile
    from nodeport_nft.config import Config

ServiceName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the Service.", show_default=False)]


@command
def create(
    *,
    ctx: typer.Context,
    filename: Files = None,
    recursive: Recursive = False,  # noqa: ARG001 (directories are always read so)
    edit: Annotated[bool, typer.Option("--edit", help="Edit them before, as edit does.")] = False,
    namespace: Namespace = "default",
    dry_run: DryRunOption = None,
    output: OutputOption = None,
    flags: Annotated[Flags, "validate", Group.NUMBERS, "store"],
) -> None:
    """Create the objects of manifests, or a Service without one.

    All of them or, if one of them is there already or anything is wrong, none.
    """
    if ctx.invoked_subcommand is not None:
        if given := _given(ctx):
            fail(f"{given} stands before {ctx.invoked_subcommand}; write it behind the name", BAD_INPUT)
        return
    chosen = flags.config()
    objects = read_named("create", filename, chosen, namespace)
    manner = Manner(dry_run, read_form(output), only_new=True)
    if edit:
        from nodeport_nft.cli.changing.editing import edit_until_stored

        edit_until_stored(objects, manner.output, lambda file: _created(chosen, file, namespace, manner))
    else:
        write_and_tell(chosen, objects, manner)


def _created(config: Config, file: EditedFile, namespace: str, manner: Manner) -> bool:
    """Create what the file says; False where it has no objects. Raises Problems, for a name that is taken as well."""
    from nodeport_nft.cli.changing.editing import read_edited
    from nodeport_nft.cli.changing.outcome import tell_written
    from nodeport_nft.problems import Problem, Problems
    from nodeport_nft.store import Conflict

    objects = read_edited(file, config, namespace)
    if not objects:
        return False
    try:
        written = write(config, objects, manner)
    except Conflict as error:
        text = "is there already; choose another name, or leave the editor without a change"
        raise Problems((Problem("", str(error.ref), "metadata.name", text),)) from error
    file.remove()
    tell_written(config, written, manner)
    return True


def _given(ctx: typer.Context) -> str:
    """An option that stands before the word of what is created, and would not be heard there; "" if none does."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            return str(parameter.opts[0])
    return ""


@command
def create_nodeport(
    *,
    ctx: typer.Context,
    name: ServiceName,
    tcp: TCPPorts = None,
    udp: UDPPorts = None,
    sctp: SCTPPorts = None,
    node_port: Annotated[
        int | None,
        typer.Option(
            "--node-port",
            metavar="PORT",
            help="The nodePort to take; default any free one.",
            parser=whole_number,
        ),
    ] = None,
    namespace: Namespace = "default",
    dry_run: DryRunOption = None,
    output: OutputOption = None,
    flags: Annotated[Flags, Group.NUMBERS, "store"],
) -> None:
    """Create a Service of type NodePort for the pods labelled app=NAME."""
    chosen = flags.config()
    ports = parse_ports(tcp, udp, sctp)
    if not ports:
        fail("a NodePort service has at least one port; add --tcp=PORT:TARGET", BAD_INPUT)
    if node_port is not None:
        if len({port["protocol"] for port in ports}) < len(ports):
            fail("--node-port fits one port of each protocol; leave it out, or apply a manifest", BAD_INPUT)
        ports = [{**port, "nodePort": node_port} for port in ports]
    spec = {"type": "NodePort", "ports": ports}
    create_service(chosen, _document(name, namespace, spec), dry_run, output, names_namespace=is_named(ctx))


@command
def create_clusterip(
    *,
    ctx: typer.Context,
    name: ServiceName,
    tcp: TCPPorts = None,
    udp: UDPPorts = None,
    sctp: SCTPPorts = None,
    clusterip: Annotated[
        str | None,
        typer.Option(
            "--clusterip", metavar="IP", help="The address to take, or None for headless; default any free one."
        ),
    ] = None,
    namespace: Namespace = "default",
    dry_run: DryRunOption = None,
    output: OutputOption = None,
    flags: Annotated[Flags, Group.NUMBERS, "store"],
) -> None:
    """Create a Service of type ClusterIP for the pods labelled app=NAME."""
    chosen = flags.config()
    ports = parse_ports(tcp, udp, sctp)
    if not ports and clusterip != "None":
        fail("a service has at least one port, unless --clusterip=None; add --tcp=PORT:TARGET", BAD_INPUT)
    spec: dict[str, Any] = {"type": "ClusterIP"}
    if ports:
        spec["ports"] = ports
    if clusterip is not None:
        spec["clusterIP"] = clusterip
    create_service(chosen, _document(name, namespace, spec), dry_run, output, names_namespace=is_named(ctx))


@command
def create_loadbalancer(
    *,
    ctx: typer.Context,
    name: ServiceName,
    tcp: TCPPorts = None,
    udp: UDPPorts = None,
    sctp: SCTPPorts = None,
    namespace: Namespace = "default",
    dry_run: DryRunOption = None,
    output: OutputOption = None,
    flags: Annotated[Flags, Group.NUMBERS, "store"],
) -> None:
    """Create a Service of type LoadBalancer for the pods labelled app=NAME.

    Nobody assigns its address here; it gets one where its status names one, or by spec.externalIPs.
    """
    chosen = flags.config()
    ports = parse_ports(tcp, udp, sctp)
    if not ports:
        fail("a LoadBalancer service has at least one port; add --tcp=PORT:TARGET", BAD_INPUT)
    spec = {"type": "LoadBalancer", "ports": ports}
    create_service(chosen, _document(name, namespace, spec), dry_run, output, names_namespace=is_named(ctx))


@command
def create_externalname(
    *,
    ctx: typer.Context,
    name: ServiceName,
    external_name: Annotated[
        str | None,
        typer.Option("--external-name", metavar="DOMAIN", help="The name that it stands for; must be given."),
    ] = None,
    tcp: TCPPorts = None,
    udp: UDPPorts = None,
    sctp: SCTPPorts = None,
    namespace: Namespace = "default",
    dry_run: DryRunOption = None,
    output: OutputOption = None,
    flags: Annotated[Flags, Group.NUMBERS, "store"],
) -> None:
    """Create a Service of type ExternalName: a DNS name for another, of which no node programs anything."""
    if not external_name:
        fail("an ExternalName service stands for a name; add --external-name=DOMAIN", BAD_INPUT)
    chosen = flags.config()
    spec: dict[str, Any] = {"type": "ExternalName", "externalName": external_name}
    if ports := parse_ports(tcp, udp, sctp):
        spec["ports"] = ports
    create_service(chosen, _document(name, namespace, spec), dry_run, output, names_namespace=is_named(ctx))


def is_named(ctx: typer.Context) -> bool:
    """Whether the namespace was given, and is no default."""
    return bool(ctx.params.get("namespace"))


def _document(name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {**spec, "selector": dict(labels)},
    }


def create_service(
    config: Config,
    raw: dict[str, Any],
    dry_run: DryRun | None,
    output: str | None,
    *,
    names_namespace: bool,
    past: str = "",
) -> None:
    """Store a Service that is not there yet. Raises Problems; leaves with FAILED if it is there.

    What is printed for others to apply names its namespace only where the user has (``names_namespace``), so that
    they can still choose one.
    """
    from msgspec.structs import replace

    from nodeport_nft.kube import parse_object

    created = parse_object(raw, ranges=allowed_ranges(config))
    if dry_run is DryRun.client and not names_namespace:
        metadata = {key: value for key, value in raw["metadata"].items() if key != "namespace"}
        created = replace(created, raw={**raw, "metadata": metadata})
    write_and_tell(config, [created], Manner(dry_run, read_form(output), only_new=True, past=past))
