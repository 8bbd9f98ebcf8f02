"""Scenario 8: a new release takes over what the previous one has programmed, under traffic."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from vm.desired import Desired, service
from vm.machines import Lab, Machine, traffic
from vm.scenarios.test_trouble import last_start
from vm.topology import Worker

BOTH = {Worker(1).pods[0].name, Worker(2).pods[0].name}


@pytest.mark.services(service("upgraded", 30060))
def test_an_upgrade_under_traffic(lab: Lab, desired: Desired) -> None:
    """The previous release is what `vm/carry --previous` has made: until there is one, the commit before."""
    carried = Path(os.environ.get("LAB_PREVIOUS", "build/previous.tar.gz"))
    assert carried.is_file(), f"{carried} is missing; make it in a full clone: vm/carry --previous {carried}"
    machine, worker = lab.workers[0], Worker(1)
    doors = [(worker.ipv4, 30060), (worker.ipv6, 30060)]
    machine.put(carried, "/tmp/previous.tar.gz")
    machine.run("mkdir -p /opt/previous && tar -xzf /tmp/previous.tar.gz -C /opt/previous ./site-packages")
    with ExitStack() as stack:
        stack.callback(install, machine, "/opt/lab")
        install(machine, "/opt/previous")
        # As if it had always been here: it makes the tables itself.
        machine.run("systemctl stop nodeport-nft && nodeport-nft cleanup && systemctl start nodeport-nft")
        made = schema(machine)
        lab.client.reaches(BOTH, worker.ipv4, 30060)
        with traffic(lab.client, ("connect", doors), ("stream", doors)) as results:
            stack.close()
            machine.run("systemctl restart nodeport-nft")
        for each in results:
            assert not each["failures"]
    # A table of the same schema is taken over as it is, another one replaced.
    assert (" operations=0 " in last_start(machine)) == (schema(machine) == made)
    desired.apply(service("after-the-upgrade", 30061))
    assert lab.client.names("tcp", worker.ipv4, 30061) <= BOTH


def install(machine: Machine, carried: str) -> None:
    """Put the program of a release in place; the daemon that runs goes on with what it has loaded."""
    machine.run(f"/opt/lab/install {carried}")


def schema(machine: Machine) -> str:
    """The comment of the table, which has its schema."""
    head = machine.run("nft -t list table ip nodeport-nft")
    return next(line.strip() for line in head.splitlines() if line.strip().startswith("comment "))
