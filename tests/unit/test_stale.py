"""Of the frontends that a change touches, the incremental answer says what the whole one does (K2)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.flows import Destination, Frontends, Place, Sources, read_frontends
from nodeport_nft.model import EndpointSlice, Family, NodeFacts, NodePortMode, Ref, Service
from nodeport_nft.plan import ListedTable
from nodeport_nft.reconcile import NodeState, changed_frontends, stale_frontends
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice

pytestmark = pytest.mark.proves("K2", "X1")

EVERYWHERE = replace(FACTS, node_port_mode=NodePortMode.ALL, node_port_ips=())
RANGES = ip_network("198.51.100.0/24"), ip_network("203.0.113.0/25"), ip_network("fd00:9::/64")
LOCAL = tuple(map(ip_address, ("192.0.2.7", "127.0.0.1", "fd00::7")))


# Made once: making a strategy takes Hypothesis longer than drawing from it.
CHANCE = st.integers(0, 5)
ADDRESSES = st.integers(1, 2)
NODE_PORTS = st.integers(30000, 30002)
PROTOCOLS = st.sampled_from(["UDP", "UDP", "TCP"])
POLICIES = st.sampled_from(["Cluster", "Local", "PreferLocal"])
SOURCE_RANGES = st.sampled_from([(), RANGES[:1], RANGES[1:], RANGES])
AFFINITIES = st.sampled_from([0, 60])
STATES = st.dictionaries(st.integers(1, 4), st.sampled_from(["ready", "draining", "silent"]), max_size=4)
NUMBERS = st.integers(0, 2)
BOOLEANS = st.booleans()


def services(draw: st.DrawFn, number: int) -> Service | None:
    """UDP and TCP ports; few addresses and ports, so that some frontends are contested."""
    if draw(CHANCE) == 0:
        return None
    address = draw(ADDRESSES)
    port = make_port(53, node_port=draw(NODE_PORTS), protocol=draw(PROTOCOLS))
    made = make_service(
        f"s{number}", port, ips=(f"10.96.0.{address}", f"fd00:10:96::{address}"), created=f"2026-01-0{number + 1}"
    )
    policy = draw(POLICIES)
    return replace(
        made,
        load_balancer_ips=(ip_address(f"192.0.2.{address}"),),
        load_balancer_source_ranges=draw(SOURCE_RANGES),
        node_port_source_ranges=draw(SOURCE_RANGES),
        session_affinity_seconds=draw(AFFINITIES),
        external_traffic_policy=policy,
        internal_traffic_policy=policy,
    )


def slices(draw: st.DrawFn, number: int) -> EndpointSlice:
    held = [
        make_endpoint(
            f"10.244.{number}.{last}",
            ready=state == "ready",
            serving=state != "silent",
            terminating=state != "ready",
            node=f"worker-{last % 2 + 1}",
        )
        for last, state in draw(STATES).items()
    ]
    return make_slice(*held, service=f"s{number}", name=f"s{number}-1", protocol=draw(PROTOCOLS))


@st.composite
def edits(draw: st.DrawFn) -> tuple[Ref, tuple[Service | EndpointSlice, ...]]:
    number = draw(NUMBERS)
    if draw(BOOLEANS):
        made = services(draw, number)
        return Ref("Service", "default", f"s{number}"), (made,) if made else ()
    return Ref("EndpointSlice", "default", f"s{number}-1"), (slices(draw, number),)


@given(st.lists(st.lists(edits(), min_size=1, max_size=3), max_size=8), st.sampled_from([FACTS, EVERYWHERE]))
@settings(max_examples=200)
def test_of_what_it_knows_it_says_the_same_as_a_look_at_everything(
    batches: list[list[tuple[Ref, tuple[Service | EndpointSlice, ...]]]], facts: NodeFacts
) -> None:
    state = NodeState(facts)
    state.tables.take_edits()
    for batch in batches:
        listed = {family: ListedTable.of(state.tables.table(family)) for family in Family}
        for ref, values in batch:
            state.put(ref, values)
        keys, state.touched = state.touched, set()
        state.compile(sorted(keys))
        changed = changed_frontends(state.snapshot(keys), state.tables, state.tables.take_edits(), LOCAL)
        whole = stale_frontends(state.snapshot(), state.tables, listed, LOCAL)
        for family in Family:
            known = changed[family].serving if family in changed else {}
            touched = {int(name[1:]) for _, name in keys}
            for place, serving in known.items():
                assert serving <= whole[family].serving[place]
                assert changed[family].sources.get(place) == whole[family].sources.get(place), "who may connect"
                # A frontend that has just fallen to a service that was not touched: its draining endpoints have no
                # flows there yet.
                assert not {address[2] for address, _ in whole[family].serving[place] - serving} & touched
            # What differs from what was before is known.
            before = frontends_of(listed[family], state, family)
            for place in before.keys() | whole[family].serving.keys():
                if before.get(place, frozenset()) - whole[family].serving[place]:
                    assert place in known, "an endpoint has gone, and its flows are stale"
                if place in whole[family].sources and place in before:
                    was = read_sources(listed[family], state, family).get(place)
                    assert place in known or was == whole[family].sources[place], "others may connect than before"
                if place not in before:
                    assert place in known, "a new frontend: what was not translated is stale"


def frontends_of(listed: ListedTable, state: NodeState, family: Family) -> dict[Destination, frozenset[Place]]:
    """The frontends that a table has, with the endpoints in it."""
    return {place: frozenset(ends) for place, ends in read(listed, state, family).serving.items()}


def read_sources(listed: ListedTable, state: NodeState, family: Family) -> dict[Destination, Sources]:
    """Who may connect to the frontends of a table that not everybody may connect to."""
    return dict(read(listed, state, family).sources)


def read(listed: ListedTable, state: NodeState, family: Family) -> Frontends:
    """What a table says on its own."""
    table = listed.table(state.tables.schemas[family])
    everywhere = state.facts.node_port_mode is NodePortMode.ALL
    local = [ip for ip in LOCAL if everywhere and not ip.is_loopback and ip.version == family]
    return read_frontends(table, before={}, draining=None, local_ips=local)


def changed(state: NodeState, *values: tuple[Ref, tuple[Service | EndpointSlice, ...]]) -> dict[Family, Frontends]:
    for ref, held in values:
        state.put(ref, held)
    keys, state.touched = state.touched, set()
    state.compile(sorted(keys))
    return changed_frontends(state.snapshot(keys), state.tables, state.tables.take_edits(), LOCAL)


def dns(name: str = "s0", protocol: str = "UDP", created: str = "") -> tuple[Ref, tuple[Service]]:
    made = make_service(name, make_port(53, protocol=protocol), ips=("10.96.0.1",), created=created)
    return Ref("Service", *made.key), (made,)


FLOW = (17, ip_address("10.96.0.1").packed, 53)
ANSWER = (ip_address("10.244.0.1").packed, 8080)


def piece_of(name: str, *ends: object, protocol: str = "UDP") -> tuple[Ref, tuple[EndpointSlice]]:
    piece = make_slice(*ends, service=name, name=f"{name}-1", protocol=protocol)  # type: ignore[arg-type]  # endpoints
    return Ref("EndpointSlice", "default", piece.name), (piece,)


def test_the_flows_of_a_service_that_goes_are_stale() -> None:
    state = NodeState(FACTS)
    found = changed(state, dns(), piece_of("s0", "10.244.0.1"))
    state.tables.take_edits()
    found = changed(state, (dns()[0], ()))
    assert found[Family.IPV4].is_stale(FLOW, ANSWER)


@pytest.mark.parametrize(("protocol", "families"), [("UDP", {Family.IPV4}), ("TCP", set())])
def test_where_nothing_is_written_udp_alone_is_looked_for(protocol: str, families: set[Family]) -> None:
    state = NodeState(FACTS)
    gone = make_endpoint("10.244.0.9", ready=False, serving=False, terminating=True)
    changed(state, dns(protocol=protocol), piece_of("s0", "10.244.0.1", protocol=protocol))
    changed(state, piece_of("s0", "10.244.0.1", protocol=protocol))
    assert set(changed(state, piece_of("s0", "10.244.0.1", gone, protocol=protocol))) == families


def test_of_a_contested_frontend_who_lost_it_has_nothing_to_say() -> None:
    state = NodeState(FACTS)
    changed(state, dns("s0", created="2026-01-01"), piece_of("s0", "10.244.0.1"))
    changed(state, dns("s1", created="2026-01-02"), piece_of("s1", "10.244.1.1"))
    leaving = make_endpoint("10.244.1.1", ready=False, terminating=True)
    found = changed(state, piece_of("s1", leaving, "10.244.1.2"))
    assert found == {}, "nothing of what is in force concerns it"
    assert changed(state, piece_of("s0", "10.244.0.1", leaving))[Family.IPV4].concerns(FLOW)


def test_who_may_no_longer_connect_is_known_of_a_change() -> None:
    state = NodeState(FACTS)
    ref, (open_to_all,) = dns()
    open_to_all = replace(open_to_all, ports=(make_port(53, node_port=30053, protocol="UDP"),))
    changed(state, (ref, (open_to_all,)), piece_of("s0", "10.244.0.1"))
    found = changed(state, (ref, (replace(open_to_all, node_port_source_ranges=RANGES),)))[Family.IPV4]
    place = (17, FACTS.node_port_ips[0].packed, 30053)
    assert found.admits(place, ip_address("198.51.100.9").packed)
    assert not found.admits(place, ip_address("192.0.2.9").packed)
    assert found.admits(FLOW, ip_address("192.0.2.9").packed), "the clusterIP is open to all"


def test_attempts_at_an_endpoint_that_only_a_chain_led_to_are_stale() -> None:
    """With affinity the frontend's element stays as it is, and its chains change."""
    state = NodeState(FACTS)
    ref, (sticky,) = dns(protocol="TCP")
    sticky = replace(sticky, session_affinity_seconds=60)
    changed(state, (ref, (sticky,)), piece_of("s0", "10.244.0.1", "10.244.0.2", "10.244.0.3", protocol="TCP"))
    found = changed(state, piece_of("s0", "10.244.0.2", "10.244.0.3", protocol="TCP"))[Family.IPV4]
    assert found.is_stale((6, *FLOW[1:]), ANSWER)
    assert not found.is_stale((6, *FLOW[1:]), (ip_address("10.244.0.2").packed, 8080))
