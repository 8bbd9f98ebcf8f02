"""The command trace: what would become of a connection, and why."""

from __future__ import annotations

import enum
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Annotated

import typer

from nodeport_nft.cli.desired import compile_state, parse_addresses, parse_node_name, read_wanted
from nodeport_nft.cli.flags import Flags, command
from nodeport_nft.cli.options import (
    BAD_INPUT,
    Files,
    NodeIP,
    NodeName,
    fail,
    may_exist,
    open_existing,
    put,
)
from nodeport_nft.settings import Group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodeport_nft.cli.desired import Wanted
    from nodeport_nft.config import Config
    from nodeport_nft.facts import Host
    from nodeport_nft.model import IPAddress, Node, ServiceCIDR
    from nodeport_nft.resolve.absence import Cause, Document
    from nodeport_nft.ruleset import Table
    from nodeport_nft.trace import Trace


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
    source: Annotated[str, typer.Argument(metavar="FROM", help="Address the connection comes from.")],
    destination: Annotated[str, typer.Argument(metavar="TO", help="Address it goes to: a node's, a clusterIP, ….")],
    port: Annotated[int, typer.Option("--port", metavar="N", min=1, max=65535, help="Port it goes to.")],
    protocol: Annotated[
        Layer4, typer.Option("--protocol", case_sensitive=False, help="Protocol of the connection.")
    ] = Layer4.tcp,
    interface: Annotated[
        str | None,
        typer.Option("--interface", metavar="NAME", help="Interface it comes in on, if pods are told by it."),
    ] = None,
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

    The tables are those that sync would write for the manifests (-f) or for the store, on the node of that name; or,
    with --live, those in this node's kernel. No packet is sent. A connection FROM an address of the node is one of
    a process there; any other comes to the node from a pod or from outside.
    """
    from nodeport_nft.cli.trace_text import trace_json, trace_text
    from nodeport_nft.facts import Host
    from nodeport_nft.kernel.host.addresses import read_host
    from nodeport_nft.trace import Packet, TraceError, UnknownInterface
    from nodeport_nft.trace import trace as walk

    chosen = flags.config()
    sent_from, sent_to = _address("FROM", source), _address("TO", destination)
    if sent_from.version != sent_to.version:
        fail(f"FROM {sent_from} and TO {sent_to} are of two families; give both of one", BAD_INPUT)
    name, node_ips = parse_node_name(node_name, chosen), parse_addresses(node_ip, chosen)
    wanted: Wanted | None = None
    if live:
        if filename is not None:
            fail("-f and --live are two sources; choose one", BAD_INPUT)
        table, own = _live_table(chosen, name, node_ips, sent_to.version)
    else:
        if filename is None and not may_exist(chosen.store):
            remedy = "give manifests with -f, a store with --store, or --live"
            fail(f"nothing to trace: there is no store {chosen.store}; {remedy}", BAD_INPUT)
        held = filename is None or flags.has("store")
        # Without manifests it is about this very machine, whatever it is called: as sync, look at its addresses.
        host = read_host() if filename is None else Host()
        wanted = read_wanted(chosen, filename, with_store=held, node=name)
        table, own = _desired_table(chosen, wanted, name, node_ips, sent_to.version, host)
    from_node = sent_from.is_loopback or sent_from in own
    packet = Packet(str(sent_from), str(sent_to), protocol.value, port, from_node, interface)
    try:
        walked = walk(table, packet, {str(address) for address in own})
    except UnknownInterface as error:
        fail(f"{error}; give it with --interface (`ip route get {sent_from}` shows it on the node)", BAD_INPUT)
    except TraceError as error:
        fail(f"table {table.schema.family} {table.schema.name} cannot be followed: {error}")
    why = _why(chosen, walked, wanted, sent_to.version, name) or _left_out(
        chosen, walked, wanted, sent_to.version, name
    )
    put((trace_json if output is Output.json else trace_text)(walked, table.schema.family, why))
    if wanted:
        wanted.leave_if_damaged()


def _why(config: Config, walked: Trace, wanted: Wanted | None, version: int, node: str) -> tuple[Cause, ...]:
    """Why the packet finds no endpoint, if that is what stops it; from the manifests, else from the store if any."""
    from nodeport_nft.cli.trace_why import causes, stopped
    from nodeport_nft.model import Family
    from nodeport_nft.resolve.absence import Cause

    owners = stopped(walked)
    if not owners:
        return ()
    if wanted and wanted.written is not None:
        written = wanted.written

        def documents(kind: str, namespace: str) -> Iterable[Document]:
            return (each for each in written if (each.kind, each.namespace) == (kind, namespace))

        return causes(owners, Family(version), wanted.snapshot(), documents, node)
    if not may_exist(config.store):
        return ()
    with open_existing(config) as store:
        snapshot = store.snapshot()
        found = causes(owners, Family(version), snapshot, store.documents, node, lambda: store.pods(snapshot))
    if found or wanted:
        return found
    text = f"the objects in {config.store} do not say why: the kernel has other tables than they would give"
    return (Cause("TablesDiffer", text, "see what differs with nodeport-nft diff, and write it with sync"),)


def _left_out(config: Config, walked: Trace, wanted: Wanted | None, version: int, node: str) -> tuple[Cause, ...]:
    """Whose nodePort it is that the packet asks for in vain, if another node would have served it."""
    from nodeport_nft.resolve.absence import left_out
    from nodeport_nft.trace import Fate

    packet = walked.packet
    if not all(outcome.fate is Fate.UNTOUCHED and outcome.here for outcome in walked.outcomes):
        return ()
    if wanted:
        snapshot = wanted.snapshot()
    elif may_exist(config.store):
        with open_existing(config) as store:
            snapshot = store.snapshot()
    else:
        return ()
    return tuple(left_out(snapshot, node, packet.protocol, packet.port, version))


def _address(what: str, text: str) -> IPAddress:
    try:
        address = ip_address(text)
    except ValueError:
        fail(f"{what} {text!r} is no address; give one such as 172.30.1.2 or fd00:30:1::2", BAD_INPUT)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        fail(f"{what} {text!r}: leave out the zone, from the % on", BAD_INPUT)
    return address


def _desired_table(
    config: Config,
    wanted: Wanted,
    name: str,
    node_ips: tuple[IPAddress, ...],
    version: int,
    host: Host,
) -> tuple[Table, frozenset[IPAddress]]:
    """The table that sync would write, and the node's addresses, as far as flags, Node object and host tell them."""
    from nodeport_nft.model import Family

    tables, family = compile_state(config, wanted, name, node_ips, host, None).tables, Family(version)
    node = wanted.node(name)
    internal = node.internal_ips if node else ()
    addresses = (held.address for held in host.addresses)
    own = frozenset((*node_ips, *internal, *tables.facts.node_port_ips, *addresses))
    return tables.table(family), own


def _live_table(
    config: Config, name: str, node_ips: tuple[IPAddress, ...], version: int
) -> tuple[Table, frozenset[IPAddress]]:
    """The table in the kernel, and the node's addresses. Leaves if its rules are not what this program writes.

    Of what does not depend on services the compiled rules are walked, since these are values; that the kernel has the
    same is checked.
    """
    from nodeport_nft.compile import compile_schema
    from nodeport_nft.facts import gather, networks_of
    from nodeport_nft.kernel.host.addresses import read_host
    from nodeport_nft.kernel.nft import Nft
    from nodeport_nft.model import Family

    nft, host = Nft(), read_host()
    node, cidrs = _stored(config, name)
    facts, _ = gather(config, name=name, node=node, node_ips=node_ips, host=host, service_cidrs=networks_of(cidrs))
    schema = compile_schema(Family(version), facts)
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
    return listed.table(schema), frozenset((*node_ips, *(held.address for held in host.addresses)))


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
