"""Addresses that are claimed from outside, and sources that may connect, as they change under a running daemon."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.outcome import Kind
from lab.probe import connect
from tests.daemon.objects import Desired, endpoint_slice, service
from tests.daemon.running import Daemon, wait_for
from tests.netns.test_conntrack import Client

PATIENCE = 60.0
"""How long anything is waited for, on a slow machine."""


def backed(cluster: Cluster, name: str, pod: str, port: int = 8080) -> dict[str, Any]:
    """A slice of this Service with one pod, IPv4."""
    endpoints = [{"addresses": [str(cluster.address(pod))], "nodeName": cluster.host(pod).node}]
    return endpoint_slice(name, f"{name}-4", 4, port, endpoints)


def answers(cluster: Cluster, address: str, port: int = 80) -> str:
    """Who answers a pod of the node there; "" if nobody does."""
    outcome = connect(cluster, "web-2", (ip_address(address), port))
    return outcome.name if outcome.kind is Kind.REACHED else ""


@pytest.mark.proves("F3", "X2")
def test_which_addresses_may_be_claimed_follows_the_configuration(
    cluster: Cluster, daemon: Daemon, desired: Desired, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("{}\n")
    desired.apply(service("web", 10, externalIPs=["192.0.2.10", "172.30.1.2"]), backed(cluster, "web", "web-1"))
    daemon.start("--config", str(config), seconds=PATIENCE)

    def refused() -> int:
        return sum("spec.externalIPs" in problem for problem in daemon.status().problems)

    addresses = ("192.0.2.10", "172.30.1.2")
    for text, allowed in (
        ("{}", set(addresses)),
        ("externalIPs: deny", set()),
        ("externalIPs: [192.0.2.0/24]", {"192.0.2.10"}),
        ("externalIPs: any", set(addresses)),
    ):
        config.write_text(f"{text}\n")
        left_out = len(addresses) - len(allowed)
        wait_for(lambda left_out=left_out: refused() == left_out, f"{text}: the problems", PATIENCE)  # type: ignore[misc]
        assert {address for address in addresses if answers(cluster, address)} == allowed, text
        assert answers(cluster, "10.96.0.10") == "web-1"


@pytest.mark.proves("F10", "X1")
def test_a_cluster_ip_is_its_services_for_as_long_as_that_is_there(
    cluster: Cluster, daemon: Daemon, desired: Desired
) -> None:
    desired.apply(service("victim", 10), backed(cluster, "victim", "web-1"))
    daemon.start(seconds=PATIENCE)
    desired.apply(service("a-thief", 11, externalIPs=["10.96.0.10"]), backed(cluster, "a-thief", "web-3"))
    wait_for(lambda: answers(cluster, "10.96.0.11") == "web-3", "the other Service served", PATIENCE)
    assert answers(cluster, "10.96.0.10") == "web-1"
    problem = "10.96.0.10 is the clusterIP of Service/default/victim, which keeps it"
    wait_for(lambda: any(problem in each for each in daemon.status().problems), "the problem told", PATIENCE)
    desired.delete("Service", "victim")
    wait_for(lambda: answers(cluster, "10.96.0.10") == "web-3", "what nobody holds is claimed", PATIENCE)
    wait_for(lambda: daemon.status().problems == (), "the problem gone", PATIENCE)


@pytest.mark.proves("K2", "X1", "X5")
def test_narrowed_source_ranges_end_udp_flows_that_are_under_way(
    cluster: Cluster, daemon: Daemon, desired: Desired
) -> None:
    def dns(ranges: str) -> dict[str, Any]:
        made = service("dns", 53, ports=[{"port": 53, "targetPort": 8080, "nodePort": 30053, "protocol": "UDP"}])
        made["metadata"]["annotations"] = {"nodeport-nft/node-port-source-ranges": ranges} if ranges else {}
        return made

    piece = backed(cluster, "dns", "web-1")
    piece["ports"][0]["protocol"] = "UDP"
    desired.apply(dns(""), piece)
    daemon.start(seconds=PATIENCE)
    own = f"{cluster.address('client')}/32"
    with Client(cluster, "client", "172.30.1.2", 30053) as client:
        assert client.ask() == "web-1"
        desired.apply(dns(f"198.51.100.0/24,{own}"))
        wait_for(lambda: len(daemon.events("sync")) >= 2, "a sync that lets it go on", PATIENCE)
        assert client.ask() == "web-1"
        desired.apply(dns("198.51.100.0/24"))
        wait_for(lambda: client.ask(0.5) == "nothing", "the flow ended", PATIENCE)
        desired.apply(dns(own))
        wait_for(lambda: client.ask(0.5) == "web-1", "it may connect again", PATIENCE)
