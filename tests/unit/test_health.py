"""What a node tells load balancers of its endpoints (H1)."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from nodeport_nft.health import HealthCheck, health_checks
from nodeport_nft.model import EndpointPort, EndpointSlice, Family, Pod, Protocol, Service, ServiceType, Snapshot
from nodeport_nft.resolve import Resolver
from tests.builders import make_endpoint, make_port, make_service, make_slice

pytestmark = pytest.mark.proves("H1")

HERE = "worker-1"


def checked(
    name: str = "web", port: int = 32000, *, ips: tuple[str, ...] = ("10.96.0.10",), created: str = ""
) -> Service:
    service = make_service(name, make_port(node_port=30080), ips=ips, created=created)
    return replace(
        service, type=ServiceType.LOAD_BALANCER, external_traffic_policy="Local", health_check_node_port=port
    )


def counts(service: Service, *slices: EndpointSlice, pods: tuple[Pod, ...] = ()) -> dict[Family, int]:
    checks = health_checks((service,), Resolver(Snapshot((service,), slices, pods), HERE))
    assert [check.service for check in checks.values()] == [service.key]
    return dict(checks[service.health_check_node_port].local_endpoints)


def test_only_endpoints_of_this_node_count() -> None:
    slices = make_slice(
        make_endpoint("10.244.1.1", node=HERE),
        make_endpoint("10.244.1.2", node=HERE),
        make_endpoint("10.244.2.1", node="worker-2"),
        make_endpoint("10.244.3.1", node=""),
    )
    assert counts(checked(), slices) == {Family.IPV4: 2}


def test_a_drained_node_has_none_although_it_still_serves() -> None:
    leaving = make_endpoint("10.244.1.1", ready=False, serving=True, terminating=True, node=HERE)
    service, piece = checked(), make_slice(leaving)
    frontends = Resolver(Snapshot((service,), (piece,)), HERE).resolved(service).frontends
    assert any(frontend.local_backends for frontend in frontends)
    assert counts(service, piece) == {Family.IPV4: 0}


def test_an_endpoint_that_is_not_ready_does_not_count() -> None:
    starting = make_endpoint("10.244.1.1", ready=False, serving=False, node=HERE)
    assert counts(checked(), make_slice(starting, make_endpoint("10.244.1.2", node=HERE))) == {Family.IPV4: 1}


def test_an_address_counts_once_whatever_its_ports_and_slices() -> None:
    service = replace(checked(), ports=(make_port(80, name="http"), make_port(443, name="https", target=8443)))
    ports = (EndpointPort("http", Protocol.TCP, 8080), EndpointPort("https", Protocol.TCP, 8443))
    piece = replace(make_slice(make_endpoint("10.244.1.1", node=HERE)), ports=ports)
    assert counts(service, piece, replace(piece, name="web-2")) == {Family.IPV4: 1}


def test_an_address_that_is_ready_on_one_port_counts() -> None:
    service = replace(checked(), ports=(make_port(80, name="http"), make_port(443, name="https", target=8443)))
    slices = (
        make_slice(make_endpoint("10.244.1.1", node=HERE), port_name="http"),
        make_slice(make_endpoint("10.244.1.1", ready=False, node=HERE), name="web-2", port=8443, port_name="https"),
    )
    assert counts(service, *slices) == {Family.IPV4: 1}


def test_each_family_has_its_own_number() -> None:
    service = checked(ips=("10.96.0.10", "fd00:10:96::a"))
    four = make_slice(make_endpoint("10.244.1.1", node=HERE), make_endpoint("10.244.1.2", node=HERE))
    assert counts(service, four) == {Family.IPV4: 2, Family.IPV6: 0}
    six = make_slice(make_endpoint("fd00:244:1::1", node=HERE), name="web-2")
    assert counts(service, four, six) == {Family.IPV4: 2, Family.IPV6: 1}


def test_endpoints_of_weight_0_take_no_connections_and_do_not_count() -> None:
    piece = make_slice(make_endpoint("10.244.1.1", node=HERE), make_endpoint("10.244.1.2", node=HERE))
    service = replace(checked(), weights={"10.244.1.1": 0, "10.244.1.2": 3})
    assert counts(service, piece) == {Family.IPV4: 1}


def test_selected_pods_count_like_endpoints() -> None:
    service = replace(checked(), selector={"app": "web"})
    labels = {"app": "web"}
    pods = (
        Pod("default", "a", labels, (ip_address("10.244.1.1"),), HERE),
        Pod("default", "b", labels, (ip_address("10.244.1.2"),), HERE, ready=False),
        Pod("default", "c", labels, (ip_address("10.244.1.3"),), HERE, terminating=True),
        Pod("default", "d", labels, (ip_address("10.244.2.1"),), "worker-2"),
    )
    assert counts(service, pods=pods) == {Family.IPV4: 1}


@pytest.mark.parametrize(
    "service",
    [
        checked(port=0),
        replace(checked(), proxy_name="another-proxy"),
        replace(checked(), headless=True, cluster_ips=()),
    ],
    ids=["no port", "another proxy's", "headless"],
)
def test_services_without_a_check_of_ours(service: Service) -> None:
    assert health_checks((service,), Resolver(Snapshot((service,)), HERE)) == {}


def test_f10_the_older_one_of_two_has_the_port() -> None:
    older = checked("zebra", created="2024-01-01T00:00:00Z")
    younger = checked("ant", created="2025-01-01T00:00:00Z")
    other = checked("other", 32001)
    services = (younger, other, older)
    none = {Family.IPV4: 0}
    assert health_checks(services, Resolver(Snapshot(services), HERE)) == {
        32000: HealthCheck(older.key, none),
        32001: HealthCheck(other.key, none),
    }


def test_the_http_library_is_loaded_with_the_server_alone() -> None:
    code = "import sys, nodeport_nft.cli, nodeport_nft.health; print('tornado' in sys.modules); "
    code += "import nodeport_nft.health.server; print('tornado' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "True"]
