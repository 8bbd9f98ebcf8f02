"""The short way of resolving, which nearly all Services go, comes to what the general one comes to."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.model import Endpoint, EndpointPort, EndpointSlice, Family, Node, Protocol, Service, Snapshot
from nodeport_nft.resolve import Resolver
from nodeport_nft.resolve.join import Join
from tests.builders import make_port, make_service

HERE = "worker-1"
ADDRESSES = st.sampled_from([ip_address(text) for text in ("10.244.0.1", "10.244.0.2", "10.244.0.10", "fd00::2")])
SELDOM = st.sampled_from([False] * 7 + [True])
ENDPOINTS = st.builds(
    lambda address, node, ready, hinted, leaving: Endpoint(
        address, not ready, True, leaving, node, zones=("z",) if hinted else ()
    ),
    ADDRESSES,
    st.sampled_from([HERE, "worker-2", ""]),
    SELDOM,
    SELDOM,
    SELDOM,
)
PORTS = st.lists(
    st.builds(
        EndpointPort,
        st.sampled_from(["http", "dns"]),
        st.sampled_from([Protocol.TCP, Protocol.UDP]),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=2,
)
SLICES = st.lists(
    st.builds(
        lambda ports, endpoints, weight, drained, mirrored: EndpointSlice(
            "default",
            "x",
            "web",
            tuple(ports),
            tuple(endpoints),
            weight=weight,
            mirrored=mirrored,
            drained=(ip_address("10.244.0.1"),) if drained else (),
        ),
        PORTS,
        st.lists(ENDPOINTS, max_size=3),
        st.sampled_from([1, 1, 1, 2, 0]),
        SELDOM,
        SELDOM,
    ),
    max_size=3,
)
POLICIES = st.sampled_from(["Cluster", "Local", "PreferLocal"])
SERVICES = st.builds(
    lambda internal, external, weighed, external_ip: replace(
        make_service(
            "web",
            make_port(80, name="http", node_port=30080),
            make_port(53, name="dns", protocol=Protocol.UDP),
            ips=("10.96.0.1", "fd00:10:96::1"),
        ),
        ip_families=(Family.IPV4, Family.IPV6),
        internal_traffic_policy=internal,
        external_traffic_policy=external,
        weights={"10.244.0.2": 3} if weighed else {},
        external_ips=(ip_address("192.0.2.1"),) if external_ip else (),
    ),
    POLICIES,
    POLICIES,
    SELDOM,
    st.booleans(),
)


@given(SERVICES, SLICES, SELDOM, SELDOM)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_comes_to_what_the_general_way_comes_to(
    monkeypatch: pytest.MonkeyPatch, service: Service, slices: list[EndpointSlice], drained: bool, nameless: bool
) -> None:
    pieces = tuple(replace(piece, name=f"web-{number}") for number, piece in enumerate(slices))
    nodes = (Node("worker-2", drained=True),) if drained else ()
    resolver = Resolver(Snapshot((service,), pieces, nodes=nodes), "" if nameless else HERE, "z")
    either = resolver.resolved(service)
    with monkeypatch.context() as patched:
        patched.setattr(Join, "plain", lambda *_: None)
        assert either == resolver.resolved(service)


def test_it_is_gone_by_who_has_nothing_to_be_weighed_and_by_nobody_else() -> None:
    service = make_service("web", make_port(80, name="http"))
    endpoint = Endpoint(ip_address("10.244.0.1"), node_name=HERE)
    ports = (EndpointPort("http", Protocol.TCP, 8080),)
    piece = EndpointSlice("default", "web-0", "web", ports, (endpoint,))

    def is_plain(change: Callable[[EndpointSlice], EndpointSlice], service: Service = service) -> bool:
        resolver = Resolver(Snapshot((service,), (change(piece),)), HERE)
        return Join(resolver._index, service).plain(service.ports[0], HERE) is not None

    assert is_plain(lambda piece: piece)
    assert is_plain(lambda piece: replace(piece, weight=2))
    assert not is_plain(lambda piece: replace(piece, weight=0))
    assert not is_plain(lambda piece: replace(piece, endpoints=(endpoint, endpoint)))
    assert not is_plain(lambda piece: replace(piece, endpoints=(replace(endpoint, ready=False),)))
    assert not is_plain(lambda piece: replace(piece, endpoints=(replace(endpoint, zones=("z",)),)))
    assert not is_plain(lambda piece: replace(piece, drained=(endpoint.address,)))
    assert not is_plain(lambda piece: piece, replace(service, weights={"10.244.0.1": 2}))
