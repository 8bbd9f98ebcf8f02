"""Commands that change objects: apply, create service, delete. Each is one transaction of the store."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import (
    BAD_INPUT,
    FAILED,
    AllNamespaces,
    Files,
    Namespace,
    RequiredFiles,
    allowed_ranges,
    fail,
    may_exist,
    now,
    put,
    read_files,
    say,
    warn,
    whole_number,
)
from nodeport_nft.cli.resources import complete, not_found, parse_targets
from nodeport_nft.cli.selectors import Fields, Labels, Selector, read_selector
from nodeport_nft.cli.unheard import tell_if_unheard
from nodeport_nft.cli.waiting import Timeout, check_shared, parse_timeout, wait_until_synced
from nodeport_nft.kinds import BY_KIND, Resource, reference
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from nodeport_nft.cli.resources import Target
    from nodeport_nft.config import Config
    from nodeport_nft.model import Ref
    from nodeport_nft.store import Objects

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]
_Cascade = Annotated[str | None, typer.Option("--cascade", metavar="MODE", hidden=True)]
_Force = Annotated[bool, typer.Option("--force", hidden=True)]
_GracePeriod = Annotated[int | None, typer.Option("--grace-period", metavar="SECONDS", hidden=True)]
_Now = Annotated[bool, typer.Option("--now", hidden=True)]
_Wait = Annotated[bool | None, typer.Option("--wait/--no-wait", hidden=True)]
"""What kubectl's delete takes besides (``_note_manner``)."""

ServiceName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the Service.", show_default=False)]
TCPPorts = Annotated[
    list[str] | None,
    typer.Option("--tcp", metavar="PORT[:TARGET]", help="TCP port and the pods' port (number or name); repeatable."),
]
UDPPorts = Annotated[list[str] | None, typer.Option("--udp", metavar="PORT[:TARGET]", help="The same for UDP.")]
SCTPPorts = Annotated[list[str] | None, typer.Option("--sctp", metavar="PORT[:TARGET]", help="The same for SCTP.")]

_NUMBER = re.compile(r"[0-9]{1,5}")


@command
def apply(
    *,
    filename: RequiredFiles,
    namespace: Namespace = "default",
    dry_run: DryRun = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every node of the cluster has programmed it, as wait does.")
    ] = False,
    timeout: Timeout = None,
    force_conflicts: Annotated[
        bool,
        typer.Option("--force-conflicts", help="Take fields over from others who manage them (kubernetes:)."),
    ] = False,
    flags: Annotated[Flags, "validate", Group.NUMBERS, "store"],
) -> None:
    """Store the objects of manifests, and give their Services what they ask for.

    All of them or, if anything is wrong, none.
    """
    from nodeport_nft.store import is_kubernetes, open_objects, open_trial

    if timeout is not None and not wait:
        fail("--timeout is how long to --wait; add --wait, or leave it out", BAD_INPUT)
    seconds = parse_timeout(timeout)
    chosen = flags.config()
    if wait:
        check_shared(chosen, "--wait")
    if force_conflicts and not is_kubernetes(chosen.store):
        fail(f"--force-conflicts: nobody manages single fields of {chosen.store}; leave it out", BAD_INPUT)
    manifests = read_files(filename, chosen, namespace)
    if not manifests.objects:
        fail("no objects to apply in the manifests; name others with -f")
    note = " (dry run)" if dry_run else ""
    with (open_trial if dry_run else open_objects)(chosen, force=force_conflicts) as store:
        written = store.write(manifests.objects, now=now(), dry_run=dry_run)
    warn(written.told)
    put("\n".join(f"{one.ref} {one.action}{note}" for one in written.applied))
    if not dry_run and any(one.action != "unchanged" for one in written.applied):
        tell_if_unheard(chosen)
    if wait and not dry_run:
        wait_until_synced(chosen, seconds)


@command
def create_nodeport(
    *,
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
    dry_run: DryRun = False,
    flags: Annotated[Flags, Group.NUMBERS, "store"],
) -> None:
    """Create a Service of type NodePort for the pods labelled app=NAME."""
    chosen = flags.config()
    ports = _ports(tcp, udp, sctp)
    if not ports:
        fail("a NodePort service has at least one port; add --tcp=PORT:TARGET", BAD_INPUT)
    if node_port is not None:
        if len({port["protocol"] for port in ports}) < len(ports):
            fail("--node-port fits one port of each protocol; leave it out, or apply a manifest", BAD_INPUT)
        ports = [{**port, "nodePort": node_port} for port in ports]
    _create(chosen, name, namespace, {"type": "NodePort", "ports": ports}, dry_run=dry_run)


@command
def create_clusterip(
    *,
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
    dry_run: DryRun = False,
    flags: Annotated[Flags, Group.NUMBERS, "store"],
) -> None:
    """Create a Service of type ClusterIP for the pods labelled app=NAME."""
    chosen = flags.config()
    ports = _ports(tcp, udp, sctp)
    if not ports and clusterip != "None":
        fail("a service has at least one port, unless --clusterip=None; add --tcp=PORT:TARGET", BAD_INPUT)
    spec: dict[str, Any] = {"type": "ClusterIP"}
    if ports:
        spec["ports"] = ports
    if clusterip is not None:
        spec["clusterIP"] = clusterip
    _create(chosen, name, namespace, spec, dry_run=dry_run)


@command
def delete(
    *,
    resources: Annotated[
        list[str] | None,
        typer.Argument(metavar="KIND NAME", help="Kinds and names, or KIND/NAME each time.", autocompletion=complete),
    ] = None,
    filename: Files = None,
    namespace: Namespace = "default",
    all_namespaces: AllNamespaces = False,
    labels: Labels = None,
    fields: Fields = None,
    every: Annotated[bool, typer.Option("--all", help="All objects of the kinds.")] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there counts as deleted.")
    ] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FORM", help="name: KIND/NAME of what was deleted.")
    ] = None,
    dry_run: DryRun = False,
    cascade: _Cascade = None,
    force: _Force = False,
    grace_period: _GracePeriod = None,
    immediately: _Now = False,
    wait: _Wait = None,
    flags: Annotated[Flags, "store"],
) -> None:
    """Delete objects by name, by label, all of a kind, or those of manifests, and free what they held."""
    from nodeport_nft.store import open_objects, open_trial

    if output is not None and output.removeprefix("=").lower() != "name":
        fail(f"-o {output}: of what is deleted there are names alone; write -o name, or leave it out", BAD_INPUT)
    if bool(resources) == bool(filename):
        fail("name what to delete: either KIND NAME... or -f FILE", BAD_INPUT)
    choice = _choice(resources or [], labels, fields, every=every, all_namespaces=all_namespaces)
    chosen = flags.config()
    _note_manner(chosen, cascade, grace_period, force=force, immediately=immediately, wait=wait)
    note = " (dry run)" if dry_run else ""
    is_there = may_exist(chosen.store)
    if not is_there and not ignore_not_found:
        fail(f"there is no store {chosen.store}; name the store with --store")
    doomed = _of_files(chosen, filename, namespace) if filename else choice.named(namespace)
    forgotten: dict[Ref, bool] = {}
    # Where there is none, none is made.
    with (open_objects if is_there and not dry_run else open_trial)(chosen) as store:
        if choice.is_open:
            doomed = choice.found(store, None if all_namespaces else namespace)
        nodes = [ref for ref in doomed if ref.kind == "Node"]
        written = store.write(deletes=list(doomed), now=now(), dry_run=dry_run)
        if nodes and not dry_run:
            forgotten = _forgotten(chosen, store, nodes)
    warn(written.told)
    for ref in (*written.deleted, *(ref for ref in written.missing if forgotten.get(ref))):
        put(reference(ref.kind, ref.name) if output else f'{doomed[ref].full} "{ref.name}" deleted{note}')
    if choice.is_open and not doomed:
        say("No resources found")
    # What was found and is gone was deleted by somebody else meanwhile.
    asked = () if ignore_not_found or choice.is_open else written.missing
    missing = tuple(ref for ref in asked if ref not in forgotten)
    for ref in missing:
        say(f"error: {not_found(doomed[ref], ref.namespace, ref.name)}")
    if written.deleted and not dry_run:
        tell_if_unheard(chosen)
    if missing or not all(forgotten.values()):
        raise typer.Exit(FAILED)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is to be deleted: the names, or (``is_open``) what ``selector`` picks of the kinds."""

    targets: tuple[Target, ...]
    selector: Selector
    is_open: bool

    def named(self, namespace: str) -> dict[Ref, Resource]:
        """The objects of these names."""
        from nodeport_nft.model import Ref

        return {
            Ref(resource.kind, namespace if resource.namespaced else "", name): resource
            for resource, name in self.targets
            if name is not None
        }

    def found(self, store: Objects, namespace: str | None) -> dict[Ref, Resource]:
        """The objects of a namespace (None: of all) that are picked; without selector also what cannot be read."""
        from nodeport_nft.store import Damaged

        return {
            each.ref: resource
            for resource, _ in self.targets
            for each in store.list(resource.kind, namespace if resource.namespaced else "")
            if not self.selector or (not isinstance(each, Damaged) and self.selector.picks(each.raw))
        }


def _choice(
    words: list[str], labels: str | None, fields: str | None, *, every: bool, all_namespaces: bool
) -> _Choice:
    """What the command line chooses. Leaves with BAD_INPUT where it says too little, or two things at once."""
    targets = parse_targets(words) if words else ()
    given = [flag for flag, value in (("-l", labels), ("--field-selector", fields)) if value is not None]
    given += ["--all"] if every else []
    if given and not words:
        fail(f"{given[0]} chooses among the objects of a kind; name one, as delete services {given[0]}", BAD_INPUT)
    if every and len(given) > 1:
        fail(f"{given[0]} and --all choose twice; leave out one of them", BAD_INPUT)
    selector = read_selector(labels, fields, targets)
    if given and not (every or selector):
        fail(f"{given[0]}: is empty; write --all to delete all of them", BAD_INPUT)
    for resource, name in targets:
        if given and name is not None:
            fail(f"{given[0]} and the name {name!r} choose twice; leave out one of them", BAD_INPUT)
        if not given and name is None:
            remedy = f"such as delete {resource.full} NAME, or choose with -l or --all"
            fail(f"name the {resource.plural} to delete, {remedy}", BAD_INPUT)
    if all_namespaces and not given:
        fail("--all-namespaces goes with -l or --all; leave it out, and give names with -n", BAD_INPUT)
    return _Choice(targets, selector, bool(given))


def _note_manner(
    config: Config,
    cascade: str | None,
    grace_period: int | None,
    *,
    force: bool,
    immediately: bool,
    wait: bool | None,
) -> None:
    """Say once what has no meaning for objects that nothing is run for; leave with BAD_INPUT where it would have one.

    Of an API server we ask its own defaults; waiting is what every delete of the other stores does by itself.
    """
    from nodeport_nft.store import is_kubernetes

    manner = {"--cascade": cascade, "--grace-period": grace_period, "--force": force, "--now": immediately}
    given = [flag for flag, value in manner.items() if value not in (None, False)]
    if is_kubernetes(config.store):
        given += ["--wait"] if wait is not None else []
        if given:
            remedy = "leave it out, or use kubectl delete, which knows how to"
            fail(f"{given[0]}: {config.store} is asked for its own defaults alone; {remedy}", BAD_INPUT)
    elif given:
        say(f"note: {', '.join(given)}: no meaning here; nothing runs for an object, and it is gone at once")


def _forgotten(config: Config, store: Objects, nodes: list[Ref]) -> dict[Ref, bool]:
    """Those of the nodes that have registered with a shared store, and whether they are none of the cluster now.

    One that is alive is kept, and one that objects still name as theirs: once it is forgotten it is not lost, and its
    endpoints would be in use again.
    """
    from nodeport_nft.resolve.absence.cause import listed
    from nodeport_nft.resolve.whereabouts import nodes_of
    from nodeport_nft.store import open_members

    members = open_members(config)
    if members is None:
        return {}
    with closing(members):
        registered = {one.name: one.is_alive for one in members.list()}
        asked = [ref for ref in nodes if ref.name in registered]
        theirs: dict[str, list[str]] = {ref.name: [] for ref in asked}
        for ref, values in store.readable() if asked else ():
            for name in {name for value in values for name in nodes_of(value)} & theirs.keys():
                theirs[name].append(str(ref))
        forgotten = dict.fromkeys(asked, False)
        for ref in asked:
            if registered[ref.name]:
                say(f"{ref.name}: its daemon runs, and its registration stays")
            elif named := theirs[ref.name]:
                say(
                    f"{ref.name}: stays registered, as a lost node, while {listed(named)} would be in use again "
                    "without it; delete what ran there, and the node once more"
                )
            else:
                forgotten[ref] = members.forget(ref.name)
        return forgotten


def _of_files(config: Config, files: list[str], namespace: str) -> dict[Ref, Resource]:
    """What the manifests name, whatever else they say: they may be refused by now, or be half a one."""
    return {one.ref: BY_KIND[one.kind] for one in read_files(files, config, namespace, names_only=True).objects}


def _ports(tcp: list[str] | None, udp: list[str] | None, sctp: list[str] | None) -> list[dict[str, Any]]:
    """The ports of the options. Raises Problems with all that are none.

    A single port has no name, as in most manifests; several are called by their text ("8000-80"), as kubectl does,
    and by their protocol where two of a text differ in it alone.
    """
    from nodeport_nft.problems import Problem, Problems

    problems = []
    ports: list[dict[str, Any]] = []
    for protocol, texts in (("TCP", tcp), ("UDP", udp), ("SCTP", sctp)):
        for text in (part for option in texts or [] for part in option.split(",")):
            number, colon, target = text.partition(":")
            if not _NUMBER.fullmatch(number) or (colon and not target):
                remedy = "write PORT or PORT:TARGET, such as 8000:80"
                problems.append(Problem("", "", f"--{protocol.lower()}", f"{text!r} is no port; {remedy}"))
                continue
            name = text.replace(":", "-")
            if any(port["protocol"] != protocol and port["name"] == name for port in ports):
                name = f"{name}-{protocol.lower()}"
            target_port = int(target or number) if _NUMBER.fullmatch(target or number) else target
            ports.append({"name": name, "port": int(number), "protocol": protocol, "targetPort": target_port})
    if problems:
        raise Problems(tuple(problems))
    if len(ports) == 1:
        del ports[0]["name"]
    return ports


def _create(config: Config, name: str, namespace: str, spec: dict[str, Any], *, dry_run: bool) -> None:
    """Store a Service that is not there yet. Raises Problems; leaves with FAILED if it is there."""
    from nodeport_nft.kube import parse_object
    from nodeport_nft.store import Conflict, open_objects, open_trial

    labels = {"app": name}
    raw = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {**spec, "selector": dict(labels)},
    }
    created = parse_object(raw, ranges=allowed_ranges(config), namespace=namespace)
    try:
        with (open_trial if dry_run else open_objects)(config) as store:
            written = store.write([created], now=now(), only_new=True, dry_run=dry_run)
    except Conflict:
        fail(
            f'service "{name}" already exists in namespace {namespace}; '
            "change it with apply -f, delete it first, or choose another name"
        )
    warn(written.told)
    (applied,) = written.applied
    put(f"{applied.ref} {applied.action}{' (dry run)' if dry_run else ''}")
    if not dry_run:
        tell_if_unheard(config)
