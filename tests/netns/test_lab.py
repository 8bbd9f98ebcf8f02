"""The lab itself: what its probes say must be true before they can say anything about a ruleset.

Each kind of answer is brought about by hand: an open port, a closed one, rules that drop, reject, translate.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.namespaces import LabError
from lab.nginx import start_nginx
from lab.outcome import Kind
from lab.probe import connect, connect_many
from lab.sctp import Init, crc32c, parse_init, sctp_probe

FAMILIES = (4, 6)
PROTOCOLS = ("TCP", "UDP", "SCTP")
NFT_FAMILY = {4: "ip", 6: "ip6"}
VIRTUAL = {4: "10.96.0.10", 6: "fd00:10:96::10"}


def dnat_table(cluster: Cluster, family: int, hook: str, pod: str, *, masquerade: bool = False) -> str:
    """A table that sends port 30080 of any address to ``pod``'s 8080, for every protocol."""
    nft, address = NFT_FAMILY[family], cluster.address(pod, family)
    target = f"{address}:8080" if family == 4 else f"[{address}]:8080"
    postrouting = "chain post { type nat hook postrouting priority srcnat; masquerade; }"
    return f"""
        table {nft} lab {{
            chain nat {{
                type nat hook {hook} priority -100;
                meta l4proto {{ tcp, udp, sctp }} th dport 30080 dnat to {target}
            }}
            {postrouting if masquerade else ""}
        }}"""


def filter_table(hook: str, verdict: str) -> str:
    """A table that gives ``verdict`` to port 30080 of both families."""
    return f"""
        table inet lab {{
            chain filter {{
                type filter hook {hook} priority filter;
                meta l4proto {{ tcp, udp, sctp }} th dport 30080 {verdict}
            }}
        }}"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("source", ["client", "tester", "web-1", "worker-1", "worker-2"])
def test_everybody_reaches_a_pod(cluster: Cluster, source: str, family: int, protocol: str) -> None:
    outcome = connect(cluster, source, (cluster.address("web-2", family), 8080), protocol)
    assert outcome.kind is Kind.REACHED
    assert outcome.name == "web-2"
    assert outcome.source == cluster.address(source, family)
    assert (outcome.to, outcome.to_port) == (cluster.address("web-2", family), 8080)
    assert outcome.checksum_valid is (True if protocol == "SCTP" else None)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("protocol", "details"), [("TCP", ("reset", "reset")), ("UDP", ("icmp 3/3", "icmp 1/4"))])
def test_a_closed_port_refuses(cluster: Cluster, family: int, protocol: str, details: tuple[str, str]) -> None:
    outcomes = connect_many(cluster, "client", (cluster.address("web-1", family), 81), protocol, 20)
    assert {(outcome.kind, outcome.detail) for outcome in outcomes} == {
        (Kind.REFUSED, details[FAMILIES.index(family)])
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_that_nobody_routes_is_unreachable(cluster: Cluster, family: int, protocol: str) -> None:
    outcome = connect(cluster, "worker-1", (VIRTUAL[family], 80), protocol)
    assert (outcome.kind, outcome.detail) == (
        Kind.UNREACHABLE,
        {4: "icmp 3/0", 6: "icmp 1/0"}[family],
    )


@pytest.mark.parametrize(
    ("source", "hook"), [("client", "prerouting"), ("client", "forward"), ("worker-1", "output")]
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_dropped_packet_is_silence(cluster: Cluster, family: int, protocol: str, source: str, hook: str) -> None:
    cluster.nft("worker-1", filter_table(hook, "drop"))
    destination = (cluster.address("web-1", family), 30080)
    assert connect(cluster, source, destination, protocol, timeout=0.2).kind is Kind.SILENT


@pytest.mark.parametrize(
    ("source", "hook"), [("client", "prerouting"), ("client", "forward"), ("worker-1", "output")]
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_reject_is_refusal(cluster: Cluster, family: int, protocol: str, source: str, hook: str) -> None:
    cluster.nft("worker-1", filter_table(hook, "reject with icmpx port-unreachable"))
    outcome = connect(cluster, source, (cluster.address("web-1", family), 30080), protocol)
    assert (outcome.kind, outcome.detail) == (Kind.REFUSED, {4: "icmp 3/3", 6: "icmp 1/4"}[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_other_icmp_errors_are_not_refusals(cluster: Cluster, family: int) -> None:
    cluster.nft("worker-1", filter_table("forward", "reject with icmpx admin-prohibited"))
    outcomes = {
        connect(cluster, "client", (cluster.address("web-1", family), 30080), protocol) for protocol in PROTOCOLS
    }
    assert {(outcome.kind, outcome.detail) for outcome in outcomes} == {
        (Kind.UNREACHABLE, {4: "icmp 3/13", 6: "icmp 1/1"}[family])
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pod_without_sctp_is_not_a_refusal(cluster: Cluster, family: int) -> None:
    outcome = sctp_probe(cluster, "client", (cluster.address("web-1", family), 8080), receivers=["web-2"])
    assert outcome.kind is Kind.UNREACHABLE
    assert outcome.detail == {4: "icmp 3/2", 6: "icmp 4/1"}[family]  # protocol unreachable, unknown next header


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("source", "hook", "pod", "masquerade", "seen"),
    [
        ("client", "prerouting", "web-1", False, "client"),
        ("client", "prerouting", "web-3", True, "worker-1"),  # back the way it came, to be translated back
        ("web-1", "prerouting", "web-2", False, "web-1"),
        ("web-1", "prerouting", "web-1", True, "worker-1"),  # a hairpin
        ("worker-1", "output", "web-2", False, "worker-1"),
    ],
)
def test_dnat_on_a_node(
    cluster: Cluster,
    family: int,
    protocol: str,
    source: str,
    hook: str,
    pod: str,
    masquerade: bool,
    seen: str,
) -> None:
    cluster.nft("worker-1", dnat_table(cluster, family, hook, pod, masquerade=masquerade))
    destination = cluster.address("worker-1", family)
    if source == "worker-1":
        destination = ip_address(VIRTUAL[family])
    outcome = connect(cluster, source, (destination, 30080), protocol)
    assert (outcome.kind, outcome.name) == (Kind.REACHED, pod)
    assert outcome.source == cluster.address(seen, family)
    assert (outcome.to, outcome.to_port) == (cluster.address(pod, family), 8080)
    assert outcome.checksum_valid is (True if protocol == "SCTP" else None)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_thousands_of_connections(cluster: Cluster, protocol: str) -> None:
    outcomes = connect_many(cluster, "client", (cluster.address("web-1"), 8080), protocol, 3000)
    assert len(outcomes) == 3000
    assert {(outcome.kind, outcome.name) for outcome in outcomes} == {(Kind.REACHED, "web-1")}


def test_a_responder_keeps_connections_and_echoes_lines(cluster: Cluster) -> None:
    connections = [cluster.socket("client", socket.AF_INET, socket.SOCK_STREAM) for _ in range(500)]
    for connection in connections:
        connection.settimeout(60)
        connection.connect((str(cluster.address("web-1")), 8080))
        assert connection.recv(1000).endswith(b"\n")
    for number, connection in enumerate(connections):
        connection.send(f"line {number}\nand a half".encode())
    for number, connection in enumerate(connections):
        assert connection.recv(1000) == f"web-1 line {number}\n".encode()
        connection.close()


def test_an_open_port_without_a_word_is_not_reached(cluster: Cluster) -> None:
    with cluster.socket("tester", socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("", 7070))
        listener.listen()
        outcome = connect(cluster, "client", (cluster.address("tester"), 7070), timeout=0.2)
    assert (outcome.kind, outcome.detail) == (Kind.SILENT, "connected")


def test_the_router_knows_no_service_addresses(cluster: Cluster) -> None:
    routes = cluster.run("router", ["ip", "route"]).stdout
    assert "10.244.1.0/24 via 172.30.1.2" in routes
    assert "default" not in routes


def test_reset_leaves_no_ruleset_and_no_tracked_flow(cluster: Cluster) -> None:
    cluster.nft("worker-1", dnat_table(cluster, 4, "prerouting", "web-1"))
    assert connect(cluster, "client", (cluster.address("worker-1"), 30080), "UDP").kind is Kind.REACHED
    assert "dnat to" in cluster.ruleset("worker-1")
    assert "dport=30080" in cluster.run("worker-1", ["conntrack", "-L"]).stdout
    cluster.reset()
    assert cluster.ruleset("worker-1") == ""
    assert "dport=30080" not in cluster.run("worker-1", ["conntrack", "-L"]).stdout


@pytest.mark.usefixtures("private_namespaces")
def test_pods_come_at_the_index_asked_for() -> None:
    with Cluster(nodes=("one", "two", "three")) as cluster:
        pod = cluster.add_pod("a", "three", index=77)
        assert (str(pod.ipv4), str(pod.ipv6)) == ("10.244.3.77", "fd00:244:3::4d")
        assert cluster.name_of(ip_address("10.244.3.77")) == "a"
        cluster.start_responder("a", [5000], name="somebody")
        assert connect(cluster, "client", (pod.ipv4, 5000)).name == "somebody"
        with pytest.raises(LabError, match=r"10\.244\.3\.77 is taken"):
            cluster.add_pod("b", "three", index=77)


def test_nginx_welcomes_and_says_who_it_is(cluster: Cluster, tmp_path: Path) -> None:
    process = start_nginx(cluster, "web-1", tmp_path / "web-1", port=8000)
    with cluster.socket("client", socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect((str(cluster.address("web-1")), 8000))
        connection.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = connection.makefile("rb").read()
    cluster.stop(process)
    assert b"Welcome to nginx!" in answer
    assert b"Served-By: web-1" in answer


def test_a_hosts_file_is_seen_by_one_command_alone(cluster: Cluster, tmp_path: Path) -> None:
    names = tmp_path / "hosts"
    names.write_text("10.96.0.10 my-ser my-ser.default\n")
    lookup = ["getent", "-s", "hosts:files", "hosts", "my-ser"]  # without DNS
    assert cluster.run("tester", lookup, hosts_file=names).stdout.split()[0] == "10.96.0.10"
    assert cluster.run("tester", lookup, check=False).returncode != 0


def test_a_function_runs_in_a_child_in_the_namespace(cluster: Cluster) -> None:
    def inside() -> tuple[int, list[str]]:
        return os.getpid(), sorted(name for _, name in socket.if_nameindex())

    process_id, interfaces = cluster.call("web-1", inside)
    assert process_id != os.getpid()
    assert interfaces == ["eth0", "lo"]


def test_a_child_reports_its_exception_and_keeps_its_deadline(cluster: Cluster) -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    def hang() -> None:
        signal.pause()

    with pytest.raises(ValueError, match="no such thing"):
        cluster.call("web-1", fail)
    with pytest.raises(LabError, match=r"did not finish within 0\.1 s"):
        cluster.call("web-1", hang, timeout=0.1)
    with pytest.raises(LabError, match="without an answer"):
        cluster.call("web-1", lambda: os._exit(3))


def test_failures_say_where_and_why(cluster: Cluster) -> None:
    with pytest.raises(LabError, match=r"worker-1: nft -f -: exit 1: .*syntax error"):
        cluster.nft("worker-1", "table of contents")
    with pytest.raises(LabError, match=r"client: sleep 60: not done within 0\.1 s"):
        cluster.run("client", ["sleep", "60"], timeout=0.1)
    with pytest.raises(LabError, match="no host 'nobody' in the lab; there are router, client"):
        cluster.run("nobody", ["true"])


@pytest.mark.usefixtures("private_namespaces")
def test_a_killed_program_takes_its_cluster_along() -> None:
    """Neither processes nor names outlive a program that had no chance to clean up."""
    program = """
import os, pathlib, signal, time
from lab.cluster import Cluster
cluster = Cluster()
child = cluster.popen("client", ["sleep", "600"])
# Until it runs, it has not asked the kernel to end it with its parent.
while pathlib.Path(f"/proc/{child.pid}/comm").read_text() != "sleep\\n":
    time.sleep(0.01)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == -9
    try:
        orphan = os.pidfd_open(int(ended.stdout))
    except ProcessLookupError:
        return  # gone already
    has_ended, _, _ = select.select([orphan], [], [], 60)
    os.close(orphan)
    assert has_ended, "the program in the namespace is still alive"


def test_without_the_privilege_one_line_says_what_is_missing() -> None:
    program = "import lab.namespaces as n\ntry: n.enter_private_namespaces()\nexcept n.LabError as e: print(e)"
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    root = Path(__file__).parents[2]
    output = subprocess.run(
        [*powerless, sys.executable, "-c", program],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert output == "network namespaces are refused: CAP_SYS_ADMIN is missing; run as root\n"


def test_crc32c_against_the_published_vectors() -> None:
    # RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and incrementing.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_a_damaged_init_is_noticed() -> None:
    init = Init(source_port=40000, to_port=80, tag=7)
    packet = init.packed()
    assert parse_init(packet) == init
    damaged = parse_init(packet[:2] + b"\x00\x51" + packet[4:])
    assert damaged == Init(40000, 81, 7, checksum_valid=False)
