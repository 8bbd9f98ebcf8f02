"""The whole flow table of the conformance text, each flow in the tracer and in the kernel.

Three Services, one a policy, have a frontend of each kind and the endpoints web-1 (A, on worker-1) and web-3 (B, on
worker-2). worker-1 is programmed once for each detector, and every source then connects to everything. What
``flow_oracle`` says must happen has to happen, no more and no less: all of the endpoints, seen from that address.

All flows pass worker-1, there and back. The router sends Service addresses there, as it would for a load balancer,
and what web-3 answers the client: a client whose address is kept would else hear from an address it never spoke to.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest

from lab.cluster import Cluster
from lab.outcome import IPAddress, Kind, Outcome
from lab.probe import connect_many
from lab.topology import CLIENT, ROUTER
from nodeport_nft.config import Config, DetectLocalMode
from nodeport_nft.facts import Host, gather
from nodeport_nft.model import (
    EndpointSlice,
    Family,
    Node,
    NodeFacts,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
    Snapshot,
)
from nodeport_nft.trace import Fate as TracedFate
from nodeport_nft.trace import Outcome as TracedOutcome
from tests.builders import make_endpoint, make_slice
from tests.cases.flow_oracle import FLOWS, Detector, Fate, Flow, Frontend, Policy, Source, expected
from tests.cases.traced import incoming
from tests.netns.test_differential import Probe, follow, program

NODE = "worker-1"
SOURCES = {Source.POD: "web-2", Source.NODE: NODE, Source.EXT: CLIENT}
ENDPOINTS = {"web-1": "A", "web-3": "B"}
PORT, TARGET = 80, 8080
NUMBERS = {policy: number for number, policy in enumerate(Policy, start=10)}
"""A Service's number: the last part of its addresses and of its nodePort."""

NETWORKS = {
    Frontend.CIP: ("10.96.0.0/24", "fd00:10:96::/112"),
    Frontend.LB: ("198.51.100.0/24", "2001:db8:1::/64"),
    Frontend.EIP: ("192.0.2.0/24", "2001:db8:2::/64"),
}
POD_NETWORKS = tuple(map(ip_network, ("10.244.0.0/16", "fd00:244::/32")))
NODE_POD_NETWORKS = tuple(map(ip_network, ("10.244.1.0/24", "fd00:244:1::/64")))

CONNECTIONS = 40  # of a flow: one of two endpoints stays unseen once in 10^9 runs of the table
TABLE_OF_ITS_OWN = 100  # a number of a routing table, for answers

Seen = frozenset[tuple[str, str]]
"""Who answers and whose address it saw, or what became of a connection instead."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What tracer and kernel say of a flow; ``masqueraded`` is the tracer's word, where it says one thing."""

    traced: Seen
    masqueraded: frozenset[bool]
    sent: Seen


@pytest.fixture
def routed_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with a router that sends to worker-1 what is for Services, and web-3's answers to the client."""
    routes = []
    for index, family in enumerate(Family):
        gateway = cluster.address(NODE, family)
        routes += [f"-{family} route {{}} {networks[index]} via {gateway}" for networks in NETWORKS.values()]
        routes.append(f"-{family} route {{}} default via {gateway} table {TABLE_OF_ITS_OWN}")
        answers = f"from {cluster.address('web-3', family)} to {cluster.address(CLIENT, family)} iif node2"
        routes.append(f"-{family} rule {{}} {answers} table {TABLE_OF_ITS_OWN}")

    def change(verb: str) -> None:
        for route in routes:
            cluster.run(ROUTER, ["ip", *route.format(verb).split()])

    change("add")
    try:
        yield cluster
    finally:
        change("delete")


@pytest.mark.proves("P1", "P2", "P3", "P5")
def test_the_flow_table(routed_cluster: Cluster) -> None:
    walked: dict[Flow, Walked] = {}
    snapshot = services(routed_cluster)
    for detector in Detector:
        tables = program(routed_cluster, snapshot, facts(routed_cluster, detector))
        flows = [flow for flow in FLOWS if flow.detector is detector]
        probes = [probe(routed_cluster, flow) for flow in flows]
        with ThreadPoolExecutor(4) as pool:  # a flow's connections wait for each other at times
            answers = list(pool.map(lambda each: send(routed_cluster, each), probes))
        for flow, sent, outcomes in zip(flows, probes, answers, strict=True):
            traced = follow(routed_cluster, tables[flow.family], sent).outcomes
            walked[flow] = Walked(
                frozenset(told(routed_cluster, flow, outcome) for outcome in traced),
                frozenset(outcome.masqueraded for outcome in traced),
                frozenset(happened(routed_cluster, outcome) for outcome in outcomes),
            )
    problems = [problem for flow, what in walked.items() for problem in disputes(flow, what)]
    assert problems == [], "\n".join(problems)

    # 432 different flows, made of no more values than these: each is there with each.
    assert len(walked) == 6 * 2 * 3 * 4 * 3 == 432
    values = zip(*((f.detector, f.family, f.source, f.frontend, f.policy) for f in walked), strict=True)
    assert [len(set(column)) for column in values] == [6, 2, 3, 4, 3]


def disputes(flow: Flow, walked: Walked) -> Iterator[str]:
    """Where the tracer or the kernel does not do what the text says."""
    fate = expected(flow)
    wanted = frozenset((endpoint, NODE if fate.masqueraded else SOURCES[flow.source]) for endpoint in fate.endpoints)
    if not wanted == walked.traced == walked.sent:
        sides = f"tracer says {shown(walked.traced)}, kernel says {shown(walked.sent)}"
        yield f"{flow}: expected {shown(wanted)}, {sides}"
    # A process of the node has the node's address either way: the tracer alone can tell.
    elif walked.masqueraded != {fate.masqueraded}:
        yield f"{flow}: expected masqueraded {fate.masqueraded}, tracer says {sorted(walked.masqueraded)}"


def test_a_dispute_names_the_flow_and_both_sides() -> None:
    flow = Flow(Detector.NONE, Family.IPV6, Source.EXT, Frontend.NP, Policy.EXTERNAL_LOCAL)
    kept, masqueraded = frozenset({("A", CLIENT)}), frozenset({("A", NODE), ("B", NODE)})
    assert expected(flow) == Fate(frozenset("A"), masqueraded=False)
    assert list(disputes(flow, Walked(kept, frozenset({False}), kept))) == []
    for walked in (Walked(masqueraded, frozenset({True}), kept), Walked(kept, frozenset({False}), masqueraded)):
        [problem] = disputes(flow, walked)
        assert problem.startswith(
            "IPv6 ext → NP, external Local, no detector: expected {A} seen as client, tracer says {"
        )
        assert "{A, B} seen as worker-1" in problem
    assert len(list(disputes(flow, Walked(kept, frozenset({True}), kept)))) == 1


def shown(seen: Seen) -> str:
    """``{A, B} seen as client``."""
    parts = []
    for source in sorted({source for _, source in seen}):
        names = ", ".join(sorted(name for name, by in seen if by == source))
        parts.append(f"{{{names}}} seen as {source}" if source else names)
    return " and ".join(parts)


def services(cluster: Cluster) -> Snapshot:
    """One Service a policy, each with a frontend of every kind in both families."""
    made, slices = [], []
    for policy, number in NUMBERS.items():
        name = policy.lower().replace(" ", "-")
        made.append(
            Service(
                "default",
                name,
                type=ServiceType.LOAD_BALANCER,
                ports=(ServicePort("", Protocol.TCP, PORT, TARGET, node_port(policy)),),
                cluster_ips=tuple(address(Frontend.CIP, policy, family) for family in Family),
                ip_families=tuple(Family),
                load_balancer_ips=tuple(address(Frontend.LB, policy, family) for family in Family),
                external_ips=tuple(address(Frontend.EIP, policy, family) for family in Family),
                external_traffic_policy="Local" if policy is Policy.EXTERNAL_LOCAL else "Cluster",
                internal_traffic_policy="Local" if policy is Policy.INTERNAL_LOCAL else "Cluster",
            )
        )
        slices += [endpoints(cluster, name, family, number) for family in Family]
    return Snapshot(tuple(made), tuple(slices))


def endpoints(cluster: Cluster, service: str, family: Family, number: int) -> EndpointSlice:
    """A Service's slice of a family: A and B."""
    made = [make_endpoint(str(cluster.address(pod, family)), node=cluster.host(pod).node) for pod in ENDPOINTS]
    return make_slice(*made, service=service, name=f"slice-{number}-{family}", port=TARGET)


def address(frontend: Frontend, policy: Policy, family: Family) -> IPAddress:
    """Where a Service of this policy has this frontend."""
    return ip_network(NETWORKS[frontend][tuple(Family).index(family)])[NUMBERS[policy]]


def node_port(policy: Policy) -> int:
    return 30000 + NUMBERS[policy]


def facts(cluster: Cluster, detector: Detector) -> NodeFacts:
    """worker-1 as its configuration has it.

    There is no bridge in the lab. What a bridge would be for all pods, web-2's own interface is for web-2.
    """
    bridge = incoming(cluster, NODE, SOURCES[Source.POD])
    configs = {
        Detector.CLUSTER_CIDR: Config(cluster_cidrs=POD_NETWORKS),
        Detector.NODE_CIDR: Config(detect_local_mode=DetectLocalMode.NODE_CIDR),
        Detector.BRIDGE_INTERFACE: Config(detect_local_mode=DetectLocalMode.BRIDGE_INTERFACE, pod_interface=bridge),
        Detector.INTERFACE_NAME_PREFIX: Config(
            detect_local_mode=DetectLocalMode.INTERFACE_NAME_PREFIX, pod_interface="pod"
        ),
        Detector.NONE: Config(cluster_cidrs=POD_NETWORKS, detect_local_mode=DetectLocalMode.NONE),
        Detector.MASQUERADE_ALL: Config(cluster_cidrs=POD_NETWORKS, masquerade_all=True),
    }
    own = tuple(cluster.address(NODE, family) for family in Family)
    node = Node(NODE, internal_ips=own, pod_cidrs=NODE_POD_NETWORKS)
    known, warnings = gather(configs[detector], name=NODE, node=node, node_ips=(), host=Host())
    assert warnings == ()
    return known


def probe(cluster: Cluster, flow: Flow) -> Probe:
    """Who connects to what."""
    if flow.frontend is Frontend.NP:
        destination, port = cluster.address(NODE, flow.family), node_port(flow.policy)
    else:
        destination, port = address(flow.frontend, flow.policy, flow.family), PORT
    return Probe(SOURCES[flow.source], destination, port, Protocol.TCP)


def send(cluster: Cluster, each: Probe) -> tuple[Outcome, ...]:
    """The same number of connections, whatever is expected of them."""
    return connect_many(cluster, each.source, (each.address, each.port), each.protocol, CONNECTIONS)


def told(cluster: Cluster, flow: Flow, outcome: TracedOutcome) -> tuple[str, str]:
    """What the tracer says of a flow: who answers, and whose address it sees."""
    if outcome.fate is not TracedFate.FORWARDED:
        return outcome.fate.value, ""
    seen_as = NODE if outcome.masqueraded else SOURCES[flow.source]
    return answering(cluster, ip_address(outcome.destination), outcome.port), seen_as


def happened(cluster: Cluster, outcome: Outcome) -> tuple[str, str]:
    """What a connection came to: who answered, and whose address it saw."""
    if outcome.kind is not Kind.REACHED:
        return f"{outcome.kind} {outcome.detail}".strip(), ""
    assert outcome.to is not None
    assert outcome.source is not None
    assert cluster.name_of(outcome.to) == outcome.name
    return answering(cluster, outcome.to, outcome.to_port), cluster.name_of(outcome.source) or str(outcome.source)


def answering(cluster: Cluster, ip: IPAddress, port: int) -> str:
    """A or B, if it is asked at its targetPort."""
    endpoint = ENDPOINTS.get(cluster.name_of(ip), str(ip))
    return endpoint if port == TARGET else f"{endpoint}:{port}"
