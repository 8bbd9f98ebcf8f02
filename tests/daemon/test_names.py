"""Names for pods: the daemon's hosts files, read by the real dnsmasq, asked through kube-dns with real packets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Cluster
from nodeport_nft.hosts import MARKER
from nodeport_nft.kernel.host.hostsdir import write_names
from tests.daemon.dns import CLUSTER_DNS, CONTRIB, NODE_DNS, NXDOMAIN, asked, dnsmasq, names_directory
from tests.daemon.objects import Desired, endpoint_slice, service, slices
from tests.daemon.running import Daemon, wait_for

pytestmark = pytest.mark.proves("C9")

SECONDS = 60.0
POD = "web-1"  # on worker-1, where the daemon and dnsmasq are
DOMAIN = "svc.cluster.local"


@pytest.fixture
def names() -> Iterator[Path]:
    with names_directory() as path:
        yield path


@pytest.fixture
def server(cluster: Cluster, names: Path, tmp_path: Path) -> Iterator[None]:
    with dnsmasq(cluster, "worker-1", names, tmp_path):
        yield


def start(daemon: Daemon, names: Path) -> None:
    daemon.start("--dns-hosts-dir", str(names), "--cluster-dns", ",".join(CLUSTER_DNS), seconds=SECONDS)


def told(cluster: Cluster, name: str, answer: list[str], kind: str = "A") -> None:
    """The pod is told this in the end."""
    last: list[list[str]] = []

    def is_told() -> bool:
        last[:] = [asked(cluster, POD, f"{name}.{DOMAIN}", kind)]
        return last == [answer]

    wait_for(is_told, f"{kind} of {name}: {answer}", SECONDS)


def in_namespace(namespace: str, *documents: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for document in documents:
        yield {**document, "metadata": {**document["metadata"], "namespace": namespace}}


def headless(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack", **spec},
    }


def pod(name: str, *ips: str, ready: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "db"}},
        "spec": {"nodeName": "worker-1"},
        "status": {
            "podIPs": [{"ip": ip} for ip in ips],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


@pytest.mark.usefixtures("server")
def test_names_of_services_come_change_and_go(
    cluster: Cluster, daemon: Daemon, desired: Desired, names: Path
) -> None:
    desired.apply(service("web", 50), *in_namespace("shop", service("web", 51), service("api", 52)))
    start(daemon, names)
    for tcp in (False, True):
        for by in CLUSTER_DNS:
            assert asked(cluster, POD, f"web.default.{DOMAIN}", server=by, tcp=tcp) == ["10.96.0.50"]
            assert asked(cluster, POD, f"web.default.{DOMAIN}", "AAAA", server=by, tcp=tcp) == ["fd00:10:96::32"]
            assert asked(cluster, POD, f"WEB.Shop.{DOMAIN}", server=by, tcp=tcp) == ["10.96.0.51"]
    assert asked(cluster, "worker-1", f"web.default.{DOMAIN}") == ["10.96.0.50"], "from the node itself"
    assert asked(cluster, POD, f"kube-dns.kube-system.{DOMAIN}") == [CLUSTER_DNS[0]]
    assert asked(cluster, POD, "50.0.96.10.in-addr.arpa", "PTR") == [f"web.default.{DOMAIN}"]
    assert asked(cluster, POD, f"nobody.default.{DOMAIN}") == NXDOMAIN
    assert sorted(path.name for path in names.iterdir()) == ["default", "kube-system", "shop"]
    assert {path.stat().st_mode & 0o777 for path in names.iterdir()} == {0o644}

    before = (names / "shop").stat().st_ino
    desired.delete("Service", "web")
    told(cluster, "web.default", NXDOMAIN)
    desired.apply(service("web", 53), service("new", 54))
    told(cluster, "web.default", ["10.96.0.53"])
    told(cluster, "new.default", ["10.96.0.54"])
    told(cluster, "new.default", ["fd00:10:96::36"], "AAAA")
    assert (names / "shop").stat().st_ino == before, "the file of a namespace in which nothing has changed"
    for name in ("web", "api"):
        desired.delete("Service", name, "shop")
    told(cluster, "web.shop", NXDOMAIN)
    told(cluster, "api.shop", NXDOMAIN)
    assert not (names / "shop").exists()
    desired.apply(*in_namespace("shop", service("web", 55)))
    told(cluster, "web.shop", ["10.96.0.55"])


@pytest.mark.usefixtures("server")
def test_the_name_of_a_headless_service_is_its_ready_endpoints(
    cluster: Cluster, daemon: Daemon, desired: Desired, names: Path
) -> None:
    selecting = {"selector": {"app": "db"}, "ports": [{"port": 5432}]}
    desired.apply(
        headless("db", **selecting),
        headless("all", **selecting, publishNotReadyAddresses=True),
        headless("bare"),
        pod("db-1", "10.244.1.21", "fd00:244:1::21"),
        pod("db-2", "10.244.1.22", ready=False),
        endpoint_slice("bare", "bare-4", 4, 80, [{"addresses": ["10.244.2.9"]}]),
    )
    start(daemon, names)
    assert asked(cluster, POD, f"db.default.{DOMAIN}") == ["10.244.1.21"]
    assert asked(cluster, POD, f"db.default.{DOMAIN}", "AAAA") == ["fd00:244:1::21"]
    assert asked(cluster, POD, f"all.default.{DOMAIN}") == ["10.244.1.21", "10.244.1.22"]
    assert asked(cluster, POD, f"bare.default.{DOMAIN}") == ["10.244.2.9"]
    desired.apply(pod("db-2", "10.244.1.22"))
    told(cluster, "db.default", ["10.244.1.21", "10.244.1.22"])
    desired.delete("Pod", "db-1")
    told(cluster, "db.default", ["10.244.1.22"])
    told(cluster, "all.default", ["10.244.1.22"])
    desired.delete("Pod", "db-2")
    told(cluster, "db.default", NXDOMAIN)
    desired.apply(endpoint_slice("bare", "bare-4", 4, 80, []))
    told(cluster, "bare.default", NXDOMAIN)


RESOLVE = """
import json, socket
for name, kind in (("web", socket.SOCK_STREAM), ("web.default", socket.SOCK_DGRAM)):
    for family in (socket.AF_INET, socket.AF_INET6):
        (*_, address), *_ = socket.getaddrinfo(name, 80, family, kind)
        with socket.socket(family, kind) as sock:
            sock.settimeout(60)
            sock.connect(address)
            sock.send(b"?")
            print(name, address[0], json.loads(sock.recv(1000))["name"])
"""


def test_a_pod_needs_nameserver_and_search_alone(
    cluster: Cluster, daemon: Daemon, desired: Desired, names: Path, tmp_path: Path
) -> None:
    """With the resolv.conf of contrib/dns and the C library: the short name, and a connection to its Service."""
    ports = [{"name": p.lower(), "port": 80, "protocol": p, "targetPort": 8080} for p in ("TCP", "UDP")]
    pieces = slices(cluster, "web", [("web-1", 8080), ("web-2", 8080)])
    for piece in pieces:
        piece["ports"] = [{"name": each["name"], "port": 8080, "protocol": each["protocol"]} for each in ports]
    desired.apply(service("web", 60, ports=ports), *(piece for piece in pieces if piece["endpoints"]))
    start(daemon, names)
    with dnsmasq(cluster, "worker-1", names, tmp_path):  # after the daemon, which has made the directory
        done = cluster.run(POD, [sys.executable, "-c", RESOLVE], resolv_conf=CONTRIB / "resolv.conf", timeout=300)
    found = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    reached = ["web 10.96.0.60", "web fd00:10:96::3c", "web.default 10.96.0.60", "web.default fd00:10:96::3c"]
    assert [where for where, _ in found] == reached
    assert {who for _, who in found} <= {"web-1", "web-2"}


@pytest.mark.usefixtures("server")
def test_the_servers_addresses_are_no_source_of_what_is_masqueraded(cluster: Cluster) -> None:
    """Else the kernel would take the first one that it finds on lo, on links that have no address, such as pods'."""
    said = json.loads(cluster.run("worker-1", ["ip", "-json", "address", "show", "dev", "lo"]).stdout)
    found = {one["local"]: one for one in said[0]["addr_info"]}
    assert found[NODE_DNS[0]]["scope"] == "host"
    assert found[NODE_DNS[1]]["preferred_life_time"] == 0


@pytest.mark.usefixtures("server")
def test_a_daemon_that_was_away_finds_out_what_has_changed(
    cluster: Cluster, daemon: Daemon, desired: Desired, names: Path
) -> None:
    desired.apply(
        service("web", 50), *in_namespace("shop", service("api", 51)), *in_namespace("old", service("x", 52))
    )
    start(daemon, names)
    (names / "own").write_text("192.0.2.1 printer.example\n")  # an operator's own names
    untouched = (names / "default").stat().st_ino
    daemon.stop()
    assert asked(cluster, POD, f"api.shop.{DOMAIN}") == ["10.96.0.51"], "it is not in the way of answers"
    desired.delete("Service", "x", "old")
    desired.delete("Service", "api", "shop")
    desired.apply(*in_namespace("shop", service("api", 53)))
    (names / "kube-system").write_text(f"{MARKER}\n192.0.2.66 kube-dns.kube-system.{DOMAIN}\n")
    start(daemon, names)
    told(cluster, "api.shop", ["10.96.0.53"])
    told(cluster, "x.old", NXDOMAIN)
    told(cluster, "kube-dns.kube-system", [CLUSTER_DNS[0]])
    assert sorted(path.name for path in names.iterdir()) == ["default", "kube-system", "own", "shop"]
    assert (names / "default").stat().st_ino == untouched
    assert asked(cluster, POD, "printer.example") == ["192.0.2.1"]

    daemon.stop()
    done = daemon.cli("cleanup", "--node-name", daemon.node, "--state-dir", str(daemon.directory))
    assert f"hosts files in {names} removed" in done.stdout + done.stderr
    assert [path.name for path in names.iterdir()] == ["own"], "not ours"
    assert asked(cluster, "worker-1", f"web.default.{DOMAIN}", server=NODE_DNS[0]) == NXDOMAIN


def _open_to_all(names: Path) -> Callable[[], object]:
    names.chmod(0o777)
    return partial(names.chmod, 0o755)


def _of_another(names: Path) -> Callable[[], object]:
    os.chown(names, 12345, 12345)
    return partial(os.chown, names, 0, 0)


def _no_directory(names: Path) -> Callable[[], object]:
    shutil.rmtree(names)
    names.write_text("")
    return names.unlink


def _a_file_of_anothers(names: Path) -> Callable[[], object]:
    (names / "default").unlink()
    (names / "default").write_text("192.0.2.1 precious\n")
    return (names / "default").unlink


def _a_link(names: Path) -> Callable[[], object]:
    (names / "default").unlink()
    (names / "default").symlink_to("/etc/passwd")
    return (names / "default").unlink


def _a_directory(names: Path) -> Callable[[], object]:
    (names / "default").unlink()
    (names / "default").mkdir()
    return (names / "default").rmdir


def test_a_directory_that_is_no_good_is_told_and_packets_go_on(
    cluster: Cluster, daemon: Daemon, desired: Desired, names: Path
) -> None:
    """From the start on, and later; once it is mended, it is as it should be. A reload looks at once."""
    names.mkdir()
    mend = _open_to_all(names)
    desired.apply(service("web", 50), *slices(cluster, "web", [("web-1", 8080)]))
    daemon.start("--dns-hosts-dir", str(names), seconds=SECONDS)
    spoils = (None, _of_another, _no_directory, _a_file_of_anothers, _a_link, _a_directory)
    for number, spoil in enumerate(spoils, 60):
        mend = spoil(names) if spoil else mend
        desired.apply(service("other", number), *slices(cluster, "other", [("web-2", 8080)]))
        daemon.settle()
        wait_for(lambda: _about(names, daemon), f"a problem: {spoil}", SECONDS)
        assert daemon.status().error == ""
        theirs = (names / "default").read_text() if (names / "default").is_file() else ""
        assert f"10.96.0.{number} " not in theirs, f"written in spite of it: {spoil}"
        if spoil is _a_file_of_anothers:
            desired.apply(*in_namespace("shop", service("api", 50 + number)))
            wait_for(lambda: (names / "shop").exists(), "other names are written", SECONDS)
            daemon.settle()
            assert _about(names, daemon), "it is told for as long as it is so, whatever else is written"
        mend()
        daemon.send(signal.SIGHUP)
        wait_for(lambda: not _about(names, daemon), f"its end: {spoil}", SECONDS)
        text = (names / "default").read_text()
        assert text.count(f".default.{DOMAIN}\n") == 4
        assert f"10.96.0.{number} other.default.{DOMAIN}\n" in text
        desired.delete("Service", "other")


def _about(names: Path, daemon: Daemon) -> list[str]:
    return [problem for problem in daemon.status().problems if str(names) in problem]


def test_a_directory_is_made_where_there_is_none_and_not_its_parents(
    daemon: Daemon, desired: Desired, names: Path
) -> None:
    desired.apply(service("web", 50))
    start(daemon, names / "deeper")
    problem = f"dnsHostsDir {names / 'deeper'}: there is no {names}; make it, or name another directory"
    wait_for(lambda: problem in daemon.status().problems, problem, SECONDS)
    names.mkdir(mode=0o700)
    daemon.send(signal.SIGHUP)
    wait_for(lambda: (names / "deeper" / "default").exists(), "the names", SECONDS)
    assert (names / "deeper").stat().st_mode & 0o777 == 0o755, "dnsmasq is another user"
    closed = f"dnsHostsDir {names / 'deeper'}: dnsmasq, which is another user, cannot read it; chmod o+x {names}"
    wait_for(lambda: closed in daemon.status().problems, closed, SECONDS)


@pytest.mark.usefixtures("server")
def test_ten_thousand_names_are_replaced(cluster: Cluster, names: Path) -> None:
    def text(net: int) -> str:
        lines = (f"10.{net}.{i >> 8}.{i & 255} s{i}.default.{DOMAIN}" for i in range(10_000))
        return "\n".join([MARKER, *lines, ""])

    for net in (20, 30):
        assert write_names(names, {"default": text(net)}) == (1, {})
        for i in (0, 9_999):
            wait_for(partial(_is, cluster, f"s{i}", f"10.{net}.{i >> 8}.{i & 255}"), f"the new s{i}", SECONDS)


def _is(cluster: Cluster, name: str, address: str) -> bool:
    return asked(cluster, "worker-1", f"{name}.default.{DOMAIN}", server=NODE_DNS[0]) == [address]
