"""Random Services, random packets: what the tracer says of them is what the kernel does.

A round is a seed: Services with their slices, and packets to what they offer and to what they do not. Two rounds
share a configuration of the node, so that the second is programmed as a difference to the first. Packets come from
worker-1's pods and processes, and from outside to its own addresses: others would pass it by. Every endpoint that
the tracer gives a chance has to be seen, and no other; with session affinity one that it gives a chance, since which
one a client has got is known to the kernel alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import repeat
from math import ceil

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from lab.outcome import IPAddress, Kind, Outcome
from lab.probe import ANSWER_SECONDS, connect_many
from lab.topology import ROUTER
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    IPNetwork,
    LoadBalancing,
    NodeFacts,
    NodePortMode,
    Protocol,
    Requirement,
    Service,
    ServicePort,
    ServiceType,
    Snapshot,
)
from nodeport_nft.reconcile import compile_snapshot, read_tables
from nodeport_nft.ruleset import Learn, Table
from nodeport_nft.trace import Fate, Packet, Trace, trace
from tests.cases.traced import incoming
from tests.conftest import PODS, RESPONDER_PORTS
from tests.netns.kernel import facts

NODE = "worker-1"
INSIDE = ("web-1", "web-2", NODE)
SEEDS = range(18)
DESTINATIONS = 36  # of a round
PACKETS = 4  # of each destination
UNSEEN = 23  # an endpoint of probability p stays unseen in UNSEEN / p connections once in 10^10 destinations
SILENCE = 0.3  # seconds, where the tracer says that nobody will answer
Way = tuple[object, ...]
"""What may become of a connection: its kind, then name, address, port and source seen, or the detail that matters."""

PORTS = (80, 443, 8080)
OUTSIDE_IPS = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")
SOURCES = tuple(map(ip_network, ("172.30.0.0/24", "fd00:30::/64", "10.244.1.2", "fd00:244:1::/64", "172.30.1.2")))
EVERYBODY = tuple(map(ip_network, ("0.0.0.0/0", "::/0")))
POLICIES = ("Cluster", "Cluster", "Local", "PreferLocal")
TIMES = ("", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
CLUSTER_CIDRS = {Family.IPV4: ip_network("10.96.0.0/12"), Family.IPV6: ip_network("fd00:10:96::/112")}
ALLOCATED, FREE, NODE_PORTS = range(16, 80), range(200, 240), range(30000, 30200)
CONDITIONS = ((True, True, False),) * 4 + ((False, True, True), (False, False, True), (False, True, False))
# A router without a route answers five times and then once a second (ip_error, net/ipv4/route.c); this one each time.
NO_ROUTE = """table ip no-route {
    chain prerouting {
        type filter hook prerouting priority filter;
        ip daddr { 10.96.0.0/12, 192.0.2.0/24 } reject with icmp type net-unreachable
    }
}"""
DETECTORS = (
    (ip_network("10.244.0.0/16"), ip_network("fd00:244::/32")),
    (ip_network("10.244.1.0/24"), ip_network("fd00:244:1::/64")),
)


@dataclass(frozen=True)
class Probe:
    """Some connections from a host to an address and port."""

    source: str
    address: IPAddress
    port: int
    protocol: Protocol

    def __str__(self) -> str:
        return f"{self.protocol} {self.source} → {self.address} port {self.port}"


@pytest.mark.proves("X4")
def test_tracer_and_kernel_agree(cluster: Cluster) -> None:
    problems: list[str] = []
    seen: Counter[str] = Counter()
    cluster.nft(ROUTER, NO_ROUTE)
    for seed in SEEDS:
        chance = random.Random(seed)
        known = random_facts(random.Random(seed // 2), cluster)
        snapshot = random_snapshot(chance, cluster)
        tables = program(cluster, snapshot, known)
        probes = [random_probe(chance, cluster, snapshot) for _ in range(DESTINATIONS)]
        traces = [follow(cluster, tables[Family(probe.address.version)], probe) for probe in probes]
        ways = [expected(cluster, probe, traced) for probe, traced in zip(probes, traces, strict=True)]
        # In threads, since most of the time is spent waiting for what does not come.
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, repeat(cluster), probes, traces, ways))
        for probe, traced, possible, outcomes in zip(probes, traces, ways, answers, strict=True):
            told = list(disputes(traced, possible, outcomes))
            problems += [f"seed {seed}: {probe}: {problem} ({known})" for problem in told]
            if not told:
                seen.update(what(cluster, probe, traced, outcome) for outcome in outcomes[:PACKETS])
    assert problems == []
    assert seen.total() >= 2000
    shares = {fate: seen[fate] / seen.total() for fate in ("forwarded", "masqueraded", "refused", "dropped")}
    assert min(shares.values()) >= 0.1, shares


def random_facts(chance: random.Random, cluster: Cluster) -> NodeFacts:
    """A configuration of worker-1: how pods are told, which addresses serve nodePorts, which bit marks."""
    mode = chance.choice(tuple(NodePortMode))
    known = facts(cluster, NODE)
    serving = known.node_port_ips
    if mode is NodePortMode.CIDRS:
        serving = (chance.choice(serving),)
    detector = chance.choice(("cidrs", "cidrs", "interface", "none"))
    return replace(
        known,
        node_port_mode=mode,
        node_port_ips=() if mode is NodePortMode.ALL else serving,
        zone=chance.choice(("", "a")),
        pod_cidrs=chance.choice(DETECTORS) if detector == "cidrs" else (),
        pod_interface="pod*" if detector == "interface" else "",
        masquerade_bit=chance.choice((14, 0, 31)),
        masquerade_all=chance.random() < 0.2,
    )


def random_snapshot(chance: random.Random, cluster: Cluster) -> Snapshot:
    """6 to 12 Services, some of which contest each other's external addresses, with their slices."""
    hosts = chance.sample(ALLOCATED, 12)
    numbers = chance.sample(NODE_PORTS, 36)
    services = []
    slices: list[EndpointSlice] = []
    for index in range(chance.randint(6, 12)):
        name = f"service-{index}"
        families = chance.choice(((Family.IPV4,), (Family.IPV6,), (Family.IPV4, Family.IPV6)))
        kinds = chance.sample(
            [(protocol, port) for protocol in ("TCP", "UDP") for port in PORTS], chance.randint(1, 3)
        )
        ports = tuple(
            ServicePort(f"p{i}", Protocol(protocol), port, port, numbers.pop() if chance.random() < 0.8 else 0)
            for i, (protocol, port) in enumerate(kinds)
        )
        own = [*OUTSIDE_IPS, *map(str, facts(cluster, NODE).node_port_ips)]
        shared = chance.sample(own, chance.randint(0, 3))
        cut = chance.randint(0, len(shared))
        services.append(
            Service(
                "default",
                name,
                type=ServiceType.LOAD_BALANCER,
                ports=ports,
                cluster_ips=tuple(CLUSTER_CIDRS[family][hosts[index]] for family in families),
                ip_families=families,
                external_traffic_policy=chance.choice(POLICIES),
                internal_traffic_policy=chance.choice(POLICIES),
                session_affinity_seconds=chance.choice((0, 0, 0, 10800)),
                load_balancing=chance.choice((*LoadBalancing, LoadBalancing.RANDOM)),
                load_balancer_source_ranges=random_sources(chance),
                node_port_source_ranges=random_sources(chance),
                node_port_nodes=chance.choice(((),) * 6 + tuple((chosen,) for chosen in NODES)),
                weights={str(cluster.address(pod, f)): chance.choice((0, 2, 5)) for pod in PODS for f in families}
                if chance.random() < 0.2
                else {},
                external_ips=tuple(map(ip_address, shared[:cut])),
                load_balancer_ips=tuple(map(ip_address, shared[cut:])),
                created=chance.choice(TIMES),
                proxy_name="other" if chance.random() < 0.05 else None,
            )
        )
        slices += random_slices(chance, cluster, name, families, ports)
    return Snapshot(tuple(services), tuple(slices))


NODES = (
    Requirement("kubernetes.io/hostname", "In", (NODE, "worker-3")),
    Requirement("kubernetes.io/hostname", "NotIn", (NODE,)),
)


def random_sources(chance: random.Random) -> tuple[IPNetwork, ...]:
    """Source ranges: mostly none, at times some, seldom a /0 among them."""
    if chance.random() < 0.6:
        return ()
    return tuple(chance.sample((*SOURCES, *EVERYBODY), chance.randint(1, 4)))


def random_slices(
    chance: random.Random, cluster: Cluster, service: str, families: Sequence[Family], ports: Sequence[ServicePort]
) -> Iterator[EndpointSlice]:
    """A slice for each family and port of the pods' responders, each with some pods in it or none."""
    likely = chance.choice((0.0, 0.3, 0.6, 1.0))
    hints = chance.choice(("", "", "zones", "nodes"))
    for family in families:
        for target in RESPONDER_PORTS:
            pods = [pod for pod in PODS if chance.random() < likely]
            endpoints = tuple(
                Endpoint(
                    cluster.address(pod, family),
                    *chance.choice(CONDITIONS),
                    chance.choice((cluster.host(pod).node,) * 5 + ("",)),
                    zones=(chance.choice("ab"),) if hints == "zones" else (),
                    nodes=(chance.choice(cluster.nodes),) if hints == "nodes" else (),
                )
                for pod in pods
            )
            named = tuple(EndpointPort(port.name, port.protocol, target) for port in ports)
            weight = chance.choice((1, 1, 1, 0, 2, 7))
            yield EndpointSlice("default", f"{service}-{family}-{target}", service, named, endpoints, weight=weight)


def random_probe(chance: random.Random, cluster: Cluster, snapshot: Snapshot) -> Probe:
    """A packet that passes worker-1: mostly to what a Service offers, at times to what none does."""
    service = chance.choice(snapshot.services)
    port = chance.choice(service.ports)
    family = chance.choice(service.ip_families)
    node_ip = cluster.address(NODE, family)
    protocol = chance.choice((Protocol.TCP, Protocol.UDP))
    near = [ip for ip in (*service.external_ips, *service.load_balancer_ips) if ip.version == family]
    [cluster_ip] = [ip for ip in service.cluster_ips if ip.version == family]
    match chance.choices(
        ("cluster-ip", "outside", "node-port", "port", "unallocated", "unused"), (10, 6, 10, 2, 4, 1)
    )[0]:
        case "cluster-ip":
            address, number, protocol = cluster_ip, port.port, port.protocol
        case "outside" if near:
            address, number, protocol = chance.choice(near), port.port, port.protocol
        case "port":
            address, number = cluster_ip, 7777
        case "unallocated":
            address, number = CLUSTER_CIDRS[family][chance.choice(FREE)], port.port
        case "unused":
            address, number = node_ip, NODE_PORTS.stop + 1
        case _:
            address, number, protocol = node_ip, port.node_port or NODE_PORTS.stop, port.protocol
    source = chance.choice(("client", "client", *INSIDE) if address == node_ip else INSIDE)
    return Probe(source, address, number, protocol)


def program(cluster: Cluster, snapshot: Snapshot, known: NodeFacts) -> dict[Family, Table]:
    """Make worker-1's tables those of this state, and forget its connections; returns the tables as values."""

    def run() -> None:
        nft = Nft()
        programme = compile_snapshot(snapshot, known, read_tables(nft, known))
        nft.apply(programme.tables.first_transaction())

    cluster.call(NODE, run, timeout=60)
    cluster.run(NODE, ["conntrack", "-F"])
    return dict(zip(Family, compile_snapshot(snapshot, known).tables.tables(), strict=True))


def follow(cluster: Cluster, table: Table, probe: Probe) -> Trace:
    """What the tracer says of a packet on worker-1."""
    version = probe.address.version
    source, own = str(cluster.address(probe.source, version)), str(cluster.address(NODE, version))
    interface = None if probe.source == NODE else incoming(cluster, NODE, probe.source)
    packet = Packet(source, str(probe.address), probe.protocol.lower(), probe.port, probe.source == NODE, interface)
    return trace(table, packet, {own})


def send(cluster: Cluster, probe: Probe, traced: Trace, ways: set[Way]) -> tuple[Outcome, ...]:
    """Start as many connections as it takes to see all that the tracer says."""
    rarest = min(outcome.probability for outcome in traced.outcomes)
    silent = {way[0] is Kind.SILENT for way in ways}
    return connect_many(
        cluster,
        probe.source,
        (probe.address, probe.port),
        probe.protocol,
        PACKETS if len(ways) == 1 else ceil(UNSEEN / rarest),
        timeout=SILENCE if silent == {True} else 5.0 if True in silent else ANSWER_SECONDS,
    )


def expected(cluster: Cluster, probe: Probe, traced: Trace) -> set[Way]:
    """The ways the tracer gives a chance."""
    version = probe.address.version
    own = cluster.address(probe.source, version)
    ways: set[Way] = set()
    for outcome in traced.outcomes:
        destination = ip_address(outcome.destination)
        name = cluster.name_of(destination)
        match outcome.fate:
            case Fate.FORWARDED if name:
                source = cluster.address(NODE, version) if outcome.masqueraded else own
                ways.add((Kind.REACHED, name, destination, outcome.port, source))
            case Fate.DROPPED:
                told = probe.source == NODE and probe.protocol is Protocol.UDP  # TCP keeps it to itself
                ways.add((Kind.SILENT, "EPERM" if told else ""))
            case Fate.REFUSED:
                ways.add((Kind.REFUSED, outcome.tcp_reset))
            case Fate.UNTOUCHED if outcome.here:  # nobody listens on the node itself
                ways.add((Kind.REFUSED, probe.protocol is Protocol.TCP))
            case _:  # the router knows no way to it
                ways.add((Kind.UNREACHABLE,))
    return ways


def happened(outcome: Outcome) -> Way:
    """What the kernel did with a connection."""
    match outcome.kind:
        case Kind.REACHED:
            return outcome.kind, outcome.name, outcome.to, outcome.to_port, outcome.source
        case Kind.SILENT:
            return outcome.kind, outcome.detail
        case Kind.REFUSED:
            return outcome.kind, outcome.detail == "reset"
        case Kind.UNREACHABLE:
            return (outcome.kind,)


def disputes(traced: Trace, ways: set[Way], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Where tracer and kernel disagree."""
    if sum(outcome.probability for outcome in traced.outcomes) != 1:
        yield f"the tracer's probabilities do not add up to 1: {traced.outcomes}"
    found = {happened(outcome) for outcome in outcomes}
    remembers = any(isinstance(s, Learn) for step in traced.steps for s in step.place.rule)
    if not (found <= ways if remembers else found == ways):
        yield f"the tracer says {ways}, the kernel {found}"


def what(cluster: Cluster, probe: Probe, traced: Trace, outcome: Outcome) -> str:
    """How a connection counts. Masqueraded is one whose source can be seen to have changed."""
    if outcome.kind is Kind.REACHED:
        own = cluster.address(probe.source, probe.address.version)
        return "forwarded" if outcome.source == own else "masqueraded"
    fate = traced.outcomes[0].fate
    return "lost" if fate is Fate.FORWARDED else fate.value
