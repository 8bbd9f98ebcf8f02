"""expose: a Service for what a Pod or another Service is there for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodeport_nft.cli.changing.create import create_service, is_named
from nodeport_nft.cli.changing.dry_run import DryRunOption
from nodeport_nft.cli.changing.outcome import OutputOption
from nodeport_nft.cli.changing.ports import number_or_name
from nodeport_nft.cli.changing.stored import check_store, look_up, parse_asked
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import BAD_INPUT, Namespace, fail, whole_number
from nodeport_nft.cli.resources import complete
from nodeport_nft.kinds import reference
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from nodeport_nft.kube import Object

_EXPOSED = ("Pod", "Service")


@command
def expose(
    *,
    ctx: typer.Context,
    resources: Annotated[
        list[str],
        typer.Argument(
            metavar="pod|service NAME",
            help="What the Service is for.",
            autocompletion=complete,
            show_default=False,
        ),
    ],
    port: Annotated[
        str | None,
        typer.Option("--port", metavar="PORT,...", help="The Service's port or ports; default those there are."),
    ] = None,
    target_port: Annotated[
        str | None,
        typer.Option("--target-port", metavar="PORT", help="The pods' port, a number or a name; default the same."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", metavar="TCP|UDP|SCTP", help="Default TCP, or as it is there.")
    ] = None,
    service_type: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="ClusterIP, NodePort or LoadBalancer.")
    ] = "ClusterIP",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the Service; default that of what it is for.")
    ] = None,
    selector: Annotated[
        str | None,
        typer.Option("--selector", metavar="KEY=VALUE,...", help="Its pods; default as those that are there."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", metavar="KEY=VALUE,...", help="Of the Service; default as there.")
    ] = None,
    cluster_ip: Annotated[
        str | None, typer.Option("--cluster-ip", metavar="IP", help="The address to take, or None for headless.")
    ] = None,
    external_ip: Annotated[
        str | None, typer.Option("--external-ip", metavar="IP", help="An address outside on which it answers, too.")
    ] = None,
    session_affinity: Annotated[
        str | None, typer.Option("--session-affinity", metavar="None|ClientIP", help="Who comes again where.")
    ] = None,
    namespace: Namespace = "default",
    dry_run: DryRunOption = None,
    output: OutputOption = None,
    flags: Annotated[Flags, Group.NUMBERS, "store"],
) -> None:
    """Create a Service for the pods of a Pod's labels, or for those of another Service."""
    from nodeport_nft.cli.layout import mapping
    from nodeport_nft.store import open_existing

    chosen = flags.config()
    numbers = _numbers(port)
    asked = parse_asked(resources, files=None, config=chosen, namespace=namespace)
    if len(asked.refs) != 1 or asked.refs[0].kind not in _EXPOSED:
        fail("expose takes one Pod or one Service, as expose pod NAME", BAD_INPUT)
    check_store(chosen)
    with open_existing(chosen) as store:
        (exposed,) = look_up(store, asked)
    spec: dict[str, Any] = {
        "type": service_type,
        "selector": _equations("--selector", selector) if selector else _selector(exposed),
        "ports": _ports(exposed, numbers, target_port, protocol),
    }
    given = {
        "clusterIP": cluster_ip,
        "externalIPs": external_ip and [external_ip],
        "sessionAffinity": session_affinity,
    }
    spec |= {key: value for key, value in given.items() if value}
    shown = _equations("--labels", labels) if labels else mapping(exposed.raw, "metadata", "labels")
    metadata = {"name": name or exposed.name, "namespace": exposed.namespace} | ({"labels": shown} if shown else {})
    raw = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    create_service(chosen, raw, dry_run, output, names_namespace=is_named(ctx), past="exposed")


def _selector(exposed: Object) -> dict[str, Any]:
    """Which pods are meant. Leaves with FAILED where nothing says so."""
    from nodeport_nft.cli.layout import mapping

    path = ("metadata", "labels") if exposed.kind == "Pod" else ("spec", "selector")
    if not (found := mapping(exposed.raw, *path)):
        what = "labels" if exposed.kind == "Pod" else "selector"
        fail(f"{reference(exposed.kind, exposed.name)} has no {what} to find its pods by; add --selector=KEY=VALUE")
    return dict(found)


def _numbers(text: str | None) -> list[int]:
    """The ports of ``--port``; none where it is not given."""
    try:
        return [whole_number(part.strip()) for part in text.split(",")] if text is not None else []
    except typer.BadParameter as error:
        fail(f"--port: {error}", BAD_INPUT)


def _ports(
    exposed: Object, numbers: list[int], target_port: str | None, protocol: str | None
) -> list[dict[str, Any]]:
    """The Service's ports: of the numbers that are given, else of all that are there. Leaves where there is none.

    A number has the protocols that it has there; names are kubectl's.
    """
    there = _ports_of(exposed)
    if not (numbers or there):
        fail(f"{reference(exposed.kind, exposed.name)} names no port; add --port=PORT", BAD_INPUT)
    made: list[dict[str, Any]] = []
    for place, number in enumerate(numbers or dict.fromkeys(each["port"] for each in there), 1):
        protocols = dict.fromkeys(each["protocol"] for each in there if each["port"] == number)
        several = len(protocols) > 1 and not protocol
        for each in protocols if several else [protocol or next(iter(protocols), "TCP")]:
            name = f"port-{place}-{each.lower()}" if several else f"port-{place}"
            target = number_or_name(target_port) if target_port else number
            made.append({"name": name, "port": number, "protocol": each.upper(), "targetPort": target})
    if len(made) == 1:
        del made[0]["name"]
    return made


def _ports_of(exposed: Object) -> list[dict[str, Any]]:
    from nodeport_nft.cli.layout import records

    if exposed.kind == "Service":
        found, key = records(exposed.raw, "spec", "ports"), "port"
    else:
        containers = records(exposed.raw, "spec", "containers")
        found, key = [each for container in containers for each in records(container, "ports")], "containerPort"
    return [{"port": each[key], "protocol": each.get("protocol") or "TCP"} for each in found if key in each]


def _equations(flag: str, text: str) -> dict[str, str]:
    """Labels as a=b,c=d. Leaves with BAD_INPUT for what is none; what is wrong with them is told with the Service."""
    found = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not (key and equals):
            fail(f"{flag}: {part!r} is not a label; write KEY=VALUE, and commas between them", BAD_INPUT)
        found[key] = value
    return found
