"""How much one change writes: bounds that hold for any number of endpoints, and for any number of other services.

A *pool* is a key of a verdict map with endpoints behind it: a clusterIP's port is one, a nodePort is one, or two with
the traffic policy Local (one for each side). What one endpoint more, less, or of another weight in it may write:

=============  ====================================================================================
a pool         2 for the verdict, and 3 for each slot that it has or had: the last one moves into the hole
consistent     2 for the verdict, and 2 for each of the 251 slots
hashing
affinity       2 sets or chains, 2 rules of the endpoint, and the port's draw: 2 rules for each endpoint, for each
               pool of endpoints (all, and this node's own)
all of them    1 for the hairpin connection
=============  ====================================================================================

One endpoint of a Service is mostly one of each pool. But others may be used because of it: the first one on this node
takes the place of all with the policy PreferLocal, the first ready one that of all that terminate, and one without
hints lets in those of all zones. Then each of these is one more or less in its pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.model import EndpointSlice, LoadBalancing, Service, Snapshot
from nodeport_nft.reconcile import NodeTables
from nodeport_nft.resolve import Backend, Frontend, Place, Resolver
from tests.builders import FACTS, make_endpoint, make_port, make_service, make_slice

HTTP, HTTPS = make_port(80, name="http", node_port=30080), make_port(443, name="https", node_port=30443)
WEB = make_service("web", HTTP)
POLICIES = st.sampled_from(["Cluster", "Local", "PreferLocal"])
COUNTS = st.integers(0, 300)
OTHERS = 200

pytestmark = pytest.mark.proves("X1", "X7")


def slices(weights: dict[int, int]) -> tuple[EndpointSlice, ...]:
    """An endpoint for each number, half of them on this node, with its weight; in slices by weight."""
    found = []
    for weight in sorted(set(weights.values())):
        numbers = [number for number, own in weights.items() if own == weight]
        pods = [make_endpoint(address(number), node=f"worker-{number % 2 + 1}") for number in numbers]
        piece = make_slice(*pods, name=f"web-{weight}", port_name="http")
        ports = (*piece.ports, replace(piece.ports[0], name="https"))
        found.append(replace(piece, weight=weight, ports=ports))
    return tuple(found)


def address(number: int) -> str:
    return str(ip_address("10.244.0.1") + number)


def frontends(service: Service, endpoints: dict[int, int] | EndpointSlice) -> tuple[Frontend, ...]:
    """The service's frontends, with endpoints by number and weight, or with those of a slice."""
    pieces = (endpoints,) if isinstance(endpoints, EndpointSlice) else slices(endpoints)
    return Resolver(Snapshot((service,), pieces), FACTS.name).resolved(service).frontends


def slots(frontend: Frontend) -> Counter[tuple[str, Backend]]:
    """What is behind a frontend, by pool: how many slots each endpoint has there."""
    everywhere, local = frontend.backends, frontend.local_backends
    if frontend.prefer_local:
        used = {"here": local} if local else {"all": everywhere}
    else:
        used = {"all": everywhere, "here": local or ()}
    return Counter({(pool, b): b.weight for pool, backends in used.items() for b in backends})


def most(policy: str, before: tuple[Frontend, ...], after: tuple[Frontend, ...]) -> int:
    """The bound without affinity and hashing: of the verdicts, of each slot that is had or has been, and hairpins."""
    changed: Counter[tuple[str, Backend]] = Counter()
    for old, new in zip(before, after, strict=True):
        changed += (slots(old) - slots(new)) + (slots(new) - slots(old))
    here = {backend.address for _, backend in changed if backend.place is Place.HERE}
    return 2 * pools(policy) + 3 * changed.total() + len(here)


@cache
def beside(others: int) -> NodeTables:
    """The tables with so many other services, which every example finds as they are."""
    tables = NodeTables(FACTS)
    for i in range(others):
        service = make_service(f"other-{i}", make_port(80, node_port=20000 + i), ips=(f"10.97.0.{i}",))
        tables.put(
            service, Resolver(Snapshot((service,), slices({1: 1, 2: 1})), FACTS.name).resolved(service).frontends
        )
    tables.first_transaction()
    return tables


def writer(others: int = 0) -> Callable[[Service | None, dict[int, int] | EndpointSlice], int]:
    """A function that makes the service so and returns how much that writes; beside so many other services."""
    tables = beside(others)
    tables.remove(WEB.key)  # as the example before has left it
    tables.transaction(tables.take_edits())

    def put(service: Service | None, endpoints: dict[int, int] | EndpointSlice) -> int:
        if service is None:
            tables.remove(WEB.key)
        else:
            tables.put(service, frontends(service, endpoints))
        return sum(transaction.size for transaction in tables.transaction(tables.take_edits()))

    return put


def with_policy(policy: str, **others: object) -> Service:
    changed = replace(WEB, external_traffic_policy=policy, internal_traffic_policy=policy)
    return replace(changed, **others)  # spelled out by each test


def pools(policy: str) -> int:
    return 3 if policy == "Local" else 2


@given(COUNTS, POLICIES, st.integers(0, 4), st.integers(0, 4), st.integers(1, 3))
@example(1, "PreferLocal", 0, 1, 3)
@example(1, "PreferLocal", 4, 0, 3)
@settings(max_examples=60)
def test_one_endpoint_more_less_or_of_another_weight(
    count: int, policy: str, before: int, after: int, rest: int
) -> None:
    service, weights = with_policy(policy), dict.fromkeys(range(1, count + 1), rest)
    sizes = []
    for others in (0, OTHERS):
        put = writer(others)
        put(service, {**weights, 0: before})
        sizes.append(put(service, {**weights, 0: after}))
    assert sizes[0] == sizes[1], "other services make no difference"
    if policy == "PreferLocal" and count < 2 and not (before and after):  # 1 is on another node, 0 on this one
        states = [frontends(service, {**weights, 0: weight}) for weight in (before, after)]
        assert sizes[0] <= most(policy, *states)
    else:
        assert sizes[0] <= pools(policy) * (2 + 3 * max(before, after)) + 1
    assert bool(sizes[0]) == (before != after) or policy != "Cluster"


@given(st.integers(1, 300), POLICIES, st.sampled_from(["the first here", "the first ready", "without a hint"]))
@settings(max_examples=40)
def test_one_endpoint_because_of_which_others_are_used(count: int, policy: str, kind: str) -> None:
    service, put = with_policy(policy), writer()
    others = [make_endpoint(address(number), node="worker-2") for number in range(1, count + 1)]
    one = make_endpoint(address(0), node="worker-1")
    if kind == "the first ready":
        others = [replace(other, ready=False, terminating=True) for other in others]
    elif kind == "without a hint":
        others = [replace(other, nodes=(f"worker-{n % 2 + 1}",)) for n, other in enumerate(others)]
    without, with_it = make_slice(*others, port_name="http"), make_slice(one, *others, port_name="http")
    bound = most(policy, frontends(service, without), frontends(service, with_it))
    put(service, without)
    come, gone = put(service, with_it), put(service, without)
    assert max(come, gone) <= bound
    if kind == "the first ready" or (kind == "the first here" and policy == "PreferLocal"):
        assert min(come, gone) >= count, "each of the others is written, too"


@given(COUNTS, POLICIES)
@settings(max_examples=30)
def test_one_endpoint_with_consistent_hashing(count: int, policy: str) -> None:
    service = with_policy(policy, load_balancing=LoadBalancing.MAGLEV)
    weights = dict.fromkeys(range(1, count + 1), 1)
    put = writer()
    put(service, weights)
    assert put(service, {**weights, 0: 1}) <= pools(policy) * (2 + 2 * 251) + 1
    assert put(service, weights) <= pools(policy) * (2 + 2 * 251) + 1


@given(st.integers(0, 100), POLICIES)
@settings(max_examples=30)
def test_one_endpoint_with_affinity(count: int, policy: str) -> None:
    service = with_policy(policy, session_affinity_seconds=60)
    weights = dict.fromkeys(range(1, count + 1), 1)
    sizes = []
    for others in (0, OTHERS):
        put = writer(others)
        put(service, weights)
        sizes.append((put(service, {**weights, 0: 1}), put(service, weights)))
    assert sizes[0] == sizes[1], "other services make no difference"
    # Around none at all: the pools' verdicts, the chains that mark and the draws come or go with it.
    around_none = 2 * pools(policy) + 12
    for size in sizes[0]:
        assert 0 < size <= 4 * (count + 2) + 6 + around_none


@given(COUNTS, POLICIES)
@settings(max_examples=30)
def test_one_port_more_or_less_writes_what_the_port_has(count: int, policy: str) -> None:
    weights = dict.fromkeys(range(count), 1)
    one, two = with_policy(policy), with_policy(policy, ports=(HTTP, HTTPS))
    sizes = []
    for others in (0, OTHERS):
        put = writer(others)
        put(one, weights)
        sizes.append((put(two, weights), put(one, weights)))
    assert sizes[0] == sizes[1], "other services make no difference"
    for size in sizes[0]:
        assert 0 < size <= pools(policy) * (1 + count)


@given(COUNTS, POLICIES)
@settings(max_examples=30)
def test_one_service_more_or_less_writes_what_it_has(count: int, policy: str) -> None:
    weights = dict.fromkeys(range(count), 1)
    sizes = []
    for others in (0, OTHERS):
        put = writer(others)
        sizes.append((put(with_policy(policy), weights), put(None, weights)))
    assert sizes[0] == sizes[1], "other services make no difference"
    most = pools(policy) * (1 + count) + count + 1  # verdicts and slots, hairpin connections, the clusterIP
    assert sizes[0][0] == sizes[0][1]
    assert 0 < sizes[0][0] <= most
