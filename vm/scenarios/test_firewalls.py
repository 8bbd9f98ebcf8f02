"""Scenario 9: firewalld, or a default-drop forward policy of somebody else, on a node."""

from __future__ import annotations

import re

import pytest

from vm.desired import service
from vm.machines import Lab, Machine, eventually
from vm.topology import Worker

HERE = Worker(1)
BOTH = {HERE.pods[0].name, Worker(2).pods[0].name}
DROPPING = (
    "table inet somebody { chain forward { type filter hook forward priority filter; policy drop; "
    "ct state established,related accept; }; }"
)


@pytest.mark.services(service("firewalled", 30080))
@pytest.mark.usefixtures("desired")
def test_a_default_drop_of_somebody_else_is_named(lab: Lab) -> None:
    """`sync` and the daemon name the chain; with the rule that they give, Services answer again."""
    machine = lab.workers[0]
    lab.client.reaches(BOTH, HERE.ipv4, 30080)
    machine.run(f"nft '{DROPPING}'")
    try:
        assert lab.client.names("tcp", HERE.ipv4, 30080) == {"silent"}
        eventually(lambda: "chain inet somebody forward" in problems(machine), "the daemon names the chain")
        said = machine.run("nodeport-nft sync --once 2>&1")
        found = re.search(r"chain inet somebody forward .*let them through: (.*) \(or", said)
        assert found is not None, said
        machine.run(found[1])
        lab.client.reaches(BOTH, HERE.ipv4, 30080)
        eventually(lambda: "somebody" not in problems(machine), "the daemon is content")
    finally:
        machine.run("nft delete table inet somebody")


@pytest.mark.services(service("beside-firewalld", 30081))
@pytest.mark.usefixtures("desired")
def test_firewalld_beside_it(lab: Lab) -> None:
    """firewalld accepts what is translated: Services answer, and no obstacle is named where there is none."""
    machine = lab.workers[0]
    lab.client.reaches(BOTH, HERE.ipv4, 30081)
    machine.run("systemctl unmask --quiet firewalld && systemctl start firewalld", timeout=180)
    try:
        # systemd takes it for started before it has written its rules.
        rules = "nft list chain inet firewalld filter_FORWARD"
        eventually(lambda: "reject" in machine.run(rules, check=False), "firewalld is in force")
        lab.client.reaches(BOTH, HERE.ipv4, 30081)
        lab.client.reaches(BOTH, HERE.ipv6, 30081)
        said = machine.run("nodeport-nft sync --once 2>&1")
        assert "forward hook" not in said
    finally:
        machine.run("systemctl stop firewalld && systemctl mask --quiet firewalld", timeout=180)


def problems(machine: Machine) -> str:
    """What the daemon has to say."""
    return machine.run("curl --silent --max-time 5 127.0.0.1:10249/status", check=False)
