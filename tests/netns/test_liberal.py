"""What connection tracking takes for invalid is not translated, unless it is liberal (K6): seen by who gets it."""

from __future__ import annotations

import select
import socket
import struct
from pathlib import Path

import pytest

from lab.cluster import Cluster
from nodeport_nft.kernel.host.sysctl import find_advised
from nodeport_nft.kernel.nft import Nft
from nodeport_nft.model import Family, Snapshot
from nodeport_nft.reconcile import compile_snapshot, read_tables
from tests.builders import make_port, make_service, make_slice
from tests.cli.program import SCRIPT
from tests.netns.kernel import facts

LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
CLUSTER_IP = "10.96.0.10"
WEB = make_service("web", make_port(80), ips=(CLUSTER_IP,))
MARK = b"out of the window"

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
"""


@pytest.fixture
def strict(cluster: Cluster) -> Cluster:
    """The lab as a fresh host is: with connection tracking, and not liberal."""
    cluster.nft("worker-1", "table inet tracking { chain c { type filter hook input priority 0; ct state new; }; }")
    cluster.sysctl("worker-1", {LIBERAL: "0"})
    return cluster


def value(cluster: Cluster, host: str = "worker-1") -> str:
    return cluster.run(host, ["sysctl", "-n", LIBERAL]).stdout.strip()


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(source: tuple[str, int], target: tuple[str, int], seq: int, ack: int) -> bytes:
    """A TCP segment with data and a correct checksum, to be sent on a raw socket of its sender (RFC 9293)."""
    ends = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    head = struct.pack("!HHIIBBHHH", source[1], target[1], seq, ack, 5 << 4, 0x18, 64240, 0, 0)
    pseudo = ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(head) + len(MARK))
    return head[:16] + struct.pack("!H", checksum(pseudo + head + MARK)) + head[18:] + MARK


def received(raw: socket.socket, wanted: bytes, seconds: float = 30.0) -> tuple[str, bytes]:
    """The first packet with these bytes in it: whom it comes from, and its TCP part."""
    while select.select([raw], [], [], seconds)[0]:
        packet = raw.recv(1 << 16)
        if wanted in packet:
            return socket.inet_ntoa(packet[12:16]), packet[(packet[0] & 15) * 4 :]
    raise AssertionError(f"not within {seconds:g} s: {wanted!r}")


@pytest.mark.proves("K6")
@pytest.mark.parametrize("liberal", ["0", "1"])
def test_a_segment_outside_the_window_is_translated_where_tracking_is_liberal(strict: Cluster, liberal: str) -> None:
    cluster = strict
    pod, client = str(cluster.address("web-1")), str(cluster.address("web-2"))
    known = facts(cluster)

    def programme() -> None:
        nft = Nft()
        snapshot = Snapshot((WEB,), (make_slice(pod, service="web"),))
        nft.apply(compile_snapshot(snapshot, known, read_tables(nft, known)).tables.first_transaction())

    cluster.call("worker-1", programme)
    cluster.sysctl("worker-1", {LIBERAL: liberal})
    with (
        cluster.socket("web-2", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as seen,
        cluster.socket("web-1", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as forger,
        cluster.socket("web-2", socket.AF_INET, socket.SOCK_STREAM) as sock,
    ):
        sock.settimeout(30)
        sock.connect((CLUSTER_IP, 80))
        port = sock.getsockname()[1]
        source, greeting = received(seen, b'"web-1"')
        assert source == CLUSTER_IP, "the connection itself is translated"
        seq, ack = struct.unpack("!II", greeting[4:12])
        far = (seq + (1 << 30)) % (1 << 32)
        forger.sendto(segment((pod, 8080), (client, port), far, ack), (client, 0))
        source, _ = received(seen, MARK)
        assert source == (CLUSTER_IP if liberal == "1" else pod)


@pytest.mark.proves("K6")
def test_it_is_advised_where_there_are_services_and_belongs_to_its_namespace(strict: Cluster) -> None:
    def advised(host: str, families: frozenset[Family] = frozenset(Family)) -> list[str]:
        return strict.call(host, lambda: [str(found) for found in find_advised(families)])

    (told,) = advised("worker-1")
    assert f"; sysctl -w {LIBERAL}=1, or run sync with --set-sysctls" in told
    assert advised("worker-1", frozenset()) == [], "without Services nothing is to be translated"
    strict.sysctl("worker-1", {LIBERAL: "1"})
    strict.sysctl("worker-2", {LIBERAL: "0"})
    assert (advised("worker-1"), len(advised("worker-2"))) == ([], 1)


@pytest.mark.proves("K5", "K6")
def test_sync_once_sets_it_when_asked_and_cleanup_takes_it_back(strict: Cluster, tmp_path: Path) -> None:
    def run(*words: str) -> tuple[str, str]:
        argv = [str(SCRIPT), *words, "--state-dir", str(tmp_path), "--store", str(tmp_path / "db")]
        done = strict.run("worker-1", [*argv, "--node-name", "worker-1"], text=MANIFEST, timeout=60)
        return done.stdout, done.stderr

    assert LIBERAL not in run("sync", "--once", "-f", "-")[1], "a script is not told"
    assert value(strict) == "0"
    assert f"sysctl {LIBERAL} set to 1" in run("sync", "--once", "-f", "-", "--set-sysctls")[1]
    assert value(strict) == "1"
    assert LIBERAL not in run("sync", "--once", "-f", "-", "--set-sysctls")[1]
    assert f"sysctl {LIBERAL} set back to 0" in run("cleanup")[0]
    assert value(strict) == "0"


@pytest.mark.proves("K6")
def test_a_person_is_advised_once_when_the_tables_are_made(strict: Cluster, tmp_path: Path) -> None:
    def said() -> str:
        """What ``sync --once`` says on a terminal, which `script` gives it."""
        argv = f"{SCRIPT} sync --once -f {tmp_path}/web.yaml --state-dir {tmp_path} --store {tmp_path}/db"
        words = ["script", "--quiet", "--return", "--command", f"{argv} --node-name worker-1", "/dev/null"]
        return strict.run("worker-1", words, timeout=60).stdout

    (tmp_path / "web.yaml").write_text(MANIFEST)
    assert f"advice: {LIBERAL} is not 1" in said()
    assert LIBERAL not in said()
