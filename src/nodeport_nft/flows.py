"""Which flows the kernel has to forget (conformance K2): of UDP, and connections that nobody has answered yet.

The idea
========

A rule of ours is asked once, by the first datagram of a flow. What it said is kept in the kernel's connection
tracking, and every later datagram with the same addresses and ports goes the same way, for as long as they keep
coming: 30 or 120 seconds of silence end a flow, and a busy client is never silent. So a flow outlives what made it.
Its endpoint may be gone, its service too, or it may have begun before there was a frontend and never have been
translated at all. TCP and SCTP notice by themselves, since such a connection breaks and is made anew; UDP does not.

All but one: a connection that is being begun. A client that has no answer sends its first packet again, for two
minutes and more, and each of them belongs to the entry that the first one made: untranslated, where it came before
the Service, or to an endpoint that has gone since. Such an *attempt* is judged as a flow is, as long as no packet has
come back; a connection that was answered is nobody's to end.

``read_frontends`` takes from a table's elements, as they are to be and as they were, which endpoints may answer on
each frontend. A flow to one of these whose answers come from elsewhere is *stale*; deleted, its next datagram
asks the rules again. A frontend that was there before and is no longer has no endpoints: all its flows are stale.
So is a flow to anything else inside the service CIDRs, unless the address is another proxy's. And so is one from a
source that may no longer connect: source ranges are asked by the first datagram alone, as all the rest is.

An endpoint that terminates but still serves gets no new flows and keeps those it has (kube-proxy's notion, too:
``pkg/proxy/conntrack``), and so does one that is drained, or of weight 0. The tables do not know them, hence
``only_draining``. An attempt that such an endpoint leaves unanswered is better made elsewhere.

Addresses are in their packed form here (``IPv4Address.packed``): there may be 128,000 flows to compare, and to make
address objects of them would take longer than to read them from the kernel.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from ipaddress import ip_address, ip_network

from msgspec import Struct, field
from msgspec.structs import replace

from nodeport_nft.model import EndpointSlice, IPAddress, IPNetwork, Pod, Protocol, Snapshot
from nodeport_nft.ruleset import (
    Chain,
    Dnat,
    Drop,
    Element,
    Elements,
    Field,
    Goto,
    GotoChance,
    InPools,
    InSet,
    Key,
    Schema,
    Table,
)

Place = tuple[bytes, int]
"""A packed address and a port."""

Destination = tuple[int, bytes, int]
"""Where a client sends: the protocol's number (IANA), a packed address and a port."""

TCP, UDP, SCTP = 6, 17, 132

ATTEMPTS = (TCP, SCTP)
"""The protocols whose connections are left alone once they are answered."""

_NUMBERS: dict[str | int, int] = {"tcp": TCP, "udp": UDP, "sctp": SCTP}

_OCTETS = {str(number): number for number in range(256)}
_NODE_PORT_IPS = "node-port-ips"
_NOBODY: Set[Place] = frozenset()
_PORT = (Field.L4PROTO, Field.DPORT)
FRONTENDS = (_PORT, (Field.DADDR, *_PORT))
"""The keys of the verdict maps, and of no others; those of the slot maps have the slot behind them."""


class Sources(Struct, frozen=True):
    """Prefixes that do not overlap, sorted: the ``first`` and the ``last`` address of each."""

    first: tuple[bytes, ...]
    last: tuple[bytes, ...]

    @classmethod
    def of(cls, prefixes: Iterable[str]) -> Sources:
        """Those of a source range's set."""
        networks = map(ip_network, prefixes)
        pairs = sorted((net.network_address.packed, net.broadcast_address.packed) for net in networks)
        return cls(tuple(first for first, _ in pairs), tuple(last for _, last in pairs))

    def __contains__(self, address: bytes) -> bool:
        place = bisect_right(self.first, address)
        return place > 0 and address <= self.last[place - 1]


class Frontends(Struct, frozen=True):
    """One family's frontends, each with the endpoints that may answer there; false if there is none.

    ``ranges``: the service CIDRs, each from its first to its last address. ``foreign``: addresses inside them that
    another proxy serves. ``sources``: who may connect, of those frontends where not everybody may (F4, X5).
    """

    serving: Mapping[Destination, Set[Place]]
    ranges: tuple[tuple[bytes, bytes], ...] = ()
    foreign: frozenset[bytes] = field(default_factory=frozenset)
    sources: Mapping[Destination, Sources] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.serving)

    def has(self, protocol: int) -> bool:
        """Whether one of the frontends is of this protocol."""
        return any(destination[0] == protocol for destination in self.serving)

    def concerns(self, destination: Destination) -> bool:
        """Whether a flow that was sent to ``destination`` is ours to judge."""
        address = destination[1]
        if destination in self.serving:
            return True
        return any(first <= address <= last for first, last in self.ranges) and address not in self.foreign

    def is_stale(self, destination: Destination, reply_source: Place) -> bool:
        """Whether a flow is to be forgotten.

        ``destination`` is where it was sent to, ``reply_source`` where its answers come from: the endpoint, or the
        destination itself where nothing was translated.
        """
        return self.concerns(destination) and reply_source not in self.serving.get(destination, ())

    def admits(self, destination: Destination, source: bytes) -> bool:
        """Whether a new flow from this address would be let through; one that would not is to be forgotten."""
        allowed = self.sources.get(destination)
        return allowed is None or source in allowed


def read_frontends(
    now: Table,
    *,
    before: Elements,
    draining: Table | None,
    local_ips: Iterable[IPAddress] = (),
    service_cidrs: Iterable[IPNetwork] = (),
    foreign: Iterable[IPAddress] = (),
) -> Frontends:
    """The frontends of one family's table, those that have just gone included.

    ``now`` is the table, ``before`` the elements it held until now. ``draining``: the table it would be if there were
    no endpoints but those that get no new connections and keep the UDP flows they have. ``local_ips``: the node's
    addresses where all of them serve nodePorts, beside those in the table. ``service_cidrs`` and ``foreign``
    (addresses that another proxy serves) may be of both families.
    """
    local = frozenset(ip.packed for ip in local_ips)
    old = _frontend_keys(now.schema, before)
    new = _endpoints(now.schema, now.elements, now.chains)
    for key, found in _endpoints(draining.schema, draining.elements, draining.chains).items() if draining else ():
        if key in new and "udp" in key:
            new[key] = new[key] | found
    serving = dict.fromkeys(_places(old, local | _node_port_ips(before)), _NOBODY)
    addresses = local | _node_port_ips(now.elements)
    for key, endpoints in new.items():
        for place in _places([key], addresses):
            others = serving.get(place)
            serving[place] = others | endpoints if others else endpoints  # one set for all the node's addresses
    version = 4 if now.schema.family == "ip" else 6
    cidrs = [cidr for cidr in service_cidrs if cidr.version == version]
    ranges = tuple((cidr.network_address.packed, cidr.broadcast_address.packed) for cidr in cidrs)
    sources = {place: allowed for key, allowed in _sources(now).items() for place in _places([key], addresses)}
    return Frontends(serving, ranges, frozenset(ip.packed for ip in foreign), sources)


def guarding_set(value: object, chains: Mapping[str, Chain]) -> str:
    """The set of the sources that a verdict lets through and no others; "" if it does not lead to such a chain."""
    rules = chains[value.chain].rules if isinstance(value, Goto) and value.chain in chains else ()
    for rule in rules:
        match rule:
            case (InSet((Field.SADDR,), name, True), Drop()):
                return name
    return ""


def _sources(table: Table) -> dict[Key, Sources]:
    """By a frontend's key: who may connect, where not everybody may."""
    if not table.chains:
        return {}
    read: dict[str, Sources] = {}  # a service's frontends have one set in common
    found: dict[Key, Sources] = {}
    for declared in table.schema.maps:
        if declared.key not in FRONTENDS:
            continue
        for key, element in table.elements.get(declared.name, {}).items():
            name = guarding_set(element.value, table.chains)
            if name:
                if name not in read:
                    read[name] = Sources.of(str(own[0]) for own in table.elements.get(name, ()))
                found[key] = read[name]
    return found


def _frontend_keys(schema: Schema, elements: Elements) -> set[Key]:
    """The keys of all frontends, by the verdict maps or by the slot maps alone."""
    found: set[Key] = set()
    for declared in schema.maps:
        held = elements.get(declared.name, {})
        if declared.key in FRONTENDS:
            found.update(held)
        elif declared.key[-1] is Field.SLOT:
            found.update(key[:-1] for key in held)
    return found


def _endpoints(schema: Schema, elements: Elements, chains: Mapping[str, Chain]) -> dict[Key, Set[Place]]:
    """By a frontend's key in the verdict maps: its endpoints, in the slot maps or in chains of its service."""
    found: dict[Key, Set[Place]] = {}

    def add(key: Key, places: Set[Place]) -> None:
        before = found.get(key)
        found[key] = before | places if before else places

    for declared in schema.maps:
        held = elements.get(declared.name, {})
        if declared.key in FRONTENDS:
            found.update((key, _NOBODY) for key in held if key not in found)
            for key, element in held.items() if chains else ():
                if isinstance(element.value, Goto):
                    add(key, {_place(address, port) for address, port in led_to(element.value.chain, chains)})
        elif declared.key[-1] is Field.SLOT:
            for key, places in _behind(held):
                add(key, places)
    return found


def _behind(slots: Mapping[Key, Element]) -> Iterator[tuple[Key, Set[Place]]]:
    """What the slots of a map lead to, by the frontend's key, which may come several times."""
    if isinstance(slots, InPools):
        made: dict[int, Set[Place]] = {}  # by the endpoints themselves: a port's frontends have them in common
        for pool in slots.pools():
            places = made.get(id(pool.endpoints))
            if places is None:
                places = made[id(pool.endpoints)] = {_place(*endpoint) for endpoint in pool.endpoints}
            yield pool.key, places
        return
    found: dict[Key, set[Place]] = defaultdict(set)
    for key, element in slots.items():
        if isinstance(element.value, tuple):
            found[key[:-1]].add(_place(*element.value))
    yield from found.items()


def led_to(chain: str, chains: Mapping[str, Chain]) -> Iterator[tuple[str, int]]:
    """The endpoints that a chain of a service's own (session affinity) translates to, and those that it leads to."""
    ahead, seen = [chain], set[str]()
    while ahead:
        name = ahead.pop()
        if name in seen or name not in chains:
            continue
        seen.add(name)
        for statement in (statement for rule in chains[name].rules for statement in rule):
            match statement:
                case Dnat(_, address, port):
                    yield address, port
                case Goto(further) | GotoChance(further):
                    ahead.append(further)


def _places(keys: Iterable[Key], node_port_ips: frozenset[bytes]) -> Iterator[Destination]:
    """Where clients reach these frontends: a nodePort on each of the addresses."""
    for *address, protocol, port in keys:
        assert isinstance(port, int)  # the key's last field
        number = _NUMBERS.get(protocol)
        if number is None:
            continue  # somebody else's element: nothing of ours was ever translated by it
        if address:
            yield number, _packed(str(address[0])), port
        else:
            yield from ((number, ip, port) for ip in node_port_ips)


def _place(address: str, port: int) -> Place:
    return _packed(address), port


def _packed(address: str) -> bytes:
    if ":" in address:
        return ip_address(address).packed
    a, b, c, d = address.split(".")
    return bytes((_OCTETS[a], _OCTETS[b], _OCTETS[c], _OCTETS[d]))  # a quarter of the time; nearly all are of IPv4


def _node_port_ips(elements: Elements) -> frozenset[bytes]:
    return frozenset(ip_address(key[0]).packed for key in elements.get(_NODE_PORT_IPS, ()))


def only_draining(snapshot: Snapshot) -> Snapshot | None:
    """The services with UDP ports, and of the endpoints those that keep the flows they have and get no new ones: they
    terminate and still serve, are drained, or have weight 0. None without any.

    Those that have failed keep nothing, unless nothing else is left: then the tables have them.
    """
    services = tuple(s for s in snapshot.services if any(p.protocol is Protocol.UDP for p in s.ports))
    if not services:
        return None
    names = {(service.namespace, service.name) for service in services}
    slices = [piece for piece in snapshot.slices if (piece.namespace, piece.service) in names]
    idle = {(s.namespace, text) for s in services for text, weight in s.weights.items() if not weight}
    drained = {node.name for node in snapshot.nodes if node.drained}
    lost = {member.name for member in snapshot.members if member.lost_at}
    failing = {(failure.namespace, failure.address.packed) for failure in snapshot.probe_failures}

    def is_idle(backend: Pod | EndpointSlice, ip: IPAddress, node: str) -> bool:
        return (
            not backend.weight
            or node in drained
            or ip in backend.drained
            or (bool(idle) and (backend.namespace, str(ip)) in idle)
        )

    def has_failed(namespace: str, ip: IPAddress, node: str) -> bool:
        return node in lost or (bool(failing) and (namespace, ip.packed) in failing)

    pods = tuple(
        replace(pod, ips=ips, weight=1, terminating=True, drained=())
        for pod in snapshot.pods
        if pod.ready
        and (ips := tuple(ip for ip in pod.ips if not has_failed(pod.namespace, ip, pod.node_name)))
        and (pod.terminating or any(is_idle(pod, ip, pod.node_name) for ip in ips))
    )
    kept = {
        i: tuple(
            replace(endpoint, ready=False, serving=True, terminating=True)
            for endpoint in piece.endpoints
            if (
                (endpoint.terminating and endpoint.serving)
                or (endpoint.ready and is_idle(piece, endpoint.address, endpoint.node_name))
            )
            and not has_failed(piece.namespace, endpoint.address, endpoint.node_name)
        )
        for i, piece in enumerate(slices)
    }
    if not pods and not any(kept.values()):
        return None
    # A slice without endpoints stays: that there are slices says where a service's endpoints come from (E7).
    return replace(
        snapshot,
        services=tuple(replace(service, weights={}) for service in services),
        slices=tuple(replace(piece, endpoints=kept[i], weight=1, drained=()) for i, piece in enumerate(slices)),
        pods=pods,
        members=(),
        probe_failures=(),
    )
