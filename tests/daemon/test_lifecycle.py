"""The daemon starts, is told of changes of every kind, and ends (K4, K5, X2, F2)."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import ANSWER_SECONDS, connect, connect_many
from nodeport_nft.model import NodePortMode
from tests.daemon.objects import Changes, Desired, endpoint_slice, node, service, slices
from tests.daemon.running import SECONDS, Daemon, wait_for
from tests.daemon.traffic import CLUSTER_IP, NODE_PORT, traffic
from tests.netns.kernel import generation

STOP_SECONDS = 20.0
"""What an orderly end may take on a slow machine: nothing that is waited for elsewhere, half a minute and more."""


def kinds(cluster: Cluster, host: str, *frontends: tuple[str, int], timeout: float = ANSWER_SECONDS) -> set[Kind]:
    outcomes = [connect_many(cluster, host, frontend, count=4, timeout=timeout) for frontend in frontends]
    return {outcome.kind for each in outcomes for outcome in each}


def reaches(cluster: Cluster, *frontends: tuple[str, int]) -> Callable[[], bool]:
    return lambda: kinds(cluster, "client", *frontends) == {Kind.REACHED}


# --- start and end --------------------------------------------------------------------------------------------


@pytest.mark.proves("K4")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_start_over_its_own_tables_writes_nothing(
    cluster: Cluster,
    daemon: Daemon,
    changes: Changes,  # noqa: ARG001 (the store has a state)
    number: signal.Signals,
) -> None:
    """However the one before it has ended; traffic goes on in between."""
    daemon.start()
    with traffic(cluster) as results:
        if number is signal.SIGKILL:
            daemon.kill()
        else:
            assert daemon.stop(number, STOP_SECONDS) == 0
        before, state = generation(cluster, daemon.node), daemon.held()
        assert state == daemon.wanted()
        daemon.start()
        assert [(event["cause"], event["operations"]) for event in daemon.events("sync")] == [("start", 0)]
        assert generation(cluster, daemon.node) == before
    assert [result.failures for result in results] == [[]] * 4
    assert daemon.held() == state


@pytest.mark.proves("K4")
def test_a_start_writes_the_difference_alone(daemon: Daemon, changes: Changes, desired: Desired) -> None:
    daemon.start()
    assert daemon.stop() == 0
    changes.next("web")
    before = daemon.held()
    differing = len(before.whole ^ daemon.wanted().whole)
    assert differing > 0
    daemon.start()
    daemon.settle()
    (sync,) = daemon.events("sync")
    assert 0 < sync["operations"] < len(before.whole) / 2
    assert daemon.events("table replaced") == []
    desired.delete("Service", "web")
    daemon.settle()


@pytest.mark.proves("K4")
def test_a_table_of_another_schema_is_replaced_without_a_moment_without_rules(
    cluster: Cluster,
    daemon: Daemon,
    changes: Changes,  # noqa: ARG001 (the store has a state)
) -> None:
    daemon.start("--masquerade-bit", "20")
    with traffic(cluster) as results:
        for bit in (21, 14):
            assert daemon.stop() == 0
            daemon.start("--masquerade-bit", str(bit))
            assert len(daemon.events("table replaced")) == 2
            daemon.config = replace(daemon.config, masquerade_bit=bit)
            daemon.settle()
    assert [result.failures for result in results] == [[]] * 4


@pytest.mark.proves("K4")
def test_a_foreign_table_of_our_name_is_replaced(cluster: Cluster, daemon: Daemon, changes: Changes) -> None:  # noqa: ARG001 (the store has a state)
    cluster.nft(
        daemon.node,
        "add table ip nodeport-nft\nadd chain ip nodeport-nft services { type nat hook input priority 0; }",
    )
    daemon.start()
    daemon.settle()
    assert len(daemon.events("table replaced")) == 1
    assert kinds(cluster, "client", *NODE_PORT) == {Kind.REACHED}


@pytest.mark.proves("K4")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_in_a_storm_is_orderly(daemon: Daemon, changes: Changes, number: signal.Signals) -> None:
    daemon.start("--min-sync-period", "0")
    for _ in range(40):
        changes.next()
    daemon.send(number)
    while daemon.lives():  # the storm goes on
        changes.next()
    assert daemon.stop(number, STOP_SECONDS) == 0
    assert [event["rules"] for event in daemon.events("stopped")] == ["stay"]
    assert daemon.held().whole, "the rules stay"
    daemon.start()
    daemon.settle()


@pytest.mark.proves("K5")
def test_cleanup_on_exit_comes_to_its_end_in_a_storm(cluster: Cluster, daemon: Daemon, changes: Changes) -> None:
    daemon.start("--min-sync-period", "0", "--cleanup-on-exit")
    for _ in range(40):
        changes.next()
    daemon.send(signal.SIGTERM)
    deadline = time.monotonic() + SECONDS
    while daemon.lives() and time.monotonic() < deadline:  # the storm goes on
        changes.next()
    assert daemon.stop() == 0
    assert cluster.ruleset(daemon.node) == ""


@pytest.mark.proves("K5")
def test_cleanup_on_exit_removes_the_tables(cluster: Cluster, daemon: Daemon, changes: Changes) -> None:  # noqa: ARG001 (the store has a state)
    cluster.nft(daemon.node, "add table inet other")
    daemon.start("--cleanup-on-exit")
    assert daemon.stop() == 0
    assert cluster.ruleset(daemon.node) == "table inet other {\n}\n"
    assert daemon.desired.snapshot().services, "the store stays"


# --- configuration and the node -------------------------------------------------------------------------------


@pytest.mark.proves("X2", "F2")
@pytest.mark.parametrize("hang_up", [True, False])
def test_a_changed_configuration_takes_effect_and_a_broken_one_does_not(
    cluster: Cluster,
    daemon: Daemon,
    changes: Changes,  # noqa: ARG001 (the store has a state)
    tmp_path: Path,
    hang_up: bool,
) -> None:
    """By SIGHUP; and since the file is watched, without. With SIGHUP it is another file behind a link."""
    directory = tmp_path / "etc"
    directory.mkdir()
    path = directory / "config.yaml"
    target = tmp_path / "elsewhere.yaml" if hang_up else path
    target.write_text("nodePortAddresses: [primary]\n")
    if hang_up:
        path.symlink_to(target)

    def change(text: str) -> None:
        target.write_text(text)
        if hang_up:
            daemon.send(signal.SIGHUP)

    daemon.start("--config", str(path))
    assert kinds(cluster, "client", *NODE_PORT) == {Kind.REACHED}
    change('nodePortAddresses: ["fd00:30:1::/64"]\n')
    daemon.config = replace(
        daemon.config, node_port_mode=NodePortMode.CIDRS, node_port_cidrs=(ip_network("fd00:30:1::/64"),)
    )
    daemon.settle()
    assert connect(cluster, "client", NODE_PORT[0]).kind is Kind.REFUSED
    assert kinds(cluster, "client", NODE_PORT[1]) == {Kind.REACHED}
    before = generation(cluster, daemon.node)
    change("nodePortAddresses: [nowhere]\nmasqueradeBit: 99\n")
    problems = wait_for(lambda: daemon.status().problems, "the broken configuration told")
    assert any("nowhere" in problem for problem in problems)
    bit = "masqueradeBit: 99 is not a bit of the packet mark; choose a number from 0 to 31"
    assert any(f"config.yaml:2: {bit}; the configuration read before stays" in problem for problem in problems)
    assert generation(cluster, daemon.node) == before
    change("nodePortAddresses: [primary]\n")
    daemon.config = replace(daemon.config, node_port_mode=NodePortMode.PRIMARY, node_port_cidrs=())
    daemon.settle()
    wait_for(lambda: daemon.status().problems == (), "the problems gone")
    assert kinds(cluster, "client", *NODE_PORT) == {Kind.REACHED}


@pytest.mark.parametrize("which", ["file", "directory"])
def test_a_configuration_that_others_can_write_is_not_taken_until_they_cannot(
    daemon: Daemon,
    changes: Changes,  # noqa: ARG001 (the store has a state)
    tmp_path: Path,
    which: str,
) -> None:
    path = tmp_path / "etc" / "config.yaml"
    path.parent.mkdir()
    path.write_text("nodePortAddresses: [primary]\n")
    daemon.start("--config", str(path))
    open_to_all = path if which == "file" else path.parent
    open_to_all.chmod(0o777)
    path.write_text("masqueradeBit: 9\n")
    [problem] = wait_for(lambda: daemon.status().problems, "the fault told", 60)
    assert f"others than its owner may write to {open_to_all}; chmod go-w {open_to_all}" in problem
    assert problem.endswith("; the configuration read before stays in force")
    daemon.settle()  # as it was configured before
    open_to_all.chmod(0o755)  # as the message says; nothing else tells the daemon
    daemon.config = replace(daemon.config, masquerade_bit=9)
    wait_for(lambda: daemon.status().problems == (), "the problem gone", 60)
    daemon.settle()


@pytest.mark.proves("F2", "X2")
def test_the_addresses_of_the_node_are_followed(cluster: Cluster, daemon: Daemon, changes: Changes) -> None:  # noqa: ARG001 (the store has a state)
    """As they come and go inside the CIDRs of --nodeport-addresses; under traffic on another address.

    The kernel ends what it masquerades with an address that goes, and masquerades with the youngest of IPv6: one that
    is to come and go is added as deprecated, as keepalived does, and masquerades nothing.
    """
    cidrs = ("172.30.1.0/24", "fd00:30:1::/64")
    daemon.config = replace(
        daemon.config, node_port_mode=NodePortMode.CIDRS, node_port_cidrs=tuple(map(ip_network, cidrs))
    )
    daemon.start("--nodeport-addresses", ",".join(cidrs))
    more = (("172.30.1.77", 30010), ("fd00:30:1::77", 30010))
    with traffic(cluster) as results:
        for _ in range(2):
            for address, options in (("172.30.1.77/24", ()), ("fd00:30:1::77/64", ("nodad", "preferred_lft", "0"))):
                cluster.run(daemon.node, ["ip", "address", "add", address, "dev", "eth0", *options])
            wait_for(reaches(cluster, *more), "the new addresses served")
            daemon.settle()
            for address in ("172.30.1.77/24", "fd00:30:1::77/64"):
                cluster.run(daemon.node, ["ip", "address", "del", address, "dev", "eth0"])
            daemon.settle()
            assert Kind.REACHED not in kinds(cluster, "client", *more, timeout=1.0)
    assert [result.failures for result in results] == [[]] * 4


@pytest.mark.proves("X2")
def test_the_zone_of_the_node_takes_effect(cluster: Cluster, daemon: Daemon, desired: Desired) -> None:
    endpoints = [
        {
            "addresses": [str(cluster.address(pod))],
            "nodeName": cluster.host(pod).node,
            "hints": {"forZones": [{"name": zone}]},
        }
        for pod, zone in (("web-2", "a"), ("web-3", "b"))
    ]
    desired.apply(
        service("web", 10, trafficDistribution="PreferClose"),
        endpoint_slice("web", "web-4", 4, 8080, endpoints),
        node("worker-1", **{"topology.kubernetes.io/zone": "a"}),
    )
    daemon.start()

    def served() -> set[str]:
        return {outcome.name for outcome in connect_many(cluster, "web-1", CLUSTER_IP[0], count=30)}

    assert served() == {"web-2"}
    desired.apply(node("worker-1", **{"topology.kubernetes.io/zone": "b"}))
    daemon.settle()
    assert served() == {"web-3"}
    desired.apply(node("worker-1"))
    daemon.settle()
    assert served() == {"web-2", "web-3"}


@pytest.mark.proves("X2")
def test_the_pod_cidrs_of_the_node_take_effect(cluster: Cluster, daemon: Daemon, desired: Desired) -> None:
    """With detectLocalMode NodeCIDR: who is in them is a pod, and is not masqueraded."""
    endpoints = [{"addresses": [str(cluster.address("web-3"))], "nodeName": "worker-2"}]
    desired.apply(service("web", 10), endpoint_slice("web", "web-4", 4, 8080, endpoints))

    def let_be(cidr: str) -> None:
        desired.apply({**node("worker-1"), "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})

    let_be("10.244.1.0/24")
    config = daemon.directory / "config.yaml"
    config.write_text("detectLocalMode: NodeCIDR\n")
    daemon.start("--config", str(config))

    def is_masqueraded() -> bool:
        outcome = connect(cluster, "web-1", CLUSTER_IP[0])
        assert outcome.kind is Kind.REACHED
        return outcome.source != cluster.address("web-1")

    assert not is_masqueraded()
    let_be("10.244.99.0/24")
    wait_for(is_masqueraded, "the pod counted as outside")
    let_be("10.244.1.0/24")
    wait_for(lambda: not is_masqueraded(), "the pod counted as a pod")
    assert daemon.status().error == ""


# --- sources --------------------------------------------------------------------------------------------------


def written(path: Path, *documents: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump_all(documents))


@pytest.mark.proves("X2")
def test_manifests_are_followed_and_a_wrong_one_changes_nothing(
    cluster: Cluster, daemon: Daemon, tmp_path: Path
) -> None:
    directory = tmp_path / "manifests"
    directory.mkdir()
    web = slices(cluster, "web", [("web-3", 8080)])
    written(directory / "web.yaml", service("web", 10), *web)
    daemon.start("-f", str(directory))
    assert kinds(cluster, "client", *NODE_PORT) == {Kind.REACHED}
    written(directory / "two.yaml", service("two", 11), *slices(cluster, "two", [("tester", 8080)]))
    two = (("172.30.1.2", 30011), ("fd00:30:1::2", 30011))
    wait_for(reaches(cluster, *two), "what a new file says")
    daemon.settle()
    before = generation(cluster, daemon.node)
    (directory / "web.yaml").write_text("kind: Service\nspec: {ports: [{port: 0}]}\n")
    wait_for(lambda: daemon.status().problems, "the wrong file told")
    told = daemon.cli("status")
    assert "web.yaml" in told.stdout
    assert generation(cluster, daemon.node) == before
    assert kinds(cluster, "client", *NODE_PORT, *two) == {Kind.REACHED}
    # Another file is followed meanwhile.
    ports = [{"port": 80, "targetPort": 8080, "nodePort": 30012}]
    written(directory / "two.yaml", service("two", 11, ports=ports), *slices(cluster, "two", [("tester", 8080)]))
    wait_for(reaches(cluster, ("172.30.1.2", 30012)), "the good file's change")
    written(directory / "web.yaml", service("web", 10))
    wait_for(lambda: connect(cluster, "client", NODE_PORT[0]).kind is Kind.REFUSED, "no endpoints any more")
    wait_for(lambda: daemon.status().problems == (), "the problem gone")
    daemon.settle()
    assert daemon.cli("status").returncode == 0


@pytest.mark.proves("X2")
def test_what_other_processes_apply_and_delete_takes_effect(
    cluster: Cluster, daemon: Daemon, changes: Changes, desired: Desired, tmp_path: Path
) -> None:
    changes.next()
    daemon.start()
    manifest = tmp_path / "more.yaml"
    written(manifest, service("more", 11), *slices(cluster, "more", [("web-3", 8080)]))
    done = daemon.cli("apply", "-f", str(manifest), "--store", str(desired.path))
    assert done.returncode == 0, done.stderr
    daemon.settle()
    assert kinds(cluster, "client", ("172.30.1.2", 30011), ("fd00:30:1::2", 30011)) == {Kind.REACHED}
    done = daemon.cli("delete", "service", "more", "--store", str(desired.path))
    assert done.returncode == 0, done.stderr
    daemon.settle()
    assert connect(cluster, "client", ("172.30.1.2", 30011)).kind is Kind.REFUSED


@pytest.mark.proves("X2")
def test_a_configuration_that_kubelet_keeps_is_read_again_when_it_exchanges_it(
    daemon: Daemon,
    changes: Changes,  # noqa: ARG001 (the store has a state)
    tmp_path: Path,
) -> None:
    """A projected ConfigMap: the file is a link that stays, and a link to a directory is exchanged (AtomicWriter)."""
    volume = tmp_path / "etc"
    volume.mkdir()
    volume.chmod(0o1777)  # as a tmpfs that kubelet mounts

    def exchange(number: int, text: str) -> None:
        directory = volume / f"..2026_01_01_00_00_{number:02}"
        directory.mkdir(mode=0o755)
        (directory / "config.yaml").write_text(text)
        (volume / "..data_tmp").symlink_to(directory.name)
        (volume / "..data_tmp").rename(volume / "..data")

    exchange(1, "nodePortAddresses: [primary]\n")
    (volume / "config.yaml").symlink_to("..data/config.yaml")
    daemon.start("--config", str(volume / "config.yaml"))
    exchange(2, "nodePortAddresses: [nowhere]\n")
    wait_for(lambda: any("nowhere" in each for each in daemon.status().problems), "the new configuration read")
    exchange(3, "nodePortAddresses: [primary]\n")
    wait_for(lambda: daemon.status().problems == (), "the one after it read")
