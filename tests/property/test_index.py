"""Laws of the index: what it joins does not depend on the past, and whom a change touches is told."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.model import (
    MEMBER,
    PROBE_FAILURE,
    Endpoint,
    EndpointSlice,
    Member,
    Node,
    Pod,
    ProbeFailure,
    Ref,
    Requirement,
    Service,
    Snapshot,
    Value,
)
from nodeport_nft.resolve import Index, Resolver
from nodeport_nft.resolve.trouble import LAST_GOOD_SECONDS
from tests.builders import make_port, make_service, make_slice

NAMES = st.sampled_from(["a", "b"])
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"]), max_size=2)
NODES = ("worker-1", "worker-2")
WEIGHTS = st.integers(0, 2)
ADDRESSES = st.sampled_from(["10.96.0.1", "10.96.0.2"])  # so that one claims from outside what is another's
# Made once, as all strategies here: making one takes Hypothesis longer than drawing from it.
CLAIMS = st.lists(ADDRESSES, max_size=2)
DISTRIBUTIONS = st.sampled_from(["", "PreferClose"])
ON_NODES = st.sampled_from([(), (Requirement("disk", "In", ("ssd",)),)])
POLICIES = st.sampled_from(["Cluster", "Local"])
BOOLEANS = st.booleans()
PIECES = st.integers(1, 2)
DRAINED = st.lists(st.sampled_from(["10.244.0.1", "10.244.0.2"]), max_size=1)
SPACES = st.sampled_from(["default", "default", "other"])
FAILING_IPS = st.sampled_from([f"10.244.0.{number}" for number in range(1, 5)])
ENDPOINTS = st.lists(
    st.builds(
        Endpoint,
        st.sampled_from([ip_address("10.244.0.1"), ip_address("10.244.0.2")]),
        ready=st.booleans(),
        serving=st.booleans(),
        terminating=st.booleans(),
        node_name=st.sampled_from(NODES),
        zones=st.sampled_from([(), ("z",)]),
    ),
    max_size=2,
)
POD_IPS = st.sampled_from(["10.244.0.3", "10.244.0.4"])
NODE_NAMES = st.sampled_from(NODES)
NODE_LABELS = st.sampled_from([{}, {"disk": "ssd"}, {"topology.kubernetes.io/zone": "z"}])


@st.composite
def services(draw: st.DrawFn) -> tuple[Ref, tuple[Value, ...]]:
    name = draw(NAMES)
    made = replace(
        make_service(name, make_port(80, node_port=30080), selector=draw(LABELS), ips=(draw(ADDRESSES),)),
        external_ips=tuple(map(ip_address, draw(CLAIMS))),
        load_balancer_ips=tuple(map(ip_address, draw(CLAIMS))),
        traffic_distribution=draw(DISTRIBUTIONS),
        node_port_nodes=draw(ON_NODES),
        internal_traffic_policy=draw(POLICIES),
        publish_not_ready_addresses=draw(BOOLEANS),
    )
    return Ref("Service", "default", name), (made,)


@st.composite
def slices(draw: st.DrawFn) -> tuple[Ref, tuple[Value, ...]]:
    name, mirrored = draw(NAMES), draw(BOOLEANS)

    def made() -> EndpointSlice:
        piece = make_slice(*draw(ENDPOINTS), service=draw(NAMES), name=name, mirrored=mirrored)
        return replace(piece, weight=draw(WEIGHTS), drained=tuple(map(ip_address, draw(DRAINED))))

    count = draw(PIECES) if mirrored else 1
    return Ref("Endpoints" if mirrored else "EndpointSlice", "default", name), tuple(made() for _ in range(count))


@st.composite
def pods(draw: st.DrawFn) -> tuple[Ref, tuple[Value, ...]]:
    name = draw(NAMES)
    ips = (ip_address(draw(POD_IPS)),)
    drained = ips if draw(BOOLEANS) else ()
    pod = Pod("default", name, draw(LABELS), ips, draw(NODE_NAMES), weight=draw(WEIGHTS), drained=drained)
    return Ref("Pod", "default", name), (pod,)


@st.composite
def nodes(draw: st.DrawFn) -> tuple[Ref, tuple[Value, ...]]:
    name = draw(NODE_NAMES)
    return Ref("Node", "", name), (Node(name, draw(NODE_LABELS), drained=draw(BOOLEANS)),)


@st.composite
def members(draw: st.DrawFn) -> tuple[Ref, tuple[Value, ...]]:
    name = draw(NODE_NAMES)
    return Ref(MEMBER, "", name), (Member(name, draw(TIMES)),)


@st.composite
def probe_failures(draw: st.DrawFn) -> tuple[Ref, tuple[Value, ...]]:
    space, text = draw(SPACES), draw(FAILING_IPS)
    return Ref(PROBE_FAILURE, space, text), (ProbeFailure(space, ip_address(text), draw(TIMES)),)


TIMES = st.sampled_from([0.0, 100.0, 100.0 + LAST_GOOD_SECONDS, 101.0 + LAST_GOOD_SECONDS])
CHANGES = st.one_of(services(), slices(), pods(), nodes(), members(), probe_failures())


def resolved(index: Index) -> dict[str, object]:
    resolver = Resolver(index, NODES[0], "z")
    return {
        key.name: (resolver.resolved(service), resolver.local_ready(service))
        for key, service in index.services.items()
    }


@given(st.lists(st.tuples(CHANGES, st.booleans()), max_size=14), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_what_it_joins_depends_on_what_there_is_alone_and_it_tells_whom_a_change_touches(
    changes: list[tuple[tuple[Ref, tuple[Value, ...]], bool]], chance: object
) -> None:
    index = Index()
    held: dict[Ref, tuple[Value, ...]] = {}
    for (ref, values), deleted in changes:
        before = resolved(index)
        held.pop(ref, None)
        if not deleted:
            held[ref] = values
        touched = {key.name for key in index.put(ref, () if deleted else values)}
        after = resolved(index)
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        assert changed <= touched
    everything = list(held.items())
    chance.shuffle(everything)  # type: ignore[attr-defined]  # a random.Random
    fresh = Index()
    for ref, values in everything:
        fresh.put(ref, values)
    assert resolved(fresh) == resolved(index)
    assert resolved(Index.of(snapshot(held))) == resolved(index)


def snapshot(held: dict[Ref, tuple[Value, ...]]) -> Snapshot:
    def of(kind: type) -> tuple[Value, ...]:
        return tuple(value for values in held.values() for value in values if isinstance(value, kind))

    kinds = (Service, EndpointSlice, Pod, Node, Member, ProbeFailure)
    return Snapshot(*map(of, kinds))  # type: ignore[arg-type]  # by kind


@given(st.lists(CHANGES, max_size=14))
@settings(max_examples=200)
def test_what_fails_or_is_drained_leaves_nobody_without_an_endpoint_and_adds_none(
    objects: list[tuple[Ref, tuple[Value, ...]]],
) -> None:
    held = dict(objects)
    trouble = Index.of(snapshot(held))
    sound = {ref: tuple(map(without_drain, values)) for ref, values in held.items()}
    never_good = tuple(each for each in snapshot(sound).probe_failures if not each.since)
    healthy = Index.of(replace(snapshot(sound), members=(), probe_failures=never_good))
    for key, service in trouble.services.items():
        pairs = zip(*(usable(Resolver(index, ""), index.services[key]) for index in (healthy, trouble)), strict=True)
        for before, after in pairs:
            assert bool(before) == bool(after)
            # Where nothing is ready, what terminates is used; a drained one among it was perhaps ready before.
            assert after <= before | terminating(sound, service)


def without_drain(value: Value) -> Value:
    if isinstance(value, Node):
        return replace(value, drained=False)
    return replace(value, drained=()) if isinstance(value, EndpointSlice | Pod) else value


def usable(resolver: Resolver, service: Service) -> list[set[str]]:
    return [{str(backend.address) for backend in backends} for _, backends in resolver.endpoints_by_port(service)]


def terminating(held: dict[Ref, tuple[Value, ...]], service: Service) -> set[str]:
    pieces = (value for values in held.values() for value in values if isinstance(value, EndpointSlice))
    return {
        str(endpoint.address)
        for piece in pieces
        if piece.service == service.name
        for endpoint in piece.endpoints
        if endpoint.terminating and endpoint.serving
    }
