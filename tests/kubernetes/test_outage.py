"""A node whose API server goes away and comes back: what is programmed stays, and what changed meanwhile arrives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from tests.daemon.lengths import LENGTHS
from tests.daemon.running import wait_for
from tests.daemon.traffic import traffic
from tests.kubernetes.nodes import NODE, SECONDS, Node, node

pytestmark = pytest.mark.proves("W1")


@pytest.fixture
def one(cluster: Cluster, tmp_path: Path) -> Iterator[Node]:
    with node(cluster, tmp_path) as made:
        yield made


def told_of_the_store(one: Node) -> list[str]:
    """What the daemon has said of the store, problems and their ends."""
    return [str(event) for event in one.events() if event.get("where") == "store"]


@pytest.mark.parametrize("lost", ["nothing", "history"])
def test_an_outage_fails_no_connection_and_what_changed_meanwhile_arrives(one: Node, lost: str) -> None:
    """With ``history`` the server forgets meanwhile what has happened, so that everything is listed once more."""
    one.publish("goes", 30011)
    one.start()
    one.until_served(30010)
    one.until_served(30011)
    with traffic(one.cluster) as results:
        one.server.stop()
        time.sleep(LENGTHS.outage_seconds)
        served = "what was read last is served"
        wait_for(lambda: served in "".join(told_of_the_store(one)), "that it is told", SECONDS)
        one.publish("comes", 30012)
        one.server.delete("Service", "default", "goes")
        if lost == "history":
            one.server.compact()
        assert not one.answers(30012)
        one.server.start()
        begun = time.monotonic()
        one.until_served(30012)
        print(f"in the kernel {time.monotonic() - begun:.2f} s after the server's return")
        one.until_served(30011, served=False)
    assert [result.failures for result in results] == [[]] * 4
    assert all(result.done > 50 for result in results)


def test_a_rolling_restart_of_servers_behind_one_address_fails_no_connection(
    cluster: Cluster, tmp_path: Path
) -> None:
    with node(cluster, tmp_path, replicas=3) as one:
        one.start()
        one.until_served(30010)
        with traffic(cluster) as results:
            for replica in range(3):
                one.server.stop(replica)
                time.sleep(LENGTHS.outage_seconds / 3)
                one.publish(f"comes-{replica}", 30020 + replica)
                one.until_served(30020 + replica)  # by those that are left
                one.server.start(replica)
        assert [result.failures for result in results] == [[]] * 4


def test_a_daemon_that_begins_again_without_its_server_waits_and_writes_nothing(one: Node) -> None:
    one.start()
    one.until_served(30010)
    one.stop()
    one.server.stop()
    one.spawn()
    one.until_told("waiting for the store")
    wait_for(lambda: "tables stay as they are" in "".join(told_of_the_store(one)), "the problem is told", SECONDS)
    assert one.answers(30010)
    one.server.start()
    one.until_told("sync")
    assert one.events("sync")[0]["operations"] == 0
    assert one.answers(30010)


def test_the_node_is_refitted_when_its_object_and_the_service_cidrs_change(one: Node, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("detectLocalMode: NodeCIDR\n")
    one.start("--config", str(config))
    wait_for(lambda: "10.96.0.0/16" in one.held("service-cidrs"), "the server's network", SECONDS)
    assert "10.244.1.0/24" not in one.held("pod-cidrs")
    one.server.patch("Node", "", NODE, {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}})
    wait_for(lambda: "10.244.1.0/24" in one.held("pod-cidrs"), "the node's pods", SECONDS)
    one.server.create(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": "more"},
            "spec": {"cidrs": ["10.200.0.0/24"]},
        }
    )
    wait_for(lambda: "10.200.0.0/24" in one.held("service-cidrs"), "the new network", SECONDS)
    assert "10.96.0.0/16" in one.held("service-cidrs")
    one.server.delete("ServiceCIDR", "", "more")
    wait_for(lambda: "10.200.0.0/24" not in one.held("service-cidrs"), "its end", SECONDS)


def test_one_sync_programs_what_a_daemon_would(one: Node) -> None:
    one.cluster.run(NODE, one.words("--cluster-cidr", "10.244.0.0/16", "--once"), timeout=SECONDS)
    assert one.answers(30010)
    assert "10.96.0.0/16" in one.held("service-cidrs")
    one.start("--cluster-cidr", "10.244.0.0/16")
    assert one.events("sync")[0]["operations"] == 0
