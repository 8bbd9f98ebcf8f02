"""Flows that pass the tables by are forgotten (K2): seen by clients that keep a socket, or still try to connect."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import resource
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from msgspec.structs import replace

from lab.cluster import Cluster
from lab.probe import parse_answer
from nodeport_nft.daemon.flow_cleaner import FlowCleaner
from nodeport_nft.flows import UDP, Frontends
from nodeport_nft.kernel.host.addresses import read_host
from nodeport_nft.kernel.netlink import conntrack
from nodeport_nft.kernel.netlink.conntrack import (
    PATIENCE_SECONDS,
    delete_stale_attempts,
    delete_stale_flows,
    find_stale_attempts,
)
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import (
    EndpointSlice,
    Family,
    IPNetwork,
    NodeFacts,
    NodePortMode,
    Service,
    ServiceType,
    Snapshot,
)
from nodeport_nft.reconcile import compile_snapshot, read_tables, stale_frontends
from tests.builders import make_endpoint, make_port, make_service, make_slice
from tests.cli.program import SCRIPT
from tests.netns.kernel import facts

NODE_IP, NODE_IPV6 = "172.30.1.2", "fd00:30:1::2"
CLUSTER_IP, CLUSTER_IPV6 = "10.96.0.10", "fd00:10:96::a"
DNS = make_service("dns", make_port(53, node_port=30053, protocol="UDP"), ips=(CLUSTER_IP, CLUSTER_IPV6))

# Makes the kernel track connections, as any firewall does, where there is no table of ours yet.
TRACKING = """
table inet firewall {
    chain incoming {
        type filter hook prerouting priority 0
        ct state new counter
    }
}
"""


class Client:
    """A UDP socket of a host that keeps its source port; used in a ``with`` statement."""

    def __init__(self, cluster: Cluster, host: str, address: str, port: int) -> None:
        self.sock = cluster.socket(host, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect((address, port))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, patience: float = 30.0) -> str:
        """Who answers one datagram; else ``refused``, or ``nothing`` after ``patience`` seconds."""
        self.sock.settimeout(patience)
        try:
            self.sock.send(b"who are you?\n")
            return parse_answer(self.sock.recv(1 << 16)).name
        except (ConnectionRefusedError, PermissionError):  # the latter by its own host, as the datagram leaves
            return "refused"
        except OSError:  # silence, or no route
            return "nothing"


PATHS = [
    pytest.param("client", NODE_IP, 30053, id="client-nodePort"),
    pytest.param("client", NODE_IPV6, 30053, id="client-nodePort-ipv6"),
    pytest.param("web-2", CLUSTER_IP, 53, id="pod-clusterIP"),
    pytest.param("web-2", CLUSTER_IPV6, 53, id="pod-clusterIP-ipv6"),
    pytest.param("web-2", NODE_IP, 30053, id="pod-nodePort"),
    pytest.param("worker-1", CLUSTER_IP, 53, id="node-clusterIP"),
]


def slices(cluster: Cluster, *pods: str, service: str = "dns", protocol: str = "UDP") -> tuple[EndpointSlice, ...]:
    """An IPv4 and an IPv6 slice of these pods."""
    return tuple(
        make_slice(
            *(str(cluster.address(pod, family)) for pod in pods),
            service=service,
            name=f"{service}-{family}",
            protocol=protocol,
        )
        for family in (4, 6)
    )


def sync(
    cluster: Cluster, services: tuple[Service, ...], pieces: tuple[EndpointSlice, ...], known: NodeFacts | None = None
) -> int:
    """What ``nodeport-nft sync --once`` does on worker-1; how many flows it deleted."""
    known = known or facts(cluster)

    def run() -> int:
        nft, snapshot = Nft(), Snapshot(services, pieces)
        listed = read_tables(nft, known)
        programme = compile_snapshot(snapshot, known, listed)
        nft.apply(programme.tables.first_transaction())
        local_ips = [held.address for held in read_host().addresses]
        frontends = stale_frontends(snapshot, programme.tables, listed, local_ips)
        deleted = delete_stale_flows(frontends)
        if found := find_stale_attempts(frontends):
            time.sleep(PATIENCE_SECONDS)
            deleted += delete_stale_attempts(frontends, found)
        return deleted

    return cluster.call("worker-1", run, timeout=60)


def tracked(cluster: Cluster, *words: str) -> list[str]:
    """worker-1's connections with their ids, without their timeouts and without what changes as they are used."""
    lines = []
    for family in ("ipv4", "ipv6"):
        listed = cluster.run("worker-1", ["conntrack", "-L", "-f", family, "-o", "id", *words]).stdout
        lines += [re.sub(r"^(\w+ +\d+) \d+", r"\1", line) for line in listed.splitlines()]
    return sorted(lines)


@pytest.mark.proves("K2")
@pytest.mark.parametrize(("host", "address", "port"), PATHS)
def test_k2_when_its_endpoint_leaves_a_flow_goes_to_another(
    cluster: Cluster, host: str, address: str, port: int
) -> None:
    sync(cluster, (DNS,), slices(cluster, "web-1"))
    with Client(cluster, host, address, port) as client:
        assert client.ask() == "web-1"
        assert sync(cluster, (DNS,), slices(cluster, "web-1", "web-3")) == 0
        assert client.ask() == "web-1"
        assert sync(cluster, (DNS,), slices(cluster, "web-3")) == 1
        assert client.ask() == "web-3"
        assert sync(cluster, (DNS,), slices(cluster, "web-3")) == 0


@pytest.mark.proves("K2")
@pytest.mark.parametrize(("host", "address", "port"), PATHS)
def test_k2_no_flow_outlives_the_last_endpoint(cluster: Cluster, host: str, address: str, port: int) -> None:
    sync(cluster, (DNS,), slices(cluster, "web-1"))
    with Client(cluster, host, address, port) as client:
        assert client.ask() == "web-1"
        assert sync(cluster, (DNS,), slices(cluster)) == 1
        assert client.ask() == "refused"


@pytest.mark.proves("K2")
@pytest.mark.parametrize(("host", "address", "port"), PATHS)
def test_k2_no_flow_outlives_its_service(cluster: Cluster, host: str, address: str, port: int) -> None:
    sync(cluster, (DNS,), slices(cluster, "web-1"))
    with Client(cluster, host, address, port) as client:
        assert client.ask() == "web-1"
        assert sync(cluster, (), ()) == 1
        assert client.ask(0.5) in ("refused", "nothing")


@pytest.mark.proves("K2")
@pytest.mark.parametrize(("host", "address", "port"), PATHS[:-1])
def test_k2_a_flow_from_before_there_was_a_service_reaches_it(
    cluster: Cluster, host: str, address: str, port: int
) -> None:
    cluster.nft("worker-1", TRACKING)
    with Client(cluster, host, address, port) as client:
        assert client.ask(0.5) in ("refused", "nothing")
        assert sync(cluster, (DNS,), slices(cluster, "web-1")) == 1
        assert client.ask() == "web-1"


@pytest.mark.proves("K2")
def test_k2_a_flow_does_not_outlive_a_moved_node_port(cluster: Cluster) -> None:
    moved = replace(DNS, ports=(make_port(53, node_port=30054, protocol="UDP"),))
    sync(cluster, (DNS,), slices(cluster, "web-1"))
    with (
        Client(cluster, "client", NODE_IP, 30053) as old,
        Client(cluster, "client", NODE_IP, 30054) as new,
        Client(cluster, "web-2", CLUSTER_IP, 53) as inside,
    ):
        assert (old.ask(), new.ask(), inside.ask()) == ("web-1", "refused", "web-1")
        assert sync(cluster, (moved,), slices(cluster, "web-1")) == 2
        assert (old.ask(), new.ask(), inside.ask()) == ("refused", "web-1", "web-1")


@pytest.mark.proves("K2")
def test_k2_where_every_local_address_serves_node_ports(cluster: Cluster) -> None:
    everywhere = replace(facts(cluster), node_port_mode=NodePortMode.ALL, node_port_ips=())
    cluster.nft("worker-1", TRACKING)
    with Client(cluster, "client", NODE_IP, 30053) as client:
        assert client.ask() == "refused"
        assert sync(cluster, (DNS,), slices(cluster, "web-1"), everywhere) == 1
        assert client.ask() == "web-1"


@pytest.mark.proves("K2")
def test_k2_a_terminating_endpoint_keeps_its_flows_while_it_serves(cluster: Cluster) -> None:
    leaving, staying = str(cluster.address("web-1")), make_endpoint(str(cluster.address("web-3")))

    def step(*, serving: bool) -> int:
        endpoint = make_endpoint(leaving, ready=False, serving=serving, terminating=True)
        return sync(cluster, (DNS,), (make_slice(endpoint, staying, service="dns", protocol="UDP"),))

    sync(cluster, (DNS,), slices(cluster, "web-1"))
    with (
        Client(cluster, "client", NODE_IP, 30053) as old,
        Client(cluster, "client", NODE_IP, 30053) as new,
    ):
        assert old.ask() == "web-1"
        assert step(serving=True) == 0
        assert (old.ask(), new.ask()) == ("web-1", "web-3")
        assert step(serving=False) == 1
        assert (old.ask(), new.ask()) == ("web-3", "web-3")


@pytest.mark.proves("K2")
def test_k2_other_flows_stay(cluster: Cluster) -> None:
    """Only the one stale flow goes; of the rest not an id changes."""
    other = replace(
        DNS, name="other", cluster_ips=(ip_address("10.96.7.7"),), ports=DNS.ports[:1], proxy_name="theirs"
    )
    entries = [
        f"-p udp -s 192.0.2.9 -d {NODE_IP} --sport 1000 --dport 30055",
        "-p udp -s 192.0.2.9 -d 172.30.1.99 --sport 1000 --dport 30053",
        "-p udp -s 192.0.2.9 -d 198.51.100.1 --sport 1000 --dport 53",
        "-p udp -s 192.0.2.9 -d 10.96.7.7 --sport 1000 --dport 53 --dst-nat 10.244.1.99:53",
        f"-p udp -s {NODE_IP} -d 192.0.2.9 --sport 30053 --dport 1000",
        f"-p tcp --state ESTABLISHED -s 192.0.2.9 -d {NODE_IP} --sport 1000 --dport 30053",
        f"-p tcp --state ESTABLISHED -s 192.0.2.9 -d {CLUSTER_IP} --sport 1000 --dport 53 --dst-nat 10.244.1.99:53",
        f"-p udp -s fd00::9 -d {NODE_IPV6} --sport 1000 --dport 30055",
    ]
    stale = f"-p udp -s 192.0.2.9 -d {NODE_IP} --sport 1001 --dport 30053 --dst-nat 10.244.1.99:8080"
    sync(cluster, (DNS, other), slices(cluster, "web-1"))
    with Client(cluster, "client", NODE_IP, 30053) as good, Client(cluster, "client", "10.244.1.2", 8080) as direct:
        assert good.ask() == "web-1"
        assert direct.ask() == cluster.name_of(ip_address("10.244.1.2"))
        for entry in (*entries, stale):
            cluster.run("worker-1", ["conntrack", "-I", "--timeout", "600", *entry.split()])
        before = tracked(cluster)
        assert sync(cluster, (DNS, other), slices(cluster, "web-1")) == 1
        after = tracked(cluster)
    assert len(after) == len(entries) + 2
    (deleted,) = set(before) - set(after)
    assert "sport=1001" in deleted
    assert set(after) < set(before)


@pytest.mark.proves("K2")
def test_k2_a_tcp_connection_outlives_its_endpoints_removal(cluster: Cluster) -> None:
    web = make_service(
        "web", make_port(80, node_port=30080), make_port(53, node_port=30053, protocol="UDP", name="dns")
    )
    tcp = slices(cluster, "web-1", service="web", protocol="TCP")
    sync(cluster, (web,), tcp)
    with cluster.socket("client", socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(60)
        sock.connect((NODE_IP, 30080))
        assert b'"web-1"' in sock.recv(1 << 16)
        assert sync(cluster, (web,), slices(cluster, "web-3", service="web", protocol="TCP")) == 0
        sock.send(b"still there?\n")
        assert sock.recv(1 << 16) == b"web-1 still there?\n"
        assert sync(cluster, (), ()) == 0
        sock.send(b"and now?\n")
        assert sock.recv(1 << 16) == b"web-1 and now?\n"


WEB = replace(
    make_service("web", make_port(80, node_port=30080), ips=(CLUSTER_IP, CLUSTER_IPV6)),
    type=ServiceType.LOAD_BALANCER,
    load_balancer_ips=(ip_address("192.0.2.80"), ip_address("fd00:5::80")),
    external_ips=(ip_address("198.51.100.80"), ip_address("fd00:6::80")),
)
SILENT = ("10.96.0.0/12", "192.0.2.0/24", "198.51.100.0/24", "fd00:10:96::/112", "fd00:5::/64", "fd00:6::/64")


@pytest.fixture
def silence(cluster: Cluster) -> Iterator[None]:
    """Nobody beyond the nodes answers for Services' addresses, not even with an ICMP error."""
    for network in SILENT:
        cluster.run("router", ["ip", "route", "add", "blackhole", network])
    yield
    for network in SILENT:
        cluster.run("router", ["ip", "route", "del", "blackhole", network])


class Caller:
    """A TCP socket of a host that begins to connect and does not wait; used in a ``with`` statement."""

    def __init__(self, cluster: Cluster, host: str, address: str, port: int) -> None:
        self.sock = cluster.socket(host, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.connect_ex((address, port))
        self.source = self.sock.getsockname()[1]

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def answered_by(self, seconds: float = 45.0) -> str:
        """Whose greeting comes once the client has tried again (after 1, 3, 7, 15 and 31 s); "" if none does."""
        _, writable, _ = select.select([], [self.sock], [], seconds)
        if not writable or self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return ""
        self.sock.settimeout(seconds)
        return parse_answer(self.sock.recv(1 << 16)).name


def await_entry(cluster: Cluster, source: int, *, words: str = "UNREPLIED") -> None:
    """Return once worker-1 tracks the connection from this port in this state."""
    deadline = time.monotonic() + 30
    while not any(f"sport={source} " in line and words in line for line in tracked(cluster, "-p", "tcp")):
        assert time.monotonic() < deadline, tracked(cluster, "-p", "tcp")
        time.sleep(0.05)


@pytest.mark.proves("K2")
@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        pytest.param("web-2", CLUSTER_IP, 80, id="pod-clusterIP"),
        pytest.param("web-2", CLUSTER_IPV6, 80, id="pod-clusterIP-ipv6"),
        pytest.param("worker-1", CLUSTER_IP, 80, id="node-clusterIP"),
        pytest.param("web-2", "192.0.2.80", 80, id="load-balancer"),
        pytest.param("web-2", "fd00:5::80", 80, id="load-balancer-ipv6"),
        pytest.param("web-2", "198.51.100.80", 80, id="externalIP"),
    ],
)
@pytest.mark.usefixtures("silence")
def test_k2_a_connection_begun_before_there_was_a_service_reaches_it(
    cluster: Cluster, host: str, address: str, port: int
) -> None:
    cluster.nft("worker-1", TRACKING)
    with Caller(cluster, host, address, port) as caller:
        await_entry(cluster, caller.source)
        assert sync(cluster, (WEB,), slices(cluster, "web-1", service="web", protocol="TCP")) == 1
        assert caller.answered_by() == "web-1"


@pytest.mark.proves("K2")
def test_k2_a_connection_to_a_listener_that_has_no_room_reaches_the_node_port(cluster: Cluster) -> None:
    """A nodePort's address is the node's own: it resets at once, unless somebody listens there and never accepts."""
    cluster.nft("worker-1", TRACKING)
    with ExitStack() as stack:
        listener = stack.enter_context(cluster.socket("worker-1", socket.AF_INET, socket.SOCK_STREAM))
        listener.bind((NODE_IP, 30080))
        listener.listen(0)
        accepted = stack.enter_context(Caller(cluster, "client", NODE_IP, 30080))
        await_entry(cluster, accepted.source, words="ASSURED")
        callers = [stack.enter_context(Caller(cluster, "client", NODE_IP, 30080)) for _ in range(3)]
        for caller in callers:
            await_entry(cluster, caller.source)
        assert sync(cluster, (WEB,), slices(cluster, "web-1", service="web", protocol="TCP")) == 3
        assert [caller.answered_by() for caller in callers] == ["web-1"] * 3
        assert f"sport={accepted.source} " in str(tracked(cluster, "-p", "tcp")), "an answered one is left alone"


@pytest.mark.proves("K2")
@pytest.mark.parametrize(("address", "port"), [(NODE_IP, 30080), (NODE_IPV6, 30080)])
def test_k2_a_connection_that_a_dead_endpoint_never_answers_is_made_with_another(
    cluster: Cluster, address: str, port: int
) -> None:
    gone = ("10.244.2.99", "fd00:244:2::99")
    dead = tuple(make_slice(ip, service="web", name=f"web-{ip}", protocol="TCP") for ip in gone)
    for ip in gone:  # silence on the other node, behind the entry that this one makes
        cluster.run("worker-2", ["ip", "route", "add", "blackhole", ip])
    try:
        sync(cluster, (WEB,), dead)
        with Caller(cluster, "client", address, port) as caller:
            await_entry(cluster, caller.source)
            assert sync(cluster, (WEB,), dead) == 0, "its endpoint is there, as far as anybody knows"
            assert sync(cluster, (WEB,), slices(cluster, "web-3", service="web", protocol="TCP")) == 1
            assert caller.answered_by() == "web-3"
    finally:
        for ip in gone:
            cluster.run("worker-2", ["ip", "route", "del", "blackhole", ip])


@pytest.mark.proves("K2")
def test_k2_of_connections_those_alone_go_that_nobody_has_answered(cluster: Cluster) -> None:
    """Of TCP and SCTP alike; what was under way when it was first seen is nobody's first packet either."""
    sctp = make_port(80, node_port=30080, protocol="SCTP", name="sctp")
    web = replace(WEB, ports=(make_port(80, node_port=30080, name="tcp"), sctp))
    to = f"-s 192.0.2.9 -d {NODE_IP} --dport 30080"
    stay = [
        f"-p tcp --state ESTABLISHED {to} --sport 1000 -u SEEN_REPLY",
        f"-p tcp --state ESTABLISHED {to} --sport 1001",
        f"-p tcp --state SYN_RECV {to} --sport 1002 -u SEEN_REPLY",
        f"-p tcp --state ESTABLISHED {to} --sport 1003 -u SEEN_REPLY --dst-nat 10.244.1.99:8080",
        f"-p tcp --state SYN_SENT -s 192.0.2.9 -d {NODE_IP} --dport 30081 --sport 1004",
        "-p tcp --state SYN_SENT -s 192.0.2.9 -d 172.30.1.99 --dport 30080 --sport 1005",
        f"-p sctp --orig-vtag 1 --reply-vtag 2 --state ESTABLISHED {to} --sport 1006 -u SEEN_REPLY",
        f"-p sctp --orig-vtag 1 --reply-vtag 2 --state COOKIE_ECHOED {to} --sport 1007 -u SEEN_REPLY",
    ]
    go = [
        f"-p tcp --state SYN_SENT {to} --sport 2000",
        f"-p tcp --state SYN_SENT {to} --sport 2001 --dst-nat 10.244.1.99:8080",
        f"-p sctp --orig-vtag 1 --reply-vtag 2 --state COOKIE_WAIT {to} --sport 2002",
        f"-p tcp --state SYN_SENT -s fd00::9 -d {NODE_IPV6} --dport 30080 --sport 2003",
    ]
    for entry in (*stay, *go):
        cluster.run("worker-1", ["conntrack", "-I", "--timeout", "600", *entry.split()])
    assert sync(cluster, (web,), slices(cluster, "web-1", service="web", protocol="TCP")) == len(go)
    left = {int(found[1]) for line in tracked(cluster) if (found := re.search(r"sport=(\d{4}) ", line))}
    assert left == set(range(1000, 1000 + len(stay)))


GUARDED = replace(
    DNS,
    type=ServiceType.LOAD_BALANCER,
    load_balancer_ips=(ip_address("192.0.2.53"), ip_address("fd00:5::53")),
)
OTHERS = (ip_network("198.51.100.0/24"), ip_network("fd00:9::/64"))


@pytest.mark.proves("K2", "F4", "X5")
@pytest.mark.parametrize(
    ("host", "address", "port", "ranges"),
    [
        pytest.param("client", NODE_IP, 30053, "node_port_source_ranges", id="nodePort"),
        pytest.param("client", NODE_IPV6, 30053, "node_port_source_ranges", id="nodePort-ipv6"),
        pytest.param("web-2", "192.0.2.53", 53, "load_balancer_source_ranges", id="load-balancer"),
        pytest.param("web-2", "fd00:5::53", 53, "load_balancer_source_ranges", id="load-balancer-ipv6"),
    ],
)
def test_k2_no_flow_outlives_its_right_to_connect(
    cluster: Cluster, host: str, address: str, port: int, ranges: str
) -> None:
    """Source ranges that are narrowed shut out whoever is under way as well, and nobody who may still connect."""
    pieces = slices(cluster, "web-1")
    mine = tuple(ip_network(cluster.address(host, family)) for family in (4, 6))

    def narrowed(*prefixes: IPNetwork) -> Service:
        return replace(GUARDED, **{ranges: prefixes})  # the field's name is a parameter

    sync(cluster, (GUARDED,), pieces)
    with Client(cluster, host, address, port) as client, Client(cluster, "web-2", CLUSTER_IP, 53) as inside:
        assert (client.ask(), inside.ask()) == ("web-1", "web-1")
        for allowed in ((*OTHERS, *mine), mine):
            assert sync(cluster, (narrowed(*allowed),), pieces) == 0
            assert client.ask() == "web-1"
        assert sync(cluster, (narrowed(*OTHERS),), pieces) == 1
        assert client.ask(0.5) == "nothing"
        assert sync(cluster, (narrowed(*OTHERS, *mine),), pieces) == 0
        assert (client.ask(), inside.ask()) == ("web-1", "web-1")


@pytest.mark.proves("K2")
@pytest.mark.parametrize(("address", "port"), [(NODE_IP, 30053), (NODE_IPV6, 30053)])
def test_k2_many_flows_at_once(cluster: Cluster, address: str, port: int) -> None:
    sync(cluster, (DNS,), slices(cluster, "web-1"))
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(cluster, "client", address, port)) for _ in range(200)]
        assert {client.ask() for client in clients} == {"web-1"}
        assert sync(cluster, (DNS,), slices(cluster, "web-3")) == 200
        assert {client.ask() for client in clients} == {"web-3"}


STALE = Frontends({(UDP, ip_address(NODE_IP).packed, 30053): frozenset()})


def test_a_flow_that_ended_by_itself_is_no_error(cluster: Cluster) -> None:
    sync(cluster, (DNS,), slices(cluster, "web-1"))
    with Client(cluster, "client", NODE_IP, 30053) as client:
        assert client.ask() == "web-1"
    with cluster.socket("worker-1", socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:  # NETLINK_NETFILTER
        netlink.settimeout(60)
        found = conntrack._find_stale(netlink, Family.IPV4, STALE)
        assert len(found) == 1
        cluster.run("worker-1", ["conntrack", "-F"])
        assert conntrack._delete(netlink, Family.IPV4, found) == 0


@pytest.mark.parametrize(
    ("serving", "says"),
    [
        ("{(17, bytes(4), 53): frozenset()}", "connection tracking needs CAP_NET_ADMIN"),
        ("{}", "0 deleted"),  # without a frontend, the kernel is not asked at all
    ],
)
def test_without_the_privilege_it_says_so(cluster: Cluster, serving: str, says: str) -> None:
    code = f"""
from nodeport_nft.flows import Frontends
from nodeport_nft.kernel.netlink.conntrack import delete_stale_flows
from nodeport_nft.errors import KernelError
from nodeport_nft.model import Family
try:
    print(delete_stale_flows({{Family.IPV4: Frontends({serving})}}), "deleted")
except KernelError as error:
    print(error)
"""
    argv = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", code]
    assert says in cluster.run("worker-1", argv).stdout


def without_descriptors() -> Callable[[], None]:
    """Let this process open no more; back."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def without_privilege() -> Callable[[], None]:
    """Let this process be nobody; back."""
    os.seteuid(65534)
    return lambda: os.seteuid(0)


@pytest.mark.parametrize(
    ("trouble", "says"),
    [(without_descriptors, "connection tracking answers Too many open files"), (without_privilege, "CAP_NET_ADMIN")],
)
def test_the_daemon_looks_again_for_what_a_failed_search_was_to_find(
    cluster: Cluster, trouble: Callable[[], Callable[[], None]], says: str
) -> None:
    sync(cluster, (DNS,), slices(cluster, "web-1"))

    async def clean() -> tuple[list[tuple[str, ...]], list[int]]:
        told: list[tuple[str, ...]] = []
        deleted: list[int] = []
        cleaner = FlowCleaner(lambda _, count, __: deleted.append(count), told.append)
        await asyncio.to_thread(int)  # its thread and the loop are there before the trouble
        cleaner.clean({Family.IPV4: STALE})
        end = trouble()
        running = asyncio.create_task(cleaner.run())
        while not told:
            await asyncio.sleep(0.01)
        end()
        while told[-1] or not any(deleted):
            await asyncio.sleep(0.01)
        running.cancel()
        return told, deleted

    with Client(cluster, "client", NODE_IP, 30053) as client:
        assert client.ask() == "web-1"
        assert tracked(cluster, "-p", "udp")
        told, deleted = cluster.call("worker-1", lambda: asyncio.run(clean()), timeout=60)
        assert not tracked(cluster, "-p", "udp")
    assert sum(deleted) == 1
    assert says in told[0][0]
    assert told[0][0].endswith("; it is tried again")
    assert told[-1] == ()


def test_a_kernel_without_the_module_is_named_with_its_remedy() -> None:
    """What nfnetlink answers where no subsystem has that number is EINVAL (net/netfilter/nfnetlink.c)."""
    words = conntrack._explain(OSError(errno.EINVAL, "Invalid argument"))
    assert words.endswith("modprobe nf_conntrack_netlink")
    assert "\n" not in words


MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: dns}
spec:
  type: NodePort
  selector: {app: dns}
  ports: [{port: 53, targetPort: 8080, nodePort: 30053, protocol: UDP}]
---
apiVersion: v1
kind: Pod
metadata: {name: dns, labels: {app: dns}}
status: {podIP: %s}
"""


def test_sync_says_how_many_flows_it_deleted(cluster: Cluster, tmp_path: Path) -> None:
    def run(pod: str) -> str:
        argv = [str(SCRIPT), "sync", "--once", "-f", "-", "--node-name", "worker-1", "--store", str(tmp_path / "db")]
        return cluster.run("worker-1", argv, text=MANIFEST % cluster.address(pod)).stderr

    assert "stale" not in run("web-1")
    with Client(cluster, "client", NODE_IP, 30053) as one, Client(cluster, "client", NODE_IP, 30053) as two:
        assert one.ask() == "web-1"
        assert run("web-3").endswith("1 stale UDP flow deleted\n")
        assert (one.ask(), two.ask()) == ("web-3", "web-3")
        assert run("web-2").endswith("2 stale UDP flows deleted\n")
        assert (one.ask(), two.ask()) == ("web-2", "web-2")
        assert "stale" not in run("web-2")
