"""The command trace: what would become of a connection, and why."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli import colour
from nodeport_nft.cli.desired import compile_state, parse_addresses, parse_node_name, read_wanted
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import (
    BAD_INPUT,
    Files,
    Namespace,
    NodeIP,
    NodeName,
    fail,
    may_exist,
    open_existing,
    put,
)
from nodeport_nft.cli.trace_ends import Known, complete_ends, parse_ends, sender_address
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from nodeport_nft.cli.desired import Wanted
    from nodeport_nft.config import Config
    from nodeport_nft.facts import Host
    from nodeport_nft.model import Family, IPAddress, Node, NodeFacts, ServiceCIDR
    from nodeport_nft.ruleset import Table


class Layer4(enum.StrEnum):
    """Protocols a Service may have, spelled as nft does."""

    tcp = "tcp"
    udp = "udp"
    sctp = "sctp"


class Output(enum.StrEnum):
    """Formats of ``trace``."""

    text = "text"
    json = "json"


@command
def trace(
    *,
    ends: Annotated[
        list[str],
        typer.Argument(
            metavar="[FROM] TO",
            help="svc/web, web:80, web.shop:http, pod/web-1, node/worker-2:30080, an address or localhost.",
            autocompletion=complete_ends,
            show_default=False,
        ),
    ],
    sender: Annotated[
        str | None,
        typer.Option("--from", metavar="FROM", help="Where it comes from; default: a client outside."),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=1, max=65535, help="Port it goes to, if TO names none.")
    ] = None,
    protocol: Annotated[
        Layer4 | None,
        typer.Option("--protocol", case_sensitive=False, help="Its protocol; default the Service port's, or tcp."),
    ] = None,
    interface: Annotated[
        str | None,
        typer.Option("--interface", metavar="NAME", help="Interface it comes in on, if pods are told by it."),
    ] = None,
    namespace: Namespace = "default",
    filename: Files = None,
    live: Annotated[bool, typer.Option("--live", help="Read the tables from the kernel, as root.")] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="text: for people; json: for programs.")] = (
        Output.text
    ),
    node_name: NodeName = None,
    node_ip: NodeIP = None,
    flags: Annotated[Flags, "validate", Group.TABLES, Group.NUMBERS, "store"],
) -> None:
    """Follow a connection through a node's tables: every endpoint it may reach, or why it reaches none.

    The tables are those that sync would write for the manifests (-f) or for the store, on the node of --node-name,
    else on the one that FROM or TO names; or, with --live, those in this node's kernel. No packet is sent. What comes
    FROM an address of the node is sent by a process there; all else comes to it from a pod or from outside.
    """
    from nodeport_nft.cli.trace_beyond import ELSEWHERE, beyond
    from nodeport_nft.cli.trace_text import Besides, trace_json, trace_text
    from nodeport_nft.cli.trace_why import why
    from nodeport_nft.cli.wrapping import prose_width
    from nodeport_nft.facts import Host
    from nodeport_nft.kernel.host.addresses import read_host
    from nodeport_nft.model import Family
    from nodeport_nft.notation import socket_address
    from nodeport_nft.store.kubernetes.connection import is_kubernetes
    from nodeport_nft.trace import Fate, Packet, TraceError, UnknownInterface
    from nodeport_nft.trace import trace as walk

    chosen = flags.config()
    asked = parse_ends(ends, sender, port, protocol.value if protocol else "", node_name)
    name, node_ips = parse_node_name(node_name, chosen), parse_addresses(node_ip, chosen)
    wanted: Wanted | None = None
    if live and filename is not None:
        fail("-f and --live are two sources; choose one", BAD_INPUT)
    if not live and filename is None and not may_exist(chosen.store):
        remedy = "give manifests with -f, a store with --store, or --live"
        fail(f"nothing to trace: there is no store {chosen.store}; {remedy}", BAD_INPUT)
    held = filename is None or flags.has("store")
    # Of an API server a node reads what concerns itself, and whose node it is may yet have to be looked up.
    late = filename is None and is_kubernetes(chosen.store) and not live
    if not (live or late):
        wanted = read_wanted(chosen, filename, with_store=held, node=name, namespace=namespace)
    known = Known(chosen, wanted)
    sent_from, sent_to = asked.located(known, namespace)
    is_here = True
    if node_name is None and not live:
        named = asked.node(sent_from, sent_to, known, name)
        is_here = named == name
        if not is_here:  # what the configuration says of this machine says nothing of that one
            member = known.registered.get(named)
            registered = member.internal_ips if member else ()
            name, node_ips = named, parse_addresses(node_ip, chosen) if node_ip else registered
    if late:
        wanted = read_wanted(chosen, None, node=name)
    family = Family(sent_to.address.version if sent_to.address else sent_to.version)
    # Without manifests it is about this very machine, whatever it is called: as sync, look at its addresses.
    host = read_host() if filename is None and is_here else Host()
    if wanted is None:
        table, facts, own = _live_table(chosen, name, node_ips, family, host)
    else:
        table, facts, own = _desired_table(chosen, wanted, name, node_ips, family, host)
    target = sent_to.address or _node_port_address(facts, family)
    source = sender_address(sent_from, target)
    assert sent_to.port is not None  # or it would have left
    from_node = source.is_loopback or source in own
    spoken = protocol.value if protocol else sent_to.protocol or Layer4.tcp.value
    incoming = (
        "" if sent_from is None and interface is None else interface
    )  # a client outside comes in on none of pods
    packet = Packet(str(source), str(target), spoken, sent_to.port, from_node, incoming)
    try:
        walked = walk(table, packet, {str(address) for address in own})
    except UnknownInterface as error:
        fail(f"{error}; give it with --interface (`ip route get {source}` shows it on the node)", BAD_INPUT)
    except TraceError as error:
        fail(f"table {table.schema.family} {table.schema.name} cannot be followed: {error}")
    causes = why(chosen, walked, known, facts, is_live=wanted is None)
    held_here = {each.address for each in host.addresses}
    is_ours = wanted is None or not held_here.isdisjoint(facts.node_port_ips or facts.addresses)
    reaches = any(outcome.fate is Fate.FORWARDED for outcome in walked.outcomes)
    obstacles, unseen = beyond(walked, facts, host, chosen.trusted_chains) if is_ours else ((), ELSEWHERE)
    node_port = ""
    if sent_to.node_port and (on_node := _served_address(facts, family)):
        node_port = socket_address(on_node, sent_to.node_port)
    besides = Besides(
        obstacles,
        unseen if reaches else "",
        node_port,
        is_example=sent_from is None and not source.is_loopback,
    )
    if output is Output.json:
        put(trace_json(walked, table.schema.family, causes, besides))
    else:
        put(trace_text(walked, table.schema.family, causes, besides, prose_width()), paint=colour.walk)
    if wanted:
        wanted.leave_if_damaged()


def _node_port_address(facts: NodeFacts, family: Family) -> IPAddress:
    """Where a client of a nodePort connects to, of a node that is not named."""
    found = _served_address(facts, family)
    if found is None:
        fail(f"node {facts.name} has no IPv{family.value} address that is known; give one with --node-ip", BAD_INPUT)
    return found


def _served_address(facts: NodeFacts, family: Family) -> IPAddress | None:
    known = (*facts.node_port_ips, *facts.addresses)
    return next((address for address in known if address.version == family), None)


def _desired_table(
    config: Config,
    wanted: Wanted,
    name: str,
    node_ips: tuple[IPAddress, ...],
    family: Family,
    host: Host,
) -> tuple[Table, NodeFacts, frozenset[IPAddress]]:
    """The table that sync would write, for which facts, and the node's addresses as far as anybody tells them."""
    tables = compile_state(config, wanted, name, node_ips, host, None).tables
    node = wanted.node(name)
    internal = node.internal_ips if node else ()
    addresses = (held.address for held in host.addresses)
    own = frozenset((*node_ips, *internal, *tables.facts.node_port_ips, *addresses))
    return tables.table(family), tables.facts, own


def _live_table(
    config: Config, name: str, node_ips: tuple[IPAddress, ...], family: Family, host: Host
) -> tuple[Table, NodeFacts, frozenset[IPAddress]]:
    """The table in the kernel, its facts, the node's addresses. Leaves if its rules are not what this program writes.

    Of what does not depend on services the compiled rules are walked, since these are values; that the kernel has the
    same is checked.
    """
    from nodeport_nft.compile import compile_schema
    from nodeport_nft.facts import gather, networks_of
    from nodeport_nft.kernel.nft import Nft

    nft = Nft()
    node, cidrs = _stored(config, name)
    facts, _ = gather(config, name=name, node=node, node_ips=node_ips, host=host, service_cidrs=networks_of(cidrs))
    schema = compile_schema(family, facts)
    table = f"table {schema.family} {schema.name}"
    listed = nft.list_table(schema)
    if listed is None:
        fail(f"the kernel has no {table}; program the node with nodeport-nft sync --once")
    if listed.differences:
        fail(
            f"{table} in the kernel is not of this program's schema ({', '.join(listed.differences[:3])}, …): "
            "another version or other flags made it, or somebody changed it; give the flags and the --store that "
            "sync had, or replace it with nodeport-nft sync --once"
        )
    if listed.unreadable:
        fail(
            f"{table} in the kernel has a rule in chain {listed.unreadable[0]} that is not ours: somebody changed "
            "it; repair it with nodeport-nft sync --once"
        )
    return listed.table(schema), facts, frozenset((*node_ips, *(held.address for held in host.addresses)))


def _stored(config: Config, name: str) -> tuple[Node | None, tuple[ServiceCIDR, ...]]:
    """What rules may depend on of what is stored, if there is a store: this node's podCIDRs (P5), ServiceCIDRs."""
    from nodeport_nft.model import Node, Ref
    from nodeport_nft.store import Damaged

    if not may_exist(config.store):
        return None, ()
    with open_existing(config) as opened:
        values = opened.value(Ref("Node", "", name))
        cidrs = opened.service_cidrs()
    if isinstance(values, Damaged):
        fail(values.complaint(config.store))
    return next((value for value in values if isinstance(value, Node)), None), cidrs
