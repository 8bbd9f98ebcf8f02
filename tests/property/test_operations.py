"""How much one change writes: bounds that hold for any number of endpoints, and for any number of other services.

A *pool* is a key of a verdict map with endpoints behind it: a clusterIP's port is one, a nodePort is one, or two with
the traffic policy Local (one for each side). What one endpoint more, less, or of another weight may write:

=============  ====================================================================================
a pool         2 for the verdict, and 3 for each slot that it has or had: the last one moves into the hole
consistent     2 for the verdict, and 2 for each of the 251 slots
hashing
affinity       2 sets or chains, 2 rules of the endpoint, and the port's draw: 2 rules for each endpoint, for each
               pool of endpoints (all, and this node's own)
all of them    1 for the hairpin connection
=============  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport_nft.model import EndpointSlice, LoadBalancing, Service, Snapshot
from nodeport_nft.reconcile import NodeTables
from nodeport_nft.resolve import Resolver
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


def writer(others: int = 0) -> Callable[[Service | None, dict[int, int]], int]:
    """A function that makes the service so and returns how much that writes; beside so many other services."""
    tables = beside(others)
    tables.remove(WEB.key)  # as the example before has left it
    tables.transaction(tables.take_edits())

    def put(service: Service | None, weights: dict[int, int]) -> int:
        if service is None:
            tables.remove(WEB.key)
        else:
            tables.put(
                service, Resolver(Snapshot((service,), slices(weights)), FACTS.name).resolved(service).frontends
            )
        return sum(transaction.size for transaction in tables.transaction(tables.take_edits()))

    return put


def with_policy(policy: str, **others: object) -> Service:
    changed = replace(WEB, external_traffic_policy=policy, internal_traffic_policy=policy)
    return replace(changed, **others)  # type: ignore[arg-type]  # spelled out by each test


def pools(policy: str) -> int:
    return 3 if policy == "Local" else 2


@given(COUNTS, POLICIES, st.integers(0, 4), st.integers(0, 4), st.integers(1, 3))
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
    assert sizes[0] <= pools(policy) * (2 + 3 * max(before, after)) + 1
    assert bool(sizes[0]) == (before != after) or policy != "Cluster"


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
