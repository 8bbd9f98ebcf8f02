"""Scenario 6: the daemon is killed, the network between nodes is cut, a clock jumps.

Traffic that can flow flows all the while, and changes arrive afterwards.
"""

from __future__ import annotations

import pytest

from vm.desired import Desired, service
from vm.machines import Lab, Machine, eventually, traffic, unplugged
from vm.topology import Worker

HERE, ELSEWHERE = Worker(1), Worker(2)
BOTH = {HERE.pods[0].name, ELSEWHERE.pods[0].name}
ON_HERE = {"app": "my-ser", "on": HERE.name}


@pytest.mark.services(service("killed", 30050))
def test_the_daemon_is_killed(lab: Lab, desired: Desired) -> None:
    """Rules stay, connections go on; systemd starts it again, and it takes its tables over as they are."""
    machine = lab.workers[0]
    doors = [(HERE.ipv4, 30050), (HERE.ipv6, 30050)]
    with traffic(lab.client, ("connect", doors), ("stream", doors)) as results:
        killed = main_pid(machine)
        machine.run(f"kill -KILL {killed}")
        eventually(
            lambda: main_pid(machine) not in ("0", killed) and is_healthy(machine), "a new daemon", seconds=240
        )
        assert " operations=0 " in last_start(machine)
        desired.apply(service("after-the-kill", 30051))
        assert lab.client.names("tcp", HERE.ipv4, 30051) <= BOTH
    for each in results:
        assert not each["failures"]


@pytest.mark.services(service("own-pods", 30052, selector=ON_HERE), service("all-pods", 30053))
def test_the_network_between_the_nodes_is_cut_and_heals(lab: Lab, desired: Desired) -> None:
    """A worker without its cable: the other one serves what its own pods can; what changes meanwhile arrives."""
    late = service("changed-meanwhile", 30054)
    doors = [(HERE.ipv4, 30052), (HERE.ipv6, 30052)]
    nobody = {"silent", "unreachable"}
    with traffic(lab.client, ("connect", doors), ("stream", doors)) as results:
        with unplugged(lab.workers[1]):
            eventually(lambda: lab.client.names("tcp", ELSEWHERE.ipv4, 30053) <= nobody, "the cut")
            # Who draws the pod that was cut off hears nothing; the others are served.
            answers = lab.client.names("tcp", HERE.ipv4, 30053, 8)
            assert HERE.pods[0].name in answers
            assert answers <= {HERE.pods[0].name, *nobody}
            desired.apply_unawaited(late)
            eventually(
                lambda: HERE.pods[0].name in lab.client.names("tcp", HERE.ipv4, 30054, 8), "the change, here at once"
            )
        desired.served(late)
        for worker in (HERE, ELSEWHERE):
            lab.client.reaches(BOTH, worker.ipv4, 30054)
    for each in results:
        assert not each["failures"]


@pytest.mark.services(service("clock", 30055, sessionAffinity="ClientIP"))
def test_a_clock_jumps(lab: Lab, desired: Desired) -> None:
    """Two days ahead, and back: the daemon stays healthy, writes what changes, and no connection fails."""
    machine = lab.workers[0]
    pid = main_pid(machine)
    (keeps,) = lab.client.names("tcp", HERE.ipv4, 30055, 4)
    doors = [(HERE.ipv4, 30055), (HERE.ipv6, 30055)]
    with traffic(lab.client, ("connect", doors), ("stream", doors)) as results:
        machine.run("date --set '+2 days'")
        assert is_healthy(machine)
        desired.apply(service("after-the-jump", 30056))
        assert lab.client.names("tcp", HERE.ipv4, 30056) <= BOTH
        assert is_healthy(machine)
        machine.run("date --set '-2 days'")
        assert is_healthy(machine)
        assert lab.client.names("tcp", HERE.ipv4, 30055, 4) == {keeps}
    assert main_pid(machine) == pid  # no watchdog has fired
    for each in results:
        assert not each["failures"]


def main_pid(machine: Machine) -> str:
    """The daemon's process."""
    return machine.run("systemctl show --value -p MainPID nodeport-nft").strip()


def is_healthy(machine: Machine) -> bool:
    """Whether the daemon says so."""
    probe = "curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' 127.0.0.1:10256/healthz"
    return machine.run(probe, check=False) == "200"


def last_start(machine: Machine) -> str:
    """What the daemon logged of its first sync since it last started."""
    journal = machine.run("journalctl --unit nodeport-nft --boot --no-pager --output cat")
    return next(line for line in reversed(journal.splitlines()) if "event=sync cause=start" in line)
