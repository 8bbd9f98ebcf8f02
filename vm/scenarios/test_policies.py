"""Scenario 4: external policies Local and Cluster, and whose address a pod sees."""

from __future__ import annotations

import pytest

from vm.desired import service
from vm.machines import Lab
from vm.topology import CLIENT_ADDRESSES, Worker

HERE, ELSEWHERE = Worker(1), Worker(2)


@pytest.mark.services(
    service("local", 30020, selector={"app": "my-ser", "on": HERE.name}, externalTrafficPolicy="Local")
)
@pytest.mark.usefixtures("desired")
def test_policy_local_keeps_the_source_and_drops_elsewhere(lab: Lab) -> None:
    ways = zip((HERE.ipv4, HERE.ipv6), (ELSEWHERE.ipv4, ELSEWHERE.ipv6), CLIENT_ADDRESSES, strict=True)
    for address, elsewhere, source in ways:
        said = lab.client.ask("tcp", address, 30020, 3)
        assert {each["name"] for each in said} == {HERE.pods[0].name}
        assert {each["source"][0] for each in said} == {source}
        assert lab.client.names("tcp", elsewhere, 30020) == {"silent"}


@pytest.mark.services(service("cluster", 30021))
@pytest.mark.usefixtures("desired")
def test_policy_cluster_masquerades(lab: Lab) -> None:
    everybody = {Worker(number).pods[0].name for number in range(1, len(lab.workers) + 1)}
    for number, machine in enumerate(lab.workers, start=1):
        # Any of the node's addresses: the kernel masquerades as the one that the way to the pod has.
        own = set(machine.run("hostname -I").split())
        for address in (Worker(number).ipv4, Worker(number).ipv6):
            said = lab.client.ask("tcp", address, 30021, 16)
            assert {each["name"] for each in said} == everybody  # 2^-15 by chance, with two pods
            assert {each["source"][0] for each in said} <= own
