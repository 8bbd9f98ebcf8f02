"""What is wrong never takes away what works: damaged and lost stores, half-saved and harmful configurations."""

from __future__ import annotations

import select
import socket
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.daemon.objects import Desired, service, slices
from tests.daemon.running import SECONDS, Daemon, wait_for

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: NodePort, ports: [{{port: 80, nodePort: {port}}}]}}
"""


@pytest.mark.proves("K4")
def test_a_store_that_cannot_be_read_at_the_start_is_not_an_empty_one(
    cluster: Cluster, desired: Desired, daemon: Daemon
) -> None:
    desired.apply(*(service(f"web-{number}", number) for number in range(10, 70)))
    daemon.start()
    daemon.stop()
    before = cluster.ruleset("worker-1")
    assert "default/web-69" in before
    desired.close()
    damaged = bytearray(desired.path.read_bytes())
    page = damaged.index(b"web-40")
    damaged[page - page % 4096 : page - page % 4096 + 200] = b"\xff" * 200
    desired.path.write_bytes(damaged)
    daemon.spawn()
    assert daemon.wait() == 1
    assert cluster.ruleset("worker-1") == before


def test_a_store_that_is_lost_is_written_anew_from_the_manifests(
    cluster: Cluster, desired: Desired, daemon: Daemon, tmp_path: Path
) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for number, name in enumerate(("a", "b", "c")):
        (manifests / f"{name}.yaml").write_text(MANIFEST.format(name=name, port=30010 + number))
    daemon.start("-f", str(manifests))
    for file in desired.path.parent.glob("store.db*"):
        file.unlink()
    (manifests / "d.yaml").write_text(MANIFEST.format(name="d", port=30013))

    def served() -> list[str]:
        text = cluster.run("worker-1", ["nft", "list", "map", "ip", "nodeport-nft", "node-ports"]).stdout
        return [name for name in "abcd" if f"default/{name}" in text]

    wait_for(lambda: served() == ["a", "b", "c", "d"], "all four services")
    wait_for(lambda: not [p for p in daemon.status().problems if "store" in p], "a store without problems")


@pytest.mark.proves("X2")
def test_a_configuration_that_an_editor_is_saving_is_not_an_empty_one(
    desired: Desired, daemon: Daemon, tmp_path: Path
) -> None:
    desired.apply(service("web", 10))
    config = tmp_path / "config.yaml"
    config.write_text("masqueradeBit: 15\n")
    daemon.start("--config", str(config))
    config.rename(tmp_path / "config.yaml~")
    wait_for(lambda: [p for p in daemon.status().problems if str(config) in p], "a problem about the file")
    with config.open("w") as file:
        daemon.cli("status")  # time enough to read it while it is empty
        file.write("masqueradeBit: 15\nminSyncPeriod: 10ms\n")
    wait_for(lambda: not [p for p in daemon.status().problems if str(config) in p], "the file to be read")
    assert not daemon.events("table replaced")
    assert len(daemon.events("sync")) == 1, "nothing in it concerns the tables"


@pytest.mark.proves("F7")
def test_a_configuration_that_would_cut_the_node_off_is_refused_while_running(
    cluster: Cluster, desired: Desired, daemon: Daemon, tmp_path: Path
) -> None:
    desired.apply(service("web", 10))
    config = tmp_path / "config.yaml"
    config.write_text("minSyncPeriod: 10ms\n")
    daemon.start("--config", str(config))
    before = daemon.held()
    config.write_text("serviceCIDRs: [172.30.0.0/16]\n")
    wait_for(lambda: [p for p in daemon.status().problems if "172.30.0.0/16" in p], "a problem that names the CIDR")
    assert daemon.held() == before
    assert str(cluster.address("worker-1")) in " ".join(daemon.status().problems)
    config.write_text("minSyncPeriod: 20ms\n")
    wait_for(lambda: not [p for p in daemon.status().problems if "172.30.0.0/16" in p], "the problem gone", SECONDS)


@pytest.mark.proves("K6")
def test_a_firewall_in_the_way_is_told_while_it_is_there(cluster: Cluster, desired: Desired, daemon: Daemon) -> None:
    """Somebody makes a forward chain that drops, then lets Services through."""
    desired.apply(service("web", 10))
    daemon.start()

    def told() -> list[str]:
        return [problem for problem in daemon.status().problems if "chain inet somebody forward" in problem]

    assert not told()
    chain = "type filter hook forward priority filter; policy drop;"
    cluster.nft("worker-1", f"table inet somebody {{ chain forward {{ {chain} }}; }}")
    wait_for(told, "the chain is told", SECONDS)  # it looks every ten seconds
    cluster.run(
        "worker-1", ["nft", "insert", "rule", "inet", "somebody", "forward", "ct", "status", "dnat", "accept"]
    )
    wait_for(lambda: not told(), "it is no longer told", SECONDS)


@pytest.mark.proves("K6")
def test_what_is_advised_is_told_once_and_is_no_trouble(cluster: Cluster, desired: Desired, daemon: Daemon) -> None:
    """Of connection tracking that drops no segment; set where it is asked for, after the tables have loaded it."""
    setting = "net.netfilter.nf_conntrack_tcp_be_liberal"
    cluster.sysctl("worker-1", {setting: "0"})
    desired.apply(service("web", 10))
    daemon.start()
    wait_for(lambda: [each for each in daemon.status().advice if setting in each], "the advice")
    assert not [problem for problem in daemon.status().problems if setting in problem]
    answer = daemon.cli("status")
    assert answer.returncode == 0, answer.stdout
    assert f"Advice:        {setting} is not 1: " in answer.stdout
    daemon.follow(lambda: desired.apply(service("other", 11)))
    assert len([event for event in daemon.events("advice") if setting in event["advice"]]) == 1
    daemon.stop()
    daemon.start("--set-sysctls")
    wait_for(lambda: cluster.run("worker-1", ["sysctl", "-n", setting]).stdout == "1\n", "the setting")
    wait_for(lambda: not daemon.status().advice, "nothing left to advise")
    cluster.sysctl("worker-1", {setting: "0"})


@pytest.mark.proves("K2")
def test_a_connection_begun_before_its_service_is_made_while_the_daemon_runs(
    cluster: Cluster, desired: Desired, daemon: Daemon
) -> None:
    """The client's own repetitions reach the Service; nobody beyond the node has answered the first one."""
    desired.apply(service("web", 10))
    daemon.start()
    address = "198.51.100.80"  # an externalIP, which no rule of ours stops before it is one
    cluster.run("router", ["ip", "route", "add", "blackhole", address])
    try:
        with cluster.socket("web-2", socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            sock.connect_ex((address, 80))
            listed = ["conntrack", "-L", "-p", "tcp", "-d", address]
            wait_for(lambda: "UNREPLIED" in cluster.run("worker-1", listed).stdout, "the first packet", SECONDS)
            late = service("late", 11, externalIPs=[address])
            desired.apply(late, *slices(cluster, "late", [("web-1", 8080)]))
            assert select.select([], [sock], [], 60)[1], "not connected after many repetitions"
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            sock.settimeout(30)
            assert b'"web-1"' in sock.recv(1 << 16)
    finally:
        cluster.run("router", ["ip", "route", "del", "blackhole", address])


@pytest.mark.proves("X11")
def test_a_fast_path_switched_on_while_running_comes_or_is_refused(
    cluster: Cluster, desired: Desired, daemon: Daemon, tmp_path: Path
) -> None:
    """As the machine's kernel has it; what cannot be leaves all as it was."""
    desired.apply(service("web", 10))
    config = tmp_path / "config.yaml"
    config.write_text("minSyncPeriod: 10ms\n")
    daemon.start("--config", str(config))
    before = daemon.held()
    config.write_text("flowtable: true\n")
    probe = "table ip probe { flowtable f { hook ingress priority 0; }; }"
    if cluster.run("worker-1", ["nft", "--check", probe], check=False).returncode == 0:
        command = ["nft", "list", "flowtable", "ip", "nodeport-nft", "fast-path"]
        wait_for(lambda: "eth0" in cluster.run("worker-1", command, check=False).stdout, "the devices")
        return
    wait_for(lambda: [p for p in daemon.status().problems if "flowtable: this kernel" in p], "a problem")
    assert daemon.held() == before


def test_unknown_fields_of_stored_objects_are_told_once_and_are_no_trouble(
    cluster: Cluster, daemon: Daemon, desired: Desired
) -> None:
    """As --validate=ignore has left them there."""
    assert cluster
    desired.apply(service("web", 10, loadbalancerSourceRanges=["10.0.0.0/8"]))
    daemon.start(seconds=60)
    (event,) = daemon.events("store")
    words = "spec.loadbalancerSourceRanges: unknown field; did you mean loadBalancerSourceRanges?"
    assert event["text"] == f"Service/default/web in {desired.path}: {words}"
    desired.apply(service("api", 11))
    wait_for(lambda: daemon.status().services == 2, "the other Service served", 60)
    assert daemon.events("store") == [event]
    assert daemon.status().problems == ()
