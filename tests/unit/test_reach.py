"""The ends of a connection as people type them, and who is there."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeport_nft.model import ContainerPort, Node, Pod, Protocol, Service, ServiceType, Snapshot
from nodeport_nft.reach import (
    Directory,
    End,
    EndError,
    Located,
    NotThere,
    at_cluster_ip,
    at_node,
    elsewhere,
    parse_end,
)
from tests.builders import make_endpoint, make_port, make_service, make_slice

V4, V6 = ip_address("172.30.1.2"), ip_address("fd00:30:1::2")


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("172.30.1.2", End("", address=V4)),
        ("172.30.1.2:80", End("", address=V4, port=80)),
        ("fd00:30:1::2", End("", address=V6)),
        ("[fd00:30:1::2]", End("", address=V6)),
        ("[fd00:30:1::2]:80", End("", address=V6, port=80)),
        ("::1", End("", address=ip_address("::1"))),
        ("localhost", End("", address=ip_address("127.0.0.1"))),
        ("LOCALHOST:80", End("", address=ip_address("127.0.0.1"), port=80)),
        ("web", End("", "Service", "web")),
        ("Web:http", End("", "Service", "web", port="http")),
        ("web.shop:80", End("", "Service", "web", "shop", 80)),
        ("web.shop.svc", End("", "Service", "web", "shop")),
        ("web.shop.svc.cluster.local.:80", End("", "Service", "web", "shop", 80)),
        ("svc/web.shop", End("", "Service", "web", "shop")),
        ("Services/web:8080-tcp", End("", "Service", "web", port="8080-tcp")),
        ("po/web-1.x:http", End("", "Pod", "web-1.x", port="http")),
        ("no/worker.example.com:30080", End("", "Node", "worker.example.com", port=30080)),
    ],
)
def test_what_is_typed(text: str, end: End) -> None:
    assert parse_end(text) == replace(end, text=text)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":80", "/", "svc/", "/web", "svc/web/http", "web:", "web:0", "web:65536", "web:-1", "web:80:90"),
        *("172.30.1.256", "172.30.1", "1.2.3.4:http", "[fd00::1", "[fd00::1]80", "[web]:80", "fe80::1%eth0"),
        *("web.shop.pod", "web..shop", "we b", "ingress/web", "http://web", "web:HTTP", "\u0661:80", "web:\u0661"),
    ],
)
def test_what_names_nothing_is_told(text: str) -> None:
    with pytest.raises(EndError) as told:
        parse_end(text)
    assert str(told.value).isprintable()
    assert "  " not in str(told.value)  # where a word should stand


@given(st.text(alphabet=st.sampled_from("aw1.:/[]%-_ \x1bé٣") | st.characters(), max_size=24))
def test_any_text_names_an_end_or_is_told_and_is_never_echoed_raw(text: str) -> None:
    end, told = None, ""
    try:
        end = parse_end(text)
    except EndError as error:
        told = str(error)
    assert told.isprintable()
    assert end is None or ((end.address is None) is bool(end.kind))
    assert end is None or not isinstance(end.port, int) or 1 <= end.port <= 65535


WEB = make_service("web", make_port(80, name="http", node_port=30080), ips=("10.96.0.10", "fd00:10:96::a"))
DNS = make_service(
    "dns", make_port(53, name="dns", protocol="UDP"), make_port(53, name="dns-tcp"), ips=("10.96.0.53",)
)
POD = Pod(
    "default", "web-1", ips=(ip_address("10.244.1.2"),), node_name="worker-1",
    ports=(ContainerPort("http", Protocol.TCP, 8080), ContainerPort("dns", Protocol.UDP, 53)),
)  # fmt: skip
NODES = (Node("worker-1", internal_ips=(V4, V6)), Node("worker-2"))
SNAPSHOT = Snapshot((WEB, DNS), (), (POD,), NODES)


def locate(text: str, version: int | None = None, protocol: str = "", snapshot: Snapshot = SNAPSHOT) -> Located:
    return Directory(snapshot, "default", lambda: snapshot.pods).locate(parse_end(text), version, protocol)


@pytest.mark.parametrize(
    ("text", "version", "protocol", "located"),
    [
        ("web", None, "", Located(ip_address("10.96.0.10"), 80, "tcp", node_port=30080)),
        ("web", 6, "", Located(ip_address("fd00:10:96::a"), 80, "tcp", node_port=30080)),
        ("web:30080", 6, "", Located(None, 30080, "tcp", version=6)),
        ("web:81", None, "", Located(ip_address("10.96.0.10"), 81)),
        ("dns:dns-tcp", None, "", Located(ip_address("10.96.0.53"), 53, "tcp")),
        ("dns", None, "udp", Located(ip_address("10.96.0.53"), 53, "udp")),
        ("dns:53", None, "tcp", Located(ip_address("10.96.0.53"), 53, "tcp")),
        ("pod/web-1:dns", None, "", Located(ip_address("10.244.1.2"), 53, "udp", "worker-1")),
        ("pod/web-1", None, "", Located(ip_address("10.244.1.2"), None, "", "worker-1")),
        ("node/worker-1:30080", 6, "", Located(V6, 30080, node="worker-1")),
        ("172.30.1.2:80", None, "", Located(V4, 80)),
    ],
)
def test_where_an_end_is(text: str, version: int | None, protocol: str, located: Located) -> None:
    assert locate(text, version, protocol) == located


@pytest.mark.parametrize(
    ("text", "version", "words"),
    [
        ("dns", None, "has several ports; name one: dns (53/UDP), dns-tcp (53/TCP)"),
        ("dns:http", None, "has no port http"),
        ("dns:53", 6, "Service default/dns has no IPv6 address, and the other end has no other"),
        ("pod/web-1:https", None, "it has http (8080/TCP), dns (53/UDP)"),
        ("node/worker-2:80", None, "Node worker-2 has no InternalIP"),
        ("node/worker-11:80", None, "did you mean worker-1"),
    ],
)
def test_what_is_not_there_is_told(text: str, version: int | None, words: str) -> None:
    with pytest.raises(NotThere, match=words.replace("(", r"\(").replace(")", r"\)")):
        locate(text, version)


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (replace(WEB, type=ServiceType.EXTERNAL_NAME), "alias in DNS"),
        (replace(WEB, headless=True, cluster_ips=()), "headless"),
        (replace(WEB, proxy_name="cilium"), "another proxy"),
        (replace(WEB, cluster_ips=()), "has no clusterIP yet"),
    ],
)
def test_services_to_which_nothing_is_translated(service: Service, words: str) -> None:
    with pytest.raises(NotThere, match=words):
        locate("web", snapshot=replace(SNAPSHOT, services=(service,)))


def test_pods_that_nobody_may_see() -> None:
    with pytest.raises(NotThere, match="may not be listed"):
        Directory(SNAPSHOT, "default", lambda: None).locate(parse_end("pod/web-1"))


def reasons(protocol: str, address: str, port: int, served: tuple[str, ...] | None = ("172.30.1.2",)) -> list[str]:
    places = None if served is None else tuple(map(ip_address, served))
    return [cause.reason for cause in at_node(SNAPSHOT, protocol, ip_address(address), port, places)]


def test_why_nobody_is_at_a_node() -> None:
    assert reasons("tcp", "127.0.0.1", 30080) == ["NotOnLoopback"]
    assert reasons("tcp", "::1", 30080, None) == ["NotOnLoopback"]
    assert reasons("tcp", "172.30.9.9", 30080) == ["NotOnThisAddress"]
    assert reasons("tcp", "172.30.9.9", 30080, ()) == ["NotOnThisAddress"]
    assert reasons("tcp", "172.30.1.2", 30080, None) == ["NotProgrammed"]
    assert reasons("udp", "172.30.1.2", 30080) == ["OtherProtocol"]
    assert reasons("tcp", "172.30.1.2", 80) == ["PortOfService"]
    assert reasons("tcp", "172.30.1.2", 22) == ["NoSuchNodePort"]


@pytest.mark.parametrize(
    ("asked", "near"),
    [(30081, True), (3080, True), (300800, True), (30800, True), (80300, False), (31111, False)],
)
def test_near_node_ports_are_slips_of_the_keyboard(asked: int, near: bool) -> None:
    """Where there are many. One digit differs, is missing or too many, or two have changed places."""
    ports = [make_port(30080, name="a", node_port=30080)]
    ports += [make_port(number, name=f"p{number}", node_port=number) for number in (32001, 32002, 32003, 32004)]
    snapshot = Snapshot((make_service("web", *ports),))
    [cause] = at_node(snapshot, "tcp", V4, asked, (V4,))
    assert ("did you mean 30080 (default/web)?" in str(cause)) is near


def test_why_nobody_is_at_a_cluster_ip_and_what_other_addresses_are() -> None:
    [cause] = at_cluster_ip(SNAPSHOT, "tcp", ip_address("10.96.0.10"), 30080)
    assert str(cause).endswith("30080 is its nodePort, which is for the addresses of nodes")
    [cause] = at_cluster_ip(SNAPSHOT, "tcp", ip_address("10.96.0.99"), 80)
    assert cause.reason == "NoSuchClusterIP"
    own = replace(WEB, external_ips=(ip_address("198.51.100.1"),))
    piece = make_slice(make_endpoint("10.200.0.9"), service="web")
    snapshot = replace(SNAPSHOT, services=(own,), slices=(piece,))
    for address, reason in (
        ("172.30.1.2", "OtherNode"),
        ("10.244.1.2", "PodItself"),
        ("10.200.0.9", "EndpointItself"),
        ("198.51.100.1", "NoSuchPort"),
        ("198.51.100.2", "NoSuchAddress"),
    ):
        [cause] = elsewhere(snapshot, ip_address(address), snapshot.pods)
        assert cause.reason == reason
