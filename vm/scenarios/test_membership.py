"""Scenario 3: a node joins, a node leaves, a node boots again; traffic to the others never fails."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from vm.desired import Desired, service
from vm.machines import Lab, Machine, eventually, traffic
from vm.topology import Worker, objects_of

JOINED = service("joined", 30040)
STEADY = service("steady", 30041)


@pytest.mark.newcomer
@pytest.mark.services(JOINED)
def test_a_worker_joins_and_leaves(lab: Lab, desired: Desired) -> None:
    """The new one serves all nodePorts and is served; when its pods have left first, nobody notices that it goes."""
    present = [Worker(number) for number in range(1, len(lab.workers) + 1)]
    newcomer = Worker(len(present) + 1)
    pods = [each for each in objects_of(newcomer) if each["kind"] != "Node"]
    [node] = [each for each in objects_of(newcomer) if each["kind"] == "Node"]
    old_pods, new_pod = {worker.pods[0].name for worker in present}, newcomer.pods[0]
    doors = [(address, 30040) for worker in present for address in (worker.ipv4, worker.ipv6)]
    with traffic(lab.client, ("connect", doors)) as results:
        machine = lab.join(newcomer)
        try:
            desired.apply_unawaited(*objects_of(newcomer))
            desired.served(JOINED)
            for worker in (newcomer, present[0]):
                lab.client.reaches(old_pods | {new_pod.name}, worker.ipv4, 30040, count=20)
            desired.remove(*pods)
            without(new_pod.ipv4, lab.workers[: len(present)])
        finally:
            lab.leave(machine)
        desired.remove_node(node)
        for worker in present:
            lab.client.reaches(old_pods, worker.ipv4, 30040)
    (all_the_while,) = results
    assert not all_the_while["failures"]
    assert new_pod.name in all_the_while["names"]


@pytest.mark.services(STEADY)
def test_a_worker_boots_again(lab: Lab, desired: Desired) -> None:
    """Its rules are in force when the boot target is reached; nobody has to do anything."""
    stays, boots = Worker(1), Worker(2)
    machine = lab.workers[1]
    its_pod = boots.pods[0]
    desired.delete(*(each for each in objects_of(boots) if each["metadata"]["name"] == its_pod.name))
    without(its_pod.ipv4, lab.workers)
    before = boot_id(machine)
    with traffic(lab.client, ("connect", [(stays.ipv4, 30041), (stays.ipv6, 30041)])) as results:
        machine.run("systemctl reboot", check=False)
        machine.forget_connection()
        eventually(lambda: boot_id(machine) != before, f"{machine.name} boots", seconds=900)  # as Vagrant waits
        lab.client.reaches({stays.pods[0].name}, boots.ipv4, 30041, count=3)
    (all_the_while,) = results
    assert not all_the_while["failures"]

    # The witness ran right behind the target: what it saw was in force then.
    current = boot_id(machine)
    witness = "cat /var/lib/lab-witness"
    eventually(lambda: machine.run(witness).startswith(current), f"{machine.name}: the witness of this boot")
    witnessed = machine.run(witness)
    assert "table ip nodeport-nft" in witnessed
    assert "table ip6 nodeport-nft" in witnessed
    assert "tcp . 30041 counter" in witnessed
    assert 0 < moment(machine, "nodeport-nft.service") <= moment(machine, "multi-user.target")


def without(address: str, workers: Iterable[Machine]) -> None:
    """Wait until this endpoint has left the tables of all these."""
    for worker in workers:
        listing = "nft list map ip nodeport-nft node-port-endpoints"
        eventually(
            lambda worker=worker, listing=listing: address not in worker.run(listing),  # type: ignore[misc]
            f"{worker.name}: {address} has left",
        )


def boot_id(machine: Machine) -> str:
    """Which boot this is."""
    return machine.run("cat /proc/sys/kernel/random/boot_id", timeout=30)


def moment(machine: Machine, unit: str) -> int:
    """When the unit became active, in microseconds since the boot."""
    return int(machine.run(f"systemctl show --value -p ActiveEnterTimestampMonotonic {unit}"))
